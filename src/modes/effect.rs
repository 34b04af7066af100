//! Whether a step helped: the signals behind it, watched from the step on.
//!
//! In: the terms of the policy and the alerts behind the step as they were then; each tick the alerts as
//! they are, and how much time was watched. Out: at most one [`Effect`]. What always holds: it is judged by
//! the alerts' own numbers against what was expected when the step was taken, so that a baseline that
//! learns the incident makes nothing better; silence is neither better nor worse, and stops the clock; one
//! reading decides nothing.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{Alert, AlertState, Effect, EffectVerdict, Fingerprint, Timestamp};

/// Signals that are watched for one step; there are no more reasons.
const MAX_SIGNALS: usize = 20;
/// Readings that a judgement needs, and is the median of.
const READINGS: usize = 3;
/// The most time that one reading stands for: a signal that is heard of more rarely is watched for longer.
const LONGEST_READING: Duration = Duration::from_secs(60);
/// For so many readings after the step an incident that was growing is expected to go on growing as it did.
const TREND: u32 = 10;
/// A deviation is never told to be larger than this, in deviations at the step.
const LARGEST: f64 = 1e6;

/// What a policy says of the effect of its steps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Terms {
    /// A step that has had no effect for so long has none.
    pub(super) within: Duration,
    /// It has helped when the deviation is smaller by this share, above 0 to 1.
    pub(super) improved: f64,
    /// It does harm when the deviation is larger by this share, above 0.
    pub(super) worse: f64,
}

/// A step whose effect is not known yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Watch {
    terms: Terms,
    /// How long the signals have been heard of since the step.
    heard: Duration,
    /// How often.
    hearings: usize,
    /// Watched time since they were heard of last.
    since_heard: Duration,
    signals: Vec<Watched>,
}

/// How one alert stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Standing {
    Deviates,
    Resolved,
    /// Nothing is heard of it.
    Silent,
}

/// One alert behind the step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Watched {
    fingerprint: Fingerprint,
    /// How it was when the step was taken; `None`: its numbers are not ours to read.
    scale: Option<Scale>,
    /// The newest deviations in deviations at the step, the newest last.
    readings: VecDeque<f64>,
    /// How many readings there were.
    #[serde(default)]
    count: u32,
    /// How many of the newest, in a row, were worse than where it was going anyway.
    #[serde(default)]
    worse: u32,
    /// The alert's newest sample that was read.
    read_until: Timestamp,
    /// How many anomalous samples it had then.
    samples: u32,
    standing: Standing,
}

/// What readings of an alert are compared with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Scale {
    /// Numbers of another signal are not comparable.
    signal_id: String,
    expected: f64,
    /// Distance from there to the value observed, signed.
    deviation: f64,
    /// By how much the deviation grew from one anomalous sample to the next until the step, in deviations at
    /// the step; at least 0. An incident that develops is not the fault of the step taken against it.
    #[serde(default)]
    growth: f64,
}

impl Scale {
    fn of(alert: &Alert) -> Option<Self> {
        let deviation = alert.observed - alert.expected;
        // A detector may know that something is odd without a distance, as of a signal that is missing.
        let is_ours = alert.reported().is_none();
        (is_ours && deviation.is_normal()).then(|| {
            let mut scale = Self {
                signal_id: alert.signal_id.clone(),
                expected: alert.expected,
                deviation,
                growth: 0.0,
            };
            let nearest = if deviation > 0.0 {
                alert.grounds.least
            } else {
                alert.grounds.greatest
            };
            let from = nearest.and_then(|nearest| scale.ratio(nearest));
            let steps = f64::from(alert.anomalous_samples.saturating_sub(1).max(1));
            scale.growth = (1.0 - from.unwrap_or(1.0)).max(0.0) / steps;
            scale
        })
    }

    /// How far the signal would be at the `count`th reading after the step if it went on as before.
    fn foreseen(&self, count: u32) -> f64 {
        1.0 + self.growth * f64::from(count.min(TREND))
    }

    /// How far `value` is from what was expected, on the alert's side.
    fn ratio(&self, value: f64) -> Option<f64> {
        let ratio = (value - self.expected) / self.deviation;
        (!ratio.is_nan()).then(|| ratio.clamp(0.0, LARGEST))
    }
}

