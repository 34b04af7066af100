//! Tables: what a few points of each kind become.

use std::sync::Arc;
use std::time::Duration;

use super::exponential_histogram::tests::exponential;
use super::histogram::tests::histogram;
use super::*;
use crate::model::{
    Attributes, Instrument, MetricPoint, Operation, PointData, Resource, Scope, SeriesIdentity,
    SpanKind, SpanRecord, SummaryPoint, Temporality,
};

pub(super) const TICK: Duration = Duration::from_secs(10);
pub(super) const RATE: MetricKind = MetricKind::Sum {
    monotonic: true,
    temporality: Temporality::Cumulative,
};
pub(super) const DELTA_RATE: MetricKind = MetricKind::Sum {
    monotonic: true,
    temporality: Temporality::Delta,
};
const VALUE: MetricKind = MetricKind::Sum {
    monotonic: false,
    temporality: Temporality::Cumulative,
};
const DELTA_VALUE: MetricKind = MetricKind::Sum {
    monotonic: false,
    temporality: Temporality::Delta,
};

/// A point of a series of no importance, times in nanoseconds.
pub(super) fn point(
    kind: MetricKind,
    start: Option<i64>,
    time: i64,
    data: PointData,
) -> MetricPoint {
    let identity = SeriesIdentity {
        resource: Arc::new(Resource {
            service: "shop".into(),
            attributes: Attributes::default(),
        }),
        instrument: Arc::new(Instrument {
            scope: Arc::new(Scope::default()),
            metric: "x".into(),
            unit: "".into(),
            kind,
        }),
        attributes: Attributes::default(),
    };
    MetricPoint {
        series: crate::model::SeriesId(1),
        identity: Arc::new(identity).into(),
        start: start.map(Timestamp::from_nanos),
        time: Timestamp::from_nanos(time),
        data,
        exemplar: None,
    }
}

/// Times in the cases are seconds after this, a tick's boundary.
const ZERO: i64 = 1_700_000_000;

fn at(seconds: f64) -> i64 {
    ZERO * 1_000_000_000 + (seconds * 1e9).round() as i64
}

/// One series under test.
struct Case {
    kind: MetricKind,
    state: SeriesState,
    out: Vec<Emitted>,
}

impl Case {
    fn new(kind: MetricKind) -> Self {
        Self {
            kind,
            state: SeriesState::new(&kind),
            out: Vec::new(),
        }
    }

    /// Applies a point at `time` seconds; `start` before 0 is none.
    fn apply(&mut self, start: f64, time: f64, data: PointData) -> Applied {
        let start = (start >= 0.0).then(|| at(start));
        let point = point(self.kind, start, at(time), data);
        let now = Timestamp::from_nanos(at(0.0));
        self.state
            .apply(point.view(), now, &Settings::default(), &mut self.out)
    }

    fn number(&mut self, start: f64, time: f64, value: f64) -> Applied {
        self.apply(start, time, PointData::Number(value))
    }

    fn close(&mut self, boundary: f64) {
        self.state
            .close(Timestamp::from_nanos(at(boundary)), &mut self.out);
    }

    /// All samples so far as `time:signal=value`, after closing everything.
    #[track_caller]
    fn expect(mut self, expected: &str) {
        self.close(1e6);
        assert_eq!(shown(&self.out), expected);
    }
}

fn shown(out: &[Emitted]) -> String {
    let words: Vec<String> = out
        .iter()
        .map(|e| {
            let seconds = (e.sample.time.as_nanos() - at(0.0)) / 1_000_000_000;
            format!(
                "{seconds}:{}={}",
                e.kind,
                (e.sample.value * 1e4).round() / 1e4
            )
        })
        .collect();
    words.join(" ")
}

#[test]
fn a_gauge_shows_the_last_value_of_a_tick() {
    let mut case = Case::new(MetricKind::Gauge);
    case.number(-1.0, 1.0, 5.0);
    case.number(-1.0, 10.0, 6.0);
    case.number(-1.0, 10.1, 7.0);
    case.number(-1.0, 45.0, -0.0);
    assert_eq!(
        case.number(-1.0, 46.0, f64::NAN),
        Applied::Rejected(Reject::NonFinite)
    );
    case.expect("10:value=6 20:value=7 50:value=-0");
}

