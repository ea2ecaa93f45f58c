//! The `consul` crate, whose calls block, each kind on a thread of its own: a watch that waits for
//! news must not hold up the renewal of the session.

use std::time::Duration;

use actix::prelude::{Actor, Addr, Handler, Message, MessageResult, SyncArbiter, SyncContext};
use consul::health::Health;
use consul::kv::{KV, KVPair};
use consul::session::{Session, SessionEntry};
use consul::{Client, Config, QueryOptions};

use super::ConsulSettings;

/// How long a watch waits for news; Consul adds up to a sixteenth.
const WAIT: Duration = Duration::from_secs(20);
/// How long Consul may take to answer a watch at all.
const WATCH_TIME: Duration = Duration::from_secs(30);
/// How long it may take for a step with the lock: together they stay below the session's life.
const LOCK_TIME: Duration = Duration::from_secs(3);
/// How long a session outlives its last renewal; the shortest that Consul allows is 10 s.
const SESSION_LIFE: &str = "15s";
/// Seconds for which nobody gets a lock whose holder was lost.
const LOCK_DELAY: u64 = 1;

/// The crate's call has failed. Why it does not say: it takes every refusal for bad JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Consul does not answer, or refuses")]
pub(super) struct NoAnswer;

/// The crate's client, made on the thread that uses it.
struct Calls {
    settings: ConsulSettings,
    time: Duration,
    client: Option<Client>,
}

impl Calls {
    fn new(settings: ConsulSettings, time: Duration) -> Self {
        Self {
            settings,
            time,
            client: None,
        }
    }

    fn client(&mut self) -> Result<Client, NoAnswer> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let http = reqwest::blocking::Client::builder();
        let http = http.no_proxy().timeout(self.time).build();
        let token = self.settings.access.token.as_ref();
        let client = Client::new(Config {
            address: format!("http://{}", self.settings.access.address),
            datacenter: None,
            http_client: http.or(Err(NoAnswer))?,
            token: token.map(|token| token.expose().to_owned()),
            wait_time: None,
        });
        self.client = Some(client.clone());
        Ok(client)
    }
}

/// Waits for changes among the instances of a service.
pub(super) struct Watch(Calls);

/// Returns once the catalogue has moved on from this index, with the new one; or after a while.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<u64, NoAnswer>")]
pub(super) struct AwaitChange {
    pub(super) index: Option<u64>,
}

impl Watch {
    pub(super) fn start(settings: ConsulSettings) -> Addr<Self> {
        SyncArbiter::start(1, move || Self(Calls::new(settings.clone(), WATCH_TIME)))
    }
}

impl Actor for Watch {
    type Context = SyncContext<Self>;
}

impl Handler<AwaitChange> for Watch {
    type Result = Result<u64, NoAnswer>;

    fn handle(
        &mut self,
        AwaitChange { index }: AwaitChange,
        _: &mut Self::Context,
    ) -> Self::Result {
        let consul = self.0.client()?;
        let settings = &self.0.settings;
        let options = QueryOptions {
            datacenter: None,
            wait_index: index,
            wait_time: Some(WAIT),
        };
        let tag = settings.tags.first().map(String::as_str);
        let seen = Health::service(&consul, &settings.service, tag, false, Some(&options));
        let (_, meta) = seen.map_err(|_says_nothing| NoAnswer)?;
        meta.last_index.ok_or(NoAnswer)
    }
}

/// Holds the lock that lets one new node go ahead at a time.
pub(super) struct JoinLock {
    calls: Calls,
    holder: String,
    session: Option<String>,
}

/// Take the lock, or keep it; whether this node has it now.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<bool, NoAnswer>")]
pub(super) struct Hold;

/// Let others have the lock.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub(super) struct Release;

impl JoinLock {
    pub(super) fn start(settings: ConsulSettings, holder: String) -> Addr<Self> {
        SyncArbiter::start(1, move || Self {
            calls: Calls::new(settings.clone(), LOCK_TIME),
            holder: holder.clone(),
            session: None,
        })
    }

    /// With a session that Consul has forgotten the lock is lost, which is told before another one
    /// is made.
    fn hold(&mut self) -> Result<bool, NoAnswer> {
        let consul = self.calls.client()?;
        let id = match &self.session {
            Some(id) if lives(&consul, id)? => id.clone(),
            Some(_) => {
                self.session = None;
                return Ok(false);
            }
            None => self.new_session(&consul)?,
        };
        self.session = Some(id.clone());
        let held = consul.acquire(&self.lock(&id), None);
        Ok(held.map_err(|_says_nothing| NoAnswer)?.0)
    }

    fn new_session(&self, consul: &Client) -> Result<String, NoAnswer> {
        let session = SessionEntry {
            Name: Some(format!("{} joins", self.holder)),
            LockDelay: Some(LOCK_DELAY),
            Behavior: Some("release".to_owned()),
            TTL: Some(SESSION_LIFE.to_owned()),
            ..SessionEntry::default()
        };
        let made = Session::create(consul, &session, None);
        let (made, _) = made.map_err(|_says_nothing| NoAnswer)?;
        made.ID.ok_or(NoAnswer)
    }

    fn lock(&self, session: &str) -> KVPair {
        KVPair {
            Key: format!("{}/join", self.calls.settings.service),
            Value: self.holder.clone(),
            Session: Some(session.to_owned()),
            ..KVPair::default()
        }
    }
}

/// Renews a session; not if it has ended, and the crate's error does not tell that from others.
fn lives(consul: &Client, id: &str) -> Result<bool, NoAnswer> {
    if consul.renew(id, None).is_ok() {
        return Ok(true);
    }
    let (found, _) = consul.info(id, None).map_err(|_says_nothing| NoAnswer)?;
    if found.is_empty() {
        Ok(false)
    } else {
        Err(NoAnswer)
    }
}

impl Actor for JoinLock {
    type Context = SyncContext<Self>;
}

impl Handler<Hold> for JoinLock {
    type Result = Result<bool, NoAnswer>;

    fn handle(&mut self, _: Hold, _: &mut Self::Context) -> Self::Result {
        self.hold()
    }
}

/// What cannot be given back ends with its session.
impl Handler<Release> for JoinLock {
    type Result = MessageResult<Release>;

    fn handle(&mut self, _: Release, _: &mut Self::Context) -> Self::Result {
        if let (Some(id), Ok(consul)) = (self.session.take(), self.calls.client()) {
            drop(consul.release(&self.lock(&id), None));
            drop(Session::destroy(&consul, &id, None));
        }
        MessageResult(())
    }
}