impl Watched {
    fn begin(alert: &Alert) -> Self {
        Self {
            fingerprint: alert.fingerprint,
            scale: Scale::of(alert),
            readings: VecDeque::new(),
            count: 0,
            worse: 0,
            read_until: alert.updated_at,
            samples: alert.anomalous_samples,
            standing: Standing::Deviates,
        }
    }

    /// Takes in how the alert is now. True if something was heard of it.
    fn read(&mut self, alert: Option<&Alert>, terms: &Terms) -> bool {
        let before = self.standing;
        let Some(alert) = alert else {
            // One that was resolved is forgotten after a while.
            if before == Standing::Deviates {
                self.standing = Standing::Silent;
            }
            return self.standing == Standing::Resolved;
        };
        match alert.state {
            AlertState::Resolved if alert.grounds.silent => self.standing = Standing::Silent,
            AlertState::Resolved => self.standing = Standing::Resolved,
            AlertState::Firing => self.standing = Standing::Deviates,
            // It was over, and does not count again before it fires.
            AlertState::Pending => {}
        }
        match self.standing {
            Standing::Deviates => {}
            Standing::Resolved => return true,
            Standing::Silent => return false,
        }
        if alert.reported().is_some() {
            // It goes on until the time that its system said, however rarely that reports it again.
            return true;
        }
        if alert.updated_at <= self.read_until {
            return false;
        }
        self.read_until = alert.updated_at;
        let is_anomalous = alert.anomalous_samples != self.samples;
        self.samples = alert.anomalous_samples;
        if let Some(ratio) = self.ratio(alert, is_anomalous) {
            self.readings.push_back(ratio);
            if self.readings.len() > READINGS {
                self.readings.pop_front();
            }
            self.count = self.count.saturating_add(1);
            let is_worse = ratio >= self.threshold(terms);
            self.worse = if is_worse {
                self.worse.saturating_add(1)
            } else {
                0
            };
        }
        true
    }

    fn ratio(&self, alert: &Alert, is_anomalous: bool) -> Option<f64> {
        let scale = self.scale.as_ref()?;
        if alert.signal_id != scale.signal_id {
            return None;
        }
        if is_anomalous {
            return scale.ratio(alert.observed);
        }
        // The alert keeps the value of its newest anomalous sample. This one lies within the band, so that
        // it is no farther than the band's end.
        let end = if scale.deviation > 0.0 {
            alert.upper
        } else {
            alert.lower
        };
        let last = self.readings.back().copied().unwrap_or(1.0);
        Some(scale.ratio(end)?.min(last))
    }

    /// The deviation now in deviations at the step; `None`: nothing is heard of it.
    fn deviation(&self) -> Option<f64> {
        match self.standing {
            Standing::Silent => None,
            Standing::Resolved => Some(0.0),
            Standing::Deviates if self.readings.is_empty() => Some(1.0),
            Standing::Deviates => {
                let mut sorted: Vec<f64> = self.readings.iter().copied().collect();
                sorted.sort_by(f64::total_cmp);
                sorted.get(sorted.len() / 2).copied()
            }
        }
    }

    /// Whether there is enough to go by.
    fn is_ready(&self) -> bool {
        self.standing != Standing::Deviates
            || self.scale.is_none()
            || self.readings.len() >= READINGS
    }

    /// From where on a reading says that the step did harm.
    fn threshold(&self, terms: &Terms) -> f64 {
        let scale = self.scale.as_ref();
        (1.0 + terms.worse) * scale.map_or(1.0, |scale| scale.foreseen(self.count))
    }

    fn is_worse(&self) -> bool {
        self.standing == Standing::Deviates && self.worse as usize >= READINGS
    }
}

