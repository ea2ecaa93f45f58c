//! Changes of members as operators make them: staged, committed as they were shown, waited for. All
//! by the admin listener, as `quorate cluster` does it.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::super::failure::Failure;
use super::asker::{Asker, Question};
use super::cluster::Cluster;
use super::crew::Change;

/// Longer than a member takes to answer while others are silent.
const ANSWER_TIME: Duration = Duration::from_secs(5);

const ASK_EVERY: Duration = Duration::from_millis(50);

/// A change that is asked for again and again is agreed within this, or never.
const AGREED_WITHIN: Duration = Duration::from_secs(40);

/// Once nothing fails any more a change is over within this, or never.
pub(super) const OVER_WITHIN: Duration = Duration::from_mins(1);

/// A change that is under way, or about to be.
pub(super) struct Errand {
    change: Change,
    /// Whether a node that comes waits to be committed; otherwise it joins by itself.
    staged: bool,
    /// The members take turns in being asked.
    turn: usize,
}

/// How things are, as one member says.
#[derive(Debug, Default)]
pub(super) struct News {
    /// The ring's.
    pub(super) epoch: u64,
    /// Partitions on their way.
    pub(super) moving: u64,
    staged: Vec<String>,
    members: Vec<String>,
}

/// One partition on its way.
#[derive(Debug, Deserialize)]
pub(super) struct Transfer {
    pub(super) from: Option<String>,
    pub(super) to: String,
    step: String,
}

impl Transfer {
    pub(super) fn has_flipped(&self) -> bool {
        self.step == "flipped"
    }
}

impl Errand {
    /// Starts whoever comes, and ends whoever is to be forgotten.
    pub(super) fn begin(
        cluster: &mut Cluster,
        change: Change,
        staged: bool,
    ) -> Result<Self, Failure> {
        if let Some(new) = change.new_one() {
            cluster.enter(new, staged || change != Change::Join(new))?;
        }
        if let Change::Forget(old) = change {
            cluster.kill(old)?;
        }
        if let Some(old) = change.old_one() {
            cluster.leaves(old);
        }
        Ok(Self {
            change,
            staged,
            turn: 0,
        })
    }

    /// Which change.
    pub(super) fn change(&self) -> Change {
        self.change
    }

    /// As the cluster words it.
    pub(super) fn words(&self, cluster: &Cluster) -> String {
        let name = |node| cluster.name(node);
        match self.change {
            Change::Join(new) => format!("join {}", name(new)),
            Change::Leave(old) => format!("leave {}", name(old)),
            Change::Replace { old, new } => format!("replace {} {}", name(old), name(new)),
            Change::Forget(old) => format!("forget {}", name(old)),
        }
    }

    /// The member whose turn it is to be asked.
    pub(super) fn contact(&self, cluster: &Cluster) -> Option<(usize, String)> {
        let all = cluster.operable();
        let place = self.turn % all.len().max(1);
        all.into_iter().nth(place)
    }

    /// Asks another member from now on.
    pub(super) fn next(&mut self) {
        self.turn += 1;
    }

    /// How things are; if a member is silent, the next one is asked the next time.
    pub(super) async fn look(&mut self, cluster: &Cluster) -> Option<News> {
        let (_, admin) = self.contact(cluster)?;
        let news = news(&admin).await;
        self.turn += usize::from(news.is_none());
        news
    }

    /// Whether it is over.
    pub(super) fn is_over(&self, cluster: &Cluster, news: &News) -> bool {
        let has = |node: usize| news.members.contains(&cluster.name(node));
        news.moving == 0
            && self.change.new_one().is_none_or(has)
            && !self.change.old_one().is_some_and(has)
    }

    /// Whether nothing is left but to commit it.
    pub(super) fn is_staged(&self, cluster: &Cluster, news: &News) -> bool {
        news.moving == 0 && news.staged.contains(&self.words(cluster))
    }

    /// Asks for what is next: that it is staged, or that it is committed.
    pub(super) async fn push(&mut self, cluster: &Cluster, news: &News) {
        let is_own_affair = matches!(self.change, Change::Join(_)) && !self.staged;
        if news.moving > 0 || is_own_affair {
            return;
        }
        let name = |node| cluster.name(node);
        let wanted = match self.change {
            _ if self.is_staged(cluster, news) => None,
            Change::Join(_) => return,
            Change::Leave(node) => Some(json!({"change": "leave", "node": name(node)})),
            Change::Replace { old, new } => {
                Some(json!({"change": "replace", "old": name(old), "new": name(new)}))
            }
            Change::Forget(node) => {
                Some(json!({"change": "forget", "node": name(node), "accept_data_loss": true}))
            }
        };
        let Some((_, admin)) = self.contact(cluster) else {
            return;
        };
        let done = match wanted {
            Some(wanted) => send(&admin, "POST", "/cluster/stage", &wanted).await,
            None => commit(&admin, news.epoch).await,
        };
        self.turn += usize::from(!done);
    }

