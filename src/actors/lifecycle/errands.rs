//! What the lifecycle asks of other nodes: greetings, a ring, a promise to found a cluster. Each
//! errand runs by itself and reports what came of it.

use actix::prelude::{ActorFutureExt, AsyncContext, Context, Handler, MessageResult, WrapFuture};
use slog::{debug, warn};

use super::{Greet, HELLO_TIME, Happened, Judged, Lifecycle, LifecycleParts};
use crate::actors::link::LinkError;
use crate::actors::ring_keeper::{Announced, InstallRing};
use crate::actors::store_keeper::CountOn;
use crate::dynamo::membership::lifecycle::{Event, FoundRefusal, Founding};
use crate::dynamo::node_id::NodeId;
use crate::dynamo::ring::{Member, Ring};
use crate::wire::hello::{FoundReply, HelloCall, HelloReply, Program};
use crate::wire::ring::decode_ring;

impl Lifecycle {
    /// Notes what a node runs.
    pub(super) fn runs(&mut self, node: &NodeId, program: Option<Program>) {
        self.programs.insert(node.clone(), program);
    }

    /// A start that is in doubt is judged as it is.
    pub(super) fn count_on_and_say_hello(&self, known: Vec<Member>, ctx: &mut Context<Self>) {
        if self.starts.is_doubtful() {
            return self.say_hello(&known, ctx);
        }
        let counted = self.parts.store.send(CountOn).into_actor(self);
        ctx.spawn(counted.map(move |counted, act, ctx| {
            if let Ok(Ok(number)) = counted {
                act.starts.counted_on(number);
            }
            act.say_hello(&known, ctx);
        }));
    }

    fn say_hello(&self, known: &[Member], ctx: &mut Context<Self>) {
        let mut addresses: Vec<&String> = known.iter().map(|m| &m.addresses.peer).collect();
        addresses.extend(&self.parts.seeds);
        addresses.sort_unstable();
        addresses.dedup();
        addresses.retain(|address| **address != self.me.addresses.peer);
        let (hello, boot) = (self.life.hello(), self.starts.own());
        let Ok(body) = rmp_serde::to_vec_named(&HelloCall {
            hello,
            boot,
            program: Some(Program::own()),
        }) else {
            return;
        };
        for address in addresses {
            let (link, address, body) = (self.parts.link.clone(), address.clone(), body.clone());
            let (log, me) = (self.parts.log.clone(), ctx.address());
            actix::spawn(async move {
                let answer = link
                    .post(&address, "/peer/v1/hello", body, None, HELLO_TIME)
                    .await;
                match understood::<HelloReply>(answer) {
                    Ok(HelloReply::Hello {
                        hello,
                        rolled_back,
                        program,
                    }) => {
                        let by = hello.from.id.clone();
                        let epoch = hello.ring.map(|ring| ring.epoch);
                        me.do_send(Judged {
                            by,
                            boot,
                            epoch,
                            rolled_back,
                            program,
                        });
                        me.do_send(Happened(Event::Heard(hello)));
                    }
                    Ok(HelloReply::Refused(why)) => me.do_send(Happened(Event::Refused(why))),
                    Err(LinkError::Refused { message, .. }) => {
                        warn!(log, "a node does not talk to this one";
                            "quorate.address.peer" => address, "error.message" => message);
                    }
                    Err(error) => {
                        debug!(log, "no answer to a hello";
                            "quorate.address.peer" => address, "error.message" => %error);
                    }
                }
            });
        }
    }

    pub(super) fn fetch_ring(&self, from: Member, _ctx: &mut Context<Self>) {
        let (parts, peer) = (self.parts.clone(), from.addresses.peer);
        actix::spawn(async move {
            let path = "/peer/v1/ring/get";
            let answer = parts
                .link
                .post(&peer, path, Vec::new(), None, HELLO_TIME)
                .await;
            let ring = answer.and_then(|bytes| decode_ring(&bytes).or(Err(LinkError::Broken)));
            match ring {
                Ok(ring) => install(&parts, ring).await,
                Err(error) => debug!(parts.log, "no ring came"; "quorate.address.peer" => peer,
                    "error.message" => %error),
            }
        });
    }

    pub(super) fn ask_to_found(&self, founding: &Founding, node: Member, ctx: &mut Context<Self>) {
        let Ok(body) = rmp_serde::to_vec_named(founding) else {
            return;
        };
        let (link, me, attempt) = (self.parts.link.clone(), ctx.address(), founding.attempt);
        actix::spawn(async move {
            let peer = &node.addresses.peer;
            let answer = link
                .post(peer, "/peer/v1/found", body, None, HELLO_TIME)
                .await;
            let answer: Result<(), FoundRefusal> = match understood(answer) {
                Ok(FoundReply::Promised) => Ok(()),
                Ok(FoundReply::Refused(why)) => Err(why),
                // It is asked again with the next hello.
                Err(_silent) => return,
            };
            let from: NodeId = node.id;
            me.do_send(Happened(Event::FoundAnswered {
                from,
                attempt,
                answer,
            }));
        });
    }
}

impl Handler<Greet> for Lifecycle {
    type Result = MessageResult<Greet>;

    fn handle(&mut self, Greet(call): Greet, ctx: &mut Context<Self>) -> Self::Result {
        let HelloCall {
            hello,
            boot,
            program,
        } = call;
        if let Err(refusal) = self.life.admit(&hello) {
            return MessageResult(HelloReply::Refused(refusal));
        }
        self.runs(&hello.from.id, program);
        let rolled_back = self
            .starts
            .note(hello.from.data_id, boot, &self.parts.store);
        let (id, addresses) = (hello.from.id.clone(), hello.from.addresses.clone());
        self.parts.ring_keeper.do_send(Announced { id, addresses });
        self.happened(Event::Heard(Box::new(hello)), ctx);
        MessageResult(HelloReply::Hello {
            hello: Box::new(self.life.hello()),
            rolled_back,
            program: Some(Program::own()),
        })
    }
}

fn understood<T: serde::de::DeserializeOwned>(
    answer: Result<bytes::Bytes, LinkError>,
) -> Result<T, LinkError> {
    rmp_serde::from_slice(&answer?).or(Err(LinkError::Broken))
}

pub(super) async fn install(parts: &LifecycleParts, ring: Ring) {
    match parts.ring_keeper.send(InstallRing(ring)).await {
        Ok(Ok(epoch)) => debug!(parts.log, "a ring is in force"; "quorate.ring.epoch" => epoch),
        Ok(Err(why)) => warn!(parts.log, "a ring was refused"; "error.message" => %why),
        Err(_closed) => debug!(parts.log, "the ring keeper is gone"),
    }
}