impl Watch {
    /// Begins with the step. `alerts` are those behind it; there should be one at least.
    pub(super) fn begin<'a>(terms: Terms, alerts: impl IntoIterator<Item = &'a Alert>) -> Self {
        Self {
            terms,
            heard: Duration::ZERO,
            hearings: 0,
            since_heard: Duration::ZERO,
            signals: alerts
                .into_iter()
                .take(MAX_SIGNALS)
                .map(Watched::begin)
                .collect(),
        }
    }

    /// Takes in the alerts as they are after `elapsed` of watched time. The effect, once it is known; it is
    /// not to be called any more then.
    pub(super) fn read<'a>(
        &mut self,
        now: Timestamp,
        elapsed: Duration,
        alert: impl Fn(Fingerprint) -> Option<&'a Alert>,
    ) -> Option<Effect> {
        self.since_heard = self
            .since_heard
            .saturating_add(elapsed)
            .min(LONGEST_READING);
        let mut is_heard = false;
        for signal in &mut self.signals {
            is_heard |= signal.read(alert(signal.fingerprint), &self.terms);
        }
        if !is_heard {
            return None;
        }
        let since_heard = std::mem::take(&mut self.since_heard);
        self.heard = self.heard.saturating_add(since_heard);
        self.hearings = self.hearings.saturating_add(1);
        let after = self.after()?;
        let verdict = self.verdict(after)?;
        let left = format!("{:.0} % of what it was at the step", after * 100.0);
        let heard = words(self.heard);
        let sentence = match verdict {
            EffectVerdict::Improved if after == 0.0 => {
                format!("what it was for is over after {heard}")
            }
            EffectVerdict::Improved => format!("after {heard} the deviation is {left}"),
            EffectVerdict::Worse => {
                format!("after {heard} the deviation is {left}: the step did harm")
            }
            EffectVerdict::NoEffect | EffectVerdict::Watching | EffectVerdict::Unknown => {
                format!("after {heard} the deviation is still {left}")
            }
        };
        Some(self.effect(verdict, Some(after), now, sentence))
    }

    /// The effect where it cannot be known any more; `because` is a clause.
    pub(super) fn close(&self, now: Timestamp, because: &str) -> Effect {
        let sentence = format!("not known: {because}");
        self.effect(EffectVerdict::Unknown, self.after(), now, sentence)
    }

    /// The alerts that are watched.
    pub(super) fn alerts(&self) -> impl Iterator<Item = Fingerprint> {
        self.signals.iter().map(|signal| signal.fingerprint)
    }

    /// What is known while it is watched.
    pub(super) fn so_far(&self) -> Effect {
        Effect {
            verdict: EffectVerdict::Watching,
            before: self.before(),
            after: None,
            judged_at: None,
            sentence: String::new(),
        }
    }

    fn effect(
        &self,
        verdict: EffectVerdict,
        after: Option<f64>,
        now: Timestamp,
        sentence: String,
    ) -> Effect {
        let before = self.before();
        Effect {
            verdict,
            before,
            // Where nothing can be read there is no more than firing and resolved.
            after: after.filter(|_| before.is_some()),
            judged_at: Some(now),
            sentence,
        }
    }

    fn before(&self) -> Option<f64> {
        let can_read = self.signals.iter().any(|signal| signal.scale.is_some());
        can_read.then_some(1.0)
    }

    /// Mean of the deviations that are known, in deviations at the step.
    fn after(&self) -> Option<f64> {
        let known: Vec<f64> = self.signals.iter().filter_map(Watched::deviation).collect();
        (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
    }

    fn verdict(&self, after: f64) -> Option<EffectVerdict> {
        if self.signals.iter().any(Watched::is_worse) {
            return Some(EffectVerdict::Worse);
        }
        let is_ready = self.signals.iter().all(Watched::is_ready);
        if is_ready && after < 1.0 && after <= 1.0 - self.terms.improved {
            return Some(EffectVerdict::Improved);
        }
        if self.heard < self.terms.within || self.hearings < READINGS {
            return None;
        }
        let is_worse = |signal: &Watched| {
            signal.is_ready() && signal.deviation() >= Some(signal.threshold(&self.terms))
        };
        Some(if self.signals.iter().any(is_worse) {
            EffectVerdict::Worse
        } else {
            EffectVerdict::NoEffect
        })
    }
}

