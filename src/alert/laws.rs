//! What the machine promises, for any input.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::fixtures::{Feed, rule};
use super::{Machine, Settings};
use crate::model::{
    Alert, AlertState, Fingerprint, For, Observation, Rule, SeverityLabel, SignalId, Timestamp,
    Transition,
};

/// The first two are one alert, the others each their own.
const INSTANCES: [&str; 4] = ["a", "b", "c", "d"];

fn rules() -> Arc<[Rule]> {
    let mut steady = rule("Steady");
    steady.hold = For::Samples { n: 3, of: 5 };
    let mut lasting = rule("Lasting");
    lasting.hold = For::Duration(Duration::from_secs(3));
    // Two rules of one name, so that their alerts meet.
    Arc::new([rule("Slow"), steady, lasting, rule("Slow")])
}

/// What happens to one (rule, instance) in one tick.
#[derive(Debug, Clone, Copy)]
enum Event {
    Warning,
    Critical,
    Near,
    Calm,
    Silent,
    Ended,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => Just(Event::Warning),
        1 => Just(Event::Critical),
        1 => Just(Event::Near),
        9 => Just(Event::Calm),
        2 => Just(Event::Silent),
        1 => Just(Event::Ended),
    ]
}

/// Ticks of one event for every pair of rule and instance.
fn history() -> impl Strategy<Value = Vec<Vec<Event>>> {
    let pairs = rules().len() * INSTANCES.len();
    prop::collection::vec(prop::collection::vec(event(), pairs), 1..40)
}

struct Tick {
    now: Timestamp,
    observations: Vec<Observation>,
    ended: Vec<SignalId>,
}

fn ticks(history: &[Vec<Event>]) -> Vec<Tick> {
    let pairs = (0u32..)
        .take(rules().len())
        .flat_map(|r| INSTANCES.map(|i| (r, i)));
    let mut feeds: Vec<Feed> = pairs
        .map(|(rule, instance)| {
            let mut feed = Feed::on(rule, instance);
            if !["a", "b"].contains(&instance) {
                feed.attributes = vec![("host", instance)];
            }
            feed
        })
        .collect();
    let mut all = Vec::new();
    for events in history {
        let now = feeds.first().map(Feed::now).expect("there are rules");
        let (mut observations, mut ended) = (Vec::new(), Vec::new());
        for (feed, event) in feeds.iter_mut().zip(events) {
            match event {
                Event::Warning => observations.push(feed.anomaly(3.0)),
                Event::Critical => observations.push(feed.critical(6.0)),
                Event::Near => observations.push(feed.normal(3.5)),
                Event::Calm => observations.push(feed.normal(0.5)),
                Event::Silent => feed.skip(Duration::from_secs(1)),
                Event::Ended => {
                    ended.push(feed.signal().id);
                    feed.skip(Duration::from_secs(1));
                }
            }
        }
        all.push(Tick {
            now,
            observations,
            ended,
        });
    }
    all
}

fn step(machine: &mut Machine, tick: &Tick) -> Vec<Transition> {
    let mut transitions = machine.step(tick.now, &tick.observations, &tick.ended);
    transitions.extend(machine.expire(tick.now));
    machine.annotate(&mut transitions, |rule, alert| {
        alert.annotations.set("by", &*rule.alert)
    });
    transitions
}

