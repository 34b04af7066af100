use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::annotate::signal_name;
use super::gathered::{Gathered, Gist};
use super::quantity::Style;
use super::recommendation::{Hints, Kind, Side, recommendation};
use super::words::seconds;
use crate::model::{
    Alert, AlertState, Examined, Fingerprint, Incident, SampleView, ServiceView, SeverityLabel,
    Timestamp, Trend, VersionView,
};

/// Services listed; the sickest come first.
const MAX_SERVICES: usize = 1_000;
/// Incidents listed.
const MAX_INCIDENTS: usize = 20;
/// Alerts, signals, trends and operations listed of one service.
const MAX_ALERTS: usize = 20;
pub(super) const MAX_SIGNALS: usize = 5;
pub(super) const MAX_TRENDS: usize = 5;
const MAX_OPERATIONS: usize = 20;

/// The performance report: how every service does, the worst first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// When it was made.
    pub generated_at: Timestamp,
    /// Numbers over all services.
    pub totals: Totals,
    /// Incidents that go on and those that ended within a day, the newest first; at most 20.
    #[serde(default)]
    pub incidents: Vec<Incident>,
    /// By health, the worst first, then by name.
    pub services: Vec<ServiceReport>,
    /// Services that are counted but not listed.
    pub services_omitted: usize,
}

/// Numbers over all services.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Services seen.
    pub services: usize,
    /// Signals that the report looked at.
    pub signals: usize,
    /// Signals whose baseline does not stand yet.
    pub learning: usize,
    /// Signals whose newest sample lies outside its band.
    pub deviating: usize,
    /// Firing alerts.
    pub firing: usize,
    /// Pending alerts.
    pub pending: usize,
}

/// How a service does. The order is from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Nothing deviates.
    Ok,
    /// No baseline stands yet.
    Learning,
    /// An alert is pending.
    Pending,
    /// A warning fires.
    Warning,
    /// A critical alert fires.
    Critical,
}

impl Health {
    /// The name in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Learning => "learning",
            Self::Pending => "pending",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// One service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceReport {
    /// `service.name`.
    pub service: String,
    /// How it does.
    pub health: Health,
    /// Last time anything of it arrived; `None` if only its alerts are known.
    pub last_seen: Option<Timestamp>,
    /// How many series it has.
    pub series: u64,
    /// How many new series were refused because of a limit.
    pub refused_series: u64,
    /// How many signals the report looked at.
    pub signals: usize,
    /// How many of them have no baseline yet.
    pub learning: usize,
    /// How many of them lie outside their band.
    pub deviating: usize,
    /// Its pending and firing alerts, at most 20, the worst first.
    pub alerts: Vec<AlertLine>,
    /// Alerts that are not listed.
    pub alerts_omitted: usize,
    /// The versions that it was seen in lately, the oldest first.
    #[serde(default)]
    pub versions: Vec<VersionView>,
    /// The signals with the largest |sigma| in the window, at most 5.
    pub worst: Vec<SignalLine>,
    /// Signals that go somewhere, those that go farthest first, at most 5.
    #[serde(default)]
    pub trends: Vec<TrendLine>,
    /// Trends that are not listed.
    #[serde(default)]
    pub trends_omitted: usize,
    /// Its span operations, at most 20, the busiest first.
    pub operations: Vec<Operation>,
    /// Operations that are not listed.
    pub operations_omitted: usize,
    /// What to do first; `None` when nothing deviates and nothing is on its way to.
    pub recommendation: Option<String>,
}

/// One alert of a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AlertLine {
    /// Its identity.
    pub fingerprint: Fingerprint,
    /// The rule's name.
    pub alertname: String,
    /// Pending or firing.
    pub state: AlertState,
    /// Highest of the episode.
    pub severity: SeverityLabel,
    /// 0.0 to 1.0.
    pub severity_score: f64,
    /// First anomalous sample.
    pub since: Timestamp,
    /// In a sentence.
    pub explanation: String,
}

