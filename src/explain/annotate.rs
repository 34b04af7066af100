use std::collections::BTreeMap;
use std::time::Duration;

use super::cause::{peer, silence};
use super::context::Context;
use super::quantity::{Style, sigma, spoken_sigma};
use super::recommendation::{Hints, Kind, Side, recommendation};
use super::words::{clock, duration, runs_out, sentence};
use crate::model::{
    Alert, AlertState, Appeared, Carrier, Dismissal, Grounds, LikelyOrigin, Measure, Moved, Rule,
    Timestamp,
};

/// Attributes named in an explanation; an alert may have many, a sentence not.
const MAX_ATTRIBUTES: usize = 4;
/// Callers named in an explanation.
const MAX_CALLERS: usize = 4;
/// Longest text from outside within a sentence, in characters.
const MAX_WORD_CHARS: usize = 120;
/// Signals that moved too, named in the explanation; all are in their own annotation.
pub(super) const MAX_MOVED: usize = 3;

/// What an alert's incident says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part<'a> {
    /// Its id.
    pub(super) id: &'a str,
    /// In a sentence that stays the same while the incident does.
    pub(super) summary: &'a str,
    /// Whether there is more to it than this alert.
    pub(super) has_more: bool,
}

/// Brings the alert's grounds up to date, and sets the annotations that people read: `explanation`,
/// `recommendation`, `likely_origin` (where a callee deviates as well), `moved`, `carried_by`,
/// `new_version`, `incident` and `incident_summary` where there are such, and `observed`, `expected`,
/// `lower`, `upper`, `sigma`, `severity_score` and `since` in readable form. What the rule itself
/// annotates stays as it is. Calling it again brings the texts up to date.
pub(super) fn annotate(rule: &Rule, alert: &mut Alert, context: &Context, part: Option<Part<'_>>) {
    context.ground(alert);
    if let Some(part) = &part {
        alert.grounds.incident = Some(part.id.to_owned());
    }
    let own = |name: &str| rule.annotations.get(name).is_some();
    let unit = alert.unit.clone();
    let style = style(alert, &unit);
    let end = |value: f64| value.is_finite().then(|| style.value(value));
    alert.grounds.sentence = sentence(rule, alert, &subject(rule, alert), style);
    let grounds = &alert.grounds;
    let near = alert.updated_at;
    let origin = grounds
        .origin
        .as_ref()
        .map(|origin| clean(origin.service()));
    let moved: Vec<_> = grounds
        .moved
        .iter()
        .map(|moved| moved_too(moved, near))
        .collect();
    let explanation = explanation(alert, style, part.as_ref());
    let texts = [
        ("explanation", Some(explanation)),
        (
            "recommendation",
            Some(recommend(rule, alert, origin.as_deref())),
        ),
        ("likely_origin", origin),
        ("moved", (!moved.is_empty()).then(|| moved.join("; "))),
        ("carried_by", carried_by(&grounds.carriers)),
        (
            "new_version",
            grounds
                .version
                .as_ref()
                .map(|version| appeared(version, alert.since)),
        ),
        ("flapping", flapping(grounds)),
        ("dismissed", grounds.dismissed.as_ref().map(dismissed)),
        ("incident", grounds.incident.clone()),
        ("incident_summary", part.map(|part| part.summary.to_owned())),
        ("observed", Some(style.value(alert.observed))),
        ("expected", Some(style.value(alert.expected))),
        ("lower", end(lower_end(alert))),
        ("upper", end(alert.upper)),
        ("sigma", Some(signed(alert.sigma))),
        (
            "severity_score",
            Some(format!("{:.2}", alert.severity_score)),
        ),
        ("since", Some(alert.since.rfc3339())),
    ];
    for (name, text) in texts.into_iter().filter(|(name, _)| !own(name)) {
        match text {
            Some(text) => alert.annotations.set(name, text),
            // Of a resolved alert what was said last stays.
            None if name == "incident_summary" && alert.state == AlertState::Resolved => {}
            None => {
                alert.annotations.0.remove(name);
            }
        }
    }
}

