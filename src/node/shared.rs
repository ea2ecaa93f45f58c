//! What the actors of a node share, and how those that are one of a kind are started.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr, Arbiter, ArbiterHandle, Recipient};
use arc_swap::ArcSwapOption;
use slog::{Logger, o};
use tokio::sync::{mpsc, watch};

use super::discovery;
use crate::actors::action_log::KeyNames;
use crate::actors::admin_handle::AdminHandle;
use crate::actors::anti_entropy::{AntiEntropy, EntropyParts, ROUND};
use crate::actors::background::Background;
use crate::actors::custodian::{self, Custodian, CustodianParts};
use crate::actors::giver::Giver;
use crate::actors::handle::Readiness;
use crate::actors::handoff::{Handoff, HandoffParts};
use crate::actors::health::HealthBoard;
use crate::actors::hint_keeper::{HintKeeper, HintKeeperParts};
use crate::actors::life_view::{LifePublisher, LifeView};
use crate::actors::lifecycle::{Lifecycle, LifecycleParts, Past};
use crate::actors::link::Link;
use crate::actors::local_reader::{LocalReader, LocalRecords};
use crate::actors::mender::{Mender, MenderParts};
use crate::actors::peer::{Peer, PeerParts};
use crate::actors::prober::Prober;
use crate::actors::pulling::Pulling;
use crate::actors::pulse::{Pulse, PulseParts};
use crate::actors::read_counts::ReadCounts;
use crate::actors::readiness_keeper::{ReadinessKeeper, ReadinessParts};
use crate::actors::reaper::{Reaper, ReaperParts, SWEEPS};
use crate::actors::recovery::{self, Recovery, RecoveryParts};
use crate::actors::replica::Replica;
use crate::actors::ring_keeper::{RingChanged, RingKeeper, Subscribe};
use crate::actors::ring_view::RingView;
use crate::actors::store_keeper::StoreKeeper;
use crate::actors::surveyor::{Surveyor, SurveyorParts};
use crate::actors::watcher::Watcher;
use crate::actors::worker::{Means, Quorums, Worker};
use crate::config::Config;
use crate::dynamo::membership::lifecycle::{Me, Refusal};
use crate::dynamo::node_id::NodeId;
use crate::http::console_api::ConsoleApi;
use crate::logging::LogControl;
use crate::wire::clock::ClockCodec;
use crate::wire::proof::PeerProof;

/// What the actors of a node, and its workers, have in common.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) view: RingView,
    pub(super) life: LifeView,
    pub(super) health: HealthBoard,
    pub(super) reads: ReadCounts,
    pub(super) background: Background,
    pub(super) quorums: Quorums,
    pub(super) records: LocalRecords,
    pub(super) store: Addr<StoreKeeper>,
    pub(super) ring_keeper: Addr<RingKeeper>,
    pub(super) clocks: Arc<ArcSwapOption<ClockCodec>>,
    pub(super) is_ready: watch::Receiver<Readiness>,
    pub(super) proof: PeerProof,
    pub(super) log: Logger,
    pub(super) logs: LogControl,
    /// How log lines name keys.
    pub(super) keys: KeyNames,
    /// The thread of what is small and must not wait.
    pub(super) control: ArbiterHandle,
}

/// What only the lifecycle gets: who this node is, what it remembers, where its state goes, and
/// where it says that it cannot take part.
pub(super) type LifeBegins = (Me, Past, LifePublisher, mpsc::Sender<Refusal>);

impl Shared {
    pub(super) fn start_lifecycle(
        &self,
        thread: &Arbiter,
        config: &Config,
        (me, past, publisher, exit): LifeBegins,
    ) -> Addr<Lifecycle> {
        let (shared, seeds) = (self.clone(), config.seeds.clone());
        let permitted = discovery::permitted_at_first(config);
        Lifecycle::start_in_arbiter(&thread.handle(), move |_| {
            let parts = LifecycleParts {
                seeds,
                permitted,
                link: Link::new(shared.proof),
                ring_keeper: shared.ring_keeper,
                view: shared.view.clone(),
                records: shared.records,
                store: shared.store,
                dice: random_u64,
                exit,
                log: named(&shared.log, "lifecycle"),
            };
            Lifecycle::new(me, shared.view.load().ring.clone(), past, publisher, parts)
        })
    }

