//! Laws that hold for every stream, whatever it says.

use proptest::collection::vec;
use proptest::prelude::*;

use super::cases::{DELTA_RATE, RATE, Spoken, TICK, point, span};
use super::exponential_histogram::tests::exponential;
use super::histogram::tests::histogram;
use super::*;
use crate::model::{
    Batch, ExponentialHistogramPoint, HistogramPoint, MetricPoint, PointData, SummaryPoint,
    Temporality,
};

const S: i64 = 1_000_000_000;
const BOUNDS: [f64; 4] = [1.0, 5.0, 25.0, 125.0];

/// A client's life: per step the pause before it in milliseconds, whether the process began anew in
/// that pause, and what was observed until the next report.
#[derive(Debug, Clone)]
struct Observed {
    pause: i64,
    restarted: bool,
    values: Vec<u32>,
}

fn life() -> impl Strategy<Value = Vec<Observed>> {
    let step = (
        1..25_000i64,
        prop::bool::weighted(0.15),
        vec(0..500u32, 0..6),
    );
    let step = step.prop_map(|(pause, restarted, values)| Observed {
        pause,
        restarted,
        values,
    });
    vec(step, 1..30)
}

#[derive(Debug, Clone, Copy)]
enum Shape {
    Sum,
    Histogram,
    Exponential,
}

impl Shape {
    fn kind(self, temporality: Temporality) -> MetricKind {
        match self {
            Self::Sum => MetricKind::Sum {
                monotonic: true,
                temporality,
            },
            Self::Histogram => MetricKind::Histogram(temporality),
            Self::Exponential => MetricKind::ExponentialHistogram(temporality),
        }
    }

    fn data(self, values: &[f64]) -> PointData {
        match self {
            Self::Sum => PointData::Number(values.iter().sum()),
            Self::Histogram => {
                let mut point = histogram(&BOUNDS, values);
                (point.min, point.max) = (None, None);
                PointData::Histogram(Box::new(point))
            }
            Self::Exponential => {
                let mut point = exponential(5, 0.5, values);
                (point.min, point.max) = (None, None);
                PointData::Exponential(Box::new(point))
            }
        }
    }

    /// The life as points of one temporality, from `origin` on. A process begins anew in the middle of its pause.
    fn points(self, temporality: Temporality, origin: i64, life: &[Observed]) -> Vec<MetricPoint> {
        let (mut start, mut time) = (origin, origin);
        let mut total = Vec::new();
        let mut points = Vec::new();
        for step in life {
            let before = time;
            time += step.pause * 1_000_000;
            if step.restarted {
                start = before + step.pause * 500_000;
                total.clear();
            }
            let fresh: Vec<f64> = step.values.iter().map(|v| f64::from(*v)).collect();
            total.extend_from_slice(&fresh);
            let (from, values) = match temporality {
                Temporality::Cumulative => (start, &total),
                Temporality::Delta => (start.max(before), &fresh),
            };
            let data = self.data(values);
            points.push(point(self.kind(temporality), Some(from), time, data));
        }
        points
    }
}

fn run(points: impl IntoIterator<Item = MetricPoint>) -> Vec<Emitted> {
    let mut state: Option<SeriesState> = None;
    let mut out = Vec::new();
    for point in points {
        let state =
            state.get_or_insert_with(|| SeriesState::new(&point.identity.here().unwrap().kind));
        state.apply(
            point.view(),
            Timestamp::EPOCH,
            &Settings::default(),
            &mut out,
        );
    }
    if let Some(mut state) = state {
        state.close(Timestamp::from_nanos(i64::MAX), &mut out);
    }
    out
}

/// What the open tick of a monotonic sum has counted, and over how long.
fn counted(state: &SeriesState) -> (f64, u64) {
    match &state.body {
        Body::Sum(Sum::CumulativeRate { open, .. } | Sum::DeltaRate { open }) => {
            (open.by, open.elapsed)
        }
        _ => (0.0, 0),
    }
}

fn any_time() -> impl Strategy<Value = i64> {
    prop_oneof![
        4 => 0..100 * S,
        1 => any::<i64>(),
        1 => prop::sample::select(vec![i64::MIN, -1, 0, 1, i64::MAX - 1, i64::MAX]),
    ]
}

