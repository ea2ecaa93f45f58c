//! Clusters that start, grow, crash and disagree.

use std::time::Duration;

use super::sim::Sim;
use super::{Event, FoundRefusal, NodeState, Permission, Refusal, Waiting};
use crate::dynamo::membership::fixture::{id, member};
use crate::dynamo::ring::{ClusterId, Member, Ring};

const NAMES: [&str; 5] = ["n1", "n2", "n3", "n4", "n5"];

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn light(name: &str) -> Member {
    Member {
        weight: 1,
        ..member(name)
    }
}

/// Machines that all have the same seeds, perhaps themselves among them.
fn cluster(seed: u64, names: &[&str], seeds: &[&str], expect: usize) -> Sim {
    let mut sim = Sim::new(seed);
    for n in names {
        sim.add(light(n), seeds, expect);
    }
    sim
}

/// A running cluster of n1, n2 and n3 beside machines that are not started yet.
fn running(seed: u64, names: &[&str]) -> Sim {
    let founders = &NAMES[..3];
    let mut sim = cluster(seed, founders, founders, 3);
    sim.start_all(founders);
    sim.settle(secs(10)).unwrap();
    for n in names {
        sim.add(light(n), founders, 3);
    }
    sim
}

#[test]
fn seed_defect_17_nodes_started_together_all_become_ready() {
    for (seed, size) in (0..30).zip((1..=5).cycle()) {
        let names = &NAMES[..size];
        let mut sim = cluster(seed, names, names, size);
        sim.start_all(names);
        sim.settle(secs(10))
            .unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        assert_eq!(sim.ring("n1").unwrap().epoch, 1, "seed {seed}");
    }
}

#[test]
fn nodes_that_know_only_one_of_them_found_one_cluster() {
    for (seed, hub) in [(1, "n1"), (2, "n3"), (3, "n5")] {
        let mut sim = cluster(seed, &NAMES, &[hub], 5);
        sim.start_all(&NAMES);
        sim.settle(secs(20))
            .unwrap_or_else(|e| panic!("hub {hub}: {e}"));
    }
}

#[test]
fn nodes_started_together_join_a_running_ring_in_order_of_name() {
    for seed in 0..5 {
        let mut sim = running(seed, &["n4", "n5", "n6", "n7"]);
        sim.start_all(&["n6", "n4", "n7", "n5"]);
        sim.settle(secs(60))
            .unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let all = ["n1", "n2", "n3", "n4", "n5", "n6", "n7"];
        assert_eq!(sim.joined, all.map(id), "seed {seed}");
        assert_eq!(sim.ring("n1").unwrap().epoch, 9, "seed {seed}");
    }
}

#[test]
fn nodes_that_crash_and_lose_messages_at_any_time_end_ready_in_one_cluster() {
    for (seed, index) in (0..30).zip(0..) {
        let expect = 3;
        let seeds: [&[&str]; 3] = [&NAMES, &["n2", "n4"], &["n5"]];
        let mut sim = Sim::new(seed);
        for (name, zone) in NAMES.into_iter().zip(["a", "a", "b", "c", "c"]) {
            let weight = 1 + u32::try_from(sim.dice.below(3)).unwrap();
            let zone = if seed % 2 == 0 { zone } else { "a" }.into();
            let uneven = Member {
                zone,
                weight,
                ..member(name)
            };
            sim.add(uneven, seeds[index % 3], expect);
        }
        sim.loss = 10;
        for _ in 0..60 {
            let name = NAMES[sim.dice.below(5)];
            let rest = Duration::from_millis(sim.dice.roll() % 800);
            match sim.dice.below(3) {
                0 => sim.kill(name),
                _ => sim.start_all(&[name]),
            }
            sim.run(rest);
        }
        sim.loss = 0;
        sim.start_all(&NAMES);
        sim.settle(secs(120))
            .unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        assert_eq!(sim.joined.len(), 5, "seed {seed}");
    }
}

#[test]
fn founders_that_do_not_see_each_other_yield_to_the_first_by_name() {
    for (seed, cut) in (0..20).zip(
        [("n1", "n2"), ("n1", "n4"), ("n2", "n3")]
            .into_iter()
            .cycle(),
    ) {
        let names = &NAMES[..4];
        let mut sim = cluster(seed, names, names, 3);
        sim.cut = Some(cut);
        sim.loss = 20;
        sim.start_all(names);
        sim.run(secs(15));
        sim.cut = None;
        sim.loss = 0;
        sim.settle(secs(90))
            .unwrap_or_else(|e| panic!("seed {seed}: {e}"));
    }
}

