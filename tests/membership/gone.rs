//! Members that die while somebody joins or leaves: the change goes on, or says what it waits for.

use serde_json::{Value, json};

use super::support::keys::{are_there, store, store_these};
use super::support::{Cluster, eventually};
use super::{TIME, change, commit, members, operator, try_operator};

/// One dies as it is to pull partitions, in the middle of somebody else's leave.
#[test]
fn a_receiver_that_died_is_shown_counted_and_forgotten_and_the_change_goes_on() {
    let mut cluster = Cluster::start(5);
    let told = store(&cluster, 300);
    let plan = operator(&cluster, &["leave", "n2"]);
    cluster.nodes[2].kill();
    let epoch = plan["epoch"].to_string();
    operator(
        &cluster,
        &["commit", "--epoch", &epoch, "--without", "none"],
    );
    let rows = |shown: &Value| shown["transfers"].as_array().cloned().unwrap_or_default();
    eventually(TIME, "all but the dead one's transfers are done", || {
        let shown = operator(&cluster, &["transfers"]);
        let of = |step: &str| rows(&shown).iter().filter(|t| t["step"] == step).count();
        of("unknown") > 0 && of("unknown") + of("flipped") == rows(&shown).len()
    });
    let shown = operator(&cluster, &["transfers"]);
    assert_eq!(Value::from(rows(&shown).len()), shown["moving"], "{shown}");
    let unknown = rows(&shown).into_iter().find(|t| t["step"] == "unknown");
    let unknown = unknown.unwrap_or_default();
    assert_eq!(
        (&unknown["to"], &unknown["waiting_for"]),
        (&json!("n3"), &json!("n3 to answer"))
    );
    for more in [&[][..], &["--dry-run"]] {
        let (code, out, err) = try_operator(&cluster, &[&["cancel"], more].concat());
        assert_eq!(code, 1, "{out}{err}");
        let told = "some partitions are served by their new owners already";
        assert!(err.contains(told), "{err}");
    }
    eventually(TIME, "the status says whom the move waits for", || {
        cluster.nodes[0].status()["ring"]["waiting_for"] == json!(["n3"])
    });
    change(&cluster, &["forget", "n3", "--accept-data-loss"]);
    assert_eq!(members(&cluster), ["n1", "n4", "n5"]);
    assert!(cluster.nodes[1].wait_exit(TIME).success());
    are_there(&cluster, &told);
}

#[test]
fn a_change_gives_nothing_to_a_member_that_does_not_answer() {
    let mut cluster = Cluster::start(5);
    let told = store(&cluster, 300);
    let plan = operator(&cluster, &["leave", "n2"]);
    assert_eq!(plan["spared"], json!([]));
    cluster.nodes[2].kill();
    eventually(TIME, "it is known that n3 is away", || {
        operator(&cluster, &["plan"])["spared"] == json!(["n3"])
    });
    // That is another plan than the one that was shown, though the epoch is the same.
    let epoch = plan["epoch"].to_string();
    for more in [&[][..], &["--dry-run"]] {
        let commit = [&["commit", "--epoch", &epoch], more].concat();
        let (code, out, err) = try_operator(&cluster, &commit);
        assert_eq!(code, 1, "{out}{err}");
        for told in [
            "look at the plan again",
            "these do not answer and get nothing: n3",
        ] {
            assert!(err.contains(told), "{err}");
        }
    }
    let plan = operator(&cluster, &["plan"]);
    let gains = |name: &str| {
        let nodes = plan["nodes"].as_array().cloned().unwrap_or_default();
        let node = nodes.into_iter().find(|n| n["node"] == name);
        node.map_or(Value::Null, |n| n["gains"].clone())
    };
    assert_eq!((gains("n3"), &plan["waits_for"]), (json!(0), &json!([])));
    commit(&cluster, &plan, &["--wait"]);
    assert!(cluster.nodes[1].wait_exit(TIME).success());
    are_there(&cluster, &told);
    cluster.nodes[2].spawn();
    cluster.wait_ready();
    assert_eq!(members(&cluster), ["n1", "n3", "n4", "n5"]);
    are_there(&cluster, &told);
}

/// The one that leaves keeps something for a member that is dead, and everybody is killed in the
/// middle.
#[test]
fn a_leave_outlives_a_restart_of_all_and_leaves_its_hints_to_the_other_owners() {
    let mut cluster = Cluster::start(5);
    let mut told = store(&cluster, 300);
    cluster.nodes[2].kill();
    told.extend(store_these(&cluster, 300..400));
    eventually(TIME, "n2 keeps hints for n3", || {
        cluster.nodes[1].status()["hints"]["n3"]["count"].as_u64() > Some(0)
    });
    cluster.nodes[0].limit_transfers("1", "1");
    let plan = operator(&cluster, &["leave", "n2"]);
    let epoch = plan["epoch"].to_string();
    operator(&cluster, &["commit", "--epoch", &epoch, "--without", "n3"]);
    cluster.kill_all();
    for node in [0, 1, 3, 4] {
        cluster.nodes[node].spawn();
    }
    cluster.nodes[0].wait_ready(TIME);
    // What was limited is so no more.
    eventually(TIME, "the move ends without n3", || {
        members(&cluster) == ["n1", "n3", "n4", "n5"]
    });
    // Who goes waits for nobody: the other owners take what it keeps for n3.
    let status = cluster.nodes[1].wait_exit(TIME);
    let said = cluster.nodes[1].log_text();
    assert!(
        status.success() && said.contains("hints handed over"),
        "{said}"
    );
    cluster.nodes[2].spawn();
    cluster.wait_ready();
    are_there(&cluster, &told);
}
