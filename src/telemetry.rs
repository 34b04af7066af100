//! Tidewatch's metrics about itself: every name in one place.

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

use crate::model::Reject;

/// Handles on all metrics of the daemon about itself. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Telemetry {
    /// Where they are registered; `/metrics` gathers from here.
    pub registry: Registry,
    /// Data points applied to their series.
    pub points: IntCounter,
    /// Spans applied.
    pub spans: IntCounter,
    /// Points and spans refused, by reason.
    pub rejected: IntCounterVec,
    /// Points dropped without a refusal, by reason: `late`, `repeated`, `overlap`.
    pub late: IntCounterVec,
    /// Requests by transport (`grpc`, `http`) and answer (an HTTP status or gRPC code name).
    pub requests: IntCounterVec,
    /// Bytes of requests in work, after decompression.
    pub inflight_bytes: IntGauge,
    /// Open OTLP connections.
    pub connections: IntGauge,
    /// Series known.
    pub series: IntGauge,
    /// Services known.
    pub services: IntGauge,
    /// Anomalous samples by detector.
    pub anomalies: IntCounterVec,
    /// Samples judged or learned from.
    pub samples: IntCounter,
    /// Judged samples dropped because too many waited for the end of one tick.
    pub observations_dropped: IntCounter,
    /// From the end of a tick to its alerts being decided.
    pub detection_lag: Histogram,
    /// Alerts by state (`pending`, `firing`).
    pub alerts: IntGaugeVec,
    /// Firing alerts that are not notified, by what mutes them: `silence`, `inhibition`, `time_interval`.
    pub alerts_muted: IntGaugeVec,
    /// Groups of alerts that are notified together.
    pub notification_groups: IntGauge,
    /// Alerts that are not notified because there were too many.
    pub notification_refused: IntCounter,
    /// Alerts that come and go too often to tell each time.
    pub flapping_alerts: IntGauge,
    /// Alerts that other systems reported, by what became of them: `firing`, `resolved`, `invalid`,
    /// `refused`.
    pub received_alerts: IntCounterVec,
    /// What became of notifications, by receiver and result: `delivered`, `retried`, `recovered`,
    /// `resumed`, `fallen_back`, `failed`, `dropped`.
    pub notifications: IntCounterVec,
    /// Attempts to deliver, by receiver, integration and outcome (`taken`, `failed`, `limited`,
    /// `refused`, `gone`).
    pub notification_attempts: IntCounterVec,
    /// Notifications that an integration has still to deliver.
    pub notifications_pending: IntGaugeVec,
    /// Notifications in the outbox.
    pub outbox_messages: IntGauge,
    /// Bytes of their forms.
    pub outbox_bytes: IntGauge,
    /// Whether what is in the outbox survives a crash: 1, or 0 while the disk fails.
    pub outbox_durable: IntGauge,
    /// How often a group's notification had to wait because its receiver's part of the outbox was full.
    pub outbox_full: IntCounterVec,
    /// Circuit breakers by receiver and integration: 0 closed, 1 half-open, 2 open.
    pub breaker_state: IntGaugeVec,
    /// Templates of receivers that failed, by receiver and integration.
    pub template_errors: IntCounterVec,
    /// From the decision to the delivery of a notification, by receiver.
    pub notification_latency: HistogramVec,
    /// Mode changes by the mode they lead to.
    pub mode_changes: IntCounterVec,
    /// Requests that tell services their mode, by what became of them: `delivered` (taken in silence),
    /// `acknowledged` (answered with the mode that the service runs in), `failed`.
    pub mode_webhooks: IntCounterVec,
    /// Changes of what services are told, by what kind of step it was.
    pub mode_steps: IntCounterVec,
    /// Departures from normal that ended, by what their last step that was judged did.
    pub mode_episodes: IntCounterVec,
    /// Watchers of events and modes.
    pub watchers: IntGauge,
    /// Watchers that were dropped because they did not read.
    pub watchers_dropped: IntCounter,
    /// Errors of the store, by operation.
    pub storage_errors: IntCounterVec,
    /// Time the last snapshot of learning took to write.
    pub snapshot_seconds: Histogram,
    /// Unix time of the last snapshot of learning, in seconds.
    pub snapshot_timestamp: IntGauge,
    /// `tidewatch_snapshot_interval_seconds`.
    pub snapshot_interval: IntGauge,
    /// Connections to the API that were closed because there were too many.
    pub http_refused: IntCounter,
    /// Tasks that panicked; each is a bug.
    pub panics: IntCounter,
}

/// Seconds, from a millisecond to a minute.
const SECONDS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0, 60.0,
];

