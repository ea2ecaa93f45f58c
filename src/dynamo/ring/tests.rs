//! The laws of `plan`: loads, distinct owners and zones, little movement, one result everywhere.

mod changes;
mod gone;
mod least;
mod recover;
mod sequences;

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::balance::rebalance;
use super::*;

const Q: usize = PARTITIONS as usize;

fn real(n: usize) -> f64 {
    f64::from(u32::try_from(n).unwrap())
}

fn id(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn member(i: usize, zone: usize, weight: u32) -> Member {
    let at = |port: usize| format!("127.0.0.1:{port}");
    Member {
        id: id(&format!("n{i}")),
        data_id: i as u64,
        zone: format!("z{zone}"),
        weight,
        addresses: Addresses {
            client: at(8080 + 10 * i),
            admin: at(8081 + 10 * i),
            peer: at(8082 + 10 * i),
        },
    }
}

fn found(replicas: usize, members: Vec<Member>) -> Ring {
    let cluster = ClusterId(7);
    plan(
        None,
        &Change::Found {
            cluster,
            replicas,
            members,
        },
    )
    .unwrap()
}

fn join(ring: &Ring, member: &Member) -> Ring {
    plan(Some(ring), &Change::Join(member.clone())).unwrap()
}

fn retire(ring: &Ring) -> Ring {
    plan(Some(ring), &Change::Retire).unwrap()
}

/// The owners each partition has once nothing moves.
fn final_rows(ring: &Ring) -> Vec<&Vec<NodeId>> {
    let rows = ring.placements.iter();
    rows.map(|p| p.incoming.as_ref().unwrap_or(&p.owners))
        .collect()
}

fn loads(ring: &Ring, place: Option<usize>) -> Vec<usize> {
    let rows = final_rows(ring);
    let count = |m: &Member| {
        let has = |row: &&&Vec<NodeId>| match place {
            Some(place) => row.get(place) == Some(&m.id),
            None => row.contains(&m.id),
        };
        rows.iter().filter(has).count()
    };
    ring.members.iter().map(count).collect()
}

/// Finds the level at which `f`, which rises with it, gives the total.
fn level(total: f64, f: impl Fn(f64) -> f64) -> f64 {
    let (mut low, mut high) = (0.0, 1e12);
    for _ in 0..200 {
        let middle = f64::midpoint(low, high);
        *(if f(middle) < total {
            &mut low
        } else {
            &mut high
        }) = middle;
    }
    high
}

/// What each member should own, by bisection in floating point: another way than the product's.
/// `None` where zones and a weight too heavy for its share interfere.
fn expected_shares(ring: &Ring, n: usize) -> Option<Vec<f64>> {
    let (q, total) = (real(Q), real(Q * n));
    let zones: BTreeSet<&str> = ring.members.iter().map(|m| m.zone.as_str()).collect();
    let weights = |zone: Option<&str>| -> Vec<f64> {
        let there = |m: &&Member| zone.is_none_or(|z| m.zone == z);
        let members = ring.members.iter().filter(there);
        members.map(|m| f64::from(m.weight)).collect()
    };
    let all: f64 = weights(None).iter().sum();
    if zones.len() > 1 && weights(None).iter().any(|w| w * total / all > q) {
        return None;
    }
    let zone_total = |zone: &str, level: f64| {
        let own = weights(Some(zone));
        let most = real((1 + n.saturating_sub(zones.len())).min(own.len())) * q;
        let least = if zones.len() <= n { q } else { 0.0 };
        (own.iter().sum::<f64>() * level).clamp(least, most)
    };
    let across = level(total, |l| zones.iter().map(|z| zone_total(z, l)).sum());
    let share = |m: &Member| {
        let own = weights(Some(&m.zone));
        let filled = |l: f64| own.iter().map(|w| (w * l).min(q)).sum();
        let within = level(zone_total(&m.zone, across), filled);
        (f64::from(m.weight) * within).min(q)
    };
    Some(ring.members.iter().map(share).collect())
}

/// Everything that must hold of any ring, moving or not.
fn check(ring: &Ring) -> Result<(), TestCaseError> {
    let n = ring.replicas.min(ring.members.len());
    let zones: BTreeSet<&str> = ring.members.iter().map(|m| m.zone.as_str()).collect();
    prop_assert_eq!(ring.placements.len(), Q);
    prop_assert!(ring.members.is_sorted_by(|a, b| a.id < b.id));
    for row in final_rows(ring) {
        let distinct: BTreeSet<&NodeId> = row.iter().collect();
        prop_assert_eq!((row.len(), distinct.len()), (n, n), "{:?}", row);
        let in_zones: BTreeSet<&str> = row
            .iter()
            .map(|o| ring.member(o).unwrap().zone.as_str())
            .collect();
        prop_assert_eq!(in_zones.len(), n.min(zones.len()), "zones of {:?}", row);
    }
    for (m, (load, share)) in (ring.members.iter()).zip(
        loads(ring, None)
            .into_iter()
            .zip(expected_shares(ring, n).into_iter().flatten()),
    ) {
        let off = (real(load) - share).abs();
        prop_assert!(off < 1.000_001, "{} has {load}, its share is {share}", m.id);
    }
    Ok(())
}

/// The ring with these members instead.
fn rebalanced(ring: &Ring, members: Vec<Member>) -> Ring {
    let rows: Vec<Vec<NodeId>> = ring.placements.iter().map(|p| p.owners.clone()).collect();
    let rows = rebalance(&members, &rows, ring.replicas.min(members.len()), &[]);
    let mut next = ring.clone();
    next.members = members;
    for (row, new) in next.placements.iter_mut().zip(rows) {
        row.incoming = (new != row.owners).then_some(new);
    }
    next
}

/// Replicas that a step gives to someone who did not have them.
fn gained(ring: &Ring) -> Vec<NodeId> {
    let new = |p: &Placement| {
        let to = p.incoming.clone().unwrap_or_default();
        to.into_iter().filter(|m| !p.owners.contains(m)).collect()
    };
    let gained: Vec<Vec<NodeId>> = ring.placements.iter().map(new).collect();
    gained.concat()
}

/// How many of them the new loads make necessary.
fn forced_gains(before: &Ring, ring: &Ring) -> usize {
    let old = loads(before, None);
    let had = |m: &Member| {
        let place = before.members.iter().position(|b| b.id == m.id);
        place.map_or(0, |i| old[i])
    };
    let now = ring.members.iter().zip(loads(ring, None));
    now.map(|(m, load)| load.saturating_sub(had(m))).sum()
}

/// What must hold of a join.
fn check_join(before: &Ring, ring: &Ring, joiner: &NodeId) -> Result<(), TestCaseError> {
    check(ring)?;
    prop_assert_eq!(ring.epoch, before.epoch + 1);
    let moved = gained(ring);
    let zones: BTreeSet<&str> = ring.members.iter().map(|m| m.zone.as_str()).collect();
    let all_equal = ring.members.iter().all(|m| m.weight == 1);
    if zones.len() == 1 {
        prop_assert_eq!(
            moved.len(),
            forced_gains(before, ring),
            "moves no load asked for"
        );
    }
    if zones.len() == 1 && all_equal && before.members.len() >= ring.replicas {
        let share = (Q * ring.replicas).div_ceil(ring.members.len());
        prop_assert!(moved.len() <= share, "{} moved of {share}", moved.len());
        prop_assert!(moved.iter().all(|m| m == joiner), "{moved:?}");
    }
    for (was, row) in before.placements.iter().zip(&ring.placements) {
        prop_assert_eq!(&was.owners, &row.owners);
        let Some(to) = &row.incoming else { continue };
        prop_assert_ne!(to, &row.owners);
        let stays = |m: &&NodeId| to.contains(m) && row.owners.contains(m);
        let order: Vec<&NodeId> = row.owners.iter().filter(stays).collect();
        prop_assert_eq!(order, to.iter().filter(stays).collect::<Vec<_>>());
    }
    Ok(())
}

fn members(
    count: std::ops::RangeInclusive<usize>,
    zones: usize,
    weights: u32,
) -> impl Strategy<Value = Vec<Member>> {
    let one = (0..zones, 1..=weights);
    proptest::collection::vec(one, count).prop_map(|all| {
        let numbered = all.into_iter().enumerate();
        numbered.map(|(i, (z, w))| member(i, z, w)).collect()
    })
}

/// Members with one zone and equal weights, with weights, with zones, with both.
fn any_members(count: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = Vec<Member>> {
    prop_oneof![
        members(count.clone(), 1, 1),
        members(count.clone(), 1, 5),
        members(count.clone(), 4, 1),
        members(count, 4, 3),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_founded_ring_is_placed_by_weight_and_zone(
        members in any_members(1..=9),
        replicas in 1_usize..=5,
    ) {
        let ring = found(replicas, members);
        prop_assert_eq!(ring.epoch, 1);
        prop_assert!(!ring.is_moving());
        check(&ring)?;
    }

    #[test]
    fn joins_one_after_another_keep_the_laws_and_move_little(
        members in any_members(2..=12),
        founders in 1_usize..4,
        replicas in 1_usize..=5,
    ) {
        let (first, later) = members.split_at(founders.min(members.len()));
        let mut ring = found(replicas, first.to_vec());
        for joiner in later {
            let next = join(&ring, joiner);
            check_join(&ring, &next, &joiner.id)?;
            ring = if next.is_moving() { retire(&next) } else { next };
        }
    }

    /// No `Change` asks for these yet, but the same function serves them.
    #[test]
    fn any_other_members_weights_and_zones_keep_the_laws(
        (before, after) in (any_members(1..=9), any_members(3..=9)),
        replicas in 1_usize..=4,
    ) {
        let ring = found(replicas, before);
        let next = rebalanced(&ring, found(replicas, after[2..].to_vec()).members);
        check(&next)?;
        prop_assert_eq!(rebalanced(&ring, ring.members.clone()), ring, "nothing to do, yet moved");
    }

    #[test]
    fn every_node_computes_the_same_ring_whatever_the_order_of_members(
        (members, shuffled) in any_members(2..=6)
            .prop_flat_map(|m| (Just(m.clone()), Just(m).prop_shuffle())),
    ) {
        let (a, b) = (found(3, members), found(3, shuffled));
        prop_assert_eq!(a.hash(), b.hash());
        prop_assert_eq!(&a, &b);
        let joiner = member(10, 0, 1);
        let (a, b) = (join(&a, &joiner), join(&b, &joiner));
        prop_assert_eq!(a.hash(), b.hash());
        prop_assert_eq!(a, b);
    }

    #[test]
    fn fallbacks_are_all_other_members_that_own_something(members in any_members(1..=9)) {
        let ring = found(3, members);
        for p in Partition::all() {
            let mut all = ring.fallbacks(p);
            prop_assert!(all.iter().all(|f| !ring.placement(p).involves(f)));
            all.extend(ring.placement(p).owners.clone());
            all.sort();
            let members: Vec<NodeId> = ring.members.iter().map(|m| m.id.clone()).collect();
            prop_assert_eq!(all, members);
        }
    }
}

#[test]
fn one_node_grows_to_twelve() {
    let mut ring = found(3, vec![member(0, 0, 1)]);
    for i in 1..12 {
        let next = join(&ring, &member(i, 0, 1));
        if i < 3 {
            let gains = next.placements.iter().all(|p| {
                let to = p.incoming.clone().unwrap_or_default();
                p.owners.iter().all(|o| to.contains(o)) && to.len() == i + 1
            });
            assert!(gains, "with {i} members each partition gains an owner");
        }
        assert_eq!(next.gains(&member(i, 0, 1).id).count(), gained(&next).len());
        ring = retire(&next);
        let mean = Q / (i + 1);
        let first = loads(&ring, Some(0));
        let spread = first.iter().all(|f| f.abs_diff(mean) <= mean / 4);
        assert!(spread, "first places of {} members: {first:?}", i + 1);
    }
    assert_eq!((ring.epoch, loads(&ring, None)), (23, vec![64; 12]));
}

#[test]
fn what_a_leaver_held_is_all_that_moves() {
    for count in 4..=10 {
        let ring = found(3, (0..count).map(|i| member(i, 0, 1)).collect());
        let next = rebalanced(&ring, ring.members[1..].to_vec());
        check(&next).unwrap();
        assert_eq!(
            gained(&next).len(),
            loads(&ring, None)[0],
            "{count} members"
        );
    }
}

#[test]
fn a_zone_that_appears_gets_one_owner_of_every_partition() {
    let two = (0..4).map(|i| member(i, i % 2, 1)).collect();
    let ring = found(3, two);
    let third = member(4, 2, 1);
    let next = join(&ring, &third);
    check_join(&ring, &next, &third.id).unwrap();
    assert_eq!(loads(&next, None), vec![128, 128, 128, 128, 256]);
    assert_eq!(gained(&next), vec![third.id; Q]);
}

#[test]
fn a_weight_demands_no_more_than_every_partition() {
    let ring = found(
        2,
        vec![member(0, 0, 1), member(1, 0, u32::MAX), member(2, 0, 1)],
    );
    assert_eq!(loads(&ring, None), vec![128, 256, 128]);
}

#[test]
fn retiring_makes_the_incoming_owners_the_owners() {
    let moving = join(&found(1, vec![member(0, 0, 1)]), &member(1, 0, 1));
    let next = retire(&moving);
    assert_eq!(next.epoch, moving.epoch + 1);
    assert_eq!(final_rows(&next), final_rows(&moving));
    assert!(next.placements.iter().all(|p| p.incoming.is_none()));
    assert_eq!(next.members, moving.members);
}

#[test]
fn every_refusal_has_its_row() {
    let (n0, n1) = (member(0, 0, 1), member(1, 0, 1));
    let other = Member {
        data_id: 99,
        ..n0.clone()
    };
    let founding = |members: &[Member]| Change::Found {
        cluster: ClusterId(7),
        replicas: 3,
        members: members.to_vec(),
    };
    let still = found(3, vec![n0.clone()]);
    let moving = join(&still, &n1);
    let joining = |m: &Member| Change::Join(m.clone());
    let rows = [
        (None, founding(&[]), PlanError::NoMembers),
        (
            None,
            founding(&[n0.clone(), n0.clone()]),
            PlanError::AlreadyMember(n0.id.clone()),
        ),
        (
            None,
            founding(&[n0.clone(), other.clone()]),
            PlanError::NameTaken(n0.id.clone()),
        ),
        (None, joining(&n0), PlanError::NoRing),
        (None, Change::Retire, PlanError::NoRing),
        (Some(&still), founding(&[n1]), PlanError::AlreadyFounded),
        (
            Some(&still),
            joining(&n0),
            PlanError::AlreadyMember(n0.id.clone()),
        ),
        (
            Some(&still),
            joining(&other),
            PlanError::NameTaken(n0.id.clone()),
        ),
        (Some(&still), Change::Retire, PlanError::NotMoving),
        (
            Some(&moving),
            joining(&member(2, 0, 1)),
            PlanError::StillMoving,
        ),
        (
            Some(&moving),
            joining(&n0),
            PlanError::AlreadyMember(n0.id.clone()),
        ),
        (
            Some(&moving),
            joining(&other),
            PlanError::NameTaken(n0.id.clone()),
        ),
    ];
    for (previous, change, expected) in rows {
        assert!(!expected.to_string().is_empty());
        assert_eq!(plan(previous, &change), Err(expected), "{change:?}");
    }
}

/// Nodes of two releases must plan the same ring; another hash here is a breaking change.
#[test]
fn planned_rings_are_frozen() {
    let ring = found(3, (0..5).map(|i| member(i, i % 4, 1)).collect());
    assert_eq!(ring.hash().to_string(), "59b0c5524da0c2be");
    let next = join(&ring, &member(5, 1, 2));
    assert_eq!(next.hash().to_string(), "0475a54030f82f3e");
}

/// What is changed, and how.
type Tampering = (&'static str, fn(&mut Ring));

#[test]
fn the_hash_covers_all_that_decides_ownership_and_nothing_else() {
    let ring = found(2, vec![member(0, 0, 1), member(1, 0, 1), member(2, 0, 1)]);
    let changes: [Tampering; 9] = [
        ("cluster", |r| r.cluster = ClusterId(8)),
        ("epoch", |r| r.epoch += 1),
        ("replicas", |r| r.replicas += 1),
        ("members", |r| r.members.truncate(2)),
        ("data_id", |r| r.members[1].data_id += 1),
        ("zone", |r| r.members[1].zone.push(' ')),
        ("weight", |r| r.members[1].weight += 1),
        ("owners", |r| r.placements[255].owners.reverse()),
        ("incoming", |r| {
            r.placements[255].incoming = Some(Vec::new());
        }),
    ];
    let mut seen = BTreeSet::from([ring.hash().0]);
    for (what, change) in changes {
        let mut other = ring.clone();
        change(&mut other);
        assert!(seen.insert(other.hash().0), "{what} is not in the hash");
    }
    let before = ring.hash();
    let mut moved = ring;
    moved.members[0].addresses.peer = "10.0.0.1:8082".into();
    assert_eq!(moved.hash(), before, "addresses decide nothing");
}
