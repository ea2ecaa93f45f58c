//! HTTP requests by method, route and status. A route is a pattern of ours, never what a client
//! wrote: no key can become a label.

use super::counter::{Counters, Label, labels};

labels! {
    /// A request's method.
    Method {
        /// GET.
        Get "GET",
        /// HEAD.
        Head "HEAD",
        /// POST.
        Post "POST",
        /// PUT.
        Put "PUT",
        /// DELETE.
        Delete "DELETE",
        /// OPTIONS.
        Options "OPTIONS",
        /// Any other.
        Other "other",
    }
}

labels! {
    /// A pattern that paths are served under.
    Route {
        /// A key.
        Key "/v1/{key}",
        /// Whether the process serves.
        Livez "/livez",
        /// Whether the node should be sent requests.
        Readyz "/readyz",
        /// The contract.
        Openapi "/openapi.json",
        /// The node.
        Status "/status",
        /// The ring.
        Ring "/ring",
        /// Where a key lives.
        RingKey "/ring/{key}",
        /// What the node holds of a key.
        Replica "/replica/{key}",
        /// Digests.
        Merkle "/merkle",
        /// Work that no client waits for.
        Background "/background",
        /// Members, and how they change.
        Cluster "/cluster/{action}",
        /// The least important lines that are logged.
        LogLevel "/log-level",
        /// Metrics.
        Metrics "/metrics",
        /// The console's page and its files.
        Console "/console/{file}",
        /// The figures of all members.
        Figures "/figures",
        /// What replicas hold of a key.
        Explore "/explore",
        /// What happens at the node.
        Events "/events",
        /// Everything else, what is not there among it.
        Other "other",
    }
}

/// The statuses that are counted apart; the others of their class together, as `4xx`.
const STATUSES: &[(u16, &str)] = &[
    (200, "200"),
    (201, "201"),
    (400, "400"),
    (401, "401"),
    (403, "403"),
    (404, "404"),
    (405, "405"),
    (408, "408"),
    (409, "409"),
    (413, "413"),
    (414, "414"),
    (415, "415"),
    (500, "500"),
    (503, "503"),
    (504, "504"),
    (507, "507"),
];
/// The rest, by class.
const CLASSES: [&str; 6] = ["other", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// All requests that were answered, since the start.
#[derive(Debug)]
pub struct RequestCounts(Counters);

impl Default for RequestCounts {
    fn default() -> Self {
        Self(Counters::new(
            Route::ALL.len() * Method::ALL.len() * statuses(),
        ))
    }
}

impl RequestCounts {
    /// Counts an answer.
    pub fn answered(&self, method: &str, path: &str, status: u16) {
        let (method, route) = (Method::of(method), Route::of(path));
        self.0.count(place(route, method, status_place(status)));
    }

    /// Every count that is not zero, with its labels.
    pub fn each(&self, mut tell: impl FnMut([&'static str; 3], u64)) {
        for route in Route::ALL {
            for method in Method::ALL {
                for status in 0..statuses() {
                    let count = self.0.at(place(*route, *method, status));
                    if count > 0 {
                        tell(
                            [method.as_str(), route.as_str(), status_text(status)],
                            count,
                        );
                    }
                }
            }
        }
    }
}

impl Method {
    fn of(name: &str) -> Self {
        let named = Self::ALL.iter().find(|method| method.as_str() == name);
        named.copied().unwrap_or(Self::Other)
    }
}

impl Route {
    fn of(path: &str) -> Self {
        if path.starts_with("/v1/") {
            return Self::Key;
        }
        let below = [
            ("/ring/", Self::RingKey),
            ("/replica/", Self::Replica),
            ("/console/", Self::Console),
            ("/cluster/", Self::Cluster),
        ];
        if let Some((_, route)) = below.iter().find(|(prefix, _)| path.starts_with(prefix)) {
            return *route;
        }
        let named = Self::ALL.iter().find(|route| route.as_str() == path);
        named.copied().unwrap_or(Self::Other)
    }
}

const fn statuses() -> usize {
    STATUSES.len() + CLASSES.len()
}

fn status_place(status: u16) -> usize {
    let named = STATUSES.iter().position(|(code, _)| *code == status);
    named.unwrap_or_else(|| {
        let class = usize::from(status / 100);
        STATUSES.len() + if class < CLASSES.len() { class } else { 0 }
    })
}

fn status_text(place: usize) -> &'static str {
    let named = STATUSES.get(place).map(|(_, text)| *text);
    let class = || CLASSES.get(place - STATUSES.len()).copied();
    named.or_else(class).unwrap_or("other")
}

fn place(route: Route, method: Method, status: usize) -> usize {
    (route.number() * Method::ALL.len() + method.number()) * statuses() + status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_pattern_and_a_key_is_never_a_label() {
        let rows = [
            ("GET", "/v1/cart", 200, ["GET", "/v1/{key}", "200"]),
            ("PUT", "/v1/livez", 507, ["PUT", "/v1/{key}", "507"]),
            ("GET", "/livez", 200, ["GET", "/livez", "200"]),
            ("GET", "/ring", 200, ["GET", "/ring", "200"]),
            ("GET", "/ring/a%2Fb", 414, ["GET", "/ring/{key}", "414"]),
            ("HEAD", "/replica/x", 431, ["HEAD", "/replica/{key}", "4xx"]),
            ("BREW", "/secret", 404, ["other", "other", "404"]),
            ("GET", "/v1", 404, ["GET", "other", "404"]),
            ("GET", "other", 999, ["GET", "other", "other"]),
            ("DELETE", "/status", 100, ["DELETE", "/status", "1xx"]),
        ];
        for (method, path, status, labels) in rows {
            let counts = RequestCounts::default();
            counts.answered(method, path, status);
            let mut told = Vec::new();
            counts.each(|labels, count| told.push((labels, count)));
            assert_eq!(told, [(labels, 1)], "{method} {path} {status}");
        }
    }
}
