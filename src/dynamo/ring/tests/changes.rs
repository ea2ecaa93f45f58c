//! What must hold of every change of who is a member, each alone.

use super::*;

fn after(ring: &Ring, changes: &[MemberChange]) -> Ring {
    plan(Some(ring), &Change::Commit(changes.to_vec())).unwrap()
}

pub(super) fn settled(ring: &Ring) -> Ring {
    if ring.is_moving() {
        retire(ring)
    } else {
        ring.clone()
    }
}

fn five() -> Ring {
    found(3, (0..5).map(|i| member(i, 0, 1)).collect())
}

fn n(i: usize) -> NodeId {
    id(&format!("n{i}"))
}

pub(super) fn rows_of(ring: &Ring, node: &NodeId) -> Vec<usize> {
    let rows = ring.placements.iter().enumerate();
    let has = rows.filter(|(_, row)| row.owners.contains(node));
    has.map(|(i, _)| i).collect()
}

#[test]
fn a_leaver_serves_and_votes_no_more_until_its_partitions_have_moved() {
    let ring = five();
    let moving = after(&ring, &[MemberChange::Leave(n(2))]);
    check(&settled(&moving)).unwrap();
    assert!(moving.is_leaving(&n(2)) && moving.member(&n(2)).is_some());
    assert_eq!(moving.voters().count(), 4);
    let held = rows_of(&ring, &n(2)).len();
    assert_eq!(
        gained(&moving).len(),
        held,
        "what it held is all that moves"
    );
    for (was, row) in ring.placements.iter().zip(&moving.placements) {
        assert_eq!(was.owners, row.owners);
        assert_eq!(row.incoming.is_some(), was.owners.contains(&n(2)));
    }
    for p in Partition::all() {
        assert!(
            !moving.fallbacks(p).contains(&n(2)),
            "what it keeps for others goes with it"
        );
    }
    let left = retire(&moving);
    assert!(left.member(&n(2)).is_none());
    let gone = left.departed(&n(2), 2).unwrap();
    assert_eq!((gone.how, gone.epoch), (Departure::Left, left.epoch));
}

/// In what way each of three went, as it goes, when it has gone, and when one of its name came back.
#[test]
fn a_name_is_gone_until_it_is_a_members_again() {
    let replace = MemberChange::Replace {
        old: n(1),
        new: member(8, 0, 1),
    };
    let rows = [
        (MemberChange::Leave(n(2)), n(2), Departure::Left),
        (replace, n(1), Departure::Replaced),
        (MemberChange::Forget(n(4)), n(4), Departure::Forgotten),
    ];
    let ways = [Departure::Left, Departure::Replaced, Departure::Forgotten];
    for (change, name, how) in rows {
        let ring = five();
        let moving = after(&ring, std::slice::from_ref(&change));
        let gone = retire(&moving);
        let back = Member {
            data_id: 77,
            ..ring.member(&name).cloned().unwrap()
        };
        let back = MemberChange::Join(back);
        let staged = plan(Some(&gone), &Change::Stage(back.clone())).unwrap();
        let again = settled(&after(&gone, &[back]));
        let once_more = after(&again, &[MemberChange::Leave(name.clone())]);
        for way in ways {
            let row = format!("{change}: {way:?}");
            assert!(!ring.is_gone(&name, way), "{row}");
            assert_eq!(moving.is_gone(&name, way), way == how, "{row}");
            assert_eq!(gone.is_gone(&name, way), way == how, "{row}");
            assert!(!staged.is_gone(&name, way), "{row}");
            assert!(!again.is_gone(&name, way), "{row}");
            let leaves = way == Departure::Left;
            assert_eq!(once_more.is_gone(&name, way), leaves, "{row}");
        }
    }
}

#[test]
fn who_replaces_another_owns_exactly_what_that_one_owned_in_its_places() {
    let ring = five();
    let replaced = MemberChange::Replace {
        old: n(1),
        new: member(8, 0, 1),
    };
    let done = retire(&after(&ring, &[replaced]));
    for (was, row) in ring.placements.iter().zip(&done.placements) {
        let renamed = was
            .owners
            .iter()
            .map(|o| if *o == n(1) { n(8) } else { o.clone() });
        assert_eq!(renamed.collect::<Vec<_>>(), row.owners);
    }
    assert_eq!(done.departed(&n(1), 1).unwrap().how, Departure::Replaced);
}

