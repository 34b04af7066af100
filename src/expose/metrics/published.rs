//! What Tidewatch found out: signals with their baseline, alerts, modes.

use std::sync::Arc;

use super::labels::{LabelSet, Rendered, distinct};
use super::text::{Kind, Writer};
use crate::expose::aside::in_turns;
use crate::model::{Alert, AlertState, Page, SignalId, SignalView, Timestamp};
use crate::mute::{SilenceState, Silences};
use crate::publish::ModesView;

/// Every label of `tidewatch_signal` that is ours.
const SIGNAL_LABELS: [&str; 6] = ["service", "metric", "signal", "instance", "series", "stat"];

/// Signals that are asked for together.
const PAGE: usize = 1_000;
/// Signals of which the text is made in one turn, and those that are only handed on.
const TURN: usize = 64;
const CHEAP_TURN: usize = 1_024;
/// What is told of a signal.
const STATS: [&str; 11] = [
    "value", "expected", "lower", "upper", "sigma", "mean", "stddev", "p50", "p90", "p95", "p99",
];

/// `tidewatch_signal`: value, baseline and window of the watched signals, as little of each as is shown.
pub(super) struct Signals(Vec<Row>);

struct Row {
    id: String,
    labels: Rendered,
    /// By [`STATS`]; NaN where there is nothing to show.
    stats: [f64; STATS.len()],
}

impl Signals {
    /// At most `limit` of them, from pages behind a cursor of about as many as are asked for.
    pub(super) fn gather(
        limit: usize,
        mut page: impl FnMut(Option<SignalId>, usize) -> Page<SignalView>,
    ) -> Self {
        let (mut rows, mut cursor) = (Vec::new(), None);
        while rows.len() < limit {
            let page = page(cursor, PAGE.min(limit - rows.len()));
            rows.extend(in_turns(page.items, TURN).map(|signal| Row {
                labels: signal_labels(&signal).rendered(),
                stats: stats(&signal),
                id: signal.id,
            }));
            match page.next {
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
        Self(rows)
    }

    /// Writes them, and how many there are and may be, so that an operator can tell when that is reached.
    pub(super) fn write(self, writer: &mut Writer, limit: usize) {
        let Self(mut rows) = self;
        rows.sort_by(|a, b| a.id.cmp(&b.id));
        rows.dedup_by(|a, b| a.id == b.id);
        rows.truncate(limit);
        writer.family(
            "tidewatch_exposed_signals",
            "Signals shown as tidewatch_signal.",
            Kind::Gauge,
        );
        writer.sample("tidewatch_exposed_signals", "", "", rows.len() as f64);
        writer.family(
            "tidewatch_exposed_signals_limit",
            "Most signals that are shown as tidewatch_signal.",
            Kind::Gauge,
        );
        writer.sample("tidewatch_exposed_signals_limit", "", "", limit as f64);
        if rows.is_empty() {
            return;
        }
        writer.family(
            "tidewatch_signal",
            "Watched signals in their own units: the newest value, its baseline, statistics of the window.",
            Kind::Gauge,
        );
        let (sets, stats): (Vec<_>, Vec<_>) = in_turns(rows, CHEAP_TURN)
            .map(|row| ((row.labels, row.id), row.stats))
            .unzip();
        for (mut labels, stats) in distinct(sets, "series").into_iter().zip(stats) {
            labels.push_str(",stat=\"");
            let stem = labels.len();
            for (name, value) in STATS.into_iter().zip(stats) {
                if value.is_nan() {
                    continue;
                }
                labels.truncate(stem);
                labels.push_str(name);
                labels.push('"');
                writer.sample("tidewatch_signal", "", &labels, value);
            }
        }
    }
}

fn signal_labels(signal: &SignalView) -> LabelSet<'_> {
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
fn stats(signal: &SignalView) -> [f64; STATS.len()] {
    let last = signal.last.as_ref();
    let window = (signal.window.count > 0).then_some(&signal.window);
    let spread = window.filter(|window| window.count > 1);
    // The band may be open above only where there is a band.
    let upper = last.and_then(|last| {
        let open = last.expected.map(|_| f64::INFINITY);
        last.upper.or(open)
    });
    let finite = |number: Option<f64>| number.filter(|n| n.is_finite()).unwrap_or(f64::NAN);
    [
        finite(last.map(|last| last.value)),
        finite(last.and_then(|last| last.expected)),
        finite(last.and_then(|last| last.lower)),
        match upper {
            Some(f64::INFINITY) => f64::INFINITY,
            upper => finite(upper),
        },
        finite(last.and_then(|last| last.sigma)),
        finite(window.map(|window| window.mean)),
        finite(spread.map(|window| window.stddev)),
        finite(window.map(|window| window.p50)),
        finite(window.map(|window| window.p90)),
        finite(window.map(|window| window.p95)),
        finite(window.map(|window| window.p99)),
    ]
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
        (set.rendered(), alert.fingerprint.to_string())
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
