//! Verbs that are said again: before what they want is made, while it is, and afterwards.

use actix_web::dev::ServerHandle;
use actix_web::test::{TestRequest, call_service, init_service, read_body_json};
use serde_json::{Value, json};

use crate::actors::fake_node::{FakeNode, member, ring_of, socket};
use crate::dynamo::ring::{Change, Member, MemberChange, Ring, plan};
use crate::http::admin_api::tests::api_of;
use crate::http::admin_api::{AdminApi, app};

/// Where nobody listens.
pub(super) const NOWHERE: &str = "127.0.0.1:1";

/// A ring of four, of which e owns nothing yet, and any change so moves something. Three of them
/// vote; b does not answer.
pub(super) struct Four {
    nodes: Vec<FakeNode>,
    pub(super) api: AdminApi,
    _servers: Vec<ServerHandle>,
}

impl Four {
    pub(super) async fn start() -> Self {
        let (c, c_at) = socket();
        let (e, e_at) = socket();
        let members = [("a", NOWHERE), ("b", NOWHERE), ("c", &*c_at), ("e", &*e_at)];
        let nodes = Vec::from(["a", "c", "e"].map(FakeNode::new));
        let others = nodes.iter().skip(1).zip([c, e]);
        let servers = others.map(|(node, socket)| node.serve(socket)).collect();
        let api = api_of(nodes.first().unwrap(), None);
        let four = Self {
            nodes,
            api,
            _servers: servers,
        };
        four.install(ring_of(&members, &["a", "b", "c"], None))
            .await;
        four
    }

    pub(super) async fn install(&self, ring: Ring) {
        for node in &self.nodes {
            node.install(ring.clone()).await;
        }
    }

    pub(super) fn ring(&self) -> Ring {
        let view = self.api.node.view();
        view.ring.as_deref().cloned().unwrap()
    }

    /// Has it agreed elsewhere.
    pub(super) async fn change(&self, change: &Change) {
        let next = plan(Some(&self.ring()), change).unwrap();
        self.install(next).await;
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.send(TestRequest::post(), path, body).await
    }

    pub(super) async fn put(&self, path: &str, body: &Value) -> (u16, Value) {
        self.send(TestRequest::put(), path, body).await
    }

    async fn send(&self, request: TestRequest, path: &str, body: &Value) -> (u16, Value) {
        let app = init_service(app(self.api.clone())).await;
        let request = request.uri(path).set_json(body);
        let answer = call_service(&app, request.to_request()).await;
        (answer.status().as_u16(), read_body_json(answer).await)
    }

    /// Whether it changed anything.
    async fn changes(&self, path: &str, body: &Value) -> bool {
        let before = self.ring().epoch;
        let (status, said) = self.post(path, body).await;
        assert_eq!(status, 200, "{path} {body}: {said}");
        let changed = said["changed"] == true;
        let epoch = before + u64::from(changed);
        assert_eq!(
            (&said["epoch"], self.ring().epoch),
            (&json!(epoch), epoch),
            "{path} {body}"
        );
        changed
    }

    /// The code of the refusal.
    pub(super) async fn refusal(&self, path: &str, body: &Value) -> String {
        let before = self.ring().epoch;
        let (status, said) = self.post(path, body).await;
        assert_eq!(
            (status, self.ring().epoch),
            (409, before),
            "{path} {body}: {said}"
        );
        said["code"].as_str().unwrap_or_default().to_owned()
    }
}

fn replaced(b: &str) -> Value {
    json!({"change": "replace", "old": b, "new": "d"})
}

