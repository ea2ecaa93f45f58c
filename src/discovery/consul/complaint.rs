//! A trouble that lasts is told once, and so is its end: Consul may be away for hours.

use std::fmt::Display;

use slog::{Logger, info, warn};

/// What was last told of something that is tried again and again.
#[derive(Debug)]
pub(super) struct Complaint {
    log: Logger,
    what: &'static str,
    told: Option<String>,
}

impl Complaint {
    pub(super) fn new(log: Logger, what: &'static str) -> Self {
        Self {
            log,
            what,
            told: None,
        }
    }

    pub(super) fn trouble(&mut self, why: &impl Display) {
        let why = why.to_string();
        if self.told.as_ref() != Some(&why) {
            warn!(self.log, "Consul is of no help; the node goes on with what it knows";
                "quorate.consul.step" => self.what, "error.message" => &why);
            self.told = Some(why);
        }
    }

    pub(super) fn well(&mut self) {
        if self.told.take().is_some() {
            info!(self.log, "Consul helps again"; "quorate.consul.step" => self.what);
        }
    }
}
