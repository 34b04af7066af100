//! A deviation in words that a person believes: how many times, how long, and how unheard-of.

use std::time::Duration;

use super::quantity::Style;
use super::recommendation::Side;
use crate::model::{Alert, AlertState, Measure, Rule, Timestamp};

/// Below this ratio to the usual value a share of it is said, from it on how many times it is.
const TIMES_FROM: f64 = 2.0;
/// Above this ratio to the usual value a lesser one is said as a share less, below it as a fraction.
const FRACTION_BELOW: f64 = 0.67;
/// Below this ratio a value is next to nothing.
const NOTHING_BELOW: f64 = 0.04;
/// A difference of shares up to this is said in percentage points, if it is small beside the usual.
const POINTS_UP_TO: f64 = 0.2;
/// Nobody is impressed by "never" of less.
const LEAST_HISTORY: Duration = Duration::from_secs(600);

/// The deviation in one sentence without its full stop: `p99 of POST /pay (server) of checkout has been
/// 3 to 4 times its usual 120 ms for 40 s; never this high in the 6 days seen`.
pub(super) fn sentence(rule: &Rule, alert: &Alert, subject: &str, style: Style<'_>) -> String {
    let grounds = &alert.grounds;
    let over = alert.state == AlertState::Resolved;
    let lasted = grounds
        .anomalous_until
        .map_or(Duration::ZERO, |until| until.since(alert.since));
    let for_so_long = match lasted {
        Duration::ZERO => String::new(),
        lasted => format!(" for {}", duration(lasted)),
    };
    let is = match (over, lasted.is_zero()) {
        (true, _) => "was",
        (false, true) => "is",
        (false, false) => "has been",
    };
    match grounds.measure {
        Measure::Value => {
            let change = Change::of(alert, style);
            format!(
                "{subject} {is} {}{for_so_long}{}{}",
                change.text,
                change.usual,
                never(alert, change.side)
            )
        }
        Measure::Silence => {
            let sent = if over { "had sent" } else { "has sent" };
            let usual = match alert.expected {
                usual if usual > 0.0 => format!(", usually every {}", seconds(usual)),
                _ => String::new(),
            };
            let silent = grounds
                .greatest
                .unwrap_or(alert.observed)
                .max(alert.observed);
            format!("{subject} {sent} nothing for {}{usual}", seconds(silent))
        }
        Measure::BurnRate => {
            let times = times(alert.observed);
            let (misses, is) = if over {
                ("missed", "was")
            } else {
                ("misses", "is")
            };
            let now = now(alert).filter(|_| !over);
            let now = now.map_or(String::new(), |now| format!(", with {now} now"));
            format!(
                "{subject} {misses} its objective{now}: the error budget {is} used up {times} times faster \
                 than allowed"
            )
        }
        Measure::TimeLeft => {
            let (upper, lower) = (rule.detector.upper, rule.detector.lower);
            let limit = if runs_out(rule, alert) { lower } else { upper };
            let signal = alert.labels.get("signal").unwrap_or_default();
            let limit = limit.map(|limit| {
                let style = Style::of_signal(signal, &grounds.signal_unit, &[limit]);
                format!(" of {}", style.value(limit))
            });
            let limit = limit.unwrap_or_default();
            match (over, alert.observed > 0.0) {
                (false, true) => {
                    let now = now(alert).map_or(String::new(), |now| format!(", with {now} now"));
                    format!(
                        "{subject} reaches its limit{limit} in {}{now}",
                        seconds(alert.observed)
                    )
                }
                (true, true) => format!("{subject} was heading for its limit{limit}"),
                (_, false) => format!(
                    "{subject} {} its limit{limit}",
                    if over { "had reached" } else { "has reached" }
                ),
            }
        }
    }
}

/// The value that the signal itself has, where another number was judged.
fn now(alert: &Alert) -> Option<String> {
    let signal = alert.labels.get("signal").unwrap_or_default();
    let present = alert.grounds.present?;
    Some(Style::of_signal(signal, &alert.grounds.signal_unit, &[present]).value(present))
}

/// Whether what a forecast is about gets less, rather than full.
pub(super) fn runs_out(rule: &Rule, alert: &Alert) -> bool {
    let falls = || {
        let words = alert.annotations.get("baseline");
        words.is_some_and(|words| words.starts_with("falling"))
    };
    rule.detector.lower.is_some() && (rule.detector.upper.is_none() || falls())
}

/// `; never this high in the 6 days seen`.
fn never(alert: &Alert, side: Side) -> String {
    let history = Duration::from_secs(alert.grounds.history_seconds);
    if !alert.grounds.never_seen || history < LEAST_HISTORY {
        return String::new();
    }
    let this = match side {
        Side::Above => "high",
        Side::Below => "low",
    };
    format!("; never this {this} in the {} seen", duration(history))
}