#[test]
fn late_and_repeated_points_are_dropped_and_closed_ticks_take_no_more() {
    let mut case = Case::new(MetricKind::Gauge);
    assert_eq!(case.number(-1.0, 3.0, 1.0), Applied::Counted);
    assert_eq!(case.number(-1.0, 3.0, 2.0), Applied::Repeated);
    assert_eq!(case.number(-1.0, 2.0, 3.0), Applied::Late);
    case.close(9.9);
    assert!(case.out.is_empty(), "the tick ends at 10");
    case.close(10.0);
    assert_eq!(shown(&case.out), "10:value=1");
    assert_eq!(case.number(-1.0, 4.0, 4.0), Applied::Counted, "folded");
    case.close(10.0);
    case.expect("10:value=1 20:value=4");

    let mut first = Case::new(MetricKind::Gauge);
    assert_eq!(first.number(-1.0, -86_400.5, 1.0), Applied::Late, "of 1970");
    assert_eq!(first.number(-1.0, -86_399.0, 1.0), Applied::Counted);
}

#[test]
fn a_clock_that_steps_back_is_late_until_it_caught_up() {
    let mut case = Case::new(RATE);
    case.number(0.0, 10.0, 100.0);
    case.number(0.0, 20.0, 200.0);
    for step in 0..10 {
        let time = 10.0 + f64::from(step);
        assert_eq!(case.number(0.0, time, 210.0 + time), Applied::Late);
    }
    case.number(0.0, 30.0, 300.0);
    case.expect("10:rate=10 20:rate=10 30:rate=10");
}

#[test]
fn monotonic_sums_become_rates() {
    let mut case = Case::new(RATE);
    case.number(-1.0, 5.0, 100.0);
    case.number(-1.0, 12.0, 107.0);
    case.number(-1.0, 20.0, 123.0);
    assert_eq!(
        case.number(-1.0, 21.0, -1.0),
        Applied::Rejected(Reject::Negative)
    );
    case.number(-1.0, 60.0, 163.0);
    // The first gives none; 7 in 7 s and 16 in 8 s together; the gap is averaged over.
    case.expect("20:rate=1.5333 60:rate=1");

    let mut delta = Case::new(DELTA_RATE);
    delta.number(0.0, 5.0, 10.0);
    delta.number(5.0, 10.0, 20.0);
    assert_eq!(delta.number(9.0, 12.0, 99.0), Applied::Overlap);
    delta.number(14.0, 16.0, 4.0);
    delta.number(-1.0, 20.0, 4.0);
    delta.expect("10:rate=3 20:rate=1.3333");

    let mut unsaid = Case::new(DELTA_RATE);
    unsaid.number(-1.0, 10.0, 20.0);
    unsaid.number(-1.0, 15.0, 20.0);
    unsaid.expect("10:rate=2 20:rate=4");
}

#[test]
fn other_sums_become_values() {
    let mut case = Case::new(VALUE);
    case.number(0.0, 5.0, 3.0);
    assert_eq!(case.number(2.0, 6.0, 99.0), Applied::Overlap);
    case.number(0.0, 15.0, -4.0);
    case.number(17.0, 25.0, 1.0);
    case.expect("10:value=3 20:value=-4 30:value=1");

    let mut delta = Case::new(DELTA_VALUE);
    delta.number(0.0, 5.0, 3.0);
    delta.number(5.0, 10.0, -5.0);
    delta.number(10.0, 15.0, 1e308);
    assert_eq!(
        delta.number(15.0, 16.0, 1e308),
        Applied::Rejected(Reject::NonFinite)
    );
    delta.number(16.0, 20.0, -1e308);
    delta.expect("10:value=-2 20:value=0");
}

#[test]
fn huge_rates_are_refused_rather_than_infinite() {
    let mut case = Case::new(DELTA_RATE);
    assert_eq!(case.number(0.0, 5.0, 1e308), Applied::Counted);
    assert_eq!(
        case.number(5.0, 6.0, 1e308),
        Applied::Rejected(Reject::NonFinite)
    );
    assert_eq!(
        case.number(5.0, 5.000_001, f64::MAX),
        Applied::Rejected(Reject::NonFinite)
    );
    case.number(5.0, 10.0, 0.0);
    case.close(10.0);
    assert_eq!(case.out.len(), 1);
    assert_eq!(case.out[0].sample.value, 1e307);
}

