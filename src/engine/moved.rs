//! Which signals of a service moved at about a time, and which attribute values carry it.
//!
//! It is asked when an alert begins, for its service and those that it calls. The work is bounded: of
//! a service with very many series those with the smallest ids are looked at, which are a fair sample
//! since ids are hashes, and the same one whatever the number of shards. Besides the alert's own series
//! nothing is looked at by name.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::carrier::{self, Tally};
use super::handle::Handle;
use super::series::{Series, Source};
use super::shard::Shard;
use super::signal::Signal;
use crate::derive::{Aspect, PartMoves};
use crate::model::{
    AttributeRef, Moved, MovedQuestion, Movement, Sample, SeriesId, SignalId, SignalKind, Timestamp,
};
use crate::window::median;

/// Series of one service looked at.
const MOST_SERIES: u64 = 4_000;
/// Series looked at in one slice of a shard's work: some tenths of a millisecond.
const SLICE: usize = if cfg!(test) { 3 } else { 32 };
/// Questions answered at once; what comes beyond is not.
const MOST_QUESTIONS: usize = 96;
/// Signals in one answer.
const MOST_MOVED: usize = 24;
/// So many ticks before an alert began another signal may have moved with it.
const LOOKBACK: u32 = 12;
/// Samples since then that are looked at.
const MOST_RECENT: usize = 64;
/// Samples before then that a comparison without a detector stands on, at least and at most.
const FEWEST_PAST: usize = 20;
const MOST_PAST: usize = 200;
/// Sigmas from which a sample counts as deviating, and from which a single one is enough.
const DEVIATES: f64 = 3.0;
const ALONE: f64 = 5.0;
/// Least change worth telling, of the usual value; of a share of errors in itself.
const LEAST_CHANGE: f64 = 0.1;
const LEAST_RATE_CHANGE: f64 = 0.2;
const LEAST_SHARE: f64 = 0.02;

/// A question as a shard needs it.
struct Ask {
    service: Arc<str>,
    since: Timestamp,
    tick: Duration,
    /// Series with larger ids are left out.
    last: SeriesId,
    subjects: Vec<(SignalId, Arc<str>, bool)>,
}

/// What the shards found, so far.
#[derive(Default)]
struct Found {
    moved: BTreeMap<Group, Best>,
    /// One for each subject.
    tallies: Vec<Tally>,
    parts: Vec<Vec<PartMoves>>,
}

/// Signals that are told as one: those of several instances, or several percentiles of one thing.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    metric: Arc<str>,
    family: Family,
    attributes: Vec<(Box<str>, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Family {
    Value,
    Rate,
    Errors,
    Distribution,
}

impl Family {
    fn of(kind: SignalKind) -> Self {
        match kind {
            SignalKind::Value => Self::Value,
            SignalKind::Rate => Self::Rate,
            SignalKind::ErrorRatio => Self::Errors,
            SignalKind::Mean | SignalKind::Quantile(_) => Self::Distribution,
        }
    }
}

struct Best {
    id: SignalId,
    series: u32,
    since: Timestamp,
    deviation: Deviation,
    unit: String,
    watched: bool,
}

/// How far a signal is from where it was.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Deviation {
    since: Timestamp,
    usual: f64,
    value: f64,
    /// Signed.
    sigma: f64,
}

/// What can be said of a signal.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Reading {
    Unknown,
    Still,
    Moved(Deviation),
}

impl Handle {
    /// Answers `questions` in their order, at most 96 of them. Where a service is unknown or nothing
    /// of it moved, the answer is empty. Some microseconds a signal, in the shards.
    pub async fn moved(&self, questions: Vec<MovedQuestion>) -> Vec<Movement> {
        let mut answers = Vec::new();
        for question in questions.into_iter().take(MOST_QUESTIONS) {
            answers.push(self.answer(question).await);
        }
        answers
    }

