//! What to look at first, by the rule's detector and by the kind of deviation.

use super::quantity::Style;
use crate::model::{Alert, Carrier, Measure};

/// What kind of number deviates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// How long something takes.
    Latency,
    /// Share of failed calls.
    ErrorRatio,
    /// How much there is of something.
    Rate,
    /// How much waits.
    Queue,
    /// How much of something limited is used.
    Saturation,
    /// Anything else.
    Value,
    /// Nothing comes any more.
    Silence,
    /// An objective's budget of errors or slow answers.
    Budget,
    /// The time until a limit is reached.
    Exhaustion,
}

/// To which side of the expectation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Above,
    Below,
}

impl Side {
    /// The side that a signed sigma or difference is on.
    pub(super) fn of(signed: f64) -> Self {
        if signed < 0.0 {
            Self::Below
        } else {
            Self::Above
        }
    }

    /// `above` or `below`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Above => "above",
            Self::Below => "below",
        }
    }
}

/// Words in the names of metrics that count what waits, and what is used up.
const QUEUES: [&str; 7] = [
    "queue",
    "backlog",
    "lag",
    "pending",
    "waiting",
    "inflight",
    "in_flight",
];
const RESOURCES: [&str; 14] = [
    "utilization",
    "utilisation",
    "usage",
    "used",
    "saturation",
    "cpu",
    "memory",
    "heap",
    "disk",
    "filesystem",
    "connections",
    "pool",
    "threads",
    "descriptors",
];

impl Kind {
    /// Of an alert: by what was judged, else as [`Kind::of`].
    pub(super) fn of_alert(alert: &Alert) -> Self {
        let label = |name| alert.labels.get(name).unwrap_or_default();
        match alert.grounds.measure {
            Measure::Silence => Self::Silence,
            Measure::BurnRate => Self::Budget,
            Measure::TimeLeft => Self::Exhaustion,
            Measure::Value => Self::of(label("metric"), label("signal"), &alert.unit),
        }
    }

    /// By the names of metric and signal and the unit.
    pub(super) fn of(metric: &str, signal: &str, unit: &str) -> Self {
        let words = || metric.split(|c: char| !c.is_ascii_alphanumeric());
        let is_among = |list: &[&str]| words().any(|word| list.contains(&word));
        match signal {
            "error_ratio" => Self::ErrorRatio,
            "rate" => Self::Rate,
            _ if is_among(&QUEUES) || metric.contains("in_flight") => Self::Queue,
            _ if matches!(Style::of(unit), Style::Time(_)) => Self::Latency,
            _ if is_among(&RESOURCES) => Self::Saturation,
            _ => Self::Value,
        }
    }
}

/// What a recommendation takes into account besides the kind of deviation.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Hints<'a> {
    /// The callee it probably comes from.
    pub(super) origin: Option<&'a str>,
    /// A version that appeared just before: of which service, which.
    pub(super) version: Option<(&'a str, &'a str)>,
    /// What carries the change, where that is an instance.
    pub(super) instance: Option<&'a Carrier>,
    /// What carries the change, where that is a version.
    pub(super) release: Option<&'a Carrier>,
    /// A caller that has stopped calling it, where all have and it is silent.
    pub(super) uncalled_by: Option<&'a str>,
    /// A trace that shows it.
    pub(super) trace: Option<&'a str>,
}

/// The recommendation for a deviation of `service`: first what explains most.
pub(super) fn recommendation(kind: Kind, side: Side, service: &str, hints: Hints<'_>) -> String {
    let mut text = String::new();
    if let Some((of, version)) = hints.version {
        text.push_str(&format!(
            "Version {version} of {of} appeared just before: roll it back unless something else \
             explains it. "
        ));
    }
    let comes_from_callees = match kind {
        // Less traffic than usual comes from the callers, whatever the callees do.
        Kind::Rate | Kind::Silence | Kind::Exhaustion => false,
        Kind::Latency
        | Kind::ErrorRatio
        | Kind::Queue
        | Kind::Saturation
        | Kind::Value
        | Kind::Budget => true,
    };
    let origin = hints.origin.filter(|_| comes_from_callees);
    // What only one version does is not done to it by those that it calls. They may make one slow that
    // asks more of them.
    let release = hints
        .release
        .filter(|_| kind == Kind::ErrorRatio || origin.is_none());
    match (origin, hints.instance) {
        _ if kind == Kind::Silence && hints.uncalled_by.is_some() => {
            let caller = hints.uncalled_by.unwrap_or_default();
            text.push_str(&format!(
                "Look at {caller} first: nobody calls {service} since {caller} has nothing to do. Only if \
                 {service} should send something all the same, check its process and its exporter."
            ));
        }
        _ if release.is_some() => {
            text.extend(release.map(|carrier| of_release(carrier, service, hints.version)));
        }
        (Some(origin), _) => text.push_str(&format!(
            "Look at {origin} first: it deviates as well and {service} depends on it. Until it \
             recovers, let {service} do without it or shorten its timeouts."
        )),
        (None, Some(carrier)) => text.push_str(&instance(carrier, service)),
        (None, None) => text.push_str(&own(kind, side, service)),
    }
    // One trace shows slowness or an error, but not how many there were.
    let shows = matches!(
        kind,
        Kind::Latency | Kind::ErrorRatio | Kind::Value | Kind::Budget
    );
    if let Some(trace) = hints.trace.filter(|_| shows) {
        text.push_str(&format!(" Trace {trace} shows it."));
    }
    text
}

