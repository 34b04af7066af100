use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use opentelemetry::metrics::{Counter, Gauge, Histogram, MeterProvider as _};
use opentelemetry::trace::{
    Span as _, SpanContext, SpanKind, Status, TraceContextExt as _, Tracer as _,
    TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{MetricExporter, Protocol, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SdkTracer, SdkTracerProvider,
};

use crate::model::Timestamp;

/// Buckets for durations in seconds, as OpenTelemetry's semantic conventions advise: the SDK's own
/// bounds are made for milliseconds and would put every request into the first one.
const DURATION_BOUNDS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

/// Where the daemon listens, as base URLs.
#[derive(Debug, Clone)]
pub struct Endpoints {
    /// OTLP over gRPC, for example `http://127.0.0.1:4317`.
    pub otlp_grpc: String,
    /// OTLP over HTTP, for example `http://127.0.0.1:4318`.
    pub otlp_http: String,
    /// UI, API and modes, for example `http://127.0.0.1:9517`.
    pub api: String,
}

/// How a service sends its telemetry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Grpc,
    Http,
}

/// One service of the shop: an SDK of its own, as in a process of its own.
pub(super) struct Service {
    pub(super) name: &'static str,
    tracer: SdkTracer,
    traces: SdkTracerProvider,
    metrics: SdkMeterProvider,
    duration: Histogram<f64>,
    queue: Gauge<u64>,
    shed: Counter<u64>,
    /// Whether it was told another mode than normal; written by its follower, read at each request.
    pub(super) degraded: Arc<AtomicBool>,
}

/// What one unit of work did.
pub(super) struct Work<'a> {
    pub(super) operation: &'static str,
    pub(super) kind: SpanKind,
    pub(super) parent: Option<&'a SpanContext>,
    pub(super) start: Timestamp,
    pub(super) duration: Duration,
    pub(super) error: bool,
}

impl Service {
    pub(super) fn start(
        name: &'static str,
        transport: Transport,
        endpoints: &Endpoints,
        export_every: Duration,
    ) -> anyhow::Result<Self> {
        let resource = Resource::builder()
            .with_service_name(name)
            .with_attribute(KeyValue::new("service.namespace", "shop"))
            .with_attribute(KeyValue::new("service.version", "1.4.2"))
            .with_attribute(KeyValue::new("service.instance.id", format!("{name}-1")))
            .build();
        let (spans, points) = match transport {
            Transport::Grpc => (
                SpanExporter::builder()
                    .with_tonic()
                    .with_endpoint(&endpoints.otlp_grpc)
                    .build(),
                MetricExporter::builder()
                    .with_tonic()
                    .with_endpoint(&endpoints.otlp_grpc)
                    .build(),
            ),
            Transport::Http => (
                SpanExporter::builder()
                    .with_http()
                    .with_protocol(Protocol::HttpBinary)
                    .with_endpoint(format!("{}/v1/traces", endpoints.otlp_http))
                    .build(),
                MetricExporter::builder()
                    .with_http()
                    .with_protocol(Protocol::HttpBinary)
                    .with_endpoint(format!("{}/v1/metrics", endpoints.otlp_http))
                    .build(),
            ),
        };
        let batch = BatchConfigBuilder::default()
            .with_scheduled_delay(export_every)
            .with_max_queue_size(32_768)
            .build();
        let processor = BatchSpanProcessor::builder(spans.context("span exporter")?)
            .with_batch_config(batch)
            .build();
        let traces = SdkTracerProvider::builder()
            .with_span_processor(processor)
            .with_resource(resource.clone())
            .build();
        let reader = PeriodicReader::builder(points.context("metric exporter")?)
            .with_interval(export_every)
            .build();
        let metrics = SdkMeterProvider::builder()
            .with_reader(reader)
            .with_resource(resource)
            .build();
        let meter = metrics.meter("tidewatch.demo");
        Ok(Self {
            name,
            tracer: traces.tracer("tidewatch.demo"),
            duration: meter
                .f64_histogram("http.server.request.duration")
                .with_unit("s")
                .with_description("Duration of HTTP server requests.")
                .with_boundaries(DURATION_BOUNDS.to_vec())
                .build(),
            queue: meter
                .u64_gauge("shop.queue.depth")
                .with_unit("{request}")
                .with_description("Requests that wait for a worker.")
                .build(),
            shed: meter
                .u64_counter("shop.requests.shed")
                .with_unit("{request}")
                .with_description("Requests answered without work while degraded.")
                .build(),
            traces,
            metrics,
            degraded: Arc::default(),
        })
    }

    pub(super) fn is_degraded(&self) -> bool {
        // A late answer only sheds one request more or less.
        self.degraded.load(Ordering::Relaxed)
    }

    /// Records finished work as a span and, for a server, in the histogram.
    pub(super) fn record(&self, work: &Work<'_>) -> SpanContext {
        let parent = match work.parent {
            Some(parent) => Context::new().with_remote_span_context(parent.clone()),
            None => Context::new(),
        };
        let end = work.start.plus(work.duration);
        let mut span = self
            .tracer
            .span_builder(work.operation)
            .with_kind(work.kind.clone())
            .with_start_time(system_time(work.start))
            .start_with_context(&self.tracer, &parent);
        if work.error {
            span.set_status(Status::error("injected failure"));
        }
        let context = span.span_context().clone();
        span.end_with_timestamp(system_time(end));
        if work.kind == SpanKind::Server {
            let status = if work.error { 500 } else { 200 };
            self.duration.record(
                work.duration.as_secs_f64(),
                &[
                    KeyValue::new("http.route", work.operation),
                    KeyValue::new("http.response.status_code", status),
                ],
            );
        }
        context
    }

    pub(super) fn record_queue(&self, depth: u64) {
        self.queue.record(depth, &[]);
    }

    pub(super) fn record_shed(&self) {
        self.shed.add(1, &[]);
    }

    /// Sends what is left and ends the SDK. Blocks; errors are those of a daemon that has gone.
    pub(super) fn stop(&self) {
        let limit = Duration::from_secs(2);
        if let Err(error) = self.traces.shutdown_with_timeout(limit) {
            tracing::debug!(service = self.name, %error, "traces were not flushed");
        }
        if let Err(error) = self.metrics.shutdown_with_timeout(limit) {
            tracing::debug!(service = self.name, %error, "metrics were not flushed");
        }
    }
}

fn system_time(at: Timestamp) -> SystemTime {
    UNIX_EPOCH + at.since(Timestamp::EPOCH)
}
