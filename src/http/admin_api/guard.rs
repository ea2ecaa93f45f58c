//! Who may ask on the admin listener. Without a token everybody on this machine may, and that must
//! not come to mean every page that a browser on this machine has open: such a page may send
//! requests here, and by a name that it makes point here it may read the answers too. So a name
//! that is not known to be this node's is refused, and so is what another page asks to change.

use actix_web::http::header::{self, HeaderMap, HeaderName};
use subtle::ConstantTimeEq;

use super::{AdminApi, digest};
use crate::http::api_error::ApiError;

/// What a request is judged by.
pub(super) struct Asked<'a> {
    pub(super) headers: &'a HeaderMap,
    /// GET or HEAD.
    pub(super) is_safe: bool,
}

impl Asked<'_> {
    /// Whether the node answers.
    pub(super) fn check(&self, api: &AdminApi) -> Result<(), ApiError> {
        match api.token {
            Some(token) if !self.shows(token) => return Err(ApiError::Unauthorized),
            Some(_) => {}
            None => self.check_host(&api.advertised)?,
        }
        self.check_origin()
    }

    fn shows(&self, token: [u8; 32]) -> bool {
        let shown = self.header(&header::AUTHORIZATION).unwrap_or_default();
        let shown = shown.strip_prefix("Bearer ").unwrap_or_default();
        bool::from(digest(shown.as_bytes()).ct_eq(&token))
    }

    fn check_host(&self, advertised: &str) -> Result<(), ApiError> {
        match self.header(&header::HOST) {
            Some(host) if !is_ours(host, advertised) => Err(ApiError::OriginRefused),
            Some(_) | None => Ok(()),
        }
    }

    /// Browsers say from which page a change comes; other clients say nothing.
    fn check_origin(&self) -> Result<(), ApiError> {
        let Some(origin) = self.header(&header::ORIGIN).filter(|_| !self.is_safe) else {
            return Ok(());
        };
        let from = origin.split_once("://").map(|(_, host)| host);
        if from.is_some() && from == self.header(&header::HOST) {
            Ok(())
        } else {
            Err(ApiError::OriginRefused)
        }
    }

    fn header(&self, name: &HeaderName) -> Option<&str> {
        // What is not text is no name of this node.
        let value = self.headers.get(name)?;
        Some(value.to_str().unwrap_or("?"))
    }
}

/// A number, which no foreign page can make point here, or a name that is known to.
fn is_ours(host: &str, advertised: &str) -> bool {
    let name = |host: &str| {
        let port = host
            .rsplit_once(':')
            .filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
        port.map_or(host, |(name, _)| name).to_ascii_lowercase()
    };
    let host = name(host);
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    literal.parse::<std::net::IpAddr>().is_ok() || host == "localhost" || host == name(advertised)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_our_own_names_are_ours() {
        let rows = [
            ("127.0.0.1:8081", true),
            ("10.0.0.7", true),
            ("[::1]:8081", true),
            ("[::1]", true),
            ("localhost:8081", true),
            ("LocalHost", true),
            ("n1.example.com:8081", true),
            ("n1.example.com", true),
            ("rebound.example.org:8081", false),
            ("localhost.example.org", false),
            ("127.0.0.1.example.org", false),
            ("n1.example.com.example.org", false),
            ("", false),
            ("?", false),
        ];
        for (host, expected) in rows {
            assert_eq!(is_ours(host, "n1.example.com:8081"), expected, "{host}");
        }
    }
}
