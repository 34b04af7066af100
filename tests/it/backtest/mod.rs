//! Recorded data in virtual time gives what live data gives.

mod command;
mod daemon;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tidewatch::app::{Replay, ReplaySettings};
use tidewatch::config::Config;
use tidewatch::ingest::{Format, decode_metrics};
use tidewatch::model::{
    AlertState, AttributeValue, Attributes, Batch, EventBody, MetricKind, MetricPoint, PointData,
    Query as _, Resource, Selector, SeriesIdentity, Timestamp,
};

use crate::harness::otlp;

const TICK: Duration = Duration::from_secs(10);
const START: Timestamp = Timestamp::from_secs(1_767_225_600);

/// The end of the `n`th tick.
fn at(n: u32) -> Timestamp {
    START.plus(TICK * n)
}

/// One value of one gauge at the end of the `n`th tick.
fn depth(n: u32, value: f64) -> Batch {
    let time = u64::try_from(at(n).as_nanos()).expect("after 1970");
    let request = otlp::gauge("checkout", "queue.depth", &[(time, value)]);
    let bytes = request.to_string();
    decode_metrics(Format::Json, bytes.as_bytes(), at(n)).expect("a request")
}

/// Calm for 200 ticks, ten times as much for 20, and calm again.
fn incident(n: u32) -> f64 {
    let calm = 100.0 + (f64::from(n) * 0.7).sin() * 2.0;
    if (200..220).contains(&n) {
        calm * 10.0
    } else {
        calm
    }
}

fn replay(settings: ReplaySettings) -> Replay {
    Replay::start(&Config::default(), START, settings).expect("a replay")
}

/// `firing at …`, `resolved at …` without what is pending.
fn told(replay: &mut Replay) -> Vec<String> {
    let events = replay.take_events().into_iter();
    let alerts = events.filter_map(|event| match event.body {
        EventBody::Alert { alert, .. } if alert.state != AlertState::Pending => Some(format!(
            "{} {} {} at {}: {}",
            alert.name(),
            alert.service,
            alert.state.name(),
            event.time,
            alert.annotations.get("explanation").unwrap_or_default()
        )),
        EventBody::Alert { .. }
        | EventBody::Mode(_)
        | EventBody::Freeze { .. }
        | EventBody::Silence { .. }
        | EventBody::Proposal { .. }
        | EventBody::Acknowledged { .. }
        | EventBody::Episode { .. }
        | EventBody::Plan { .. }
        | EventBody::Dismissed { .. } => None,
    });
    alerts.collect()
}

