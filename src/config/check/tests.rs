//! Tables of what is accepted and what is refused.

use super::*;

/// Settings as an operator would write them in a file; the file's own rules apply.
fn settings(toml: &str) -> Settings {
    toml::from_str(&format!("name = \"n1\"\ndata-dir = \"d\"\n{toml}")).unwrap()
}

fn refusal(toml: &str) -> String {
    check(settings(toml)).map_or_else(|e| e.to_string(), |c| format!("accepted: {c:?}"))
}

fn expect(n: usize) -> Founding {
    Founding::Expect(NonZeroUsize::new(n).unwrap())
}

#[test]
fn the_defaults_are_one_durable_node_on_loopback() {
    let config = check(settings("")).unwrap();
    assert_eq!(config.listen.client.to_string(), "127.0.0.1:8080");
    assert_eq!(config.listen.admin.to_string(), "127.0.0.1:8081");
    assert_eq!(config.advertise.peer, "127.0.0.1:8082");
    assert_eq!(config.founding, expect(1));
    let (n, r, w) = (config.replicas, config.read_quorum, config.write_quorum);
    assert_eq!((n.get(), r.get(), w.get()), (3, 2, 2));
    assert_eq!(config.durability, super::super::Durability::Always);
    assert_eq!(config.storage, super::super::Storage::Fjall);
    assert_eq!(config.max_in_flight.get(), 1024);
    assert_eq!(config.notices, [Notice::DevelopmentSecret]);
    assert!(config.admin_token.is_none());
}

/// What cannot work, and how its refusal begins.
const REFUSED: &[(&str, &str)] = &[
    ("weight = 0", "--weight must be at least 1"),
    ("replicas = 0", "--replicas must be at least 1"),
    ("read-quorum = 0", "--read-quorum must be at least 1"),
    ("workers = 0", "--workers must be at least 1"),
    ("max-in-flight = 0", "--max-in-flight must be at least 1"),
    (
        "bootstrap-expect = 0",
        "--bootstrap-expect must be at least 1",
    ),
    (
        "read-quorum = 4",
        "--read-quorum 4 is more than --replicas 3",
    ),
    (
        "replicas = 2\nwrite-quorum = 3",
        "--write-quorum 3 is more than --replicas 2",
    ),
    ("zone = \"\"", "--zone \"\": a zone is"),
    ("zone = \"a b\"", "--zone \"a b\": a zone is"),
    (
        "client = \"8080\"",
        "--client \"8080\": must be an IP address",
    ),
    (
        "client = \"node:8080\"",
        "--client \"node:8080\": must be an IP address",
    ),
    (
        "client = \"127.0.0.1:0\"",
        "--client \"127.0.0.1:0\": must be an IP address",
    ),
    (
        "advertise-peer = \"node\"",
        "--advertise-peer \"node\": must be a host and a port",
    ),
    (
        "seeds = [\"a:1\", \"b\"]",
        "--seeds \"b\": must be a host and a port",
    ),
    (
        "client = \"127.0.0.1:8081\"",
        "--client and --admin are both 127.0.0.1:8081",
    ),
    (
        "peer = \"127.0.0.1:8080\"",
        "--client and --peer are both 127.0.0.1:8080",
    ),
    (
        "client = \"0.0.0.0:1\"",
        "--client is 0.0.0.0:1, which nobody can connect to: say with --advertise-client",
    ),
    (
        "peer = \"[::]:1\"",
        "--peer is [::]:1, which nobody can connect to: say with --advertise-peer",
    ),
    (
        "advertise-peer = \"0.0.0.0:1\"",
        "--advertise-peer is 0.0.0.0:1, which nobody",
    ),
    (
        "client = \"10.0.0.1:1\"",
        "--client 10.0.0.1:1 is not a loopback address: nodes that",
    ),
    (
        "peer = \"10.0.0.1:1\"",
        "--peer 10.0.0.1:1 is not a loopback address: nodes that",
    ),
    (
        "advertise-peer = \"n1:1\"",
        "--advertise-peer n1:1 is not a loopback address: nodes",
    ),
    (
        "advertise-admin = \"n1:1\"",
        "--advertise-admin n1:1 is not a loopback address: nodes",
    ),
    (
        "admin = \"10.0.0.1:1\"",
        "--admin 10.0.0.1:1 is not a loopback address: it needs --admin-token",
    ),
    (
        "cluster-secret-file = \"no/such\"",
        "--cluster-secret-file no/such: No such file",
    ),
];

#[test]
fn what_cannot_work_is_refused_with_what_to_change() {
    for (toml, want) in REFUSED {
        let got = refusal(toml);
        assert!(got.starts_with(want), "{toml:?}: {got}");
    }
}

#[test]
fn a_name_and_a_directory_are_needed() {
    let rows = [
        (Settings::default(), "--name is needed"),
        (Settings::default().named("n1"), "--data-dir is needed"),
        (settings("").named("a/b"), "--name \"a/b\": a name is"),
        (settings("").named(""), "--name \"\": a name is"),
    ];
    for (settings, want) in rows {
        let got = check(settings).unwrap_err().to_string();
        assert!(got.starts_with(want), "{got}");
    }
}

