//! `quorate lb`: what a load balancer has to know, for those who run no consul-template.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tokio::time::sleep;

use super::failure::Failure;
use super::output::Streams;
use crate::config::{Consul, Settings};
use crate::discovery::consul::agent::Agent;
use crate::discovery::consul::upstream::{Upstream, ready};
use crate::node::discovery::access;

/// Changes within this time are one.
const CALM: Duration = Duration::from_millis(500);
/// Between two questions to a Consul that does not answer.
const PAUSE: Duration = Duration::from_secs(2);

/// What can be done for a load balancer.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// Print nginx's `server` lines: the READY nodes in Consul
    Render(Args),
}

/// What `lb render` takes.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The Consul agent of this machine [default: 127.0.0.1:8500]
    #[arg(long, env = "QUORATE_CONSUL", value_name = "HOST:PORT")]
    consul: Option<String>,
    /// The token that it is shown
    #[arg(long, env = "QUORATE_CONSUL_TOKEN_FILE", value_name = "FILE")]
    consul_token_file: Option<PathBuf>,
    /// What the cluster is called in Consul [default: quorate]
    #[arg(long, env = "QUORATE_SERVICE_NAME", value_name = "NAME")]
    service_name: Option<String>,
    /// Tags that the nodes have, all of them [default: production]
    #[arg(
        long,
        env = "QUORATE_SERVICE_TAGS",
        value_name = "TAG,…",
        value_delimiter = ','
    )]
    service_tags: Option<Vec<String>>,
    /// Write to this file instead, in one step
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Go on until interrupted: write again whenever other nodes are READY
    #[arg(long, requires = "out")]
    watch: bool,
    /// A shell command to run after each change, such as "nginx -s reload"
    #[arg(long, value_name = "COMMAND", requires = "watch")]
    exec: Option<String>,
}

/// Renders once, or whenever something changes.
pub(super) async fn run(args: Args, streams: &mut Streams<'_>) -> Result<(), Failure> {
    let consul = Consul::of(&Settings {
        consul: args.consul.clone(),
        consul_token_file: args.consul_token_file.clone(),
        service_name: args.service_name.clone(),
        service_tags: args.service_tags.clone(),
        ..Settings::default()
    })?;
    let agent = Agent::new(access(&consul));
    if args.watch {
        return watch(&args, &consul, &agent, streams).await;
    }
    let now = ready(&agent, &consul.service, &consul.tags, None).await?;
    let text = render(&now.nodes);
    match &args.out {
        Some(path) => replace(path, &text),
        None => Ok(streams.data.write_all(text.as_bytes())?),
    }
}

/// Follows Consul. While it is away, and when it names no node after it has named some, what was
/// written stays: nginx finds out by itself which of the last nodes answer.
async fn watch(
    args: &Args,
    consul: &Consul,
    agent: &Agent,
    streams: &mut Streams<'_>,
) -> Result<(), Failure> {
    let (mut since, mut trouble) = (None, None);
    // What was written before this start stays too, until some node is READY.
    let mut written = args
        .out
        .as_deref()
        .filter(|path| names_some(path))
        .map(|_| Vec::new());
    let mut is_bare = false;
    loop {
        match ready(agent, &consul.service, &consul.tags, since).await {
            Ok(Upstream { nodes, index }) => {
                trouble = None;
                since = (index > 0 && since.is_none_or(|before| index >= before)).then_some(index);
                let was_bare = std::mem::replace(&mut is_bare, nodes.is_empty());
                if is_news(written.as_ref(), &nodes) {
                    apply(args, &nodes, streams)?;
                    written = Some(nodes);
                } else if is_bare && !was_bare {
                    tell(streams, "no node is READY; the last ones stay")?;
                }
                sleep(CALM).await;
            }
            Err(error) => {
                since = None;
                if trouble.as_ref() != Some(&error) {
                    tell(streams, &format!("{error}; the last nodes stay"))?;
                }
                trouble = Some(error);
                sleep(PAUSE).await;
            }
        }
    }
}

fn is_news(written: Option<&Vec<String>>, nodes: &[String]) -> bool {
    match written {
        None => true,
        Some(written) => written != nodes && !nodes.is_empty(),
    }
}

/// Whether the file names nodes; one that cannot be read does not.
fn names_some(path: &Path) -> bool {
    std::fs::read_to_string(path).is_ok_and(|text| text.contains("max_fails"))
}

fn apply(args: &Args, nodes: &[String], streams: &mut Streams<'_>) -> Result<(), Failure> {
    if let Some(path) = &args.out {
        replace(path, &render(nodes))?;
    }
    tell(streams, &format!("{} nodes are READY", nodes.len()))?;
    let Some(command) = &args.exec else {
        return Ok(());
    };
    let status = Command::new("sh").args(["-c", command]).status()?;
    if !status.success() {
        tell(streams, &format!("{command:?} ended with {status}"))?;
    }
    Ok(())
}

fn tell(streams: &mut Streams<'_>, what: &str) -> io::Result<()> {
    writeln!(streams.chatter, "{what}")
}

/// As the template of docker/lb has it. nginx wants a server in every upstream.
fn render(nodes: &[String]) -> String {
    if nodes.is_empty() {
        return "server 127.0.0.1:65535 down;\n".to_owned();
    }
    let line = |node: &String| format!("server {node} max_fails=2 fail_timeout=5s;\n");
    nodes.iter().map(line).collect()
}

/// Nobody ever reads half a file.
fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let written = std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, path));
    written.map_err(|source| Failure::File {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_rendered_as_nginx_wants_them() {
        let nodes = ["10.0.0.1:8080".to_owned(), "[::1]:1".to_owned()];
        let want = "server 10.0.0.1:8080 max_fails=2 fail_timeout=5s;\n\
                    server [::1]:1 max_fails=2 fail_timeout=5s;\n";
        assert_eq!(render(&nodes), want);
        assert_eq!(render(&[]), "server 127.0.0.1:65535 down;\n");
    }

    #[test]
    fn no_node_is_news_only_at_first() {
        let (some, none) = (vec!["a:1".to_owned()], Vec::new());
        let rows = [
            (None, &none, true),
            (None, &some, true),
            (Some(&some), &some, false),
            (Some(&some), &none, false),
            (Some(&none), &some, true),
        ];
        for (written, nodes, want) in rows {
            assert_eq!(is_news(written, nodes), want, "{written:?} {nodes:?}");
        }
    }

    #[test]
    fn a_file_is_replaced_in_one_step() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("upstream.conf");
        replace(&path, "a").unwrap();
        replace(&path, "b").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "b");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
