//! What Tidewatch found out: signals with their baseline, alerts, modes.

use super::labels::{LabelSet, distinct};
use super::text::{Kind, Writer};
use crate::model::{Alert, AlertState, SignalView, Timestamp};
use crate::mute::{SilenceState, Silences};
use crate::publish::ModesView;
use std::sync::Arc;

/// Every label of `tidewatch_signal` that is ours.
const SIGNAL_LABELS: [&str; 6] = ["service", "metric", "signal", "instance", "series", "stat"];

/// `tidewatch_signal`: value, baseline and window of the watched signals. `limit` is how many may be
/// shown; it is shown too, so that an operator can tell when it is reached.
pub(super) fn write_signals(writer: &mut Writer, mut signals: Vec<SignalView>, limit: usize) {
    signals.sort_by(|a, b| a.id.cmp(&b.id));
    signals.dedup_by(|a, b| a.id == b.id);
    signals.truncate(limit);
    writer.family(
        "tidewatch_exposed_signals",
        "Signals shown as tidewatch_signal.",
        Kind::Gauge,
    );
    writer.sample("tidewatch_exposed_signals", "", "", signals.len() as f64);
    writer.family(
        "tidewatch_exposed_signals_limit",
        "Most signals that are shown as tidewatch_signal.",
        Kind::Gauge,
    );
    writer.sample("tidewatch_exposed_signals_limit", "", "", limit as f64);
    if signals.is_empty() {
        return;
    }
    writer.family(
        "tidewatch_signal",
        "Watched signals in their own units: the newest value, its baseline, statistics of the window.",
        Kind::Gauge,
    );
    let labels = distinct(
        signals
            .iter()
            .map(|signal| (signal_labels(signal), signal.id.clone()))
            .collect(),
        "series",
    );
    for (signal, labels) in signals.iter().zip(labels) {
        let mut with_stat = labels;
        with_stat.push_str(",stat=\"");
        let stem = with_stat.len();
        for (stat, value) in stats(signal) {
            with_stat.truncate(stem);
            with_stat.push_str(stat);
            with_stat.push('"');
            writer.sample("tidewatch_signal", "", &with_stat, value);
        }
    }
}

fn signal_labels(signal: &SignalView) -> LabelSet {
    let instance = signal.resource.get("service.instance.id");
    let instance = instance.map_or("", String::as_str);
    LabelSet::new(
        [
            ("service", signal.service.as_str()),
            ("metric", &signal.metric),
            ("signal", &signal.signal),
            ("instance", instance),
        ],
        text_pairs(&signal.attributes),
        &SIGNAL_LABELS,
    )
}

fn text_pairs(
    pairs: &std::collections::BTreeMap<String, String>,
) -> impl Iterator<Item = (&str, &str)> {
    pairs
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
}

/// The numbers there are. A band without an upper end is `+Inf` high; without a lower end it has none
/// to show. Nothing else that is not finite is written.
fn stats(signal: &SignalView) -> impl Iterator<Item = (&'static str, f64)> {
    let last = signal.last.as_ref();
    let window = (signal.window.count > 0).then_some(&signal.window);
    let spread = window.filter(|window| window.count > 1);
    // The band may be open above only where there is a band.
    let upper = last.and_then(|last| {
        let open = last.expected.map(|_| f64::INFINITY);
        last.upper.or(open)
    });
    [
        ("value", last.map(|last| last.value)),
        ("expected", last.and_then(|last| last.expected)),
        ("lower", last.and_then(|last| last.lower)),
        ("upper", upper),
        ("sigma", last.and_then(|last| last.sigma)),
        ("mean", window.map(|window| window.mean)),
        ("stddev", spread.map(|window| window.stddev)),
        ("p50", window.map(|window| window.p50)),
        ("p90", window.map(|window| window.p90)),
        ("p95", window.map(|window| window.p95)),
        ("p99", window.map(|window| window.p99)),
    ]
    .into_iter()
    .filter_map(|(stat, value)| value.map(|value| (stat, value)))
    .filter(|(stat, value)| value.is_finite() || (*stat == "upper" && *value == f64::INFINITY))
}

