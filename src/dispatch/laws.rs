//! What the dispatcher promises, for any course of events.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::fixtures::{alert, resolved, routed, to, with_severity};
use super::{Dispatcher, GroupBy, Notification, Route, Settings, Status};
use crate::model::{Alert, AlertState, Fingerprint, SeverityLabel, Timestamp};

const WAIT: Duration = Duration::from_secs(10);
const INTERVAL: Duration = Duration::from_secs(60);
const REPEAT: Duration = Duration::from_secs(300);
const ALERTS: usize = 6;

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Off,
    Pending,
    Firing(SeverityLabel),
}

/// After so many seconds alert number `.1` goes into a state.
type Course = Vec<(u64, usize, State)>;

fn course() -> impl Strategy<Value = Course> {
    let state = prop_oneof![
        3 => Just(State::Off),
        1 => Just(State::Pending),
        3 => Just(State::Firing(SeverityLabel::Warning)),
        1 => Just(State::Firing(SeverityLabel::Critical)),
    ];
    prop::collection::vec((0u64..50, 0..ALERTS, state), 1..60)
}

fn group_by() -> impl Strategy<Value = GroupBy> {
    let by = |names: &[&str]| GroupBy::Labels(names.iter().map(|n| (*n).to_owned()).collect());
    prop_oneof![
        Just(by(&["service"])),
        Just(by(&[])),
        Just(by(&["service", "severity", "absent"])),
        Just(GroupBy::All),
    ]
}

fn settings(group_by: GroupBy) -> Settings {
    routed(Route {
        receiver: Some("oncall".into()),
        group_by: Some(group_by),
        group_wait: Some(WAIT),
        group_interval: Some(INTERVAL),
        repeat_interval: Some(REPEAT),
        ..Route::default()
    })
}

fn subject(number: usize) -> Alert {
    alert(["checkout", "cart"][number % 2], &format!("A{number}"))
}

/// An alert's state, and since when.
type Known = (Fingerprint, State, Timestamp);

/// Plays the course in virtual time, jumping to each deadline; all alerts end at last. Calls `seen`
/// after each flush and before each event, and restarts the dispatcher after the events that
/// `restarts` says.
fn play(
    settings: &Settings,
    course: &Course,
    restarts: &[bool],
    mut seen: impl FnMut(Timestamp, &[Known], Vec<Notification>) -> Result<(), TestCaseError>,
) -> Result<(), TestCaseError> {
    let mut dispatcher = Dispatcher::new(settings.clone());
    let mut store: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut now = Timestamp::from_secs(1_000);
    let mut states: Vec<Known> = (0..ALERTS)
        .map(|number| (subject(number).fingerprint, State::Off, now))
        .collect();
    let ends = (0..ALERTS).map(|number| (0, number, State::Off));
    let events: Vec<_> = course.iter().copied().chain(ends).collect();
    for (at, (after, number, state)) in events.into_iter().enumerate() {
        let until = now.plus(Duration::from_secs(after));
        run(&mut dispatcher, &mut now, until, &states, &mut seen)?;
        let (_, before, since) = &mut states[number];
        if let Some(alert) = change(*before, state, &subject(number), now) {
            (*before, *since) = (state, now);
            dispatcher.on_transition(now, &to(alert, now));
        }
        commit(&mut dispatcher, &mut store);
        if restarts.get(at).copied().unwrap_or(false) {
            let (restored, warnings) = Dispatcher::restore(settings.clone(), now, store.clone());
            prop_assert_eq!(warnings, Vec::<String>::new());
            prop_assert_eq!(restored.next_deadline(), dispatcher.next_deadline());
            dispatcher = restored;
        }
    }
    // What is still to be said is said, and then there is nothing left.
    let end = now.plus(Duration::from_hours(1));
    run(&mut dispatcher, &mut now, end, &states, &mut seen)?;
    commit(&mut dispatcher, &mut store);
    prop_assert_eq!(dispatcher.next_deadline(), None);
    prop_assert_eq!((dispatcher.alerts, dispatcher.groups.len()), (0, 0));
    prop_assert!(store.is_empty(), "{:?}", store.keys());
    Ok(())
}

fn run(
    dispatcher: &mut Dispatcher,
    now: &mut Timestamp,
    until: Timestamp,
    states: &[Known],
    seen: &mut impl FnMut(Timestamp, &[Known], Vec<Notification>) -> Result<(), TestCaseError>,
) -> Result<(), TestCaseError> {
    while let Some(deadline) = dispatcher
        .next_deadline()
        .filter(|deadline| *deadline <= until)
    {
        *now = deadline.max(*now);
        let notifications = dispatcher.flush(*now, &());
        prop_assert!(dispatcher.next_deadline().is_none_or(|next| next > *now));
        seen(*now, states, notifications)?;
    }
    *now = until;
    seen(*now, states, Vec::new())
}