#[test]
fn an_incident_fires_and_resolves_once_in_virtual_time() {
    let mut replay = replay(ReplaySettings::default());
    for n in 1..300 {
        replay.apply(at(n), depth(n, incident(n))).expect("applied");
    }
    replay.finish().expect("finished");
    let told = told(&mut replay);
    assert_eq!(told.len(), 2, "{told:#?}");
    // The third of five samples out of the band, judged at the end of its tick.
    assert!(
        told[0].starts_with("QueueDepthSpike checkout firing at 2026-01-01T00:33:40Z"),
        "{told:#?}"
    );
    assert!(told[1].contains("resolved"), "{told:#?}");
    let selector = Selector::parse(r#"{metric="queue.depth"}"#).expect("a selector");
    let signals = replay.ask(async |engine| engine.signals(selector, None, 10).await);
    assert_eq!(signals.items.len(), 1);
}

#[test]
fn a_stop_in_the_middle_of_an_incident_changes_nothing() {
    let whole = {
        let mut replay = replay(ReplaySettings::default());
        for n in 1..300 {
            replay.apply(at(n), depth(n, incident(n))).expect("applied");
        }
        told(&mut replay)
    };
    for stop in [100, 199, 201, 202, 210, 219, 221, 222] {
        let mut before = replay(ReplaySettings::default());
        for n in 1..stop {
            before.apply(at(n), depth(n, incident(n))).expect("applied");
        }
        let mut halves = told(&mut before);
        let mut after = Replay::start(
            &Config::default(),
            before.now(),
            ReplaySettings {
                saved: Some(before.save()),
                ..ReplaySettings::default()
            },
        )
        .expect("a replay");
        for n in stop..300 {
            after.apply(at(n), depth(n, incident(n))).expect("applied");
        }
        halves.extend(told(&mut after));
        assert_eq!(halves, whole, "stopped before tick {stop}");
    }
}

/// A gauge of a service without further attributes.
fn gauge(service: &str) -> Arc<SeriesIdentity> {
    let name = AttributeValue::from(service);
    Arc::new(SeriesIdentity {
        resource: Arc::new(Resource {
            service: service.into(),
            attributes: Attributes::from_pairs([("service.name".into(), name)]),
        }),
        scope: Arc::default(),
        metric: "queue.depth".into(),
        unit: "1".into(),
        kind: MetricKind::Gauge,
        attributes: Attributes::default(),
    })
}

/// Several services over six hours: incidents, some of them at once; gaps in which series and alerts
/// end; points beside the tick's end; series that end and begin anew.
fn shop() -> Vec<MetricPoint> {
    let services = ["cart", "checkout", "fraud", "mail", "payment", "search"];
    let mut points = Vec::new();
    for (s, service) in (0u32..).zip(services) {
        let identity = gauge(service);
        for n in 0..2000 {
            let silent = s == 2 && (700..1500).contains(&n) || s == 3 && (425..500).contains(&n);
            if silent || (s == 4 && n % 6 != 0) || (s == 5 && n < 50) {
                continue;
            }
            let noise = f64::from((n * 7919 + s * 104_729) % 1000) / 100.0;
            let wrong = (400 + s * 5..430 + s * 2).contains(&n) || (n % 1000) < s;
            let value = if wrong { 500.0 } else { 100.0 + noise };
            let data = if s == 1 && n == 420 {
                PointData::End
            } else {
                PointData::Number(value)
            };
            let aside = Duration::from_millis(u64::from(n % 3) * 3_300);
            points.push(MetricPoint {
                series: identity.id(),
                identity: Arc::clone(&identity).into(),
                start: None,
                time: at(n).plus(aside),
                data,
                exemplar: None,
            });
        }
    }
    points.sort_by_key(|point| point.time);
    points
}

const MODES: &str = r#"
modes:
  limit: 50%
  policies:
    - {name: odd, when: '{alertname="QueueDepthSpike"}', service: "{{ service }}", level: degraded, hold: 60s, recover: 2m}
"#;

fn config(text: &str) -> Config {
    let loaded = tidewatch::config::parse("test", text, &|_| None, &tidewatch::app::known());
    loaded.expect("a good configuration").config
}

/// Everything that happened, as JSON lines.
fn all(replay: &mut Replay) -> String {
    let lines = replay
        .take_events()
        .into_iter()
        .map(|event| serde_json::to_string(&event).expect("an event has a JSON form"));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn however_it_is_run_the_same_data_gives_the_same_events() {
    let points = shop();
    let config = config(MODES);
    let end = points
        .last()
        .expect("points")
        .time
        .plus(Duration::from_secs(7200));
    let played = |shards, size: usize| {
        let settings = ReplaySettings {
            shards: NonZeroUsize::new(shards),
            ..ReplaySettings::default()
        };
        let mut replay = Replay::start(&config, START, settings).expect("a replay");
        for chunk in points.chunks(size) {
            let refused = replay.play(chunk.to_vec()).expect("played");
            assert!(refused.is_empty(), "{refused:?}");
        }
        replay.advance(end).expect("advanced");
        all(&mut replay)
    };
    let whole = played(0, usize::MAX);
    let told = |what: &str| whole.matches(what).count();
    for (what, least) in [
        (r#""state":"firing""#, 6),
        (r#""type":"mode""#, 8),
        ("no data since", 1),
        ("the signal ended", 1),
    ] {
        assert!(told(what) >= least, "{what}: {}", told(what));
    }
    for (shards, size) in [(0, 1), (0, 97), (1, 1000), (4, 1000)] {
        assert!(
            played(shards, size) == whole,
            "{shards} shards, {size} points at once"
        );
    }
    // As the daemon is driven: a request for each time.
    let mut replay = Replay::start(&config, START, ReplaySettings::default()).expect("a replay");
    for points in points.chunk_by(|a, b| a.time == b.time) {
        let batch = Batch {
            points: points.to_vec(),
            ..Batch::default()
        };
        replay.apply(points[0].time, batch).expect("applied");
    }
    replay.advance(end).expect("advanced");
    assert!(all(&mut replay) == whole);
}