impl Telemetry {
    /// All metrics at zero in a registry of their own.
    ///
    /// # Panics
    /// Never: names are fixed and different; a test builds it.
    pub fn new() -> Self {
        let registry = Registry::new();
        let r = &registry;
        let telemetry = Self {
            points: counter(
                r,
                "tidewatch_otlp_points_total",
                "Data points applied to their series.",
            ),
            spans: counter(r, "tidewatch_otlp_spans_total", "Spans applied."),
            rejected: counters(
                r,
                "tidewatch_otlp_rejected_total",
                "Points and spans refused for what they say.",
                &["reason"],
            ),
            late: counters(
                r,
                "tidewatch_late_points_total",
                "Late, repeated and overlapping points and spans, dropped.",
                &["reason"],
            ),
            requests: counters(
                r,
                "tidewatch_otlp_requests_total",
                "OTLP requests by transport and answer.",
                &["transport", "code"],
            ),
            inflight_bytes: gauge(
                r,
                "tidewatch_otlp_inflight_bytes",
                "Bytes of OTLP requests in work, after decompression.",
            ),
            connections: gauge(r, "tidewatch_otlp_connections", "Open OTLP connections."),
            series: gauge(r, "tidewatch_series", "Series known."),
            services: gauge(r, "tidewatch_services", "Services known."),
            anomalies: counters(
                r,
                "tidewatch_anomalies_total",
                "Anomalous samples by detector.",
                &["detector"],
            ),
            samples: counter(r, "tidewatch_samples_total", "Samples of signals observed."),
            observations_dropped: counter(
                r,
                "tidewatch_observations_dropped_total",
                "Judged samples dropped because too many waited for the end of one tick.",
            ),
            detection_lag: histogram(
                r,
                "tidewatch_detection_lag_seconds",
                "From the end of a tick to its alerts being decided.",
            ),
            alerts: gauges(r, "tidewatch_alerts", "Alerts by state.", &["state"]),
            alerts_muted: gauges(
                r,
                "tidewatch_alerts_muted",
                "Firing alerts that are not notified, by what mutes them.",
                &["by"],
            ),
            notification_groups: gauge(
                r,
                "tidewatch_notification_groups",
                "Groups of alerts that are notified together.",
            ),
            notification_refused: counter(
                r,
                "tidewatch_notification_refused_alerts_total",
                "Alerts not notified because there were too many.",
            ),
            flapping_alerts: gauge(
                r,
                "tidewatch_flapping_alerts",
                "Alerts that fire so often that they are held until they stay calm.",
            ),
            received_alerts: counters(
                r,
                "tidewatch_received_alerts_total",
                "Alerts that other systems reported, by what became of them.",
                &["result"],
            ),
            notifications: counters(
                r,
                "tidewatch_notifications_total",
                "What became of notifications, by receiver and result.",
                &["receiver", "result"],
            ),
            notification_attempts: counters(
                r,
                "tidewatch_notification_attempts_total",
                "Attempts to deliver a notification, by integration and outcome.",
                &["receiver", "integration", "outcome"],
            ),
            notifications_pending: gauges(
                r,
                "tidewatch_notifications_pending",
                "Notifications that an integration has still to deliver.",
                &["receiver", "integration"],
            ),
            outbox_messages: gauge(
                r,
                "tidewatch_outbox_messages",
                "Notifications that are decided and not yet settled.",
            ),
            outbox_bytes: gauge(
                r,
                "tidewatch_outbox_bytes",
                "Bytes of the notifications in the outbox.",
            ),
            outbox_durable: gauge(
                r,
                "tidewatch_outbox_durable",
                "1 while the outbox survives a crash, 0 while the disk fails.",
            ),
            outbox_full: counters(
                r,
                "tidewatch_outbox_full_total",
                "Times that groups of a receiver were held back because its outbox was full.",
                &["receiver"],
            ),
            breaker_state: gauges(
                r,
                "tidewatch_breaker_state",
                "Circuit breaker of an integration: 0 closed, 1 half-open, 2 open.",
                &["receiver", "integration"],
            ),
            template_errors: counters(
                r,
                "tidewatch_template_errors_total",
                "Templates of receivers that failed, so that the built-in text was sent, by receiver and integration.",
                &["receiver", "integration"],
            ),
            notification_latency: histograms(
                r,
                "tidewatch_notification_latency_seconds",
                "From the decision to the delivery of a notification.",
                &["receiver"],
            ),
            mode_changes: counters(
                r,
                "tidewatch_mode_changes_total",
                "Mode changes by the mode they lead to.",
                &["mode"],
            ),
            mode_webhooks: counters(
                r,
                "tidewatch_mode_webhooks_total",
                "Requests that tell services their mode by what became of them.",
                &["result"],
            ),
            mode_steps: counters(
                r,
                "tidewatch_mode_steps_total",
                "Changes of what services are told, by kind of step.",
                &["step"],
            ),
            mode_episodes: counters(
                r,
                "tidewatch_mode_episodes_total",
                "Departures from normal that ended, by whether they helped.",
                &["verdict"],
            ),
            watchers: gauge(r, "tidewatch_watchers", "Watchers of events and modes."),
            watchers_dropped: counter(
                r,
                "tidewatch_watchers_dropped_total",
                "Watchers dropped because they did not read.",
            ),
            storage_errors: counters(
                r,
                "tidewatch_storage_errors_total",
                "Errors of the store by operation.",
                &["operation"],
            ),
            snapshot_seconds: histogram(
                r,
                "tidewatch_snapshot_duration_seconds",
                "Time to write a snapshot of learning.",
            ),
            snapshot_timestamp: gauge(
                r,
                "tidewatch_snapshot_timestamp_seconds",
                "Unix time of the last snapshot of learning.",
            ),
            snapshot_interval: gauge(
                r,
                "tidewatch_snapshot_interval_seconds",
                "Least time between two snapshots of learning: longer than storage.snapshot_interval where one takes long.",
            ),
            http_refused: counter(
                r,
                "tidewatch_http_refused_connections_total",
                "Connections to the API closed because there were too many.",
            ),
            panics: counter(
                r,
                "tidewatch_panics_total",
                "Tasks that panicked; each is a bug.",
            ),
            registry,
        };
        // Counters with a known set of labels start at zero, so that `rate()` sees their first step.
        for reason in Reject::ALL {
            telemetry.rejected.with_label_values(&[reason.name()]);
        }
        for reason in ["late", "repeated", "overlap"] {
            telemetry.late.with_label_values(&[reason]);
        }
        for operation in ["commit", "snapshot", "open"] {
            telemetry.storage_errors.with_label_values(&[operation]);
        }
        for result in ["firing", "resolved", "invalid", "refused"] {
            telemetry.received_alerts.with_label_values(&[result]);
        }
        for result in ["delivered", "acknowledged", "failed"] {
            telemetry.mode_webhooks.with_label_values(&[result]);
        }
        for state in ["pending", "firing"] {
            telemetry.alerts.with_label_values(&[state]);
        }
        let info = gauges(
            &telemetry.registry,
            "tidewatch_build_info",
            "Version of this daemon; always 1.",
            &["version"],
        );
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        telemetry
    }
}