/// `ALERTS` as Prometheus itself has it: 1 for each alert that is pending or firing.
pub(super) fn write_alerts(writer: &mut Writer, alerts: &[Arc<Alert>]) {
    let mut active: Vec<_> = alerts
        .iter()
        .filter(|alert| alert.state != AlertState::Resolved)
        .collect();
    if active.is_empty() {
        return;
    }
    active.sort_by_key(|alert| alert.fingerprint);
    active.dedup_by_key(|alert| alert.fingerprint);
    writer.family("ALERTS", "Alerts that are pending or firing.", Kind::Gauge);
    let labels = active.iter().map(|alert| {
        let theirs = alert.labels.iter().filter(|(name, _)| *name != "alertname");
        let set = LabelSet::new(
            [
                ("alertname", alert.name()),
                ("alertstate", alert.state.name()),
            ],
            theirs,
            &["alertname", "alertstate", "fingerprint"],
        );
        (set, alert.fingerprint.to_string())
    });
    for labels in distinct(labels.collect(), "fingerprint") {
        writer.sample("ALERTS", "", &labels, 1.0);
    }
}

/// `tidewatch_silences`: how many there are in each state.
pub(super) fn write_silences(writer: &mut Writer, silences: &Silences, now: Timestamp) {
    writer.family("tidewatch_silences", "Silences by state.", Kind::Gauge);
    for state in SilenceState::ALL {
        let count = silences.list().filter(|s| s.state(now) == state).count();
        let labels = format!("state=\"{}\"", state.name());
        writer.sample("tidewatch_silences", "", &labels, count as f64);
    }
}

/// What services are told, what they say of it, and what waits for people.
pub(super) fn write_modes(writer: &mut Writer, modes: &ModesView) {
    for (name, help, value) in [
        (
            "tidewatch_mode_proposals",
            "Steps that automation leaves to people.",
            modes.proposals.len() as f64,
        ),
        (
            "tidewatch_modes_frozen",
            "Whether automatic changes of modes are frozen.",
            f64::from(u8::from(modes.freeze.is_some())),
        ),
        (
            "tidewatch_modes_blind",
            "Whether too little is known at present for automatic changes of modes.",
            f64::from(u8::from(modes.blind.is_some())),
        ),
    ] {
        writer.family(name, help, Kind::Gauge);
        writer.sample(name, "", "", value);
    }
    if !modes.services.is_empty() {
        write_told(writer, modes);
    }
    if !modes.reports.is_empty() {
        write_reports(writer, modes);
    }
}

/// `tidewatch_service_mode`: for every service each level, 1 for the one it is told.
fn write_told(writer: &mut Writer, modes: &ModesView) {
    writer.family(
        "tidewatch_service_mode",
        "Mode that a service is told to run in: 1 for the present one.",
        Kind::Gauge,
    );
    for (service, state) in &modes.services {
        for mode in modes.levels.names() {
            let ours = [("service", service.as_str()), ("mode", mode)];
            let labels = LabelSet::new(ours, [], &[]).render();
            let present = f64::from(u8::from(*mode == state.mode));
            writer.sample("tidewatch_service_mode", "", &labels, present);
        }
    }
}

/// What services that report say.
fn write_reports(writer: &mut Writer, modes: &ModesView) {
    writer.family(
        "tidewatch_service_mode_acknowledged",
        "Whether every instance that reports has heard what its service is told.",
        Kind::Gauge,
    );
    for (service, report) in &modes.reports {
        let labels = LabelSet::new([("service", service.as_str())], [], &[]).render();
        let acknowledged = f64::from(u8::from(report.acknowledged));
        let name = "tidewatch_service_mode_acknowledged";
        writer.sample(name, "", &labels, acknowledged);
    }
    writer.family(
        "tidewatch_service_mode_instances",
        "Instances that say that they run in a mode.",
        Kind::Gauge,
    );
    for (service, report) in &modes.reports {
        // Each level, also with nobody in it, so that a count does not stand still when they leave; and
        // whatever else they call theirs, as far as that is not endless.
        let count = |name: &str| report.actual.iter().find(|(mode, _)| mode == name);
        let levels = modes.levels.names().iter().map(String::as_str);
        let others = report.actual.iter().map(|(mode, _)| mode.as_str());
        let others = others.filter(|mode| !modes.levels.names().iter().any(|level| level == mode));
        for mode in levels.chain(others.take(MOST_OTHER_MODES)) {
            let ours = [("service", service.as_str()), ("mode", mode)];
            let labels = LabelSet::new(ours, [], &[]).render();
            let instances = count(mode).map_or(0, |(_, count)| *count);
            let name = "tidewatch_service_mode_instances";
            writer.sample(name, "", &labels, f64::from(instances));
        }
    }
}

/// Modes of one service that are shown though no level is called so.
const MOST_OTHER_MODES: usize = 8;
