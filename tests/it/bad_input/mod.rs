//! Bad input over the real ports, row by row: what is sent, what is answered and counted, and that the
//! next good request is taken as if nothing had been.

use std::collections::BTreeMap;

use prost::Message as _;
use serde_json::{Value, json};

use crate::harness::{Daemon, eventually, otlp};
use grpc::{Call, Code};
use make::Metrics;

mod encoding;
mod frames;
mod grpc;
mod http;
mod lifecycle;
mod limits;
mod make;
mod meaning;
mod points;
mod protocol;
mod spans;
mod transport;

/// Rules that hold for nothing: `/metrics` shows no signals then, however many there are.
const NO_RULES: &str =
    r#"rules: [{alert: None, match: '{metric="none"}', detector: threshold, upper: 1}]"#;

/// Short ticks, so that what was sent is soon seen.
const CONFIG: &str = "window: {tick: 100ms, samples: 20}";

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

/// What a request must be answered, by HTTP and by gRPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// 200 and nothing else.
    Accepted,
    /// 400; INVALID_ARGUMENT or INTERNAL.
    Malformed,
    /// 413; RESOURCE_EXHAUSTED without RetryInfo.
    TooLarge,
    /// 415; UNIMPLEMENTED.
    Unsupported,
}

/// A request, as bytes.
#[derive(Debug, Clone)]
struct Body {
    signal: &'static str,
    media_type: Option<&'static str>,
    encoding: Option<&'static str>,
    bytes: Vec<u8>,
}

impl Body {
    fn protobuf(bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            signal: "metrics",
            media_type: Some(PROTOBUF),
            encoding: None,
            bytes: bytes.into(),
        }
    }

    fn json(text: impl Into<Vec<u8>>) -> Self {
        Self {
            media_type: Some(JSON),
            ..Self::protobuf(text)
        }
    }

    fn encoded(mut self, encoding: &'static str) -> Self {
        self.encoding = Some(encoding);
        self
    }

    fn of_traces(mut self) -> Self {
        self.signal = "traces";
        self
    }
}

/// What the daemon has counted so far.
#[derive(Debug, Clone, PartialEq, Default)]
struct Counted {
    /// Points and spans that are part of their series.
    applied: u64,
    /// By reason, without those at zero.
    rejected: BTreeMap<String, u64>,
    /// By reason: late, repeated, overlap.
    late: BTreeMap<String, u64>,
}

impl Counted {
    fn applied(applied: u64) -> Self {
        Self {
            applied,
            ..Self::default()
        }
    }

    fn rejected(reason: &str, count: u64) -> Self {
        Self {
            rejected: [(reason.to_owned(), count)].into(),
            ..Self::default()
        }
    }

    fn late(reason: &str, count: u64) -> Self {
        Self {
            late: [(reason.to_owned(), count)].into(),
            ..Self::default()
        }
    }

    fn and_applied(mut self, more: u64) -> Self {
        self.applied += more;
        self
    }

    async fn by(daemon: &Daemon) -> Self {
        let text = daemon.text("/metrics").await;
        let mut counted = Self::default();
        for line in text.lines() {
            let Some((name, value)) = line.rsplit_once(' ') else {
                continue;
            };
            let reason = || name.split('"').nth(1).unwrap_or_default().to_owned();
            let value = || value.parse::<f64>().expect(line) as u64;
            if name == "tidewatch_otlp_points_total" || name == "tidewatch_otlp_spans_total" {
                counted.applied += value();
            } else if name.starts_with("tidewatch_otlp_rejected_total{") {
                counted.rejected.insert(reason(), value());
            } else if name.starts_with("tidewatch_late_points_total{") {
                counted.late.insert(reason(), value());
            }
        }
        counted
    }

    fn since(self, before: &Self) -> Self {
        let difference = |now: BTreeMap<String, u64>, before: &BTreeMap<String, u64>| {
            now.into_iter()
                .map(|(reason, count)| {
                    let known = before.get(&reason).copied().unwrap_or(0);
                    (reason, count - known)
                })
                .filter(|(_, count)| *count > 0)
                .collect()
        };
        Self {
            applied: self.applied - before.applied,
            rejected: difference(self.rejected, &before.rejected),
            late: difference(self.late, &before.late),
        }
    }
}

/// A daemon, and the clients that talk to it row by row.
struct Table {
    daemon: Daemon,
    client: reqwest::Client,
    grpc: grpc::Client,
    /// Good requests sent.
    good: u64,
}

impl Table {
    async fn start() -> Self {
        Self::of(Daemon::start(CONFIG).await).await
    }

