//! What comes in on the client listener, and what goes out: a real listener, raw sockets, and in
//! the place of the cluster one replica.

#[cfg(test)]
mod client;
#[cfg(test)]
mod contract;
#[cfg(test)]
mod framing;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod node;
#[cfg(test)]
mod values;

use client::{Answer, Call, Client};
use node::Node;

/// Sends one request on a connection of its own.
fn ask(node: &Node, call: &Call) -> Answer {
    let answer = Client::connect(node.address).call(call);
    contract::check(call, &answer);
    answer
}

fn get(node: &Node, target: &str) -> Answer {
    ask(node, &Call::new("GET", target))
}

fn post(node: &Node, target: &str, value: &str) -> Answer {
    ask(
        node,
        &Call::new("POST", target).json(format!("{{\"value\":{value}}}")),
    )
}

fn put(node: &Node, target: &str, value: &str, clock: &str) -> Answer {
    let body = format!("{{\"value\":{value},\"clock\":\"{clock}\"}}");
    ask(node, &Call::new("PUT", target).json(body))
}

fn read(node: &Node, target: &str) -> String {
    get(node, target).text()
}
