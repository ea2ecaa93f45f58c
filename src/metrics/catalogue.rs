//! Every metric there is: its name, kind, labels and meaning. The table in
//! docs/operations-metrics.md is this one.

/// How a metric behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only rises, and begins at zero with the process.
    Counter,
    /// It goes up and down.
    Gauge,
    /// It counts by step, and sums.
    Histogram,
}

/// One metric.
#[derive(Debug, PartialEq, Eq)]
pub struct Spec {
    /// The name, without the `_total` that a counter is shown with.
    pub name: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it means, for people.
    pub help: &'static str,
}

impl Spec {
    /// The name as scraped; a histogram's gets `_bucket`, `_sum` and `_count` besides.
    #[must_use]
    pub fn exposed(&self) -> String {
        match self.kind {
            Kind::Counter => format!("{}_total", self.name),
            Kind::Gauge | Kind::Histogram => self.name.to_owned(),
        }
    }

    /// The unit that the name ends in, if any.
    #[must_use]
    pub fn unit(&self) -> Option<&'static str> {
        let last = self.name.rsplit('_').next();
        last.filter(|last| ["seconds", "bytes"].contains(last))
    }

    /// The row of the table in the documents.
    #[must_use]
    pub fn row(&self) -> String {
        let kind = match self.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let labels: Vec<String> = self.labels.iter().map(|l| format!("`{l}`")).collect();
        let labels = if labels.is_empty() {
            "–".to_owned()
        } else {
            labels.join(", ")
        };
        format!(
            "| `{}` | {kind} | {labels} | {} |",
            self.exposed(),
            self.help
        )
    }
}

macro_rules! catalogue {
    ($($id:ident $kind:ident $name:literal [$($label:literal),*] $help:literal;)+) => {
        $(#[doc = $help] pub const $id: &Spec = &Spec {
            name: $name,
            kind: Kind::$kind,
            labels: &[$($label),*],
            help: $help,
        };)+

        /// Every metric, in the order of a page.
        pub const ALL: &[&Spec] = &[$($id),+];
    };
}