fn any_number() -> impl Strategy<Value = f64> {
    prop_oneof![
        3 => 0.0..1e6f64,
        1 => any::<f64>(),
        1 => prop::sample::select(vec![
            0.0, -0.0, 5e-324, 1e308, -1e308, f64::MAX, f64::MIN, f64::NAN, f64::INFINITY,
        ]),
    ]
}

fn any_count() -> impl Strategy<Value = u64> {
    prop_oneof![3 => 0..100u64, 1 => any::<u64>(), 1 => Just(u64::MAX)]
}

/// Any data of a kind, as far as decoding lets it through and a little further.
fn any_data(kind: MetricKind) -> BoxedStrategy<PointData> {
    let bound = || prop::option::of(-1e308..1e308f64);
    let head = (any_count(), bound(), bound(), bound());
    let side = || prop::collection::btree_map(any::<i32>(), 1..u64::MAX, 0..4);
    match kind {
        MetricKind::Histogram(_) => (head, vec(-1e308..1e308f64, 0..4), vec(any_count(), 0..5))
            .prop_map(|((count, sum, min, max), mut bounds, counts)| {
                bounds.sort_by(f64::total_cmp);
                PointData::Histogram(Box::new(HistogramPoint {
                    count,
                    sum,
                    min,
                    max,
                    bounds,
                    counts,
                }))
            })
            .boxed(),
        MetricKind::ExponentialHistogram(_) => (
            head,
            -10..=20i32,
            any_count(),
            0.0..1e300f64,
            side(),
            side(),
        )
            .prop_map(
                |((count, sum, min, max), scale, zero_count, threshold, positive, negative)| {
                    PointData::Exponential(Box::new(ExponentialHistogramPoint {
                        count,
                        sum,
                        min,
                        max,
                        scale,
                        zero_count,
                        zero_threshold: threshold,
                        positive,
                        negative,
                    }))
                },
            )
            .boxed(),
        MetricKind::Summary => (any_count(), vec((0.0..=1.0f64, any_number()), 0..4))
            .prop_map(|(count, quantiles)| {
                PointData::Summary(Box::new(SummaryPoint {
                    count,
                    sum: 0.0,
                    quantiles,
                }))
            })
            .boxed(),
        _ => any_number().prop_map(PointData::Number).boxed(),
    }
}

fn any_kind() -> impl Strategy<Value = MetricKind> {
    let mut kinds = vec![MetricKind::Gauge, MetricKind::Summary];
    for temporality in [Temporality::Delta, Temporality::Cumulative] {
        kinds.push(MetricKind::Histogram(temporality));
        kinds.push(MetricKind::ExponentialHistogram(temporality));
        for monotonic in [false, true] {
            kinds.push(MetricKind::Sum {
                monotonic,
                temporality,
            });
        }
    }
    prop::sample::select(kinds)
}

fn any_points() -> impl Strategy<Value = Vec<MetricPoint>> {
    any_kind().prop_flat_map(|kind| {
        let data = prop_oneof![1 => Just(PointData::End), 12 => any_data(kind)];
        let one = (prop::option::of(any_time()), any_time(), data);
        let one = one.prop_map(move |(start, time, data)| point(kind, start, time, data));
        vec(one, 0..25)
    })
}

/// A span among few services, traces and ids, so that repeats, parents and cycles occur.
fn any_span() -> impl Strategy<Value = Spoken> {
    let ids = (1..9u128, 1..12u64, prop::option::of(1..12u64));
    (
        ids,
        0..4u8,
        0..3u8,
        0..60_000i64,
        0..5_000_000i64,
        any::<bool>(),
    )
        .prop_map(|((trace, id, parent), service, name, end, micros, error)| {
            let end = end * 1_000_000;
            let mut it = span(&format!("s{service}"), &format!("n{name}"), trace, id, end);
            it.span.start = Timestamp::from_nanos(end - micros * 1000);
            it.span.parent_id = parent;
            it.span.error = error;
            it
        })
}

