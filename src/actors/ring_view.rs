//! What every actor knows of the ring: an immutable snapshot that the ring keeper alone replaces.

mod partition_set;

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::actors::replica::Terms;
use crate::dynamo::key::Partition;
use crate::dynamo::membership::lifecycle::NodeState;
use crate::dynamo::node_id::NodeId;
use crate::dynamo::quorum::Fault;
use crate::dynamo::ring::{Departure, OwnerSet, Placement, Ring};
pub use partition_set::PartitionSet;

/// The ring and this node's part in it, at one moment.
#[derive(Debug, Clone)]
pub struct View {
    /// This node.
    pub me: NodeId,
    /// The last committed ring this node knows.
    pub ring: Option<Arc<Ring>>,
    /// Moving partitions whose reads this node, as an owner before the move, has promised to
    /// refuse.
    pub flipped: PartitionSet,
    /// Partitions this node gains in the move and holds completely.
    pub verified: PartitionSet,
    /// Partitions that this node owns and whose records it has lost, until they are pulled from the
    /// other owners: it serves no reads of them, and takes writes.
    pub recovering: PartitionSet,
    /// Of these, the ones whose records come from an older store and are to be discarded first:
    /// nothing is done with them.
    pub tainted: PartitionSet,
    /// Partitions that this node owns no more and may still have records of: nobody gets them, and
    /// should it own one again, the old copy is discarded first.
    pub leftovers: PartitionSet,
    /// Partitions that this node gains and has such an old copy of: until it is gone, nothing is
    /// done with them.
    pub stale: PartitionSet,
    /// Whether the ring's member of this name has another data directory: then this node is not it,
    /// not yet or no longer.
    pub stranger: bool,
    /// Whether this node has yet to hear from the others that its store has not gone back in time.
    /// Until then it mints nothing and serves no reads.
    pub doubtful: bool,
    /// Whether this node's store has gone back in time, and a ring may come that it has had before:
    /// what it has done under that one is forgotten.
    pub forgetful: bool,
}

/// Reads the current [`View`]. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RingView(Arc<ArcSwap<View>>);

/// Replaces the [`View`]; there is one, and the ring keeper has it.
#[derive(Debug)]
pub struct RingPublisher(Arc<ArcSwap<View>>);

impl RingView {
    /// The view as it is now; it does not change under its holder.
    #[must_use]
    pub fn load(&self) -> Arc<View> {
        self.0.load_full()
    }
}

impl RingPublisher {
    /// A publisher and the first view.
    #[must_use]
    pub fn new(view: View) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(view)))
    }

    /// A reader of what is published.
    #[must_use]
    pub fn view(&self) -> RingView {
        RingView(Arc::clone(&self.0))
    }

    /// Replaces the view for everybody who loads it from now on.
    pub fn publish(&self, view: View) {
        self.0.store(Arc::new(view));
    }
}

impl View {
    /// What a node knows that is in no ring yet.
    #[must_use]
    pub fn without_ring(me: NodeId) -> Self {
        Self {
            me,
            ring: None,
            flipped: PartitionSet::default(),
            verified: PartitionSet::default(),
            recovering: PartitionSet::default(),
            tainted: PartitionSet::default(),
            leftovers: PartitionSet::default(),
            stale: PartitionSet::default(),
            stranger: false,
            doubtful: false,
            forgetful: false,
        }
    }

