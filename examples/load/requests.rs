//! Realistic requests that are encoded once and used many times: by the load generator, and by the
//! benchmarks in `benches/`.
//!
//! What changes from use to use is written into the bytes: times, trace ids, and values that wander as
//! those of real services do, so that nothing is measured on constants. The same turn always gives the
//! same bytes.

use anyhow::{Result, ensure};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
    ResourceMetrics, ScopeMetrics, Sum, metric, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

/// Stands where the present time goes.
const TIME: u64 = 0x1357_9bdf_0246_8ace;
/// Stands where a growing total goes.
const TOTAL: i64 = 0x2468_ace0_1357_9bdf;
/// Stands where the value of a gauge goes.
const LEVEL: u64 = 0x4f0e_1d2c_3b4a_5968;
/// Stand where counts of two neighbouring buckets go, whose sum stays.
const BUCKETS: [u64; 2] = [0x1122_3344_5566_7701, 0x1122_3344_5566_7702];
/// The first half of a trace id, which is another one each time.
const TRACE: [u8; 8] = *b"\xf0traceid";
/// Services whose spans are in one request, each called by the one before.
const CHAIN: usize = 4;

/// Which points are in requests of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mix {
    /// Two of four are sums, one is a gauge and one a histogram.
    All,
    /// Every other one is a sum, every other a gauge: one signal a series.
    Numbers,
}

/// What requests look like.
pub(crate) struct Shape {
    /// Distinct series or operations over all requests.
    pub(crate) series: usize,
    /// Points or spans of one request.
    pub(crate) items: usize,
    /// Most memory for all requests together.
    pub(crate) max_bytes: usize,
    /// Kinds of points.
    pub(crate) mix: Mix,
}

/// One encoded request, and what is written into it each time.
struct Template {
    bytes: Vec<u8>,
    items: usize,
    times: Vec<usize>,
    totals: Vec<usize>,
    levels: Vec<usize>,
    /// The counts of two buckets each.
    buckets: [Vec<usize>; 2],
    traces: Vec<usize>,
    /// Start of a span (its end is nine bytes behind) and how long it took, in nanoseconds.
    spans: Vec<(usize, u64)>,
}

/// All requests.
pub(crate) struct Requests {
    templates: Vec<Template>,
    traces: bool,
}

impl Requests {
    /// Requests with points of one service instance each.
    pub(crate) fn metrics(shape: &Shape) -> Result<Self> {
        let count = shape.series.div_ceil(shape.items);
        let mut requests = Self {
            templates: Vec::new(),
            traces: false,
        };
        for number in 0..count {
            let items = shape.items.min(shape.series - number * shape.items);
            let request = ExportMetricsServiceRequest {
                resource_metrics: vec![ResourceMetrics {
                    resource: Some(resource(number / 5, number)),
                    scope_metrics: vec![ScopeMetrics {
                        scope: Some(scope()),
                        metrics: metrics(items, shape.mix),
                        ..ScopeMetrics::default()
                    }],
                    ..ResourceMetrics::default()
                }],
            };
            requests.add(Template::new(request.encode_to_vec(), items), shape)?;
        }
        Ok(requests)
    }

    /// Requests with traces through [`CHAIN`] services, as a Collector batches them.
    pub(crate) fn traces(shape: &Shape) -> Result<Self> {
        let per_service = (shape.items / CHAIN).max(1);
        let count = shape.series.div_ceil(CHAIN * OPERATIONS).max(1);
        let mut requests = Self {
            templates: Vec::new(),
            traces: true,
        };
        for number in 0..count {
            let mut durations = Vec::new();
            let services = (0..CHAIN).map(|place| {
                let spans = (0..per_service).map(|trace| {
                    durations.push(span_nanos(trace, place));
                    span(trace, place)
                });
                ResourceSpans {
                    resource: Some(resource(number * CHAIN + place, number)),
                    scope_spans: vec![ScopeSpans {
                        scope: Some(scope()),
                        spans: spans.collect(),
                        ..ScopeSpans::default()
                    }],
                    ..ResourceSpans::default()
                }
            });
            let request = ExportTraceServiceRequest {
                resource_spans: services.collect(),
            };
            let mut template = Template::new(request.encode_to_vec(), per_service * CHAIN);
            template.spans = template.times.drain(..).zip(durations).collect();
            requests.add(template, shape)?;
        }
        Ok(requests)
    }

    fn add(&mut self, template: Template, shape: &Shape) -> Result<()> {
        self.templates.push(template);
        let bytes: usize = self.templates.iter().map(|t| t.bytes.len()).sum();
        ensure!(
            bytes <= shape.max_bytes,
            "so many series need more than {} MiB of requests; raise --memory",
            shape.max_bytes >> 20
        );
        Ok(())
    }

    /// Whether they carry spans.
    pub(crate) fn are_traces(&self) -> bool {
        self.traces
    }