/// The simulation itself asserts that the first epoch has one ring.
#[test]
fn two_founders_at_once_never_found_two_clusters() {
    let mut founded = 0;
    for seed in 0..80 {
        let names = &NAMES[..4];
        let mut sim = cluster(seed, names, names, 3);
        sim.cut = Some(("n1", "n2"));
        sim.start_all(names);
        for _ in 0..4 {
            let rest = Duration::from_millis(500 + sim.dice.roll() % 800);
            sim.run(rest);
            let name = names[sim.dice.below(names.len())];
            sim.kill(name);
            sim.start(name);
        }
        founded += usize::from(sim.ring("n3").is_some());
    }
    assert!(founded > 25, "only {founded} of 80 founded anything");
}

#[test]
fn a_node_that_has_or_fetches_a_ring_promises_no_founding() {
    let mut sim = half_founded();
    let founding = sim.life("n2").hello().founding.unwrap();
    let mut ringed = running(1, &["n4"]);
    ringed.start("n4");
    ringed.run(Duration::from_millis(1500));
    for name in ["n1", "n4"] {
        let answer = ringed.ask_to_found(name, founding.clone());
        assert_eq!(answer, Err(FoundRefusal::RingExists), "{name}");
    }
}

#[test]
fn a_joiner_killed_at_any_step_finishes_when_it_is_started_again() {
    for step in 0..25 {
        let mut sim = running(step, &["n4"]);
        sim.start("n4");
        sim.run(Duration::from_millis(200 * step));
        sim.kill("n4");
        sim.run(secs(1));
        sim.start("n4");
        sim.settle(secs(20))
            .unwrap_or_else(|e| panic!("step {step}: {e}"));
        assert_eq!(sim.ring("n1").unwrap().epoch, 3, "step {step}");
    }
}

#[test]
fn a_member_that_restarts_is_ready_at_once_and_learns_what_it_missed() {
    let mut sim = running(1, &["n4"]);
    sim.kill("n2");
    sim.start("n4");
    sim.settle(secs(20)).unwrap();
    sim.start("n2");
    assert_eq!(sim.life("n2").state(), NodeState::Ready);
    assert_eq!(sim.ring("n2").unwrap().epoch, 1);
    sim.settle(secs(5)).unwrap();
    assert_eq!(sim.ring("n2").unwrap().epoch, 3);
}

#[test]
fn seed_defect_19_a_node_that_is_out_of_order_does_not_block_joins() {
    for crashed in [true, false] {
        let mut sim = running(1, &["n0", "n4"]);
        sim.stuck = Some("n0");
        sim.start("n0");
        sim.start("n4");
        sim.run(secs(2));
        if crashed {
            sim.kill("n0");
        }
        sim.run(secs(15));
        assert_eq!(
            sim.life("n4").state(),
            NodeState::Ready,
            "crashed {crashed}"
        );
    }
}

#[test]
fn seed_defect_18_the_first_by_name_goes_first() {
    let mut sim = running(1, &["n4", "n5"]);
    sim.stuck = Some("n4");
    sim.start("n5");
    sim.start("n4");
    sim.run(secs(8));
    let waiting = sim.life("n5").waiting_for();
    assert!(matches!(waiting, Some(Waiting::Turn(_))), "{waiting:?}");
    sim.stuck = None;
    sim.settle(secs(30)).unwrap();
    assert_eq!(sim.joined[3..], ["n4", "n5"].map(id));
}

#[test]
fn a_second_node_of_the_same_name_ends_and_names_the_holder() {
    let second = |name: &str| {
        let mut second = light(name);
        second.data_id = 99;
        second.addresses.peer = member("elsewhere").addresses.peer;
        second
    };
    let holder = |name: &str| Refusal::NameTaken {
        name: id(name),
        holder: member(name).addresses.peer,
    };
    let mut sim = running(1, &["n4"]);
    sim.add(second("n2"), &["n1"], 3);
    sim.start("elsewhere");
    sim.run(secs(4));
    assert_eq!(sim.exit_of("elsewhere"), Some(holder("n2")), "a member");

    let mut sim = cluster(1, &["n1", "n2"], &["n1", "n2", "elsewhere"], 3);
    sim.start("n1");
    sim.start("n2");
    sim.run(secs(4));
    sim.add(second("n2"), &["n1", "n2"], 3);
    sim.start("elsewhere");
    sim.run(secs(8));
    assert_eq!(sim.exit_of("elsewhere"), Some(holder("n2")), "a NEW node");
    assert_eq!((sim.exit_of("n1"), sim.exit_of("n2")), (None, None));
}