    async fn answer(&self, question: MovedQuestion) -> Movement {
        let inner = &*self.0;
        let series = inner.census.series_of(&question.service);
        let subject = |subject: &crate::model::Subject| {
            let id: SignalId = subject.signal_id.parse().ok()?;
            Some((id, subject.metric.as_str().into(), subject.above))
        };
        let ask = Arc::new(Ask {
            service: question.service.as_str().into(),
            since: question.since,
            tick: inner.plan.settings.tick,
            last: sampled(series),
            subjects: question.subjects.iter().filter_map(subject).collect(),
        });
        let of_shards = inner.shards.iter().map(|shard| {
            let ask = Arc::clone(&ask);
            let (mut found, mut cursor) = (Found::for_ask(&ask), None);
            shard.work(move |shard| shard.moved(&ask, &mut cursor, &mut found))
        });
        let mut found = Found::for_ask(&ask);
        for of_shard in join_all(of_shards).await.into_iter().flatten() {
            found.merge(of_shard);
        }
        found.into_movement(&ask)
    }
}

/// The largest id of a sample of some [`MOST_SERIES`] out of `series`.
fn sampled(series: u64) -> SeriesId {
    let share = u128::from(series.max(MOST_SERIES));
    SeriesId((u128::MAX / share).saturating_mul(u128::from(MOST_SERIES)))
}

impl Found {
    fn for_ask(ask: &Ask) -> Self {
        Self {
            moved: BTreeMap::new(),
            tallies: ask.subjects.iter().map(|_| Tally::default()).collect(),
            parts: ask.subjects.iter().map(|_| Vec::new()).collect(),
        }
    }

    fn merge(&mut self, other: Self) {
        for (group, best) in other.moved {
            self.add(group, best);
        }
        for (tally, other) in self.tallies.iter_mut().zip(other.tallies) {
            tally.merge(other);
        }
        for (parts, other) in self.parts.iter_mut().zip(other.parts) {
            parts.extend(other);
        }
    }

    fn add(&mut self, group: Group, other: Best) {
        match self.moved.get_mut(&group) {
            None => {
                self.moved.insert(group, other);
            }
            Some(best) => {
                let series = best.series.saturating_add(other.series);
                let since = best.since.min(other.since);
                if other.rank() > best.rank() {
                    *best = other;
                }
                (best.series, best.since) = (series, since);
            }
        }
    }

    fn into_movement(self, ask: &Ask) -> Movement {
        let mut moved: Vec<(Group, Best)> = self.moved.into_iter().collect();
        // By size first, so that what is cut is what moved least; then by time.
        moved.sort_by(|a, b| {
            let size = |best: &Best| (best.deviation.sigma.abs().min(38.0), best.change());
            let ((a_sigma, a_change), (b_sigma, b_change)) = (size(&a.1), size(&b.1));
            b_sigma
                .total_cmp(&a_sigma)
                .then(b_change.total_cmp(&a_change))
                .then(a.1.id.cmp(&b.1.id))
        });
        moved.truncate(MOST_MOVED);
        // The sort is stable: of those that began together the largest stays first.
        moved.sort_by_key(|(_, best)| best.since);
        // Of a subject of which nothing is known there is no answer; of another none is an answer.
        let subjects = ask.subjects.iter().zip(self.tallies).zip(self.parts);
        let subjects = subjects.filter(|((_, tally), parts)| tally.knows() || !parts.is_empty());
        Movement {
            service: ask.service.to_string(),
            carriers: subjects
                .map(|(((id, _, _), tally), parts)| (id.to_string(), carrier::find(tally, parts)))
                .collect(),
            moved: moved
                .into_iter()
                .map(|(group, best)| best.into_moved(group, &ask.service))
                .collect(),
        }
    }
}

impl Best {
    fn change(&self) -> f64 {
        let Deviation { usual, value, .. } = self.deviation;
        ((value - usual) / usual.abs().max(f64::MIN_POSITIVE)).abs()
    }

    /// Of equals the smaller id, so that the order of shards does not matter.
    fn rank(&self) -> (u64, std::cmp::Reverse<SignalId>) {
        // Sizes are finite and not negative: their bits are in order.
        (
            self.deviation.sigma.abs().to_bits(),
            std::cmp::Reverse(self.id),
        )
    }

