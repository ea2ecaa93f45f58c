//! A real Consul, alone on free ports of 127.0.0.1, with nothing on the disk: stopped and started
//! again it has forgotten everything.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::tools::tool;
use super::{eventually, free_address};

/// How long Consul may take to elect itself on a busy machine.
const LEADER_TIME: Duration = Duration::from_mins(1);
/// May do everything where tokens are asked for.
pub const TOKEN: &str = "5ba9d4c8-3d3c-4f7e-9d39-2d8ab1a6f0b1";

/// The agent, and the server in it.
pub struct Consul {
    pub address: String,
    pub dns: String,
    name: String,
    ports: [String; 3],
    token: Option<&'static str>,
    dir: TempDir,
    child: Option<Child>,
}

impl Consul {
    pub fn start() -> Self {
        Self::start_with(None)
    }

    /// One that answers to nobody without [`TOKEN`].
    pub fn start_guarded() -> Self {
        Self::start_with(Some(TOKEN))
    }

    fn start_with(token: Option<&'static str>) -> Self {
        let address = free_address();
        let mut consul = Self {
            name: format!("test-{}", address.replace([':', '.'], "-")),
            address,
            dns: free_address(),
            ports: [free_address(), free_address(), free_address()],
            token,
            dir: tempfile::tempdir().expect("a temporary directory"),
            child: None,
        };
        consul.spawn();
        consul
    }

    /// Starts it, without memory, and waits until it has a leader.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "Consul runs already");
        let port = |address: &str| address.rsplit_once(':').map(|(_, p)| p.to_owned());
        let port = |address: &str| port(address).expect("an address with a port");
        let settings_file = self.dir.path().join("settings.json");
        let settings = serde_json::json!({"acl": {"enabled": self.token.is_some(),
            "default_policy": "deny", "tokens": {"master": TOKEN, "agent": TOKEN}},
            "dns_config": {"only_passing": true, "enable_truncate": true}});
        std::fs::write(&settings_file, settings.to_string()).expect("a configuration");
        let log = File::create(self.dir.path().join("consul.log")).expect("a log file");
        let mut command = Command::new(tool("consul"));
        command.args(["agent", "-dev", "-node", &self.name, "-bind", "127.0.0.1"]);
        command.args([
            "-http-port",
            &port(&self.address),
            "-dns-port",
            &port(&self.dns),
        ]);
        command.args(["-grpc-port", "-1", "-server-port", &port(&self.ports[0])]);
        command.args(["-serf-lan-port", &port(&self.ports[1])]);
        command.args(["-serf-wan-port", &port(&self.ports[2])]);
        command.arg("-config-file").arg(&settings_file);
        command
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .stdout(log);
        self.child = Some(command.spawn().expect("Consul's process"));
        eventually(LEADER_TIME, "Consul has a leader", || self.has_leader());
        let own = &self.get("/v1/agent/self")["Config"]["NodeName"];
        assert_eq!(
            own.as_str(),
            Some(self.name.as_str()),
            "somebody else's Consul"
        );
    }

    /// Ends it at once; with it goes all that it knew.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("SIGKILL");
            child.wait().expect("the end of Consul");
        }
    }

    fn has_leader(&self) -> bool {
        let leader = self.try_get("/v1/status/leader");
        let leads = leader.is_some_and(|leader| leader.as_str().is_some_and(|at| !at.is_empty()));
        // It can be asked things only a while later.
        leads && self.try_get("/v1/catalog/services").is_some()
    }

    pub fn get(&self, path: &str) -> Value {
        self.try_get(path)
            .unwrap_or_else(|| panic!("GET {path}: refused"))
    }

    pub fn try_get(&self, path: &str) -> Option<Value> {
        let request = ureq::get(format!("http://{}{path}", self.address));
        let request = request.header("x-consul-token", self.token.unwrap_or_default());
        let mut answer = request.call().ok()?;
        let text = answer.body_mut().read_to_string().ok()?;
        serde_json::from_str(&text).ok()
    }

    /// What it answers to a PUT.
    pub fn put(&self, path: &str, body: &Value) -> String {
        let answer = self.try_put(path, body);
        answer.unwrap_or_else(|error| panic!("PUT {path}: {error}"))
    }

    fn try_put(&self, path: &str, body: &Value) -> Result<String, ureq::Error> {
        let request = ureq::put(format!("http://{}{path}", self.address));
        let request = request.header("x-consul-token", self.token.unwrap_or_default());
        request.send(body.to_string())?.body_mut().read_to_string()
    }

    /// A token with these rights, once Consul makes any: what it is called, and what is shown.
    pub fn token(&self, rules: &str) -> (String, String) {
        let policy = serde_json::json!({"Name": "tested", "Rules": rules});
        eventually(LEADER_TIME, "Consul takes a policy", || {
            self.try_put("/v1/acl/policy", &policy).is_ok()
        });
        let token = serde_json::json!({"Policies": [{"Name": "tested"}]});
        let token = self.put("/v1/acl/token", &token);
        let token: Value = serde_json::from_str(&token).expect("JSON");
        let said = |field: &str| token[field].as_str().expect("a text").to_owned();
        (said("AccessorID"), said("SecretID"))
    }

    pub fn revoke(&self, token: &str) {
        let request = ureq::delete(format!("http://{}/v1/acl/token/{token}", self.address));
        let request = request.header("x-consul-token", TOKEN);
        request.call().expect("a token that goes");
    }

    /// The client addresses of the nodes that pass.
    pub fn passing(&self) -> Vec<String> {
        let entries = self.try_get("/v1/health/service/quorate?passing");
        let entries = entries
            .and_then(|entries| entries.as_array().cloned())
            .unwrap_or_default();
        let address = |entry: &Value| {
            let service = &entry["Service"];
            format!(
                "{}:{}",
                service["Address"].as_str().unwrap_or(""),
                service["Port"]
            )
        };
        let mut all: Vec<String> = entries.iter().map(address).collect();
        all.sort();
        all
    }
}

impl Drop for Consul {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // The test is over either way; there is nobody left to tell.
            drop(child.kill());
            drop(child.wait());
        }
    }
}