    /// The ring's epoch; 0 before there is one.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.ring.as_ref().map_or(0, |ring| ring.epoch)
    }

    /// This node's state as operators see it: one that is to leave serves until it may go, and is
    /// LEAVING all the while.
    #[must_use]
    pub fn state(&self, own: NodeState) -> NodeState {
        match &self.ring {
            Some(ring) if ring.is_leaving(&self.me) => NodeState::Leaving,
            Some(_) | None => own,
        }
    }

    /// The ring under which this node coordinates requests. Whoever was forgotten coordinates none, nor
    /// does one that finds itself taken out as it comes back; one that has left in good order goes
    /// on until it ends.
    #[must_use]
    pub fn ring_to_serve(&self) -> Option<&Arc<Ring>> {
        let is_out = |ring: &Ring| {
            let departed = ring.affairs.departed.iter().rev();
            let how = departed.filter(|gone| gone.id == self.me).map(|g| g.how);
            let is_out = |how| how == Departure::Forgotten || self.doubtful;
            ring.member(&self.me).is_none() && how.take(1).any(is_out)
        };
        self.ring.as_ref().filter(|ring| !is_out(ring))
    }

    /// Whether the partition is on its way to other owners.
    #[must_use]
    pub fn is_moving(&self, partition: Partition) -> bool {
        self.ring
            .as_ref()
            .is_some_and(|ring| ring.placement(partition).incoming.is_some())
    }

    /// Whether this node has stopped to serve reads of the partition as its old owner.
    #[must_use]
    pub fn is_flipped(&self, partition: Partition) -> bool {
        self.flipped.contains(partition)
    }

    /// Whether this node is at the same epoch as somebody who asks.
    ///
    /// # Errors
    /// [`Fault::StaleRing`] when the other is behind, [`Fault::RingBehind`] when this node is.
    pub fn check_epoch(&self, epoch: u64) -> Result<(), Fault> {
        match epoch.cmp(&self.epoch()) {
            std::cmp::Ordering::Less => Err(Fault::StaleRing),
            std::cmp::Ordering::Greater => Err(Fault::RingBehind),
            std::cmp::Ordering::Equal => Ok(()),
        }
    }

    /// Whether this node and another both own the partition, which is at rest, so that what they
    /// hold of it should be equal. Not while this node has lost records of it, or may have.
    #[must_use]
    pub fn shares(&self, partition: Partition, other: &NodeId) -> bool {
        self.ring.as_ref().is_some_and(|ring| {
            let row = ring.placement(partition);
            row.incoming.is_none() && row.owners.contains(&self.me) && row.owners.contains(other)
        }) && !self.stranger
            && !self.doubtful
            && !self.recovering.contains(partition)
    }

    /// The member that a request to a fallback is about; `None` for a request to an owner.
    #[must_use]
    pub fn stands_for(&self, set: OwnerSet) -> Option<&NodeId> {
        match (set, &self.ring) {
            (OwnerSet::Fallback(number), Some(ring)) => ring.numbered(number).map(|m| &m.id),
            (OwnerSet::Fallback(_), None) | (OwnerSet::Current | OwnerSet::Incoming, _) => None,
        }
    }

    /// Whether this node may merge under these terms: at the same epoch, as an owner now or to be,
    /// or, since any member may keep a hint for another one, as a fallback.
    ///
    /// # Errors
    /// [`Fault::StaleRing`], [`Fault::RingBehind`], [`Fault::NotOwner`], [`Fault::NotReady`].
    pub fn admit_write(&self, partition: Partition, terms: &Terms) -> Result<(), Fault> {
        let placement = self.placement(partition, terms)?;
        let admitted = match terms.set {
            OwnerSet::Current | OwnerSet::Incoming => placement.involves(&self.me),
            OwnerSet::Fallback(_) => self.keeps_for_another(terms.set),
        };
        if !admitted {
            return Err(Fault::NotOwner);
        }
        let ready = match terms.set {
            OwnerSet::Current | OwnerSet::Incoming => {
                !self.stranger && !self.has_old_copy(partition)
            }
            OwnerSet::Fallback(_) => self.trusts_its_hints(),
        };
        ready.then_some(()).ok_or(Fault::NotReady)
    }

    /// Whether this node may mint under these terms: where it may merge, once it knows its own
    /// past, but in the place of an owner only if it is none itself.
    ///
    /// # Errors
    /// [`Fault::NotReady`], and those of [`View::admit_write`].
    pub fn admit_mint(&self, partition: Partition, terms: &Terms) -> Result<(), Fault> {
        if self.doubtful {
            return Err(Fault::NotReady);
        }
        self.admit_write(partition, terms)?;
        match terms.set {
            OwnerSet::Current | OwnerSet::Incoming => Ok(()),
            OwnerSet::Fallback(_) => self.admit_fallback(partition, terms),
        }
    }

    /// Whether this node stands in for an owner, being none of the partition's.
    fn admit_fallback(&self, partition: Partition, terms: &Terms) -> Result<(), Fault> {
        let placement = self.placement(partition, terms)?;
        let target = self.stands_for(terms.set);
        let is_owner = target.is_some_and(|target| placement.involves(target));
        if is_owner && self.keeps_for_another(terms.set) && !placement.involves(&self.me) {
            Ok(())
        } else {
            Err(Fault::NotOwner)
        }
    }

    /// Whether what this node holds of a partition that it owns, or gains, comes from an earlier time
    /// and is to be discarded.
    #[must_use]
    pub fn has_old_copy(&self, partition: Partition) -> bool {
        self.tainted.contains(partition) || self.stale.contains(partition)
    }

    /// Whether the records of the partition may be removed: nobody owns them here.
    #[must_use]
    pub fn may_clear(&self, partition: Partition) -> bool {
        self.leftovers.contains(partition) || self.stale.contains(partition)
    }

    /// Whether what this node keeps for others may be given, and added to: not while it may come
    /// from an older store, whose hints can hold what has been deleted and forgotten since.
    #[must_use]
    pub fn trusts_its_hints(&self) -> bool {
        !self.stranger && !self.doubtful && self.tainted.is_empty()
    }

    fn keeps_for_another(&self, set: OwnerSet) -> bool {
        let is_member = self
            .ring
            .as_ref()
            .is_some_and(|r| r.member(&self.me).is_some());
        is_member
            && self
                .stands_for(set)
                .is_some_and(|target| *target != self.me)
    }

    /// Whether this node may answer a read under these terms: at the same epoch, as an owner in
    /// the set that is asked, which must be the one that serves as far as this node has promised,
    /// or as a fallback for an owner.
    ///
    /// # Errors
    /// [`Fault::StaleRing`], [`Fault::RingBehind`], [`Fault::NotOwner`], [`Fault::Flipped`],
    /// [`Fault::NotReady`].
    pub fn admit_read(&self, partition: Partition, terms: &Terms) -> Result<(), Fault> {
        let placement = self.placement(partition, terms)?;
        if let OwnerSet::Fallback(_) = terms.set {
            self.admit_fallback(partition, terms)?;
            return self.trusts_its_hints().then_some(()).ok_or(Fault::NotReady);
        }
        let owners = placement.set(terms.set).unwrap_or_default();
        if !owners.contains(&self.me) {
            return Err(Fault::NotOwner);
        }
        if self.stranger || self.doubtful || self.recovering.contains(partition) {
            return Err(Fault::NotReady);
        }
        let gains = placement.is_gained_by(&self.me);
        match terms.set {
            OwnerSet::Current if self.flipped.contains(partition) => Err(Fault::Flipped),
            OwnerSet::Incoming if gains && !self.verified.contains(partition) => {
                Err(Fault::NotReady)
            }
            OwnerSet::Current | OwnerSet::Incoming | OwnerSet::Fallback(_) => Ok(()),
        }
    }

    fn placement(&self, partition: Partition, terms: &Terms) -> Result<&Placement, Fault> {
        self.check_epoch(terms.epoch)?;
        let ring = self.ring.as_ref().ok_or(Fault::NotOwner)?;
        Ok(ring.placement(partition))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;
    use crate::actors::fake_node::member;
    use crate::dynamo::key::PARTITIONS;
    use crate::dynamo::ring::{Affairs, ClusterId, Departed, MemberNumber};

    pub(crate) fn id(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    /// A ring at epoch 5 in which every partition has the same owners.
    pub(crate) fn ring(owners: &[&str], incoming: Option<&[&str]>) -> Ring {
        let ids = |names: &[&str]| names.iter().map(|name| id(name)).collect();
        let placement = Placement {
            owners: ids(owners),
            incoming: incoming.map(ids),
        };
        Ring {
            cluster: ClusterId(1),
            epoch: 5,
            replicas: 3,
            members: Vec::new(),
            placements: vec![placement; usize::from(PARTITIONS)],
            affairs: Affairs::default(),
        }
    }

    pub(crate) fn terms(epoch: u64, set: OwnerSet) -> Terms {
        Terms {
            epoch,
            set,
            deadline: Instant::now() + Duration::from_secs(2),
            trace: None,
        }
    }

    fn view(me: &str) -> View {
        View {
            ring: Some(Arc::new(ring(&["a", "b"], Some(&["b", "c"])))),
            ..View::without_ring(id(me))
        }
    }

    #[tokio::test]
    async fn a_node_serves_what_the_ring_of_the_request_gives_it() {
        use Fault::{Flipped, NotOwner, NotReady, RingBehind, StaleRing};
        use OwnerSet::{Current, Incoming};
        let p = Partition::new(77).unwrap();
        let rows = [
            // me, epoch, set, flipped and verified, read, write
            ("a", 5, Current, false, Ok(()), Ok(())),
            ("a", 4, Current, false, Err(StaleRing), Err(StaleRing)),
            ("a", 6, Current, false, Err(RingBehind), Err(RingBehind)),
            ("a", 5, Incoming, false, Err(NotOwner), Ok(())),
            ("a", 5, Current, true, Err(Flipped), Ok(())),
            ("b", 5, Current, true, Err(Flipped), Ok(())),
            ("b", 5, Incoming, false, Ok(()), Ok(())),
            ("c", 5, Current, false, Err(NotOwner), Ok(())),
            ("c", 5, Incoming, false, Err(NotReady), Ok(())),
            ("c", 5, Incoming, true, Ok(()), Ok(())),
            ("d", 5, Current, false, Err(NotOwner), Err(NotOwner)),
            ("d", 5, Incoming, true, Err(NotOwner), Err(NotOwner)),
        ];
        for (row, (me, epoch, set, marked, read, write)) in rows.into_iter().enumerate() {
            let mut view = view(me);
            if marked {
                view.flipped.insert(p);
                view.verified.insert(p);
            }
            let terms = terms(epoch, set);
            assert_eq!(view.admit_read(p, &terms), read, "row {row}: read");
            assert_eq!(view.admit_write(p, &terms), write, "row {row}: write");
        }
    }

    /// Partition 77 is owned by a and b and moves to b and c; d and e own nothing of it.
    #[tokio::test]
    async fn a_fallback_is_a_member_that_owns_nothing_and_stands_for_one_that_does() {
        use Fault::{NotOwner, StaleRing};
        let p = Partition::new(77).unwrap();
        let no = Err(NotOwner);
        let rows = [
            // me, epoch, target, read, merge, mint
            ("d", 5, 0, Ok(()), Ok(()), Ok(())),
            ("d", 5, 2, Ok(()), Ok(()), Ok(())),
            ("d", 4, 0, Err(StaleRing), Err(StaleRing), Err(StaleRing)),
            ("d", 5, 3, no, no, no),
            ("d", 5, 4, no, Ok(()), no),
            ("d", 5, 9, no, no, no),
            ("b", 5, 0, no, Ok(()), no),
            ("c", 5, 0, no, Ok(()), no),
            ("x", 5, 0, no, no, no),
        ];
        for (me, epoch, target, read, merge, mint) in rows {
            let mut ring = ring(&["a", "b"], Some(&["b", "c"]));
            let names = ["a", "b", "c", "d", "e"];
            ring.members = names.map(|name| member(name, "peer:1")).to_vec();
            let mut view = View {
                ring: Some(Arc::new(ring)),
                ..View::without_ring(id(me))
            };
            let terms = terms(epoch, OwnerSet::Fallback(MemberNumber(target)));
            let row = format!("{me} at {epoch} for {target}");
            assert_eq!(view.admit_read(p, &terms), read, "{row}: read");
            assert_eq!(view.admit_write(p, &terms), merge, "{row}: merge");
            assert_eq!(view.admit_mint(p, &terms), mint, "{row}: mint");
            view.doubtful = true;
            assert_eq!(view.admit_mint(p, &terms), Err(Fault::NotReady), "{row}");
        }
    }

    #[tokio::test]
    async fn a_node_that_lost_its_store_serves_no_reads_and_takes_writes_once_it_may() {
        type Loss = fn(&mut View, PartitionSet);
        let p = Partition::new(77).unwrap();
        let one: PartitionSet = [p].into_iter().collect();
        let rows: [(&str, Loss, bool); 4] = [
            ("doubtful", |view, _| view.doubtful = true, true),
            ("recovering", |view, one| view.recovering = one, true),
            (
                "tainted",
                |view, one| (view.recovering, view.tainted) = (one, one),
                false,
            ),
            ("a stranger", |view, _| view.stranger = true, false),
        ];
        for (what, loss, writes) in rows {
            let mut view = view("b");
            loss(&mut view, one);
            let terms = terms(5, OwnerSet::Current);
            assert_eq!(view.admit_read(p, &terms), Err(Fault::NotReady), "{what}");
            assert_eq!(view.admit_write(p, &terms).is_ok(), writes, "{what}");
        }
    }

    #[tokio::test]
    async fn a_node_without_a_ring_serves_nothing() {
        let view = View::without_ring(id("a"));
        let p = Partition::new(0).unwrap();
        for (epoch, fault) in [(0, Fault::NotOwner), (1, Fault::RingBehind)] {
            let terms = terms(epoch, OwnerSet::Current);
            assert_eq!(view.admit_read(p, &terms), Err(fault));
            assert_eq!(view.admit_write(p, &terms), Err(fault));
        }
    }

    #[test]
    fn whoever_was_taken_out_while_it_was_away_coordinates_nothing() {
        let rows = [
            (Departure::Forgotten, false, false),
            (Departure::Forgotten, true, false),
            (Departure::Replaced, true, false),
            (Departure::Left, true, false),
            // In good order: what the balancer still sends is served.
            (Departure::Left, false, true),
            (Departure::Replaced, false, true),
        ];
        for (how, doubtful, serves) in rows {
            for (me, is_gone) in [("z", true), ("y", false), ("a", false)] {
                let mut view = view(me);
                let mut ring = Ring::clone(view.ring.as_ref().unwrap());
                // Another one of a's name is a member.
                ring.members.push(member("a", "a:1"));
                for name in ["z", "a"] {
                    ring.affairs.departed.push(Departed {
                        id: id(name),
                        data_id: 99,
                        how,
                        epoch: ring.epoch,
                    });
                }
                (view.ring, view.doubtful) = (Some(Arc::new(ring)), doubtful);
                let expected = serves || !is_gone;
                assert_eq!(view.ring_to_serve().is_some(), expected, "{me} {how:?}");
            }
        }
    }

    #[test]
    fn what_is_published_is_what_is_loaded_from_then_on() {
        let publisher = RingPublisher::new(View::without_ring(id("a")));
        let reader = publisher.view();
        let before = reader.load();
        publisher.publish(view("a"));
        assert!(before.ring.is_none() && reader.load().ring.is_some());
    }
}