/// How the numbers of an alert are written.
fn style<'a>(alert: &Alert, unit: &'a str) -> Style<'a> {
    let signal = alert.labels.get("signal").unwrap_or_default();
    match alert.grounds.measure {
        Measure::Value => Style::of_signal(signal, unit, &[alert.observed, alert.expected]),
        Measure::Silence | Measure::TimeLeft => Style::Time(1.0),
        Measure::BurnRate => Style::Plain(""),
    }
}

fn recommend(rule: &Rule, alert: &Alert, origin: Option<&str>) -> String {
    let version = alert.grounds.version.as_ref();
    let version = version.map(|version| (clean(&version.service), clean(&version.version)));
    let instance = alert
        .grounds
        .carriers
        .iter()
        .find(|carrier| is_instance(carrier));
    let mut carriers = alert.grounds.carriers.iter();
    let release = carriers.find(|carrier| carrier.attribute == "service.version");
    let caller = alert
        .grounds
        .uncalled_by
        .first()
        .map(|caller| clean(caller));
    let hints = Hints {
        origin,
        version: version
            .as_ref()
            .map(|(service, version)| (service.as_str(), version.as_str())),
        instance,
        release,
        uncalled_by: caller.as_deref(),
        trace: alert.trace_id.as_deref(),
    };
    let (kind, side) = match Kind::of_alert(alert) {
        Kind::Exhaustion if runs_out(rule, alert) => (Kind::Exhaustion, Side::Below),
        Kind::Exhaustion => (Kind::Exhaustion, Side::Above),
        kind => (kind, Side::of(alert.sigma)),
    };
    recommendation(kind, side, &clean(&alert.service), hints)
}

/// Whether an attribute says which of many alike it is.
fn is_instance(carrier: &Carrier) -> bool {
    [
        "service.instance.id",
        "k8s.pod.name",
        "host.name",
        "container.id",
    ]
    .contains(&carrier.attribute.as_str())
}

/// `p99 of POST /pay (server) of checkout has been 3 to 4 times its usual 120 ms for 40 s; never this
/// high in the 6 days seen. Observed 430 ms, expected 120 ms (90 to 160 ms), 6.1 sigma above, since
/// 12:00:05Z. Baseline: mean of the last 100 samples. Only service.instance.id="pod-7" (1 of 10).
/// service.version 1.4.2 appeared 40 s before. Moved too: … Callee payment deviates since 12:00:00Z.`
fn explanation(alert: &Alert, style: Style<'_>, part: Option<&Part<'_>>) -> String {
    let grounds = &alert.grounds;
    let over = alert.state == AlertState::Resolved;
    let near = alert.updated_at;
    let mut text = format!("{}.", grounds.sentence);
    let mut say = |sentence: String| {
        text.push(' ');
        text.push_str(&sentence);
    };
    if let Some(numbers) = numbers(alert, style) {
        say(numbers);
    }
    if let Some(resolution) = resolution(alert) {
        say(resolution);
    }
    if let Some(flapping) = flapping(grounds) {
        say(format!("It is flapping: {flapping}."));
    }
    if let Some(baseline) = alert.annotations.get("baseline") {
        let what = match grounds.measure {
            Measure::Value | Measure::Silence => "Baseline",
            Measure::BurnRate => "Objective",
            Measure::TimeLeft => "Trend",
        };
        say(format!("{what}: {}.", clean(baseline)));
    }
    if let Some(carriers) = carried_by(&grounds.carriers) {
        say(format!("Only {carriers}."));
    }
    if let Some(uncalled) = uncalled(&grounds.uncalled_by) {
        say(format!("{uncalled}."));
    }
    if let Some(version) = &grounds.version {
        say(format!("{}.", appeared(version, alert.since)));
    }
    let moved: Vec<_> = grounds
        .moved
        .iter()
        .map(|moved| moved_too(moved, near))
        .collect();
    match (moved.get(..MAX_MOVED), moved.len()) {
        (_, 0) => {}
        (Some(first), all) if all > MAX_MOVED => say(format!(
            "Moved too: {}, and {} more.",
            first.join(", "),
            all - MAX_MOVED
        )),
        _ => say(format!("Moved too: {}.", moved.join(", "))),
    }
    if let Some(origin) = &grounds.origin {
        say(comes_from(origin, over, near));
    }
    if let Some(dismissal) = &grounds.dismissed {
        say(format!("Earlier: {}.", dismissed(dismissal)));
    }
    if let Some(part) = part.filter(|part| part.has_more) {
        say(part.summary.to_owned());
    }
    text
}