    pub(super) fn start_prober(&self, thread: &Arbiter) {
        let shared = self.clone();
        Prober::start_in_arbiter(&thread.handle(), move |_| {
            let (link, log) = (Link::new(shared.proof), named(&shared.log, "prober"));
            Prober::new(shared.view, shared.health, link, log)
        });
    }

    pub(super) fn start_watcher(&self, node: AdminHandle) -> Addr<Watcher> {
        Watcher::start_in_arbiter(&self.control, |_| Watcher::new(node))
    }

    /// What the console of the calling thread needs.
    pub(super) fn console(&self, watcher: Addr<Watcher>) -> ConsoleApi {
        ConsoleApi {
            link: Link::new(self.proof.clone()),
            worker: self.worker("console"),
            watcher,
        }
    }

    pub(super) fn start_readiness(
        &self,
        thread: &Arbiter,
        config: &Config,
        readiness: watch::Sender<Readiness>,
    ) -> Addr<ReadinessKeeper> {
        let parts = ReadinessParts {
            view: self.view.clone(),
            life: self.life.clone(),
            health: self.health.clone(),
            quorums: self.quorums,
            store: self.store.clone(),
            secret: config.cluster_secret.expose().into(),
            clocks: self.clocks.clone(),
            readiness,
            log: named(&self.log, "readiness"),
        };
        ReadinessKeeper::start_in_arbiter(&thread.handle(), |_| ReadinessKeeper::new(parts))
    }

    pub(super) fn start_handoff(
        &self,
        thread: &Arbiter,
        lifecycle: Addr<Lifecycle>,
    ) -> Addr<Handoff> {
        let shared = self.clone();
        Handoff::start_in_arbiter(&thread.handle(), move |_| {
            let parts = HandoffParts {
                view: shared.view,
                link: Link::new(shared.proof),
                records: shared.records,
                store: shared.store,
                ring_keeper: shared.ring_keeper,
                quorums: shared.quorums,
                background: shared.background,
                log: named(&shared.log, "handoff"),
            };
            Handoff::new(parts, lifecycle.recipient())
        })
    }

    pub(super) fn start_surveyor(
        &self,
        thread: &Arbiter,
        handoff: Addr<Handoff>,
        custodian: Addr<Custodian>,
    ) -> Addr<Surveyor> {
        let shared = self.clone();
        Surveyor::start_in_arbiter(&thread.handle(), move |_| {
            Surveyor::new(SurveyorParts {
                view: shared.view,
                link: Link::new(shared.proof),
                handoff,
                custodian,
                store: shared.store,
                background: shared.background,
            })
        })
    }

    /// The means of the calling thread: its own connections to the other nodes.
    pub(super) fn worker(&self, logger: &'static str) -> Worker {
        let reader = LocalReader::new(self.records.clone(), self.view.clone()).start();
        let local = Replica {
            read: reader.recipient(),
            write: self.store.clone().recipient(),
            mint: self.store.clone().recipient(),
        };
        let log = named(&self.log, logger);
        let parts = PeerParts {
            view: self.view.clone(),
            link: Link::new(self.proof.clone()),
            ring_keeper: self.ring_keeper.clone(),
            log: log.clone(),
        };
        let (me, health) = (self.view.load().me.clone(), self.health.clone());
        let connect = move |id: &NodeId| {
            if *id == me {
                return local.clone();
            }
            let peer = Peer::new(id.clone(), parts.clone(), health.of(id)).start();
            Replica {
                read: peer.clone().recipient(),
                write: peer.clone().recipient(),
                mint: peer.recipient(),
            }
        };
        let view = self.view.clone();
        let means = Means {
            health: self.health.clone(),
            counts: self.reads.clone(),
            background: self.background.clone(),
        };
        Worker::new(view, self.quorums, means, Box::new(connect), log)
    }

    /// What nobody asks anything.
    pub(super) fn start_unasked(&self, thread: &Arbiter) {
        self.start_recovery(thread);
        self.start_hint_keeper(thread);
        self.start_mender(thread);
        self.start_pulse(thread);
    }

