//! Which node gets which name, ports and files.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use super::Failure;

/// One node to be.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::cli) struct Node {
    pub(in crate::cli) name: String,
    pub(in crate::cli) client: u16,
    pub(in crate::cli) admin: u16,
    pub(in crate::cli) peer: u16,
    /// Where the other nodes are told to find it, if that is elsewhere.
    pub(in crate::cli) relay: Option<u16>,
    pub(in crate::cli) dir: PathBuf,
    pub(in crate::cli) log: PathBuf,
}

/// Node i has the ports base + 10·i, + 1 and + 2, and its files under the directory.
pub(in crate::cli) fn layout(nodes: u16, base: u16, dir: &Path) -> Result<Vec<Node>, Failure> {
    let last = nodes
        .checked_sub(1)
        .and_then(|n| n.checked_mul(10)?.checked_add(2));
    if last.and_then(|last| base.checked_add(last)).is_none() {
        return Err(Failure::Usage(
            "--base-port: the last node's ports would be above 65535",
        ));
    }
    let node = |i: u16| {
        let name = format!("n{}", i + 1);
        Node {
            client: base + 10 * i,
            admin: base + 10 * i + 1,
            peer: base + 10 * i + 2,
            relay: None,
            dir: dir.join(&name),
            log: dir.join(format!("{name}.log")),
            name,
        }
    };
    Ok((0..nodes).map(node).collect())
}

/// Tells apart, before anything starts, a port that is taken from a node that does not start.
pub(in crate::cli) fn check_ports(nodes: &[Node]) -> Result<(), Failure> {
    for node in nodes {
        for port in [node.client, node.admin, node.peer]
            .into_iter()
            .chain(node.relay)
        {
            TcpListener::bind(("127.0.0.1", port)).map_err(|source| Failure::Port {
                port,
                name: node.name.clone(),
                source,
            })?;
        }
    }
    Ok(())
}

/// Where data of users belongs; the working directory for somebody who has no home.
pub(in crate::cli) fn default_dir() -> PathBuf {
    let from = |name, below: &str| {
        let dir = std::env::var_os(name).map(PathBuf::from);
        dir.filter(|dir| dir.is_absolute())
            .map(|dir| dir.join(below))
    };
    from("XDG_DATA_HOME", "quorate/dev")
        .or_else(|| from("HOME", ".local/share/quorate/dev"))
        .unwrap_or_else(|| PathBuf::from("quorate-dev"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_has_three_ports_ten_apart_and_files_of_its_own() {
        let nodes = layout(2, 9000, Path::new("d")).unwrap();
        let want = Node {
            name: "n2".to_owned(),
            client: 9010,
            admin: 9011,
            peer: 9012,
            relay: None,
            dir: PathBuf::from("d/n2"),
            log: PathBuf::from("d/n2.log"),
        };
        assert_eq!(nodes[1], want);
    }

    #[test]
    fn ports_beyond_the_last_are_refused() {
        assert!(layout(1, 65533, Path::new("d")).is_ok());
        for (nodes, base) in [(1, 65534), (3, 65515), (64, 64904)] {
            assert!(
                layout(nodes, base, Path::new("d")).is_err(),
                "{nodes} {base}"
            );
        }
        assert!(layout(64, 64903, Path::new("d")).is_ok());
    }

    #[test]
    fn a_port_that_is_taken_is_named_with_its_node() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let nodes = layout(1, port, Path::new("d")).unwrap();
        let text = check_ports(&nodes).unwrap_err().to_string();
        assert!(text.contains(&format!("port {port}, n1's")), "{text}");
        assert!(text.contains("--base-port"), "{text}");
    }
}
