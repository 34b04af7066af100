//! The side of a service: hears what mode Tidewatch tells it, and says which one it runs in.
//!
//! In goes the address of a daemon and the name of a service; out comes what it is told, always the newest
//! alone. Server-sent events say *that* something changed, and an ordinary request says *what*: so a
//! change arrives at once, a lost event costs one period, and each answer renews the lease. Invariants:
//! an instruction is never reported past the lease it came with, measured from when it was asked for; a
//! daemon that is starting or broken takes nothing back before that.
//!
//! It knows nothing of the daemon but its HTTP API.

mod sse;

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::header;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::clock::Clock;
use crate::model::{Acknowledgement, ModeState, Timestamp};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer may take in all.
const ANSWER: Duration = Duration::from_secs(5);
/// Longest answer that is read, in bytes; one mode with its reasons is far shorter.
const MAX_ANSWER: usize = 1 << 20;
/// Silence on the event stream after which it is opened anew; the daemon says something every 15 s.
const SILENCE: Duration = Duration::from_secs(45);
/// Pause before a lost event stream is opened again.
const RECONNECT: Duration = Duration::from_millis(250);
/// Longest such pause, while it is lost again and again.
const LONGEST_RECONNECT: Duration = Duration::from_secs(5);
/// Renewals within one lease: two may be lost.
const RENEWALS: u32 = 3;
/// Shortest and longest time between renewals.
const RENEW: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));
/// Time to the next question while the daemon gives no useful answer.
const RETRY: Duration = Duration::from_secs(1);

/// What a service is told.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Told {
    /// Nothing has been heard yet.
    #[default]
    Nothing,
    /// This; it holds.
    Instruction(Arc<ModeState>),
    /// Tidewatch answers, but knows no such service: the service's own default holds.
    Unknown,
    /// Nobody renews the instruction any more, or nobody has answered: the service's own default holds.
    Silent {
        /// Why, in words.
        reason: String,
    },
}

/// Why something could not be said or asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No HTTP client can be set up, or the address is none.
    #[error("cannot set up HTTP: {0}")]
    Setup(String),
    /// No answer.
    #[error("no answer: {0}")]
    Unreachable(String),
    /// Another answer than the one hoped for.
    #[error("{0}")]
    Refused(String),
}

/// One service of one daemon, as the service itself sees it.
#[derive(Debug, Clone)]
pub struct Service {
    http: reqwest::Client,
    base: reqwest::Url,
    name: String,
}

/// What the daemon says when it is asked.
#[derive(Debug)]
enum Answer {
    /// An instruction, and for how long it holds.
    Told(Arc<ModeState>, Duration),
    Unknown,
    /// Nothing that could be obeyed.
    Useless(String),
}

impl Service {
    /// The service called `name` of the daemon at `base`, such as `http://127.0.0.1:9517`.
    ///
    /// # Errors
    /// [`Error::Setup`].
    pub fn new(base: reqwest::Url, name: impl Into<String>) -> Result<Self, Error> {
        let setup = |error: &dyn std::fmt::Display| Error::Setup(error.to_string());
        if base.cannot_be_a_base() {
            return Err(setup(&format!("`{base}` is no address of a daemon")));
        }
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            .redirect(reqwest::redirect::Policy::none());
        let host = base.host_str().unwrap_or_default();
        if matches!(host, "localhost" | "[::1]") || host.starts_with("127.") {
            // No proxy leads to this machine's own loopback.
            builder = builder.no_proxy();
        }
        Ok(Self {
            http: builder.build().map_err(|error| setup(&error))?,
            base,
            name: name.into(),
        })
    }

    /// Writes into `told` what the service is told, and writes it again each time that it is renewed.
    /// Goes on until it is dropped.
    pub async fn follow(&self, told: &watch::Sender<Told>) -> Infallible {
        let changed = Notify::new();
        tokio::select! {
            never = self.listen(&changed) => never,
            never = self.renew(&changed, told) => never,
        }
    }

    /// Says which mode the service runs in.
    ///
    /// # Errors
    /// There is no answer, or the daemon does not take it.
    pub async fn acknowledge(&self, said: &Acknowledgement) -> Result<(), Error> {
        let request = self.http.post(self.endpoint(&["modes", &self.name, "ack"]));
        let (status, body) = exchange(request.json(said)).await?;
        match status.is_success() {
            true => Ok(()),
            false => Err(Error::Refused(reason(status, &body))),
        }
    }

