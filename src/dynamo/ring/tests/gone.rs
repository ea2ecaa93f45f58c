//! Changes while members are gone: who gets nothing by them, and what moves may begin anew.

use proptest::prelude::*;

use super::*;

fn after(ring: &Ring, changes: &[MemberChange]) -> Ring {
    plan(Some(ring), &Change::Commit(changes.to_vec())).unwrap()
}

fn n(i: usize) -> NodeId {
    id(&format!("n{i}"))
}

fn five() -> Ring {
    found(3, (0..5).map(|i| member(i, 0, 1)).collect())
}

fn down(ring: &Ring, node: usize) -> Ring {
    let steer = Change::Steer {
        node: n(node),
        down: true,
    };
    plan(Some(ring), &steer).unwrap()
}

#[test]
fn who_is_down_or_spared_gets_nothing_while_others_can_take_it() {
    let leave = MemberChange::Leave(n(2));
    let rings = [
        after(&five(), &[leave.clone(), MemberChange::Spare(n(4))]),
        after(&down(&five(), 4), std::slice::from_ref(&leave)),
    ];
    for moving in rings {
        assert_eq!(moving.gains(&n(4)).count(), 0);
        let others: Vec<NodeId> = moving.gainers().into_iter().cloned().collect();
        assert_eq!(others, [n(0), n(1), n(3)]);
        let done = retire(&moving);
        assert!(done.placements.iter().all(|row| row.owners.len() == 3));
        let held = loads(&five(), None)[4];
        assert_eq!(loads(&done, None)[3], held, "it keeps what it has");
    }
    let unspared = after(&five(), &[leave]);
    assert!(unspared.gains(&n(4)).count() > 0);
    let replaced = MemberChange::Replace {
        old: n(2),
        new: member(8, 0, 1),
    };
    let moving = after(&down(&five(), 4), &[replaced]);
    assert_eq!(moving.gainers(), BTreeSet::from([&n(8)]));
}

#[test]
fn where_the_others_are_too_few_who_is_spared_gets_its_part() {
    let four = found(3, (0..4).map(|i| member(i, 0, 1)).collect());
    let changes = [MemberChange::Leave(n(2)), MemberChange::Spare(n(3))];
    let moving = after(&four, &changes);
    assert!(moving.gains(&n(3)).count() > 0);
    check(&retire(&moving)).unwrap();
    let only = plan(
        Some(&four),
        &Change::Commit(vec![MemberChange::Spare(n(3))]),
    );
    assert_eq!(only, Err(PlanError::NothingToChange));
}

#[test]
fn a_move_begins_anew_without_the_receiver_that_has_died() {
    let ring = five();
    let moving = after(&ring, &[MemberChange::Leave(n(2))]);
    let dead = n(4);
    assert!(moving.gains(&dead).count() > 0);
    let again = after(&moving, &[MemberChange::Forget(dead.clone())]);
    assert_eq!(again.move_epoch(), moving.epoch + 1, "all pull anew");
    assert!(again.member(&dead).is_none() && again.is_leaving(&n(2)));
    assert!(!again.placements.iter().any(|row| row.involves(&dead)));
    for (was, row) in ring.placements.iter().zip(&again.placements) {
        let left: Vec<&NodeId> = was.owners.iter().filter(|id| **id != dead).collect();
        assert_eq!(row.owners.iter().collect::<Vec<_>>(), left);
    }
    assert_eq!(
        plan(Some(&again), &Change::Cancel),
        Err(PlanError::CannotCancel)
    );
    let done = retire(&again);
    check(&done).unwrap();
    assert_eq!(done.members.len(), 3);
    let how = |i: usize| done.departed(&n(i), i as u64).map(|gone| gone.how);
    assert_eq!(
        (how(2), how(4)),
        (Some(Departure::Left), Some(Departure::Forgotten))
    );
}

#[test]
fn a_joiner_that_died_is_forgotten_or_replaced_and_nothing_else_moves() {
    let ring = five();
    let moving = after(&ring, &[MemberChange::Join(member(7, 0, 1))]);
    let back = after(&moving, &[MemberChange::Forget(n(7))]);
    assert!(!back.is_moving(), "the owners before are the owners");
    assert_eq!(
        (&back.placements, &back.members),
        (&ring.placements, &ring.members)
    );
    let new = member(8, 0, 1);
    let replaced = after(&moving, &[MemberChange::Replace { old: n(7), new }]);
    assert_eq!(replaced.gainers(), BTreeSet::from([&n(8)]));
    assert_eq!(replaced.gains(&n(8)).count(), moving.gains(&n(7)).count());
    let cancelled = plan(Some(&replaced), &Change::Cancel).unwrap();
    assert_eq!(
        (&cancelled.placements, &cancelled.members),
        (&ring.placements, &ring.members)
    );
    let done = retire(&replaced);
    check(&done).unwrap();
    assert!(done.member(&n(7)).is_none() && done.departed(&n(7), 7).is_some());
}