impl Settings {
    fn named(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }
}

#[test]
fn a_node_founds_a_cluster_only_if_it_is_one_of_the_seeds_or_told_to() {
    let own = "127.0.0.1:8082";
    let rows: [(String, Founding, &[&str]); 8] = [
        (String::new(), expect(1), &[]),
        ("seeds = []".into(), expect(1), &[]),
        ("seeds = [\"\", \" \"]".into(), expect(1), &[]),
        (format!("seeds = [\"{own}\"]"), expect(1), &[]),
        (
            format!("seeds = [\"a:1\", \"{own}\", \"b:2\", \"A:1\"]"),
            expect(3),
            &["a:1", "b:2"],
        ),
        (
            "seeds = [\"localhost:8082\", \"a:1\"]".into(),
            expect(2),
            &["a:1"],
        ),
        (
            "seeds = [\"a:1\", \"b:2\"]".into(),
            Founding::JoinOnly,
            &["a:1", "b:2"],
        ),
        (
            "seeds = [\"a:1\"]\nbootstrap-expect = 3".into(),
            expect(3),
            &["a:1"],
        ),
    ];
    for (toml, founding, others) in rows {
        let config = check(settings(&toml)).unwrap();
        assert_eq!(config.founding, founding, "{toml}");
        assert_eq!(config.seeds, others, "{toml}");
    }
}

#[test]
fn one_replica_needs_no_quorum_flags() {
    let config = check(settings("replicas = 1")).unwrap();
    assert_eq!(
        (config.read_quorum.get(), config.write_quorum.get()),
        (1, 1)
    );
}

#[test]
fn secrets_are_trimmed_long_enough_text_and_open_the_other_addresses() {
    let dir = tempfile::tempdir().unwrap();
    let rows: [(&[u8], &str); 4] = [
        (b" 0123456789abcdef\n", "accepted: 0123456789abcdef"),
        (
            b"0123456789abcde\n\n",
            "holds 15 bytes, must be at least 16",
        ),
        (b"0123456789 abcdef", "must be one line of visible ASCII"),
        (b"0123456789\xffabcdef", "must be one line of visible ASCII"),
    ];
    for (content, want) in rows {
        let file = dir.path().join("secret");
        std::fs::write(&file, content).unwrap();
        let open = Settings {
            cluster_secret_file: Some(file.clone()),
            admin_token_file: Some(file.clone()),
            ..settings("peer = \"10.0.0.1:8082\"\nadmin = \"10.0.0.1:8081\"")
        };
        let got = match check(open) {
            Ok(config) => {
                assert_eq!(Some(&config.cluster_secret), config.admin_token.as_ref());
                let secret = config.cluster_secret.expose().to_vec();
                format!("accepted: {}", String::from_utf8(secret).unwrap())
            }
            Err(refusal) => refusal.to_string(),
        };
        assert!(got.ends_with(want), "{got}");
    }
}

#[test]
fn a_secret_that_others_can_read_is_noticed_and_never_printed() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret");
    std::fs::write(&file, "not-for-the-log-0123456789").unwrap();
    for (mode, noticed) in [(0o600, 0), (0o640, 1), (0o604, 1)] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let given = Settings {
            cluster_secret_file: Some(file.clone()),
            ..settings("")
        };
        let config = check(given).unwrap();
        assert_eq!(config.notices.len(), noticed, "{mode:o}");
        assert!(!format!("{config:?}").contains("not-for-the-log"));
    }
}

#[test]
fn unknown_keys_of_a_file_are_refused_with_line_and_column() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("quorate.toml");
    for (text, wants) in [
        (
            "name = \"n1\"\nreplica = 3\n",
            ["line 2, column 1", "unknown field `replica`"],
        ),
        ("name = 7\n", ["line 1, column 8", "expected a string"]),
        (
            "durability = \"never\"\n",
            ["line 1, column 14", "unknown variant `never`"],
        ),
        (
            "config = \"x\"\n",
            ["line 1, column 1", "unknown field `config`"],
        ),
        ("name = \n", ["line 1", "--config"]),
    ] {
        std::fs::write(&file, text).unwrap();
        let flags = Settings {
            config: Some(file.clone()),
            ..Settings::default()
        };
        let got = Config::load(flags).unwrap_err().to_string();
        for want in wants {
            assert!(got.contains(want), "{text:?}: {got}");
        }
    }
}

#[test]
fn flags_win_over_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("quorate.toml");
    std::fs::write(
        &file,
        "name = \"file\"\nzone = \"file\"\ndata-dir = \"d\"\n",
    )
    .unwrap();
    let flags = Settings {
        config: Some(file),
        ..Settings::default().named("flag")
    };
    let config = Config::load(flags).unwrap();
    assert_eq!(
        (config.name.as_str(), config.zone.as_str()),
        ("flag", "file")
    );
}