/// The samples of `spans`, which come in requests of `request` spans, split by trace among `parts`
/// aggregators that are emptied every `take_every` requests.
fn span_samples(
    spans: &[Spoken],
    request: usize,
    parts: u128,
    take_every: usize,
) -> Vec<(u128, Emitted)> {
    let mut aggregators: Vec<_> = (0..parts)
        .map(|seed| {
            SpanAggregator::new(SpanSettings {
                seed: seed as u64,
                ..SpanSettings::default()
            })
        })
        .collect();
    let mut series = std::collections::BTreeMap::<u128, SpanSeries>::new();
    let mut absorb = |aggregators: &mut Vec<SpanAggregator>| {
        for partial in aggregators.iter_mut().flat_map(SpanAggregator::take) {
            let owner = series.entry(partial.series.0).or_default();
            owner.absorb(partial, Timestamp::EPOCH, TICK, &mut Vec::new());
        }
    };
    for (index, request) in spans.chunks(request).enumerate() {
        let mut batch = Batch::default();
        for spoken in request {
            batch.add_span(spoken.operation.clone(), spoken.span);
        }
        for (part, aggregator) in (0..).zip(&mut aggregators) {
            let spans = batch.spans.iter().filter(|s| s.trace_id % parts == part);
            aggregator.apply(&batch.operations, spans, Timestamp::EPOCH, |_, _| {});
        }
        if index % take_every == 0 {
            absorb(&mut aggregators);
        }
    }
    absorb(&mut aggregators);
    let mut samples = Vec::new();
    for (id, mut series) in series {
        let mut out = Vec::new();
        for tick in 1..=6 {
            series.close(
                Timestamp::from_secs(tick * 10),
                TICK,
                Some(Timestamp::from_secs(tick * 10)),
                &mut out,
            );
        }
        samples.extend(out.into_iter().map(|emitted| (id, emitted)));
    }
    samples
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn delta_and_cumulative_forms_give_the_same_samples(
        life in life(),
        shape in prop::sample::select(vec![Shape::Sum, Shape::Histogram, Shape::Exponential]),
    ) {
        let delta = run(shape.points(Temporality::Delta, 0, &life));
        let cumulative = run(shape.points(Temporality::Cumulative, 0, &life));
        prop_assert!(!delta.is_empty());
        prop_assert_eq!(delta, cumulative);
    }

    #[test]
    fn rates_are_never_negative_and_add_up_to_the_increase(mut life in life()) {
        // One report a tick, so that the time behind each sample is known.
        for step in &mut life {
            step.pause = (step.pause / 10_000 + 1) * 10_000;
        }
        let samples = run(Shape::Sum.points(Temporality::Cumulative, 0, &life));
        prop_assert_eq!(samples.len(), life.len());
        let mut sum = 0.0;
        for (sample, step) in samples.iter().zip(&life) {
            prop_assert!(sample.sample.value >= 0.0);
            let elapsed = if step.restarted { step.pause / 2 } else { step.pause };
            sum += sample.sample.value * elapsed as f64 / 1000.0;
        }
        let truth: u32 = life.iter().flat_map(|step| &step.values).sum();
        prop_assert!((sum - f64::from(truth)).abs() <= 1e-9 * f64::from(truth).max(1.0));
    }

    #[test]
    fn nothing_is_counted_twice_in_any_order_and_number(
        life in life(),
        other in life(),
        delta in any::<bool>(),
        writers in 1..3usize,
        says_start in prop::bool::weighted(0.8),
        order in vec(any::<prop::sample::Index>(), 0..80),
        sorted in any::<bool>(),
    ) {
        let temporality = if delta { Temporality::Delta } else { Temporality::Cumulative };
        let lives: Vec<_> = [life, other].into_iter().take(writers).collect();
        let mut points: Vec<_> = lives
            .iter()
            .zip([0, 777])
            // Writers whose processes began in the same nanosecond could not be told apart.
            .flat_map(|(life, origin)| Shape::Sum.points(temporality, origin, life))
            .collect();
        if !says_start && !delta && writers == 1 {
            points.iter_mut().for_each(|point| point.start = None);
        }
        if sorted {
            points.sort_by_key(|point| point.time);
        }
        let end = points.iter().map(|point| point.time).max().unwrap();
        // All in one tick, so that what was counted can be read.
        let settings = Settings { tick: Duration::from_secs(100_000), ..Settings::default() };
        let kind = if delta { DELTA_RATE } else { RATE };
        let mut state = SeriesState::new(&kind);
        let mut order: Vec<_> = order.iter().map(|index| index.index(points.len())).collect();
        if sorted {
            // Every writer's points in their order, some of them missing or sent again.
            order.sort_unstable();
        }
        for index in order {
            let point = points[index].clone();
            state.apply(point.view(), Timestamp::EPOCH, &settings, &mut Vec::new());
        }
        let truth: u32 = lives.iter().flatten().flat_map(|step| &step.values).sum();
        let (increase, elapsed) = counted(&state);
        prop_assert!(increase <= f64::from(truth));
        prop_assert!(elapsed <= end.as_nanos() as u64);
    }

    #[test]
    fn whatever_comes_samples_are_finite_and_their_times_rise(
        points in any_points(),
        tick in prop::sample::select(vec![0u64, 1, 10_000_000_000, u64::MAX]),
        now in any_time(),
    ) {
        let settings = Settings { tick: Duration::from_nanos(tick), ..Settings::default() };
        let mut out = Vec::new();
        let mut state = points.first().map(|point| SeriesState::new(&point.identity.here().unwrap().kind));
        for point in points {
            if let Some(state) = &mut state {
                let rate = matches!(point.data, PointData::Number(_));
                let applied = state.apply(point.view(), Timestamp::from_nanos(now), &settings, &mut out);
                prop_assert!(rate || !matches!(applied, Applied::Rejected(_)));
                prop_assert!(state.bytes() < 10_000);
            }
        }
        if let Some(mut state) = state {
            state.close(Timestamp::from_nanos(i64::MAX), &mut out);
        }
        let mut newest = std::collections::HashMap::new();
        for emitted in out {
            let Emitted { kind, sample, weight, .. } = emitted;
            prop_assert!(sample.value.is_finite());
            prop_assert!(weight > 0 || (kind == SignalKind::Rate && sample.value == 0.0));
            prop_assert!(kind != SignalKind::Rate || sample.value >= 0.0);
            let before = newest.insert(kind, sample.time);
            // At the end of time ticks cannot go on.
            let end = Timestamp::from_nanos(i64::MAX);
            prop_assert!(before.is_none_or(|before| before < sample.time || before == end));
        }
    }

    #[test]
    fn a_saved_series_goes_on_as_if_nothing_had_been(points in any_points(), cut in 0..25usize) {
        let settings = Settings::default();
        let mut kept = points.first().map(|point| SeriesState::new(&point.identity.here().unwrap().kind));
        let mut restored = kept.clone();
        let (mut out, mut again) = (Vec::new(), Vec::new());
        for (index, point) in points.into_iter().enumerate() {
            let (Some(kept), Some(restored)) = (&mut kept, &mut restored) else { break };
            if index == cut {
                let bytes = postcard::to_stdvec(&*kept).unwrap();
                *restored = postcard::from_bytes(&bytes).unwrap();
            }
            let now = Timestamp::EPOCH;
            let applied = kept.apply(point.view(), now, &settings, &mut out);
            prop_assert_eq!(applied, restored.apply(point.view(), now, &settings, &mut again));
        }
        if let (Some(mut kept), Some(mut restored)) = (kept, restored) {
            let end = Timestamp::from_nanos(i64::MAX);
            kept.close(end, &mut out);
            restored.close(end, &mut again);
        }
        prop_assert_eq!(out, again);
    }

    #[test]
    fn a_sketch_is_within_one_percent_of_the_exact_quantiles(
        magnitudes in vec(-9.0..18.0f64, 1..400),
        signs in 0..3u8,
        q in 0.0..=1.0f64,
    ) {
        let mut values: Vec<f64> = magnitudes
            .iter()
            .enumerate()
            .map(|(index, magnitude)| match (signs, index % 3) {
                (1, 0) => -(10f64.powf(*magnitude)),
                (2, 0) => 0.0,
                _ => 10f64.powf(*magnitude),
            })
            .collect();
        let mut sketch = Sketch::new();
        values.iter().for_each(|value| sketch.add(*value));
        values.sort_by(f64::total_cmp);
        for q in [q, 0.0, 0.5, 0.95, 0.99, 1.0] {
            let rank = q * (values.len() - 1) as f64;
            let (lower, upper) = (values[rank.floor() as usize], values[rank.ceil() as usize]);
            let exact = lower * (1.0 - rank.fract()) + upper * rank.fract();
            let got = sketch.quantile(q).unwrap();
            // Between two signs the error is relative to the neighbours.
            let scale = if lower < 0.0 && upper > 0.0 { upper - lower } else { exact.abs() };
            prop_assert!((got - exact).abs() <= 0.01 * scale, "{} {} {}", q, got, exact);
        }
    }

    #[test]
    fn merging_sketches_does_not_depend_on_order_or_split(
        values in vec((0..5usize, -8.0..9.0f64), 1..200),
        order in Just((0..5usize).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let mut whole = Sketch::new();
        let mut parts = vec![Sketch::new(); 5];
        for (part, magnitude) in values {
            whole.add(10f64.powf(magnitude));
            parts[part].add(10f64.powf(magnitude));
        }
        let mut merged = Sketch::new();
        order.iter().for_each(|part| merged.merge(&parts[*part]));
        // (((a+b)+c)+d)+e against a+(b+(c+(d+e))).
        let mut nested = Sketch::new();
        for part in order.iter().rev() {
            let mut sum = parts[*part].clone();
            sum.merge(&nested);
            nested = sum;
        }
        let saved: Sketch = postcard::from_bytes(&postcard::to_stdvec(&nested).unwrap()).unwrap();
        for q in [0.0, 0.01, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0] {
            prop_assert_eq!(whole.quantile(q), merged.quantile(q));
            prop_assert_eq!(whole.quantile(q), nested.quantile(q));
            prop_assert_eq!(whole.quantile(q), saved.quantile(q));
        }
    }

    #[test]
    fn samples_of_spans_do_not_depend_on_requests_or_on_how_traces_are_split(
        spans in vec(any_span(), 1..150),
        request in 1..60usize,
        parts in 2..5u128,
        take_every in 1..40usize,
    ) {
        let whole = span_samples(&spans, 1, 1, usize::MAX);
        prop_assert!(!whole.is_empty());
        prop_assert_eq!(&whole, &span_samples(&spans, request, 1, usize::MAX));
        prop_assert_eq!(&whole, &span_samples(&spans, request, parts, take_every));
    }

    #[test]
    fn a_span_counts_once_however_often_and_wherever_it_arrives(
        spans in vec(any_span(), 1..100),
        order in vec(any::<prop::sample::Index>(), 0..200),
    ) {
        let mut aggregator = SpanAggregator::new(SpanSettings::default());
        let mut seen = std::collections::HashSet::new();
        for index in order {
            let span = index.get(&spans);
            let new = seen.insert((span.span.trace_id, span.span.span_id));
            let applied = span.apply(&mut aggregator, Timestamp::EPOCH);
            prop_assert_eq!(applied == SpanApplied::Counted, new);
        }
        let taken = aggregator.take();
        let count = |kind| -> u64 {
            taken.iter().filter(|p| p.identity.kind == kind).map(|p| p.count).sum()
        };
        prop_assert_eq!(count(MetricKind::Spans), seen.len() as u64);
        prop_assert!(count(MetricKind::Edge) <= seen.len() as u64);
        prop_assert!(taken.iter().all(|p| p.sketch.count() == p.count && p.errors <= p.count));
    }

    #[test]
    fn saved_span_series_go_on(spans in vec(any_span(), 1..60)) {
        let mut aggregator = SpanAggregator::new(SpanSettings::default());
        let mut series = SpanSeries::new();
        for span in &spans {
            span.apply(&mut aggregator, Timestamp::EPOCH);
        }
        let (mut out, mut again) = (Vec::new(), Vec::new());
        for partial in aggregator.take() {
            series.absorb(partial, Timestamp::EPOCH, TICK, &mut out);
        }
        series.close(Timestamp::from_secs(20), TICK, Some(Timestamp::from_secs(20)), &mut out);
        let bytes = postcard::to_stdvec(&series).unwrap();
        let mut restored: SpanSeries = postcard::from_bytes(&bytes).unwrap();
        out.clear();
        for tick in 3..10 {
            series.close(Timestamp::from_secs(tick * 10), TICK, Some(Timestamp::from_secs(tick * 10)), &mut out);
            restored.close(Timestamp::from_secs(tick * 10), TICK, Some(Timestamp::from_secs(tick * 10)), &mut again);
        }
        prop_assert_eq!(out, again);
    }
}
