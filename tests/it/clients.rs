//! The SDKs that services really use: Python over gRPC and HTTP, Node over HTTP with JSON and
//! protobuf, Rust over gRPC and HTTP. Each sends one of everything; the daemon must show all of it.

use std::process::Command;

use serde_json::Value;

use crate::harness::{Daemon, eventually, root, stdout};

/// A short tick, so that what was sent is seen at once.
const CONFIG: &str = "window: {tick: 200ms}";

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}; `tests/run` installs what is needed"));
    stdout(&output);
}

fn python(arguments: &[&str]) {
    let folder = root().join("tests/clients/python");
    let script = folder.join("emit.py");
    let mut all = vec![script.to_str().expect("UTF-8")];
    all.extend(arguments);
    run(
        folder.join(".venv/bin/python").to_str().expect("UTF-8"),
        &all,
    );
}

fn node(arguments: &[&str]) {
    let script = root().join("tests/clients/node/emit.js");
    let mut all = vec![script.to_str().expect("UTF-8")];
    all.extend(arguments);
    run("node", &all);
}

/// The last value of the one signal that `selector` picks, once it is there.
async fn last(daemon: &Daemon, selector: &str) -> f64 {
    eventually(selector, || async {
        let found = daemon.series(selector).await;
        assert!(
            found.len() <= 1,
            "{selector} picks {} signals: {found:?}",
            found.len()
        );
        found
            .first()
            .and_then(|signal| signal["last"]["value"].as_f64())
    })
    .await
}

#[track_caller]
fn within(what: &str, value: f64, low: f64, high: f64) {
    assert!(
        (low..=high).contains(&value),
        "{what} is {value}, not within {low} to {high}"
    );
}