    fn endpoint(&self, path: &[&str]) -> reqwest::Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["api", "v1"]).extend(path);
        }
        url
    }

    /// Rings `changed` whenever the daemon says that the service is told something else.
    async fn listen(&self, changed: &Notify) -> Infallible {
        let mut last_id = None;
        let mut pause = RECONNECT;
        loop {
            let before = last_id.clone();
            if let Err(error) = self.stream(&mut last_id, changed).await {
                tracing::debug!(service = self.name, %error, "event stream ended");
            }
            pause = match before == last_id {
                true => (pause * 2).min(LONGEST_RECONNECT),
                false => RECONNECT,
            };
            sleep(pause).await;
        }
    }

    async fn stream(
        &self,
        last_id: &mut Option<String>,
        changed: &Notify,
    ) -> Result<(), reqwest::Error> {
        let mut url = self.endpoint(&["events"]);
        url.query_pairs_mut().append_pair("service", &self.name);
        let mut request = self.http.get(url);
        if let Some(id) = &*last_id {
            request = request.header("last-event-id", id);
        }
        let mut answer = request.send().await?.error_for_status()?;
        // What happened while nobody listened may be older than the daemon's memory.
        changed.notify_one();
        let mut events = sse::Events::default();
        while let Some(chunk) = answer.chunk().await? {
            for event in events.push(&chunk) {
                if matches!(event.name.as_str(), "mode" | "snapshot") {
                    changed.notify_one();
                }
                if let Some(id) = event.id {
                    *last_id = Some(id);
                }
            }
        }
        Ok(())
    }

    /// Asks in time, and at once when `changed` rings.
    async fn renew(&self, changed: &Notify, told: &watch::Sender<Told>) -> Infallible {
        let mut lease = Lease { until: None, told };
        loop {
            let asked = Instant::now();
            let pause = match lease.during(self.ask()).await {
                Answer::Told(state, left) => {
                    lease.until = Some(asked + left);
                    told.send_replace(Told::Instruction(state));
                    (left / RENEWALS).clamp(RENEW.0, RENEW.1)
                }
                Answer::Unknown => {
                    lease.until = None;
                    told.send_replace(Told::Unknown);
                    RETRY
                }
                Answer::Useless(reason) => {
                    lease.not_renewed(reason);
                    RETRY
                }
            };
            let rest = async {
                tokio::select! {
                    () = sleep(pause) => {}
                    () = changed.notified() => {}
                }
            };
            lease.during(rest).await;
        }
    }

    async fn ask(&self) -> Answer {
        let request = self.http.get(self.endpoint(&["modes", &self.name]));
        let (status, body, date) = match exchange_dated(request).await {
            Ok(answer) => answer,
            Err(error) => return Answer::Useless(error.to_string()),
        };
        let parsed: Value = serde_json::from_slice(&body).unwrap_or_default();
        if status == http::StatusCode::NOT_FOUND && parsed["errorType"] == "not_found" {
            return Answer::Unknown;
        }
        if !status.is_success() {
            return Answer::Useless(reason(status, &body));
        }
        let Ok(state) = ModeState::deserialize(&parsed["data"]) else {
            return Answer::Useless("what answers is no tidewatch daemon".into());
        };
        // By the daemon's own clock, which may be another than ours.
        let now = date.unwrap_or_else(|| Clock::System.now());
        match state.lease_expires_at.since(now) {
            Duration::ZERO => Answer::Useless("the lease has run out at the daemon itself".into()),
            left => Answer::Told(Arc::new(state), left),
        }
    }
}

/// For how long what was told last holds.
struct Lease<'t> {
    /// `None`: nothing that was told holds.
    until: Option<Instant>,
    told: &'t watch::Sender<Told>,
}

impl Lease<'_> {
    /// Does something that takes a while, and says in the meantime when the lease runs out.
    async fn during<T>(&mut self, something: impl Future<Output = T>) -> T {
        let mut something = pin!(something);
        if let Some(until) = self.until {
            tokio::select! {
                // An answer that is there goes before a lease that ends at the same time.
                biased;
                done = &mut something => return done,
                () = sleep_until(until) => {}
            }
            self.until = None;
            let reason = "the lease has run out: Tidewatch is not heard any more".into();
            self.told.send_replace(Told::Silent { reason });
        }
        something.await
    }

    /// Nothing was told. What holds goes on holding; who has nothing is told that nobody answers.
    fn not_renewed(&self, reason: String) {
        if self.until.is_none() {
            self.told.send_if_modified(|told| {
                let news = !matches!(told, Told::Silent { .. });
                if news {
                    *told = Told::Silent { reason };
                }
                news
            });
        }
    }
}

type Exchanged = (http::StatusCode, Vec<u8>);

async fn exchange(request: reqwest::RequestBuilder) -> Result<Exchanged, Error> {
    let (status, body, _) = exchange_dated(request).await?;
    Ok((status, body))
}

/// Status, body and the time at which the daemon answered, by its own clock.
async fn exchange_dated(
    request: reqwest::RequestBuilder,
) -> Result<(http::StatusCode, Vec<u8>, Option<Timestamp>), Error> {
    let unreachable = |error: reqwest::Error| Error::Unreachable(innermost(&error));
    let whole = async {
        let mut answer = request.send().await.map_err(unreachable)?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > MAX_ANSWER {
                let error = format!("the answer is larger than {MAX_ANSWER} bytes");
                return Err(Error::Refused(error));
            }
            body.extend_from_slice(&chunk);
        }
        let date = answer.headers().get(header::DATE);
        let date = date.and_then(|date| time_of(date.to_str().ok()?));
        Ok((answer.status(), body, date))
    };
    match timeout(ANSWER, whole).await {
        Ok(answer) => answer,
        Err(_) => Err(Error::Unreachable(format!("nothing within {ANSWER:?}"))),
    }
}

/// The time in a `Date` header.
fn time_of(date: &str) -> Option<Timestamp> {
    let zoned = jiff::fmt::rfc2822::DateTimeParser::new().parse_zoned(date);
    let nanos = zoned.ok()?.timestamp().as_nanosecond();
    i64::try_from(nanos).ok().map(Timestamp::from_nanos)
}

/// What the daemon says is wrong.
fn reason(status: http::StatusCode, body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    match body["error"].as_str() {
        Some(error) => format!("{error} ({status})"),
        None => status.to_string(),
    }
}

/// The innermost cause says it: `Connection refused`.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests;
