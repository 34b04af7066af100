//! The cases in Tidewatch, in virtual time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidewatch::app;
use tidewatch::config;
use tidewatch::dispatch::{Dispatcher, Notification, Reason};
use tidewatch::model::{
    Alert, AlertState, Labels, Matcher, Selector, SeverityLabel, Timestamp, Transition,
};
use tidewatch::mute::{SilenceId, Silencer};

use super::Told;
use super::cases::{CASES, END, Step};

/// The silences that are active, by case and name.
#[derive(Default)]
struct Silences(BTreeMap<(&'static str, &'static str), Selector>);

impl Silencer for Silences {
    fn silenced_by(&self, labels: &Labels, _: Timestamp) -> Vec<SilenceId> {
        let active = self.0.values().zip(0..);
        let matching = active.filter(|(selector, _)| selector.matches(labels));
        matching.map(|(_, number)| SilenceId(number)).collect()
    }
}

/// The labels of an alert of the table: `NAME label=value …`, with `_` for a space.
pub fn labels(case: &str, text: &str) -> Labels {
    let mut words = text.split_whitespace();
    let name = words.next().expect("a name");
    let pair = |word: &str| {
        let (name, value) = word.split_once('=').expect("a pair");
        (name.to_owned(), value.replace('_', " "))
    };
    let mut labels: Labels = words.map(pair).collect();
    labels.set("alertname", name);
    labels.set("case", case);
    // Alertmanager takes an empty label for an absent one.
    labels.0.retain(|_, value| !value.is_empty());
    labels
}

/// What is told when the world begins at `began`.
pub fn play(began: Timestamp) -> Vec<Told> {
    let text =
        super::configuration("http://127.0.0.1:9").replace("DAY", &super::alertmanager::day());
    let loaded = config::parse("alertmanager.yml", &text, &|_| None, &app::known());
    let loaded = loaded.unwrap_or_else(|found| panic!("{found}\n{text}"));
    let mut dispatcher = Dispatcher::new(app::routing(&loaded.config));
    let mut silences = Silences::default();
    let mut told = Vec::new();
    let mut steps: Vec<_> = CASES
        .iter()
        .flat_map(|case| case.steps.iter().map(|(at, step)| (*at, case.name, step)))
        .collect();
    // Silences first, as over there.
    steps.sort_by_key(|(at, _, step)| {
        (
            *at,
            matches!(step, Step::Silence(..)).then_some(0).is_none(),
        )
    });
    for (at, case, step) in steps {
        let now = began.plus(Duration::from_millis(u64::from(at) * 100));
        flush(&mut dispatcher, &silences, now, began, &mut told);
        match step {
            Step::Fire(text) => change(&mut dispatcher, case, text, now, Some(now)),
            Step::FireSince(seconds, text) => {
                let since = now.minus(Duration::from_secs(u64::from(*seconds)));
                change(&mut dispatcher, case, text, now, Some(since));
            }
            Step::Resolve(text) => change(&mut dispatcher, case, text, now, None),
            Step::Silence(name, conditions) => {
                let conditions = format!("case={case},{conditions}");
                let matchers = Matcher::parse_list(&conditions).expect("conditions");
                silences.0.insert((case, *name), Selector::new(matchers));
            }
            Step::Unsilence(name) => {
                silences.0.remove(&(case, *name)).expect("a silence");
            }
        }
    }
    let end = began.plus(Duration::from_millis(u64::from(END) * 100));
    flush(&mut dispatcher, &silences, end, began, &mut told);
    told
}

/// All flushes before `until`.
fn flush(
    dispatcher: &mut Dispatcher,
    silences: &Silences,
    until: Timestamp,
    began: Timestamp,
    told: &mut Vec<Told>,
) {
    while let Some(now) = dispatcher.next_deadline().filter(|at| *at < until) {
        let notifications = dispatcher.flush(now, silences);
        told.extend(notifications.iter().filter_map(|one| tell(one, began)));
    }
}

/// What the receiver hears of a notification.
fn tell(notification: &Notification, began: Timestamp) -> Option<Told> {
    let Notification {
        receiver,
        group_key,
        alerts,
        status,
        reason,
        decided_at,
        ..
    } = notification;
    let firing_only = receiver.starts_with("firing-only");
    if receiver == "nobody" || firing_only && *reason == Reason::Resolved {
        return None;
    }
    let fires = |alert: &Alert| alert.state == AlertState::Firing;
    let mut alerts: Vec<_> = alerts
        .iter()
        .filter(|alert| !firing_only || fires(alert))
        .map(|alert| format!("{}{}", alert.name(), if fires(alert) { '+' } else { '-' }))
        .collect();
    alerts.sort();
    Some(Told {
        at: decided_at.since(began),
        receiver: receiver.clone(),
        group: group_key.clone(),
        status: status.name().into(),
        alerts,
    })
}

/// An alert fires since then, or is over.
fn change(
    dispatcher: &mut Dispatcher,
    case: &str,
    text: &str,
    now: Timestamp,
    since: Option<Timestamp>,
) {
    let labels = labels(case, text);
    let alert = Alert {
        fingerprint: labels.fingerprint(),
        labels,
        annotations: Labels::default(),
        state: match since {
            Some(_) => AlertState::Firing,
            None => AlertState::Resolved,
        },
        severity: SeverityLabel::Warning,
        severity_score: 0.5,
        service: String::new(),
        signal_id: String::new(),
        unit: String::new(),
        observed: 0.0,
        expected: 0.0,
        lower: 0.0,
        upper: 0.0,
        sigma: 0.0,
        worst_sigma: 0.0,
        anomalous_samples: 1,
        since: since.unwrap_or(now),
        fired_at: since.or(Some(now)),
        resolved_at: since.is_none().then_some(now),
        updated_at: now,
        trace_id: None,
        grounds: Default::default(),
    };
    let transition = Transition {
        from: None,
        alert: Arc::new(alert),
        at: now,
    };
    dispatcher.on_transition(now, &transition);
}