/// Everything that `emit` sends, as the daemon shows it.
async fn check(daemon: &Daemon, service: &str) {
    let pick = |rest: &str| format!("{{service=\"{service}\",{rest}}}");
    let gauge = pick("metric=\"room.temperature\",signal=\"value\",room=\"Küche\"");
    within("the gauge", last(daemon, &gauge).await, 21.0, 22.0);
    let queue = pick("metric=\"queue.waiting\",signal=\"value\"");
    within("the up-down counter", last(daemon, &queue).await, 1.0, 2.0);
    let orders = pick("metric=\"orders\",signal=\"rate\",kind=\"web\"");
    within("the counter's rate", last(daemon, &orders).await, 0.0, 1e6);
    // Of 10, 20, 30 and 200 ms; the SDK's buckets are wide.
    let duration = "metric=\"http.server.request.duration\",http.route=\"/pay\"";
    let p50 = last(daemon, &pick(&format!("{duration},signal=\"p50\""))).await;
    within("the median", p50, 0.005, 5.0);
    let mean = last(daemon, &pick(&format!("{duration},signal=\"mean\""))).await;
    within("the mean", mean, 0.0649, 0.0651);
    // Spans: one of the service without error, one of its backend with.
    let spans = "metric=\"span.duration\",span.name=\"GET /\",span.kind=\"server\"";
    let ok = last(daemon, &pick(&format!("{spans},signal=\"error_ratio\""))).await;
    within("the error ratio of the service", ok, 0.0, 0.0);
    let backend = format!("{{service=\"{service}-backend\",metric=\"span.duration\"");
    let failed = last(daemon, &format!("{backend},signal=\"error_ratio\"}}")).await;
    within("the error ratio of the backend", failed, 1.0, 1.0);
    let p99 = last(daemon, &format!("{backend},signal=\"p99\"}}")).await;
    within("the backend's p99", p99, 0.0, 1.0);
    let edge = eventually("the edge", || async {
        let topology = daemon.get("/api/v1/topology").await;
        let edges = topology["data"].as_array().cloned().unwrap_or_default();
        edges
            .into_iter()
            .find(|edge: &Value| edge["caller"] == service)
    })
    .await;
    assert_eq!(edge["callee"], format!("{service}-backend"), "{edge}");
    let answer = daemon.get("/api/v1/services").await;
    let names: Vec<_> = answer["data"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|service| service["service"].as_str())
        .collect();
    assert!(names.contains(&service), "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn python_sdk_over_grpc() {
    let daemon = Daemon::start(CONFIG).await;
    python(&["grpc", &format!("http://{}", daemon.grpc), "py-grpc"]);
    check(&daemon, "py-grpc").await;
    let size = last(
        &daemon,
        "{service=\"py-grpc\",metric=\"rpc.size\",signal=\"p99\"}",
    )
    .await;
    within("the exponential histogram's p99", size, 1900.0, 2100.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn python_sdk_over_http() {
    let daemon = Daemon::start(CONFIG).await;
    python(&["http", &format!("http://{}", daemon.http), "py-http"]);
    check(&daemon, "py-http").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_sdk_over_http_with_json() {
    let daemon = Daemon::start(CONFIG).await;
    node(&["json", &format!("http://{}", daemon.http), "node-json"]);
    check(&daemon, "node-json").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_sdk_over_http_with_protobuf() {
    let daemon = Daemon::start(CONFIG).await;
    node(&["proto", &format!("http://{}", daemon.http), "node-proto"]);
    check(&daemon, "node-proto").await;
}

/// What `emit` does in the other languages, in Rust.
fn rust_sdk(service: &str, grpc: Option<&str>, http: Option<&str>) {
    use opentelemetry::KeyValue;
    use opentelemetry::metrics::MeterProvider as _;
    use opentelemetry::trace::{
        Span as _, SpanKind, Status, TraceContextExt as _, Tracer as _, TracerProvider as _,
    };
    use opentelemetry_otlp::{MetricExporter, Protocol, SpanExporter, WithExportConfig as _};
    use opentelemetry_sdk::Resource;
    use opentelemetry_sdk::metrics::SdkMeterProvider;
    use opentelemetry_sdk::trace::SdkTracerProvider;

    let resource = |name: &str| {
        Resource::builder()
            .with_service_name(name.to_owned())
            .build()
    };
    let tracing = |name: &str| {
        let exporter = match (grpc, http) {
            (Some(grpc), _) => SpanExporter::builder()
                .with_tonic()
                .with_endpoint(grpc)
                .build(),
            (_, http) => SpanExporter::builder()
                .with_http()
                .with_protocol(Protocol::HttpBinary)
                .with_endpoint(format!("{}/v1/traces", http.expect("one of the two")))
                .build(),
        };
        SdkTracerProvider::builder()
            .with_batch_exporter(exporter.expect("span exporter"))
            .with_resource(resource(name))
            .build()
    };
    let exporter = match (grpc, http) {
        (Some(grpc), _) => MetricExporter::builder()
            .with_tonic()
            .with_endpoint(grpc)
            .build(),
        (_, http) => MetricExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{}/v1/metrics", http.expect("one of the two")))
            .build(),
    };
    let meters = SdkMeterProvider::builder()
        .with_periodic_exporter(exporter.expect("metric exporter"))
        .with_resource(resource(service))
        .build();
    let meter = meters.meter("test");
    let temperature = meter.f64_gauge("room.temperature").with_unit("Cel").build();
    let orders = meter.u64_counter("orders").with_unit("{order}").build();
    let waiting = meter
        .i64_up_down_counter("queue.waiting")
        .with_unit("{job}")
        .build();
    let duration = meter
        .f64_histogram("http.server.request.duration")
        .with_unit("s")
        .build();

    let (front, back) = (tracing(service), tracing(&format!("{service}-backend")));
    let tracer = front.tracer("test");
    let mut server = tracer
        .span_builder("GET /")
        .with_kind(SpanKind::Server)
        .start(&tracer);
    let parent =
        opentelemetry::Context::new().with_remote_span_context(server.span_context().clone());
    let tracer = back.tracer("test");
    let mut call = tracer
        .span_builder("load")
        .with_kind(SpanKind::Server)
        .start_with_context(&tracer, &parent);
    call.set_status(Status::error("no"));
    call.end();
    server.end();
    for round in [1.0, 2.0] {
        temperature.record(20.0 + round, &[KeyValue::new("room", "Küche")]);
        orders.add(5, &[KeyValue::new("kind", "web")]);
        waiting.add(1, &[]);
        for value in [0.01, 0.02, 0.03, 0.2] {
            duration.record(value, &[KeyValue::new("http.route", "/pay")]);
        }
        meters.force_flush().expect("metrics are taken");
    }
    for provider in [&front, &back] {
        provider.force_flush().expect("spans are taken");
        provider.shutdown().expect("it ends");
    }
    meters.shutdown().expect("it ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn rust_sdk_over_grpc() {
    let daemon = Daemon::start(CONFIG).await;
    rust_sdk("rust-grpc", Some(&format!("http://{}", daemon.grpc)), None);
    check(&daemon, "rust-grpc").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rust_sdk_over_http() {
    let daemon = Daemon::start(CONFIG).await;
    let endpoint = format!("http://{}", daemon.http);
    // The SDK's HTTP client blocks and must be built outside the runtime.
    tokio::task::spawn_blocking(move || rust_sdk("rust-http", None, Some(&endpoint)))
        .await
        .expect("the SDK runs");
    check(&daemon, "rust-http").await;
}