    /// With settings in the section `otlp`.
    async fn start_otlp(otlp: &str, extra: &str) -> Self {
        let extra = format!("{CONFIG}\n{extra}");
        Self::of(Daemon::start_otlp("127.0.0.1:0", otlp, &extra, &[]).await).await
    }

    async fn of(daemon: Daemon) -> Self {
        Self {
            client: reqwest::Client::new(),
            grpc: grpc::Client::connect(&daemon.grpc).await,
            daemon,
            good: 0,
        }
    }

    async fn counted(&self) -> Counted {
        Counted::by(&self.daemon).await
    }

    /// Sends `body` by HTTP: status, content type and body of the answer.
    async fn post(&self, body: &Body) -> (u16, reqwest::header::HeaderMap, Vec<u8>) {
        let url = format!("http://{}/v1/{}", self.daemon.http, body.signal);
        let mut request = self.client.post(url).body(body.bytes.clone());
        if let Some(media_type) = body.media_type {
            request = request.header("content-type", media_type);
        }
        if let Some(encoding) = body.encoding {
            request = request.header("content-encoding", encoding);
        }
        let answer = request.send().await.expect("an answer");
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let bytes = answer.bytes().await.expect("all of the answer");
        (status, headers, bytes.to_vec())
    }

    /// Sends `body` by HTTP and, if it claims to be protobuf, by gRPC; each answer must be `expected`,
    /// and what is counted over each must be `counts`.
    async fn expect(&mut self, row: &str, body: Body, expected: Answer, counts: Counted) {
        let before = self.counted().await;
        let (status, headers, answer) = self.post(&body).await;
        check_http(row, &body, expected, status, &headers, &answer);
        let after = self.counted().await.since(&before);
        assert_eq!(after, counts, "row {row}: what is counted over HTTP");
        self.good_request(row).await;
        if body.media_type == Some(PROTOBUF) {
            self.expect_grpc(row, body, expected, counts).await;
        }
    }

    async fn expect_grpc(&mut self, row: &str, body: Body, expected: Answer, counts: Counted) {
        let before = self.counted().await;
        let mut call = match body.signal {
            "traces" => Call::traces(body.bytes),
            _ => Call::metrics(body.bytes),
        };
        if let Some(encoding) = body.encoding {
            call = call.encoded(encoding);
        }
        let answer = self.grpc.call(call).await;
        let fits = match expected {
            Answer::Accepted => answer.code == Code::Ok,
            Answer::Malformed => matches!(answer.code, Code::InvalidArgument | Code::Internal),
            Answer::TooLarge => {
                answer.code == Code::ResourceExhausted && answer.retry_delay().is_none()
            }
            Answer::Unsupported => answer.code == Code::Unimplemented,
        };
        assert!(fits, "row {row}: {expected:?} by gRPC gave {answer:?}");
        if expected == Answer::Accepted {
            assert_eq!(answer.message, b"", "row {row}: full success says nothing");
        }
        let after = self.counted().await.since(&before);
        // What came by HTTP already is a repetition now, or late if it was not the last of its series.
        let again = Counted {
            applied: after.applied + after.late.values().sum::<u64>(),
            late: BTreeMap::new(),
            ..after.clone()
        };
        assert!(
            after == counts || again == counts,
            "row {row}: gRPC counted {after:?}, expected {counts:?}"
        );
        self.good_request(row).await;
    }

    /// A good request is taken whole, by HTTP, and counted once.
    async fn good_request(&mut self, row: &str) {
        self.good += 1;
        let before = self.counted().await;
        let body = Metrics::of("witness")
            .gauge("good", &[(otlp::now_nanos(), self.good as f64)])
            .encode();
        let (status, _, answer) = self.post(&Body::protobuf(body)).await;
        assert_eq!(
            (status, answer.as_slice()),
            (200, &b""[..]),
            "after row {row}"
        );
        let after = self.counted().await.since(&before);
        assert_eq!(after, Counted::applied(1), "after row {row}");
    }

    /// The last good request is seen in its series.
    async fn appears(&mut self, row: &str) {
        self.good_request(row).await;
        let (daemon, good) = (&self.daemon, self.good as f64);
        eventually(&format!("the good request after row {row}"), || async {
            let found = daemon.series("{service=\"witness\"}").await;
            let last = found.first()?["last"]["value"].as_f64();
            (last == Some(good)).then_some(())
        })
        .await;
    }

    /// The end of a table: the last good request is seen, nothing panicked, the log is calm.
    async fn finish(mut self, rows: &str) {
        self.appears(rows).await;
        is_sound(&self.daemon).await;
    }
}

