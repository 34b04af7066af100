//! Which instance and which version: the spans of one series by the value of a resource attribute.
//!
//! These numbers become no signals of their own, since a service may have hundreds of instances that
//! come and go. They are kept so that, once a series deviates, it can be told which of them carry it.
//!
//! Of an attribute with more values than are kept those with the smallest hashes stay. Which ones that
//! are depends neither on the order of spans nor on how they were split among aggregators, and what is
//! counted of those that stay is exact, however many others there were (a bottom-k sample).

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::{Resource, Timestamp};

/// The attributes, and how many values of each are kept.
const ATTRIBUTES: [(&str, usize); 2] = [("service.instance.id", 32), ("service.version", 8)];
/// Longest value kept, in characters.
const MAX_VALUE_CHARS: usize = 128;
/// Newest ticks that are kept apart; older ones only as slow averages, which therefore know nothing of
/// a deviation that has just begun.
const RECENT: usize = 8;
/// The slow averages forget half of what they knew within some 44 ticks.
const SLOW: f32 = 1.0 / 64.0;
/// Ticks that slow averages must stand on to be compared with.
const ENOUGH: u32 = 10;
/// A value without spans for so many ticks leaves: an hour of ticks of 10 s.
const MAX_IDLE: u32 = 360;

/// Who sent spans, as far as their parts go by it: the value of each attribute, with its hash.
#[derive(Debug)]
pub(super) struct Sender<'a>([Option<(u64, Cow<'a, str>)>; ATTRIBUTES.len()]);

impl<'a> Sender<'a> {
    /// Looks up the attributes.
    pub(super) fn of(resource: &'a Resource) -> Self {
        let value = |(name, _): (&str, usize)| {
            let text = cut(resource.attributes.get(name)?.as_text());
            (!text.is_empty()).then(|| (hash(&text), text))
        };
        Self(ATTRIBUTES.map(value))
    }
}

/// The text up to the longest that is kept.
fn cut(text: Cow<'_, str>) -> Cow<'_, str> {
    match text.chars().nth(MAX_VALUE_CHARS) {
        Some(_) => Cow::Owned(text.chars().take(MAX_VALUE_CHARS).collect()),
        None => text,
    }
}

/// FNV-1a. Two values that meet, by chance or by intent, are counted as one; nothing else follows.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Spans of one value in one tick. Whole microseconds, so that sums do not depend on their order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cell {
    count: u32,
    errors: u32,
    micros: u64,
}

impl Cell {
    /// One span that took so many nanoseconds.
    pub(super) fn of(nanos: u64, error: bool) -> Self {
        Self {
            count: 1,
            errors: u32::from(error),
            micros: nanos / 1000 + u64::from(nanos % 1000 >= 500),
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.count = self.count.saturating_add(other.count);
        self.errors = self.errors.saturating_add(other.errors);
        self.micros = self.micros.saturating_add(other.micros);
    }

    fn mean(self) -> f32 {
        (self.micros as f64 / 1e6 / f64::from(self.count.max(1))) as f32
    }

    fn error_ratio(self) -> f32 {
        self.errors as f32 / self.count.max(1) as f32
    }
}

/// The spans of one tick by the values of one attribute; by hash.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Parts {
    parts: Vec<(u64, Arc<str>, Cell)>,
    /// There were more values than are kept.
    beyond: bool,
}

impl Parts {
    /// Adds `cell` to the value of `hash`; `value` is asked for if it is new.
    fn add(&mut self, hash: u64, value: impl FnOnce() -> Arc<str>, cell: Cell, most: usize) {
        match self.parts.binary_search_by_key(&hash, |part| part.0) {
            Ok(at) => {
                if let Some((_, _, known)) = self.parts.get_mut(at) {
                    known.add(cell);
                }
            }
            Err(at) => {
                self.beyond |= self.parts.len() >= most;
                if at < most {
                    self.parts.insert(at, (hash, value(), cell));
                    self.parts.truncate(most);
                }
            }
        }
    }
}

