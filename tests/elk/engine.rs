//! A real Elasticsearch and a real log shipper, on loopback, gone when dropped.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::tools::installed;
use crate::support::{Client, eventually, free_address};

/// The version that the Makefile installs.
const VERSION: &str = "8.19.21";

/// Whoever Elasticsearch runs as: it refuses to be root.
const NOBODY: u32 = 65534;

const START_TIME: Duration = Duration::from_mins(2);

/// Elasticsearch, with its own directory.
pub(crate) struct Elasticsearch {
    pub(crate) address: String,
    process: Child,
    dir: TempDir,
}

pub(crate) fn tool(path: &str) -> PathBuf {
    installed(path, "make tools")
}

impl Elasticsearch {
    /// Starts it, and does not wait.
    pub(crate) fn start() -> Self {
        let home = tool(&format!("elasticsearch-{VERSION}"));
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (http, transport) = (free_address(), free_address());
        let config = dir.path().join("config");
        crate::support::copy_tree(&home.join("config"), &config);
        for place in ["data", "logs", "tmp"] {
            fs::create_dir(dir.path().join(place)).expect("a directory");
        }
        let at = |place: &str| dir.path().join(place).display().to_string();
        let settings = format!(
            "discovery.type: single-node\nnetwork.host: 127.0.0.1\nhttp.port: {}\n\
             transport.port: {}\nnode.store.allow_mmap: false\nxpack.security.enabled: false\n\
             xpack.ml.enabled: false\ncluster.routing.allocation.disk.threshold_enabled: false\n\
             path.data: {}\npath.logs: {}\n",
            port(&http),
            port(&transport),
            at("data"),
            at("logs"),
        );
        fs::write(config.join("elasticsearch.yml"), settings).expect("a file");
        give_away(dir.path());
        // In a process namespace of its own, whose end is the end of everything in it. Its first
        // process is a shell that stays root: whoever changes its user is no longer told to end
        // with its parent. With root's eyes, since the target directory may lie where nobody else
        // may look.
        let script = "setpriv --reuid=65534 --regid=65534 --clear-groups \
            --inh-caps=+dac_override,+dac_read_search \
            --ambient-caps=+dac_override,+dac_read_search \"$0\"; exit $?";
        let log = fs::File::create(dir.path().join("out")).expect("a file");
        let process = Command::new("unshare")
            .args([
                "-pf",
                "--kill-child=KILL",
                "--mount-proc",
                "sh",
                "-c",
                script,
            ])
            .arg(home.join("bin/elasticsearch"))
            .env("ES_PATH_CONF", &config)
            .env("ES_TMPDIR", dir.path().join("tmp"))
            .env("ES_JAVA_HOME", java_home())
            .env("ES_JAVA_OPTS", "-Xms512m -Xmx512m")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("unshare");
        Self {
            address: http,
            process,
            dir,
        }
    }

    pub(crate) fn wait(&self) {
        let health = self.url("/_cluster/health");
        let answers = || {
            Client::new()
                .try_get(&health)
                .is_some_and(|a| a.status == 200)
        };
        eventually(START_TIME, "Elasticsearch answers", answers);
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The answer to a query of the log lines.
    pub(crate) fn search(&self, query: &Value) -> Value {
        let url = self.url("/logs-quorate.*-*/_search?size=0");
        let answer = Client::new().try_post(&url, query).expect("an answer");
        assert_eq!(answer.status, 200, "{query} {}", answer.body);
        answer.json()
    }

    /// How many documents can be found now.
    pub(crate) fn count(&self) -> u64 {
        let client = Client::new();
        let refreshed = client.try_get(&self.url("/logs-quorate.*-*/_refresh"));
        if refreshed.is_none_or(|answer| answer.status != 200) {
            return 0;
        }
        let counted = client.get(&self.url("/logs-quorate.*-*/_count"));
        counted.json()["count"].as_u64().expect("a count")
    }
}

impl Drop for Elasticsearch {
    fn drop(&mut self) {
        // The test is over either way; there is nobody left to tell.
        drop(self.process.kill());
        drop(self.process.wait());
        if std::thread::panicking() {
            let log = fs::read_to_string(self.dir.path().join("out")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(5)..].join("\n");
            eprintln!("--- the end of Elasticsearch's log:\n{tail}");
        }
    }
}

fn port(address: &str) -> &str {
    address.rsplit(':').next().expect("a port")
}

/// Where the `java` on the path lives.
fn java_home() -> PathBuf {
    let found = Command::new("sh")
        .args(["-c", "readlink -f \"$(command -v java)\""])
        .output();
    let found = String::from_utf8(found.expect("sh").stdout).expect("a path");
    let home = Path::new(found.trim()).parent().and_then(Path::parent);
    let home = home.filter(|home| home.join("bin/java").exists());
    home.expect("java is not there: apt-get install openjdk-17-jre-headless")
        .to_owned()
}

/// Makes a tree somebody else's.
fn give_away(dir: &Path) {
    chown(dir, Some(NOBODY), Some(NOBODY)).expect("only root can run this test");
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            give_away(&path);
        } else {
            chown(&path, Some(NOBODY), Some(NOBODY)).expect("chown");
        }
    }
}

/// rsyslog, which follows the log files of a directory and puts every line into Elasticsearch: it
/// stands where Filebeat and Logstash stand.
pub(crate) struct Shipper {
    process: Child,
    dir: TempDir,
}

impl Shipper {
    pub(crate) fn start(logs: &Path, to: &Elasticsearch) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (here, logs) = (dir.path().display(), logs.display());
        let port = port(&to.address);
        let config = format!(
            r#"global(workDirectory="{here}")
module(load="imfile")
module(load="mmjsonparse")
module(load="omelasticsearch")
template(name="line" type="list") {{ property(name="$!all-json-plain") }}
template(name="id" type="string" string="%uuid%")
template(name="stream" type="string" string="logs-quorate.node-default")
input(type="imfile" File="{logs}/*.jsonl" Tag="quorate" addMetadata="off" ruleset="ship")
ruleset(name="ship") {{
  action(type="mmjsonparse" cookie="")
  action(type="omelasticsearch" server="127.0.0.1" serverport="{port}" searchIndex="stream"
    dynSearchIndex="on" searchType="" bulkmode="on" writeoperation="create" bulkid="id"
    dynbulkid="on" template="line" errorfile="{here}/refused" action.resumeretrycount="-1")
}}
"#
        );
        let file = dir.path().join("rsyslog.conf");
        fs::write(&file, config).expect("a file");
        let process = Command::new("rsyslogd")
            .arg("-n")
            .arg("-f")
            .arg(&file)
            .arg("-i")
            .arg(dir.path().join("pid"))
            .stdin(Stdio::null())
            .spawn()
            .expect("rsyslogd is not there: apt-get install rsyslog rsyslog-elasticsearch");
        Self { process, dir }
    }

    /// What Elasticsearch refused, with its reasons.
    pub(crate) fn refused(&self) -> String {
        fs::read_to_string(self.dir.path().join("refused")).unwrap_or_default()
    }
}

impl Drop for Shipper {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
