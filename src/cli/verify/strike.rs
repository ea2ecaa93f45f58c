//! Strikes a change of members in its middle.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::super::failure::Failure;
use super::cluster::Cluster;
use super::crew::{Blow, Change, Harm, Moment, Role};
use super::operator::{Errand, News, OVER_WITHIN, Transfer, commit, news, slow_down, transfers};
use super::relay::Relay;

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A node that was just started is told how fast to move within this.
const TOLD_WITHIN: Duration = Duration::from_secs(20);

/// What came of it.
pub(super) struct Struck {
    /// Whether it hit the change while that was under way.
    pub(super) bit: bool,
    /// Whom it hit and when, in words.
    pub(super) target: String,
    /// The part in the change of the node that was killed.
    pub(super) role: Option<Role>,
    /// How far the change had come.
    pub(super) moment: Option<Moment>,
}

/// Brings a change to the moment, strikes, and makes good what it did.
pub(super) async fn strike(
    cluster: &mut Cluster,
    errand: &mut Errand,
    blow: &Blow,
) -> Result<Struck, Failure> {
    let missed = Struck {
        bit: false,
        target: "nobody: it was over too soon".to_owned(),
        role: None,
        moment: None,
    };
    limit(cluster, errand, true).await;
    let deadline = Instant::now() + OVER_WITHIN;
    let mut most = 0;
    let struck = loop {
        cluster.check()?;
        if Instant::now() > deadline {
            break missed;
        }
        let Some(news) = errand.look(cluster).await else {
            continue;
        };
        if errand.is_over(cluster, &news) {
            break missed;
        }
        if let Moment::Asked(after) = blow.when
            && let Harm::Kill(role) = blow.what
            && errand.is_staged(cluster, &news)
        {
            break while_asked(cluster, errand, &news, (after, role, blow)).await?;
        }
        if news.moving == 0 {
            errand.push(cluster, &news).await;
        } else if let Some((_, admin)) = errand.contact(cluster)
            && let Some(all) = transfers(&admin).await
            && is_now(&blow.when, &all, &mut most)
        {
            break in_move(cluster, errand, &all, blow).await?;
        }
        sleep(LOOK_EVERY).await;
    };
    limit(cluster, errand, false).await;
    Ok(struck)
}

/// Has everybody move one partition after the other, so that there is a middle to be hit; or as
/// before.
async fn limit(cluster: &Cluster, errand: &Errand, slow: bool) {
    let deadline = Instant::now() + TOLD_WITHIN;
    let new = errand.change().new_one();
    let mut left: Vec<String> = new.and_then(|n| cluster.admin_of(n)).into_iter().collect();
    left.extend(errand.contact(cluster).map(|(_, admin)| admin));
    while let Some(admin) = left.last() {
        if slow_down(admin, slow).await || Instant::now() > deadline {
            left.pop();
        } else {
            sleep(LOOK_EVERY).await;
        }
    }
}

/// Whether the move has come so far. `most` is how many partitions have been under way at once.
fn is_now(when: &Moment, all: &[Transfer], most: &mut usize) -> bool {
    let left = all.iter().filter(|t| !t.has_flipped()).count();
    *most = left.max(*most);
    match when {
        // By itself, before anybody could be hit while it was asked.
        Moment::Asked(_) | Moment::Begun => left > 0,
        Moment::Half => *most > 0 && left * 2 <= *most,
        Moment::Late => *most > 0 && left * 10 <= *most,
    }
}

/// Kills somebody before the one that was asked to commit has answered, or just afterwards.
async fn while_asked(
    cluster: &mut Cluster,
    errand: &mut Errand,
    news: &News,
    (after, role, blow): (Duration, Role, &Blow),
) -> Result<Struck, Failure> {
    let (asked, admin) = errand.contact(cluster).unwrap_or_default();
    let node = due(cluster, errand.change(), asked, role);
    let killing = async {
        sleep(after).await;
        cluster.kill(node)
    };
    let (is_answered, killed) = tokio::join!(commit(&admin, news.epoch), killing);
    let bit = killed? && (!is_answered || still_moves(cluster, errand).await);
    sleep(blow.hold).await;
    start_again(cluster, errand, node)?;
    let target = format!(
        "{}, the {} of {}, {} ms after it was asked for{}",
        cluster.name(node),
        role.name(),
        errand.words(cluster),
        after.as_millis(),
        if is_answered { " and agreed" } else { "" }
    );
    Ok(Struck {
        bit,
        target,
        role: Some(role),
        moment: Some(blow.when),
    })
}