#[test]
fn a_node_started_in_another_cluster_ends_and_a_running_one_does_not() {
    let mut sim = running(1, &[]);
    let ring = sim.ring("n1").unwrap();
    let mut other = Sim::new(2);
    other.add(light("m1"), &[], 1);
    other.start("m1");
    other.settle(secs(1)).unwrap();
    sim.add(light("m1"), &["n1"], 1);
    sim.put_ring("m1", other.ring("m1").unwrap());
    sim.start("m1");
    sim.run(secs(8));
    let at = ["n1", "n2", "n3"].map(|n| member(n).addresses.peer);
    match sim.exit_of("m1") {
        Some(Refusal::OtherCluster { at: by, cluster }) => {
            assert!(at.contains(&by) && cluster == ring.cluster);
        }
        other => panic!("{other:?}"),
    }
    let refusal = Refusal::OtherCluster {
        at: "m1:8082".into(),
        cluster: ClusterId(1),
    };
    sim.refuse("n1", &refusal);
    sim.run(secs(8));
    assert_eq!(sim.exit_of("n1"), None);
}

#[test]
fn too_few_nodes_wait_and_say_so() {
    let mut sim = cluster(1, &["n1", "n2"], &["n1", "n2", "n3"], 3);
    sim.start("n1");
    sim.start("n2");
    sim.run(secs(60));
    let few = Waiting::Nodes {
        visible: 2,
        expect: 3,
    };
    for name in ["n1", "n2"] {
        assert_eq!(sim.life(name).waiting_for(), Some(few.clone()));
    }
}

/// Brings three nodes to where n2 has promised n1, and n3 is cut off from it.
fn half_founded() -> Sim {
    let names = &NAMES[..3];
    let mut sim = cluster(1, names, names, 3);
    sim.start_all(names);
    while sim.life("n1").hello().founding.is_none() {
        sim.run(Duration::from_millis(100));
    }
    sim.cut = Some(("n1", "n3"));
    sim.run(secs(3));
    assert!(sim.life("n2").hello().founding.is_some());
    sim
}

#[test]
fn one_who_has_promised_waits_for_its_founder_and_says_so() {
    let mut sim = half_founded();
    let missing = Waiting::Promises(vec![id("n3")]);
    assert_eq!(sim.life("n1").waiting_for(), Some(missing));
    sim.kill("n1");
    sim.cut = None;
    sim.run(secs(60));
    let founder = Some(Waiting::Founder(id("n1")));
    assert_eq!(sim.life("n2").waiting_for(), founder);
    let cluster = sim.life("n2").hello().founding.unwrap().cluster;
    sim.start("n1");
    sim.settle(secs(10)).unwrap();
    assert_eq!(sim.ring("n3").unwrap().cluster, cluster);
}

#[test]
fn a_founder_goes_on_without_a_named_node_whose_disk_was_lost() {
    let mut sim = half_founded();
    sim.kill("n3");
    sim.wipe("n3");
    sim.cut = None;
    sim.start("n3");
    sim.settle(secs(60)).unwrap();
    assert_eq!(sim.ring("n2").unwrap().epoch, 1);
}

#[test]
fn a_node_that_drains_is_leaving_and_begins_nothing() {
    let mut sim = running(1, &["n4"]);
    sim.start("n4");
    sim.drain("n4");
    sim.run(secs(10));
    assert_eq!(sim.life("n4").state(), NodeState::Leaving);
    assert_eq!(sim.ring("n1").unwrap().epoch, 1);
}

