//! Members leave, are replaced and forgotten, and changes go back, while nodes are killed and
//! letters lost. The simulation itself fails on two rings in one epoch, and on a partition whose
//! new owners have not pulled it.

use std::time::Duration;

use super::Sim;
use crate::dynamo::membership::fixture::{id, member};
use crate::dynamo::membership::lifecycle::Refusal;
use crate::dynamo::ring::{Change, Departure, Member, MemberChange};

const FOUNDERS: [&str; 4] = ["n1", "n2", "n3", "n4"];

fn light(name: &str) -> Member {
    Member {
        weight: 1,
        ..member(name)
    }
}

fn running(seed: u64) -> Sim {
    let mut sim = Sim::new(seed);
    for name in FOUNDERS {
        sim.add(light(name), &FOUNDERS, 4);
    }
    sim.start_all(&FOUNDERS);
    sim.settle(Duration::from_secs(20)).unwrap();
    sim
}

/// Time in which a node is killed and letters are lost.
fn trouble(sim: &mut Sim) {
    sim.loss = 20;
    for _ in 0..3 {
        let victim = FOUNDERS[sim.dice.below(FOUNDERS.len())];
        if sim.exit_of(victim).is_none() {
            sim.kill(victim);
        }
        let calm = Duration::from_millis(sim.dice.roll() % 3000);
        sim.run(calm);
        for name in FOUNDERS {
            if !sim.runs(name) {
                sim.start(name);
            }
        }
        sim.run(calm);
    }
    sim.loss = 0;
}

/// Two operators who want different things of different nodes go on asking until both are done.
#[test]
fn two_operators_changes_end_whatever_is_lost_and_killed() {
    for seed in 0..25 {
        let mut sim = running(seed);
        let leave = Change::Commit(vec![MemberChange::Leave(id("n2"))]);
        let weigh = |weight| {
            let node = id("n4");
            Change::Commit(vec![MemberChange::Weight { node, weight }])
        };
        sim.operate("n1", leave.clone());
        sim.operate("n3", weigh(5));
        trouble(&mut sim);
        for _ in 0..40 {
            sim.operate("n1", leave.clone());
            sim.operate("n3", weigh(5));
            sim.run(Duration::from_secs(2));
        }
        sim.settle(Duration::from_mins(1))
            .unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let ring = sim.ring("n1").unwrap();
        assert!(ring.member(&id("n2")).is_none(), "seed {seed}");
        assert_eq!(ring.member(&id("n4")).unwrap().weight, 5, "seed {seed}");
        let why = sim.exit_of("n2");
        let left = matches!(&why, Some(Refusal::Departed { how, .. }) if *how == Departure::Left);
        assert!(left, "seed {seed}: {why:?}");
    }
}

/// A node that was started to be staged replaces one that never comes back.
#[test]
fn a_dead_member_is_replaced_by_a_staged_node() {
    for seed in 0..10 {
        let mut sim = running(seed);
        sim.add_staged(light("n5"), &FOUNDERS);
        sim.start("n5");
        sim.run(Duration::from_secs(20));
        let ring = sim.ring("n1").unwrap();
        let joins = [MemberChange::Join(light("n5"))];
        assert_eq!(ring.affairs.staged, joins, "seed {seed}");
        assert!(ring.member(&id("n5")).is_none(), "seed {seed}");
        sim.kill("n3");
        let new = light("n5");
        let replace = MemberChange::Replace { old: id("n3"), new };
        for _ in 0..5 {
            sim.operate("n1", Change::Commit(vec![replace.clone()]));
            sim.run(Duration::from_secs(4));
        }
        sim.settle(Duration::from_mins(1))
            .unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let ring = sim.ring("n5").unwrap();
        assert!(ring.member(&id("n5")).is_some() && ring.affairs.staged.is_empty());
        sim.start("n3");
        sim.run(Duration::from_secs(15));
        assert!(
            sim.exit_of("n3").is_some(),
            "seed {seed}: it is no member any more"
        );
    }
}

/// A joiner that dies in the middle of its move does not hold up the others for ever.
#[test]
fn a_change_whose_joiner_has_died_is_cancelled_and_the_joiner_turned_away() {
    for seed in 0..10 {
        let mut sim = running(seed);
        sim.add(light("n5"), &FOUNDERS, 4);
        sim.start("n5");
        let end = sim.now + Duration::from_secs(30);
        while !sim.ring("n1").unwrap().is_moving() && sim.now < end {
            sim.run(Duration::from_millis(100));
        }
        sim.kill("n5");
        assert!(sim.ring("n1").unwrap().is_moving(), "seed {seed}");
        for _ in 0..5 {
            sim.operate("n2", Change::Cancel);
            sim.run(Duration::from_secs(4));
        }
        sim.settle(Duration::from_mins(1))
            .unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        assert!(sim.ring("n1").unwrap().member(&id("n5")).is_none());
    }
}

/// A member that is to gain by another's leave dies for good, at any step and with letters lost: once
/// an operator forgets it, the leave ends all the same.
#[test]
fn a_leave_whose_receiver_has_died_goes_on_without_it() {
    for seed in 0..20 {
        let mut sim = running(seed);
        sim.add(light("n5"), &FOUNDERS, 4);
        sim.start("n5");
        sim.settle(Duration::from_mins(1)).unwrap();
        let leave = Change::Commit(vec![MemberChange::Leave(id("n2"))]);
        let forget = Change::Commit(vec![MemberChange::Forget(id("n3"))]);
        sim.operate("n1", leave.clone());
        sim.loss = 20;
        let calm = Duration::from_millis(sim.dice.roll() % 1500);
        sim.run(calm);
        sim.kill("n3");
        let calm = Duration::from_millis(sim.dice.roll() % 3000);
        sim.run(calm);
        sim.loss = 0;
        for _ in 0..10 {
            sim.operate("n1", leave.clone());
            sim.operate("n4", forget.clone());
            sim.run(Duration::from_secs(2));
        }
        sim.settle(Duration::from_mins(1))
            .unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let ring = sim.ring("n5").unwrap();
        let names: Vec<&str> = ring.members.iter().map(|m| m.id.as_str()).collect();
        assert_eq!(names, ["n1", "n4", "n5"], "seed {seed}");
        let how = |name: &str| {
            let gone = ring.affairs.departed.iter().find(|d| d.id == id(name));
            gone.map(|gone| gone.how)
        };
        assert_eq!(how("n2"), Some(Departure::Left), "seed {seed}");
        assert_eq!(how("n3"), Some(Departure::Forgotten), "seed {seed}");
    }
}
