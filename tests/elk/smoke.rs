//! `docker/smoke.sh` as it is. What it asks the containers of reaches, through a stand-in for Docker,
//! the Elasticsearch of the test and a server in the place of Kibana.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::engine::Elasticsearch;
use crate::fake::{Asked, Fake};
use crate::ledger::Ledger;
use crate::panels::{self, Panel};
use crate::support::Node;

/// Takes all of its standard input, as `docker compose exec` does. What a container would run it
/// runs here; the job's state is that of the job, run now.
const DOCKER: &str = r#"#!/bin/sh
cat >/dev/null
until [ "$1" = exec ] || [ "$1" = ps ] || [ "$1" = logs ]; do
  shift
done
case $1 in
  exec)
    shift 3
    case "$*" in
      *"$EMPTY"*) echo '{"count":0}' ;;
      *) exec "$@" ;;
    esac
    ;;
  ps)
    sh docker/elk/init.sh kibana >"$CURL_HOME/job" 2>&1
    echo "elk-kibana exited $?"
    ;;
  logs) cat "$CURL_HOME/job" ;;
esac
"#;

/// A run, and what it must come to.
struct Run {
    imports: bool,
    finds: bool,
    /// What a panel asks that has nothing to show.
    empty: &'static str,
    /// Whether it comes as far as to make its operations.
    asks: bool,
    says: &'static str,
}

const RUNS: [Run; 4] = [
    Run {
        imports: false,
        finds: true,
        empty: "no panel",
        asks: false,
        says: "the dashboard was not imported: elk-kibana exited 1",
    },
    Run {
        imports: true,
        finds: false,
        empty: "no panel",
        asks: false,
        says: "Kibana does not know the dashboard",
    },
    Run {
        imports: true,
        finds: true,
        empty: "keys-stored",
        asks: true,
        says: "the panel \"Stored keys\" is empty",
    },
    Run {
        imports: true,
        finds: true,
        empty: "no panel",
        asks: true,
        says: "panels are well",
    },
];

/// All runs; the operations go to this node.
pub(crate) fn smoke(elastic: &Elasticsearch, node: &Node, ledger: &mut Ledger) {
    for run in RUNS {
        let output = run.start(elastic, node);
        let said = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
        let said = said.concat();
        assert!(said.contains(run.says), "{}: {said}", run.says);
        let is_well = run.imports && run.finds && run.empty == "no panel";
        assert_eq!(output.status.success(), is_well, "{said}");
        if run.asks {
            ledger.smoke(node);
        }
        if is_well {
            for panel in Panel::all() {
                let line = format!("smoke: \"{}\" has ", panel.title);
                assert_eq!(said.matches(&line).count(), 1, "{line}: {said}");
            }
        }
    }
}

impl Run {
    fn start(&self, elastic: &Elasticsearch, node: &Node) -> Output {
        let dir = tempfile::tempdir().expect("a directory");
        let kibana = self.kibana();
        let docker = dir.path().join("docker");
        fs::write(&docker, DOCKER).expect("a file");
        fs::set_permissions(&docker, fs::Permissions::from_mode(0o755)).expect("a program");
        let places = format!(
            "noproxy = \"*\"\nconnect-to = \"localhost:9200:{}\"\nconnect-to = \"kibana:5601:{}\"\n",
            elastic.address, kibana.address
        );
        fs::write(dir.path().join(".curlrc"), places).expect("a file");
        let path = std::env::var("PATH").unwrap_or_default();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker");
        let mut command = Command::new("sh");
        command.arg(folder.join("smoke.sh"));
        command
            .env("PATH", format!("{}:{path}", dir.path().display()))
            .env("CURL_HOME", dir.path())
            .env("EMPTY", self.empty)
            .env("ELK_SECURITY", "false")
            .env("FILES", folder.join("elk"))
            .env("KIBANA_URL", kibana.url())
            .env("QUORATE_URL", format!("http://{}", node.client));
        command.stdin(Stdio::null()).output().expect("sh")
    }

    fn kibana(&self) -> Fake {
        let (imports, finds) = (self.imports, self.finds);
        let objects = panels::objects().len();
        Fake::start(move |asked: &Asked| {
            let body = if asked.line().starts_with("POST /api/saved_objects/_import?") {
                format!("{{\"successCount\":{objects},\"success\":{imports},\"warnings\":[]}}")
            } else if asked.line().starts_with("GET /api/saved_objects/_find?") && finds {
                "{\"saved_objects\":[{\"type\":\"dashboard\",\"id\":\"quorate\"}]}".to_owned()
            } else {
                "{\"saved_objects\":[]}".to_owned()
            };
            (200, body)
        })
    }
}