fn commit(dispatcher: &mut Dispatcher, store: &mut BTreeMap<String, Vec<u8>>) {
    for (key, value) in dispatcher.changes() {
        match value {
            Some(value) => store.insert(key, value),
            None => store.remove(&key),
        };
    }
}

/// What the machine would say, if it would: it never lowers a severity, nor goes back from firing to
/// pending, and is silent about pending alerts that come to nothing.
fn change(before: State, after: State, alert: &Alert, now: Timestamp) -> Option<Alert> {
    use SeverityLabel::{Critical, Warning};
    use State::{Firing, Off, Pending};
    match (before, after) {
        (Off, Pending) => Some(Alert {
            state: AlertState::Pending,
            ..alert.clone()
        }),
        (Off | Pending, Firing(severity)) => Some(with_severity(alert, severity)),
        (Firing(Warning), Firing(Critical)) => Some(with_severity(alert, Critical)),
        (Firing(severity), Off) => Some(resolved(&with_severity(alert, severity), now)),
        (Off | Pending, Off) | (Pending, Pending) | (Firing(_), Pending | Firing(_)) => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn everyone_is_told_everything_in_time_and_not_too_often(course in course(), by in group_by()) {
        // Which alerts the receiver believes to fire, by group and severity.
        let mut believed: BTreeSet<(Fingerprint, String, SeverityLabel)> = BTreeSet::new();
        let mut last_of_group: BTreeMap<String, (Timestamp, Status)> = BTreeMap::new();
        play(&settings(by), &course, &[], |now, states, notifications| {
            for notification in &notifications {
                let key = &notification.group_key;
                let one_fires = notification.alerts.iter().any(|a| a.state == AlertState::Firing);
                prop_assert_eq!(one_fires, notification.status == Status::Firing);
                if let Some((at, Status::Firing)) = last_of_group.get(key) {
                    prop_assert!(now.since(*at) >= INTERVAL);
                } else {
                    prop_assert!(one_fires, "the first word is not the last");
                }
                last_of_group.insert(key.clone(), (now, notification.status));
                for alert in &notification.alerts {
                    prop_assert_ne!(alert.state, AlertState::Pending);
                    let of = |severity| (alert.fingerprint, key.clone(), severity);
                    let both = [of(SeverityLabel::Warning), of(SeverityLabel::Critical)];
                    let knew = both.iter().any(|belief| believed.remove(belief));
                    if alert.state == AlertState::Firing {
                        let is = |known: &Known| {
                            (known.0, known.1) == (alert.fingerprint, State::Firing(alert.severity))
                        };
                        prop_assert!(states.iter().any(is), "it does not fire like that");
                        believed.insert(of(alert.severity));
                    } else {
                        prop_assert!(knew, "resolved, but nobody was told that it fires");
                    }
                }
                for (name, value) in notification.common_labels.iter() {
                    prop_assert!(notification.alerts.iter().all(|a| a.labels.get(name) == Some(value)));
                }
            }
            for (fingerprint, state, since) in states {
                if let State::Firing(severity) = state {
                    let told = believed.iter().any(|(f, _, s)| (f, s) == (fingerprint, severity));
                    prop_assert!(told || now.since(*since) <= INTERVAL.max(WAIT), "not told in time");
                }
            }
            Ok(())
        })?;
        prop_assert!(believed.is_empty(), "{believed:?}");
        prop_assert!(last_of_group.values().all(|(_, status)| *status == Status::Resolved));
    }

    #[test]
    fn a_restart_neither_repeats_nor_forgets(
        course in course(),
        by in group_by(),
        restarts in prop::collection::vec(any::<bool>(), 66),
    ) {
        let log = |restarts: &[bool]| {
            let mut log = Vec::new();
            play(&settings(by.clone()), &course, restarts, |now, _, notifications| {
                log.push((now, notifications));
                Ok(())
            })?;
            Ok::<_, TestCaseError>(log)
        };
        prop_assert_eq!(log(&restarts)?, log(&[])?);
    }

    #[test]
    fn any_bytes_are_answered(
        prefix in prop::sample::select(vec!["group/", "alert/", ""]),
        key in ".{0,20}",
        value in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let key = format!("{prefix}{key}");
        let entries = [(key.clone(), value)];
        let (mut dispatcher, warnings) =
            Dispatcher::restore(Settings::default(), Timestamp::EPOCH, entries);
        prop_assert_eq!(warnings.len(), 1);
        prop_assert_eq!(dispatcher.changes(), vec![(key, None)]);
    }
}