/// One signal beside its baseline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SignalLine {
    /// Id of the signal.
    pub id: String,
    /// Name of the metric.
    pub metric: String,
    /// Name of the signal.
    pub signal: String,
    /// Unit of the numbers.
    pub unit: String,
    /// Attributes of the point.
    pub attributes: BTreeMap<String, String>,
    /// The newest value.
    pub value: f64,
    /// What was expected.
    pub expected: f64,
    /// Lower end of the band.
    pub lower: Option<f64>,
    /// Upper end of the band.
    pub upper: Option<f64>,
    /// How surprising it is, signed.
    pub sigma: f64,
    /// Whether it lies outside the band.
    pub deviates: bool,
    /// The most surprising sample of the window.
    #[serde(default)]
    pub worst: Option<SampleView>,
}

/// One signal that is going somewhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrendLine {
    /// Id of the signal.
    pub id: String,
    /// Name of the metric.
    pub metric: String,
    /// Name of the signal.
    pub signal: String,
    /// Unit of the numbers.
    pub unit: String,
    /// Attributes of the point.
    pub attributes: BTreeMap<String, String>,
    /// From where to where, and in which time.
    #[serde(flatten)]
    pub trend: Trend,
}

/// Spans of one name and kind: the newest sample of each signal.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Operation {
    /// `span.name`.
    pub name: String,
    /// `span.kind`.
    pub kind: String,
    /// Spans per second.
    pub rate: Option<f64>,
    /// Share of spans with an error.
    pub error_ratio: Option<f64>,
    /// Median duration in seconds.
    pub p50: Option<f64>,
    /// 95th percentile.
    pub p95: Option<f64>,
    /// 99th percentile.
    pub p99: Option<f64>,
}

/// Makes the report as of `now`. `alerts` should be annotated; resolved ones are left out.
pub fn report(
    now: Timestamp,
    signals: Gathered,
    services: &[ServiceView],
    alerts: &[Arc<Alert>],
    incidents: &[Arc<Incident>],
) -> Report {
    let mut known: BTreeMap<&str, Known<'_>> = BTreeMap::new();
    for service in services {
        known.entry(&service.service).or_default().view = Some(service);
    }
    for (service, gist) in signals.services() {
        known.entry(service).or_default().gist = Some(gist);
    }
    for alert in alerts
        .iter()
        .filter(|alert| alert.state != AlertState::Resolved)
    {
        known.entry(&alert.service).or_default().alerts.push(alert);
    }
    let mut totals = Totals {
        services: known.len(),
        ..Totals::default()
    };
    let state = |alerts: &[&Alert], state| alerts.iter().filter(|a| a.state == state).count();
    let mut all = Vec::with_capacity(known.len());
    for (service, known) in known {
        totals.firing += state(&known.alerts, AlertState::Firing);
        totals.pending += state(&known.alerts, AlertState::Pending);
        let report = known.report(service);
        totals.signals += report.signals;
        totals.learning += report.learning;
        totals.deviating += report.deviating;
        all.push(report);
    }
    // The sort is stable and the map was sorted, so names stay in order.
    all.sort_by_key(|service| std::cmp::Reverse(service.health));
    let services_omitted = keep(&mut all, MAX_SERVICES);
    Report {
        generated_at: now,
        totals,
        incidents: incidents
            .iter()
            .take(MAX_INCIDENTS)
            .map(|incident| Incident::clone(incident))
            .collect(),
        services: all,
        services_omitted,
    }
}

/// What there is about one service.
#[derive(Default)]
struct Known<'a> {
    view: Option<&'a ServiceView>,
    gist: Option<&'a Gist>,
    alerts: Vec<&'a Alert>,
}

