//! Sends requests and counts what comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::{Buf, BufMut, Bytes};
use clap::ValueEnum;
use http::uri::PathAndQuery;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use sketches_ddsketch::{Config, DDSketch};
use tidewatch::clock::{self, Clock};
use tokio::task::JoinSet;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::requests::Requests;

/// Largest answer that is read.
const MAX_ANSWER: usize = 1 << 20;
/// So often a request is sent that must arrive: for some seconds.
const MOST_TRIES: usize = 1_000;
/// A request that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    /// OTLP/gRPC
    Grpc,
    /// OTLP/HTTP with protobuf
    Http,
}

impl Transport {
    /// Where spans or points go.
    fn path(self, traces: bool) -> &'static str {
        match (self, traces) {
            (Self::Http, true) => "/v1/traces",
            (Self::Http, false) => "/v1/metrics",
            (Self::Grpc, true) => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            (Self::Grpc, false) => {
                "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
            }
        }
    }
}

/// A fixed number of rounds over all requests.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rounds {
    pub(crate) count: u64,
    /// How much later the points and spans of a round are than those of the round before; the last
    /// round has the present time. History, sent faster than it happened. Zero: all have the present
    /// time.
    pub(crate) step: Duration,
}

/// How requests are sent.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) transport: Transport,
    pub(crate) endpoint: String,
    pub(crate) connections: usize,
    pub(crate) in_flight: usize,
    /// Ends with these instead of after `length`; each request is sent until it is accepted.
    pub(crate) rounds: Option<Rounds>,
    /// Items a second.
    pub(crate) rate: Option<f64>,
    pub(crate) length: Duration,
}

/// What came of it.
pub(crate) struct Outcome {
    /// Items of requests that were accepted, rejected ones among them left out.
    pub(crate) items: u64,
    /// Items that the server did not take out of requests that it accepted.
    pub(crate) rejected: u64,
    /// Requests that the client was asked to send again.
    pub(crate) retryable: u64,
    /// Requests that failed otherwise.
    pub(crate) failed: u64,
    /// Why one of them failed.
    pub(crate) failure: Option<String>,
    /// From the first request to the last answer.
    pub(crate) elapsed: Duration,
    /// Milliseconds of accepted requests.
    latency: DDSketch,
}

impl Outcome {
    fn new() -> Self {
        Self {
            items: 0,
            rejected: 0,
            retryable: 0,
            failed: 0,
            failure: None,
            elapsed: Duration::ZERO,
            latency: DDSketch::new(Config::defaults()),
        }
    }

    /// The quantile `q` of accepted requests' time, in milliseconds.
    pub(crate) fn quantile(&self, q: f64) -> Option<f64> {
        self.latency.quantile(q).ok().flatten()
    }

    fn merge(&mut self, other: Self) {
        self.items += other.items;
        self.rejected += other.rejected;
        self.retryable += other.retryable;
        self.failed += other.failed;
        self.failure = self.failure.take().or(other.failure);
        // Both have the same configuration.
        drop(self.latency.merge(&other.latency));
    }
}

/// How one request was answered.
pub(crate) enum Answer {
    /// Accepted but for so many items.
    Accepted(u64),
    Retryable,
    Failed(String),
}

/// Sends `requests` until the time is over, and waits for the last answers.
pub(crate) async fn run(plan: Plan, requests: &Arc<Requests>) -> Result<Outcome> {
    // One number of requests for all, going on from run to run, so that no trace comes twice.
    static TURN: AtomicU64 = AtomicU64::new(0);
    let begin = clock::instant();
    let first = TURN.load(Ordering::Relaxed);
    let schedule = Schedule {
        first,
        end: plan
            .rounds
            .map_or(u64::MAX, |rounds| first + rounds.count * requests.count()),
        began: now(),
    };
    let sent = Arc::new(AtomicU64::new(0));
    let mut senders = JoinSet::new();
    for _ in 0..plan.connections {
        let connection = Connection::open(&plan, requests).await?;
        for _ in 0..plan.in_flight {
            let (plan, requests) = (plan.clone(), Arc::clone(requests));
            let (mut connection, sent) = (connection.clone(), Arc::clone(&sent));
            senders.spawn(async move {
                let mut outcome = Outcome::new();
                while plan.rounds.is_some() || begin.elapsed() < plan.length {
                    let turn = TURN.fetch_add(1, Ordering::Relaxed);
                    if turn >= schedule.end {
                        break;
                    }
                    let nanos = schedule.time(turn, plan.rounds, requests.count());
                    let (bytes, items) = requests.make(turn, nanos);
                    if let Some(rate) = plan.rate {
                        let before = sent.fetch_add(items as u64, Ordering::Relaxed);
                        let due = begin + Duration::from_secs_f64(before as f64 / rate);
                        tokio::time::sleep_until(due.into()).await;
                    }
                    let bytes = Bytes::from(bytes);
                    for _ in 0..MOST_TRIES {
                        let again = connection.once(bytes.clone(), items as u64, &mut outcome);
                        if !again.await || plan.rounds.is_none() {
                            break;
                        }
                    }
                }
                outcome
            });
        }
    }
    let mut outcome = Outcome::new();
    while let Some(part) = senders.join_next().await {
        outcome.merge(part.context("a sender has panicked")?);
    }
    outcome.elapsed = begin.elapsed();
    Ok(outcome)
}

