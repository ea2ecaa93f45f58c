//! `host:port`, as operators write it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

/// A host, by address or by name, and a port other than 0. `localhost` is 127.0.0.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostPort {
    host: Host,
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Ip(IpAddr),
    Name(String),
}

/// The text is not `host:port`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotHostPort;

/// Whether the text is `host:port`.
pub(crate) fn is_host_port(text: &str) -> bool {
    text.parse::<HostPort>().is_ok()
}

impl HostPort {
    /// Whether only this machine can reach it.
    pub(super) fn is_loopback(&self) -> bool {
        matches!(self.host, Host::Ip(ip) if ip.is_loopback())
    }

    /// Whether it means every interface, which nobody can connect to.
    pub(super) fn is_unspecified(&self) -> bool {
        matches!(self.host, Host::Ip(ip) if ip.is_unspecified())
    }

    /// The address to listen on; `None` for a name.
    pub(super) fn socket(&self) -> Option<SocketAddr> {
        match self.host {
            Host::Ip(ip) => Some(SocketAddr::new(ip, self.port)),
            Host::Name(_) => None,
        }
    }
}

impl From<SocketAddr> for HostPort {
    fn from(address: SocketAddr) -> Self {
        Self {
            host: Host::Ip(address.ip()),
            port: address.port(),
        }
    }
}

impl FromStr for HostPort {
    type Err = NotHostPort;

    fn from_str(text: &str) -> Result<Self, NotHostPort> {
        let (host, port) = text.rsplit_once(':').ok_or(NotHostPort)?;
        let digits = port.bytes().all(|b| b.is_ascii_digit());
        let port = port.parse().ok().filter(|p| *p != 0 && digits);
        let host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Some(v6) => v6.parse().ok().map(|ip| Host::Ip(IpAddr::V6(ip))),
            None => named(host),
        };
        match (host, port) {
            (Some(host), Some(port)) => Ok(Self { host, port }),
            _ => Err(NotHostPort),
        }
    }
}

fn named(host: &str) -> Option<Host> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    if let Ok(ip) = host.parse::<Ipv4Addr>() {
        return Some(Host::Ip(IpAddr::V4(ip)));
    }
    match host {
        "localhost" => Some(Host::Ip(IpAddr::V4(Ipv4Addr::LOCALHOST))),
        name if (1..=253).contains(&name.len()) && name.bytes().all(plain) => {
            Some(Host::Name(name.to_ascii_lowercase()))
        }
        _ => None,
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(ip) => SocketAddr::new(*ip, self.port).fmt(f),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_an_ip_or_a_name_and_a_port() {
        let rows = [
            ("127.0.0.1:8080", Some("127.0.0.1:8080")),
            ("localhost:1", Some("127.0.0.1:1")),
            ("[::1]:65535", Some("[::1]:65535")),
            ("0.0.0.0:80", Some("0.0.0.0:80")),
            ("Node-1.example_x:8082", Some("node-1.example_x:8082")),
            ("", None),
            ("8080", None),
            (":8080", None),
            ("host", None),
            ("host:", None),
            ("host:0", None),
            ("host:+1", None),
            ("host:65536", None),
            ("::1:80", None),
            ("[::1]", None),
            ("[host]:80", None),
            ("a b:80", None),
            ("http://host:80", None),
        ];
        for (text, want) in rows {
            let got = text.parse::<HostPort>().ok().map(|a| a.to_string());
            assert_eq!(got.as_deref(), want, "{text:?}");
        }
    }

    #[test]
    fn loopback_and_unspecified_are_told_apart() {
        let rows = [
            ("127.9.9.9:1", true, false),
            ("localhost:1", true, false),
            ("[::1]:1", true, false),
            ("0.0.0.0:1", false, true),
            ("[::]:1", false, true),
            ("10.0.0.1:1", false, false),
            ("n1:1", false, false),
        ];
        for (text, loopback, unspecified) in rows {
            let address: HostPort = text.parse().unwrap();
            assert_eq!(address.is_loopback(), loopback, "{text}");
            assert_eq!(address.is_unspecified(), unspecified, "{text}");
        }
    }
}
