//! Answering a message later: an actor's handler returns a [`Deferred`], keeps the [`Reply`], and
//! answers when the work is done, at the price of one allocation and no task.

use std::cell::Cell;
use std::rc::Rc;

use actix::dev::{MessageResponse, OneshotSender};
use actix::{Actor, Message};

/// A handler's result that is not there yet.
pub struct Deferred<T>(Slot<T>);

/// The other end of a [`Deferred`]. Dropped unused, it tells the sender that the mailbox is
/// closed.
pub struct Reply<T>(Slot<T>);

type Slot<T> = Rc<Cell<Option<OneshotSender<T>>>>;

impl<T> Deferred<T> {
    /// Both ends. The reply can be sent once the handler has returned this, not before.
    #[must_use]
    pub fn new() -> (Reply<T>, Self) {
        let slot = Slot::default();
        (Reply(Rc::clone(&slot)), Self(slot))
    }
}

impl<T> Reply<T> {
    /// Answers. Whoever asked may have gone; what was asked is done all the same.
    pub fn send(self, value: T) {
        if let Some(sender) = self.0.take() {
            drop(sender.send(value));
        }
    }
}

impl<A, M> MessageResponse<A, M> for Deferred<M::Result>
where
    A: Actor,
    M: Message,
{
    fn handle(self, _: &mut A::Context, sender: Option<OneshotSender<M::Result>>) {
        self.0.set(sender);
    }
}
