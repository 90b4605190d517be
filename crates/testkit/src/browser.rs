//! A browser without a window, by its DevTools protocol over a pair of pipes.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::services::chromium_binary;
use crate::{Error, wait_until};

/// How long a command may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Answers and events that nobody has read yet.
const UNREAD: usize = 4_096;

/// The browser reads commands from descriptor 3 and writes answers to descriptor 4.
const SHELL: &str = "exec \"$0\" \"$@\" 3<&0 4>&1 0</dev/null 1>&2";

const FLAGS: [&str; 9] = [
    "--headless",
    "--remote-debugging-pipe",
    // Tests are root in containers, and open pages of their own only.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--force-color-profile=srgb",
];

/// A light or a dark desktop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Dark on light.
    Light,
    /// Light on dark.
    Dark,
}

/// A browser of its own, with a profile of its own; it is killed when it is dropped.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    commands: ChildStdin,
    answers: Receiver<Value>,
    next: u64,
    /// What pages wrote to their consoles, and what they failed with.
    problems: Vec<String>,
    _profile: TempDir,
}

/// One page.
#[derive(Clone, Debug)]
pub struct Tab {
    session: String,
}

fn io(what: &str) -> impl FnOnce(std::io::Error) -> Error {
    let what = what.to_owned();
    move |source| Error::Io { what, source }
}

fn broken(what: String) -> Error {
    Error::Io { what, source: std::io::ErrorKind::InvalidData.into() }
}

impl Browser {
    /// Starts one; `None`, after a `SKIP` line, where there is none.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be started.
    pub fn start() -> Result<Option<Browser>, Error> {
        chromium_binary().map(|path| Browser::of(&path)).transpose()
    }

    fn of(path: &Path) -> Result<Browser, Error> {
        let profile = TempDir::new().map_err(io("make a profile"))?;
        let mut child = Command::new("/bin/sh")
            .args(["-c", SHELL])
            .arg(path)
            .args(FLAGS)
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(io("start the browser"))?;
        let none = || broken("talk to the browser".to_owned());
        let commands = child.stdin.take().ok_or_else(none)?;
        let output = child.stdout.take().ok_or_else(none)?;
        let (sender, answers) = sync_channel(UNREAD);
        std::thread::spawn(move || read(output, &sender));
        let problems = Vec::new();
        Ok(Browser { child, commands, answers, next: 0, problems, _profile: profile })
    }

