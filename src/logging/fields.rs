//! Every field that a line may have, and what it holds. The documentation, the mappings of the log
//! store and the lines themselves are held against this table by tests.

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A time: RFC 3339, UTC, milliseconds.
    Date,
    /// A text to be searched word by word.
    Text,
    /// A text that is found and counted as a whole.
    Keyword,
    /// Several of these.
    Keywords,
    /// A whole number, zero or more.
    Long,
    /// True or false.
    Boolean,
}

impl Kind {
    /// The type of the log store's mapping.
    #[must_use]
    pub fn mapping(self) -> &'static str {
        match self {
            Self::Date => "date",
            Self::Text => "text",
            Self::Keyword | Self::Keywords => "keyword",
            Self::Long => "long",
            Self::Boolean => "boolean",
        }
    }
}

/// One field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Its name, dots included.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// What that is.
    pub about: &'static str,
}

macro_rules! fields {
    ($($name:literal $kind:ident $about:literal,)+) => {
        /// All fields: the first four stand first in every line, in this order.
        pub const FIELDS: &[Field] =
            &[$(Field { name: $name, kind: Kind::$kind, about: $about }),+];
    };
}

fields! {
    "@timestamp" Date "when it was logged",
    "log.level" Keyword "`critical`, `error`, `warn`, `info`, `debug`, `trace`",
    "message" Text "what happened; always the same text for the same kind of event",
    "ecs.version" Keyword "the version of the ECS names",
    "service.name" Keyword "`quorate`",
    "service.version" Keyword "the program's version",
    "service.node.name" Keyword "the node's name",
    "service.state" Keyword "the node's state: `NEW`, `PENDING`, `READY`, `LEAVING`",
    "event.dataset" Keyword "`quorate.node`",
    "event.action" Keyword "the kind of event; see the list of actions",
    "event.outcome" Keyword "`success`, `failure` (not applied), `unknown` (may yet appear)",
    "event.duration" Long "how long it took, in nanoseconds",
    "log.logger" Keyword "the part of the node that speaks",
    "trace.id" Keyword "the request's correlation id, the same on every node it touches",
    "error.message" Text "what went wrong",
    "error.code" Keyword "the stable code of a refused request, as in the API",
    "http.request.method" Keyword "of a refused request",
    "http.response.status_code" Long "of a refused request",
    "quorate.acks.home" Long "owners that stand behind the answer; while the partition moves, those before",
    "quorate.acks.hinted" Long "fallbacks that stand in for owners",
    "quorate.acks.incoming" Long "while the partition moves: incoming owners that stand behind the answer",
    "quorate.address.admin" Keyword "where operators are served",
    "quorate.address.client" Keyword "where clients are served",
    "quorate.address.peer" Keyword "where nodes are served",
    "quorate.avoided" Boolean "whether an operator wants a node to be passed over",
    "quorate.boot" Long "the number of this start",
    "quorate.boot_seen" Long "the number of a start that a peer remembers",
    "quorate.cluster" Keyword "a cluster's id",
    "quorate.complete" Boolean "whether every partition was brought",
    "quorate.consul.service" Keyword "what this node is called in Consul",
    "quorate.consul.step" Keyword "what Consul is asked for",
    "quorate.fault" Keyword "why a replica did not do what it was asked",
    "quorate.found" Keyword "what was in the data directory at the start",
    "quorate.hints.count" Long "hints handed over",
    "quorate.hints.pending" Long "hints kept for other nodes",
    "quorate.incarnation" Keyword "the life in which the node mints dots",
    "quorate.incarnation_old" Keyword "the life before",
    "quorate.kept" Keyword "where the data of a node that left is kept",
    "quorate.key.hash" Keyword "the key's place on the ring, 16 hexadecimal digits",
    "quorate.key.name" Keyword "the key itself; only with `--log-keys yes`",
    "quorate.keys.count" Long "how many keys",
    "quorate.keys.sample" Keywords "at most 20 of them: hashes, or keys with `--log-keys yes`",
    "quorate.latency_ms" Long "smoothed time of a peer's answers",
    "quorate.log.level" Keyword "the level from now on",
    "quorate.log.lost" Long "log lines lost since the start",
    "quorate.owner" Keyword "the owner that a hint is for",
    "quorate.partition" Long "which of the 256",
    "quorate.partitions" Long "how many partitions",
    "quorate.partitions_left" Long "how many are still to do",
    "quorate.peer" Keyword "the other node's name",
    "quorate.readiness" Keyword "whether the node takes requests, and why not",
    "quorate.result" Keyword "`ok`, or the code of the answer's error",
    "quorate.ring.epoch" Long "the ring's epoch",
    "quorate.ring.hash" Keyword "the ring's hash",
    "quorate.ring.members" Long "how many nodes the ring has",
    "quorate.ring.reachable" Long "how many of them this node reaches, itself included",
    "quorate.ring.refused_hash" Keyword "the hash of a ring that was refused",
    "quorate.ring.replicas" Long "how many replicas a key shall have",
    "quorate.seed" Keyword "an address of `--seeds`",
    "quorate.siblings" Long "how many values the key has now",
}