#[test]
fn a_member_that_lost_its_disk_takes_its_name_back_and_nothing_moves() {
    for (seed, others) in [(1, 0), (2, 20), (3, 10)] {
        let mut sim = running(seed, &[]);
        let before = sim.ring("n1").unwrap();
        sim.kill("n2");
        // What the old process said last has arrived, or would count as a sign of life.
        sim.run(secs(1));
        sim.lose_disk("n2");
        sim.loss = others;
        sim.start("n2");
        sim.run(secs(1));
        let waiting = sim.life("n2").waiting_for();
        assert_ne!(waiting, None, "seed {seed}: {waiting:?}");
        sim.run(secs(20));
        sim.loss = 0;
        sim.settle(secs(60))
            .unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let after = sim.ring("n1").unwrap();
        assert_eq!(after.epoch, before.epoch + 1, "seed {seed}");
        assert_eq!(after.placements, before.placements, "seed {seed}");
        let known = |ring: &Ring| ring.member(&id("n2")).unwrap().data_id;
        assert_ne!(known(&after), known(&before), "seed {seed}");
    }
}

#[test]
fn a_lost_disk_is_refused_while_another_process_answers_for_the_name() {
    let mut sim = running(1, &[]);
    let mut double = light("n2");
    double.data_id = 99;
    double.addresses.peer = member("elsewhere").addresses.peer;
    sim.add(double, &["n1", "n3"], 3);
    sim.lose_disk("elsewhere");
    sim.start("elsewhere");
    sim.run(secs(4));
    let holder = member("n2").addresses.peer;
    let name = id("n2");
    let taken = Refusal::NameTaken { name, holder };
    assert_eq!(sim.exit_of("elsewhere"), Some(taken));
    assert_eq!(sim.ring("n1").unwrap().epoch, 1);
    assert_eq!(sim.exit_of("n2"), None);
}

/// Its own vote, which it has forgotten, does not count.
#[test]
fn a_lost_disk_waits_for_a_majority_of_members_that_remember() {
    let mut sim = running(1, &[]);
    sim.kill("n2");
    sim.kill("n3");
    sim.lose_disk("n2");
    sim.start("n2");
    sim.run(secs(30));
    assert_eq!(sim.ring("n1").unwrap().epoch, 1, "one of three decided");
    sim.start("n3");
    sim.settle(secs(30)).unwrap();
    assert_eq!(sim.ring("n1").unwrap().epoch, 2);
}

#[test]
fn a_node_that_recovers_is_pending_until_it_is_done() {
    let mut sim = running(1, &[]);
    let mut life = sim.take("n1");
    life.handle(Event::Recovering(7));
    assert_eq!(life.state(), NodeState::Pending);
    assert_eq!(life.waiting_for(), Some(Waiting::Recovery(7)));
    life.handle(Event::Recovering(0));
    assert_eq!(life.state(), NodeState::Ready);
}

#[test]
fn a_joiner_without_permission_waits_and_goes_once_it_has_it() {
    let mut sim = running(3, &["n4"]);
    sim.start_all(&["n4"]);
    sim.permit("n4", Permission::NONE);
    sim.run(secs(30));
    assert_eq!(sim.life("n4").state(), NodeState::New);
    assert_eq!(sim.life("n4").waiting_for(), Some(Waiting::Permission));
    sim.permit("n4", Permission::ALL);
    sim.settle(secs(30)).unwrap();
    assert_eq!(sim.joined.last(), Some(&id("n4")));
}

#[test]
fn the_first_by_name_founds_only_with_permission_and_the_others_need_none() {
    let names = &NAMES[..3];
    let mut sim = cluster(1, names, names, 3);
    sim.start_all(names);
    for name in names {
        sim.permit(name, Permission::NONE);
    }
    sim.run(secs(20));
    assert_eq!(sim.ring("n1"), None);
    assert_eq!(sim.life("n1").waiting_for(), Some(Waiting::Catalogue));
    let found = Permission {
        found: true,
        join: false,
    };
    sim.permit("n1", found);
    sim.settle(secs(20)).unwrap();
    assert_eq!(sim.ring("n3").unwrap().members.len(), 3);
}

/// Defects 20 and 21 of the seed at their root: what a catalogue says is no event of a member's
/// life.
#[test]
fn seed_defect_20_a_member_that_loses_every_permission_changes_nothing() {
    let mut sim = running(2, &[]);
    let before = sim.ring("n1");
    for name in &NAMES[..3] {
        sim.permit(name, Permission::NONE);
    }
    sim.kill("n2");
    sim.run(secs(60));
    sim.start_all(&["n2"]);
    sim.permit("n2", Permission::NONE);
    sim.settle(secs(20)).unwrap();
    assert_eq!(sim.ring("n2"), before);
}