impl Known<'_> {
    fn report(mut self, service: &str) -> ServiceReport {
        let none = Gist::default();
        let gist = self.gist.unwrap_or(&none);
        let rank = |alert: &Alert| (alert.state == AlertState::Firing, alert.severity);
        self.alerts.sort_by(|a, b| {
            let by_score = b.severity_score.total_cmp(&a.severity_score);
            let by_age = a
                .since
                .cmp(&b.since)
                .then(a.fingerprint.cmp(&b.fingerprint));
            rank(b).cmp(&rank(a)).then(by_score).then(by_age)
        });
        let health = match self.alerts.first() {
            Some(alert) if alert.state == AlertState::Pending => Health::Pending,
            Some(alert) if alert.severity == SeverityLabel::Warning => Health::Warning,
            Some(_) => Health::Critical,
            None if gist.learning > 0 && !gist.ready => Health::Learning,
            None => Health::Ok,
        };
        let mut alerts: Vec<_> = self
            .alerts
            .iter()
            .map(|alert| AlertLine::new(alert))
            .collect();
        let alerts_omitted = keep(&mut alerts, MAX_ALERTS);
        let mut operations: Vec<_> = gist.operations.values().collect();
        let rate = |operation: &Operation| operation.rate.unwrap_or(0.0);
        operations.sort_by(|a, b| rate(b).total_cmp(&rate(a)));
        let operations_omitted = keep(&mut operations, MAX_OPERATIONS);
        ServiceReport {
            service: service.to_owned(),
            health,
            last_seen: self.view.map(|view| view.last_seen),
            series: self.view.map_or(0, |view| view.series),
            refused_series: self.view.map_or(0, |view| view.refused_series),
            signals: gist.signals,
            learning: gist.learning,
            deviating: gist.deviating,
            alerts,
            alerts_omitted,
            versions: self
                .view
                .map_or_else(Vec::new, |view| view.versions.clone()),
            worst: gist.worst.clone(),
            trends: gist.trends.clone(),
            trends_omitted: gist.trends_omitted,
            operations: operations.into_iter().cloned().collect(),
            operations_omitted,
            recommendation: self.recommendation(service, gist),
        }
    }

    /// That of the worst alert, else one for the worst deviation, else one for the worst trend.
    fn recommendation(&self, service: &str, gist: &Gist) -> Option<String> {
        if let Some(text) = self
            .alerts
            .first()
            .and_then(|a| a.annotations.get("recommendation"))
        {
            return Some(text.to_owned());
        }
        if let Some(line) = gist.worst.first().filter(|line| line.deviates) {
            let kind = Kind::of(&line.metric, &line.signal, &line.unit);
            let side = Side::of(line.sigma);
            return Some(recommendation(kind, side, service, Hints::default()));
        }
        let line = gist.gets_worse.as_ref()?;
        let (from, to) = line.ends();
        Some(format!(
            "{} has gone from {from} to {to} within {}: look into it before it alerts.",
            line.name(),
            seconds(line.trend.seconds)
        ))
    }
}

impl AlertLine {
    fn new(alert: &Alert) -> Self {
        Self {
            fingerprint: alert.fingerprint,
            alertname: alert.name().to_owned(),
            state: alert.state,
            severity: alert.severity,
            severity_score: alert.severity_score,
            since: alert.since,
            explanation: alert
                .annotations
                .get("explanation")
                .unwrap_or_default()
                .to_owned(),
        }
    }
}

impl SignalLine {
    /// How its numbers are written.
    pub(super) fn style(&self) -> Style<'_> {
        Style::of_signal(&self.signal, &self.unit, &[self.value, self.expected])
    }
}

impl TrendLine {
    /// `None` where it goes nowhere.
    pub(super) fn new(signal: &Examined) -> Option<Self> {
        let view = &signal.view;
        Some(Self {
            id: view.id.clone(),
            metric: view.metric.clone(),
            signal: view.signal.clone(),
            unit: view.unit.clone(),
            attributes: view.attributes.clone(),
            trend: signal.trend?,
        })
    }

    pub(super) fn farther_first(&self, other: &Self) -> Ordering {
        let by_size = other.size().total_cmp(&self.size());
        by_size.then_with(|| self.id.cmp(&other.id))
    }

    /// Change of the level, as a share of it.
    pub(super) fn change(&self) -> Option<f64> {
        let change = (self.trend.to - self.trend.from) / self.trend.from.abs();
        change.is_finite().then_some(change)
    }

    fn size(&self) -> f64 {
        self.change().map_or(f64::INFINITY, f64::abs)
    }

    /// Whether somebody should look where it is going.
    pub(super) fn gets_worse(&self) -> bool {
        let rises = self.trend.to > self.trend.from;
        match Kind::of(&self.metric, &self.signal, &self.unit) {
            Kind::Latency | Kind::ErrorRatio | Kind::Queue | Kind::Saturation => rises,
            Kind::Rate | Kind::Value | Kind::Silence | Kind::Budget | Kind::Exhaustion => false,
        }
    }

