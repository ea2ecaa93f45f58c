//! How nodes greet each other and found a cluster: the serde side of the lifecycle.

use serde::{Deserialize, Serialize};

use super::mirror::mirrored;
use super::peer::{PROTOCOL_MINOR, SPARES};
use crate::dynamo::membership::boots::Boot;
use crate::dynamo::membership::lifecycle::{
    FoundRefusal, Founding, Hello, NodeState, Refusal, RingStamp,
};
use crate::dynamo::node_id::NodeId;
use crate::dynamo::ring::{ClusterId, Departure, Member};

mirrored!(Boot, BootDef);
mirrored!(NodeState, NodeStateDef);
mirrored!(RingStamp, RingStampDef);
mirrored!(Founding, FoundingDef);
mirrored!(FoundRefusal, FoundRefusalDef);
mirrored!(Hello, HelloDef);
mirrored!(Refusal, RefusalDef);
mirrored!(Departure, DepartureDef);

#[derive(Serialize, Deserialize)]
#[serde(remote = "Boot")]
struct BootDef {
    number: u64,
    life: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "NodeState", rename_all = "UPPERCASE")]
enum NodeStateDef {
    New,
    Pending,
    Ready,
    Leaving,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "RingStamp")]
struct RingStampDef {
    cluster: ClusterId,
    epoch: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Founding")]
struct FoundingDef {
    founder: NodeId,
    attempt: u64,
    cluster: ClusterId,
    replicas: usize,
    members: Vec<Member>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "FoundRefusal", rename_all = "snake_case")]
enum FoundRefusalDef {
    RingExists,
    Promised(Box<Founding>),
    NotNamed,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Hello")]
struct HelloDef {
    from: Member,
    state: NodeState,
    ring: Option<RingStamp>,
    founding: Option<Founding>,
    pulled: Option<u64>,
    news: Vec<Member>,
    #[serde(default)]
    fresh: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Refusal", rename_all = "snake_case")]
enum RefusalDef {
    NameTaken {
        name: NodeId,
        holder: String,
    },
    NameContested {
        name: NodeId,
        holder: String,
    },
    OtherCluster {
        at: String,
        cluster: ClusterId,
    },
    Departed {
        name: NodeId,
        how: Departure,
        epoch: u64,
    },
    NotEmpty {
        name: NodeId,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Departure", rename_all = "snake_case")]
enum DepartureDef {
    Left,
    Replaced,
    Forgotten,
}

/// What program a node runs, and what that understands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Its version.
    pub version: String,
    /// The minor version of its peer protocol.
    #[serde(default)]
    pub minor: u32,
    /// What it understands that not all of its minor version or below do, by name.
    #[serde(default)]
    pub capabilities: Vec<String>,
}

impl Program {
    /// This one.
    #[must_use]
    pub fn own() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            minor: PROTOCOL_MINOR,
            capabilities: vec![SPARES.to_owned()],
        }
    }

    /// Whether it has a capability.
    #[must_use]
    pub fn can(&self, capability: &str) -> bool {
        self.capabilities.iter().any(|known| known == capability)
    }
}

/// A greeting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloCall {
    /// Who greets.
    pub hello: Hello,
    /// Which of its starts it lives.
    pub boot: Boot,
    /// What it runs; the first minor version does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<Program>,
}

/// The answer to a greeting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HelloReply {
    /// Who answers.
    Hello {
        /// What it says of itself.
        hello: Box<Hello>,
        /// The greeter has once been further: a start with this number was seen, and not this one.
        rolled_back: Option<u64>,
        /// What it runs; the first minor version does not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        program: Option<Program>,
    },
    /// Why it does not.
    Refused(Refusal),
}

/// The answer to a founder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FoundReply {
    /// The node takes part in this founding, and in no other.
    Promised,
    /// It does not.
    Refused(FoundRefusal),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dynamo::ring::Addresses;
    use crate::wire::state::tests::golden;

    fn member(name: &str, data_id: u64) -> Member {
        let at = |port: u16| format!("{name}.example:{port}");
        Member {
            id: NodeId::new(name).unwrap(),
            data_id,
            zone: "z".into(),
            weight: 1,
            addresses: Addresses {
                client: at(8080),
                admin: at(8081),
                peer: at(8082),
            },
        }
    }

    fn hello() -> Hello {
        Hello {
            from: member("b", 2),
            state: NodeState::Ready,
            ring: Some(RingStamp {
                cluster: ClusterId(1),
                epoch: 5,
            }),
            founding: None,
            pulled: Some(5),
            news: vec![member("c", 0x0102_0304_0506_0708)],
            fresh: false,
        }
    }

    fn call(program: Option<Program>) -> HelloCall {
        let boot = Boot {
            number: 3,
            life: 0x8000_0000_0000_0001,
        };
        HelloCall {
            hello: hello(),
            boot,
            program,
        }
    }

    /// As nodes wrote them before they told each other what they run.
    #[test]
    fn greetings_of_the_first_minor_version_are_still_read_and_written() {
        let bytes = golden(include_str!("../../tests/golden/hello-call-v1.hex"));
        assert_eq!(
            rmp_serde::from_slice::<HelloCall>(&bytes).unwrap(),
            call(None)
        );
        assert_eq!(rmp_serde::to_vec_named(&call(None)).unwrap(), bytes);
        let reply = HelloReply::Hello {
            hello: Box::new(hello()),
            rolled_back: Some(4),
            program: None,
        };
        let bytes = golden(include_str!("../../tests/golden/hello-reply-v1.hex"));
        assert_eq!(rmp_serde::from_slice::<HelloReply>(&bytes).unwrap(), reply);
        assert_eq!(rmp_serde::to_vec_named(&reply).unwrap(), bytes);
    }

    #[derive(Serialize, Deserialize)]
    struct FirstCall {
        hello: Hello,
        boot: Boot,
    }

    #[derive(Serialize)]
    struct LaterProgram {
        version: &'static str,
        minor: u32,
        capabilities: [&'static str; 2],
        motto: &'static str,
    }

    #[derive(Serialize)]
    struct LaterCall {
        hello: Hello,
        boot: Boot,
        program: LaterProgram,
        mood: Option<u8>,
    }

    #[test]
    fn one_minor_version_passes_over_what_only_the_next_one_knows() {
        let own = rmp_serde::to_vec_named(&call(Some(Program::own()))).unwrap();
        let first: FirstCall = rmp_serde::from_slice(&own).unwrap();
        assert_eq!(
            (first.hello, first.boot),
            (call(None).hello, call(None).boot)
        );
        let HelloCall { hello, boot, .. } = call(None);
        let later = LaterCall {
            hello,
            boot,
            program: LaterProgram {
                version: "0.9.0",
                minor: PROTOCOL_MINOR + 1,
                capabilities: [SPARES, "fly"],
                motto: "on",
            },
            mood: Some(1),
        };
        let bytes = rmp_serde::to_vec_named(&later).unwrap();
        let read: HelloCall = rmp_serde::from_slice(&bytes).unwrap();
        let program = read.program.unwrap();
        assert_eq!(
            (program.version.as_str(), program.minor),
            ("0.9.0", PROTOCOL_MINOR + 1)
        );
        assert!(program.can("fly") && program.can(SPARES) && !Program::own().can("fly"));
    }
}