catalogue! {
    BUILD Gauge "quorate_build_info" ["version", "durability"]
        "1, with the version of the program and when it syncs";
    NODE_STATE Gauge "quorate_node_state" ["state"]
        "1 for how far the node has come (NEW, PENDING, READY, LEAVING), else 0";
    HTTP_REQUESTS Counter "quorate_http_requests" ["method", "route", "status"]
        "Requests answered on the client and admin listeners; the route is a pattern, never a path";
    OPERATIONS Counter "quorate_coordinator_operations" ["operation", "outcome"]
        "Operations that this node coordinated (get, create, put, delete), by how they ended";
    DURATION Histogram "quorate_coordinator_duration_seconds" ["operation"]
        "From an operation's admission to its answer";
    SHORTFALLS Counter "quorate_quorum_shortfalls" ["operation"]
        "Operations that failed because too few replicas agreed";
    HINTED Counter "quorate_hinted_answers" ["operation"]
        "Operations done for which a fallback stood in for an owner";
    SIBLINGS Histogram "quorate_read_siblings" []
        "Concurrent values that a read showed; 0 is a key that was not found";
    SHED Counter "quorate_shed_operations" ["operation"]
        "Operations refused because too many were in flight";
    REPLICA_CALLS Counter "quorate_replica_calls" ["peer", "call", "outcome"]
        "Calls to another node (a batch of reads or of writes, a probe), by what became of them";
    REPLICA_DURATION Histogram "quorate_replica_call_duration_seconds" ["peer", "call"]
        "How long the answered ones took";
    READ_REPAIRS Counter "quorate_read_repairs" []
        "Replicas sent the merged state because a read found them behind";
    READ_REPAIRS_DROPPED Counter "quorate_read_repairs_dropped" []
        "Replicas left behind by reads because too many repairs waited";
    READS_HEDGED Counter "quorate_reads_hedged" []
        "Replicas asked because another took too long";
    READS_WRITTEN_BACK Counter "quorate_reads_written_back" []
        "Strict reads that wrote what they had merged before they answered";
    HINTS Gauge "quorate_hints_pending" ["peer"]
        "Writes kept for another node until it takes them";
    HINT_BYTES Gauge "quorate_hints_bytes" ["peer"]
        "What they come to";
    HINT_AGE Gauge "quorate_hints_oldest_seconds" ["peer"]
        "For how long there have been any without a break";
    HINTS_DELIVERED Counter "quorate_hints_delivered" []
        "Hints that were acknowledged where they belong, and forgotten here";
    HINT_LIMIT Gauge "quorate_hints_limit_bytes" []
        "What all of them may come to; beyond it they are refused";
    ENTROPY_ROUNDS Counter "quorate_anti_entropy_rounds" []
        "Comparisons with the other owners";
    ENTROPY_EXCHANGES Counter "quorate_anti_entropy_exchanges" []
        "Messages beyond the roots; at rest while nothing differs";
    ENTROPY_REPAIRED Counter "quorate_anti_entropy_keys_repaired" ["peer"]
        "Keys brought into agreement with another owner";
    ENTROPY_DIFFERING Gauge "quorate_anti_entropy_partitions_differing" ["peer"]
        "Partitions that differed from another owner's in the last comparison";
    ENTROPY_AGREED Gauge "quorate_anti_entropy_agreement_age_seconds" ["peer"]
        "Since when not everything compared was equal; absent until it was once";
    KEYS Gauge "quorate_keys" []
        "Keys with a value on this node";
    TOMBSTONES Gauge "quorate_tombstones" []
        "Keys of which only the delete is left on this node";
    REAPED Counter "quorate_tombstones_reaped" []
        "Deletes forgotten under this node's lead";
    REAP_CANDIDATES Gauge "quorate_tombstones_candidates" []
        "Deletes on which all owners agree, and which wait for the grace";
    REAP_BLOCKED Gauge "quorate_reaping_blocked_partitions" ["reason"]
        "Partitions whose deletes could not be forgotten in the last sweep";
    EPOCH Gauge "quorate_ring_epoch" []
        "The epoch of the ring in force; 0 before there is one";
    PARTITIONS Gauge "quorate_partitions" ["role"]
        "Partitions by this node's part in them: owner, incoming (it gains them), outgoing (it loses them), recovering (it lost their records)";
    MOVING Gauge "quorate_ring_moving_partitions" []
        "Partitions of the whole ring that are on their way to other owners";
    UNDER_REPLICATED Gauge "quorate_partitions_under_replicated" []
        "Partitions of the whole ring with fewer owners in this node's reach than N";
    MEMBERS Gauge "quorate_members" ["state"]
        "Members of the ring by state, as this node knows it";
    MEMBER_REACHABLE Gauge "quorate_member_reachable" ["peer"]
        "1 if another member is not known to be dead, else 0";
    MEMBER_PREFERRED Gauge "quorate_member_preferred" ["peer"]
        "1 if it answers in normal time, else 0: it is then asked last";
    PEER_QUEUE Gauge "quorate_peer_queue_operations" ["peer"]
        "Operations that wait for another node or for its answer";
    BACKGROUND_DONE Counter "quorate_background_bytes" ["kind"]
        "Bytes of work that no client waits for, by what it is for";
    BACKGROUND_WAITING Gauge "quorate_background_waiting" ["kind"]
        "Units of it that wait for their turn";
    BACKGROUND_RATE Gauge "quorate_background_rate_bytes" ["kind"]
        "What it may do in a second now";
    STORE_OPERATIONS Counter "quorate_store_operations" []
        "Writes that the store took, of clients and of other nodes";
    STORE_COMMITS Counter "quorate_store_commits" []
        "Batches written";
    STORE_SYNCS Counter "quorate_store_syncs" []
        "How often the disk was waited for";
    STORE_COMMIT_DURATION Histogram "quorate_store_commit_duration_seconds" []
        "How long a batch took to write, its sync included where it has one";
    STORE_SYNC_DURATION Histogram "quorate_store_sync_duration_seconds" []
        "How long a write took that waited for the disk";
    STORE_BYTES Gauge "quorate_store_bytes" []
        "What the storage engine takes";
    DAMAGED Counter "quorate_records_damaged" []
        "Records found with a wrong checksum";
    MENDED Counter "quorate_records_mended" []
        "Of these, the ones repaired from other owners";
    LOG_LOST Counter "quorate_log_lines_lost" []
        "Log lines that could not be written, or for which there was no room";
    QUEUE_DEPTH Gauge "quorate_queue_depth" ["queue"]
        "What waits: client (operations in flight), store (writes for the next batch)";
    QUEUE_CAPACITY Gauge "quorate_queue_capacity" ["queue"]
        "For client, what may be in flight; for store, what one batch takes";
    PROCESS_CPU Counter "process_cpu_seconds" []
        "Time on a processor";
    PROCESS_RESIDENT Gauge "process_resident_memory_bytes" []
        "Memory that is really there";
    PROCESS_VIRTUAL Gauge "process_virtual_memory_bytes" []
        "Address space";
    PROCESS_FDS Gauge "process_open_fds" []
        "Open files and connections";
    PROCESS_MAX_FDS Gauge "process_max_fds" []
        "How many there may be";
    PROCESS_THREADS Gauge "process_threads" []
        "Threads";
    PROCESS_START Gauge "process_start_time_seconds" []
        "When the process started, in seconds since 1970";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_ours_unique_and_as_the_conventions_want_them() {
        let mut names = BTreeSet::new();
        for spec in ALL {
            let ours = ["quorate_", "process_"]
                .iter()
                .any(|p| spec.name.starts_with(p));
            assert!(ours && names.insert(spec.name), "{}", spec.name);
            assert!(!spec.name.ends_with("_total"), "{}", spec.name);
            let plain = |c: char| c.is_ascii_lowercase() || c == '_';
            let all = [spec.name].into_iter().chain(spec.labels.iter().copied());
            assert!(
                all.into_iter().all(|n| n.chars().all(plain)),
                "{}",
                spec.name
            );
            assert!(!spec.labels.contains(&"key"), "{}", spec.name);
        }
    }
}
