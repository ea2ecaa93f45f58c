//! `/metrics`: the numbers of the node, gathered from wherever they are counted.

use actix_web::HttpResponse;

use super::{Api, going_down};
use crate::actors::admin_handle::AdminHandle;
use crate::actors::anti_entropy::EntropyStatus;
use crate::actors::background::BackgroundStatus;
use crate::actors::health::Health;
use crate::actors::reaper::ReapingStatus;
use crate::actors::store_keeper::StoreStatus;
use crate::dynamo::key::Partition;
use crate::dynamo::membership::lifecycle::NodeState;
use crate::metrics::calls::{CallKind, CallOutcome};
use crate::metrics::catalogue as is;
use crate::metrics::counter::Label;
use crate::metrics::operations::{Operation, OperationCounts, Outcome};
use crate::metrics::page::{CONTENT_TYPE, Page};
use crate::metrics::process::Process;
use crate::metrics::requests::RequestCounts;

pub(super) async fn metrics(api: Api) -> HttpResponse {
    let node = &api.node;
    let (Ok(store), Ok(entropy)) = (node.store().await, node.entropy().await) else {
        return going_down();
    };
    let (Ok(reaping), Ok(background)) = (node.reaping().await, node.background.status().await)
    else {
        return going_down();
    };
    let mut page = Page::default();
    requests(&mut page, &api.requests);
    operations(&mut page, node.in_flight.counts());
    queues(&mut page, node, &store);
    reads(&mut page, node);
    log(&mut page, node);
    stored(&mut page, &store);
    kept_for_others(&mut page, &store, api.limits.hint_bytes);
    repair(&mut page, &entropy, &reaping);
    ring(&mut page, node);
    members(&mut page, node);
    unhurried(&mut page, &background);
    process(&mut page);
    match page.encode() {
        Ok(text) => HttpResponse::Ok().content_type(CONTENT_TYPE).body(text),
        Err(error) => HttpResponse::InternalServerError().body(error.to_string()),
    }
}

fn requests(page: &mut Page, counts: &RequestCounts) {
    counts.each(|labels, count| page.count(is::HTTP_REQUESTS, &labels, count));
}

fn operations(page: &mut Page, counts: &OperationCounts) {
    for operation in Operation::ALL {
        let name = operation.as_str();
        for outcome in Outcome::ALL {
            let count = counts.outcomes(*operation, *outcome);
            page.count(is::OPERATIONS, &[name, outcome.as_str()], count);
        }
        let ended = |outcome| counts.outcomes(*operation, outcome);
        let short = ended(Outcome::QuorumNotMet) + ended(Outcome::StorageFull);
        page.count(is::SHORTFALLS, &[name], short);
        page.count(is::SHED, &[name], ended(Outcome::Overloaded));
        page.count(is::HINTED, &[name], counts.hinted_answers(*operation));
        page.durations(is::DURATION, &[name], &counts.durations(*operation));
    }
    page.siblings(is::SIBLINGS, &counts.siblings());
}

fn queues(page: &mut Page, node: &AdminHandle, store: &StoreStatus) {
    let (depth, capacity) = node.in_flight();
    for (queue, depth, capacity) in [
        ("client", depth, capacity),
        ("store", store.depth, store.capacity),
    ] {
        page.count(is::QUEUE_DEPTH, &[queue], depth as u64);
        page.count(is::QUEUE_CAPACITY, &[queue], capacity as u64);
    }
}

fn log(page: &mut Page, node: &AdminHandle) {
    page.count(is::LOG_LOST, &[], node.logs.lost());
}

fn reads(page: &mut Page, node: &AdminHandle) {
    let reads = node.reads();
    page.count(is::READ_REPAIRS, &[], reads.repaired);
    page.count(is::READ_REPAIRS_DROPPED, &[], reads.repairs_dropped);
    page.count(is::READS_HEDGED, &[], reads.hedged);
    page.count(is::READS_WRITTEN_BACK, &[], reads.written_back);
}

fn stored(page: &mut Page, store: &StoreStatus) {
    let labels = [env!("CARGO_PKG_VERSION"), store.durability];
    page.count(is::BUILD, &labels, 1);
    page.count(is::KEYS, &[], store.keys);
    page.count(is::TOMBSTONES, &[], store.tombstones);
    page.count(is::STORE_OPERATIONS, &[], store.operations);
    page.count(is::STORE_COMMITS, &[], store.commits);
    page.count(is::STORE_SYNCS, &[], store.syncs);
    page.durations(is::STORE_COMMIT_DURATION, &[], &store.commit_times);
    page.durations(is::STORE_SYNC_DURATION, &[], &store.sync_times);
    page.count(is::STORE_BYTES, &[], store.bytes);
    page.count(is::DAMAGED, &[], store.damaged);
    page.count(is::MENDED, &[], store.mended);
}

fn kept_for_others(page: &mut Page, store: &StoreStatus, limit: u64) {
    for (peer, hints) in &store.hints {
        page.count(is::HINTS, &[peer], hints.count);
        page.count(is::HINT_BYTES, &[peer], hints.bytes);
        page.count(is::HINT_AGE, &[peer], hints.oldest_seconds);
    }
    page.count(is::HINTS_DELIVERED, &[], store.hints_delivered);
    page.count(is::HINT_LIMIT, &[], limit);
}