    /// Where it came from, and where it has come to.
    pub(super) fn ends(&self) -> (String, String) {
        let ends = [self.trend.from, self.trend.to];
        let style = Style::of_signal(&self.signal, &self.unit, &ends);
        (style.value(self.trend.from), style.value(self.trend.to))
    }

    /// What it is called beside its service.
    pub(super) fn name(&self) -> String {
        signal_name(&self.metric, &self.signal, &self.attributes)
    }
}

/// Cuts `list` to `most` elements and says how many were cut.
pub(super) fn keep<T>(list: &mut Vec<T>, most: usize) -> usize {
    let omitted = list.len().saturating_sub(most);
    list.truncate(most);
    omitted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::fixtures::alert;
    use crate::model::{BaselineView, IncidentState, SignalView, WindowView};

    fn service(name: &str) -> ServiceView {
        ServiceView {
            service: name.into(),
            first_seen: Timestamp::EPOCH,
            last_seen: Timestamp::from_secs(60),
            series: 3,
            refused_series: 0,
            versions: Vec::new(),
        }
    }

    fn signal(service: &str, name: &str, value: f64, sigma: f64) -> Examined {
        let attributes = [("span.name", "POST /p|ay"), ("span.kind", "server")];
        let view = SignalView {
            id: format!("{:032x}-{name}", 7),
            service: service.into(),
            metric: "span.duration".into(),
            signal: name.into(),
            unit: match name {
                "rate" => "1/s",
                "error_ratio" => "1",
                _ => "s",
            }
            .into(),
            attributes: attributes.map(|(k, v)| (k.into(), v.into())).into(),
            resource: BTreeMap::new(),
            window: WindowView::default(),
            baseline: BaselineView::Ready,
            season: None,
            last: Some(SampleView {
                time: Timestamp::from_secs(60),
                value,
                expected: Some(0.1),
                lower: Some(0.05),
                upper: Some(0.15),
                sigma: Some(sigma),
            }),
            overflow: false,
            rule: Some("Slow".into()),
        };
        Examined {
            view,
            worst: None,
            trend: None,
        }
    }

    pub(super) fn sample() -> Report {
        let mut learning = signal("new", "p50", 0.1, 0.0);
        learning.view.baseline = BaselineView::Learning { remaining: 20 };
        learning.view.last = None;
        let mut firing = alert("checkout");
        firing.annotations.set("explanation", "It is <slow>.");
        firing.annotations.set("recommendation", "Call Ann.");
        let mut resolved = alert("calm");
        resolved.state = AlertState::Resolved;
        let mut past = signal("calm", "p99", 0.1, 0.2);
        past.worst = past.view.last.clone().map(|last| SampleView {
            time: Timestamp::from_secs(20),
            value: 0.2,
            sigma: Some(5.2),
            ..last
        });
        past.trend = Some(Trend {
            seconds: 990.0,
            from: 0.08,
            to: 0.12,
            significance: 5.0,
        });
        let signals = [
            past,
            signal("checkout", "rate", 12.5, 0.0),
            signal("checkout", "error_ratio", 0.12, 1.0),
            signal("checkout", "p99", 0.31, 6.1),
            signal("fast", "p99", 0.01, -5.0),
            learning,
        ];
        let mut services = ["calm", "checkout", "fast", "new", "silent"].map(service);
        services[1].versions = vec![
            VersionView {
                version: "1.4.1".into(),
                first_seen: Timestamp::EPOCH,
                appeared: false,
            },
            VersionView {
                version: "1.4.2|".into(),
                first_seen: Timestamp::from_secs(20),
                appeared: true,
            },
        ];
        let incident = Incident {
            id: "00000000000000ff".into(),
            state: IncidentState::Firing,
            since: Timestamp::from_secs(30),
            resolved_at: None,
            origin: "checkout".into(),
            services: vec!["checkout".into()],
            alerts: Vec::new(),
            alerts_omitted: 1,
            explanation: "It is <slow>.".into(),
            recommendation: "Call Ann.".into(),
        };
        let alerts = [Arc::new(firing), Arc::new(resolved)];
        report(
            Timestamp::from_secs(60),
            gathered(&signals),
            &services,
            &alerts,
            &[Arc::new(incident)],
        )
    }

    fn gathered(signals: &[Examined]) -> Gathered {
        let mut gathered = Gathered::default();
        signals.iter().for_each(|signal| gathered.add(signal));
        gathered
    }

    #[test]
    fn the_sickest_service_comes_first() {
        let report = sample();
        let health: Vec<_> = report
            .services
            .iter()
            .map(|s| (s.service.as_str(), s.health.name()))
            .collect();
        assert_eq!(
            health,
            [
                ("checkout", "critical"),
                ("new", "learning"),
                ("calm", "ok"),
                ("fast", "ok"),
                ("silent", "ok")
            ]
        );
        let totals = Totals {
            services: 5,
            signals: 6,
            learning: 1,
            deviating: 3,
            firing: 1,
            pending: 0,
        };
        assert_eq!(report.totals, totals);
        let checkout = report.services.first().expect("checkout");
        assert_eq!(checkout.recommendation.as_deref(), Some("Call Ann."));
        assert_eq!(checkout.worst.first().map(|line| line.sigma), Some(6.1));
        let expected = Operation {
            name: "POST /p|ay".into(),
            kind: "server".into(),
            rate: Some(12.5),
            error_ratio: Some(0.12),
            p50: None,
            p95: None,
            p99: Some(0.31),
        };
        assert_eq!(checkout.operations, [expected]);
        let fast = report.services.get(3).expect("fast");
        assert!(
            fast.recommendation
                .as_deref()
                .is_some_and(|r| r.starts_with("Faster"))
        );
    }

    #[test]
    fn a_median_that_no_rule_watches_is_shown_and_not_counted() {
        let mut median = signal("a", "p50", 0.2, 0.0);
        median.view.baseline = BaselineView::Unwatched;
        (median.view.rule, median.view.last) = (
            None,
            Some(SampleView {
                time: Timestamp::from_secs(60),
                value: 0.2,
                expected: None,
                lower: None,
                upper: None,
                sigma: None,
            }),
        );
        let signals = [signal("a", "p99", 0.1, 0.2), median];
        let report = super::report(
            Timestamp::EPOCH,
            gathered(&signals),
            &[service("a")],
            &[],
            &[],
        );
        assert_eq!(report.totals.signals, 1);
        let a = report.services.first().expect("a");
        assert_eq!((a.signals, a.worst.len()), (1, 1));
        assert_eq!(a.operations.first().and_then(|o| o.p50), Some(0.2));
    }

    #[test]
    fn it_goes_through_json_and_is_bounded() {
        let report = sample();
        let json = serde_json::to_string(&report).expect("JSON");
        assert_eq!(
            serde_json::from_str::<Report>(&json).expect("the same"),
            report
        );

        let alerts: Vec<_> = (0..50).map(|_| Arc::new(alert("a"))).collect();
        let signals: Vec<_> = (0..50u8)
            .map(|n| {
                let mut signal = signal("a", "p99", 0.3, f64::from(n));
                let name = n.to_string();
                signal.view.attributes.insert("span.name".into(), name);
                signal
            })
            .collect();
        let services: Vec<_> = (0..1_500).map(|n| service(&format!("s{n}"))).collect();
        let big = super::report(
            Timestamp::EPOCH,
            gathered(&signals),
            &services,
            &alerts,
            &[],
        );
        assert_eq!((big.services.len(), big.services_omitted), (1_000, 501));
        let a = big.services.first().expect("a");
        assert_eq!((a.alerts.len(), a.alerts_omitted), (20, 30));
        assert_eq!((a.operations.len(), a.operations_omitted), (20, 30));
        assert_eq!((a.worst.len(), a.deviating), (5, 50));
    }

    #[test]
    fn people_can_read_it() {
        insta::assert_snapshot!("report_markdown", sample().to_markdown());
        insta::assert_snapshot!("report_table", sample().to_table());
    }
}
