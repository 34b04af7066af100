//! What a report keeps of signals, of which there are very many.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::report::{MAX_SIGNALS, MAX_TRENDS, Operation, SignalLine, TrendLine, keep};
use crate::model::{BaselineView, Examined, SampleView, SignalView};

/// What signals say, taken in one after the other: of a service it keeps its operations and what is listed, however
/// many signals it has.
#[derive(Debug, Default)]
pub struct Gathered(BTreeMap<String, Gist>);

impl Gathered {
    /// Each service that has signals.
    pub(super) fn services(&self) -> impl Iterator<Item = (&String, &Gist)> {
        self.0.iter()
    }

    /// Takes in a signal. One that no rule watches is not counted, but shown where an operation has it.
    pub fn add(&mut self, signal: &Examined) {
        let service = &signal.view.service;
        match self.0.get_mut(service) {
            Some(gist) => gist.add(signal),
            None => self.0.entry(service.clone()).or_default().add(signal),
        }
    }
}

/// What the signals of one service say.
#[derive(Debug, Default)]
pub(super) struct Gist {
    pub(super) signals: usize,
    pub(super) learning: usize,
    /// Whether any baseline stands.
    pub(super) ready: bool,
    pub(super) deviating: usize,
    /// Those with the largest |sigma| of the window; what deviates now stands before what did.
    pub(super) worst: Vec<SignalLine>,
    /// Those that go farthest.
    pub(super) trends: Vec<TrendLine>,
    pub(super) trends_omitted: usize,
    /// The farthest of those that somebody should look into.
    pub(super) gets_worse: Option<TrendLine>,
    /// By name and kind.
    pub(super) operations: BTreeMap<(String, String), Operation>,
}

impl Gist {
    fn add(&mut self, signal: &Examined) {
        let baseline = signal.view.baseline;
        self.signals += usize::from(baseline != BaselineView::Unwatched);
        self.learning += usize::from(matches!(baseline, BaselineView::Learning { .. }));
        self.ready |= baseline == BaselineView::Ready;
        if let Some(judged) = Judged::new(signal) {
            self.deviating += usize::from(judged.rank.deviates);
            let before = |line: &SignalLine| line.rank() < judged.rank;
            let at = self.worst.partition_point(before);
            if at < MAX_SIGNALS {
                self.worst.insert(at, judged.line());
                self.worst.truncate(MAX_SIGNALS);
            }
        }
        if let Some(line) = TrendLine::new(signal) {
            self.add_trend(line);
        }
        self.add_operation(&signal.view);
    }

    fn add_trend(&mut self, line: TrendLine) {
        let farther = |a: &TrendLine, b: &TrendLine| a.farther_first(b).is_lt();
        let farthest = self.gets_worse.as_ref();
        if line.gets_worse() && farthest.is_none_or(|known| farther(&line, known)) {
            self.gets_worse = Some(line.clone());
        }
        let at = self.trends.partition_point(|known| farther(known, &line));
        self.trends.insert(at, line);
        self.trends_omitted += keep(&mut self.trends, MAX_TRENDS);
    }

    fn add_operation(&mut self, signal: &SignalView) {
        let attribute = |name: &str| signal.attributes.get(name).cloned().unwrap_or_default();
        if signal.metric != "span.duration" {
            return;
        }
        let (name, kind) = (attribute("span.name"), attribute("span.kind"));
        let Some(last) = signal.last.as_ref().filter(|_| !name.is_empty()) else {
            return;
        };
        let operation = self
            .operations
            .entry((name.clone(), kind.clone()))
            .or_insert_with(|| Operation {
                name,
                kind,
                ..Operation::default()
            });
        let slot = match signal.signal.as_str() {
            "rate" => &mut operation.rate,
            "error_ratio" => &mut operation.error_ratio,
            "p50" => &mut operation.p50,
            "p95" => &mut operation.p95,
            "p99" => &mut operation.p99,
            _ => return,
        };
        *slot = Some(last.value);
    }
}

/// How far ahead a judged signal stands: what deviates now before what did, then by size, then by id.
#[derive(Clone, Copy, PartialEq)]
struct Rank<'a> {
    deviates: bool,
    /// The largest |sigma| of the window.
    size: f64,
    id: &'a str,
}

impl PartialOrd for Rank<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        let by_size = other.size.total_cmp(&self.size);
        let order = other.deviates.cmp(&self.deviates).then(by_size);
        Some(order.then_with(|| self.id.cmp(other.id)))
    }
}

/// A signal whose newest sample was judged. There are very many of them, and few become a line.
struct Judged<'a> {
    examined: &'a Examined,
    last: &'a SampleView,
    expected: f64,
    sigma: f64,
    rank: Rank<'a>,
}

impl<'a> Judged<'a> {
    fn new(examined: &'a Examined) -> Option<Self> {
        let last = examined.view.last.as_ref()?;
        let (expected, sigma) = (last.expected?, last.sigma?);
        let below = last.lower.is_some_and(|lower| last.value < lower);
        let above = last.upper.is_some_and(|upper| last.value > upper);
        let rank = Rank {
            deviates: below || above,
            size: size(sigma, examined.worst.as_ref()),
            id: &examined.view.id,
        };
        Some(Self {
            examined,
            last,
            expected,
            sigma,
            rank,
        })
    }

    fn line(&self) -> SignalLine {
        let signal = &self.examined.view;
        SignalLine {
            id: signal.id.clone(),
            metric: signal.metric.clone(),
            signal: signal.signal.clone(),
            unit: signal.unit.clone(),
            attributes: signal.attributes.clone(),
            value: self.last.value,
            expected: self.expected,
            lower: self.last.lower,
            upper: self.last.upper,
            sigma: self.sigma,
            deviates: self.rank.deviates,
            worst: self.examined.worst.clone(),
        }
    }
}

/// The largest |sigma| of the window.
fn size(sigma: f64, worst: Option<&SampleView>) -> f64 {
    let worst = worst.and_then(|worst| worst.sigma);
    worst.unwrap_or(sigma).abs().max(sigma.abs())
}

impl SignalLine {
    fn rank(&self) -> Rank<'_> {
        Rank {
            deviates: self.deviates,
            size: size(self.sigma, self.worst.as_ref()),
            id: &self.id,
        }
    }
}