fn repair(page: &mut Page, entropy: &EntropyStatus, reaping: &ReapingStatus) {
    page.count(is::ENTROPY_ROUNDS, &[], entropy.rounds);
    page.count(is::ENTROPY_EXCHANGES, &[], entropy.exchanges);
    for pair in &entropy.pairs {
        let peer = [pair.peer.as_str()];
        page.count(is::ENTROPY_REPAIRED, &peer, pair.keys_repaired);
        page.count(
            is::ENTROPY_DIFFERING,
            &peer,
            pair.partitions_differing as u64,
        );
        if let Some(seconds) = pair.seconds_since_agreement {
            page.count(is::ENTROPY_AGREED, &peer, seconds);
        }
    }
    page.count(is::REAPED, &[], reaping.reaped);
    page.count(is::REAP_CANDIDATES, &[], reaping.candidates as u64);
    for (reason, partitions) in &reaping.blocked {
        page.count(is::REAP_BLOCKED, &[reason], *partitions);
    }
}

fn ring(page: &mut Page, node: &AdminHandle) {
    let (view, life) = (node.view(), node.life());
    let now = view.state(life.state);
    for state in STATES {
        page.flag(is::NODE_STATE, &[&state.to_string()], state == now);
    }
    page.count(is::EPOCH, &[], view.epoch());
    let Some(ring) = &view.ring else { return };
    let reaches = |id| {
        node.health_of(id)
            .is_none_or(|health| health.is_reachable())
    };
    let (mut owner, mut incoming, mut outgoing, mut recovering) = (0, 0, 0, 0);
    let (mut moving, mut under_replicated) = (0, 0);
    for partition in Partition::all() {
        let row = ring.placement(partition);
        let (owns, gains) = match &row.incoming {
            None => (row.owners.contains(&view.me), false),
            Some(to) => (row.owners.contains(&view.me), to.contains(&view.me)),
        };
        moving += u64::from(row.incoming.is_some());
        owner += u64::from(owns);
        incoming += u64::from(gains && !owns);
        outgoing += u64::from(row.incoming.is_some() && owns && !gains);
        recovering += u64::from(view.recovering.contains(partition));
        let in_reach = row.owners.iter().filter(|id| reaches(id)).count();
        under_replicated += u64::from(in_reach < ring.replicas);
    }
    for (role, count) in [
        ("owner", owner),
        ("incoming", incoming),
        ("outgoing", outgoing),
        ("recovering", recovering),
    ] {
        page.count(is::PARTITIONS, &[role], count);
    }
    page.count(is::MOVING, &[], moving);
    page.count(is::UNDER_REPLICATED, &[], under_replicated);
}

/// In the order of a node's life.
const STATES: [NodeState; 4] = [
    NodeState::New,
    NodeState::Pending,
    NodeState::Ready,
    NodeState::Leaving,
];

fn members(page: &mut Page, node: &AdminHandle) {
    let view = node.view();
    let Some(ring) = &view.ring else { return };
    for state in STATES {
        let members = ring.members.iter();
        let so = members.filter(|m| node.state_of(ring, &m.id) == state);
        page.count(is::MEMBERS, &[&state.to_string()], so.count() as u64);
    }
    for member in &ring.members {
        if let Some(health) = node.health_of(&member.id) {
            peer(page, member.id.as_str(), &health);
        }
    }
}

fn peer(page: &mut Page, name: &str, health: &Health) {
    page.flag(is::MEMBER_REACHABLE, &[name], health.is_reachable());
    page.flag(is::MEMBER_PREFERRED, &[name], health.is_preferred());
    page.count(is::PEER_QUEUE, &[name], health.queued() as u64);
    let calls = health.calls();
    for kind in CallKind::ALL {
        for outcome in CallOutcome::ALL {
            let labels = [name, kind.as_str(), outcome.as_str()];
            page.count(is::REPLICA_CALLS, &labels, calls.outcomes(*kind, *outcome));
        }
        let shown = calls.durations(*kind);
        page.durations(is::REPLICA_DURATION, &[name, kind.as_str()], &shown);
    }
}

/// Work that no client waits for.
fn unhurried(page: &mut Page, status: &BackgroundStatus) {
    for (kind, shown) in status {
        page.count(is::BACKGROUND_DONE, &[kind], shown.done_bytes);
        page.count(is::BACKGROUND_WAITING, &[kind], shown.waiting as u64);
        page.count(is::BACKGROUND_RATE, &[kind], shown.rate_bytes_s);
    }
}

fn process(page: &mut Page) {
    let process = Process::look();
    page.real(is::PROCESS_CPU, &[], process.cpu_seconds);
    page.count(is::PROCESS_RESIDENT, &[], process.resident_bytes);
    page.count(is::PROCESS_VIRTUAL, &[], process.virtual_bytes);
    page.count(is::PROCESS_FDS, &[], process.open_fds);
    if let Some(max) = process.max_fds {
        page.count(is::PROCESS_MAX_FDS, &[], max);
    }
    page.count(is::PROCESS_THREADS, &[], process.threads);
    page.real(is::PROCESS_START, &[], process.start_seconds);
}