#[test]
fn a_forgotten_node_is_out_at_once_and_others_get_what_it_owned_from_who_is_left() {
    let ring = five();
    let moving = after(&ring, &[MemberChange::Forget(n(4))]);
    assert!(moving.member(&n(4)).is_none());
    assert!(moving.departed(&n(4), 4).is_some());
    for (was, row) in ring.placements.iter().zip(&moving.placements) {
        assert!(!row.involves(&n(4)));
        let gains = row
            .incoming
            .iter()
            .flatten()
            .filter(|id| row.is_gained_by(id))
            .count();
        assert_eq!(gains, usize::from(was.owners.contains(&n(4))));
        // One owner may have had a write with the forgotten one alone.
        assert_eq!(row.whole_from(3, 2), 2);
    }
    assert_eq!(
        plan(Some(&moving), &Change::Cancel),
        Err(PlanError::CannotCancel)
    );
    check(&retire(&moving)).unwrap();
}

#[test]
fn with_fewer_members_than_replicas_those_that_stay_pull_from_each_other() {
    let ring = found(3, (0..3).map(|i| member(i, 0, 1)).collect());
    let moving = after(&ring, &[MemberChange::Leave(n(0))]);
    for row in &moving.placements {
        assert!(row.is_gained_by(&n(1)) && row.is_gained_by(&n(2)) && !row.is_gained_by(&n(0)));
    }
    let all_but_one = after(&five(), &[0, 1, 2, 3].map(|i| MemberChange::Forget(n(i))));
    assert!(
        all_but_one
            .placements
            .iter()
            .all(|row| row.owners == [n(4)])
    );
}

#[test]
fn several_changes_are_one_epoch_and_one_move() {
    let ring = five();
    let changes = [
        MemberChange::Leave(n(0)),
        MemberChange::Join(member(7, 0, 2)),
        MemberChange::Weight {
            node: n(3),
            weight: 2,
        },
        MemberChange::Zone {
            node: n(2),
            zone: "z1".to_owned(),
        },
    ];
    let moving = after(&ring, &changes);
    assert_eq!(moving.epoch, ring.epoch + 1);
    let done = retire(&moving);
    check(&done).unwrap();
    let seven = done.member(&n(7)).unwrap();
    assert_eq!((seven.weight, done.member(&n(3)).unwrap().weight), (2, 2));
    assert_eq!(done.member(&n(2)).unwrap().zone, "z1");
}

#[test]
fn a_cancelled_change_leaves_the_ring_as_it_was() {
    let ring = five();
    let changes = [
        MemberChange::Leave(n(0)),
        MemberChange::Join(member(7, 0, 2)),
        MemberChange::Weight {
            node: n(3),
            weight: 2,
        },
    ];
    let back = plan(Some(&after(&ring, &changes)), &Change::Cancel).unwrap();
    let mut was = ring.clone();
    was.epoch = back.epoch;
    assert_eq!(back, was);
    assert_eq!(
        plan(Some(&ring), &Change::Cancel),
        Err(PlanError::NotMoving)
    );
}

#[test]
fn what_is_staged_moves_nothing_and_is_gone_once_committed() {
    let ring = five();
    let (leave, weight) = (MemberChange::Leave(n(0)), |weight| MemberChange::Weight {
        node: n(3),
        weight,
    });
    let stage =
        |ring: &Ring, change: &MemberChange| plan(Some(ring), &Change::Stage(change.clone()));
    let staged = stage(&ring, &leave).unwrap();
    assert_eq!(
        (staged.epoch, &staged.placements),
        (ring.epoch + 1, &ring.placements)
    );
    assert_ne!(staged.hash(), {
        let mut same = ring;
        same.epoch += 1;
        same.hash()
    });
    assert_eq!(stage(&staged, &leave), Err(PlanError::NothingToChange));
    let staged = stage(&stage(&staged, &weight(2)).unwrap(), &weight(3)).unwrap();
    assert_eq!(staged.affairs.staged, [leave, weight(3)]);
    let reverted = plan(Some(&staged), &Change::Revert(Some(n(0)))).unwrap();
    assert_eq!(reverted.affairs.staged, [weight(3)]);
    let none = plan(Some(&reverted), &Change::Revert(None)).unwrap();
    assert_eq!(
        plan(Some(&none), &Change::Revert(None)),
        Err(PlanError::NothingToChange)
    );
    let moving = after(&staged, &staged.affairs.staged);
    assert!(moving.is_moving() && moving.affairs.staged.is_empty());
    let (during, epoch) = (stage(&moving, &weight(9)).unwrap(), moving.epoch);
    assert_eq!((during.move_epoch(), during.epoch), (epoch, epoch + 1));
    assert_eq!(retire(&during).affairs.staged, [weight(9)]);
}

