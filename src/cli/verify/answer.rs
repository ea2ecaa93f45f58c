//! What an answer says of an operation: whether it was done, what it showed, and its clock.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::connection::Broken;
use super::asker::Reply;
use super::history::{Action, Outcome};

/// What is known after an operation.
#[derive(Debug)]
pub(super) struct Answer {
    /// In a word or two, for people.
    pub(super) text: String,
    /// Whether it was done.
    pub(super) result: Outcome,
    /// Stand-ins among those that acknowledged.
    pub(super) hinted: Option<u32>,
    /// The values shown, as they were sent.
    pub(super) values: Option<Vec<Box<RawValue>>>,
    /// The clock.
    pub(super) token: Option<String>,
}

/// The fields of any body.
#[derive(Debug, Default, Deserialize)]
struct Body {
    #[serde(default)]
    value: Vec<Box<RawValue>>,
    clock: Option<String>,
    #[serde(default)]
    code: String,
    #[serde(default)]
    outcome: String,
}

impl Answer {
    /// Of what came back, or did not.
    pub(super) fn of(op: Action, reply: Result<Reply, Broken>) -> Self {
        match reply {
            Ok(reply) => Self::told(op, &reply),
            Err(broken) => Self {
                text: broken.to_string(),
                result: match broken {
                    Broken::Connect(_) => Outcome::Fail,
                    Broken::Io(_) | Broken::Closed | Broken::Malformed(_) | Broken::TimedOut => {
                        Outcome::Info
                    }
                },
                hinted: None,
                values: None,
                token: None,
            },
        }
    }

    fn told(op: Action, reply: &Reply) -> Self {
        let status = reply.status;
        // A body that says nothing leaves everything open but what the status says.
        let body: Body = serde_json::from_slice(&reply.body).unwrap_or_default();
        let absent = status == 404 && body.code == "not_found";
        let result = match status {
            200..=299 => Outcome::Ok,
            _ if absent && op == Action::Get => Outcome::Ok,
            400..=499 => Outcome::Fail,
            _ if body.outcome == "not_applied" => Outcome::Fail,
            _ => Outcome::Info,
        };
        let shows = absent || status == 409 || (op == Action::Get && status == 200);
        Self {
            text: format!("{status} {}", body.code).trim_end().to_owned(),
            result,
            hinted: reply.hinted,
            values: (shows && body.clock.is_some()).then_some(body.value),
            token: body.clock,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOUND: &str = r#"{"value":[1,{"w":"a"}],"clock":"c"}"#;
    const ABSENT: &str = r#"{"code":"not_found","outcome":"not_applied","clock":"c"}"#;
    const EXISTS: &str =
        r#"{"code":"already_exists","outcome":"not_applied","value":[1],"clock":"c"}"#;
    const UNMET: &str = r#"{"code":"quorum_not_met","outcome":"unknown"}"#;
    const BUSY: &str = r#"{"code":"overloaded","outcome":"not_applied"}"#;

    #[test]
    fn an_answer_tells_what_is_known_of_the_effect_and_what_was_there() {
        let rows = [
            (Action::Get, 200, FOUND, Outcome::Ok, Some(2)),
            (Action::Get, 404, ABSENT, Outcome::Ok, Some(0)),
            (Action::Delete, 404, ABSENT, Outcome::Fail, Some(0)),
            (Action::Delete, 200, r#"{"clock":"c"}"#, Outcome::Ok, None),
            (
                Action::Put,
                200,
                r#"{"clock":"c","siblings":2}"#,
                Outcome::Ok,
                None,
            ),
            (Action::Post, 409, EXISTS, Outcome::Fail, Some(1)),
            (
                Action::Put,
                400,
                r#"{"code":"clock_invalid"}"#,
                Outcome::Fail,
                None,
            ),
            (Action::Put, 503, UNMET, Outcome::Info, None),
            (Action::Put, 503, BUSY, Outcome::Fail, None),
            (Action::Put, 502, "<html>", Outcome::Info, None),
            (Action::Get, 503, UNMET, Outcome::Info, None),
        ];
        for (op, status, body, result, values) in rows {
            let reply = Reply {
                status,
                hinted: None,
                body: body.as_bytes().to_vec(),
            };
            let answer = Answer::of(op, Ok(reply));
            assert_eq!(answer.result, result, "{op:?} {status} {body}");
            assert_eq!(
                answer.values.map(|v| v.len()),
                values,
                "{op:?} {status} {body}"
            );
        }
    }

    #[test]
    fn only_what_was_never_sent_is_surely_not_done() {
        let refused = || std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let rows = [
            (Broken::Connect(refused()), Outcome::Fail),
            (Broken::Io(refused()), Outcome::Info),
            (Broken::Closed, Outcome::Info),
            (Broken::TimedOut, Outcome::Info),
        ];
        for (broken, want) in rows {
            let answer = Answer::of(Action::Put, Err(broken));
            assert_eq!(answer.result, want, "{}", answer.text);
        }
    }
}
