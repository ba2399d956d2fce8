//! A headless Chromium, driven over WebDriver (w3.org/TR/webdriver2) by Debian's chromedriver.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::Scratch;
use crate::process::succeed;

/// No answer of chromedriver takes as long, also on a loaded machine.
const LONG: Duration = Duration::from_secs(120);

/// The window a page is shown in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Screen {
    /// For names of files.
    pub name: &'static str,
    /// Width in CSS pixels.
    pub width: u32,
    /// Height in CSS pixels.
    pub height: u32,
    /// With a touch screen of two device pixels for each, and the layout of a phone.
    pub is_phone: bool,
}

/// A window on a desk.
pub const DESKTOP: Screen = Screen { name: "desktop", width: 1280, height: 900, is_phone: false };

/// A phone held upright.
pub const PHONE: Screen = Screen { name: "phone", width: 390, height: 844, is_phone: true };

/// A running browser; it ends when this is dropped.
#[derive(Debug)]
pub struct Browser {
    driver: Child,
    port: u16,
    session: String,
}

impl Browser {
    /// Starts one with a profile of its own in `scratch`.
    ///
    /// # Errors
    /// Fails when chromedriver or Chromium does not start.
    pub fn start(scratch: &Scratch, screen: Screen) -> Result<Self> {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start chromedriver")?;
        let port = port(&mut driver);
        let mut browser = Self { driver, port: port?, session: String::new() };
        let profile = scratch.dir(&format!("chromium-{}", screen.name))?;
        let answer = browser.call("POST", "/session", &capabilities(&profile, screen))?;
        browser.session = text(&answer, "sessionId")?;
        Ok(browser)
    }

    /// Shows a file.
    ///
    /// # Errors
    /// Fails when the browser cannot.
    pub fn open(&self, page: &Path) -> Result<()> {
        self.ask_at("url", &json!({ "url": format!("file://{}", page.display()) })).map(drop)
    }

    /// What a JavaScript expression gives on the page.
    ///
    /// # Errors
    /// Fails when it throws.
    pub fn ask(&self, expression: &str) -> Result<Value> {
        self.ask_at("execute/sync", &json!({ "script": format!("return ({expression})"), "args": [] }))
            .with_context(|| format!("cannot find out {expression}"))
    }

    /// Keeps a picture of the window as a PNG file.
    ///
    /// # Errors
    /// Fails when there is none, or it cannot be written.
    pub fn picture(&self, to: &Path) -> Result<()> {
        let picture = self.call("GET", &format!("/session/{}/screenshot", self.session), &Value::Null)?;
        let encoded = to.with_extension("base64");
        std::fs::write(&encoded, picture.as_str().context("no picture")?)?;
        let png = Command::new("base64").arg("-d").arg(&encoded).output()?;
        std::fs::remove_file(&encoded)?;
        ensure!(png.stdout.starts_with(b"\x89PNG"), "no PNG");
        std::fs::write(to, png.stdout).with_context(|| format!("cannot write {}", to.display()))
    }

    fn ask_at(&self, command: &str, body: &Value) -> Result<Value> {
        self.call("POST", &format!("/session/{}/{command}", self.session), body)
    }

    /// One request, one connection.
    fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let mut connection = TcpStream::connect(("127.0.0.1", self.port))?;
        connection.set_read_timeout(Some(LONG))?;
        let body = if body.is_null() { String::new() } else { body.to_string() };
        write!(
            connection,
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = BufReader::new(connection);
        let mut length = 0;
        loop {
            let mut line = String::new();
            ensure!(answer.read_line(&mut line)? > 0, "chromedriver broke off");
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut payload = vec![0; length];
        answer.read_exact(&mut payload)?;
        let mut answer: Value = serde_json::from_slice(&payload)?;
        let value = answer.get_mut("value").map(Value::take).context("an answer without a value")?;
        if let Some(error) = value.get("error") {
            bail!("{error}: {}", value.get("message").unwrap_or(&Value::Null));
        }
        Ok(value)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Chromium ends with its session; if it does not, it ends with chromedriver.
        self.call("DELETE", &format!("/session/{}", self.session), &Value::Null).ok();
        self.driver.kill().ok();
        self.driver.wait().ok();
    }
}

/// The port that chromedriver says it listens on.
fn port(driver: &mut Child) -> Result<u16> {
    let words = driver.stdout.take().context("no output of chromedriver")?;
    for line in BufReader::new(words).lines() {
        let line = line?;
        if let Some((_, port)) = line.split_once("started successfully on port ") {
            return port.trim_end_matches('.').parse().with_context(|| format!("what port is {line}"));
        }
    }
    driver.kill().ok();
    bail!("chromedriver did not start: {}", succeed(Command::new("chromedriver").arg("--version"))?)
}

fn capabilities(profile: &Path, screen: Screen) -> Value {
    let mut options = json!({
        "binary": "/usr/bin/chromium",
        "args": [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--disable-dev-shm-usage", "--hide-scrollbars",
            format!("--window-size={},{}", screen.width, screen.height),
            format!("--user-data-dir={}", profile.display()),
        ],
    });
    if let (true, Some(options)) = (screen.is_phone, options.as_object_mut()) {
        let metrics =
            json!({ "width": screen.width, "height": screen.height, "pixelRatio": 2.0, "touch": true });
        options.insert("mobileEmulation".to_owned(), json!({ "deviceMetrics": metrics }));
    }
    json!({ "capabilities": { "alwaysMatch": { "browserName": "chrome", "goog:chromeOptions": options } } })
}

fn text(value: &Value, name: &str) -> Result<String> {
    value
        .get(name)
        .and_then(Value::as_str)
        .map(str::to_owned)
        .with_context(|| format!("no {name} in {value}"))
}