/// The spans of one tick by the values of each attribute.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Breakdown([Parts; ATTRIBUTES.len()]);

impl Breakdown {
    /// Adds spans of one sender.
    pub(super) fn add(&mut self, sender: &Sender<'_>, cell: Cell) {
        for ((parts, value), (_, most)) in self.0.iter_mut().zip(&sender.0).zip(ATTRIBUTES) {
            if let Some((hash, value)) = value {
                parts.add(*hash, || Arc::from(&**value), cell, most);
            }
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        for ((parts, other), (_, most)) in self.0.iter_mut().zip(other.0).zip(ATTRIBUTES) {
            if parts.parts.is_empty() && !parts.beyond {
                *parts = other;
                continue;
            }
            for (hash, value, cell) in other.parts {
                parts.add(hash, || value, cell, most);
            }
            parts.beyond |= other.beyond;
        }
    }

    /// Whether no span said who sent it.
    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|parts| parts.parts.is_empty())
    }

    /// About how much memory it takes beside itself.
    pub(super) fn bytes(&self) -> usize {
        let each = size_of::<(u64, Arc<str>, Cell)>();
        self.0.iter().map(|p| p.parts.capacity() * each).sum()
    }
}

/// Which number of the spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aspect {
    /// How long they take, on average.
    Duration,
    /// Which share of them fails.
    Errors,
    /// How many there are.
    Rate,
}

/// How one value of an attribute did since a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartMove {
    /// The value.
    pub value: Arc<str>,
    /// Whether it moved; `None`: too little is known of it to say.
    pub moved: Option<bool>,
}

/// The values of one attribute since a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartMoves {
    /// Name of the attribute.
    pub attribute: &'static str,
    /// Each value that was heard of lately.
    pub parts: Vec<PartMove>,
    /// Whether there are more than were looked at.
    pub sampled: bool,
}

/// What is known of one series by the values of each attribute. Some 250 bytes a value: half a
/// kilobyte where one instance reports, ten where 32 or more do.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct History {
    /// Ends of the newest ticks, oldest first.
    times: VecDeque<Timestamp>,
    attributes: [Values; ATTRIBUTES.len()],
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Values {
    /// By hash.
    values: Vec<Value>,
    beyond: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Value {
    hash: u64,
    value: Arc<str>,
    /// As long as `times`.
    recent: VecDeque<Cell>,
    slow: Slow,
    /// Ticks without spans since the newest with some.
    idle: u32,
}

/// Averages over the ticks before the recent ones.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Slow {
    ticks: u32,
    /// Spans a tick.
    count: f32,
    /// Of the ticks that had spans: mean duration in seconds, its mean absolute deviation, and the
    /// share of errors.
    mean: f32,
    deviation: f32,
    errors: f32,
    /// Ticks that had spans.
    busy: u32,
}

impl Slow {
    fn learn(&mut self, cell: Cell) {
        let weight = |ticks: u32| SLOW.max(1.0 / ticks as f32);
        self.ticks = self.ticks.saturating_add(1);
        self.count += weight(self.ticks) * (cell.count as f32 - self.count);
        if cell.count > 0 {
            self.busy = self.busy.saturating_add(1);
            let weight = weight(self.busy);
            let distance = (cell.mean() - self.mean).abs();
            if self.busy > 1 {
                self.deviation += weight * (distance - self.deviation);
            }
            self.mean += weight * (cell.mean() - self.mean);
            self.errors += weight * (cell.error_ratio() - self.errors);
        }
    }
}

impl History {
    /// Adds the tick that ended at `end`.
    pub(super) fn push(&mut self, end: Timestamp, breakdown: Breakdown) {
        let full = self.times.len() >= RECENT;
        if full {
            self.times.pop_front();
        }
        let before = self.times.len();
        self.times.push_back(end);
        for ((known, tick), (_, most)) in
            self.attributes.iter_mut().zip(breakdown.0).zip(ATTRIBUTES)
        {
            known.push(tick, full, before, most);
        }
    }

