//! Whether automation sees enough to act, and how much time it has watched.

use std::collections::VecDeque;
use std::time::Duration;

use super::machine::MAX_STEP;
use super::settings::Settings;
use crate::model::Timestamp;

/// Fewer ticks with data say nothing, however long they are.
const MIN_TICKS: u32 = 3;
/// A clock that is put right by less has not jumped.
const MAX_BACK: Duration = Duration::from_secs(1);
/// So many gaps between ticks with data tell how often data comes.
const GAPS: usize = 16;
/// Clients that send more rarely are not waited for: export intervals are some ten seconds, mostly.
const MAX_GAP: Duration = Duration::from_mins(5);
/// Data that stays away for so many of the usual gaps has ceased.
const CEASED: u32 = 2;

/// What the machine knows of time and data.
#[derive(Debug, Clone)]
pub(super) struct Sight {
    settle: Duration,
    tick: Duration,
    /// The time of the last input.
    pub(super) last: Option<Timestamp>,
    /// A clock that only advances while somebody watches: not over a restart, a jump, or while blind.
    /// Holds, recoveries and silences count on it.
    pub(super) watched: Option<Timestamp>,
    blind: Option<Blind>,
    ticked_at: Option<Timestamp>,
    fed_at: Option<Timestamp>,
    /// Between the newest ticks with data.
    gaps: VecDeque<Duration>,
}

#[derive(Debug, Clone)]
struct Blind {
    cause: &'static str,
    /// How much time with data there has been since, in how many ticks.
    seen: Duration,
    ticks: u32,
}

impl Blind {
    fn because(cause: &'static str) -> Self {
        Self {
            cause,
            seen: Duration::ZERO,
            ticks: 0,
        }
    }
}

impl Sight {
    /// Of a machine that has just started.
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            settle: settings.settle,
            tick: settings.tick,
            last: None,
            watched: None,
            blind: Some(Blind::because("it has just started")),
            ticked_at: None,
            fed_at: None,
            gaps: VecDeque::new(),
        }
    }

    /// The present time on the clock of what was watched.
    pub(super) fn watched(&self) -> Timestamp {
        self.watched.unwrap_or(Timestamp::EPOCH)
    }

    /// The time of the wall at which the clock of what was watched shows `due`, if nothing intervenes; never
    /// farther away than [`MAX_STEP`].
    pub(super) fn at(&self, due: Timestamp) -> Option<Timestamp> {
        let wait = due.since(self.watched()).min(MAX_STEP);
        Some(self.last?.plus(wait))
    }

    pub(super) fn is_blind(&self) -> bool {
        self.blind.is_some()
    }

    /// Why automation may not act; `None`: it may.
    pub(super) fn why_blind(&self) -> Option<String> {
        let blind = self.blind.as_ref()?;
        Some(format!(
            "{}: {} s with data in {} ticks seen since, {} s in {MIN_TICKS} are needed",
            blind.cause,
            blind.seen.as_secs(),
            blind.ticks,
            self.settle.as_secs(),
        ))
    }

    /// Lets the clock advance to `now`.
    pub(super) fn pass_to(&mut self, now: Timestamp) {
        let last = self.last.replace(now);
        let watched = self.watched.get_or_insert(now);
        self.ticked_at.get_or_insert(now);
        let Some(last) = last else {
            return;
        };
        let ahead = now.since(last);
        if ahead > MAX_STEP.max(self.tick.saturating_mul(2)) || last.since(now) > MAX_BACK {
            self.blind = Some(Blind::because("the clock has jumped"));
            self.ticked_at = Some(now);
            self.fed_at = None;
        } else if self.blind.is_none() {
            *watched = watched.plus(ahead);
        }
    }

    /// A tick has ended in which data came or not; the clock has advanced to it.
    pub(super) fn look(&mut self, now: Timestamp, fed: bool) {
        let ticked = self.ticked_at.replace(now);
        if !fed {
            let usual = self.usual_gap().max(self.tick);
            let hungry = self.fed_at.is_none_or(|at| now.since(at) >= usual * CEASED);
            if hungry && self.blind.is_none() {
                self.blind = Some(Blind::because("no data has come for a while"));
            }
            return;
        }
        if let Some(before) = self.fed_at.replace(now) {
            if self.gaps.len() == GAPS {
                self.gaps.pop_front();
            }
            self.gaps.push_back(now.since(before).min(MAX_GAP));
        }
        let Some(blind) = &mut self.blind else {
            return;
        };
        let tick = ticked.map_or(Duration::ZERO, |at| now.since(at));
        blind.seen = blind.seen.saturating_add(tick.min(self.tick));
        blind.ticks = blind.ticks.saturating_add(1);
        if blind.ticks >= MIN_TICKS && blind.seen >= self.settle {
            self.blind = None;
        }
    }

    /// The ninth of ten gaps: clients that export every minute are not silent in between.
    fn usual_gap(&self) -> Duration {
        let mut sorted: Vec<_> = self.gaps.iter().copied().collect();
        sorted.sort_unstable();
        let ninth = sorted.len().saturating_sub(1) * 9 / 10;
        sorted.get(ninth).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets the ticks pass, `x` with data and `.` without, and says in which of them automation may act
    /// (`A`) or is blind (`-`).
    #[track_caller]
    fn check(sight: &mut Sight, seconds: &mut i64, every: i64, ticks: &str, expected: &str) {
        let mut shown = String::new();
        for tick in ticks.chars() {
            *seconds += every;
            let now = Timestamp::from_secs(*seconds);
            sight.pass_to(now);
            sight.look(now, tick == 'x');
            shown.push(if sight.is_blind() { '-' } else { 'A' });
        }
        assert_eq!(shown, expected, "{ticks}");
    }

    fn fresh() -> (Sight, i64) {
        let mut sight = Sight::new(&Settings::default());
        sight.look(Timestamp::from_secs(0), false);
        (sight, 0)
    }

    #[test]
    fn automation_acts_once_it_has_seen_enough_and_not_without_data() {
        let (mut sight, mut at) = fresh();
        check(&mut sight, &mut at, 10, "xxxx..x.xx", "--AAA----A");
        let watched = sight.watched();
        check(&mut sight, &mut at, 10, "......", "AAA---");
        // What went before counts: that it was too long is known only now.
        assert_eq!(sight.watched(), watched.plus(Duration::from_secs(40)));
    }

    #[test]
    fn data_that_comes_once_a_minute_is_no_silence() {
        let (mut sight, mut at) = fresh();
        let minute = "x.....";
        check(
            &mut sight,
            &mut at,
            10,
            &minute.repeat(3),
            "------------AAAAAA",
        );
        check(&mut sight, &mut at, 10, &minute.repeat(2), "AAAAAAAAAAAA");
        check(&mut sight, &mut at, 10, "........", "AAAAAA--");
    }

    #[test]
    fn jumps_blind_and_are_not_counted() {
        let (mut sight, mut at) = fresh();
        check(&mut sight, &mut at, 10, "xxx", "--A");
        let watched = sight.watched();
        at += 1_000;
        check(&mut sight, &mut at, 10, "xxxx", "---A");
        at -= 1_000;
        check(&mut sight, &mut at, 10, "xxxx", "---A");
        assert_eq!(sight.watched(), watched);
        assert_eq!(sight.why_blind(), None);
        for end in [i64::MIN, i64::MAX] {
            sight.pass_to(Timestamp::from_nanos(end));
            let why = sight.why_blind().unwrap();
            assert!(why.starts_with("the clock has jumped: 0 s"), "{why}");
        }
    }
}