#[test]
fn an_ended_series_starts_anew_without_counting_again() {
    let mut case = Case::new(RATE);
    case.number(0.0, 10.0, 50.0);
    assert_eq!(case.apply(-1.0, 20.0, PointData::End), Applied::Ended);
    assert_eq!(case.apply(-1.0, 20.0, PointData::End), Applied::Repeated);
    case.number(0.0, 30.0, 90.0);
    case.number(0.0, 40.0, 95.0);
    case.expect("10:rate=5 40:rate=0.5");
}

#[test]
fn histograms_become_rate_mean_and_percentiles() {
    let bounds = [0.1, 0.2, 0.4];
    let data = |values: &[f64]| PointData::Histogram(Box::new(histogram(&bounds, values)));
    let expected = "10:rate=0.4 10:mean=0.225 10:p50=0.2 10:p95=0.29 10:p99=0.298 \
                    20:rate=0.1 20:mean=0.35 20:p50=0.3 20:p95=0.39 20:p99=0.398 30:rate=0";
    let mut delta = Case::new(MetricKind::Histogram(Temporality::Delta));
    delta.apply(0.0, 6.0, data(&[0.15, 0.15]));
    delta.apply(6.0, 10.0, data(&[0.3, 0.3]));
    assert_eq!(delta.apply(9.0, 12.0, data(&[9.0])), Applied::Overlap);
    let mut alone = histogram(&bounds, &[0.35]);
    (alone.min, alone.max) = (None, None);
    delta.apply(10.0, 20.0, PointData::Histogram(Box::new(alone)));
    delta.apply(20.0, 30.0, data(&[]));
    assert_eq!(delta.out[0].weight, 4);
    delta.expect(expected);

    let mut total = Case::new(MetricKind::Histogram(Temporality::Cumulative));
    let plain = |values: &[f64]| {
        let mut point = histogram(&bounds, values);
        (point.min, point.max) = (Some(0.15), None);
        PointData::Histogram(Box::new(point))
    };
    total.apply(0.0, 10.0, plain(&[0.15, 0.15, 0.3, 0.3]));
    total.apply(0.0, 20.0, plain(&[0.15, 0.15, 0.3, 0.3, 0.35]));
    total.apply(0.0, 30.0, plain(&[0.15, 0.15, 0.3, 0.3, 0.35]));
    assert_eq!(
        total.apply(5.0, 31.0, plain(&[0.15])),
        Applied::Overlap,
        "another writer"
    );
    total.expect(&expected.replace("p95=0.29 10:p99=0.298", "p95=0.38 10:p99=0.396"));
}

#[test]
fn a_histogram_without_buckets_has_rate_and_mean_only() {
    let mut case = Case::new(MetricKind::Histogram(Temporality::Delta));
    let mut bare = histogram(&[], &[1.0, 2.0]);
    bare.counts.clear();
    case.apply(0.0, 10.0, PointData::Histogram(Box::new(bare.clone())));
    bare.sum = None;
    case.apply(10.0, 20.0, PointData::Histogram(Box::new(bare)));
    case.expect("10:rate=0.2 10:mean=1.5 20:rate=0.2");
}

#[test]
fn exponential_histograms_become_rate_mean_and_percentiles() {
    let data =
        |scale, values: &[f64]| PointData::Exponential(Box::new(exponential(scale, 0.0, values)));
    let mut case = Case::new(MetricKind::ExponentialHistogram(Temporality::Cumulative));
    case.apply(0.0, 10.0, data(10, &[4.0; 10]));
    let later: Vec<f64> = [4.0; 10].into_iter().chain([2.0; 10]).collect();
    case.apply(0.0, 20.0, data(9, &later));
    let out = {
        case.close(1e6);
        case.out
    };
    let value = |kind, time: i64| {
        let time = Timestamp::from_nanos(at(time as f64));
        out.iter()
            .find(|e| e.kind == kind && e.sample.time == time)
            .unwrap()
            .sample
            .value
    };
    assert_eq!(value(SignalKind::Rate, 20), 1.0);
    assert_eq!(value(SignalKind::Mean, 20), 2.0);
    for (_, q) in PERCENTILES {
        let kind = SignalKind::quantile(q).unwrap();
        assert!((value(kind, 10) / 4.0 - 1.0).abs() < 0.01);
        assert!((value(kind, 20) / 2.0 - 1.0).abs() < 0.01);
    }
}