    /// How many there are: a round.
    pub(crate) fn count(&self) -> u64 {
        self.templates.len() as u64
    }

    /// Mean size of an item with its share of what is around it.
    pub(crate) fn bytes_per_item(&self) -> f64 {
        let bytes: usize = self.templates.iter().map(|t| t.bytes.len()).sum();
        let items: usize = self.templates.iter().map(|t| t.items).sum();
        bytes as f64 / items as f64
    }

    /// The `turn`th request, at `nanos` since 1970, and how many items it has.
    pub(crate) fn make(&self, turn: u64, nanos: u64) -> (Vec<u8>, usize) {
        let at = turn as usize % self.templates.len();
        let template = &self.templates[at];
        let mut bytes = template.bytes.clone();
        let mut write =
            |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        for at in &template.times {
            write(*at, &nanos.to_le_bytes());
        }
        let round = turn / self.templates.len() as u64;
        for (number, at) in template.totals.iter().enumerate() {
            // Never less than before: a step is at least 20 - 12.
            let total = round * (20 + number as u64 % 7) + noise(turn, number) % 13;
            write(*at, &total.to_le_bytes());
        }
        for (number, at) in template.levels.iter().enumerate() {
            let level = 17.0 + number as f64 / 8.0 + bell(turn, number);
            write(*at, &level.to_le_bytes());
        }
        let [fuller, emptier] = &template.buckets;
        for (number, (one, other)) in fuller.iter().zip(emptier).enumerate() {
            let moved = noise(turn, number) % 12;
            write(*one, &(9 + moved).to_le_bytes());
            write(*other, &(28 - moved).to_le_bytes());
        }
        for at in &template.traces {
            write(*at, &(turn + 1).to_be_bytes());
        }
        for (number, (at, length)) in template.spans.iter().enumerate() {
            let start = nanos - length - number as u64;
            write(*at, &start.to_le_bytes());
            write(at + 9, &(start + length).to_le_bytes());
        }
        (bytes, template.items)
    }
}

impl Template {
    fn new(bytes: Vec<u8>, items: usize) -> Self {
        Self {
            times: all(&bytes, &TIME.to_le_bytes()),
            totals: all(&bytes, &TOTAL.to_le_bytes()),
            levels: all(&bytes, &LEVEL.to_le_bytes()),
            buckets: BUCKETS.map(|mark| all(&bytes, &mark.to_le_bytes())),
            traces: all(&bytes, &TRACE),
            spans: Vec::new(),
            bytes,
            items,
        }
    }
}

fn all(bytes: &[u8], mark: &[u8]) -> Vec<usize> {
    memchr::memmem::find_iter(bytes, mark).collect()
}

/// Some number for a place in a turn (the mixing of SplitMix64, Steele et al. 2014).
fn noise(turn: u64, place: usize) -> u64 {
    let mut mixed = turn
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add((place as u64).wrapping_mul(0xd1b5_4a32_d192_ed03));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// About a standard normal variable: four uniform ones added up.
pub(crate) fn bell(turn: u64, place: usize) -> f64 {
    let noise = noise(turn, place);
    let sum: u64 = (0..4).map(|part| (noise >> (16 * part)) & 0xffff).sum();
    // Each has the mean 2^15 and a standard deviation of 2^16 / sqrt(12).
    (sum as f64 - 131_070.0) / (65_536.0 / 3.0_f64.sqrt())
}

fn text(key: &str, value: impl Into<String>) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(AnyValue {
            value: Some(Value::StringValue(value.into())),
        }),
        ..KeyValue::default()
    }
}

fn number(key: &str, value: i64) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(AnyValue {
            value: Some(Value::IntValue(value)),
        }),
        ..KeyValue::default()
    }
}

fn resource(service: usize, instance: usize) -> Resource {
    Resource {
        attributes: vec![
            text("service.name", format!("service-{service:04}")),
            text("service.namespace", "shop"),
            text("service.version", "1.42.0"),
            text(
                "service.instance.id",
                format!("6f1d3c80-4b1e-4c7e-9a55-{instance:012}"),
            ),
            text("deployment.environment.name", "production"),
            text("host.name", format!("node-{:03}", instance % 100)),
            text(
                "k8s.pod.name",
                format!("service-{service:04}-7d9f8b6c5d-{instance:05}"),
            ),
            text("telemetry.sdk.name", "opentelemetry"),
            text("telemetry.sdk.language", "rust"),
            text("telemetry.sdk.version", "0.33.0"),
        ],
        ..Resource::default()
    }
}

fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "opentelemetry-instrumentation-http".into(),
        version: "0.33.0".into(),
        ..InstrumentationScope::default()
    }
}