/// Which requests a run sends, and which times these have.
#[derive(Debug, Clone, Copy)]
struct Schedule {
    first: u64,
    /// Behind the last one.
    end: u64,
    /// Nanoseconds since 1970.
    began: u64,
}

impl Schedule {
    /// Time of the request of `turn` in nanoseconds since 1970, of so many requests in a round.
    fn time(self, turn: u64, rounds: Option<Rounds>, requests: u64) -> u64 {
        match rounds {
            Some(rounds) if !rounds.step.is_zero() => {
                let to_come = rounds.count - 1 - (turn - self.first) / requests;
                let step = u64::try_from(rounds.step.as_nanos()).unwrap_or(u64::MAX);
                self.began.saturating_sub(to_come.saturating_mul(step))
            }
            _ => now(),
        }
    }
}

fn now() -> u64 {
    u64::try_from(Clock::System.now().as_nanos()).unwrap_or(0)
}

/// A way to the server; clones share it.
#[derive(Clone)]
pub(crate) enum Connection {
    Grpc(Channel, PathAndQuery),
    Http(reqwest::Client, String),
}

impl Connection {
    pub(crate) async fn open(plan: &Plan, requests: &Requests) -> Result<Self> {
        let path = plan.transport.path(requests.are_traces());
        Ok(match plan.transport {
            Transport::Grpc => {
                let endpoint = Endpoint::from_shared(plan.endpoint.clone())?.timeout(PATIENCE);
                let channel = endpoint.connect().await;
                let channel = channel.with_context(|| format!("no server at {}", plan.endpoint))?;
                Self::Grpc(channel, PathAndQuery::from_static(path))
            }
            Transport::Http => {
                let client = reqwest::Client::builder()
                    .timeout(PATIENCE)
                    .pool_max_idle_per_host(plan.in_flight)
                    .build()?;
                Self::Http(client, format!("{}{path}", plan.endpoint))
            }
        })
    }

    /// Sends one request of so many items once, notes what came of it, and says whether it may be sent
    /// again.
    async fn once(&mut self, bytes: Bytes, items: u64, outcome: &mut Outcome) -> bool {
        let start = clock::instant();
        match self.send(bytes).await {
            Answer::Accepted(rejected) => {
                outcome.items += items.saturating_sub(rejected);
                outcome.rejected += rejected;
                outcome.latency.add(start.elapsed().as_secs_f64() * 1e3);
                false
            }
            Answer::Retryable => {
                outcome.retryable += 1;
                tokio::time::sleep(Duration::from_millis(10)).await;
                true
            }
            Answer::Failed(why) => {
                outcome.failed += 1;
                outcome.failure.get_or_insert(why);
                tokio::time::sleep(Duration::from_millis(50)).await;
                false
            }
        }
    }

    pub(crate) async fn send(&mut self, body: Bytes) -> Answer {
        match self {
            Self::Grpc(channel, path) => {
                let mut client =
                    tonic::client::Grpc::new(&mut *channel).max_decoding_message_size(MAX_ANSWER);
                if let Err(error) = client.ready().await {
                    return Answer::Failed(error.to_string());
                }
                let request = tonic::Request::new(body);
                match client.unary(request, path.clone(), Raw).await {
                    Ok(answer) => Answer::Accepted(rejected(&answer.into_inner())),
                    Err(status) => match status.code() {
                        Code::Unavailable | Code::ResourceExhausted => Answer::Retryable,
                        _ => Answer::Failed(status.to_string()),
                    },
                }
            }
            Self::Http(client, url) => {
                let request = client
                    .post(&*url)
                    .header("content-type", "application/x-protobuf")
                    .body(body);
                let answer = match request.send().await {
                    Ok(answer) => answer,
                    Err(error) => return Answer::Failed(error.to_string()),
                };
                let status = answer.status();
                match (status.as_u16(), answer.bytes().await) {
                    (200, Ok(bytes)) => Answer::Accepted(rejected(&bytes)),
                    (429 | 502 | 503 | 504, _) => Answer::Retryable,
                    _ => Answer::Failed(status.to_string()),
                }
            }
        }
    }
}

/// How many items an accepted request lost. Both signals' answers have the same form.
fn rejected(answer: &[u8]) -> u64 {
    let partial = ExportTraceServiceResponse::decode(answer).map(|answer| answer.partial_success);
    let rejected = partial.ok().flatten().map(|partial| partial.rejected_spans);
    rejected.map_or(0, |count| u64::try_from(count).unwrap_or(0))
}

/// Messages that are bytes already.
#[derive(Debug, Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