    fn into_moved(self, group: Group, service: &str) -> Moved {
        let Deviation {
            usual,
            value,
            sigma,
            ..
        } = self.deviation;
        let text = |(key, value): (Box<str>, String)| (key.into_string(), value);
        Moved {
            signal_id: self.id.to_string(),
            service: service.to_owned(),
            metric: group.metric.to_string(),
            signal: self.id.kind.to_string(),
            unit: self.unit,
            attributes: group.attributes.into_iter().map(text).collect(),
            series: self.series,
            since: self.since,
            usual,
            value,
            sigma,
            watched: self.watched,
        }
    }
}

impl Shard {
    /// Looks at the next series of the service behind `cursor`; breaks with what was found in all of them.
    fn moved(
        &self,
        ask: &Ask,
        cursor: &mut Option<SeriesId>,
        found: &mut Found,
    ) -> ControlFlow<Found> {
        for (looked_at, id) in self.of_service(&ask.service, *cursor).enumerate() {
            if looked_at >= SLICE {
                return ControlFlow::Continue(());
            }
            *cursor = Some(id);
            let is_subject = ask.subjects.iter().any(|(signal, ..)| signal.series == id);
            if (id <= ask.last || is_subject)
                && let Some(series) = self.series.get(&id)
                && series.owner(id).judged
            {
                look(id, series, ask, found);
            }
        }
        ControlFlow::Break(std::mem::take(found))
    }
}

