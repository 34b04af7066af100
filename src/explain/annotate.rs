use std::sync::Arc;
use std::time::Duration;

use super::cause::{Deviations, Origin, origin, peer};
use super::quantity::{Style, sigma, spoken_sigma};
use super::recommendation::{Kind, Side, recommendation};
use super::topology::Topology;
use crate::model::{Alert, AlertState, EdgeView, Rule, Timestamp};

/// Attributes named in an explanation; an alert may have many, a sentence not.
const MAX_ATTRIBUTES: usize = 4;
/// Longest text from outside within a sentence, in characters.
const MAX_WORD_CHARS: usize = 120;

/// What is known besides the alert. Made once for all alerts of a tick.
#[derive(Debug, Clone)]
pub struct Context {
    topology: Topology,
    deviations: Deviations,
    tick: Duration,
}

impl Context {
    /// From the topology and all alerts, resolved ones among them or not. `tick` is the length of a
    /// tick: within so much time cause and effect may appear in either order.
    pub fn new(edges: &[EdgeView], alerts: &[Arc<Alert>], tick: Duration) -> Self {
        Self {
            topology: Topology::new(edges),
            deviations: Deviations::new(alerts),
            tick,
        }
    }
}

/// Sets the annotations that people read: `explanation`, `recommendation`, `likely_origin` (where a
/// callee deviates as well), and `observed`, `expected`, `lower`, `upper`, `sigma`, `severity_score`
/// and `since` in readable form. What the rule itself annotates stays as it is. Calling it again
/// brings the texts up to date.
pub fn annotate(rule: &Rule, alert: &mut Alert, context: &Context) {
    let own = |name: &str| rule.annotations.get(name).is_some();
    let signal = alert.labels.get("signal").unwrap_or_default().to_owned();
    let unit = alert.unit.clone();
    let style = Style::of_signal(&signal, &unit, &[alert.observed, alert.expected]);
    let end = |value: f64| value.is_finite().then(|| style.value(value));
    // While the alert goes on, an origin that has recovered is none any more; of a resolved alert
    // the last one stays.
    let found = match alert.state {
        AlertState::Resolved => None,
        AlertState::Pending | AlertState::Firing => {
            alert.annotations.0.remove("likely_origin");
            origin(alert, &context.topology, &context.deviations, context.tick)
        }
    };
    let explanation = explanation(rule, alert, style, found.as_ref());
    let known = alert.annotations.get("likely_origin").map(str::to_owned);
    let from = found
        .as_ref()
        .map(|origin| clean(origin.service()))
        .or(known);
    let recommendation = recommendation(
        Kind::of(&signal, &unit),
        Side::of(alert.sigma),
        &clean(&alert.service),
        from.as_deref(),
        alert.trace_id.as_deref(),
    );
    let texts = [
        ("explanation", Some(explanation)),
        ("recommendation", Some(recommendation)),
        ("likely_origin", from),
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
            None => {
                alert.annotations.0.remove(name);
            }
        }
    }
}

/// `p99 of span.duration POST /pay (server) of checkout is 310 ms, expected 120 ms (90 to 160 ms), 6.1
/// sigma above; since 12:00:05Z. Baseline: mean of the last 100 samples. Callee payment deviates since
/// 12:00:00Z.`
fn explanation(rule: &Rule, alert: &Alert, style: Style<'_>, found: Option<&Origin>) -> String {
    let over = alert.state == AlertState::Resolved;
    let is = if over { "was" } else { "is" };
    let observed = style.value(alert.observed);
    let expected = style.value(alert.expected);
    let band = style
        .range(lower_end(alert), alert.upper)
        .map(|band| format!(" ({band})"));
    let band = band.unwrap_or_default();
    let (size, side) = (spoken_sigma(alert.sigma), Side::of(alert.sigma).name());
    let near = alert.updated_at;
    let since = clock(alert.since, near);
    let time = match alert.resolved_at.filter(|_| over) {
        Some(end) => format!("from {since} to {}", clock(end, alert.since)),
        None => format!("since {since}"),
    };
    let subject = subject(rule, alert);
    let mut text = format!(
        "{subject} {is} {observed}, expected {expected}{band}, {size} sigma {side}; {time}."
    );
    if let Some(reason) = alert.annotations.get("resolved_reason").filter(|_| over) {
        text.push_str(&format!(" Resolved: {}.", clean(reason)));
    }
    if let Some(baseline) = alert.annotations.get("baseline") {
        text.push_str(&format!(" Baseline: {}.", clean(baseline)));
    }
    match (found, alert.annotations.get("likely_origin")) {
        (Some(origin), _) => {
            let since = clock(origin.since, near);
            let path: Vec<_> = origin.path.iter().map(|service| clean(service)).collect();
            let path = if path.len() > 2 {
                format!(" ({})", path.join(" → "))
            } else {
                String::new()
            };
            let kind = if path.is_empty() {
                "Callee"
            } else {
                "Likely origin:"
            };
            let service = clean(origin.service());
            text.push_str(&format!(" {kind} {service}{path} deviates since {since}."));
        }
        (None, Some(origin)) if over => {
            text.push_str(&format!(" Likely origin: {}.", clean(origin)));
        }
        (None, _) => {}
    }
    text
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

/// What deviates: `p99 of span.duration POST /pay (server) of checkout`.
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
        Some(name) => format!(" {name}{kind}"),
        None => attributes(rule, alert),
    };
    format!("{signal}{metric}{what} of {service}")
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

