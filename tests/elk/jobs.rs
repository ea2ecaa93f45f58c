//! `docker/elk/init.sh`, whose steps the profile's jobs are.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Output};

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::Value;

use crate::fake::{Asked, Fake};
use crate::panels;

/// Runs a step, without security unless the variables say otherwise.
pub(crate) fn init(step: &str, variables: &[(&str, &str)]) -> Output {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/elk");
    let mut command = Command::new("sh");
    command
        .arg(folder.join("init.sh"))
        .arg(step)
        .env("FILES", &folder);
    command
        .env("ELK_SECURITY", "false")
        .envs(variables.iter().copied());
    command.output().expect("sh")
}

fn done(step: &str, variables: &[(&str, &str)]) {
    let output = init(step, variables);
    assert!(output.status.success(), "{step}: {output:?}");
}

/// The passwords of a directory, by user.
fn passwords(dir: &Path) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        let about = std::fs::metadata(&path).expect("a file");
        let rights = (about.mode() & 0o7777, about.uid(), about.gid());
        assert_eq!(rights, (0o600, 1000, 0), "{}", path.display());
        let name = path.file_name().and_then(|name| name.to_str());
        let user = name.and_then(|name| name.strip_suffix(".password"));
        let user = user.unwrap_or_else(|| panic!("{} is left over", path.display()));
        let text = std::fs::read_to_string(&path).expect("a password");
        all.insert(user.to_owned(), text);
    }
    all
}

#[test]
fn passwords_are_made_once_and_only_elasticsearch_reads_them() {
    let dir = tempfile::tempdir().expect("a directory");
    let here = [("SECRETS", dir.path().to_str().expect("a path"))];
    done("passwords", &here);
    let made = passwords(dir.path());
    let users: Vec<&str> = made.keys().map(String::as_str).collect();
    assert_eq!(
        users,
        ["elastic", "encryption", "kibana_system", "quorate_logstash"]
    );
    let mut different: Vec<&String> = made.values().collect();
    different.sort_unstable();
    different.dedup();
    assert_eq!(different.len(), made.len(), "each has its own");
    for password in made.values() {
        let is_plain = password.bytes().all(|byte| byte.is_ascii_alphanumeric());
        assert!(password.len() == 32 && is_plain, "{password:?}");
    }
    done("passwords", &here);
    assert_eq!(passwords(dir.path()), made);
}

#[test]
fn with_security_every_request_has_the_password_and_two_users_get_theirs() {
    let dir = tempfile::tempdir().expect("a directory");
    let secrets = dir.path().to_str().expect("a path");
    done("passwords", &[("SECRETS", secrets)]);
    let made = passwords(dir.path());
    let whole = format!("elastic:{}", made["elastic"]);
    let shown = format!("Basic {}", BASE64_STANDARD.encode(whole));
    let elasticsearch = Fake::start(move |asked| {
        let is_shown = asked.header("authorization") == shown;
        let body = "{\"acknowledged\":true}".to_owned();
        (if is_shown { 200 } else { 401 }, body)
    });
    let url = elasticsearch.url();
    let mut variables = vec![("SECRETS", secrets), ("ELASTICSEARCH_URL", url.as_str())];
    assert!(!init("elasticsearch", &variables).status.success());
    let refused = elasticsearch.asked().len();
    assert_eq!(refused, 1, "the first refusal ends it");

    variables.push(("ELK_SECURITY", "true"));
    done("elasticsearch", &variables);
    let asked = elasticsearch.asked();
    let lines: Vec<&str> = asked[refused..].iter().map(Asked::line).collect();
    let wanted = [
        "POST /_security/user/kibana_system/_password",
        "PUT /_security/role/quorate_logstash",
        "PUT /_security/user/quorate_logstash",
        "PUT /_component_template/quorate-mappings",
        "PUT /_index_template/quorate-logs",
    ];
    assert_eq!(lines, wanted);
    let bodies = asked.iter().skip(refused);
    let bodies: Vec<Value> = bodies
        .map(|asked| serde_json::from_str(&asked.body).expect("JSON"))
        .collect();
    assert_eq!(bodies[0]["password"], made["kibana_system"].as_str());
    assert_eq!(bodies[2]["password"], made["quorate_logstash"].as_str());
    assert_eq!(bodies[2]["roles"][0], "quorate_logstash");
    // It may add lines, and neither read nor change any.
    let rights = &bodies[1]["indices"][0]["privileges"];
    let wanted = ["create_doc", "auto_configure", "view_index_metadata"];
    assert_eq!(*rights, serde_json::json!(wanted));
}

/// Kibana says 200 to an import that took nothing: the job must look at what it says.
#[test]
fn the_initialisation_fails_when_the_dashboard_is_not_imported() {
    let objects = panels::objects().len();
    let whole = format!("{{\"successCount\":{objects},\"success\":true,\"warnings\":[]}}");
    let few = "{\"successCount\":3,\"success\":true,\"warnings\":[]}";
    let none = "{\"successCount\":0,\"success\":false,\"errors\":[{}]}";
    let rows = [
        (200, whole.as_str(), true),
        (200, few, false),
        (200, none, false),
        (503, whole.as_str(), false),
    ];
    for (status, body, is_well) in rows {
        let answer = body.to_owned();
        let kibana = Fake::start(move |_| (status, answer.clone()));
        let output = init("kibana", &[("KIBANA_URL", &kibana.url())]);
        let asked = kibana.asked();
        assert_eq!(asked.len(), 1, "{asked:?}");
        assert!(asked[0].body.contains("\"type\":\"dashboard\""));
        assert_eq!(
            output.status.success(),
            is_well,
            "{status} {body}: {output:?}"
        );
    }
}
