//! How far this node has come in its life, for everybody to see.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::dynamo::membership::lifecycle::NodeState;
use crate::dynamo::node_id::NodeId;
use crate::wire::hello::Program;

/// A moment of a node's life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    /// How far it has come.
    pub state: NodeState,
    /// What it waits for; nothing when it is READY or leaving.
    pub waiting: Option<String>,
    /// What the nodes run that have spoken since this one's start; those of the first minor version
    /// do not say.
    pub programs: BTreeMap<NodeId, Option<Program>>,
}

/// Reads the current [`Life`]; cheap to clone.
#[derive(Debug, Clone)]
pub struct LifeView(Arc<ArcSwap<Life>>);

/// Replaces the [`Life`]; the lifecycle has it.
#[derive(Debug)]
pub struct LifePublisher(Arc<ArcSwap<Life>>);

impl LifeView {
    /// Life as it is now.
    #[must_use]
    pub fn load(&self) -> Arc<Life> {
        self.0.load_full()
    }
}

impl Default for LifePublisher {
    fn default() -> Self {
        Self(Arc::new(ArcSwap::from_pointee(Life {
            state: NodeState::New,
            waiting: None,
            programs: BTreeMap::new(),
        })))
    }
}

impl LifePublisher {
    /// A reader of what is published.
    #[must_use]
    pub fn view(&self) -> LifeView {
        LifeView(self.0.clone())
    }

    /// Shows what has changed.
    pub fn publish(&self, life: Life) {
        if **self.0.load() != life {
            self.0.store(Arc::new(life));
        }
    }
}
