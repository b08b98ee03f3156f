//! Debian's chromium, driven by the WebDriver protocol.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::client::{At, Request};
use crate::e2e::{PATIENCE, wait_until};

const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// One window. It is closed, and its processes are gone, when it is dropped.
pub struct Browser {
    driver: Child,
    at: At,
    session: String,
    _profile: tempfile::TempDir,
}

impl Browser {
    pub fn start() -> Browser {
        let profile = tempfile::tempdir().expect("a directory");
        // In a PID namespace of its own, whose end is the end of every process of the browser.
        // It ends when this program does, however that may be.
        let mut driver = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare"])
            .args(["--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(["chromedriver", "--port=0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("setpriv, of util-linux");
        let said = BufReader::new(driver.stdout.take().expect("piped"));
        let port = said.lines().map_while(Result::ok).find_map(|line| {
            let port = line.split("started successfully on port ").nth(1)?;
            port.trim_end_matches('.').parse().ok()
        });
        let port: u16 = port.expect(
            "chromedriver, of Debian's package chromium-driver: tests/setup.sh installs it",
        );
        let mut browser = Browser {
            driver,
            at: At::Tcp(([127, 0, 0, 1], port).into()),
            session: String::new(),
            _profile: profile,
        };
        let arguments = [
            "--headless=new".to_owned(),
            "--no-sandbox".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--hide-scrollbars".to_owned(),
            "--no-first-run".to_owned(),
            format!("--user-data-dir={}", browser._profile.path().display()),
        ];
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
        } } });
        let made = browser.order("POST", "/session", &wanted);
        browser.session = made["sessionId"].as_str().expect("a session").to_owned();
        browser
    }

    #[track_caller]
    fn order(&self, method: &str, path: &str, body: &Value) -> Value {
        let path = match self.session.as_str() {
            "" => path.to_owned(),
            session => format!("/session/{session}{path}"),
        };
        let body = if method == "GET" {
            String::new()
        } else {
            body.to_string()
        };
        let mut answer = Request::of("localhost", method, &path)
            .header("Content-Type", "application/json")
            .body(body)
            .send(&self.at)
            .expect(200)
            .json();
        answer["value"].take()
    }

    #[track_caller]
    pub fn open(&self, url: &str) {
        self.order("POST", "/url", &json!({ "url": url }));
    }

    /// What a script returns.
    #[track_caller]
    pub fn script(&self, script: &str) -> Value {
        self.order(
            "POST",
            "/execute/sync",
            &json!({ "script": script, "args": [] }),
        )
    }

    #[track_caller]
    fn find(&self, selector: &str) -> String {
        let wanted = json!({ "using": "css selector", "value": selector });
        let found = self.order("POST", "/element", &wanted);
        found[ELEMENT].as_str().expect("an element").to_owned()
    }

    #[track_caller]
    pub fn click(&self, selector: &str) {
        let path = format!("/element/{}/click", self.find(selector));
        self.order("POST", &path, &json!({}));
    }

    #[track_caller]
    pub fn type_into(&self, selector: &str, text: &str) {
        let path = format!("/element/{}/value", self.find(selector));
        self.order("POST", &path, &json!({ "text": text }));
    }

    #[track_caller]
    pub fn text(&self, selector: &str) -> String {
        let path = format!("/element/{}/text", self.find(selector));
        let text = self.order("GET", &path, &json!({}));
        text.as_str().expect("a text").to_owned()
    }

    #[track_caller]
    pub fn wait_text(&self, selector: &str, wanted: &str) {
        let what = format!("{wanted:?} in {selector}");
        wait_until(&what, PATIENCE, || self.text(selector).contains(wanted));
    }

    #[track_caller]
    pub fn devtools(&self, command: &str, parameters: Value) -> Value {
        let order = json!({ "cmd": command, "params": parameters });
        self.order("POST", "/goog/cdp/execute", &order)
    }

    /// As on a screen of this size, by day or by night.
    #[track_caller]
    pub fn look(&self, (width, height): (u32, u32), dark: bool) {
        let scheme = if dark { "dark" } else { "light" };
        let feature = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.devtools("Emulation.setEmulatedMedia", json!({ "features": feature }));
        let metrics = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500,
        });
        self.devtools("Emulation.setDeviceMetricsOverride", metrics);
    }

    /// The whole page as PNG.
    #[track_caller]
    pub fn picture(&self) -> Vec<u8> {
        let page = self.devtools("Page.getLayoutMetrics", json!({}));
        let (width, height) = (
            &page["cssContentSize"]["width"],
            &page["cssContentSize"]["height"],
        );
        let clip = json!({ "x": 0, "y": 0, "width": width, "height": height, "scale": 1 });
        let whole = json!({ "format": "png", "captureBeyondViewport": true, "clip": clip });
        let taken = self.devtools("Page.captureScreenshot", whole);
        unbase64(taken["data"].as_str().expect("a picture"))
    }

    /// Warnings and errors of the console since the last time.
    #[track_caller]
    pub fn console(&self) -> Vec<String> {
        let said = self.order("POST", "/se/log", &json!({ "type": "browser" }));
        let said = said.as_array().expect("lines").iter();
        let said = said.filter(|line| line["level"] == "WARNING" || line["level"] == "SEVERE");
        said.map(|line| line["message"].as_str().expect("a message").to_owned())
            .collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

fn unbase64(text: &str) -> Vec<u8> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let mut bytes = Vec::new();
    for four in text.trim_end_matches('=').as_bytes().chunks(4) {
        let bits = four
            .iter()
            .fold(0u32, |bits, &byte| bits << 6 | u32::from(value(byte)));
        let bits = bits << (6 * (4 - four.len()));
        bytes.extend_from_slice(&bits.to_be_bytes()[1..four.len()]);
    }
    bytes
}
