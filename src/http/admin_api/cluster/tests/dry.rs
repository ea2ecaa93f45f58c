//! Dry runs: they tell what would be, are refused where it would be, and do nothing.

use serde_json::{Value, json};

use super::again::{Four, NOWHERE};
use super::{contract, fields};
use crate::actors::fake_node::member;
use crate::actors::ring_view::tests::id;
use crate::dynamo::ring::{Change, MemberChange};

impl Four {
    /// What would come of it.
    async fn try_out(&self, path: &str, body: &Value, schema: &str) -> Value {
        let before = self.ring();
        let (status, said) = self.post(path, body).await;
        assert_eq!(status, 200, "{path} {body}: {said}");
        assert_eq!(self.ring(), before, "{path} {body}");
        assert_eq!(said["dry_run"], true, "{path} {body}: {said}");
        let contract = contract();
        let known = fields(&contract["components"]["schemas"][schema]["properties"]);
        assert!(fields(&said).is_subset(&known), "{path} {body}: {said}");
        said
    }
}

#[actix::test]
async fn a_dry_run_tells_what_would_change_and_is_refused_where_it_would_be() {
    let four = Four::start().await;
    let rows: [(&str, Value, Result<bool, &str>); 12] = [
        ("plan", json!({"change": "leave", "node": "b"}), Ok(true)),
        (
            "plan",
            json!({"change": "leave", "node": "nobody"}),
            Err("change_refused"),
        ),
        (
            "plan",
            json!({"change": "replace", "old": "b", "new": "d"}),
            Err("not_staged"),
        ),
        (
            "plan",
            json!({"change": "weight", "node": "b", "weight": 1}),
            Ok(false),
        ),
        ("down", json!({"node": "b"}), Ok(true)),
        ("up", json!({"node": "b"}), Ok(false)),
        ("down", json!({"node": "nobody"}), Err("change_refused")),
        ("revert", json!({"node": "b"}), Ok(false)),
        ("cancel", json!({}), Ok(false)),
        ("commit", json!({"epoch": 5}), Ok(false)),
        ("commit", json!({"epoch": 4}), Err("ring_changed")),
        ("commit", json!({"epoch": u64::MAX}), Err("ring_changed")),
    ];
    for (verb, mut body, expected) in rows {
        let path = format!("/cluster/{verb}");
        let schema = match verb {
            "down" | "up" | "cancel" => "Made",
            _ => "Plan",
        };
        if verb != "plan" {
            body["dry_run"] = json!(true);
        }
        match expected {
            Ok(changes) => {
                let said = four.try_out(&path, &body, schema).await;
                assert_eq!(said["changed"], changes, "{path} {body}");
            }
            Err(code) => assert_eq!(four.refusal(&path, &body).await, code, "{path} {body}"),
        }
    }
}

#[actix::test]
async fn a_dry_run_shows_what_would_be_staged_made_and_gone_back_from() {
    let four = Four::start().await;
    for change in [
        json!({"change": "leave", "node": "b"}),
        json!({"change": "weight", "node": "c", "weight": 2}),
    ] {
        let (status, said) = four.post("/cluster/stage", &change).await;
        assert_eq!(status, 200, "{said}");
    }
    let dry_run = true;
    let revert = json!({"node": "c", "dry_run": dry_run});
    let said = four.try_out("/cluster/revert", &revert, "Plan").await;
    assert_eq!(
        (&said["staged"], &said["changed"]),
        (&json!(["leave b"]), &json!(true))
    );
    let epoch = four.ring().epoch;
    let commit = json!({"epoch": epoch, "dry_run": dry_run});
    let said = four.try_out("/cluster/commit", &commit, "Plan").await;
    assert_eq!(said["staged"], json!(["leave b", "weight c 2"]));
    assert!(said["moving"].as_u64() > Some(0), "{said}");

    four.api.node.health.of(&id("e")).failed();
    for dry_run in [true, false] {
        let commit = json!({"epoch": epoch, "dry_run": dry_run});
        let refusal = four.refusal("/cluster/commit", &commit).await;
        assert_eq!(
            refusal, "plan_changed",
            "nobody was spared when it was shown"
        );
    }
    let commit = json!({"epoch": epoch, "without": ["e"], "dry_run": dry_run});
    let said = four.try_out("/cluster/commit", &commit, "Plan").await;
    assert_eq!(said["spared"], json!(["e"]), "{said}");
    let commit = json!({"epoch": epoch, "without": []});
    let (status, said) = four.post("/cluster/commit", &commit).await;
    assert_eq!((status, &said["changed"]), (200, &json!(true)), "{said}");

    let commit = json!({"epoch": epoch, "without": [], "dry_run": dry_run});
    let said = four.try_out("/cluster/commit", &commit, "Plan").await;
    assert_eq!(said["changed"], false, "it is under way");
    let cancel = json!({"dry_run": dry_run});
    let said = four.try_out("/cluster/cancel", &cancel, "Made").await;
    assert_eq!(
        (&said["changed"], &said["moving"]),
        (&json!(true), &json!(0))
    );
    let down = json!({"node": "b", "dry_run": dry_run});
    let said = four.try_out("/cluster/down", &down, "Made").await;
    assert_eq!(said["moving"], four.ring().moving());
}

#[actix::test]
async fn limits_name_who_was_told_and_who_did_not_answer() {
    let four = Four::start().await;
    for dry_run in [true, false] {
        let limits = json!({"at_once": 2, "bytes_s": 1_000_000, "dry_run": dry_run});
        let (status, mut said) = four.put("/cluster/transfers", &limits).await;
        assert_eq!(status, 200, "{said}");
        let limited = said["limited"].as_array_mut().unwrap();
        limited.sort_by_key(ToString::to_string);
        let mut expected = json!({
            "at_once": 2,
            "bytes_s": 1_000_000,
            "limited": ["a", "c", "e"],
            "silent": ["b"],
        });
        if dry_run {
            expected["dry_run"] = json!(true);
        }
        assert_eq!(said, expected);
    }
    for limits in [
        json!({"at_once": 0}),
        json!({"bytes_s": 0, "dry_run": true}),
    ] {
        let (status, said) = four.put("/cluster/transfers", &limits).await;
        assert_eq!(
            (status, &said["code"]),
            (400, &json!("field_invalid")),
            "{limits}"
        );
    }
}

/// Who takes another's place owns what that one did, whatever the zones; all other changes share out
/// anew.
#[actix::test]
async fn a_plan_names_the_partitions_with_fewer_zones_than_there_could_be() {
    let four = Four::start().await;
    let mut ring = four.ring();
    ring.epoch += 1;
    for member in ring.members.iter_mut().filter(|m| m.id == id("e")) {
        member.zone = "y".to_owned();
    }
    four.install(ring).await;
    let comes = MemberChange::Join(member("d", NOWHERE));
    four.change(&Change::Stage(comes)).await;
    let replace = json!({"change": "replace", "old": "b", "new": "d"});
    let said = four.try_out("/cluster/plan", &replace, "Plan").await;
    assert_eq!(said["staged"], json!(["replace b d"]));
    assert_eq!(said["zones_violated"], json!((0..256).collect::<Vec<_>>()));
    let zone = json!({"change": "zone", "node": "c", "zone": "x"});
    let said = four.try_out("/cluster/plan", &zone, "Plan").await;
    assert_eq!(said["staged"], json!(["join d", "zone c x"]));
    assert_eq!(said["zones_violated"], json!([]));
}