/// What a number has become.
struct Change {
    text: String,
    /// `, usually 120 ms`, where the text does not say it.
    usual: String,
    side: Side,
}

impl Change {
    fn of(alert: &Alert, style: Style<'_>) -> Self {
        let (usual, side) = (alert.expected, Side::of(alert.observed - alert.expected));
        let grounds = &alert.grounds;
        // An episode may have been on both sides; what is said is of the side that it is on now.
        let bound = |value: Option<f64>| match (value, side) {
            (None, _) => alert.observed,
            (Some(value), Side::Above) => value.max(usual.min(alert.observed)),
            (Some(value), Side::Below) => value.min(usual.max(alert.observed)),
        };
        let (low, high) = (bound(grounds.least), bound(grounds.greatest));
        let told = match style {
            Style::Share => points(low, high, usual, side),
            _ if usual > 0.0 && low >= 0.0 => match side {
                Side::Above => more(low / usual, high / usual),
                Side::Below => less(low / usual, high / usual),
            },
            _ => None,
        };
        let (text, usual) = match told {
            Some(told) => (
                format!("{told} its usual {}", style.value(usual)),
                String::new(),
            ),
            None => {
                let at = if side == Side::Below && usual > 0.0 && low >= 0.0 {
                    format!("down to {}", style.value(low))
                } else {
                    format!("at {}", between(low, high, style))
                };
                (at, format!(", usually {}", style.value(usual)))
            }
        };
        Self { text, usual, side }
    }
}

fn between(low: f64, high: f64, style: Style<'_>) -> String {
    let (from, to) = (style.value(low), style.value(high));
    match style.range(low, high) {
        Some(range) if from != to => range,
        _ => to,
    }
}

/// `3 to 5 percentage points above`, of a share that is large and has changed little.
fn points(low: f64, high: f64, usual: f64, side: Side) -> Option<String> {
    let (near, far) = match side {
        Side::Above => (low - usual, high - usual),
        Side::Below => (usual - high, usual - low),
    };
    if far > POINTS_UP_TO || far > usual / 2.0 {
        return None;
    }
    let points = |share: f64| Style::Plain("").value(share * 100.0);
    let (near, far) = (points(near), points(far));
    let points = if near == far {
        far
    } else {
        format!("{near} to {far}")
    };
    Some(format!("{points} percentage points {}", side.name()))
}

/// `3 to 4 times`, `30 to 80 % above`.
fn more(low: f64, high: f64) -> Option<String> {
    if !high.is_finite() {
        return None;
    }
    if high < TIMES_FROM {
        return percent(low - 1.0, high - 1.0).map(|percent| format!("{percent} % above"));
    }
    let (from, to) = (times(low), times(high));
    Some(if from == to {
        format!("{to} times")
    } else {
        format!("{from} to {to} times")
    })
}

/// `a third of`, `a quarter to half of`, `20 to 30 % below`; `None` where it is next to nothing.
fn less(low: f64, high: f64) -> Option<String> {
    if high > FRACTION_BELOW {
        return percent(1.0 - high, 1.0 - low).map(|percent| format!("{percent} % below"));
    }
    if high < NOTHING_BELOW {
        return None;
    }
    let to = fraction(high);
    if low < NOTHING_BELOW {
        return Some(format!("at most {to} of"));
    }
    let from = fraction(low);
    Some(if from == to {
        format!("about {to} of")
    } else {
        format!("{from} to {to} of")
    })
}

/// `20 to 30`; `None` where it rounds to nothing.
fn percent(from: f64, to: f64) -> Option<String> {
    let round = |share: f64| (share * 100.0).round().max(0.0);
    let (from, to) = (round(from), round(to));
    match (from, to) {
        (_, 0.0) => None,
        (from, to) if from == to => Some(format!("{to}")),
        (from, to) => Some(format!("{from} to {to}")),
    }
}

/// `3`, `2.5`, `15`, `more than 100`.
pub(super) fn times(ratio: f64) -> String {
    match ratio {
        _ if ratio > 100.0 => "more than 100".into(),
        _ if ratio >= 9.5 => format!("{ratio:.0}"),
        _ => {
            let text = format!("{ratio:.1}");
            text.strip_suffix(".0").unwrap_or(&text).to_owned()
        }
    }
}

fn fraction(ratio: f64) -> &'static str {
    const NAMES: [(f64, &str); 6] = [
        (0.05, "a twentieth"),
        (0.1, "a tenth"),
        (0.2, "a fifth"),
        (0.25, "a quarter"),
        (1.0 / 3.0, "a third"),
        (0.5, "half"),
    ];
    let distance = |of: f64| (ratio / of).ln().abs();
    NAMES
        .into_iter()
        .min_by(|a, b| distance(a.0).total_cmp(&distance(b.0)))
        .map_or("part", |(_, name)| name)
}

