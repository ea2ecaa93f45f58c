//! What nginx is told of when Consul has other nodes all the time, or one that is none.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::edges::register;
use crate::support::balancer::Balancer;
use crate::support::consul::Consul;
use crate::support::{Client, eventually};

const SOON: Duration = Duration::from_secs(20);
/// For how long a node comes and goes.
const STORM: Duration = Duration::from_secs(2);
/// One for each half second, the one before, and one after.
const RENDERED: usize = 6;

fn deregister(consul: &Consul, id: &str) {
    let path = format!("/v1/agent/service/deregister/{id}");
    consul.put(&path, &Value::Null);
}

/// Each time that the nodes are rendered, nginx is reloaded.
pub(crate) fn a_storm_is_few_reloads(consul: &Consul, balancer: &Balancer) {
    let (client, url) = (Client::new(), balancer.url("/v1/key"));
    let (begun, mut changes, mut rendered) = (Instant::now(), 0, BTreeSet::new());
    let mut looks = |changes: &mut usize| {
        rendered.insert(balancer.rendered());
        assert_eq!(client.get(&url).status, 404, "after {changes} changes");
    };
    eventually(SOON, "the storm is over", || {
        deregister(consul, "restless");
        looks(&mut changes);
        register(consul, "restless", "127.0.0.1:1");
        looks(&mut changes);
        changes += 2;
        begun.elapsed() > STORM
    });
    eventually(SOON, "the last change is taken over", || {
        looks(&mut changes);
        balancer.rotation().contains(&"127.0.0.1:1".to_owned())
    });
    eprintln!("{changes} changes, {} times rendered", rendered.len());
    assert!(changes > 20, "no storm: {changes} changes");
    assert!(
        rendered.len() <= RENDERED,
        "{} reloads for {changes} changes",
        rendered.len()
    );
    deregister(consul, "restless");
    eventually(SOON, "it is gone", || balancer.rotation().len() == 1);
}

/// What anybody may register must not take the others out of rotation.
pub(crate) fn what_nginx_refuses_is_not_taken_over(consul: &Consul, balancer: &Balancer) {
    let (client, url) = (Client::new(), balancer.url("/v1/key"));
    let before = balancer.rotation();
    register(consul, "odd", "no address:1");
    eventually(SOON, "it is refused", || {
        balancer.log_text().contains("nginx refuses the nodes")
    });
    assert_eq!(balancer.rotation(), before);
    balancer.reload();
    assert_eq!(client.get(&url).status, 404);
    register(consul, "other", "127.0.0.1:2");
    deregister(consul, "odd");
    eventually(SOON, "the next change is taken over", || {
        balancer.rotation().len() == before.len() + 1
    });
    assert_eq!(client.get(&url).status, 404);
    deregister(consul, "other");
}