/// `called normal by ada on 2026-01-01T12:00:05Z: nightly import`.
fn dismissed(dismissal: &Dismissal) -> String {
    format!(
        "called normal by {} on {}: {}",
        clean(&dismissal.author),
        // Nobody reads fractions of a second.
        Timestamp::from_secs(dismissal.at.as_nanos().div_euclid(1_000_000_000)),
        clean(&dismissal.comment)
    )
}

/// `fired 4 times in 42 min, and is held until it stays calm`; `None` where it does not flap.
pub(super) fn flapping(grounds: &Grounds) -> Option<String> {
    let times = grounds.flaps;
    let within = duration(Duration::from_secs(grounds.flapping_seconds));
    (times > 0).then(|| format!("fired {times} times in {within}, and is held until it stays calm"))
}

/// `Resolved: the new level 180 ms, before 120 ms, has become normal.`; `None` while it goes on, and where
/// it ended by calming down.
pub(super) fn resolution(alert: &Alert) -> Option<String> {
    let reason = alert.annotations.get("resolved_reason");
    let reason = reason.filter(|_| alert.state == AlertState::Resolved)?;
    let style = style(alert, &alert.unit);
    Some(
        match (alert.grounds.relevelled_from, alert.grounds.relevelled_to) {
            (Some(before), Some(now)) if style.value(before) != style.value(now) => format!(
                "Resolved: the new level {}, before {}, has become normal.",
                style.value(now),
                style.value(before)
            ),
            _ => format!("Resolved: {}.", clean(reason)),
        },
    )
}

/// `Observed 430 ms, expected 120 ms (90 to 160 ms), 6.1 sigma above, since 12:00:05Z.`
fn numbers(alert: &Alert, style: Style<'_>) -> Option<String> {
    let near = alert.updated_at;
    let since = clock(alert.since, near);
    let time = match (alert.state, alert.resolved_at) {
        (AlertState::Resolved, Some(end)) => {
            format!("from {since} to {}", clock(end, alert.since))
        }
        _ => format!("since {since}"),
    };
    if let Some((from, until)) = silence(alert) {
        let from = clock(from, near);
        return Some(match alert.state {
            AlertState::Resolved => format!("From {from} to {}.", clock(until, alert.since)),
            _ => format!("Since {from}."),
        });
    }
    if alert.grounds.measure != Measure::Value {
        // The words say the number already, and a band around it means nothing to anybody.
        return Some(format!(
            "{}{}.",
            time.get(..1)?.to_uppercase(),
            time.get(1..)?
        ));
    }
    let band = style
        .range(lower_end(alert), alert.upper)
        .map(|band| format!(" ({band})"))
        .unwrap_or_default();
    let (size, side) = (spoken_sigma(alert.sigma), Side::of(alert.sigma).name());
    let (observed, expected) = (style.value(alert.observed), style.value(alert.expected));
    Some(format!(
        "Observed {observed}, expected {expected}{band}, {size} sigma {side}, {time}."
    ))
}

/// `service.instance.id="pod-7" (1 of 10)`, several joined by `and`.
fn carried_by(carriers: &[Carrier]) -> Option<String> {
    let one = |carrier: &Carrier| {
        let values: Vec<_> = carrier
            .values
            .iter()
            .map(|value| format!("\"{}\"", clean(value)))
            .collect();
        let looked_at = if carrier.sampled { " looked at" } else { "" };
        format!(
            "{}={} ({} of {}{looked_at})",
            clean(&carrier.attribute),
            values.join(" or "),
            values.len(),
            carrier.of
        )
    };
    let carriers: Vec<_> = carriers.iter().map(one).collect();
    (!carriers.is_empty()).then(|| carriers.join(" and "))
}

/// `service.version 1.4.2 of checkout appeared 40 s before`.
pub(super) fn appeared(version: &Appeared, since: Timestamp) -> String {
    let (service, name) = (clean(&version.service), clean(&version.version));
    let before = since.since(version.first_seen);
    let when = match before.as_secs() {
        0 => "at that time".to_owned(),
        _ => format!("{} before", duration(before)),
    };
    format!("service.version {name} of {service} appeared {when}")
}