/// So many seconds, as [`duration`] says them.
pub(super) fn seconds(seconds: f64) -> String {
    duration(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

/// A length of time with at most two units: `40 s`, `3 min`, `2 h 5 min`, `6 days`.
pub(super) fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600, seconds / 60);
    let with = |first: String, rest: u64, unit: &str| match rest {
        0 => first,
        rest => format!("{first} {rest} {unit}"),
    };
    match seconds {
        0..1 => format!("{} ms", time.as_millis()),
        1..120 => format!("{seconds} s"),
        120..600 => with(format!("{minutes} min"), seconds % 60, "s"),
        600..7_200 => format!("{minutes} min"),
        7_200..86_400 => with(format!("{hours} h"), minutes % 60, "min"),
        86_400..172_800 => with("1 day".to_owned(), hours % 24, "h"),
        _ => format!("{days} days"),
    }
}

/// `12:00:05Z`, with the date where it is another day than that of `near`.
pub(super) fn clock(time: Timestamp, near: Timestamp) -> String {
    let seconds =
        |time: Timestamp| Timestamp::from_secs(time.as_nanos().div_euclid(1_000_000_000)).rfc3339();
    let (text, near) = (seconds(time), seconds(near));
    match (text.split_once('T'), near.split_once('T')) {
        (Some((day, time)), Some((today, _))) if day == today => time.to_owned(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::fixtures::{alert, rule};

    /// Values of an episode whose newest is the last, by what was usual.
    #[track_caller]
    fn check(signal: &str, unit: &str, usual: f64, values: &[f64], expected: &str) {
        let mut alert = alert("shop");
        alert.labels.set("signal", signal);
        alert.unit = unit.into();
        alert.expected = usual;
        alert.observed = values.last().copied().expect("a value");
        alert.grounds.least = values.iter().copied().reduce(f64::min);
        alert.grounds.greatest = values.iter().copied().reduce(f64::max);
        let until = 10 * (values.len() as u64 - 1);
        alert.grounds.anomalous_until = Some(alert.since.plus(Duration::from_secs(until)));
        let style = Style::of_signal(signal, &alert.unit, &[alert.observed, alert.expected]);
        assert_eq!(sentence(&rule(), &alert, "it", style), expected);
    }

    #[test]
    fn latencies_are_said_in_times_of_the_usual() {
        check("p99", "s", 0.12, &[0.36], "it is 3 times its usual 120 ms");
        check(
            "p99",
            "s",
            0.12,
            &[0.36, 0.48, 0.40],
            "it has been 3 to 4 times its usual 120 ms for 20 s",
        );
        check(
            "p99",
            "ms",
            120.0,
            &[180.0, 210.0],
            "it has been 50 to 75 % above its usual 120 ms for 10 s",
        );
        check(
            "p99",
            "s",
            0.12,
            &[0.2, 0.3],
            "it has been 1.7 to 2.5 times its usual 120 ms for 10 s",
        );
        check(
            "p99",
            "s",
            0.01,
            &[30.0],
            "it is more than 100 times its usual 10 ms",
        );
        check("p99", "s", 0.1, &[1.53], "it is 15 times its usual 100 ms");
        check(
            "p99",
            "s",
            0.1,
            &[0.1001],
            "it is at 100 ms, usually 100 ms",
        );
    }

    #[test]
    fn low_values_are_said_in_parts_of_the_usual() {
        check(
            "rate",
            "1/s",
            120.0,
            &[41.0],
            "it is about a third of its usual 120/s",
        );
        check(
            "rate",
            "1/s",
            120.0,
            &[30.0, 58.0],
            "it has been a quarter to half of its usual 120/s for 10 s",
        );
        check(
            "rate",
            "1/s",
            120.0,
            &[90.0, 96.0],
            "it has been 20 to 25 % below its usual 120/s for 10 s",
        );
        check(
            "rate",
            "1/s",
            120.0,
            &[0.0],
            "it is down to 0/s, usually 120/s",
        );
        check(
            "rate",
            "1/s",
            120.0,
            &[0.0, 40.0],
            "it has been at most a third of its usual 120/s for 10 s",
        );
    }

    #[test]
    fn shares_are_said_as_such_or_in_points() {
        check(
            "error_ratio",
            "1",
            0.01,
            &[0.12, 0.25],
            "it has been at 12 to 25 % for 10 s, usually 1 %",
        );
        check(
            "error_ratio",
            "1",
            0.0,
            &[0.12],
            "it is at 12 %, usually 0 %",
        );
        check(
            "value",
            "1",
            0.45,
            &[0.48, 0.5],
            "it has been 3 to 5 percentage points above its usual 45 % for 10 s",
        );
        check(
            "value",
            "1",
            0.99,
            &[0.97],
            "it is 2 percentage points below its usual 99 %",
        );
    }

    #[test]
    fn values_around_zero_have_no_ratio() {
        check(
            "value",
            "Cel",
            0.0,
            &[3.0, 4.0],
            "it has been at 3 to 4 Cel for 10 s, usually 0 Cel",
        );
        check(
            "value",
            "Cel",
            -5.0,
            &[8.0],
            "it is at 8 Cel, usually -5 Cel",
        );
        check("value", "By", 0.0, &[4096.0], "it is at 4 KiB, usually 0 B");
    }

    #[test]
    fn what_was_never_seen_is_said_with_how_long_was_looked() {
        let mut alert = alert("shop");
        (alert.grounds.never_seen, alert.grounds.history_seconds) = (true, 6 * 86_400 + 7_000);
        let style = Style::of("s");
        let said = |alert: &Alert| sentence(&rule(), alert, "it", style);
        assert_eq!(
            said(&alert),
            "it is 2.6 times its usual 120 ms; never this high in the 6 days seen"
        );
        alert.observed = 0.04;
        assert_eq!(
            said(&alert),
            "it is about a third of its usual 120 ms; never this low in the 6 days seen"
        );
        alert.grounds.history_seconds = 60;
        assert_eq!(said(&alert), "it is about a third of its usual 120 ms");
    }

    #[test]
    fn other_measures_have_their_own_words() {
        let say = |measure, observed, expected, upper| {
            let (mut alert, mut rule) = (alert("shop"), rule());
            alert.grounds.measure = measure;
            (alert.observed, alert.expected) = (observed, expected);
            alert.labels.set("signal", "value");
            rule.detector.upper = upper;
            let now = sentence(&rule, &alert, "it", Style::of("s"));
            alert.state = AlertState::Resolved;
            [now, sentence(&rule, &alert, "it", Style::of("s"))]
        };
        assert_eq!(
            say(Measure::Silence, 180.0, 10.0, None),
            [
                "it has sent nothing for 3 min, usually every 10 s",
                "it had sent nothing for 3 min, usually every 10 s"
            ]
        );
        assert_eq!(
            say(Measure::BurnRate, 15.2, 1.0, None)[0],
            "it misses its objective: the error budget is used up 15 times faster than allowed"
        );
        let mut slow = alert("shop");
        slow.grounds.signal_unit = "s".into();
        slow.grounds.present = Some(0.48);
        (slow.grounds.measure, slow.observed) = (Measure::BurnRate, 15.2);
        let said = sentence(&rule(), &slow, "p95", Style::of(""));
        assert!(
            said.starts_with("p95 misses its objective, with 480 ms now: "),
            "{said}"
        );
        let mut tokens = slow;
        tokens.grounds.signal_unit = "{token}".into();
        tokens.grounds.present = Some(1200.0);
        (tokens.grounds.measure, tokens.observed) = (Measure::TimeLeft, 660.0);
        let mut empty = rule();
        empty.detector.lower = Some(0.0);
        assert_eq!(
            sentence(&empty, &tokens, "it", Style::of("s")),
            "it reaches its limit of 0 token in 11 min, with 1,200 token now"
        );
        let mut of_bytes = alert("shop");
        of_bytes.grounds.signal_unit = "By".into();
        (of_bytes.grounds.measure, of_bytes.observed) = (Measure::TimeLeft, 660.0);
        let mut limited = rule();
        limited.detector.upper = Some(2_147_483_648.0);
        let said = sentence(&limited, &of_bytes, "it", Style::of("s"));
        assert!(said.contains("its limit of 2 GiB"), "{said}");
        assert_eq!(
            say(Measure::TimeLeft, 660.0, 3600.0, Some(1e4)),
            [
                "it reaches its limit of 10,000 in 11 min",
                "it was heading for its limit of 10,000"
            ]
        );
        assert_eq!(
            say(Measure::TimeLeft, 0.0, 3600.0, None)[0],
            "it has reached its limit"
        );
    }

    #[test]
    fn lengths_of_time_have_at_most_two_units() {
        let check = |seconds: f64, expected: &str| assert_eq!(super::seconds(seconds), expected);
        check(0.25, "250 ms");
        check(40.0, "40 s");
        check(119.0, "119 s");
        check(180.0, "3 min");
        check(190.0, "3 min 10 s");
        check(1_830.0, "30 min");
        check(7_500.0, "2 h 5 min");
        check(90_000.0, "1 day 1 h");
        check(6.4 * 86_400.0, "6 days");
        check(f64::NAN, "0 ms");
    }
}