    fn start_hint_keeper(&self, thread: &Arbiter) {
        let shared = self.clone();
        HintKeeper::start_in_arbiter(&thread.handle(), move |_| {
            HintKeeper::new(HintKeeperParts {
                worker: shared.worker("hint_keeper"),
                records: shared.records,
                store: shared.store.recipient(),
                background: shared.background,
                log: named(&shared.log, "hint_keeper"),
            })
        });
    }

    fn start_mender(&self, thread: &Arbiter) {
        let shared = self.clone();
        Mender::start_in_arbiter(&thread.handle(), move |_| {
            Mender::new(MenderParts {
                view: shared.view,
                link: Link::new(shared.proof),
                records: shared.records,
                store: shared.store,
                quorums: shared.quorums,
                background: shared.background,
                log: named(&shared.log, "mender"),
            })
        });
    }

    fn start_pulse(&self, thread: &Arbiter) {
        let shared = self.clone();
        Pulse::start_in_arbiter(&thread.handle(), move |_| {
            Pulse::new(PulseParts {
                view: shared.view,
                life: shared.life,
                health: shared.health,
                store: shared.store,
                records: shared.records,
                logs: shared.logs,
                keys: shared.keys,
                log: named(&shared.log, "pulse"),
            })
        });
    }

    pub(super) fn start_giver(&self, thread: &Arbiter) -> Addr<Giver> {
        let (view, records) = (self.view.clone(), self.records.clone());
        let background = self.background.clone();
        Giver::start_in_arbiter(&thread.handle(), |_| Giver::new(records, view, background))
    }

    fn start_recovery(&self, thread: &Arbiter) {
        let shared = self.clone();
        Recovery::start_in_arbiter(&thread.handle(), move |_| {
            Recovery::new(RecoveryParts {
                pulling: shared.pulling(),
                view: shared.view,
                ring_keeper: shared.ring_keeper,
                quorums: shared.quorums,
                pause: recovery::PAUSE,
                log: named(&shared.log, "recovery"),
            })
        });
    }

    /// Pulls on the calling thread.
    fn pulling(&self) -> Pulling {
        Pulling {
            link: Link::new(self.proof.clone()),
            records: self.records.clone(),
            store: self.store.clone(),
            background: self.background.clone(),
        }
    }

    pub(super) fn start_custodian(
        &self,
        thread: &Arbiter,
        time: Duration,
        past: custodian::Past,
    ) -> Addr<Custodian> {
        let shared = self.clone();
        Custodian::start_in_arbiter(&thread.handle(), move |_| {
            let parts = CustodianParts {
                pulling: shared.pulling(),
                view: shared.view,
                ring_keeper: shared.ring_keeper,
                time,
                log: named(&shared.log, "custodian"),
            };
            Custodian::new(parts, past)
        })
    }

    pub(super) fn tell_of_rings(&self, who: [Recipient<RingChanged>; 2]) {
        for subscriber in who {
            self.ring_keeper.do_send(Subscribe(subscriber));
        }
    }

    pub(super) fn start_reaper(&self, thread: &Arbiter, grace: Duration) -> Addr<Reaper> {
        let shared = self.clone();
        Reaper::start_in_arbiter(&thread.handle(), move |_| {
            Reaper::new(ReaperParts {
                view: shared.view,
                link: Link::new(shared.proof),
                health: shared.health,
                records: shared.records,
                store: shared.store,
                background: shared.background,
                grace,
                pause: grace / SWEEPS,
                log: named(&shared.log, "reaper"),
            })
        })
    }

    pub(super) fn start_entropy(&self, thread: &Arbiter) -> Addr<AntiEntropy> {
        let shared = self.clone();
        AntiEntropy::start_in_arbiter(&thread.handle(), move |_| {
            AntiEntropy::new(EntropyParts {
                view: shared.view,
                link: Link::new(shared.proof),
                health: shared.health,
                records: shared.records,
                store: shared.store,
                background: shared.background,
                pause: ROUND,
                log: named(&shared.log, "anti_entropy"),
            })
        })
    }
}

pub(super) fn named(log: &Logger, logger: &'static str) -> Logger {
    log.new(o!("log.logger" => logger))
}

/// From the operating system, which has no way to fail here that would leave anything to do.
#[expect(
    clippy::expect_used,
    reason = "without randomness no incarnation is unique"
)]
pub(super) fn random_u64() -> u64 {
    getrandom::u64().expect("the operating system's random numbers")
}
