//! From OTLP's points to what a person reads, for the detectors that judge other numbers than a sample's
//! value: through the engine and the alerts' state machine, in virtual time.

use std::sync::Arc;

use tidewatch::app::{Replay, ReplaySettings};
use tidewatch::config::{self, Known};
use tidewatch::detect;
use tidewatch::model::{
    Alert, AlertState, AttributeValue, Attributes, Batch, MetricKind, MetricPoint, PointData,
    Resource, Scope, SeriesIdentity, Timestamp,
};

const TICK: i64 = 10;

fn point(service: &str, metric: &str, unit: &str, now: Timestamp, value: f64) -> MetricPoint {
    let name = AttributeValue::from(service);
    let identity = Arc::new(SeriesIdentity {
        resource: Arc::new(Resource {
            service: service.into(),
            attributes: Attributes::from_pairs([("service.name".into(), name)]),
        }),
        scope: Arc::new(Scope::default()),
        metric: metric.into(),
        unit: unit.into(),
        kind: MetricKind::Gauge,
        attributes: Attributes::default(),
    });
    MetricPoint {
        series: identity.id(),
        identity: identity.into(),
        start: None,
        time: now,
        data: PointData::Number(value),
        exemplar: None,
    }
}

/// What fires over `minutes` of the values that `values` has for a minute, and is still firing.
fn firing(rules: &str, minutes: i64, values: impl Fn(f64) -> Vec<MetricPoint>) -> Vec<Alert> {
    let known = Known {
        detectors: detect::names().collect(),
        template: |_| Ok(()),
        text: |_, _, _| Ok(()),
    };
    let loaded = config::parse("t.yaml", rules, &|_| None, &known).expect("a configuration");
    let begin = Timestamp::from_secs(1_800_000_000);
    let mut replay =
        Replay::start(&loaded.config, begin, ReplaySettings::default()).expect("starts");
    for n in 1..=minutes * 60 / TICK {
        let now = Timestamp::from_secs(1_800_000_000 + n * TICK);
        let batch = Batch {
            points: values((n * TICK) as f64 / 60.0)
                .into_iter()
                .map(|point| MetricPoint { time: now, ..point })
                .collect(),
            ..Batch::default()
        };
        let refused = replay.apply(now, batch).expect("it goes on");
        assert!(refused.is_empty());
        replay.advance(now).expect("it goes on");
    }
    let all = replay.alerts();
    all.iter()
        .filter(|alert| alert.state == AlertState::Firing)
        .map(|alert| Alert::clone(alert))
        .collect()
}

#[track_caller]
fn only(alerts: Vec<Alert>) -> Alert {
    let [alert] = alerts.try_into().expect("one alert");
    let alert: Alert = alert;
    eprintln!(
        "{}",
        alert.annotations.get("explanation").unwrap_or_default()
    );
    alert
}

#[test]
fn an_objective_tells_its_burn_rate() {
    let rules = "rules:\n  - {alert: TooSlow, match: '{metric=\"job.duration\"}', detector: slo, target: 300ms}\n";
    let slow = |minute: f64| if minute > 120.0 { 700.0 } else { 200.0 };
    let now = Timestamp::EPOCH;
    // In milliseconds, which the target is converted to.
    let values = |minute| vec![point("shop", "job.duration", "ms", now, slow(minute))];
    assert_eq!(firing(rules, 128, values), []);
    let alert = only(firing(rules, 132, values));
    assert_eq!((alert.unit.as_str(), alert.expected), ("1", 1.0));
    assert!((19.0..21.0).contains(&alert.observed), "{}", alert.observed);
    assert_eq!(
        alert.annotations.get("baseline"),
        Some("error budget of 1 % (value at most 300ms) over 1h and 5m")
    );
}

#[test]
fn a_forecast_tells_the_time_that_is_left() {
    let now = Timestamp::EPOCH;
    let leak = |minute: f64| 0.3 + 0.01 * (minute - 60.0).max(0.0);
    let values = |minute| {
        vec![point(
            "shop",
            "process.memory.utilization",
            "1",
            now,
            leak(minute),
        )]
    };
    // The built-in rule, and none of the others as well for what is only a trend.
    let alerts = firing("", 110, values);
    let alert = only(
        alerts
            .into_iter()
            .filter(|a| a.name() == "Saturation")
            .collect(),
    );
    assert_eq!(alert.unit, "s");
    assert!(
        (1000.0..1400.0).contains(&alert.observed),
        "{}",
        alert.observed
    );
    let words = alert.annotations.get("baseline").unwrap_or_default();
    assert!(words.starts_with("rising by 1 % a minute"), "{words}");
}

#[test]
fn silence_tells_how_long_it_has_lasted() {
    let now = Timestamp::EPOCH;
    let values = |minute: f64| {
        let mut points = vec![point("front", "m", "", now, 1.0)];
        if minute <= 30.0 {
            points.extend((0..50).map(|n| point("cart", &format!("m{n}"), "", now, 1.0)));
        }
        points
    };
    let alert = only(firing("", 32, values));
    assert_eq!(
        (alert.name(), alert.service.as_str()),
        ("ServiceSilent", "cart")
    );
    assert_eq!(
        (alert.unit.as_str(), alert.expected, alert.observed),
        ("s", 10.0, 120.0)
    );
}
