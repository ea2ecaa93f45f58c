//! Operations, counted where they are asked for.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::{Answer, Client, Node};

/// What was done.
#[derive(Default)]
pub(crate) struct Ledger {
    client: Option<Client>,
    /// How often each node did each action.
    pub(crate) actions: BTreeMap<(String, String), u64>,
    /// How often each action ended with each result.
    pub(crate) results: BTreeMap<(String, String), u64>,
    pub(crate) outcomes: BTreeMap<String, u64>,
    /// How often a key had none, one, or several values.
    pub(crate) siblings: BTreeMap<String, u64>,
    /// Codes of requests that never became operations.
    pub(crate) refused: BTreeMap<String, u64>,
}

impl Ledger {
    fn client(&mut self) -> Client {
        self.client.get_or_insert_with(Client::new).clone()
    }

    fn note(&mut self, node: &Node, action: &str, result: &str, siblings: Option<u64>) {
        let is_done = result == "ok" || (action, result) == ("get", "not_found");
        let outcome = if is_done { "success" } else { "failure" };
        self.note_outcome(node, action, result, outcome);
        let group = siblings.map(|n| match n {
            0 => "none",
            1 => "one",
            2..25 => "2 to 24",
            _ => "25 and more",
        });
        if let Some(group) = group {
            *self.siblings.entry(group.to_owned()).or_default() += 1;
        }
    }

    fn note_outcome(&mut self, node: &Node, action: &str, result: &str, outcome: &str) {
        let add = |map: &mut BTreeMap<_, u64>, key| *map.entry(key).or_default() += 1;
        add(&mut self.actions, (node.name.clone(), action.to_owned()));
        add(&mut self.results, (result.to_owned(), action.to_owned()));
        *self.outcomes.entry(outcome.to_owned()).or_default() += 1;
    }

    fn refuse(&mut self, answer: &Answer) {
        assert_eq!(answer.status, 400, "{answer:?}");
        let code = answer.json()["code"].as_str().expect("a code").to_owned();
        *self.refused.entry(code).or_default() += 1;
    }

    /// Creates a key, and gives the clock.
    pub(crate) fn set(&mut self, node: &Node, key: &str) -> String {
        let answer = self.client().post(&node.url(key), &json!("x"));
        assert_eq!(answer.status, 201, "{answer:?}");
        self.note(node, "set", "ok", Some(1));
        answer.clock()
    }

    pub(crate) fn set_again(&mut self, node: &Node, key: &str) {
        let answer = self.client().post(&node.url(key), &json!("x"));
        assert_eq!(answer.status, 409, "{answer:?}");
        self.note(node, "set", "already_exists", None);
    }

    pub(crate) fn update(&mut self, node: &Node, key: &str, value: &Value, clock: &str) -> String {
        let answer = self.client().put(&node.url(key), value, clock);
        assert_eq!(answer.status, 200, "{answer:?}");
        self.note(node, "update", "ok", answer.json()["siblings"].as_u64());
        answer.clock()
    }

    pub(crate) fn get(&mut self, node: &Node, key: &str, values: u64) {
        let answer = self.client().get(&node.url(key));
        let found = u64::try_from(answer.values().len()).expect("a few");
        assert_eq!(found, values, "{answer:?}");
        let result = if values == 0 { "not_found" } else { "ok" };
        self.note(node, "get", result, Some(values));
    }

    pub(crate) fn delete(&mut self, node: &Node, key: &str) {
        let answer = self.client().delete(&node.url(key));
        assert_eq!(answer.status, 200, "{answer:?}");
        self.note(node, "delete", "ok", Some(0));
    }

    pub(crate) fn delete_nothing(&mut self, node: &Node, key: &str) {
        let answer = self.client().delete(&node.url(key));
        assert_eq!(answer.status, 404, "{answer:?}");
        self.note(node, "delete", "not_found", None);
    }

    pub(crate) fn ask_nonsense(&mut self, node: &Node) {
        let client = self.client();
        self.refuse(&client.get(&node.url("k?quorum=many")));
        self.refuse(&client.put(&node.url("k"), &json!(1), "no-clock"));
    }

    /// An update that the node has on its own disk, and nobody else.
    pub(crate) fn update_alone(&mut self, node: &Node, key: &str, clock: &str) {
        let answer = self.client().put(&node.url(key), &json!("alone"), clock);
        let told = answer.json();
        let shown = (answer.status, &told["code"], &told["outcome"]);
        let expected = (503, &json!("quorum_not_met"), &json!("unknown"));
        assert_eq!(shown, expected, "{answer:?}");
        self.note_outcome(node, "update", "quorum_not_met", "unknown");
    }

    /// What a run of `docker/smoke.sh` asks of a node.
    pub(crate) fn smoke(&mut self, node: &Node) {
        for _ in 0..25 {
            self.note(node, "set", "ok", Some(1));
            self.note(node, "update", "ok", Some(1));
            self.note(node, "get", "ok", Some(1));
            self.note(node, "delete", "ok", Some(0));
        }
        let code = "parameter_invalid".to_owned();
        *self.refused.entry(code).or_default() += 1;
    }

    /// Some of everything, a different number of times on each node.
    pub(crate) fn fill(&mut self, nodes: &[Node]) {
        for (number, node) in nodes.iter().enumerate() {
            let key = |n: usize| format!("{}-{n}", node.name);
            let clocks: Vec<String> = (0..8 + number).map(|n| self.set(node, &key(n))).collect();
            for (n, clock) in clocks.iter().enumerate().take(2 + 2 * number) {
                self.update(node, &key(n), &json!(n), clock);
            }
            let next = &nodes[(number + 1) % nodes.len()];
            (0..7 - number).for_each(|n| self.get(next, &key(n), 1));
            let clash = &clocks[7];
            self.update(node, &key(7), &json!("one"), clash);
            self.update(next, &key(7), &json!("other"), clash);
            self.get(node, &key(7), 2);
            (0..=number).for_each(|n| self.delete(next, &key(n)));
            self.get(node, &key(0), 0);
            self.delete_nothing(node, "nothing-there");
            self.set_again(next, &key(7));
            self.ask_nonsense(node);
        }
    }

    /// The sum over the second half of the keys.
    pub(crate) fn by_action(&self) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::new();
        for ((_, action), count) in &self.actions {
            *sums.entry(action.clone()).or_default() += count;
        }
        sums
    }

    /// The sum over all actions.
    pub(crate) fn by_node(&self) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::new();
        for ((node, _), count) in &self.actions {
            *sums.entry(node.clone()).or_default() += count;
        }
        sums
    }
}