    /// How the values of each attribute did in the ticks that ended at `since` or later, to the side
    /// that `above` says. A value that is new is compared with all others as they were before.
    pub(super) fn moves(&self, aspect: Aspect, above: bool, since: Timestamp) -> Vec<PartMoves> {
        let first = self.times.partition_point(|time| *time < since);
        if first >= self.times.len() {
            return Vec::new();
        }
        let attributes = self.attributes.iter().zip(ATTRIBUTES);
        attributes
            .map(|(known, (attribute, _))| PartMoves {
                attribute,
                parts: known.moves(aspect, above, first),
                sampled: known.beyond,
            })
            .filter(|moves| !moves.parts.is_empty())
            .collect()
    }

    /// About how much memory it takes beside itself.
    pub(super) fn bytes(&self) -> usize {
        let values = self.attributes.iter().flat_map(|known| &known.values);
        let values: usize = values
            .map(|value| size_of::<Value>() + value.recent.capacity() * size_of::<Cell>())
            .sum();
        values + self.times.capacity() * size_of::<Timestamp>()
    }
}

impl Values {
    fn push(&mut self, tick: Parts, full: bool, before: usize, most: usize) {
        for value in &mut self.values {
            if full && let Some(cell) = value.recent.pop_front() {
                value.slow.learn(cell);
            }
            value.recent.push_back(Cell::default());
            value.idle = value.idle.saturating_add(1);
        }
        self.values.retain(|value| value.idle <= MAX_IDLE);
        self.beyond = tick.beyond || (self.beyond && self.values.len() >= most);
        for (hash, value, cell) in tick.parts {
            let at = match self.values.binary_search_by_key(&hash, |value| value.hash) {
                Ok(at) => at,
                Err(at) if at < most => {
                    let mut recent = VecDeque::with_capacity(RECENT);
                    recent.resize(before + 1, Cell::default());
                    let (slow, idle) = (Slow::default(), 0);
                    let value = Value {
                        hash,
                        value,
                        recent,
                        slow,
                        idle,
                    };
                    self.values.insert(at, value);
                    self.beyond |= self.values.len() > most;
                    self.values.truncate(most);
                    at
                }
                Err(_) => {
                    self.beyond = true;
                    continue;
                }
            };
            if let Some(value) = self.values.get_mut(at) {
                value.idle = 0;
                if let Some(newest) = value.recent.back_mut() {
                    *newest = cell;
                }
            }
        }
    }

    fn moves(&self, aspect: Aspect, above: bool, first: usize) -> Vec<PartMove> {
        let before = |value: &Value| {
            let mut slow = value.slow;
            // Ticks before the first that had any are no ticks without spans.
            let unheard = if slow.ticks == 0 {
                value.recent.iter().take_while(|c| c.count == 0).count()
            } else {
                0
            };
            for cell in value.recent.iter().take(first).skip(unheard) {
                slow.learn(*cell);
            }
            slow
        };
        let known: Vec<Slow> = self.values.iter().map(before).collect();
        let all = Slow::of_all(&known);
        self.values
            .iter()
            .zip(&known)
            .map(|(value, slow)| {
                let mut now = Cell::default();
                let mut ticks = 0;
                for cell in value.recent.iter().skip(first) {
                    now.add(*cell);
                    ticks += 1;
                }
                let own = slow.ticks >= ENOUGH;
                let usual = if own { Some(*slow) } else { all };
                let moved = match (aspect, usual) {
                    (Aspect::Duration, Some(usual)) => slower(now, usual, above),
                    (Aspect::Errors, Some(usual)) => failing(now, usual, above),
                    (Aspect::Rate, Some(usual)) if own => busier(now, ticks, usual, above),
                    _ => None,
                };
                PartMove {
                    value: Arc::clone(&value.value),
                    moved,
                }
            })
            .collect()
    }
}

