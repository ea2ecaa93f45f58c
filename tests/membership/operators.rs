//! Two operators at once.

use serde_json::{Value, json};

use super::support::{Cluster, eventually};
use super::{TIME, commit, operator, owned_by};

/// They commit the same epoch, and do not want the same of it: one is heard, the other is told what
/// is so now.
#[test]
fn of_two_operators_who_commit_at_once_one_gets_the_epoch() {
    let cluster = Cluster::start(4);
    let plan = operator(&cluster, &["weight", "n3", "2"]);
    let epoch = plan["epoch"].to_string();
    let commit = |place: usize, without: &str| {
        let args = ["cluster", "commit", "--epoch", &epoch, "--without", without];
        let node = cluster.nodes.get(place).expect("a node");
        node.command_line(&[&args[..], &["-o", "json"]].concat())
    };
    let both = std::thread::scope(|scope| {
        let one = scope.spawn(|| commit(0, "none"));
        let other = scope.spawn(|| commit(1, "n4"));
        [one, other].map(|operator| operator.join().expect("an operator"))
    });
    let is_heard = |out: &str| {
        let made: Option<Value> = serde_json::from_str(out).ok();
        made.is_some_and(|made| made["changed"] == true)
    };
    let heard = both.iter().filter(|(_, out, _)| is_heard(out)).count();
    // None, if the one finished what the other had begun: then both are told to look again, and the
    // change is made all the same, as is seen below.
    assert!(heard <= 1, "{both:?}");
    for (code, out, err) in both.iter().filter(|(_, out, _)| !is_heard(out)) {
        // If the other's ring had come by then, the epoch was made already.
        let late = *code == 0 && out.contains("\"changed\":false");
        let told = *code == 1 && err.contains("look at the plan again");
        let shown = err.contains("nothing is staged") || err.contains("weight n3 2");
        let agreed_on_none = err.contains("not_agreed");
        assert!(late || told && shown || agreed_on_none, "{both:?}");
    }
    eventually(TIME, "all have one ring", || {
        let rings = cluster
            .nodes
            .iter()
            .map(|node| node.status()["ring"].take());
        let rings: Vec<Value> = rings.collect();
        let same = rings.windows(2).all(|two| two[0]["hash"] == two[1]["hash"]);
        let made = |ring: &Value| ring["moving"] == 0 && ring["staged"] == json!([]);
        same && rings.iter().all(made)
    });
    let weights: Vec<Value> = cluster.nodes[0].status()["members"]
        .as_array()
        .map(|members| members.iter().map(|m| m["weight"].clone()).collect())
        .unwrap_or_default();
    assert_eq!(weights, [json!(1), json!(1), json!(2), json!(1)]);
}

/// The move that the first has begun gives something to the member that the second wants spared.
#[test]
fn an_operator_who_is_late_is_told_if_the_commit_was_another_one() {
    let cluster = Cluster::start(4);
    let limited = operator(&cluster, &["limit", "transfers", "1", "1"]);
    let mut told: Vec<String> = limited["limited"]
        .as_array()
        .map(|nodes| nodes.iter().map(ToString::to_string).collect())
        .unwrap_or_default();
    told.sort();
    assert_eq!(
        told,
        ["n1", "n2", "n3", "n4"].map(|name| json!(name).to_string())
    );
    assert_eq!(limited["silent"], json!([]));
    for node in &cluster.nodes {
        let limits = &node.status()["background"]["transfers"];
        assert_eq!(limits["limit_bytes_s"], 1, "{}: {limits}", node.name);
    }
    let plan = operator(&cluster, &["weight", "n3", "2"]);
    let epoch = plan["epoch"].to_string();
    let commit = |without: &str| {
        let args = ["cluster", "commit", "--epoch", &epoch, "--without", without];
        cluster.nodes[0].command_line(&[&args[..], &["-o", "json"]].concat())
    };
    let (code, out, err) = commit("none");
    assert!(code == 0 && out.contains("\"changed\":true"), "{out}{err}");
    let (code, out, err) = commit("none");
    assert!(code == 0 && out.contains("\"changed\":false"), "{out}{err}");
    let (code, out, err) = commit("n3");
    assert!(
        code == 1 && err.contains("look at the plan again"),
        "{out}{err}"
    );
    operator(&cluster, &["cancel", "--force", "--wait"]);
}

/// Of four, with three replicas of everything: one of each is to be there.
pub(super) fn a_member_is_given_a_zone_of_its_own(cluster: &Cluster) {
    let held = owned_by(cluster, "n1").len();
    let plan = operator(cluster, &["zone", "n1", "cellar"]);
    assert_eq!(plan["staged"], json!(["zone n1 cellar"]));
    assert_eq!(plan["zones_violated"], json!([]));
    let nodes = plan["nodes"].as_array().cloned().unwrap_or_default();
    let gains = nodes.iter().find(|node| node["node"] == "n1");
    assert_eq!(gains.map(|node| &node["gains"]), Some(&json!(256 - held)));
    commit(cluster, &plan, &["--wait"]);
    assert_eq!(owned_by(cluster, "n1").len(), 256);
    let members = cluster.nodes[1].status()["members"].as_array().cloned();
    let zones = members.iter().flatten().map(|m| m["zone"].clone());
    assert_eq!(zones.filter(|zone| zone == "cellar").count(), 1);
    let again = operator(cluster, &["zone", "n1", "cellar"]);
    assert_eq!(again["changed"], false);
}
