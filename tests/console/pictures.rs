//! The pictures of docs/console.md, taken anew: `make pictures`.

use std::path::Path;

use serde_json::json;

use crate::explorer::conflict;
use crate::support::Cluster;
use crate::support::browser::Browser;
use crate::{Bench, distinct, in_zones, open, operator};

fn save(browser: &Browser, name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/img");
    std::fs::write(folder.join(name), browser.picture()).unwrap();
}

/// Rates and lines fill by the second; there is something to see after so many.
fn after_a_while(browser: &Browser) {
    browser.wait("document.querySelector('#strip .spark polyline')?.points.length > 25");
}

#[test]
fn pictures() {
    let mut cluster = Cluster::prepare(3, &[]);
    in_zones(&mut cluster, &["east", "west", "south"]);
    cluster.spawn_all();
    cluster.wait_ready();
    conflict(
        &cluster,
        "cart",
        [&json!(["milk", "tea"]), &json!(["milk", "eggs"])],
    );
    let bench = Bench::of(
        &cluster,
        &["--keys", "500", "--rate", "300", "--connections", "6"],
    );
    let browser = Browser::start();
    browser.screen(1440, 900, "light");
    open(&browser, &cluster, "#key=cart");
    browser.wait("document.querySelectorAll('.sibling').length === 2");
    after_a_while(&browser);
    save(&browser, "console-light.png");
    browser.screen(390, 844, "dark");
    browser.wait("document.documentElement.scrollWidth === 390");
    save(&browser, "console-phone.png");

    browser.screen(1440, 900, "dark");
    let new = cluster.add();
    new.extra
        .extend(["--auto-commit", "false", "--zone", "west"].map(str::to_owned));
    new.spawn();
    browser.wait("document.getElementById('plan').innerText.includes('join n4')");
    operator(&cluster, 3, &["limit", "transfers", "4", "12000"]);
    let epoch = operator(&cluster, 0, &["plan"])["epoch"].to_string();
    operator(&cluster, 0, &["commit", "--epoch", &epoch]);
    browser.wait("document.getElementById('transfers').innerText.includes('served by it')");
    browser.wait(&distinct("#ring .moving", "owner", "n4"));
    save(&browser, "console-dark.png");
    drop(bench);
}