/// The decision and what everyone is told; numbers may come from JSON and differ in the last bit.
fn told(transition: &Transition) -> impl PartialEq + std::fmt::Debug + use<> {
    let Alert {
        fingerprint,
        state,
        labels,
        annotations,
        since,
        fired_at,
        resolved_at,
        ..
    } = Alert::clone(&transition.alert);
    let times = (since, fired_at, resolved_at, transition.at);
    (
        transition.from,
        state,
        fingerprint,
        labels,
        annotations,
        times,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn transitions_form_a_chain(history in history()) {
        let mut machine = Machine::new(rules(), Settings::default());
        let mut last: BTreeMap<Fingerprint, (AlertState, SeverityLabel)> = BTreeMap::new();
        for tick in ticks(&history) {
            for Transition { from, alert, at } in step(&mut machine, &tick) {
                let before = last.insert(alert.fingerprint, (alert.state, alert.severity));
                prop_assert_eq!(at, tick.now);
                prop_assert_eq!(alert.labels.get("severity"), Some(alert.severity.name()));
                match (from, alert.state) {
                    // Whether there was none yet, one was resolved, or one was dropped silently.
                    (None, AlertState::Pending | AlertState::Firing) => {
                        prop_assert_ne!(before.map(|b| b.0), Some(AlertState::Firing));
                    }
                    (Some(AlertState::Pending), AlertState::Firing)
                    | (Some(AlertState::Firing), AlertState::Resolved) => {
                        prop_assert_eq!(before.map(|b| b.0), from);
                    }
                    (Some(AlertState::Firing), AlertState::Firing) => {
                        let worse = Some((AlertState::Firing, SeverityLabel::Warning));
                        prop_assert_eq!(before, worse);
                        prop_assert_eq!(alert.severity, SeverityLabel::Critical);
                    }
                    other => prop_assert!(false, "{other:?}"),
                }
                prop_assert_eq!(alert.fired_at.is_some(), alert.state != AlertState::Pending);
                prop_assert_eq!(alert.resolved_at.is_some(), alert.state == AlertState::Resolved);
                prop_assert!(alert.severity_score > 0.0 && alert.severity_score <= 1.0);
                prop_assert!(alert.anomalous_samples >= 1);
            }
            let firing = |state: AlertState| state == AlertState::Firing;
            let by_transitions: Vec<_> =
                last.iter().filter(|(_, (s, _))| firing(*s)).map(|(f, _)| *f).collect();
            let by_snapshot: Vec<_> = machine.snapshot().iter()
                .filter(|alert| firing(alert.state)).map(|alert| alert.fingerprint).collect();
            prop_assert_eq!(by_transitions, by_snapshot);
            prop_assert!(machine.next_deadline().is_none_or(|at| at > tick.now));
        }
    }

    #[test]
    fn a_crash_after_any_commit_changes_nothing(history in history(), crash_every in 1usize..6) {
        let mut steady = Machine::new(rules(), Settings::default());
        let mut crashing = Machine::new(rules(), Settings::default());
        let mut store: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for (at, tick) in ticks(&history).iter().enumerate() {
            let expected: Vec<_> = step(&mut steady, tick).iter().map(told).collect();
            let seen: Vec<_> = step(&mut crashing, tick).iter().map(told).collect();
            prop_assert_eq!(seen, expected);
            for (key, value) in crashing.changes() {
                match value {
                    Some(value) => { store.insert(key, value); }
                    None => { store.remove(&key); }
                }
            }
            if at % crash_every == 0 {
                let (restored, warnings) =
                    Machine::restore(rules(), Settings::default(), tick.now, store.clone());
                prop_assert_eq!(warnings, Vec::<String>::new());
                crashing = restored;
                let states = |machine: &Machine| -> Vec<_> {
                    machine.snapshot().iter().map(|a| (a.fingerprint, a.state, a.severity)).collect()
                };
                prop_assert_eq!(states(&crashing), states(&steady));
                let kept = crashing.entries.len() + crashing.past.iter().count();
                prop_assert_eq!(store.len(), kept + crashing.fires.all().count());
            }
        }
    }

    #[test]
    fn all_of_it_is_bounded(history in history(), most in 0usize..5) {
        let settings = Settings { max_active: most, ..Settings::default() };
        let mut machine = Machine::new(rules(), settings);
        let mut firing = 0usize;
        for tick in ticks(&history) {
            for transition in step(&mut machine, &tick) {
                match (transition.from, transition.alert.state) {
                    (Some(AlertState::Firing), AlertState::Firing) => {}
                    (_, AlertState::Firing) => firing += 1,
                    (_, AlertState::Resolved) => firing -= 1,
                    (_, AlertState::Pending) => {}
                }
            }
            prop_assert!(firing <= most && machine.snapshot().len() <= 2 * most);
            prop_assert!(machine.index.len() <= most);
        }
        prop_assert!(machine.refused() == 0 || machine.refused() > 0 && most < 16);
    }

    #[test]
    fn any_bytes_are_answered(key in ".{0,20}", value in prop::collection::vec(any::<u8>(), 0..60)) {
        let (mut machine, warnings) = Machine::restore(
            rules(), Settings::default(), Timestamp::EPOCH, [(key.clone(), value)]);
        prop_assert_eq!(warnings.len(), 1);
        prop_assert_eq!(machine.changes(), vec![(key, None)]);
    }
}