/// `Nobody calls it any more: front and shop have stopped`; `None` where there is nobody who did.
pub(super) fn uncalled(callers: &[String]) -> Option<String> {
    let names: Vec<_> = callers.iter().take(MAX_CALLERS).map(|c| clean(c)).collect();
    let more = callers.len().saturating_sub(MAX_CALLERS);
    let (names, have) = match (names.as_slice(), more) {
        ([], _) => return None,
        ([one], 0) => (one.clone(), "has"),
        ([first @ .., last], 0) => (format!("{} and {last}", first.join(", ")), "have"),
        (_, more) => (format!("{} and {more} more", names.join(", ")), "have"),
    };
    Some(format!("Nobody calls it any more: {names} {have} stopped"))
}

/// `rate of POST /pay (server) −60 % since 12:00:05Z`.
pub(super) fn moved_too(moved: &Moved, near: Timestamp) -> String {
    let style = Style::of_signal(&moved.signal, &moved.unit, &[moved.value, moved.usual]);
    let change = match moved.change().filter(|_| style != Style::Share) {
        Some(change) if change.abs() < 2.0 => {
            let sign = if change < 0.0 { "−" } else { "+" };
            format!("{sign}{:.0} %", change.abs() * 100.0)
        }
        Some(change) if moved.usual > 0.0 => {
            format!("{} times its usual", super::words::times(change + 1.0))
        }
        _ => format!(
            "{} instead of {}",
            style.value(moved.value),
            style.value(moved.usual)
        ),
    };
    let what = signal_name(&moved.metric, &moved.signal, &moved.attributes);
    let series = match moved.series {
        0 | 1 => String::new(),
        many => format!(" ({many} series)"),
    };
    format!("{what}{series} {change} since {}", clock(moved.since, near))
}

/// `p99 of POST /pay (server)`, `error ratio of calls to payment`, `queue.length {queue="orders"}`: what a
/// signal is called beside its service.
pub(super) fn signal_name(
    metric: &str,
    signal: &str,
    attributes: &BTreeMap<String, String>,
) -> String {
    let attribute = |name: &str| attributes.get(name).map(|value| clean(value));
    let of = match signal {
        "value" => String::new(),
        "error_ratio" => "error ratio of ".into(),
        other => format!("{other} of "),
    };
    let (name, kind) = (attribute("span.name"), attribute("span.kind"));
    let what = match (metric, name, attribute("peer.service")) {
        ("edge.duration", _, Some(peer)) => format!("calls to {peer}"),
        ("span.duration", Some(name), _) => {
            name + &kind.map(|kind| format!(" ({kind})")).unwrap_or_default()
        }
        (metric, _, _) => {
            let named: Vec<_> = attributes
                .iter()
                .take(MAX_ATTRIBUTES)
                .map(|(key, value)| format!("{}=\"{}\"", clean(key), clean(value)))
                .collect();
            let rest = if attributes.len() > MAX_ATTRIBUTES {
                ", …"
            } else {
                ""
            };
            match named.is_empty() {
                true => clean(metric),
                false => format!("{} {{{}{rest}}}", clean(metric), named.join(", ")),
            }
        }
    };
    of + &what
}

/// `Callee payment deviates since 12:00:00Z.`
pub(super) fn comes_from(origin: &LikelyOrigin, over: bool, near: Timestamp) -> String {
    let since = clock(origin.since, near);
    let path: Vec<_> = origin.path.iter().map(|service| clean(service)).collect();
    let service = clean(origin.service());
    let deviates = if over { "deviated" } else { "deviates" };
    let quietly = if origin.alerted {
        ""
    } else {
        ", without an alert of its own"
    };
    if path.len() > 2 {
        let path = path.join(" → ");
        format!("Likely origin: {service} ({path}) {deviates} since {since}{quietly}.")
    } else {
        format!("Callee {service} {deviates} since {since}{quietly}.")
    }
}