/// A length of time for people: `45s`, `2m10s`, `1h5m`.
pub(super) fn words(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes, seconds) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, 0) => format!("{minutes}m"),
        (0, minutes, seconds) => format!("{minutes}m{seconds}s"),
        (hours, 0, _) => format!("{hours}h"),
        (hours, minutes, _) => format!("{hours}h{minutes}m"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Reported;
    use crate::modes::fixtures::{alert, secs};

    const TERMS: Terms = Terms {
        within: Duration::from_secs(100),
        improved: 0.3,
        worse: 0.5,
    };

    fn firing(observed: f64) -> Alert {
        Alert {
            observed,
            expected: 10.0,
            lower: 8.0,
            upper: 14.0,
            ..alert("Slow", "cart", AlertState::Firing)
        }
    }

    /// A step at a deviation of 20 above 10; then every ten seconds a reading: a number is an anomalous
    /// value, `calm` one within the band, `-` none, `resolved`, `silent` and `gone` ends.
    fn play(begin: &Alert, terms: Terms, readings: &str) -> (usize, Option<Effect>) {
        let mut watch = Watch::begin(terms, [begin]);
        let mut alert = Some(begin.clone());
        for (at, reading) in readings.split_whitespace().enumerate() {
            let now = Timestamp::from_secs(100 + 10 * at as i64);
            if let Some(alert) = &mut alert {
                match reading {
                    "-" => {}
                    "resolved" => {
                        (alert.state, alert.grounds.silent) = (AlertState::Resolved, false);
                    }
                    "silent" => {
                        (alert.state, alert.grounds.silent) = (AlertState::Resolved, true);
                    }
                    "gone" => {}
                    "calm" => alert.updated_at = now,
                    value => {
                        alert.observed = value.parse().expect("a number");
                        (alert.updated_at, alert.anomalous_samples) =
                            (now, alert.anomalous_samples + 1);
                    }
                }
            }
            if reading == "gone" {
                alert = None;
            }
            let saved = serde_json::to_vec(&watch).expect("it is finite");
            watch = serde_json::from_slice(&saved).expect("it was written like this");
            let effect = watch.read(now, secs(10), |_| alert.as_ref());
            if effect.is_some() {
                return (at + 1, effect);
            }
        }
        (readings.split_whitespace().count(), None)
    }

    #[track_caller]
    fn check(readings: &str, expected: Option<(usize, EffectVerdict, &str)>) {
        let (at, effect) = play(&firing(30.0), TERMS, readings);
        let seen = effect
            .as_ref()
            .map(|e| (at, e.verdict, e.sentence.as_str()));
        assert_eq!(seen, expected, "{readings}");
    }

    use EffectVerdict::{Improved, NoEffect, Worse};

    #[test]
    fn a_step_is_judged_by_the_distance_from_what_was_expected_at_the_step() {
        let half = "after 30s the deviation is 50 % of what it was at the step";
        check("20 20 20", Some((3, Improved, half)));
        // One reading decides nothing, in neither direction.
        check("30 20 30 30 20 30", None);
        check("30 99 30 99 99 30", None);
        let harm = "after 30s the deviation is 155 % of what it was at the step: the step did harm";
        check("39 41 42", None);
        check("41 41 42", Some((3, Worse, harm)));
        let same = "after 1m40s the deviation is still 100 % of what it was at the step";
        check(&"30 ".repeat(12), Some((10, NoEffect, same)));
        check(
            "resolved",
            Some((1, Improved, "what it was for is over after 10s")),
        );
        // On the other side of what was expected there is nothing left of it.
        let over = "what it was for is over after 30s";
        check("5 5 5", Some((3, Improved, over)));
    }

    #[test]
    fn an_incident_that_grows_as_it_did_before_the_step_is_not_called_its_harm() {
        let grown = |least| {
            let mut alert = firing(30.0);
            alert.anomalous_samples = 3;
            alert.grounds.least = Some(least);
            alert
        };
        let verdict = |begin: &Alert, readings: &str| {
            let (at, effect) = play(begin, TERMS, readings);
            (at, effect.map(|effect| effect.verdict))
        };
        // From 15 to 30 in two steps, and on like that.
        let going_on = "38 45 52 60 68 75 82 90 98 105";
        assert_eq!(verdict(&grown(15.0), going_on), (10, Some(NoEffect)));
        // What was level before, or grows far faster than before, was not like that.
        assert_eq!(verdict(&grown(30.0), going_on), (4, Some(Worse)));
        assert_eq!(verdict(&grown(15.0), "70 90 110"), (3, Some(Worse)));
        // A trend is not believed for ever.
        let slow = Terms {
            within: secs(600),
            ..TERMS
        };
        let (at, effect) = play(&grown(15.0), slow, &"200 ".repeat(20));
        assert_eq!((at, effect.map(|e| e.verdict)), (3, Some(Worse)));
    }

    #[test]
    fn what_is_within_the_band_is_no_farther_than_its_end() {
        let calm = "after 30s the deviation is 20 % of what it was at the step";
        check("calm calm calm", Some((3, Improved, calm)));
    }

    #[test]
    fn silence_is_neither_better_nor_worse_and_stops_the_clock() {
        check(&"- ".repeat(1000), None);
        check(&"silent ".repeat(1000), None);
        check(&"gone ".repeat(1000), None);
        // Five readings after it, with a minute of the silence.
        let text = format!("{} {}", "- ".repeat(1000), "30 ".repeat(6));
        let same = "after 1m40s the deviation is still 100 % of what it was at the step";
        check(&text, Some((1005, NoEffect, same)));
        check(
            "30 silent resolved",
            Some((3, Improved, "what it was for is over after 30s")),
        );
    }

    #[test]
    fn alerts_of_others_are_judged_by_firing_and_resolved() {
        let mut theirs = firing(30.0);
        theirs.grounds.reported = Some(Reported {
            annotations: Default::default(),
            generator_url: String::new(),
            ends_at: Timestamp::from_secs(1),
            is_timeout: false,
            is_held: false,
        });
        let (at, effect) = play(&theirs, TERMS, &"99 ".repeat(20));
        let effect = effect.expect("the time is over");
        assert_eq!((at, effect.verdict), (10, NoEffect));
        assert_eq!((effect.before, effect.after), (None, None));
        // It goes on until its system says otherwise, however rarely that is heard of.
        let (at, effect) = play(&theirs, TERMS, &"- ".repeat(20));
        assert_eq!((at, effect.map(|e| e.verdict)), (10, Some(NoEffect)));
        let (at, effect) = play(&theirs, TERMS, "99 resolved");
        assert_eq!((at, effect.map(|e| e.verdict)), (2, Some(Improved)));
    }

    #[test]
    fn several_alerts_count_by_their_mean_and_any_can_show_harm() {
        let named = |name: &str, observed| Alert {
            fingerprint: alert(name, "cart", AlertState::Firing).fingerprint,
            ..firing(observed)
        };
        let play = |slow: f64, broken: f64| {
            let mut alerts = [named("Slow", 30.0), named("Broken", 30.0)];
            let mut watch = Watch::begin(TERMS, &alerts);
            for at in 1..=3 {
                for (alert, observed) in alerts.iter_mut().zip([slow, broken]) {
                    alert.observed = observed;
                    alert.anomalous_samples += 1;
                    alert.updated_at = Timestamp::from_secs(100 + at);
                }
                let find = |f| alerts.iter().find(|alert| alert.fingerprint == f);
                if let Some(effect) = watch.read(Timestamp::from_secs(100 + at), secs(10), find) {
                    return Some((effect.verdict, effect.after));
                }
            }
            None
        };
        assert_eq!(play(20.0, 20.0), Some((Improved, Some(0.5))));
        assert_eq!(play(10.0, 30.0), Some((Improved, Some(0.5))));
        assert_eq!(play(25.0, 30.0), None);
        assert_eq!(play(10.0, 40.0), Some((Worse, Some(0.75))));
    }

    #[test]
    fn lengths_of_time_read_well() {
        for (seconds, expected) in [
            (0, "0s"),
            (60, "1m"),
            (130, "2m10s"),
            (3660, "1h1m"),
            (7200, "2h"),
        ] {
            assert_eq!(words(secs(seconds)), expected);
        }
    }

    proptest! {
        #[test]
        fn whatever_is_read_a_judgement_is_finite_and_comes_in_time(
            begin in prop::num::f64::ANY,
            values in prop::collection::vec((prop::num::f64::ANY, any::<bool>(), any::<bool>()), 12..40),
        ) {
            let finite = |v: f64| if v.is_nan() { 0.0 } else { v.clamp(f64::MIN, f64::MAX) };
            let mut alert = firing(finite(begin));
            let mut watch = Watch::begin(TERMS, [&alert]);
            let mut heard = 0;
            for (at, (value, anomalous, fresh)) in values.into_iter().enumerate() {
                let now = Timestamp::from_secs(100 + at as i64);
                if fresh {
                    alert.updated_at = now;
                    alert.anomalous_samples += u32::from(anomalous);
                    alert.observed = finite(value);
                }
                heard += u32::from(fresh);
                if let Some(effect) = watch.read(now, secs(10), |_| Some(&alert)) {
                    prop_assert!(heard >= 3);
                    prop_assert!(effect.after.is_none_or(|after| (0.0..=LARGEST).contains(&after)));
                    let worse = effect.after.is_some_and(|after| after >= 1.5);
                    prop_assert_eq!(effect.verdict == Worse, worse);
                    return Ok(());
                }
                prop_assert!(heard < 10);
                let saved = serde_json::to_vec(&watch).expect("it is finite");
                let read: Watch = serde_json::from_slice(&saved).expect("it was written like this");
                prop_assert_eq!(&read, &watch);
            }
        }
    }
}