#[test]
fn a_leaver_that_died_is_forgotten_in_the_middle() {
    let moving = after(&five(), &[MemberChange::Leave(n(2))]);
    let again = after(&moving, &[MemberChange::Forget(n(2))]);
    assert!(again.member(&n(2)).is_none() && again.is_moving());
    let aims = |ring: &Ring| -> Vec<BTreeSet<NodeId>> {
        let rows = final_rows(ring).into_iter();
        rows.map(|row| row.iter().cloned().collect()).collect()
    };
    assert_eq!(aims(&moving), aims(&again), "nobody else gets anything");
    assert_eq!(
        retire(&again).departed(&n(2), 2).unwrap().how,
        Departure::Forgotten
    );
}

#[test]
fn only_what_takes_out_members_may_interrupt_a_move() {
    let moving = after(&five(), &[MemberChange::Leave(n(2))]);
    let weight = MemberChange::Weight {
        node: n(0),
        weight: 3,
    };
    let both = vec![weight.clone(), MemberChange::Forget(n(4))];
    for changes in [
        both,
        vec![weight.clone()],
        vec![MemberChange::Join(member(9, 0, 1))],
    ] {
        let refused = plan(Some(&moving), &Change::Commit(changes));
        assert_eq!(refused, Err(PlanError::StillMoving));
    }
    let stage =
        |ring: &Ring, change: MemberChange| plan(Some(ring), &Change::Stage(change)).unwrap();
    let staged = stage(&stage(&moving, weight.clone()), MemberChange::Forget(n(4)));
    assert_eq!(staged.committable(), [MemberChange::Forget(n(4))]);
    let again = after(&staged, &staged.committable());
    assert_eq!(again.affairs.staged, [weight], "the rest stays staged");
    assert_eq!(retire(&again).committable(), retire(&again).affairs.staged);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whoever dies in whatever change, the move begins anew without it, is whole, and never leaves
    /// a partition without those of its owners that are there.
    #[test]
    fn a_death_in_any_move_leaves_a_move_that_can_end(
        members in 2_usize..=9,
        zones in 1_usize..=3,
        replicas in 1_usize..=4,
        leaver in any::<prop::sample::Index>(),
        dead in any::<prop::sample::Index>(),
        joins in any::<bool>(),
    ) {
        let all: Vec<Member> = (0..members).map(|i| member(i, i % zones, 1)).collect();
        let ring = found(replicas, all);
        let change = if joins {
            MemberChange::Join(member(50, 0, 2))
        } else {
            MemberChange::Leave(n(leaver.index(members)))
        };
        let moving = after(&ring, &[change]);
        let names: Vec<NodeId> = moving.members.iter().map(|m| m.id.clone()).collect();
        let dead = names[dead.index(names.len())].clone();
        let forget = vec![MemberChange::Forget(dead.clone())];
        let Ok(again) = plan(Some(&moving), &Change::Commit(forget)) else {
            prop_assert!(moving.voters().count() == 1 || !moving.is_moving());
            return Ok(());
        };
        prop_assert!(!again.placements.iter().any(|row| row.involves(&dead)));
        for (was, row) in moving.placements.iter().zip(&again.placements) {
            let left: Vec<&NodeId> = was.owners.iter().filter(|id| **id != dead).collect();
            let same = row.owners.iter().collect::<BTreeSet<_>>() == left.iter().copied().collect();
            prop_assert!(left.is_empty() || same, "{was:?} became {row:?}");
        }
        let done = if again.is_moving() { retire(&again) } else { again };
        check(&done)?;
        prop_assert!(done.affairs.under_way.is_none());
    }

    /// Sparing keeps every other law: whole rows, distinct zones where there are enough.
    #[test]
    fn sparing_gives_nothing_to_the_spared_or_spares_nobody(
        members in 2_usize..=9,
        zones in 1_usize..=3,
        replicas in 1_usize..=4,
        leaver in any::<prop::sample::Index>(),
        spared in any::<prop::sample::Index>(),
    ) {
        let all: Vec<Member> = (0..members).map(|i| member(i, i % zones, 1)).collect();
        let ring = found(replicas, all);
        let (leaver, spared) = (n(leaver.index(members)), n(spared.index(members)));
        let leave = MemberChange::Leave(leaver);
        let plain = after(&ring, std::slice::from_ref(&leave));
        let sparing = after(&ring, &[leave, MemberChange::Spare(spared.clone())]);
        let done = |ring: &Ring| if ring.is_moving() { retire(ring) } else { ring.clone() };
        if sparing.gains(&spared).next().is_some() {
            prop_assert_eq!(done(&sparing).placements, done(&plain).placements);
            return Ok(());
        }
        let done = done(&sparing);
        let n = done.replicas.min(done.members.len());
        let there: BTreeSet<&str> = done.members.iter().map(|m| m.zone.as_str()).collect();
        for row in final_rows(&done) {
            let distinct: BTreeSet<&NodeId> = row.iter().collect();
            prop_assert_eq!((row.len(), distinct.len()), (n, n));
            let used = row.iter().map(|o| done.member(o).unwrap().zone.as_str());
            prop_assert_eq!(used.collect::<BTreeSet<_>>().len(), n.min(there.len()));
        }
    }
}