    /// Until partitions move, or have moved; whether that came about.
    pub(super) async fn until_agreed(&mut self, cluster: &mut Cluster) -> Result<bool, Failure> {
        let deadline = Instant::now() + AGREED_WITHIN;
        while Instant::now() < deadline {
            cluster.check()?;
            if let Some(news) = self.look(cluster).await {
                if news.moving > 0 || self.is_over(cluster, &news) {
                    return Ok(true);
                }
                self.push(cluster, &news).await;
            }
            sleep(ASK_EVERY).await;
        }
        Ok(false)
    }

    /// Until it is over, and whoever left has ended; otherwise what it is that does not end.
    pub(super) async fn until_over(
        mut self,
        cluster: &mut Cluster,
    ) -> Result<Option<String>, Failure> {
        let deadline = Instant::now() + OVER_WITHIN;
        let mut last = News::default();
        let mut is_over = false;
        while Instant::now() < deadline {
            cluster.check()?;
            if let Some(news) = self.look(cluster).await {
                is_over = self.is_over(cluster, &news);
                if !is_over {
                    self.push(cluster, &news).await;
                }
                last = news;
            }
            let gone = match self.change.old_one() {
                Some(old) => cluster.has_ended(old)?,
                None => true,
            };
            if is_over && gone {
                self.settle(cluster)?;
                return Ok(None);
            }
            sleep(ASK_EVERY).await;
        }
        let what = self.words(cluster);
        Ok(Some(if is_over {
            format!("{what}: who left has not ended")
        } else {
            let News { epoch, moving, .. } = last;
            format!("{what}: {moving} partitions are moving in epoch {epoch}")
        }))
    }

    fn settle(&self, cluster: &mut Cluster) -> Result<(), Failure> {
        if let Some(new) = self.change.new_one() {
            cluster.entered(new);
        }
        if let Some(old) = self.change.old_one() {
            cluster.clear(old)?;
        }
        Ok(())
    }
}

/// Has what is staged committed as it was shown; whether it was.
pub(super) async fn commit(admin: &str, epoch: u64) -> bool {
    let Some(plan) = ask(admin, "GET", "/cluster/plan", None).await else {
        return false;
    };
    let shown = json!({"epoch": epoch, "without": plan.get("spared")});
    send(admin, "POST", "/cluster/commit", &shown).await
}

/// Everything that is on its way.
pub(super) async fn transfers(admin: &str) -> Option<Vec<Transfer>> {
    let shown = ask(admin, "GET", "/cluster/transfers", None).await?;
    Vec::deserialize(shown.get("transfers")?).ok()
}

/// Has the nodes move one partition after the other, or as they like; whether they were told.
pub(super) async fn slow_down(admin: &str, slow: bool) -> bool {
    let limits = if slow {
        json!({"at_once": 1, "bytes_s": 500_000})
    } else {
        json!({"at_once": 4, "bytes_s": null})
    };
    send(admin, "PUT", "/cluster/transfers", &limits).await
}

/// What never came to rest although nothing fails any more; nothing if all did.
pub(super) async fn unrest(cluster: &Cluster, within: Duration) -> Vec<String> {
    let deadline = Instant::now() + within;
    loop {
        let mut out = Vec::new();
        let mut epochs = Vec::new();
        for (name, admin) in cluster.admins() {
            match news(&admin).await {
                None => out.push(format!("{name} does not answer")),
                Some(News { epoch, moving, .. }) if moving > 0 => {
                    out.push(format!("{name}: {moving} partitions move in epoch {epoch}"));
                }
                Some(news) => epochs.push(news.epoch),
            }
        }
        epochs.dedup();
        if epochs.len() > 1 {
            out.push(format!("nodes are at different epochs: {epochs:?}"));
        }
        if out.is_empty() || Instant::now() > deadline {
            return out;
        }
        sleep(ASK_EVERY).await;
    }
}

/// How things are, as this node says.
pub(super) async fn news(admin: &str) -> Option<News> {
    let status = ask(admin, "GET", "/status", None).await?;
    let ring = status.get("ring")?;
    let names = |list: &Value, field: &str| -> Vec<String> {
        let all = list.as_array().into_iter().flatten();
        let name = |item: &Value| item.get(field).unwrap_or(item).as_str().map(str::to_owned);
        all.filter_map(name).collect()
    };
    Some(News {
        epoch: ring.get("epoch")?.as_u64()?,
        moving: ring.get("moving")?.as_u64()?,
        staged: names(ring.get("staged")?, "change"),
        members: names(status.get("members")?, "name"),
    })
}

async fn send(admin: &str, method: &str, path: &str, body: &Value) -> bool {
    ask(admin, method, path, Some(body)).await.is_some()
}

async fn ask(admin: &str, method: &str, path: &str, body: Option<&Value>) -> Option<Value> {
    let body = body.map(|body| body.to_string().into_bytes());
    let question = Question {
        method,
        path,
        fields: "",
        body: body.as_deref(),
    };
    let mut asker = Asker::new(admin.to_owned());
    let reply = asker.ask(question, ANSWER_TIME).await.ok()?;
    let is_ok = reply.status == 200;
    is_ok.then(|| serde_json::from_slice(&reply.body).ok())?
}
