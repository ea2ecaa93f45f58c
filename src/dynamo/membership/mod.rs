//! Who belongs to the ring and how that changes: the promise that orders changes of the ring, and
//! the life of one node from its first hello to its drain. Facts go in, effects come out; whoever
//! calls does the talking, the timing and the storing.

pub mod boots;
pub mod lifecycle;
pub mod promise;

#[cfg(test)]
pub(crate) mod fixture;
