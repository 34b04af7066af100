//! The HTTP API of a running daemon.

use std::future::Future;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use reqwest::{Method, Url};
use serde::Serialize;
use serde_json::Value;

use super::output::clean;

/// How long to wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer may take in all.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Largest answer that is read.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// Runs a command that talks to the daemon.
pub(super) fn block_on(command: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(command)
}

/// The address of a daemon as it is given on the command line.
pub(super) fn base_url(text: &str) -> Result<Url, String> {
    let example = "expected an address such as http://127.0.0.1:9517";
    let url = Url::parse(text).map_err(|error| format!("{example}: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(example.into());
    }
    Ok(url)
}

/// A running daemon.
#[derive(Debug)]
pub(super) struct Client {
    base: Url,
    http: reqwest::Client,
}

impl Client {
    pub(super) fn new(base: Url) -> Result<Self> {
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none());
        let is_loopback = match base.host_str() {
            Some("localhost" | "[::1]") => true,
            Some(host) => host.starts_with("127."),
            None => false,
        };
        if is_loopback {
            // No proxy leads to this machine's own loopback.
            builder = builder.no_proxy();
        }
        let http = builder.build().context("cannot set up HTTP")?;
        Ok(Self { base, http })
    }

    /// The address of an endpoint; each segment is escaped.
    fn endpoint(&self, segments: &[&str], query: &[(&str, String)]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    /// `GET`; the answer as JSON.
    pub(super) async fn get(&self, segments: &[&str], query: &[(&str, String)]) -> Result<Value> {
        let text = self.get_text(segments, query).await?;
        self.json(&text)
    }

    /// `GET`; the answer as it is.
    pub(super) async fn get_text(
        &self,
        segments: &[&str],
        query: &[(&str, String)],
    ) -> Result<String> {
        let request = self
            .http
            .request(Method::GET, self.endpoint(segments, query));
        self.send(request).await
    }

    /// `PUT` with a JSON body; the answer as JSON.
    pub(super) async fn put(&self, segments: &[&str], body: &impl Serialize) -> Result<Value> {
        let request = self.http.request(Method::PUT, self.endpoint(segments, &[]));
        let text = self.send(request.json(body)).await?;
        self.json(&text)
    }

    /// `POST` with a JSON body; the answer as JSON.
    pub(super) async fn post(&self, segments: &[&str], body: &impl Serialize) -> Result<Value> {
        let request = self
            .http
            .request(Method::POST, self.endpoint(segments, &[]));
        let text = self.send(request.json(body)).await?;
        self.json(&text)
    }

    /// `DELETE`.
    pub(super) async fn delete(&self, segments: &[&str], query: &[(&str, String)]) -> Result<()> {
        let request = self
            .http
            .request(Method::DELETE, self.endpoint(segments, query));
        self.send(request).await.map(drop)
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<String> {
        let mut response = request
            .send()
            .await
            .map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| self.unreachable(&error))?
        {
            if body.len() + chunk.len() > MAX_ANSWER {
                bail!(
                    "the answer of {} is larger than {MAX_ANSWER} bytes",
                    self.base
                );
            }
            body.extend_from_slice(&chunk);
        }
        let text = String::from_utf8_lossy(&body).into_owned();
        if status.is_success() {
            return Ok(text);
        }
        // Of the API's own shape, of Alertmanager's (a JSON string), or of something else that listens.
        let reason = match serde_json::from_str::<Value>(&text) {
            Ok(Value::String(reason)) => reason,
            Ok(value) => match value.get("error").or_else(|| value.get("message")) {
                Some(Value::String(reason)) => reason.clone(),
                Some(_) | None => self.no_daemon(),
            },
            Err(_) => self.no_daemon(),
        };
        Err(anyhow!("{} ({status})", clean(&reason)))
    }

    fn json(&self, text: &str) -> Result<Value> {
        serde_json::from_str(text).map_err(|_| anyhow!("{}", self.no_daemon()))
    }

    fn no_daemon(&self) -> String {
        format!(
            "what answers at {} is no tidewatch daemon, or one of another version",
            self.base
        )
    }

    fn unreachable(&self, error: &reqwest::Error) -> anyhow::Error {
        // The innermost cause says it: `Connection refused`.
        let mut cause: &dyn std::error::Error = error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        let reason = if error.is_timeout() {
            "no answer in time".to_owned()
        } else {
            cause.to_string()
        };
        anyhow!(
            "cannot reach the daemon at {}: {reason}\n  hint: start it with `tidewatch run`, or say \
             where it is with --url or TIDEWATCH_URL",
            self.base
        )
    }
}

/// The list under `data` of an answer, or the answer where it is the list itself.
pub(super) fn list(answer: Value) -> Result<Vec<Value>> {
    let data = match answer {
        Value::Object(mut map) => map.remove("data").unwrap_or_default(),
        other => other,
    };
    match data {
        Value::Array(list) => Ok(list),
        _ => Err(anyhow!(
            "the answer holds no list; is the daemon of another version?"
        )),
    }
}
