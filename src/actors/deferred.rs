//! Answering a message later: an actor's handler returns a [`Deferred`], keeps the [`Reply`], and
//! answers when the work is done, at the price of one allocation and no task.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;

use actix::dev::{MessageResponse, OneshotSender};
use actix::{Actor, Message};

/// A handler's result that is not there yet.
pub struct Deferred<T>(Rc<Cell<Slot<T>>>);

/// The other end of a [`Deferred`]. Dropped unused, it tells the sender that the mailbox is
/// closed.
pub struct Reply<T>(Rc<Cell<Slot<T>>>);

enum Slot<T> {
    Empty,
    Asked(OneshotSender<T>),
    Answered(T),
}

impl<T> Deferred<T> {
    /// Both ends.
    #[must_use]
    pub fn new() -> (Reply<T>, Self) {
        let slot = Rc::new(Cell::new(Slot::Empty));
        (Reply(Rc::clone(&slot)), Self(slot))
    }
}

impl<T> Reply<T> {
    /// Answers. Whoever asked may have gone; what was asked is done all the same.
    pub fn send(self, value: T) {
        drop(self.deliver(value));
    }

    /// Answers, where it matters whether anybody hears it.
    ///
    /// # Errors
    /// The answer itself, if whoever asked has gone.
    pub fn deliver(self, value: T) -> Result<(), T> {
        match self.0.replace(Slot::Empty) {
            Slot::Asked(sender) => sender.send(value),
            Slot::Empty | Slot::Answered(_) => {
                self.0.set(Slot::Answered(value));
                Ok(())
            }
        }
    }

    /// Whether anybody may still wait for the answer.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        let slot = self.0.replace(Slot::Empty);
        let gone = matches!(&slot, Slot::Asked(sender) if sender.is_closed());
        self.0.set(slot);
        !gone
    }
}

impl<T> fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reply")
    }
}

impl<A, M> MessageResponse<A, M> for Deferred<M::Result>
where
    A: Actor,
    M: Message,
{
    fn handle(self, _: &mut A::Context, sender: Option<OneshotSender<M::Result>>) {
        match (self.0.replace(Slot::Empty), sender) {
            (Slot::Answered(value), Some(sender)) => drop(sender.send(value)),
            (Slot::Empty | Slot::Asked(_), Some(sender)) => self.0.set(Slot::Asked(sender)),
            (_, None) => {}
        }
    }
}