    /// Opens a page, so many pixels wide and high.
    ///
    /// # Errors
    /// Those of [`Browser::send`].
    pub fn open(&mut self, url: &str, size: (u32, u32), scheme: Scheme) -> Result<Tab, Error> {
        let made = self.send(None, "Target.createTarget", json!({"url": "about:blank"}))?;
        let target = json!({"targetId": made["targetId"], "flatten": true});
        let attached = self.send(None, "Target.attachToTarget", target)?;
        let session = attached["sessionId"].as_str().unwrap_or_default().to_owned();
        let tab = Tab { session };
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            self.send(Some(&tab), domain, json!({}))?;
        }
        let (width, height) = size;
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.send(Some(&tab), "Emulation.setDeviceMetricsOverride", size)?;
        self.set_scheme(&tab, scheme)?;
        self.send(Some(&tab), "Page.navigate", json!({"url": url}))?;
        Ok(tab)
    }

    /// Gives a page another desktop.
    ///
    /// # Errors
    /// Those of [`Browser::send`].
    pub fn set_scheme(&mut self, tab: &Tab, scheme: Scheme) -> Result<(), Error> {
        let value = if scheme == Scheme::Dark { "dark" } else { "light" };
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": value}]});
        self.send(Some(tab), "Emulation.setEmulatedMedia", features).map(drop)
    }

    /// The value of an expression of JavaScript; promises are waited for.
    ///
    /// # Errors
    /// [`Error::Io`] with what it threw; those of [`Browser::send`].
    pub fn evaluate(&mut self, tab: &Tab, expression: &str) -> Result<Value, Error> {
        let parameters =
            json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let answer = self.send(Some(tab), "Runtime.evaluate", parameters)?;
        match answer.get("exceptionDetails") {
            Some(thrown) => Err(broken(format!("evaluate {expression}: {thrown}"))),
            None => Ok(answer["result"]["value"].clone()),
        }
    }

    /// Waits until an expression is true.
    ///
    /// # Errors
    /// [`Error::TimedOut`].
    pub fn wait(&mut self, tab: &Tab, what: &str, expression: &str) -> Result<(), Error> {
        let tab = tab.clone();
        wait_until(PATIENCE, what, || {
            self.evaluate(&tab, expression).is_ok_and(|value| value == Value::Bool(true))
        })
    }

    /// Presses a key, as a person does.
    ///
    /// # Errors
    /// Those of [`Browser::send`].
    pub fn press(&mut self, tab: &Tab, key: &str) -> Result<(), Error> {
        let text = if key == "Enter" { "\r" } else { "" };
        for kind in ["keyDown", "keyUp"] {
            let code = match key {
                "Enter" => 13,
                "Tab" => 9,
                "ArrowRight" => 39,
                _ => 0,
            };
            let mut event =
                json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code});
            if kind == "keyDown" && !text.is_empty() {
                event["text"] = json!(text);
            }
            self.send(Some(tab), "Input.dispatchKeyEvent", event)?;
        }
        Ok(())
    }

    /// Clicks into the middle of an element, with a mouse.
    ///
    /// # Errors
    /// [`Error::Io`] where there is no such element; those of [`Browser::send`].
    pub fn click(&mut self, tab: &Tab, selector: &str) -> Result<(), Error> {
        let found = self.evaluate(
            tab,
            &format!(
                "(() => {{ const one = document.querySelector({}); one.scrollIntoView({{block: \
                 'center'}}); const box = one.getBoundingClientRect(); return [box.x + box.width \
                 / 2, box.y + box.height / 2]; }})()",
                json!(selector)
            ),
        )?;
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({
                "type": kind, "x": found[0], "y": found[1], "button": "left", "clickCount": 1,
            });
            self.send(Some(tab), "Input.dispatchMouseEvent", event)?;
        }
        Ok(())
    }

    /// What is seen of a page, as PNG.
    ///
    /// # Errors
    /// Those of [`Browser::send`].
    pub fn screenshot(&mut self, tab: &Tab) -> Result<Vec<u8>, Error> {
        let answer = self.send(Some(tab), "Page.captureScreenshot", json!({"format": "png"}))?;
        let text = answer["data"].as_str().unwrap_or_default();
        STANDARD.decode(text).map_err(|error| broken(format!("decode a screenshot: {error}")))
    }

    /// Errors of pages so far: what was thrown, refused by a policy, or not found.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// One command of the protocol; answers its result.
    ///
    /// # Errors
    /// [`Error::Io`] where the browser has ended or refuses, [`Error::TimedOut`].
    pub fn send(
        &mut self,
        tab: Option<&Tab>,
        method: &str,
        parameters: Value,
    ) -> Result<Value, Error> {
        self.next += 1;
        let id = self.next;
        let mut message = json!({"id": id, "method": method, "params": parameters});
        if let Some(tab) = tab {
            message["sessionId"] = json!(tab.session);
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.commands.write_all(&bytes).map_err(io("write to the browser"))?;
        loop {
            let answer = self.answers.recv_timeout(PATIENCE).map_err(|error| match error {
                RecvTimeoutError::Timeout => Error::TimedOut {
                    what: format!("the answer to {method}"),
                    timeout: PATIENCE,
                    output: String::new(),
                },
                RecvTimeoutError::Disconnected => broken(format!("{method}: the browser ended")),
            })?;
            if answer["id"] == id {
                return match answer.get("error") {
                    Some(error) => Err(broken(format!("{method}: {error}"))),
                    None => Ok(answer["result"].clone()),
                };
            }
            self.note(&answer);
        }
    }

    fn note(&mut self, event: &Value) {
        let problem = match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => &event["params"]["exceptionDetails"],
            Some("Log.entryAdded") if event["params"]["entry"]["level"] == "error" => {
                &event["params"]["entry"]
            }
            _ => return,
        };
        self.problems.push(problem.to_string());
    }
}

/// Messages that end with a zero byte, until the browser ends.
fn read(output: ChildStdout, sender: &SyncSender<Value>) {
    let mut output = BufReader::new(output);
    let mut message = Vec::new();
    loop {
        message.clear();
        match output.read_until(0, &mut message) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        message.pop();
        let Ok(value) = serde_json::from_slice(&message) else { continue };
        if sender.send(value).is_err() {
            return;
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its own processes end with it.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
