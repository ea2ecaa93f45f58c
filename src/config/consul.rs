//! How a node finds others, and is found, in Consul.

use super::check::address;
use super::{ConfigError, Discovery, Notice, Register, Secret, Settings, secret};

const LONGEST_LABEL: usize = 63;

/// The Consul agent, and what the cluster is called there.
#[derive(Debug, Clone)]
pub struct Consul {
    /// `host:port` of the agent.
    pub address: String,
    /// Shown with every request.
    pub token: Option<Secret>,
    /// The service whose instances are the cluster's nodes.
    pub service: String,
    /// The tags that each of them has.
    pub tags: Vec<String>,
    /// Whether the node registers itself.
    pub registers: bool,
}

impl Consul {
    /// What the settings say about Consul, which is taken as chosen.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn of(settings: &Settings) -> Result<Self, ConfigError> {
        consul(settings, &mut Vec::new())
    }
}

/// What the settings say about Consul; `None` when nodes are found by seeds alone.
pub(super) fn check(
    settings: &Settings,
    notices: &mut Vec<Notice>,
) -> Result<Option<Consul>, ConfigError> {
    if settings.discovery.unwrap_or_default() == Discovery::Seeds {
        return match without_meaning(settings) {
            Some(flag) => Err(ConfigError::WithoutConsul { flag }),
            None => Ok(None),
        };
    }
    Ok(Some(consul(settings, notices)?))
}

fn consul(settings: &Settings, notices: &mut Vec<Notice>) -> Result<Consul, ConfigError> {
    let address = address(
        "--consul",
        settings.consul.as_deref().unwrap_or("127.0.0.1:8500"),
    )?;
    let token = settings.consul_token_file.as_deref();
    let token = token.map(|path| secret::read("--consul-token-file", path, notices));
    let tags = match &settings.service_tags {
        Some(given) => tags(given)?,
        None => vec!["production".to_owned()],
    };
    let service = settings.service_name.as_deref().unwrap_or("quorate");
    Ok(Consul {
        address: address.to_string(),
        token: token.transpose()?,
        service: label("--service-name", service)?,
        tags,
        registers: settings.register.unwrap_or_default() == Register::Yes,
    })
}

fn without_meaning(settings: &Settings) -> Option<&'static str> {
    let given = [
        ("--consul", settings.consul.is_some()),
        ("--consul-token-file", settings.consul_token_file.is_some()),
        ("--service-name", settings.service_name.is_some()),
        ("--service-tags", settings.service_tags.is_some()),
        ("--register", settings.register.is_some()),
    ];
    given.into_iter().find_map(|(flag, is)| is.then_some(flag))
}

fn tags(given: &[String]) -> Result<Vec<String>, ConfigError> {
    let given = given.iter().map(|tag| tag.trim());
    let given = given.filter(|tag| !tag.is_empty());
    given.map(|tag| label("--service-tags", tag)).collect()
}

/// A part of a domain name: services and their tags are looked up by DNS too.
fn label(flag: &'static str, value: &str) -> Result<String, ConfigError> {
    let inside = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let ends = [value.bytes().next(), value.bytes().next_back()];
    let good = value.len() <= LONGEST_LABEL
        && value.bytes().all(inside)
        && ends.iter().all(|end| end.is_some_and(|b| b != b'-'));
    if good {
        return Ok(value.to_owned());
    }
    Err(ConfigError::Label {
        flag,
        value: value.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(toml: &str) -> Settings {
        toml::from_str(toml).unwrap()
    }

    fn checked(toml: &str) -> Result<Option<Consul>, String> {
        check(&settings(toml), &mut Vec::new()).map_err(|error| error.to_string())
    }

    #[test]
    fn consul_has_defaults_and_is_not_looked_for_unless_told() {
        assert!(checked("").unwrap().is_none());
        let consul = checked("discovery = \"consul\"").unwrap().unwrap();
        assert_eq!(consul.address, "127.0.0.1:8500");
        assert_eq!(consul.service, "quorate");
        assert_eq!(consul.tags, ["production"]);
        assert!(consul.registers && consul.token.is_none());
    }

    #[test]
    fn names_that_dns_cannot_carry_and_flags_without_meaning_are_refused() {
        let rows = [
            (
                "discovery = \"consul\"\nservice-name = \"a.b\"",
                "--service-name \"a.b\": must be",
            ),
            (
                "discovery = \"consul\"\nservice-name = \"\"",
                "--service-name \"\": must be",
            ),
            (
                "discovery = \"consul\"\nservice-name = \"a-\"",
                "--service-name \"a-\": must be",
            ),
            (
                "discovery = \"consul\"\nservice-tags = [\"A\"]",
                "--service-tags \"A\": must be",
            ),
            (
                "discovery = \"consul\"\nconsul = \"x\"",
                "--consul \"x\": must be a host and a port",
            ),
            (
                "consul = \"127.0.0.1:1\"",
                "--consul is for --discovery consul",
            ),
            ("register = \"no\"", "--register is for --discovery consul"),
            (
                "service-name = \"a\"",
                "--service-name is for --discovery consul",
            ),
            (
                "service-tags = [\"a\"]",
                "--service-tags is for --discovery consul",
            ),
            (
                "consul-token-file = \"t\"",
                "--consul-token-file is for --discovery consul",
            ),
            (
                "discovery = \"consul\"\nconsul-token-file = \"/no/such\"",
                "--consul-token-file /no/such: ",
            ),
        ];
        for (toml, want) in rows {
            let error = checked(toml).unwrap_err();
            assert!(error.starts_with(want), "{toml}: {error}");
        }
        let none = checked("discovery = \"consul\"\nservice-tags = []\nregister = \"no\"");
        let none = none.unwrap().unwrap();
        assert!(none.tags.is_empty() && !none.registers);
    }
}