impl Slow {
    /// What is usual of all values together that enough is known of.
    fn of_all(known: &[Self]) -> Option<Self> {
        let (mut all, mut weight) = (Self::default(), 0.0);
        for slow in known.iter().filter(|slow| slow.ticks >= ENOUGH) {
            weight += slow.count;
            all.ticks = all.ticks.max(slow.ticks);
            all.busy = all.busy.max(slow.busy);
            all.mean += slow.count * slow.mean;
            all.errors += slow.count * slow.errors;
            all.deviation = all.deviation.max(slow.deviation);
        }
        all.mean /= weight;
        all.errors /= weight;
        (weight > 0.0).then_some(all)
    }
}

/// A fifth more is worth telling, if it is more than what the mean does anyway. What is half as far out
/// may be either.
fn slower(now: Cell, usual: Slow, above: bool) -> Option<bool> {
    if now.count < 3 || usual.busy < ENOUGH {
        return None;
    }
    let enough = (5.0 * usual.deviation).max(0.2 * usual.mean);
    let by = now.mean() - usual.mean;
    let by = if above { by } else { -by };
    match by / enough.max(f32::MIN_POSITIVE) {
        size if size >= 1.0 => Some(true),
        size if size >= 0.5 => None,
        _ => Some(false),
    }
}

/// More failures than three standard deviations of the usual number, and two percent points.
fn failing(now: Cell, usual: Slow, above: bool) -> Option<bool> {
    if now.count < 3 || usual.busy < ENOUGH {
        return None;
    }
    let expected = usual.errors * now.count as f32;
    let by = now.errors as f32 - expected;
    let by = if above { by } else { -by };
    let enough = (3.0 * (expected + 1.0).sqrt()).max(0.02 * now.count as f32);
    Some(by >= enough.min(now.count as f32 * 0.9))
}

