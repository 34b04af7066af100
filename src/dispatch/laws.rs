//! What the dispatcher promises, for any course of events.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::fixtures::{alert, resolved, routed, to, with_severity};
use super::{Dispatcher, GroupBy, Notification, Route, Routes, Settings, Status};
use crate::model::{Alert, AlertState, Fingerprint, Labels, Selector, SeverityLabel, Timestamp};
use crate::mute::{InhibitRule, SilenceId, Silencer};

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

/// What happens to an alert.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// It goes into this state.
    Is(State),
    /// Somebody silences it, or ends that.
    Silence(bool),
}

/// After so many seconds something happens to alert number `.1`.
type Course = Vec<(u64, usize, Event)>;

fn course(with_silences: bool) -> impl Strategy<Value = Course> {
    let state = prop_oneof![
        3 => Just(State::Off),
        1 => Just(State::Pending),
        3 => Just(State::Firing(SeverityLabel::Warning)),
        1 => Just(State::Firing(SeverityLabel::Critical)),
    ];
    let event = prop_oneof![
        3 => state.prop_map(Event::Is),
        u32::from(with_silences) => any::<bool>().prop_map(Event::Silence),
    ];
    prop::collection::vec((0u64..50, 0..ALERTS, event), 1..60)
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

fn selector(text: &str) -> Selector {
    Selector::parse(text).expect("a selector")
}

/// The same with a tree of routes, and with an alert that inhibits others.
fn muting(group_by: GroupBy) -> Settings {
    let mut settings = settings(group_by);
    let route = |matchers: &str, receiver: &str, goes_on: bool| Route {
        matchers: selector(matchers),
        receiver: Some(receiver.into()),
        goes_on,
        ..Route::default()
    };
    settings.route.routes = vec![
        Route {
            group_by: Some(GroupBy::Labels(vec!["alertname".into()])),
            ..route(r#"{service="checkout"}"#, "shop", true)
        },
        route(r#"{severity="critical"}"#, "pager", false),
        route(r#"{alertname=~"A[0-4]"}"#, "some", false),
    ];
    settings.inhibit_rules = vec![InhibitRule {
        source: selector(r#"{alertname="A0"}"#),
        target: selector(r#"{alertname=~"A[12]"}"#),
        equal: vec!["service".into()],
    }];
    settings
}

fn subject(number: usize) -> Alert {
    alert(["checkout", "cart"][number % 2], &format!("A{number}"))
}

/// An alert as it is.
#[derive(Debug, Clone)]
struct Known {
    fingerprint: Fingerprint,
    state: State,
    silenced: bool,
    /// Since when it is so, or is not inhibited any more.
    since: Timestamp,
}

/// All alerts as they are.
#[derive(Debug, Clone)]
struct World(Vec<Known>);

impl World {
    fn get(&self, fingerprint: Fingerprint) -> &Known {
        let is = |known: &&Known| known.fingerprint == fingerprint;
        self.0.iter().find(is).expect("one of ours")
    }

    /// Whether A0, which fires, inhibits A2: the only pair of one service.
    fn is_inhibited(&self, fingerprint: Fingerprint) -> bool {
        fingerprint == self.0[2].fingerprint && matches!(self.0[0].state, State::Firing(_))
    }

    fn is_muted(&self, fingerprint: Fingerprint, settings: &Settings) -> bool {
        let inhibited = !settings.inhibit_rules.is_empty() && self.is_inhibited(fingerprint);
        self.get(fingerprint).silenced || inhibited
    }
}

impl Silencer for World {
    fn silenced_by(&self, labels: &Labels, _: Timestamp) -> Vec<SilenceId> {
        let silenced = self.0.iter().any(|known| {
            let number = self
                .0
                .iter()
                .position(|k| k.fingerprint == known.fingerprint);
            let name = number.map(|number| format!("A{number}"));
            known.silenced && labels.get("alertname") == name.as_deref()
        });
        silenced.then_some(SilenceId(1)).into_iter().collect()
    }
}

/// Plays the course in virtual time, jumping to each deadline; all alerts and silences end at last. Calls
/// `seen` after each flush and before each event, and restarts the dispatcher after the events that
/// `restarts` says.
fn play(
    settings: &Settings,
    course: &Course,
    restarts: &[bool],
    mut seen: impl FnMut(Timestamp, &World, Vec<Notification>) -> Result<(), TestCaseError>,
) -> Result<(), TestCaseError> {
    let mut dispatcher = Dispatcher::new(settings.clone());
    let mut store: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut now = Timestamp::from_secs(1_000);
    let known = |number| Known {
        fingerprint: subject(number).fingerprint,
        state: State::Off,
        silenced: false,
        since: now,
    };
    let mut world = World((0..ALERTS).map(known).collect());
    let ends = (0..ALERTS).flat_map(|number| {
        let silence = (0, number, Event::Silence(false));
        [silence, (0, number, Event::Is(State::Off))]
    });
    let events: Vec<_> = course.iter().copied().chain(ends).collect();
    for (at, (after, number, event)) in events.into_iter().enumerate() {
        let until = now.plus(Duration::from_secs(after));
        run(&mut dispatcher, &mut now, until, &world, &mut seen)?;
        let known = &mut world.0[number];
        match event {
            Event::Silence(silenced) => (known.silenced, known.since) = (silenced, now),
            Event::Is(state) => {
                if let Some(alert) = change(known.state, state, &subject(number), now) {
                    (known.state, known.since) = (state, now);
                    dispatcher.on_transition(now, &to(alert, now));
                }
            }
        }
        if number == 0 {
            // It may have inhibited this one.
            world.0[2].since = now;
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
    run(&mut dispatcher, &mut now, end, &world, &mut seen)?;
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
    world: &World,
    seen: &mut impl FnMut(Timestamp, &World, Vec<Notification>) -> Result<(), TestCaseError>,
) -> Result<(), TestCaseError> {
    while let Some(deadline) = dispatcher
        .next_deadline()
        .filter(|deadline| *deadline <= until)
    {
        *now = deadline.max(*now);
        let notifications = dispatcher.flush(*now, world);
        prop_assert!(dispatcher.next_deadline().is_none_or(|next| next > *now));
        seen(*now, world, notifications)?;
    }
    *now = until;
    seen(*now, world, Vec::new())
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

/// Whether those who are told of an alert are told all of it, in time, and nobody else anything.
fn tell(settings: &Settings, course: &Course) -> Result<(), TestCaseError> {
    // Which alerts the receiver believes to fire, by receiver, group and severity.
    let mut believed: BTreeSet<(Fingerprint, String, String, SeverityLabel)> = BTreeSet::new();
    let mut last_of_group: BTreeMap<(String, String), (Timestamp, Status)> = BTreeMap::new();
    let routes = Routes::new(&settings.route);
    play(settings, course, &[], |now, world, notifications| {
        for notification in &notifications {
            let key = (
                notification.receiver.clone(),
                notification.group_key.clone(),
            );
            let one_fires = notification
                .alerts
                .iter()
                .any(|a| a.state == AlertState::Firing);
            prop_assert_eq!(one_fires, notification.status == Status::Firing);
            if let Some((at, Status::Firing)) = last_of_group.get(&key) {
                prop_assert!(now.since(*at) >= INTERVAL);
            }
            last_of_group.insert(key.clone(), (now, notification.status));
            for alert in &notification.alerts {
                prop_assert_ne!(alert.state, AlertState::Pending);
                prop_assert!(!world.is_muted(alert.fingerprint, settings), "it is muted");
                let of = |severity| (alert.fingerprint, key.0.clone(), key.1.clone(), severity);
                let both = [of(SeverityLabel::Warning), of(SeverityLabel::Critical)];
                let knew = both.iter().any(|belief| believed.remove(belief));
                if alert.state == AlertState::Firing {
                    let state = world.get(alert.fingerprint).state;
                    prop_assert_eq!(state, State::Firing(alert.severity));
                    believed.insert(of(alert.severity));
                } else {
                    prop_assert!(knew, "resolved, but nobody was told that it fires");
                }
            }
            for (name, value) in notification.common_labels.iter() {
                prop_assert!(
                    notification
                        .alerts
                        .iter()
                        .all(|a| a.labels.get(name) == Some(value))
                );
            }
        }
        for (number, known) in world.0.iter().enumerate() {
            let State::Firing(severity) = known.state else {
                continue;
            };
            if world.is_muted(known.fingerprint, settings) {
                continue;
            }
            let alert = with_severity(&subject(number), severity);
            for node in routes
                .matching(&alert.labels)
                .into_iter()
                .filter_map(|n| routes.node(n))
            {
                let told = believed.iter().any(|(fingerprint, receiver, _, told)| {
                    (*fingerprint, &**receiver, *told)
                        == (known.fingerprint, &*node.receiver, severity)
                });
                let in_time = now.since(known.since) <= INTERVAL.max(WAIT);
                prop_assert!(
                    told || in_time,
                    "{} is not told of A{number}",
                    node.receiver
                );
            }
        }
        Ok(())
    })?;
    prop_assert!(believed.is_empty(), "{believed:?}");
    prop_assert!(
        last_of_group
            .values()
            .all(|(_, status)| *status == Status::Resolved)
    );
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn everyone_is_told_everything_in_time_and_not_too_often(course in course(false), by in group_by()) {
        tell(&settings(by), &course)?;
    }

    #[test]
    fn nothing_that_is_muted_is_told_and_all_else_is(course in course(true), by in group_by()) {
        tell(&muting(by), &course)?;
    }

    #[test]
    fn a_restart_neither_repeats_nor_forgets(
        course in course(true),
        by in group_by(),
        muting in any::<bool>(),
        restarts in prop::collection::vec(any::<bool>(), 72),
    ) {
        let settings = match muting {
            true => self::muting(by),
            false => settings(by),
        };
        let log = |restarts: &[bool]| {
            let mut log = Vec::new();
            play(&settings, &course, restarts, |now, _, notifications| {
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