/// Where only one version does it, the difference is what was changed in it.
fn of_release(carrier: &Carrier, service: &str, told: Option<(&str, &str)>) -> String {
    let names: Vec<_> = carrier
        .values
        .iter()
        .map(|v| super::annotate::clean(v))
        .collect();
    let names = names.join(", ");
    if told.is_some_and(|(of, version)| of == service && version == names) {
        return format!("The other versions of {service} do well.");
    }
    format!(
        "Roll back version {names} of {service} or take it out of rotation: the other versions do well. \
         Then compare what was changed in it: code, dependencies, configuration."
    )
}

/// Where a few of many do what the others do not, the difference is theirs.
fn instance(carrier: &Carrier, service: &str) -> String {
    let names: Vec<_> = carrier
        .values
        .iter()
        .map(|value| super::annotate::clean(value))
        .collect();
    let (names, it) = match names.as_slice() {
        [one] => (one.clone(), "it"),
        many => (many.join(", "), "them"),
    };
    format!(
        "Take {names} out of rotation or restart {it}; the other instances of {service} do well. \
         Before that compare {it} with them: node, resources, configuration, caches."
    )
}

fn own(kind: Kind, side: Side, service: &str) -> String {
    match (kind, side) {
        (Kind::Latency, Side::Above) => format!(
            "Compare a slow trace of {service} with an ordinary one, then check its last release, \
             CPU and memory limits, connection pools and queues."
        ),
        (Kind::Latency, Side::Below) => format!(
            "Faster than usual is often work left undone: check the error ratio of {service}, \
             empty answers, caches and whether traffic moved elsewhere."
        ),
        (Kind::ErrorRatio, Side::Above) => format!(
            "Group the failed spans of {service} by status and exception, then check its last \
             release and configuration; roll back if they coincide."
        ),
        (Kind::ErrorRatio, Side::Below) => format!(
            "Fewer errors than usual: nothing to repair; check that {service} still reports its \
             failures, and let the baseline learn."
        ),
        (Kind::Rate, Side::Above) => format!(
            "Find out who calls {service} more often (retries, a batch job, a new release, an \
             attack) and whether its capacity suffices; shed or limit load if not."
        ),
        (Kind::Rate, Side::Below) => format!(
            "Check the callers of {service}, its load balancer and its instances: requests may \
             fail before they reach it, or telemetry may be lost."
        ),
        (Kind::Queue, Side::Above) => format!(
            "More comes into {service} than it gets done: compare the rates of arrival and of \
             completion, look for a consumer that is stuck or slow, and add consumers or slow \
             the producers down before messages grow too old."
        ),
        (Kind::Queue, Side::Below) => format!(
            "Less waits than usual: check that whoever fills the queue of {service} still works."
        ),
        (Kind::Saturation, Side::Above) => format!(
            "Find out what in {service} uses more (traffic, a leak, a new release, a noisy \
             neighbour) and give it room or take load away before it reaches its limit."
        ),
        (Kind::Saturation, Side::Below) => format!(
            "{service} uses less than usual: check that it still does its work and that no \
             instance has left."
        ),
        (Kind::Value, Side::Above | Side::Below) => format!(
            "Compare with the other signals of {service} and with its last release at the time the \
             deviation began."
        ),
        (Kind::Silence, Side::Above | Side::Below) => format!(
            "Check whether {service} still runs and whether its telemetry still arrives: the \
             process, its exporter, the collector and the network between them."
        ),
        (Kind::Budget, Side::Above | Side::Below) => format!(
            "Stop risky changes to {service} while its budget is used this fast, and find the \
             operation that uses it: group its slow and failed spans by name, version and instance."
        ),
        (Kind::Exhaustion, Side::Below) => format!(
            "Refill it before that or slow down what uses it up, then find out what in {service} uses \
             more: compare the time the decline began with releases, traffic and jobs."
        ),
        (Kind::Exhaustion, Side::Above) => format!(
            "Make room before that (raise the limit, clean up, scale out {service}), then find \
             what grows: compare the time the growth began with releases, traffic and jobs."
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(metric: &str, signal: &str, unit: &str, sigma: f64, origin: Option<&str>, says: &str) {
        let kind = Kind::of(metric, signal, unit);
        let hints = Hints {
            origin,
            trace: Some("ab12"),
            ..Hints::default()
        };
        let text = recommendation(kind, Side::of(sigma), "shop", hints);
        assert!(text.contains(says), "{text}");
    }

    #[test]
    fn each_kind_has_its_own() {
        let spans = "span.duration";
        check(spans, "p99", "s", 5.0, None, "slow trace of shop");
        check(spans, "p99", "s", 5.0, None, " Trace ab12 shows it.");
        check(spans, "mean", "ms", -5.0, None, "Faster than usual");
        check(spans, "error_ratio", "1", 5.0, None, "failed spans of shop");
        check(spans, "rate", "1/s", 5.0, None, "who calls shop");
        check(spans, "rate", "1/s", -5.0, Some("pay"), "callers of shop");
        check(spans, "p99", "By", 5.0, None, "other signals of shop");
        check(spans, "p99", "s", 5.0, Some("pay"), "Look at pay first");
        check(
            "orders.queue.length",
            "value",
            "{item}",
            9.0,
            None,
            "More comes into shop",
        );
        check(
            "kafka.consumer.lag",
            "value",
            "",
            9.0,
            None,
            "More comes into shop",
        );
        check("system.memory.usage", "value", "By", 9.0, None, "uses more");
        check(
            "db.client.connections.used",
            "value",
            "",
            -9.0,
            None,
            "uses less",
        );
        check("shop.basket.value", "value", "", 9.0, None, "Compare with");
    }

    #[test]
    fn the_measure_decides_before_the_name() {
        let mut alert = crate::explain::fixtures::alert("shop");
        for (measure, side, says) in [
            (Measure::Silence, Side::Below, "still runs"),
            (Measure::BurnRate, Side::Above, "Stop risky changes to shop"),
            (Measure::TimeLeft, Side::Above, "Make room before that"),
            (Measure::TimeLeft, Side::Below, "Refill it before that"),
        ] {
            alert.grounds.measure = measure;
            let kind = Kind::of_alert(&alert);
            let text = recommendation(kind, side, "shop", Hints::default());
            assert!(text.contains(says), "{text}");
        }
    }

    #[test]
    fn errors_of_one_version_are_not_those_of_a_callee() {
        let carrier = Carrier {
            attribute: "service.version".into(),
            values: vec!["2.0".into()],
            of: 2,
            sampled: false,
        };
        let mut hints = Hints {
            origin: Some("ledger"),
            release: Some(&carrier),
            ..Hints::default()
        };
        let say = |kind, hints| recommendation(kind, Side::Above, "shop", hints);
        let text = say(Kind::ErrorRatio, hints);
        assert!(text.starts_with("Roll back version 2.0 of shop"), "{text}");
        let text = say(Kind::Latency, hints);
        assert!(text.starts_with("Look at ledger first"), "{text}");
        hints.version = Some(("shop", "2.0"));
        let text = say(Kind::ErrorRatio, hints);
        assert_eq!(text.matches("2.0").count(), 1, "{text}");
    }

    #[test]
    fn a_service_that_nobody_calls_is_not_looked_for() {
        let hints = Hints {
            uncalled_by: Some("front"),
            ..Hints::default()
        };
        let text = recommendation(Kind::Silence, Side::Above, "pay", hints);
        assert!(text.starts_with("Look at front first"), "{text}");
    }

    #[test]
    fn a_new_version_comes_first_and_a_bad_instance_before_the_ordinary() {
        let carrier = Carrier {
            attribute: "service.instance.id".into(),
            values: vec!["pod-7".into()],
            of: 10,
            sampled: false,
        };
        let mut hints = Hints {
            version: Some(("pay", "1.4.2")),
            instance: Some(&carrier),
            ..Hints::default()
        };
        let text = recommendation(Kind::Latency, Side::Above, "shop", hints);
        assert!(
            text.starts_with("Version 1.4.2 of pay appeared just before"),
            "{text}"
        );
        assert!(text.contains("Take pod-7 out of rotation"), "{text}");
        hints.origin = Some("pay");
        let text = recommendation(Kind::Latency, Side::Above, "shop", hints);
        assert!(
            text.contains("Look at pay first") && !text.contains("pod-7"),
            "{text}"
        );
    }
}
