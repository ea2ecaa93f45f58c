//! A small blocking client for the REST API.

use std::time::Duration;

use serde_json::{Value, json};
use ureq::Agent;
use ureq::http::Response;

/// Keeps its connections; clone it per thread.
#[derive(Clone)]
pub struct Client(Agent);

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Client {
    pub fn new() -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(15)))
            .max_idle_connections_per_host(8);
        Self(config.build().new_agent())
    }

    pub fn get(&self, url: &str) -> Answer {
        self.try_get(url)
            .unwrap_or_else(|| panic!("GET {url}: no answer"))
    }

    pub fn try_get(&self, url: &str) -> Option<Answer> {
        self.0.get(url).call().ok().map(Answer::of)
    }

    pub fn try_post(&self, url: &str, body: &Value) -> Option<Answer> {
        let request = self.0.post(url).content_type("application/json");
        request.send(body.to_string()).ok().map(Answer::of)
    }

    pub fn post(&self, url: &str, value: &Value) -> Answer {
        let answer = self.try_post(url, &json!({ "value": value }));
        answer.unwrap_or_else(|| panic!("POST {url}: no answer"))
    }

    pub fn try_put(&self, url: &str, value: &Value, clock: &str) -> Option<Answer> {
        let body = json!({ "value": value, "clock": clock }).to_string();
        self.0
            .put(url)
            .content_type("application/json")
            .send(body)
            .ok()
            .map(Answer::of)
    }

    pub fn put(&self, url: &str, value: &Value, clock: &str) -> Answer {
        let answer = self.try_put(url, value, clock);
        answer.unwrap_or_else(|| panic!("PUT {url}: no answer"))
    }

    pub fn put_with(
        &self,
        url: &str,
        value: &Value,
        clock: &str,
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut request = self.0.put(url).content_type("application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = json!({ "value": value, "clock": clock }).to_string();
        match request.send(body) {
            Ok(answer) => Answer::of(answer),
            Err(error) => panic!("PUT {url}: {error}"),
        }
    }

    pub fn delete(&self, url: &str) -> Answer {
        self.try_delete(url)
            .unwrap_or_else(|| panic!("DELETE {url}: no answer"))
    }

    pub fn try_delete(&self, url: &str) -> Option<Answer> {
        self.0.delete(url).call().ok().map(Answer::of)
    }
}

impl Answer {
    fn of(mut response: Response<ureq::Body>) -> Self {
        let text = |value: &ureq::http::HeaderValue| value.to_str().unwrap_or_default().to_owned();
        let headers = response.headers().iter();
        Self {
            status: response.status().as_u16(),
            headers: headers
                .map(|(name, value)| (name.to_string(), text(value)))
                .collect(),
            body: response
                .body_mut()
                .read_to_string()
                .expect("a body of text"),
        }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e} in {:?}", self.body))
    }

    pub fn clock(&self) -> String {
        self.json()["clock"]
            .as_str()
            .unwrap_or_else(|| panic!("no clock in {self:?}"))
            .to_owned()
    }

    /// The values of a read, sorted.
    pub fn values(&self) -> Vec<Value> {
        let mut values = self.json()["value"].as_array().cloned().unwrap_or_default();
        values.sort_by_key(ToString::to_string);
        values
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map_or("", |(_, value)| value)
    }
}

/// A text in which every byte is escaped, for a path or a query.
pub fn escaped(text: &str) -> String {
    let bytes = text.bytes().map(|byte| format!("%{byte:02X}"));
    bytes.collect::<Vec<_>>().concat()
}
