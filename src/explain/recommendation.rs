//! What to look at first, by the kind of deviation.

use super::quantity::Style;

/// What kind of number deviates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// How long something takes.
    Latency,
    /// Share of failed calls.
    ErrorRatio,
    /// How much there is of something.
    Rate,
    /// Anything else.
    Value,
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

impl Kind {
    /// By the name of the signal and its unit.
    pub(super) fn of(signal: &str, unit: &str) -> Self {
        match signal {
            "error_ratio" => Self::ErrorRatio,
            "rate" => Self::Rate,
            _ if matches!(Style::of(unit), Style::Time(_)) => Self::Latency,
            _ => Self::Value,
        }
    }
}

/// The recommendation for a deviation of `service`, with the callee it probably comes from and a
/// trace that shows it, where they are known.
pub(super) fn recommendation(
    kind: Kind,
    side: Side,
    service: &str,
    origin: Option<&str>,
    trace: Option<&str>,
) -> String {
    let mut text = match (origin, kind) {
        // Less traffic than usual comes from the callers, whatever the callees do.
        (Some(origin), Kind::Latency | Kind::ErrorRatio | Kind::Value) => format!(
            "Look at {origin} first: it deviates as well and {service} depends on it. Until it \
             recovers, let {service} do without it or shorten its timeouts."
        ),
        _ => own(kind, side, service),
    };
    // One trace shows slowness or an error, but not how many there were.
    if let Some(trace) = trace.filter(|_| kind != Kind::Rate) {
        text.push_str(&format!(" Trace {trace} shows it."));
    }
    text
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
        (Kind::Value, Side::Above | Side::Below) => format!(
            "Compare with the other signals of {service} and with its last release at the time the \
             deviation began."
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(signal: &str, unit: &str, sigma: f64, origin: Option<&str>, says: &str) {
        let kind = Kind::of(signal, unit);
        let text = recommendation(kind, Side::of(sigma), "shop", origin, Some("ab12"));
        assert!(text.contains(says), "{text}");
        let shown = text.ends_with("Trace ab12 shows it.");
        assert_eq!(shown, kind != Kind::Rate, "{text}");
    }

    #[test]
    fn each_kind_has_its_own() {
        check("p99", "s", 5.0, None, "slow trace of shop");
        check("mean", "ms", -5.0, None, "Faster than usual");
        check("error_ratio", "1", 5.0, None, "failed spans of shop");
        check("rate", "1/s", 5.0, None, "who calls shop");
        check("rate", "1/s", -5.0, Some("pay"), "callers of shop");
        check("p99", "By", 5.0, None, "other signals of shop");
        check("p99", "s", 5.0, Some("pay"), "Look at pay first");
    }
}