#[test]
fn summaries_show_their_quantiles_and_the_rate_of_their_count() {
    let data = |count, quantiles: &[(f64, f64)]| {
        PointData::Summary(Box::new(SummaryPoint {
            count,
            sum: 0.0,
            quantiles: quantiles.to_vec(),
        }))
    };
    let mut case = Case::new(MetricKind::Summary);
    case.apply(-1.0, 10.0, data(5, &[(0.5, 1.0), (0.999, 2.0)]));
    case.apply(-1.0, 15.0, data(9, &[(0.5, 7.0)]));
    case.apply(
        -1.0,
        20.0,
        data(25, &[(0.5, 3.0), (1.0, 4.0), (1.0 - 1e-9, 9.0)]),
    );
    case.apply(-1.0, 30.0, data(20, &[]));
    let last = {
        case.close(20.0);
        case.out.last().unwrap().weight
    };
    assert_eq!(last, 20);
    case.expect("10:p50=1 10:p99.9=2 20:rate=2 20:p50=3 20:p100=4 30:rate=2");
}

#[test]
fn of_the_exemplars_of_a_tick_the_largest_stays() {
    let mut case = Case::new(MetricKind::Gauge);
    for (time, trace_id, value) in [(1.0, 1, 5.0), (2.0, 2, 9.0), (3.0, 3, 7.0), (11.0, 4, 1.0)] {
        let mut point = point(case.kind, None, at(time), PointData::Number(1.0));
        point.exemplar = Some(Box::new(Exemplar {
            trace_id,
            span_id: 0,
            value,
        }));
        let (now, settings) = (point.time, Settings::default());
        case.state
            .apply(point.view(), now, &settings, &mut case.out);
    }
    case.number(-1.0, 21.0, 1.0);
    case.close(30.0);
    let traces: Vec<_> = case.out.iter().map(|e| e.exemplar).collect();
    assert_eq!(traces, [Some(2), Some(4), None]);
}

#[test]
fn contradictions_are_refused() {
    let mut case = Case::new(MetricKind::Histogram(Temporality::Delta));
    let refused = Applied::Rejected(Reject::NoValue);
    assert_eq!(case.number(0.0, 1.0, 1.0), refused);
    let mut spans = Case::new(MetricKind::Spans);
    assert_eq!(spans.number(0.0, 1.0, 1.0), refused);
    spans.expect("");
}

#[test]
fn an_overflow_series_adds_up_what_many_series_report() {
    let mut case = Case::new(DELTA_RATE);
    case.state = SeriesState::overflow(&DELTA_RATE, TICK).unwrap();
    for _ in 0..20 {
        assert_eq!(case.number(0.0, 10.0, 5.0), Applied::Counted);
        assert_eq!(case.number(-5.0, 7.0, 5.0), Applied::Counted);
    }
    assert_eq!(case.apply(-1.0, 10.0, PointData::End), Applied::Ended);
    case.number(10.0, 20.0, 5.0);
    case.number(0.0, 10.0, 5.0);
    case.expect("10:rate=20 20:rate=1");

    let data = || PointData::Histogram(Box::new(histogram(&[1.0], &[0.5, 0.5])));
    let mut case = Case::new(MetricKind::Histogram(Temporality::Delta));
    case.state = SeriesState::overflow(&case.kind, TICK).unwrap();
    case.apply(0.0, 10.0, data());
    case.apply(0.0, 10.0, data());
    case.expect("10:rate=0.4 10:mean=0.5 10:p50=0.5 10:p95=0.5 10:p99=0.5");
    assert!(SeriesState::overflow(&RATE, TICK).is_none());
    assert!(SeriesState::overflow(&MetricKind::Gauge, TICK).is_none());
}

#[test]
fn a_series_is_small() {
    let sizes = [
        SeriesState::new(&MetricKind::Gauge).bytes(),
        SeriesState::new(&RATE).bytes(),
        size_of::<SpanSeries>(),
        size_of::<SpanPartial>(),
    ];
    assert!(sizes[0] <= 240 && sizes[1] <= 240, "{sizes:?}");
    assert!(sizes[2] <= 80 && sizes[3] <= 320, "{sizes:?}");
}

/// A span with what it is of.
#[derive(Debug, Clone)]
pub(super) struct Spoken {
    pub(super) operation: Operation,
    pub(super) span: SpanRecord,
}

impl Spoken {
    /// Applies it alone.
    pub(super) fn apply(&self, aggregator: &mut SpanAggregator, now: Timestamp) -> SpanApplied {
        let mut became = None;
        let operations = std::slice::from_ref(&self.operation);
        aggregator.apply(operations, [&self.span], now, |_, applied| {
            became = Some(applied);
        });
        became.unwrap()
    }
}

