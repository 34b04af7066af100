//! What the tests of this module are made of.

use crate::model::{
    Alert, AlertState, DetectorSpec, Direction, EdgeView, Fingerprint, For, Labels, Moved, Rule,
    Selector, SeverityLabel, SigmaThresholds, Timestamp,
};

/// A rule with the label `team`.
pub(super) fn rule() -> Rule {
    Rule {
        alert: "Slow".into(),
        selector: Selector::default(),
        detector: DetectorSpec {
            name: "zscore".into(),
            ..DetectorSpec::default()
        },
        sigma: SigmaThresholds {
            warning: 4.0,
            critical: Some(6.0),
        },
        direction: Direction::Above,
        hold: For::Samples { n: 1, of: 1 },
        resolve_sigma: 1.0,
        resolve_samples: 3,
        min_samples: 30,
        min_change: 0.0,
        min_change_ratio: 0.0,
        labels: [("team", "payments")].into_iter().collect(),
        annotations: Labels::default(),
    }
}

/// A firing latency alert of `service`.
pub(super) fn alert(service: &str) -> Alert {
    let since = Timestamp::parse_rfc3339("2026-01-01T12:00:05.25Z").expect("a time");
    let since = Timestamp::from_secs(since.as_nanos() / 1_000_000_000);
    let labels: Labels = [
        ("alertname", "Slow"),
        ("service", service),
        ("metric", "span.duration"),
        ("signal", "p99"),
        ("severity", "critical"),
        ("span_name", "POST /pay"),
        ("span_kind", "server"),
        ("team", "payments"),
    ]
    .into_iter()
    .collect();
    Alert {
        fingerprint: Fingerprint(1),
        labels,
        annotations: [("baseline", "mean of the last 100 samples")]
            .into_iter()
            .collect(),
        state: AlertState::Firing,
        severity: SeverityLabel::Critical,
        severity_score: 0.5,
        service: service.into(),
        signal_id: format!("{:032x}-p99", 1),
        unit: "s".into(),
        observed: 0.31,
        expected: 0.12,
        lower: 0.09,
        upper: 0.16,
        sigma: 6.1,
        worst_sigma: 7.0,
        anomalous_samples: 3,
        since,
        fired_at: Some(since),
        resolved_at: None,
        updated_at: since,
        trace_id: None,
        grounds: Default::default(),
    }
}

/// Edges from (caller, callee).
pub(super) fn edges(calls: &[(&str, &str)]) -> Vec<EdgeView> {
    calls
        .iter()
        .map(|(caller, callee)| EdgeView {
            caller: (*caller).into(),
            callee: (*callee).into(),
            rate: 1.0,
            error_ratio: 0.0,
            p50: Some(0.1),
            p95: Some(0.2),
            p99: Some(0.3),
            last_seen: Timestamp::EPOCH,
        })
        .collect()
}

/// A signal of `service` that went from `usual` to `value` at the second `since`.
pub(super) fn moved(
    service: &str,
    metric: &str,
    signal: &str,
    usual: f64,
    value: f64,
    since: i64,
) -> Moved {
    Moved {
        signal_id: format!("{:032x}-{signal}", 2),
        service: service.into(),
        metric: metric.into(),
        signal: signal.into(),
        unit: match signal {
            "rate" => "1/s",
            "error_ratio" => "1",
            "value" => "",
            _ => "s",
        }
        .into(),
        attributes: Default::default(),
        series: 1,
        since: Timestamp::from_secs(since),
        usual,
        value,
        sigma: 9.0f64.copysign(value - usual),
        watched: false,
    }
}