/// The lower end of the band as people read it: a band is as wide below as above, but a rate, a share
/// of errors or a duration below zero is nothing that could have been expected.
fn lower_end(alert: &Alert) -> f64 {
    let never_negative = match alert.labels.get("signal").unwrap_or_default() {
        "rate" | "error_ratio" => true,
        "value" => false,
        _ => matches!(Style::of(&alert.unit), Style::Time(_) | Style::Bytes(_)),
    };
    // What is negative in fact, such as the difference of two clocks, keeps its band.
    if never_negative && alert.observed >= 0.0 && alert.expected >= 0.0 && alert.lower.is_finite() {
        alert.lower.max(0.0)
    } else {
        alert.lower
    }
}

/// What deviates: `p99 of POST /pay (server) of checkout`.
fn subject(rule: &Rule, alert: &Alert) -> String {
    let label = |name: &str| alert.labels.get(name).map(clean);
    let metric = label("metric").unwrap_or_default();
    let service = clean(&alert.service);
    let signal = match alert.labels.get("signal").unwrap_or_default() {
        "value" => String::new(),
        "error_ratio" => "error ratio of ".into(),
        other => format!("{other} of "),
    };
    if let Some(peer) = peer(alert) {
        return format!("{signal}calls from {service} to {}", clean(peer));
    }
    let kind = label("span_kind")
        .map(|kind| format!(" ({kind})"))
        .unwrap_or_default();
    let what = match label("span_name").filter(|_| metric == "span.duration") {
        Some(name) => format!("{name}{kind}"),
        None => format!("{metric}{}", attributes(rule, alert)),
    };
    format!("{signal}{what} of {service}")
}

/// ` {http_route="/pay"}`: the labels that are neither everybody's nor the rule's.
fn attributes(rule: &Rule, alert: &Alert) -> String {
    const COMMON: [&str; 5] = ["alertname", "service", "metric", "signal", "severity"];
    let named: Vec<_> = alert
        .labels
        .iter()
        .filter(|(name, _)| !COMMON.contains(name) && rule.labels.get(name).is_none())
        .map(|(name, value)| format!("{name}=\"{}\"", clean(value)))
        .collect();
    match named.get(..MAX_ATTRIBUTES) {
        Some(first) if named.len() > MAX_ATTRIBUTES => format!(" {{{}, …}}", first.join(", ")),
        _ if named.is_empty() => String::new(),
        _ => format!(" {{{}}}", named.join(", ")),
    }
}

fn signed(value: f64) -> String {
    let size = sigma(value);
    if value < 0.0 {
        format!("-{size}")
    } else {
        size
    }
}