/// Nothing panicked, every line of the log is one JSON object, none is an error, and there is at most one
/// line per reason and ten seconds.
async fn is_sound(daemon: &Daemon) {
    assert_eq!(daemon.metric("tidewatch_panics_total").await, Some(0.0));
    assert_eq!(daemon.text("/healthz").await, "ok\n");
    log_is_calm(&daemon.log());
}

fn log_is_calm(log: &str) {
    let mut last = BTreeMap::new();
    for line in log.lines() {
        let entry: Value = serde_json::from_str(line)
            .unwrap_or_else(|error| panic!("{error} in the log line {line}"));
        assert_ne!(entry["level"], "ERROR", "{line}");
        let Some(reason) = entry["reason"].as_str() else {
            continue;
        };
        let time: jiff::Timestamp = entry["timestamp"]
            .as_str()
            .and_then(|text| text.parse().ok())
            .expect("a time");
        if let Some(before) = last.insert(reason.to_owned(), time) {
            let apart = time.duration_since(before).as_secs_f64();
            assert!(
                apart > 9.9,
                "two lines about {reason} within {apart} s: {line}"
            );
        }
    }
}

/// Checks an HTTP answer: status, the request's content type, and `google.rpc.Status` in the body.
#[track_caller]
fn check_http(
    row: &str,
    body: &Body,
    expected: Answer,
    status: u16,
    headers: &reqwest::header::HeaderMap,
    answer: &[u8],
) {
    let (promised, code) = match expected {
        Answer::Accepted => (200, None),
        Answer::Malformed => (400, Some(Code::InvalidArgument)),
        Answer::TooLarge => (413, Some(Code::ResourceExhausted)),
        Answer::Unsupported => (415, None),
    };
    let shown = String::from_utf8_lossy(answer);
    assert_eq!(status, promised, "row {row}: {shown}");
    let media_type = headers.get("content-type").map(|value| value.as_bytes());
    let wanted = body.media_type.unwrap_or("text/plain; charset=utf-8");
    assert_eq!(media_type, Some(wanted.as_bytes()), "row {row}");
    assert!(headers.get("retry-after").is_none(), "row {row}");
    assert!(answer.len() < 4096, "row {row}: {shown}");
    match (expected, body.media_type) {
        (Answer::Accepted, Some(JSON)) => assert_eq!(shown, "{}", "row {row}"),
        (Answer::Accepted, _) => assert_eq!(shown, "", "row {row}"),
        (_, Some(JSON)) => {
            let status: Value = serde_json::from_slice(answer).expect("a JSON status");
            assert!(status["message"].as_str().is_some_and(|m| !m.is_empty()));
            if let Some(code) = code {
                assert_eq!(status["code"], json!(code as i32), "row {row}: {shown}");
            }
        }
        (_, Some(PROTOBUF)) => {
            let status = grpc::Status::decode(answer).expect("a protobuf status");
            assert!(!status.message.is_empty(), "row {row}");
            if let Some(code) = code {
                assert_eq!(status.code, code as i32, "row {row}");
            }
        }
        _ => assert!(!answer.is_empty(), "row {row}"),
    }
}

/// The count and message of a partial success in JSON.
fn partial_json(answer: &Value) -> Option<(u64, String)> {
    let partial = answer.get("partialSuccess")?;
    let count = partial
        .get("rejectedDataPoints")
        .or_else(|| partial.get("rejectedSpans"))?;
    // An int64 is a string in OTLP's JSON.
    let count = count.as_str()?.parse().ok()?;
    Some((count, partial["errorMessage"].as_str()?.to_owned()))
}

/// A number of `/proc/PID/status`, in bytes.
fn memory(daemon: &Daemon, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("lives");
    let kibibytes: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .expect(name);
    kibibytes * 1024
}

/// Watches how far the daemon's memory grows.
struct Growth {
    before: u64,
}

impl Growth {
    fn begin(daemon: &Daemon) -> Self {
        let before = memory(daemon, "VmRSS");
        // The high-water mark begins anew.
        std::fs::write(format!("/proc/{}/clear_refs", daemon.pid()), "5").expect("our own child");
        Self { before }
    }

    /// At no time since was there more than `limit` bytes more than at the beginning.
    #[track_caller]
    fn stays_below(&self, daemon: &Daemon, limit: u64, what: &str) {
        let growth = memory(daemon, "VmHWM").saturating_sub(self.before);
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        assert!(
            growth <= limit,
            "{what}: memory grew by {:.1} MiB, allowed are {:.1}",
            mib(growth),
            mib(limit)
        );
    }
}
