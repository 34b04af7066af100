//! Recorded data in virtual time gives what live data gives.

use std::time::Duration;

use tidewatch::app::{Replay, ReplaySettings};
use tidewatch::config::Config;
use tidewatch::ingest::{Format, decode_metrics};
use tidewatch::model::{AlertState, Batch, EventBody, Query as _, Selector, Timestamp};

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
        EventBody::Alert { .. } | EventBody::Mode(_) | EventBody::Freeze { .. } => None,
    });
    alerts.collect()
}

#[test]
fn an_incident_fires_and_resolves_once_in_virtual_time() {
    let mut replay = replay(ReplaySettings::default());
    for n in 1..300 {
        replay.apply(at(n), depth(n, incident(n))).expect("applied");
    }
    replay.finish();
    let told = told(&mut replay);
    assert_eq!(told.len(), 2, "{told:#?}");
    // The third of five samples out of the band, judged at the end of its tick.
    assert!(
        told[0].starts_with("ValueDeviation checkout firing at 2026-01-01T00:33:40Z"),
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