/// `12:00:05Z`, with the date where it is another day than that of `near`.
fn clock(time: Timestamp, near: Timestamp) -> String {
    let seconds =
        |time: Timestamp| Timestamp::from_secs(time.as_nanos().div_euclid(1_000_000_000)).rfc3339();
    let (text, near) = (seconds(time), seconds(near));
    match (text.split_once('T'), near.split_once('T')) {
        (Some((day, time)), Some((today, _))) if day == today => time.to_owned(),
        _ => text,
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
    use super::*;
    use crate::explain::fixtures::{alert, edges, rule};

    fn annotated(mut alert: Alert, context: &Context) -> Alert {
        annotate(&rule(), &mut alert, context);
        alert
    }

    #[track_caller]
    fn check(alert: Alert, context: &Context, expected: &str) {
        let alert = annotated(alert, context);
        assert_eq!(alert.annotations.get("explanation"), Some(expected));
    }

    fn alone() -> Context {
        Context::new(&[], &[], Duration::from_secs(10))
    }

    fn at(text: &str) -> Timestamp {
        Timestamp::parse_rfc3339(text).expect("a time")
    }

    #[test]
    fn an_explanation_reads_as_a_sentence() {
        check(
            alert("checkout"),
            &alone(),
            "p99 of span.duration POST /pay (server) of checkout is 310 ms, expected 120 ms \
             (90 to 160 ms), 6.1 sigma above; since 12:00:05Z. \
             Baseline: mean of the last 100 samples.",
        );
    }

    #[test]
    fn it_names_where_the_deviation_comes_from() {
        let mut payment = alert("payment");
        payment.since = at("2026-01-01T12:00:00Z");
        let mut bank = payment.clone();
        bank.service = "bank".into();
        let calls = edges(&[("checkout", "payment"), ("payment", "bank")]);
        let payment = Arc::new(payment);
        let tick = Duration::from_secs(10);
        let context = Context::new(&calls, &[Arc::clone(&payment)], tick);
        check(
            alert("checkout"),
            &context,
            "p99 of span.duration POST /pay (server) of checkout is 310 ms, expected 120 ms \
             (90 to 160 ms), 6.1 sigma above; since 12:00:05Z. \
             Baseline: mean of the last 100 samples. Callee payment deviates since 12:00:00Z.",
        );
        let context = Context::new(&calls, &[payment, Arc::new(bank)], tick);
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

        // Resolved, it still says where it came from, though nothing deviates any more.
        explained.state = AlertState::Resolved;
        explained.resolved_at = Some(at("2026-01-02T00:00:01.5Z"));
        explained
            .annotations
            .set("resolved_reason", "the signal ended");
        check(
            explained,
            &alone(),
            "p99 of span.duration POST /pay (server) of checkout was 310 ms, expected 120 ms \
             (90 to 160 ms), 6.1 sigma above; from 12:00:05Z to 2026-01-02T00:00:01Z. \
             Resolved: the signal ended. Baseline: mean of the last 100 samples. Likely origin: bank.",
        );
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
            "queue.length {queue=\"or [31mders\"} of checkout is 3 item, expected 120 item \
             (at least 90 item), more than 38 sigma below; since 12:00:05Z.",
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
            "error ratio of calls from checkout to payment is 25 %, expected 1 % (at most 3 %), \
             6.1 sigma above; since 12:00:05Z. Baseline: mean of the last 100 samples.",
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
            "p99 of span.duration POST /pay (server) of checkout is 500 ms, expected 92.9 ms \
             (0 to 93.1 ms), more than 38 sigma above; since 12:00:05Z. \
             Baseline: mean of the last 100 samples.",
        );

        let mut errors = alert("checkout");
        errors.labels.set("signal", "error_ratio");
        errors.unit = "1".into();
        (errors.observed, errors.expected) = (0.118, 0.0);
        (errors.lower, errors.upper) = (-0.0634, 0.0634);
        annotate(&rule(), &mut errors, &alone());
        assert_eq!(errors.annotations.get("lower"), Some("0 %"));

        // A difference of clocks may well be negative.
        let mut offset = alert("checkout");
        offset.labels.set("signal", "value");
        (offset.lower, offset.upper) = (-0.2, 0.2);
        annotate(&rule(), &mut offset, &alone());
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
        annotate(&rule, &mut alert, &alone());
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
    fn only_annotations_change_and_a_second_time_changes_nothing() {
        let before = alert("checkout");
        let once = annotated(before.clone(), &alone());
        assert_eq!(annotated(once.clone(), &alone()), once);
        assert_eq!(
            Alert {
                annotations: before.annotations.clone(),
                ..once
            },
            before
        );
    }
}