/// Attributes as the semantic conventions for HTTP servers have them; `n` makes them distinct.
fn http_attributes(n: usize) -> Vec<KeyValue> {
    let methods = ["GET", "POST", "PUT", "DELETE"];
    let codes = [200, 201, 204, 400, 404, 500];
    vec![
        text("http.request.method", methods[n % methods.len()]),
        text(
            "http.route",
            format!(
                "/api/v1/customers/{{customer}}/orders/{}",
                n / methods.len()
            ),
        ),
        number("http.response.status_code", codes[n % codes.len()]),
        text("network.protocol.version", "1.1"),
        text("server.address", "orders.shop.svc.cluster.local"),
        number("server.port", 8443),
        text("url.scheme", "https"),
    ]
}

fn metrics(items: usize, mix: Mix) -> Vec<Metric> {
    // Kinds 0 and 1 are sums, 2 gauges and 3 histograms.
    let kind_of = move |n: usize| match mix {
        Mix::All => n % 4,
        Mix::Numbers => n % 2 * 2,
    };
    let of = |kind: usize| (0..items).filter(move |n| kind_of(*n) == kind);
    let point = |n: usize, value| NumberDataPoint {
        attributes: http_attributes(n),
        start_time_unix_nano: 1_700_000_000_000_000_000,
        time_unix_nano: TIME,
        value: Some(value),
        ..NumberDataPoint::default()
    };
    let sum = |kind: usize| {
        metric::Data::Sum(Sum {
            data_points: of(kind)
                .map(|n| point(n, number_data_point::Value::AsInt(TOTAL)))
                .collect(),
            aggregation_temporality: AggregationTemporality::Cumulative.into(),
            is_monotonic: true,
        })
    };
    let gauge = metric::Data::Gauge(Gauge {
        data_points: of(2)
            .map(|n| point(n, number_data_point::Value::AsDouble(f64::from_bits(LEVEL))))
            .collect(),
    });
    let bounds = [
        0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    ];
    let [fuller, emptier] = BUCKETS;
    let counts = [0, 1, 4, fuller, 16, emptier, 14, 7, 3, 2, 1, 0, 0, 0, 0];
    // Of the marks, 9 and 28 are what is written there at least and at most.
    let count = 1 + 4 + 9 + 16 + 28 + 14 + 7 + 3 + 2 + 1;
    let histogram = metric::Data::Histogram(Histogram {
        data_points: of(3)
            .map(|n| HistogramDataPoint {
                attributes: http_attributes(n),
                start_time_unix_nano: 0,
                time_unix_nano: TIME,
                count,
                sum: Some(9.7),
                bucket_counts: counts.to_vec(),
                explicit_bounds: bounds.to_vec(),
                min: Some(0.007),
                max: Some(2.1),
                ..HistogramDataPoint::default()
            })
            .collect(),
        aggregation_temporality: AggregationTemporality::Delta.into(),
    });
    [
        ("http.server.requests", "{request}", sum(0)),
        ("http.server.response.bytes", "By", sum(1)),
        ("http.server.active_requests", "{request}", gauge),
        ("http.server.request.duration", "s", histogram),
    ]
    .into_iter()
    .filter(|(_, _, data)| !is_empty(data))
    .map(|(name, unit, data)| Metric {
        name: name.into(),
        unit: unit.into(),
        data: Some(data),
        ..Metric::default()
    })
    .collect()
}

fn is_empty(data: &metric::Data) -> bool {
    match data {
        metric::Data::Gauge(gauge) => gauge.data_points.is_empty(),
        metric::Data::Sum(sum) => sum.data_points.is_empty(),
        metric::Data::Histogram(histogram) => histogram.data_points.is_empty(),
        metric::Data::ExponentialHistogram(_) | metric::Data::Summary(_) => false,
    }
}

/// Operations of each service.
const OPERATIONS: usize = 8;

fn span_nanos(trace: usize, place: usize) -> u64 {
    let spread = (trace * 7919 + place * 104_729) % 1000;
    (5_000_000 + spread as u64 * 20_000) * (CHAIN - place) as u64
}

/// The span of one trace in the service at `place` of the chain.
fn span(trace: usize, place: usize) -> Span {
    let id = |place: usize| ((trace * CHAIN + place + 1) as u64).to_be_bytes().to_vec();
    let mut trace_id = TRACE.to_vec();
    trace_id.extend((trace as u64 + 1).to_be_bytes());
    let mut attributes = http_attributes(trace % OPERATIONS);
    attributes.push(text(
        "user_agent.original",
        "Mozilla/5.0 (X11; Linux x86_64)",
    ));
    Span {
        trace_id,
        span_id: id(place),
        parent_span_id: if place == 0 {
            Vec::new()
        } else {
            id(place - 1)
        },
        name: format!("GET /api/v1/operation/{}", trace % OPERATIONS),
        kind: SpanKind::Server.into(),
        start_time_unix_nano: TIME,
        end_time_unix_nano: 1,
        attributes,
        ..Span::default()
    }
}
