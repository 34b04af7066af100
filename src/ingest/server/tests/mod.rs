//! The servers on real ports, with a sink that records.

mod abuse;
mod grpc;
mod http;
mod lifecycle;
mod tls;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1 as pb;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::ingest::{Admission, Refused, Server, Settings, Sink};
use crate::model::{Batch, BoxFuture, Rejections, Timestamp};
use crate::telemetry::Telemetry;

/// What the recording sink does with the next batches.
#[derive(Clone)]
enum Mood {
    Apply,
    Refuse(Refused),
    Panic,
}

/// Records batches; waits for its gate first.
struct Recorder {
    batches: Mutex<Vec<Batch>>,
    mood: Mutex<Mood>,
    gate: Semaphore,
    waiting: AtomicUsize,
}

impl Sink for Recorder {
    fn apply(&self, batch: Batch) -> BoxFuture<'_, Result<Rejections, Refused>> {
        Box::pin(async move {
            self.waiting.fetch_add(1, Ordering::SeqCst);
            let _open = self.gate.acquire().await;
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            let mood = self.mood.lock().unwrap().clone();
            match mood {
                Mood::Apply => {
                    self.batches.lock().unwrap().push(batch);
                    Ok(Rejections::default())
                }
                Mood::Refuse(refused) => Err(refused),
                Mood::Panic => panic!("a bug in the sink"),
            }
        })
    }
}

impl Recorder {
    fn applied(&self) -> usize {
        self.batches
            .lock()
            .unwrap()
            .iter()
            .map(|b| b.points.len() + b.spans.len())
            .sum()
    }

    fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn close_gate(&self) {
        self.gate.try_acquire_many(GATE).unwrap().forget();
    }

    fn open_gate(&self) {
        self.gate.add_permits(GATE as usize);
    }
}

const GATE: u32 = 1000;

/// A server that runs.
struct Running {
    grpc: SocketAddr,
    http: SocketAddr,
    sink: Arc<Recorder>,
    admission: Arc<Admission>,
    telemetry: Telemetry,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// 2023-11-14T22:13:20Z.
const NOW: i64 = 1_700_000_000;

/// Settings for tests: any free ports, small limits, short deadlines.
fn settings() -> Settings {
    Settings {
        grpc: Some("127.0.0.1:0".parse().unwrap()),
        http: Some("127.0.0.1:0".parse().unwrap()),
        max_request_bytes: LIMIT,
        ..Settings::default()
    }
}

const LIMIT: usize = 1 << 20;

async fn start(settings: Settings) -> Running {
    // Another test may have been first.
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .ok();
    let telemetry = Telemetry::new();
    let admission = Arc::new(Admission::new(settings.inflight_bytes, &telemetry));
    let sink = Arc::new(Recorder {
        batches: Mutex::default(),
        mood: Mutex::new(Mood::Apply),
        gate: Semaphore::new(GATE as usize),
        waiting: AtomicUsize::new(0),
    });
    let stop = CancellationToken::new();
    let server = Server::bind(settings).await.unwrap();
    let (grpc, http) = (server.grpc_addr().unwrap(), server.http_addr().unwrap());
    let task = tokio::spawn(server.serve(
        sink.clone(),
        Arc::clone(&admission),
        telemetry.clone(),
        Clock::starting_at(Timestamp::from_secs(NOW)),
        stop.clone(),
    ));
    Running {
        grpc,
        http,
        sink,
        admission,
        telemetry,
        stop,
        task,
    }
}

/// A request with `points` points of one gauge.
fn request(points: usize) -> ExportMetricsServiceRequest {
    let point = |index| pb::NumberDataPoint {
        time_unix_nano: NOW as u64 * 1_000_000_000 + index,
        value: Some(pb::number_data_point::Value::AsInt(1)),
        ..Default::default()
    };
    let metric = pb::Metric {
        name: "m".into(),
        data: Some(pb::metric::Data::Gauge(pb::Gauge {
            data_points: (0..points as u64).map(point).collect(),
        })),
        ..Default::default()
    };
    ExportMetricsServiceRequest {
        resource_metrics: vec![pb::ResourceMetrics {
            scope_metrics: vec![pb::ScopeMetrics {
                metrics: vec![metric],
                ..Default::default()
            }],
            ..Default::default()
        }],
    }
}

fn protobuf(points: usize) -> Vec<u8> {
    request(points).encode_to_vec()
}

/// A request of the same meaning in JSON, with one point.
const JSON: &str = r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"m","gauge":
    {"dataPoints":[{"timeUnixNano":"1700000000000000000","asInt":"1"}]}}]}]}]}"#;

/// An answer of HTTP.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: reqwest::header::HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

impl Running {
    async fn post(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> Answer {
        self.send(reqwest::Method::POST, path, headers, body).await
    }

    async fn send(
        &self,
        method: reqwest::Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> Answer {
        let url = format!("http://{}{path}", self.http);
        let mut request = reqwest::Client::new().request(method, url).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.unwrap();
        Answer {
            status: answer.status().as_u16(),
            headers: answer.headers().clone(),
            body: answer.bytes().await.unwrap().to_vec(),
        }
    }

    async fn post_protobuf(&self, body: Vec<u8>) -> Answer {
        self.post("/v1/metrics", &[PROTOBUF], body).await
    }

    /// The server still takes a good request. Every bad one is followed by this.
    async fn still_good(&self) {
        let before = self.sink.applied();
        let answer = self.post_protobuf(protobuf(1)).await;
        assert_eq!((answer.status, answer.body.len()), (200, 0));
        assert_eq!(self.sink.applied(), before + 1);
        assert_eq!(self.telemetry.panics.get(), 0);
    }

    /// Stops it and waits for its end.
    async fn end(self) {
        self.stop.cancel();
        within(self.task).await.unwrap();
        assert_eq!(self.telemetry.connections.get(), 0);
        assert_eq!(self.admission.inflight_bytes(), 0);
    }

    fn requests(&self, transport: &str, code: &str) -> u64 {
        self.telemetry
            .requests
            .with_label_values(&[transport, code])
            .get()
    }
}

const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");
const AS_JSON: (&str, &str) = ("content-type", "application/json");
const GZIP: (&str, &str) = ("content-encoding", "gzip");
const ZSTD: (&str, &str) = ("content-encoding", "zstd");

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

/// Fails a test that would hang.
async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .expect("in time")
}

/// Waits for a condition of the server itself.
async fn eventually(condition: impl Fn() -> bool) {
    within(async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Writes `bytes` on a fresh connection and reads until the server closes it. A server that closes
/// early may reset the connection; what came before counts.
async fn raw(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.ok();
    let mut answer = Vec::new();
    within(stream.read_to_end(&mut answer)).await.ok();
    answer
}
