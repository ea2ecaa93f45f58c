//! Faults of logic, one of which the feature `mutants` lets a variable of the environment choose, so
//! that `make mutants` can show that the tests catch every one. Without the feature none is ever
//! chosen, and nothing of this is in the program.

/// A fault of logic; it is made at the place where the rule lives that it breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// What a client is told is done is not on the disk yet.
    NoSyncBeforeAck,
    /// The engine leaves to the operating system when to write what it was told to sync.
    EngineIgnoresSync,
    /// Of two siblings one is dropped.
    LastWriteWins,
    /// The epochs of dots are not leased for good, and a restart opens them again.
    LeaseNotDurable,
    /// A start goes on inside the last one's block of epochs.
    LeaseResumedInside,
    /// A record goes on under an actor of which others know more writes than it does.
    EpochNotReopened,
    /// Whatever an owner answers is an acknowledgement.
    FaultCountsAsAck,
    /// Whatever a fallback answers is an acknowledgement.
    HintFaultCountsAsAck,
    /// An HTTP answer of any status is taken for the one that was asked for.
    AnyStatusIsAnAnswer,
    /// A start forgets what is kept for other nodes.
    HintsDroppedOnRestart,
    /// A hint is forgotten although it has changed since its target acknowledged it.
    HintDroppedUnacknowledged,
    /// A delete is forgotten although one owner was not asked whether it holds it.
    ReapAtTwoOfThree,
    /// A delete is forgotten although a member does not answer.
    SilenceAllowsReaping,
    /// A read is answered with the first reply.
    FirstReplyAnswersRead,
    /// A partition that has flipped is read from its incoming owners, whatever the owners before say.
    IncomingOwnersVouch,
}

/// Names the mutant that the process is to be. It is no setting of a node, and tests keep those
/// away from the nodes that they start; so it does not begin as they do.
#[cfg(feature = "mutants")]
pub const VARIABLE: &str = "MUTANT_OF_QUORATE";

impl Mutant {
    /// Every one.
    #[cfg(feature = "mutants")]
    pub const ALL: [Self; 15] = [
        Self::NoSyncBeforeAck,
        Self::EngineIgnoresSync,
        Self::LastWriteWins,
        Self::LeaseNotDurable,
        Self::LeaseResumedInside,
        Self::EpochNotReopened,
        Self::FaultCountsAsAck,
        Self::HintFaultCountsAsAck,
        Self::AnyStatusIsAnAnswer,
        Self::HintsDroppedOnRestart,
        Self::HintDroppedUnacknowledged,
        Self::ReapAtTwoOfThree,
        Self::SilenceAllowsReaping,
        Self::FirstReplyAnswersRead,
        Self::IncomingOwnersVouch,
    ];

    /// Its name in [`VARIABLE`].
    #[cfg(feature = "mutants")]
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoSyncBeforeAck => "no-sync-before-ack",
            Self::EngineIgnoresSync => "engine-ignores-sync",
            Self::LastWriteWins => "last-write-wins",
            Self::LeaseNotDurable => "lease-not-durable",
            Self::LeaseResumedInside => "lease-resumed-inside",
            Self::EpochNotReopened => "epoch-not-reopened",
            Self::FaultCountsAsAck => "fault-counts-as-ack",
            Self::HintFaultCountsAsAck => "hint-fault-counts-as-ack",
            Self::AnyStatusIsAnAnswer => "any-status-is-an-answer",
            Self::HintsDroppedOnRestart => "hints-dropped-on-restart",
            Self::HintDroppedUnacknowledged => "hint-dropped-unacknowledged",
            Self::ReapAtTwoOfThree => "reap-at-two-of-three",
            Self::SilenceAllowsReaping => "silence-allows-reaping",
            Self::FirstReplyAnswersRead => "first-reply-answers-read",
            Self::IncomingOwnersVouch => "incoming-owners-vouch",
        }
    }

    /// Whether this process is to have the fault.
    ///
    /// # Panics
    /// When the variable names no mutant: a run without its fault would say nothing.
    #[cfg(feature = "mutants")]
    #[must_use]
    pub fn is_chosen(self) -> bool {
        static CHOSEN: std::sync::OnceLock<Option<Mutant>> = std::sync::OnceLock::new();
        let chosen = CHOSEN.get_or_init(|| {
            let name = std::env::var_os(VARIABLE)?;
            let named = Self::ALL.into_iter().find(|mutant| name == mutant.name());
            assert!(
                named.is_some(),
                "{VARIABLE} names no mutant: {}",
                name.display()
            );
            named
        });
        *chosen == Some(self)
    }

    /// Whether this process is to have the fault; never, in the program as it ships.
    #[cfg(not(feature = "mutants"))]
    #[must_use]
    pub const fn is_chosen(self) -> bool {
        false
    }
}