#[actix::test]
async fn a_change_that_is_asked_for_again_is_so_already() {
    let rows = [
        json!({"change": "leave", "node": "b"}),
        replaced("b"),
        json!({"change": "forget", "node": "b", "accept_data_loss": true}),
        json!({"change": "weight", "node": "b", "weight": 2}),
        json!({"change": "zone", "node": "b", "zone": "y"}),
    ];
    for change in rows {
        let four = Four::start().await;
        let comes = MemberChange::Join(member("d", NOWHERE));
        four.change(&Change::Stage(comes)).await;
        let stage = || four.changes("/cluster/stage", &change);
        assert!(stage().await, "{change}");
        assert!(!stage().await, "staged: {change}");
        let commit = json!({"epoch": four.ring().epoch, "without": []});
        let made = || four.changes("/cluster/commit", &commit);
        assert!(made().await, "{change}");
        assert!(four.ring().is_moving(), "{change}");
        assert!(!made().await, "under way: {change}");
        assert!(!stage().await, "under way: {change}");
        four.change(&Change::Retire).await;
        assert!(!stage().await, "made: {change}");
        // The ring does not remember which of its epochs were commits.
        assert_eq!(
            four.refusal("/cluster/commit", &commit).await,
            "ring_changed"
        );
        let now = json!({"epoch": four.ring().epoch});
        assert!(!four.changes("/cluster/commit", &now).await, "{change}");
    }
}

/// It went one way, and the other is asked for; or its name came back, and is to go again.
#[actix::test]
async fn what_is_another_wish_is_not_so_already() {
    let leave = json!({"change": "leave", "node": "b"});
    let forget = json!({"change": "forget", "node": "b", "accept_data_loss": true});
    let four = Four::start().await;
    assert!(four.changes("/cluster/stage", &leave).await);
    let commit = json!({"epoch": four.ring().epoch, "without": []});
    assert!(four.changes("/cluster/commit", &commit).await);
    for other in [replaced("b"), replaced("c"), replaced("nobody")] {
        let refusal = four.refusal("/cluster/stage", &other).await;
        assert_eq!(refusal, "not_staged", "{other}");
    }
    four.change(&Change::Retire).await;
    assert_eq!(
        four.refusal("/cluster/stage", &forget).await,
        "change_refused"
    );
    assert!(!four.changes("/cluster/stage", &leave).await);
    let back = Member {
        data_id: 7,
        ..member("b", NOWHERE)
    };
    four.change(&Change::Stage(MemberChange::Join(back.clone())))
        .await;
    assert_eq!(
        four.refusal("/cluster/stage", &leave).await,
        "change_refused",
        "it is about to come"
    );
    four.change(&Change::Join(back)).await;
    four.change(&Change::Retire).await;
    assert!(four.changes("/cluster/stage", &leave).await);
}

/// Who was a member before takes nobody's place.
#[actix::test]
async fn a_member_of_before_is_not_who_replaced_another() {
    let four = Four::start().await;
    let comes = MemberChange::Join(member("d", NOWHERE));
    four.change(&Change::Stage(comes)).await;
    assert!(four.changes("/cluster/stage", &replaced("b")).await);
    let commit = json!({"epoch": four.ring().epoch, "without": []});
    assert!(four.changes("/cluster/commit", &commit).await);
    let by_c = json!({"change": "replace", "old": "b", "new": "c"});
    assert_eq!(
        four.refusal("/cluster/stage", &by_c).await,
        "change_refused"
    );
}

#[actix::test]
async fn what_moves_nothing_is_done_once() {
    let four = Four::start().await;
    let b = json!({"node": "b"});
    let weight = json!({"change": "weight", "node": "b", "weight": 2});
    let rows = [
        ("/cluster/down", &b, true),
        ("/cluster/down", &b, false),
        ("/cluster/up", &b, true),
        ("/cluster/up", &b, false),
        ("/cluster/revert", &b, false),
        ("/cluster/stage", &weight, true),
        ("/cluster/revert", &b, true),
        ("/cluster/revert", &json!({}), false),
        ("/cluster/cancel", &json!({}), false),
        ("/cluster/stage", &weight, true),
    ];
    for (path, body, changes) in rows {
        assert_eq!(four.changes(path, body).await, changes, "{path} {body}");
    }
    let commit = json!({"epoch": four.ring().epoch, "without": []});
    assert!(four.changes("/cluster/commit", &commit).await);
    for changes in [true, false] {
        assert_eq!(four.changes("/cluster/cancel", &json!({})).await, changes);
    }
    assert!(!four.ring().is_moving());
}
