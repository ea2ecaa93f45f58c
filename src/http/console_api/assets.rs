//! The page and what belongs to it, as built into the program. Nothing comes from elsewhere, and
//! the browser is told to take nothing from elsewhere, nor anything that is written into the page.

use actix_web::{HttpRequest, HttpResponse};

use crate::http::api_error::ApiError;

/// No inline script or style, nobody else's address, no frame around it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'";

const PAGE: Asset = Asset {
    path: "/",
    kind: "text/html; charset=utf-8",
    body: include_str!("../console/index.html"),
};

struct Asset {
    path: &'static str,
    kind: &'static str,
    body: &'static str,
}

macro_rules! assets {
    ($($name:literal $kind:literal)+) => {
        &[$(Asset {
            path: concat!("/console/", $name),
            kind: $kind,
            body: include_str!(concat!("../console/", $name)),
        }),+]
    };
}

const ASSETS: &[Asset] = assets! {
    "style.css" "text/css; charset=utf-8"
    "icon.svg" "image/svg+xml"
    "app.js" "text/javascript; charset=utf-8"
    "api.js" "text/javascript; charset=utf-8"
    "changes.js" "text/javascript; charset=utf-8"
    "dom.js" "text/javascript; charset=utf-8"
    "events.js" "text/javascript; charset=utf-8"
    "explorer.js" "text/javascript; charset=utf-8"
    "figures.js" "text/javascript; charset=utf-8"
    "members.js" "text/javascript; charset=utf-8"
    "ring.js" "text/javascript; charset=utf-8"
    "zones.js" "text/javascript; charset=utf-8"
};

/// Whether a path is one of the page's own files, which hold no data and need no token.
pub(in crate::http) fn is_asset(path: &str) -> bool {
    path == PAGE.path || ASSETS.iter().any(|asset| asset.path == path)
}

pub(super) async fn page() -> HttpResponse {
    PAGE.answer()
}

pub(super) async fn asset(request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let path = request.uri().path();
    let asset = ASSETS.iter().find(|asset| asset.path == path);
    asset.map(Asset::answer).ok_or(ApiError::NoSuchResource)
}

impl Asset {
    fn answer(&self) -> HttpResponse {
        HttpResponse::Ok()
            .content_type(self.kind)
            .insert_header(("content-security-policy", POLICY))
            .insert_header(("x-content-type-options", "nosniff"))
            .insert_header(("referrer-policy", "no-referrer"))
            .insert_header(("cross-origin-resource-policy", "same-origin"))
            // Another version of the program may answer the next time.
            .insert_header(("cache-control", "no-cache"))
            .body(self.body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the policy forbids must not be there, or the page would not work as it is written.
    #[test]
    fn the_page_has_nothing_inline_and_asks_nobody_else() {
        for asset in ASSETS.iter().chain([&PAGE]) {
            let (path, body) = (asset.path, asset.body);
            for forbidden in [
                " style=",
                "<style",
                "javascript:",
                "innerHTML",
                "eval(",
                "//cdn",
            ] {
                assert!(!body.contains(forbidden), "{path}: {forbidden}");
            }
            let own = body.replace("http://www.w3.org/", "");
            assert!(
                !own.contains("http://") && !own.contains("https://"),
                "{path}"
            );
        }
        let scripts = PAGE.body.matches("<script").count();
        assert_eq!(
            scripts,
            PAGE.body
                .matches("src=\"/console/app.js\"></script>")
                .count()
        );
        assert!(!PAGE.body.contains(" on"), "a handler in the page");
    }

    #[test]
    fn every_file_that_the_page_names_is_there() {
        for asset in ASSETS.iter().chain([&PAGE]) {
            for named in asset.body.split(['"', '\'']) {
                let module = named
                    .strip_prefix("./")
                    .map(|file| format!("/console/{file}"));
                let path = module.unwrap_or_else(|| named.to_owned());
                if path.starts_with("/console/") {
                    assert!(is_asset(&path), "{}: {path}", asset.path);
                }
            }
        }
    }
}