impl Default for Telemetry {
    fn default() -> Self {
        Self::new()
    }
}

const FIXED: &str = "names are fixed and different from each other; a test builds them all";

fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    let metric = IntCounter::new(name, help).expect(FIXED);
    registry.register(Box::new(metric.clone())).expect(FIXED);
    metric
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    let metric = IntCounterVec::new(Opts::new(name, help), labels).expect(FIXED);
    registry.register(Box::new(metric.clone())).expect(FIXED);
    metric
}

fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    let metric = IntGauge::new(name, help).expect(FIXED);
    registry.register(Box::new(metric.clone())).expect(FIXED);
    metric
}

fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    let metric = IntGaugeVec::new(Opts::new(name, help), labels).expect(FIXED);
    registry.register(Box::new(metric.clone())).expect(FIXED);
    metric
}

fn histogram(registry: &Registry, name: &str, help: &str) -> Histogram {
    let options = HistogramOpts::new(name, help).buckets(SECONDS.to_vec());
    let metric = Histogram::with_opts(options).expect(FIXED);
    registry.register(Box::new(metric.clone())).expect(FIXED);
    metric
}

fn histograms(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
    let options = HistogramOpts::new(name, help).buckets(SECONDS.to_vec());
    let metric = HistogramVec::new(options, labels).expect(FIXED);
    registry.register(Box::new(metric.clone())).expect(FIXED);
    metric
}

#[cfg(test)]
mod tests {
    use super::Telemetry;

    #[test]
    fn all_metrics_can_be_built_and_gathered() {
        let names: Vec<_> = Telemetry::new()
            .registry
            .gather()
            .iter()
            .map(|f| f.name().to_owned())
            .collect();
        assert!(names.iter().any(|name| name == "tidewatch_build_info"));
        assert!(names.iter().all(|name| name.starts_with("tidewatch_")));
    }
}
