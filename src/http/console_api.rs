//! The console: a page for operators, what it asks for, and the way to the records for it. All of
//! it stands on the admin listener, behind that one's guard; only the page itself, which holds no
//! data, is open.

mod assets;
mod events;
mod explore;
mod figures;

use actix::Addr;
use actix_web::web;

pub(super) use assets::is_asset;

use super::admin_api::only;
use super::client_api::{self, ClientApi};
use crate::actors::link::Link;
use crate::actors::watcher::Watcher;
use crate::actors::worker::Worker;

/// What the console of one worker needs beside what the admin listener has.
#[derive(Clone)]
pub struct ConsoleApi {
    /// To the other nodes, for their figures.
    pub link: Link,
    /// To the replicas, for what they hold.
    pub worker: Worker,
    /// Tells what happens.
    pub watcher: Addr<Watcher>,
}

/// Adds the console to the application of the admin listener; `records` serves `/v1` there as on
/// the clients' listener.
pub fn configure(config: &mut web::ServiceConfig, console: ConsoleApi, records: ClientApi) {
    let get_only = |path: &str| web::resource(path).default_service(only("GET"));
    config
        .app_data(web::Data::new(console))
        .app_data(web::Data::new(records))
        .service(get_only("/").get(assets::page))
        .service(get_only("/console/{file}").get(assets::asset))
        .service(get_only("/figures").get(figures::figures))
        .service(get_only("/explore").get(explore::explore))
        .service(get_only("/events").get(events::events))
        .service(web::scope("/v1").default_service(web::to(client_api::on_key)));
}