/// A span of one second, unless told otherwise.
pub(super) fn span(service: &str, name: &str, trace: u128, id: u64, end: i64) -> Spoken {
    let operation = Operation {
        resource: Arc::new(Resource {
            service: service.into(),
            attributes: Attributes::default(),
        }),
        name: name.into(),
        kind: SpanKind::Server,
    };
    let span = SpanRecord {
        trace_id: trace,
        span_id: id,
        parent_id: None,
        start: Timestamp::from_nanos(end - 1_000_000_000),
        end: Timestamp::from_nanos(end),
        operation: 0,
        error: false,
    };
    Spoken { operation, span }
}

#[test]
fn spans_become_rate_error_ratio_and_percentiles() {
    let now = Timestamp::from_nanos(at(10.0));
    let mut aggregator = SpanAggregator::new(SpanSettings::default());
    for id in 1..=4 {
        let mut it = span("shop", "pay", 7, id, at(3.0));
        it.span.error = id == 2;
        it.span.start = Timestamp::from_nanos(at(3.0 - id as f64));
        assert_eq!(it.apply(&mut aggregator, now), SpanApplied::Counted);
        assert_eq!(it.apply(&mut aggregator, now), SpanApplied::Repeated);
    }
    let old = span("shop", "pay", 7, 9, at(-90_000.0));
    assert_eq!(old.apply(&mut aggregator, now), SpanApplied::Late);
    let taken = aggregator.take();
    let [partial] = &taken[..] else {
        panic!("one series and one tick: {taken:?}")
    };
    let identity = &partial.identity;
    assert_eq!(identity.id(), partial.series);
    assert_eq!((&*identity.metric, &*identity.unit), ("span.duration", "s"));
    assert_eq!(identity.kind, MetricKind::Spans);
    assert_eq!(
        identity.attributes.get("span.name").unwrap().as_text(),
        "pay"
    );
    assert_eq!(
        identity.attributes.get("span.kind").unwrap().as_text(),
        "server"
    );
    assert!(aggregator.take().is_empty());

    let mut series = SpanSeries::new();
    let mut out = Vec::new();
    let close = |series: &mut SpanSeries, boundary: f64, alive: bool, out: &mut Vec<Emitted>| {
        let boundary = Timestamp::from_nanos(at(boundary));
        series.close(boundary, TICK, alive.then_some(boundary), out);
    };
    close(&mut series, 0.0, true, &mut out);
    assert!(
        out.is_empty(),
        "nothing is known of the time before the first span"
    );
    let now = Timestamp::from_nanos(at(10.0));
    series.absorb(partial.clone(), now, TICK, &mut out);
    close(&mut series, 10.0, true, &mut out);
    assert_eq!(
        shown(&out),
        "10:rate=0.4 10:error_ratio=0.25 10:p50=2.5 10:p95=3.85 10:p99=3.97"
    );
    assert!(out.iter().all(|e| e.weight == 4 && e.exemplar == Some(7)));
    out.clear();
    close(&mut series, 20.0, true, &mut out);
    close(&mut series, 20.0, true, &mut out);
    close(&mut series, 30.0, false, &mut out);
    assert_eq!(
        shown(&out),
        "20:rate=0",
        "and nothing while the service is silent"
    );
    out.clear();
    // The tick at 10 is closed: what comes late counts in the first that is not.
    let late = series.absorb(partial.clone(), now, TICK, &mut out);
    assert_eq!(late, 0);
    close(&mut series, 40.0, true, &mut out);
    assert_eq!(
        shown(&out),
        "30:rate=0.4 30:error_ratio=0.25 30:p50=2.5 30:p95=3.85 30:p99=3.97 40:rate=0"
    );
    out.clear();
    // A client that was cut off for minutes sends what it kept: that is not what happens now.
    for boundary in [50.0, 60.0, 70.0, 80.0] {
        close(&mut series, boundary, true, &mut out);
    }
    out.clear();
    let now = Timestamp::from_nanos(at(80.0));
    let late = series.absorb(partial.clone(), now, TICK, &mut out);
    assert_eq!(late, 4);
    close(&mut series, 90.0, true, &mut out);
    assert_eq!(shown(&out), "90:rate=0");
}