/// Text from outside as part of a sentence: without control characters, and not endless.
pub(super) fn clean(text: &str) -> String {
    let mut chars = text.chars();
    let mut cut: String = chars
        .by_ref()
        .take(MAX_WORD_CHARS)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if chars.next().is_some() {
        cut.push('…');
    }
    cut
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::explain::context::Facts;
    use crate::explain::fixtures::{alert, edges, moved, rule};
    use crate::model::{Movement, ServiceView, VersionView};

    fn annotated(mut alert: Alert, context: &Context) -> Alert {
        annotate(&rule(), &mut alert, context, None);
        alert
    }

    #[track_caller]
    fn check(alert: Alert, context: &Context, expected: &str) {
        let alert = annotated(alert, context);
        assert_eq!(alert.annotations.get("explanation"), Some(expected));
    }

    fn with(facts: Facts<'_>) -> Context {
        Context::new(Facts {
            tick: Duration::from_secs(10),
            ..facts
        })
    }

    fn alone() -> Context {
        with(Facts::default())
    }

    fn at(text: &str) -> Timestamp {
        Timestamp::parse_rfc3339(text).expect("a time")
    }

    const ALONE: &str = "p99 of POST /pay (server) of checkout is 2.6 times its usual 120 ms. \
         Observed 310 ms, expected 120 ms (90 to 160 ms), 6.1 sigma above, since 12:00:05Z. \
         Baseline: mean of the last 100 samples.";

    #[test]
    fn an_explanation_begins_with_what_happened() {
        check(alert("checkout"), &alone(), ALONE);
        let mut long = alert("checkout");
        let grounds = &mut long.grounds;
        (grounds.least, grounds.greatest) = (Some(0.36), Some(0.48));
        grounds.anomalous_until = Some(long.since.plus(Duration::from_secs(40)));
        (grounds.never_seen, grounds.history_seconds) = (true, 6 * 86_400);
        (long.observed, long.trace_id) = (0.4, Some("ab".into()));
        let long = annotated(long, &alone());
        assert_eq!(
            long.grounds.sentence,
            "p99 of POST /pay (server) of checkout has been 3 to 4 times its usual 120 ms for 40 s; \
             never this high in the 6 days seen"
        );
        let recommendation = long.annotations.get("recommendation").expect("recommended");
        assert!(
            recommendation.ends_with("Trace ab shows it."),
            "{recommendation}"
        );
    }

    #[test]
    fn it_names_where_it_comes_from() {
        let calls = edges(&[("checkout", "payment"), ("payment", "bank")]);
        let mut payment = alert("payment");
        payment.since = at("2026-01-01T12:00:00Z");
        let payment = Arc::new(payment);
        let mut bank = alert("bank");
        bank.since = at("2026-01-01T12:00:00Z");
        let alerts = [Arc::clone(&payment)];
        let context = with(Facts {
            alerts: &alerts,
            edges: &calls,
            ..Facts::default()
        });
        check(
            alert("checkout"),
            &context,
            &format!("{ALONE} Callee payment deviates since 12:00:00Z."),
        );
        let alerts = [payment, Arc::new(bank)];
        let context = with(Facts {
            alerts: &alerts,
            edges: &calls,
            ..Facts::default()
        });
        let mut explained = annotated(alert("checkout"), &context);
        let text = explained.annotations.get("explanation").expect("explained");
        assert!(
            text.ends_with(
                "Likely origin: bank (checkout → payment → bank) deviates since 12:00:00Z."
            ),
            "{text}"
        );
        assert_eq!(explained.annotations.get("likely_origin"), Some("bank"));
        assert!(
            explained
                .annotations
                .get("recommendation")
                .is_some_and(|r| r.starts_with("Look at bank")),
        );

        // While it goes on, an origin that has recovered is none any more.
        let recovered = annotated(explained.clone(), &alone());
        assert_eq!(recovered.annotations.get("likely_origin"), None);
        // Resolved, it still says where it came from, though nothing deviates any more.
        explained.state = AlertState::Resolved;
        explained.resolved_at = Some(at("2026-01-02T00:00:01.5Z"));
        explained
            .annotations
            .set("resolved_reason", "the signal ended");
        check(
            explained,
            &alone(),
            "p99 of POST /pay (server) of checkout was 2.6 times its usual 120 ms. Observed 310 ms, \
             expected 120 ms (90 to 160 ms), 6.1 sigma above, from 12:00:05Z to 2026-01-02T00:00:01Z. \
             Resolved: the signal ended. Baseline: mean of the last 100 samples. \
             Likely origin: bank (checkout → payment → bank) deviated since 12:00:00Z.",
        );
    }

    #[test]
    fn it_names_what_moved_what_carries_it_and_what_was_released() {
        let since = alert("checkout").since;
        let second = since.as_nanos() / 1_000_000_000;
        let mut rate = moved("checkout", "span.duration", "rate", 100.0, 40.0, second);
        rate.attributes
            .insert("span.name".into(), "POST /pay".into());
        rate.attributes.insert("span.kind".into(), "server".into());
        let mut own = moved("checkout", "span.duration", "p50", 0.1, 0.3, second);
        own.attributes.clone_from(&rate.attributes);
        let mut pool = moved("checkout", "db.pool.used", "value", 4.0, 16.0, second + 10);
        pool.attributes.insert("pool".into(), "or\u{1b}ders".into());
        pool.series = 3;
        let errors = moved(
            "checkout",
            "span.duration",
            "error_ratio",
            0.0,
            0.25,
            second - 10,
        );
        let memory = moved("checkout", "memory", "value", 100.0, 120.0, second + 10);
        let carrier = Carrier {
            attribute: "service.instance.id".into(),
            values: vec!["pod-7".into()],
            of: 10,
            sampled: false,
        };
        let movement = Movement {
            service: "checkout".into(),
            moved: vec![errors, rate, own, pool, memory],
            carriers: [(alert("checkout").signal_id, vec![carrier])].into(),
        };
        let version = |version: &str, before: u64, appeared| VersionView {
            version: version.into(),
            first_seen: since.minus(Duration::from_secs(before)),
            appeared,
        };
        let service = ServiceView {
            service: "checkout".into(),
            first_seen: Timestamp::EPOCH,
            last_seen: since,
            series: 9,
            refused_series: 0,
            versions: vec![
                version("1.4.0", 7_200, true),
                version("1.4.1", 100, false),
                version("1.4.2", 40, true),
            ],
        };
        let facts = Facts {
            movements: &[movement],
            services: std::slice::from_ref(&service),
            ..Facts::default()
        };
        let context = with(facts);
        check(
            alert("checkout"),
            &context,
            &format!(
                "{ALONE} Only service.instance.id=\"pod-7\" (1 of 10). service.version 1.4.2 of \
                 checkout appeared 40 s before. Moved too: error ratio of span.duration 25 % instead \
                 of 0 % since 11:59:55Z, rate of POST /pay (server) −60 % since 12:00:05Z, \
                 db.pool.used {{pool=\"or ders\"}} (3 series) 4 times its usual since 12:00:15Z, and 1 more."
            ),
        );
        let explained = annotated(alert("checkout"), &context);
        assert_eq!(explained.grounds.moved.len(), 4);
        let say = |name| {
            explained
                .annotations
                .get(name)
                .unwrap_or_default()
                .to_owned()
        };
        assert!(
            say("moved").ends_with("; memory +20 % since 12:00:15Z"),
            "{}",
            say("moved")
        );
        assert_eq!(say("carried_by"), "service.instance.id=\"pod-7\" (1 of 10)");
        assert_eq!(
            say("new_version"),
            "service.version 1.4.2 of checkout appeared 40 s before"
        );
        assert!(
            say("recommendation").starts_with("Version 1.4.2 of checkout appeared just before")
        );
        // A later look finds that all do it: what the first one said was too early.
        let none = Movement {
            service: "checkout".into(),
            carriers: [(explained.signal_id.clone(), Vec::new())].into(),
            ..Movement::default()
        };
        let facts = Facts {
            movements: &[none],
            ..Facts::default()
        };
        let again = annotated(explained.clone(), &with(facts));
        assert_eq!(again.annotations.get("carried_by"), None);
        // When it is no longer asked, what was found stays.
        assert_eq!(
            annotated(explained.clone(), &alone()).grounds,
            explained.grounds
        );
        // What appeared long ago, or may have been there before, is no reason.
        let versions = [&service.versions[..1], &service.versions[1..2]];
        for versions in versions {
            let service = ServiceView {
                versions: versions.to_vec(),
                ..service.clone()
            };
            let context = with(Facts {
                services: &[service],
                ..Facts::default()
            });
            check(alert("checkout"), &context, ALONE);
        }
    }

    #[test]
    fn other_metrics_show_their_attributes() {
        let mut gauge = alert("checkout");
        gauge.labels = [
            ("alertname", "Queue"),
            ("service", "checkout"),
            ("metric", "queue.length"),
            ("signal", "value"),
            ("severity", "warning"),
            ("team", "payments"),
            ("queue", "or\u{1b}[31mders"),
        ]
        .into_iter()
        .collect();
        gauge.annotations = Default::default();
        (gauge.unit, gauge.observed, gauge.expected) = ("{item}".into(), 3.0, 120.0);
        (gauge.lower, gauge.upper, gauge.sigma) = (90.0, f64::INFINITY, -123.4);
        check(
            gauge,
            &alone(),
            "queue.length {queue=\"or [31mders\"} of checkout is down to 3 item, usually 120 item. \
             Observed 3 item, expected 120 item (at least 90 item), more than 38 sigma below, \
             since 12:00:05Z.",
        );

        let mut edge = alert("checkout");
        edge.labels.set("metric", "edge.duration");
        edge.labels.set("peer_service", "payment");
        edge.labels.set("signal", "error_ratio");
        (edge.unit, edge.observed, edge.expected) = ("1".into(), 0.25, 0.01);
        (edge.lower, edge.upper) = (f64::NEG_INFINITY, 0.03);
        check(
            edge,
            &alone(),
            "error ratio of calls from checkout to payment is at 25 %, usually 1 %. Observed 25 %, \
             expected 1 % (at most 3 %), 6.1 sigma above, since 12:00:05Z. \
             Baseline: mean of the last 100 samples.",
        );
    }

    #[test]
    fn other_measures_are_no_values() {
        let mut silent = alert("checkout");
        silent.grounds.measure = Measure::Silence;
        (silent.observed, silent.expected, silent.unit) = (180.0, 10.0, "s".into());
        silent.labels.set("signal", "rate");
        silent
            .annotations
            .set("baseline", "the usual interval between samples");
        check(
            silent,
            &alone(),
            "rate of POST /pay (server) of checkout has sent nothing for 3 min, usually every 10 s. \
             Since 11:57:05Z. Baseline: the usual interval between samples.",
        );
    }

    #[test]
    fn a_new_level_is_told_with_the_old_one() {
        let mut alert = alert("checkout");
        alert.state = AlertState::Resolved;
        alert.resolved_at = Some(at("2026-01-01T12:10:05Z"));
        alert
            .annotations
            .set("resolved_reason", "the new level has become the normal one");
        alert.grounds.relevelled_from = Some(0.12);
        alert.grounds.relevelled_to = Some(0.18);
        let text = annotated(alert, &alone());
        let text = text.annotations.get("explanation").expect("explained");
        assert!(
            text.contains("Resolved: the new level 180 ms, before 120 ms, has become normal."),
            "{text}"
        );
    }

    #[test]
    fn nobody_reads_of_thousands_of_sigma_or_of_a_share_of_errors_below_zero() {
        let mut flat = alert("checkout");
        (flat.observed, flat.expected, flat.sigma) = (0.5, 0.0929, 14089.0);
        (flat.lower, flat.upper) = (-0.0001, 0.0931);
        check(
            flat,
            &alone(),
            "p99 of POST /pay (server) of checkout is 5.4 times its usual 92.9 ms. Observed 500 ms, \
             expected 92.9 ms (0 to 93.1 ms), more than 38 sigma above, since 12:00:05Z. \
             Baseline: mean of the last 100 samples.",
        );

        let mut errors = alert("checkout");
        errors.labels.set("signal", "error_ratio");
        errors.unit = "1".into();
        (errors.observed, errors.expected) = (0.118, 0.0);
        (errors.lower, errors.upper) = (-0.0634, 0.0634);
        annotate(&rule(), &mut errors, &alone(), None);
        assert_eq!(errors.annotations.get("lower"), Some("0 %"));

        // A difference of clocks may well be negative.
        let mut offset = alert("checkout");
        offset.labels.set("signal", "value");
        (offset.lower, offset.upper) = (-0.2, 0.2);
        annotate(&rule(), &mut offset, &alone(), None);
        assert_eq!(offset.annotations.get("lower"), Some("-200 ms"));
    }

    #[test]
    fn the_numbers_have_units_and_the_rule_has_the_last_word() {
        let mut rule = rule();
        rule.annotations.set("recommendation", "Call Ann.");
        let mut alert = alert("checkout");
        alert.annotations.set("recommendation", "Call Ann.");
        alert.upper = f64::INFINITY;
        alert.annotations.set("upper", "from before");
        annotate(&rule, &mut alert, &alone(), None);
        for (name, expected) in [
            ("recommendation", Some("Call Ann.")),
            ("observed", Some("310 ms")),
            ("expected", Some("120 ms")),
            ("lower", Some("90 ms")),
            ("upper", None),
            ("sigma", Some("6.1")),
            ("severity_score", Some("0.50")),
            ("since", Some("2026-01-01T12:00:05Z")),
        ] {
            assert_eq!(alert.annotations.get(name), expected, "{name}");
        }
    }

    #[test]
    fn only_annotations_and_grounds_change_and_a_second_time_changes_nothing() {
        let before = alert("checkout");
        let once = annotated(before.clone(), &alone());
        assert_eq!(annotated(once.clone(), &alone()), once);
        assert_eq!(
            Alert {
                annotations: before.annotations.clone(),
                grounds: before.grounds.clone(),
                ..once
            },
            before
        );
    }
}