/// Who will have this part in a change that `asked` is asked for.
fn due(cluster: &Cluster, change: Change, asked: usize, role: Role) -> usize {
    // Any other member gives or receives where nobody is named.
    let others = || cluster.operable().into_iter().map(|(node, _)| node);
    let other = || others().find(|node| *node != asked);
    let node = match (role, change) {
        (Role::Proposer, _) => None,
        (Role::Giver, Change::Leave(old) | Change::Replace { old, .. }) => Some(old),
        (Role::Receiver, Change::Join(new) | Change::Replace { new, .. }) => Some(new),
        (Role::Giver, Change::Join(_) | Change::Forget(_))
        | (Role::Receiver, Change::Leave(_) | Change::Forget(_)) => other(),
    };
    node.unwrap_or(asked)
}

/// Starts a node that was killed, which may be the one that leaves.
fn start_again(cluster: &mut Cluster, errand: &Errand, node: usize) -> Result<(), Failure> {
    cluster.start_again(node, &[])?;
    if errand.change().old_one() == Some(node) {
        cluster.leaves(node);
    }
    Ok(())
}

/// Strikes while partitions move.
async fn in_move(
    cluster: &mut Cluster,
    errand: &mut Errand,
    all: &[Transfer],
    blow: &Blow,
) -> Result<Struck, Failure> {
    let left = all.iter().filter(|t| !t.has_flipped()).count();
    let what = errand.words(cluster);
    let when = format!("{left} of {} partitions of {what} left", all.len());
    // A move that began by itself was not there to be hit while it was asked for.
    let moment = Some(match blow.when {
        Moment::Asked(_) => Moment::Begun,
        Moment::Begun | Moment::Half | Moment::Late => blow.when,
    });
    match &blow.what {
        Harm::Links(pairs, treatment) => {
            let Some(harmed) = cluster.relay().map(Relay::harmed) else {
                return Err(Failure::Usage("links are cut by relays only"));
            };
            cluster.relay().inspect(|r| r.treat(pairs, *treatment));
            let moves = still_moves(cluster, errand).await;
            sleep(blow.hold).await;
            cluster.relay().inspect(|r| r.heal());
            let harms = cluster.relay().is_some_and(|r| r.harmed() > harmed);
            let names = pairs
                .iter()
                .map(|(a, b)| format!("{}>{}", cluster.name(*a), cluster.name(*b)));
            let names: Vec<String> = names.collect();
            Ok(Struck {
                bit: moves && harms,
                target: format!("{}, {when}", names.join(" ")),
                role: None,
                moment,
            })
        }
        Harm::Kill(role) => {
            let node = cast(cluster, errand, all, *role);
            let killed = cluster.kill(node)?;
            let moves = still_moves(cluster, errand).await;
            sleep(blow.hold).await;
            start_again(cluster, errand, node)?;
            Ok(Struck {
                bit: killed && moves,
                target: format!("{}, the {}, {when}", cluster.name(node), role.name()),
                role: Some(*role),
                moment,
            })
        }
    }
}

/// Who has this part now.
fn cast(cluster: &Cluster, errand: &Errand, all: &[Transfer], role: Role) -> usize {
    let contact = errand.contact(cluster).map(|(node, _)| node);
    // Whoever is to be forgotten is dead already.
    let gone = |node: &usize| errand.change() == Change::Forget(*node);
    let place = |name: &String| cluster.place(name).filter(|node| !gone(node));
    let under_way = || all.iter().filter(|t| !t.has_flipped());
    let node = match role {
        Role::Proposer => contact,
        Role::Giver => under_way()
            .chain(all)
            .find_map(|t| t.from.as_ref().and_then(place)),
        Role::Receiver => under_way().chain(all).find_map(|t| place(&t.to)),
    };
    node.or(contact).unwrap_or_default()
}

/// Whether the change goes on after it was struck, so that it was hit in its middle.
async fn still_moves(cluster: &Cluster, errand: &mut Errand) -> bool {
    for _ in 0..cluster.crew().len() {
        if let Some((_, admin)) = errand.contact(cluster)
            && let Some(news) = news(&admin).await
        {
            return news.moving > 0;
        }
        errand.next();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_is_struck_at_its_beginning_in_its_middle_or_just_before_its_end() {
        let transfers = |left: usize| -> Vec<Transfer> {
            let step = |n| if n < left { "pulling" } else { "flipped" };
            let one = |n| serde_json::json!({"from": null, "to": "n1", "step": step(n)});
            let all = (0..40).map(|n| serde_json::from_value(one(n)));
            all.collect::<Result<_, _>>().unwrap()
        };
        // Partitions left; is it its beginning, its middle, its end?
        let rows = [
            (0, [false, false, false]),
            (40, [true, false, false]),
            (21, [true, false, false]),
            (20, [true, true, false]),
            (4, [true, true, true]),
            (0, [false, true, true]),
        ];
        let moments = [Moment::Begun, Moment::Half, Moment::Late];
        for (moment, column) in moments.iter().zip(0..) {
            let mut most = 0;
            for (left, want) in &rows {
                let now = is_now(moment, &transfers(*left), &mut most);
                assert_eq!(Some(&now), want.get::<usize>(column), "{left}, {moment:?}");
            }
        }
    }
}