#[test]
fn calls_between_services_become_edges() {
    let now = Timestamp::from_nanos(at(10.0));
    let mut aggregator = SpanAggregator::new(SpanSettings::default());
    let mut child = span("cart", "add", 7, 2, at(3.0));
    child.span.parent_id = Some(1);
    child.span.error = true;
    child.apply(&mut aggregator, now);
    span("shop", "pay", 7, 1, at(14.0)).apply(&mut aggregator, now);
    let taken = aggregator.take();
    let edges: Vec<_> = taken
        .iter()
        .filter(|p| p.identity.kind == MetricKind::Edge)
        .collect();
    let [edge] = &edges[..] else {
        panic!("one edge: {taken:?}")
    };
    assert_eq!(&*edge.identity.resource.service, "shop");
    assert_eq!(&*edge.identity.metric, "edge.duration");
    let peer = edge.identity.attributes.get("peer.service").unwrap();
    assert_eq!(peer.as_text(), "cart");
    assert_eq!((edge.count, edge.errors), (1, 1));
    assert_eq!(
        edge.tick_end,
        Timestamp::from_nanos(at(10.0)),
        "the callee's"
    );
    assert_eq!(edge.sketch.quantile(0.5), Some(1.0));
    assert_eq!(edge.slowest.unwrap().span_id, 2);
}

#[test]
fn series_beyond_the_room_are_counted_in_the_overflow_of_their_service() {
    let now = Timestamp::from_nanos(at(10.0));
    let mut aggregator = SpanAggregator::new(SpanSettings {
        max_partials: 4,
        ..SpanSettings::default()
    });
    let mut counts = [0u64; 2];
    for id in 1..=1000 {
        let service = format!("s{}", id % 20);
        let span = span(&service, &format!("n{id}"), 1, id, at(3.0));
        match span.apply(&mut aggregator, now) {
            SpanApplied::Counted => counts[0] += 1,
            SpanApplied::Rejected(_) => counts[1] += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(aggregator.gathered() <= 8);
    let taken = aggregator.take();
    assert_eq!(counts[0] + counts[1], 1000);
    assert_eq!(taken.iter().map(|p| p.count).sum::<u64>(), counts[0]);
    let overflow = taken
        .iter()
        .filter(|p| p.identity.attributes.get("otel.metric.overflow").is_some());
    assert_eq!(overflow.count(), 4);
    assert_eq!(
        span("new", "n", 2, 1, at(3.0)).apply(&mut aggregator, now),
        SpanApplied::Counted,
        "after that there is room again"
    );

    let mut aggregator = SpanAggregator::new(SpanSettings {
        max_services: 2,
        ..SpanSettings::default()
    });
    let mut apply = |service: &str, id, minutes: i64| {
        let end = at(minutes as f64 * 60.0);
        aggregator.take();
        span(service, "n", 1, id, end).apply(&mut aggregator, Timestamp::from_nanos(end))
    };
    assert_eq!(apply("a", 1, 0), SpanApplied::Counted);
    assert_eq!(apply("b", 2, 0), SpanApplied::Counted);
    let refused = SpanApplied::Rejected(Reject::ServiceLimit);
    assert_eq!(apply("c", 3, 1), refused);
    assert_eq!(apply("a", 4, 3), SpanApplied::Counted);
    assert_eq!(apply("c", 5, 3), SpanApplied::Counted, "b was forgotten");
}

#[test]
fn a_playback_of_hours_keeps_a_bounded_number_of_ticks() {
    let mut series = SpanSeries::new();
    let mut out = Vec::new();
    let mut aggregator = SpanAggregator::new(SpanSettings::default());
    for tick in 0..500 {
        let end = at(f64::from(tick) * 10.0 + 5.0);
        let span = span("shop", "pay", 1, tick as u64 + 1, end);
        span.apply(&mut aggregator, Timestamp::from_nanos(end));
    }
    for partial in aggregator.take() {
        let late = series.absorb(partial, Timestamp::from_nanos(at(5000.0)), TICK, &mut out);
        assert_eq!(late, 0);
    }
    assert!(series.bytes() < 100_000);
    series.close(Timestamp::from_nanos(at(5000.0)), TICK, None, &mut out);
    let rates: Vec<_> = out.iter().filter(|e| e.kind == SignalKind::Rate).collect();
    assert_eq!(rates.len(), 500);
    assert!(rates.iter().all(|e| e.sample.value == 0.1));
    assert!(
        rates
            .windows(2)
            .all(|w| w[0].sample.time < w[1].sample.time)
    );
}