fn look(id: SeriesId, series: &Series, ask: &Ask, found: &mut Found) {
    let mut best: BTreeMap<Family, Best> = BTreeMap::new();
    for signal in &series.signals {
        let reading = read(signal, ask.since, ask.tick);
        let siblings = ask.subjects.iter().zip(&mut found.tallies);
        for ((subject, metric, above), tally) in siblings {
            if subject.kind == signal.kind && *metric == series.identity.metric {
                let moved = match reading {
                    Reading::Unknown => continue,
                    Reading::Still => false,
                    Reading::Moved(deviation) => (deviation.sigma > 0.0) == *above,
                };
                tally.add(&series.identity, moved);
            }
        }
        let Reading::Moved(deviation) = reading else {
            continue;
        };
        let meta = series.owner(id).meta(signal.kind);
        let candidate = Best {
            id: meta.id,
            series: 1,
            since: deviation.since,
            deviation,
            unit: meta.unit().into_owned(),
            watched: !signal.watches.is_empty(),
        };
        let family = Family::of(signal.kind);
        if best
            .get(&family)
            .is_none_or(|best| candidate.rank() > best.rank())
        {
            best.insert(family, candidate);
        }
    }
    for (family, best) in best {
        let text =
            |(key, value): (&str, AttributeRef<'_>)| (key.into(), value.as_text().into_owned());
        let group = Group {
            metric: Arc::clone(&series.identity.metric),
            family,
            attributes: series.identity.attributes.iter().map(text).collect(),
        };
        found.add(group, best);
    }
    if let Source::Spans(spans) = &series.source {
        let subjects = ask.subjects.iter().zip(&mut found.parts);
        for ((signal, _, above), parts) in subjects.filter(|((signal, ..), _)| signal.series == id)
        {
            let aspect = match Family::of(signal.kind) {
                Family::Rate => Aspect::Rate,
                Family::Errors => Aspect::Errors,
                Family::Value | Family::Distribution => Aspect::Duration,
            };
            parts.extend(spans.moves(aspect, *above, ask.since));
        }
    }
}

/// A sample with how far it is from what was usual.
struct Scored {
    time: Timestamp,
    value: f64,
    usual: f64,
    score: f64,
}

/// Whether `signal` deviates since about `since`.
fn read(signal: &Signal, since: Timestamp, tick: Duration) -> Reading {
    let from = since.minus(tick.saturating_mul(LOOKBACK));
    // Ticks of two series need not end at the same time.
    let since = since.minus(tick / 2);
    let Some(scored) = scores(signal, from, since) else {
        return Reading::Unknown;
    };
    let after: Vec<&Scored> = scored.iter().filter(|s| s.time >= since).collect();
    let count = |side: f64| after.iter().filter(|s| s.score * side >= DEVIATES).count();
    let (above, below) = (count(1.0), count(-1.0));
    let side = if above >= below { 1.0 } else { -1.0 };
    let most = above.max(below);
    let enough = match after.as_slice() {
        [] => return Reading::Unknown,
        [only] => only.score.abs() >= ALONE,
        _ => most * 5 >= after.len() * 3,
    };
    if !enough {
        let calm = most * 5 < after.len() * 2;
        return if calm {
            Reading::Still
        } else {
            Reading::Unknown
        };
    }
    let deviates = |s: &&Scored| s.score * side >= DEVIATES;
    // From the first that deviates since then as far back as all before it deviate as well.
    let Some(first) = scored.iter().position(|s| s.time >= since && deviates(&s)) else {
        return Reading::Still;
    };
    let (earlier, later) = scored.split_at(first);
    let run = earlier.iter().rev().take_while(deviates).count();
    let out: Vec<&Scored> = earlier
        .iter()
        .skip(earlier.len() - run)
        .chain(later)
        .filter(deviates)
        .collect();
    let middle = |of: fn(&Scored) -> f64| {
        let mut values: Vec<f64> = out.iter().map(|s| of(s)).collect();
        median(&mut values)
    };
    let (Some(value), Some(usual)) = (middle(|s| s.value), middle(|s| s.usual)) else {
        return Reading::Unknown;
    };
    let change = (value - usual).abs();
    let told = match Family::of(signal.kind) {
        Family::Errors => change >= LEAST_SHARE,
        Family::Rate => change >= LEAST_RATE_CHANGE * usual.abs(),
        Family::Value | Family::Distribution => change >= LEAST_CHANGE * usual.abs(),
    };
    let largest = out.iter().map(|s| s.score.abs()).fold(0.0, f64::max);
    match out.first() {
        Some(first) if told => Reading::Moved(Deviation {
            since: first.time,
            usual,
            value,
            sigma: largest * side,
        }),
        Some(_) | None => Reading::Still,
    }
}

/// The samples from `from` on, oldest first, by the judgement of the first rule that watches, or, where
/// there is none, by the median and spread of the samples before. `None` where neither is known.
fn scores(signal: &Signal, from: Timestamp, since: Timestamp) -> Option<Vec<Scored>> {
    let recent = signal
        .window
        .iter()
        .rev()
        .take(MOST_RECENT)
        .take_while(|sample| sample.time >= from)
        .count();
    let judged = signal
        .bands
        .iter()
        .rev()
        .chain(std::iter::repeat(&super::signal::Band::NONE));
    let mut scored: Vec<Scored> = Vec::with_capacity(recent);
    let (mut known, mut asked) = (0, 0);
    for (sample, band) in signal.window.iter().rev().take(recent).zip(judged) {
        let judged = band.judged(sample.value);
        if sample.time >= since {
            asked += 1;
            known += usize::from(judged.is_some());
        }
        let (usual, score) = judged.unwrap_or((sample.value, 0.0));
        scored.push(Scored {
            time: sample.time,
            value: sample.value,
            usual,
            score,
        });
    }
    scored.reverse();
    if asked == 0 {
        return None;
    }
    if known * 2 >= asked {
        return Some(scored);
    }
    let past = signal.window.iter().rev().skip(recent).take(MOST_PAST);
    let (centre, spread) = robust(past)?;
    for scored in &mut scored {
        scored.usual = centre;
        scored.score = (scored.value - centre) / spread;
    }
    Some(scored)
}

/// Median and spread of samples: by the median of the distances from it, or by their mean where more
/// than half of the samples are equal, and at least a fiftieth of the level.
fn robust(past: impl Iterator<Item = Sample>) -> Option<(f64, f64)> {
    /// For normal noise both times their factor are its standard deviation.
    const MEDIAN_DISTANCE: f64 = 1.4826;
    const MEAN_DISTANCE: f64 = 1.2533;
    let mut values: Vec<f64> = past.map(|sample| sample.value).collect();
    if values.len() < FEWEST_PAST {
        return None;
    }
    let centre = median(&mut values)?;
    let mut distances: Vec<f64> = values.iter().map(|value| (value - centre).abs()).collect();
    let mean = distances.iter().sum::<f64>() / distances.len() as f64;
    let middle = median(&mut distances)?;
    let spread = (MEDIAN_DISTANCE * middle)
        .max(MEAN_DISTANCE * mean)
        .max(0.02 * centre.abs())
        .max(1e-9);
    spread.is_finite().then_some((centre, spread))
}