/// A third more or less, if it is four standard deviations of a count (Poisson).
fn busier(now: Cell, ticks: u32, usual: Slow, above: bool) -> Option<bool> {
    let expected = usual.count * ticks as f32;
    if expected < 8.0 {
        return None;
    }
    let by = now.count as f32 - expected;
    let by = if above { by } else { -by };
    Some(
        by >= (4.0 * expected.sqrt())
            .max(expected / 3.0)
            .min(expected * 0.9),
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::model::{AttributeValue, Attributes};

    fn add(all: &mut Breakdown, instance: &str, version: &str, seconds: f64, error: bool) {
        let text = |name: &str, value: &str| (name.into(), AttributeValue::from(value));
        let resource = Resource {
            service: "shop".into(),
            attributes: Attributes::from_pairs([
                text("service.instance.id", instance),
                text("service.version", version),
            ]),
        };
        let cell = Cell::of((seconds * 1e9).round() as u64, error);
        all.add(&Sender::of(&resource), cell);
    }

    fn tick(number: i64) -> Timestamp {
        Timestamp::EPOCH.plus(Duration::from_secs(10 * number.unsigned_abs()))
    }

    /// Ten pods with 20 spans a tick each for 30 ticks, then five ticks that `later` makes of them.
    fn pods(later: impl Fn(usize) -> (u32, f64, bool)) -> History {
        let mut history = History::default();
        for number in 1..=35 {
            let mut breakdown = Breakdown::default();
            for pod in 0..10 {
                let calm = (20, 0.1 + 0.002 * (number % 3) as f64, false);
                let (count, seconds, error) = if number > 30 { later(pod) } else { calm };
                for _ in 0..count {
                    add(&mut breakdown, &format!("pod-{pod}"), "1.0", seconds, error);
                }
            }
            history.push(tick(number), breakdown);
        }
        history
    }

    #[track_caller]
    fn check(history: &History, aspect: Aspect, above: bool, expected: &[&str]) {
        let moves = history.moves(aspect, above, tick(31));
        let instances = moves.first().expect("instances");
        assert_eq!(
            (instances.attribute, instances.parts.len()),
            ("service.instance.id", 10)
        );
        let mut moved: Vec<&str> = instances
            .parts
            .iter()
            .filter(|part| part.moved == Some(true))
            .map(|part| &*part.value)
            .collect();
        moved.sort_unstable();
        assert_eq!(moved, expected, "{instances:?}");
    }

    #[test]
    fn one_bad_instance_of_ten_is_known_by_name() {
        let slow = |pod| (20, if pod == 7 { 0.5 } else { 0.1 }, false);
        check(&pods(slow), Aspect::Duration, true, &["pod-7"]);
        check(&pods(slow), Aspect::Errors, true, &[]);
        check(
            &pods(|pod| (20, 0.1, pod == 3)),
            Aspect::Errors,
            true,
            &["pod-3"],
        );
        let silent = |pod| (if pod == 5 { 0 } else { 20 }, 0.1, false);
        check(&pods(silent), Aspect::Rate, false, &["pod-5"]);
        check(&pods(silent), Aspect::Rate, true, &[]);
    }

    #[test]
    fn a_new_version_is_compared_with_what_was_usual_before() {
        let mut history = pods(|_| (20, 0.1, false));
        for number in 36..=38 {
            let mut breakdown = Breakdown::default();
            for _ in 0..20 {
                add(&mut breakdown, "pod-a", "1.0", 0.1, false);
                add(&mut breakdown, "pod-b", "2.0", 0.4, false);
            }
            history.push(tick(number), breakdown);
        }
        let moves = history.moves(Aspect::Duration, true, tick(36));
        let versions = moves.get(1).expect("versions");
        let mut seen: Vec<_> = versions
            .parts
            .iter()
            .map(|p| (&*p.value, p.moved))
            .collect();
        seen.sort_unstable();
        assert_eq!(seen, [("1.0", Some(false)), ("2.0", Some(true))]);
        // Nothing is said of a time that is over for long.
        assert!(history.moves(Aspect::Duration, true, tick(99)).is_empty());
    }

    #[test]
    fn thousands_of_instances_take_no_more_than_32() {
        let mut history = History::default();
        for number in 0..1_000 {
            let mut breakdown = Breakdown::default();
            for pod in 0..50 {
                let pod = format!("pod-{number}-{pod}");
                add(&mut breakdown, &pod, "1", 0.1, false);
            }
            history.push(tick(number), breakdown);
        }
        assert!(history.bytes() < 12_000, "{}", history.bytes());
        let moves = history.moves(Aspect::Rate, true, Timestamp::EPOCH);
        assert!(
            moves
                .first()
                .is_some_and(|moves| moves.sampled && moves.parts.len() == 32)
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn how_spans_are_split_and_ordered_changes_nothing(
            spans in prop::collection::vec((0u32..60, 0u32..4, 0u32..2), 1..200),
        ) {
            let gather = |spans: &mut dyn Iterator<Item = &(u32, u32, u32)>| {
                let mut all = Breakdown::default();
                for (instance, millis, error) in spans {
                    let (pod, version) = (instance.to_string(), (instance % 12).to_string());
                    add(&mut all, &pod, &version, f64::from(*millis) / 1e3, *error == 1);
                }
                all
            };
            let whole = gather(&mut spans.iter());
            let mut split = gather(&mut spans.iter().rev().filter(|s| s.1 == 0));
            split.merge(gather(&mut spans.iter().rev().filter(|s| s.1 != 0)));
            for (a, b) in whole.0.iter().zip(&split.0) {
                prop_assert_eq!(&a.parts, &b.parts);
                prop_assert_eq!(a.beyond, b.beyond);
            }
        }
    }
}