#[test]
fn what_cannot_be_done_is_refused_with_its_reason() {
    let ring = five();
    let gone = retire(&after(&ring, &[MemberChange::Leave(n(4))]));
    let mut namesake = member(4, 0, 1);
    namesake.data_id = 44;
    let other = |i: usize| {
        let mut other = member(i, 0, 1);
        other.data_id = 99;
        other
    };
    let everyone: Vec<MemberChange> = (0..4).map(|i| MemberChange::Leave(n(i))).collect();
    let replace = |old, new| MemberChange::Replace { old, new };
    let rows = [
        (vec![], PlanError::NothingToChange),
        (everyone, PlanError::NobodyLeft),
        (vec![MemberChange::Leave(n(9))], PlanError::NotMember(n(9))),
        (
            vec![MemberChange::Join(member(1, 0, 1))],
            PlanError::AlreadyMember(n(1)),
        ),
        (
            vec![MemberChange::Join(other(1))],
            PlanError::NameTaken(n(1)),
        ),
        (
            vec![MemberChange::Join(member(4, 0, 1))],
            PlanError::Departed(n(4)),
        ),
        (
            vec![MemberChange::Leave(n(1)), MemberChange::Forget(n(1))],
            PlanError::Conflict(n(1)),
        ),
        (
            vec![replace(n(1), member(2, 0, 1))],
            PlanError::AlreadyMember(n(2)),
        ),
        (
            vec![MemberChange::Weight {
                node: n(1),
                weight: 1,
            }],
            PlanError::NothingToChange,
        ),
        (
            vec![
                MemberChange::Join(member(7, 0, 1)),
                MemberChange::Leave(n(7)),
            ],
            PlanError::Conflict(n(7)),
        ),
    ];
    for (changes, why) in rows {
        assert_eq!(
            plan(Some(&gone), &Change::Commit(changes.clone())),
            Err(why),
            "{changes:?}"
        );
    }
    assert!(
        plan(Some(&gone), &Change::Join(namesake)).is_ok(),
        "another disk may have the name"
    );
    let steer = |node, down| plan(Some(&gone), &Change::Steer { node, down });
    assert_eq!(steer(n(9), true), Err(PlanError::NotMember(n(9))));
    assert_eq!(steer(n(1), false), Err(PlanError::NothingToChange));
    assert!(steer(n(1), true).unwrap().is_down(&n(1)));
}

#[test]
fn a_partition_is_crowded_if_its_owners_share_a_zone_although_there_are_others() {
    let mut ring = found(2, (0..4).map(|i| member(i, 0, 1)).collect());
    assert_eq!(ring.crowded().count(), 0, "one zone is all there is");
    ring.members[3].zone = "another".to_owned();
    let crowded = ring.crowded().map(|p| usize::from(p.number()));
    let without = (0..256).filter(|row| !rows_of(&ring, &n(3)).contains(row));
    assert_eq!(crowded.collect::<Vec<_>>(), without.collect::<Vec<_>>());
}

#[test]
fn an_outline_tells_what_moves_where_and_what_is_left_of_it() {
    let ring = found(3, (0..4).map(|i| member(i, i % 2, 1)).collect());
    let moving = after(
        &ring,
        &[
            MemberChange::Forget(n(0)),
            MemberChange::Join(member(7, 0, 1)),
        ],
    );
    let outline = Outline::of(&ring, &moving);
    let held = rows_of(&ring, &n(0)).len();
    assert_eq!((outline.short.len(), outline.lost.len()), (held, 0));
    assert_eq!(outline.crowded, []);
    let names: Vec<&str> = outline
        .loads
        .iter()
        .map(|load| load.node.as_str())
        .collect();
    assert_eq!(names, ["n0", "n1", "n2", "n3", "n7"]);
    let (gone, come) = (&outline.loads[0], &outline.loads[4]);
    assert_eq!((gone.before, gone.after, gone.gains.len()), (held, 0, 0));
    assert_eq!((come.before, come.after), (0, come.gains.len()));
    let gains: usize = outline.loads.iter().map(|load| load.gains.len()).sum();
    assert_eq!(gains, gained(&moving).len());
    let two = after(&ring, &[0, 1].map(|i| MemberChange::Forget(n(i))));
    let both = rows_of(&ring, &n(0)).into_iter();
    let both: Vec<_> = both.filter(|p| rows_of(&ring, &n(1)).contains(p)).collect();
    assert!(!both.is_empty());
    let below = |count| left_below(&ring, &two, count).into_iter();
    assert!(below(2).map(Partition::index).eq(both));
    assert_eq!(below(1).count(), 0);
    let all = [0, 1, 2].map(|i| MemberChange::Forget(n(i)));
    assert!(!Outline::of(&ring, &after(&ring, &all)).lost.is_empty());
}
