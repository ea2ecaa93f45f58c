//! A real Chromium, driven by the `DevTools` protocol over a pipe: no port, no driver beside it,
//! and it ends by itself when the pipe does, so that even a test that is killed leaves none behind.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(unreachable_pub, reason = "a module of several test binaries")]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a failure here fails the test"
)]

use std::cell::{Cell, RefCell};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::eventually;

/// How long one command, or one change of the page, may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Everything that would reach beyond this machine, or wait for somebody to click, is off.
const FLAGS: [&str; 14] = [
    "--remote-debugging-pipe",
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
];

/// One browser with one page.
pub struct Browser {
    child: Child,
    to: RefCell<Option<ChildStdin>>,
    from: Receiver<Value>,
    next: Cell<u64>,
    session: RefCell<Option<String>>,
    complaints: RefCell<Vec<String>>,
    _profile: TempDir,
}

impl Browser {
    /// Starts one, with an empty page.
    pub fn start() -> Self {
        let profile = tempfile::tempdir().expect("a temporary directory");
        let mut command = Command::new("sh");
        // The protocol's pipe is at the numbers 3 and 4.
        command.args([
            "-c",
            "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1",
            "sh",
            "chromium",
        ]);
        command.args(FLAGS);
        command.arg(format!("--user-data-dir={}", profile.path().display()));
        command
            .env("HOME", profile.path())
            .env("XDG_CONFIG_HOME", profile.path());
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().expect("a shell");
        let (tell, from) = channel();
        let pipe = child.stdout.take().expect("a pipe");
        thread::spawn(move || {
            for message in BufReader::new(pipe).split(0) {
                let Ok(message) = message else { return };
                let message = serde_json::from_slice(&message).expect("a message of the protocol");
                if tell.send(message).is_err() {
                    return;
                }
            }
        });
        let browser = Self {
            to: RefCell::new(child.stdin.take()),
            child,
            from,
            next: Cell::new(1),
            session: RefCell::new(None),
            complaints: RefCell::default(),
            _profile: profile,
        };
        browser.open_page();
        browser
    }

    fn open_page(&self) {
        let target = self.command("Target.createTarget", json!({ "url": "about:blank" }));
        let target = &target["targetId"];
        let attach = json!({ "targetId": target, "flatten": true });
        let session = self.command("Target.attachToTarget", attach);
        let session = session["sessionId"].as_str().expect("a session").to_owned();
        *self.session.borrow_mut() = Some(session);
        for domain in ["Page", "Runtime", "Log"] {
            self.command(&format!("{domain}.enable"), json!({}));
        }
    }

    /// One command, and its answer. What the page complains of meanwhile is noted.
    pub fn command(&self, method: &str, parameters: Value) -> Value {
        let id = self.next.replace(self.next.get() + 1);
        let mut message = json!({ "id": id, "method": method });
        message["params"] = parameters;
        if let Some(session) = &*self.session.borrow() {
            message["sessionId"] = json!(session);
        }
        let text = format!("{message}\0");
        let mut to = self.to.borrow_mut();
        let pipe = to.as_mut().expect("an open pipe");
        pipe.write_all(text.as_bytes())
            .expect("chromium takes commands; `make tools` installs it (Debian: chromium)");
        loop {
            let answer = match self.from.recv_timeout(PATIENCE) {
                Ok(answer) => answer,
                Err(RecvTimeoutError::Timeout) => panic!("{method}: no answer"),
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("chromium has ended, or is not there: `make tools` installs it")
                }
            };
            if answer["id"] == id {
                assert_eq!(answer["error"], Value::Null, "{method}");
                return answer["result"].clone();
            }
            self.note(&answer);
        }
    }

    fn note(&self, event: &Value) {
        let told = &event["params"];
        let is_error = match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Runtime.consoleAPICalled") => told["type"] == "error",
            Some("Log.entryAdded") => told["entry"]["level"] == "error",
            _ => false,
        };
        if is_error {
            self.complaints.borrow_mut().push(told.to_string());
        }
    }

    /// What the page has complained of since the last time: exceptions, breaches of its policy,
    /// failed loads.
    pub fn complaints(&self) -> Vec<String> {
        self.eval("1");
        self.complaints.take()
    }

    /// Opens an address.
    pub fn open(&self, url: &str) {
        let answer = self.command("Page.navigate", json!({ "url": url }));
        assert_eq!(answer["errorText"], Value::Null, "{url}");
        self.wait("document.readyState === 'complete'");
    }

    /// What an expression comes to on the page.
    pub fn eval(&self, expression: &str) -> Value {
        let parameters = json!({
            "expression": expression, "awaitPromise": true, "returnByValue": true,
        });
        let answer = self.command("Runtime.evaluate", parameters);
        let thrown = &answer["exceptionDetails"];
        assert_eq!(*thrown, Value::Null, "{expression}");
        answer["result"]["value"].clone()
    }

    /// Waits until an expression is true on the page.
    pub fn wait(&self, expression: &str) {
        let is_true = || self.eval(expression) == json!(true);
        let waited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            eventually(PATIENCE, expression, is_true);
        }));
        let page = || self.eval("document.body?.innerText ?? ''");
        assert!(
            waited.is_ok(),
            "in vain until {expression}; the page says:\n{}\n{:?}",
            page(),
            self.complaints()
        );
    }

    /// The text of an element.
    pub fn text(&self, selector: &str) -> String {
        let text = self.eval(&format!(
            "document.querySelector({}).innerText",
            json!(selector)
        ));
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Clicks where an element is, as a mouse does.
    pub fn click(&self, selector: &str) {
        let selector = json!(selector);
        let place = self.eval(&format!(
            "(() => {{ const e = document.querySelector({selector}); e.scrollIntoView({{block: 'center'}}); \
             const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; }})()"
        ));
        for kind in ["mousePressed", "mouseReleased"] {
            let parameters = json!({
                "type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1,
            });
            self.command("Input.dispatchMouseEvent", parameters);
        }
    }

    /// Types a text into what has the focus.
    pub fn write(&self, text: &str) {
        self.command("Input.insertText", json!({ "text": text }));
    }

    /// Presses a key: `Tab`, `Enter`, `Escape`, `ArrowRight`.
    pub fn press(&self, key: &str) {
        let (code, text) = match key {
            "Tab" => (9, None),
            "Enter" => (13, Some("\r")),
            "Escape" => (27, None),
            "ArrowRight" => (39, None),
            other => panic!("no such key: {other}"),
        };
        for kind in ["keyDown", "keyUp"] {
            let mut parameters = json!({
                "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code,
            });
            if let Some(text) = text.filter(|_| kind == "keyDown") {
                parameters["text"] = json!(text);
            }
            self.command("Input.dispatchKeyEvent", parameters);
        }
    }

    /// Shows the page at this size, in light or in dark.
    pub fn screen(&self, width: u32, height: u32, scheme: &str) {
        let metrics = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500,
        });
        self.command("Emulation.setDeviceMetricsOverride", metrics);
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.command("Emulation.setEmulatedMedia", media);
    }

    /// A picture of the whole page, as PNG.
    pub fn picture(&self) -> Vec<u8> {
        let parameters = json!({ "format": "png", "captureBeyondViewport": true });
        let picture = self.command("Page.captureScreenshot", parameters);
        let data = picture["data"].as_str().expect("a picture");
        BASE64_STANDARD.decode(data).expect("base64")
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Without its pipe it ends in good order, and so do the processes that it started.
        drop(self.to.take());
        for _ in 0..100 {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            super::process::pause();
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
