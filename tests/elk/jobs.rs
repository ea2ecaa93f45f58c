//! `docker/elk/init.sh`, whose steps the profile's jobs are.

use std::path::Path;
use std::process::{Command, Output};

use crate::fake::Fake;
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
