//! The machine in single cases.

use std::sync::Arc;
use std::time::Duration;

use super::fixtures::{Feed, rule};
use super::{Machine, Settings};
use crate::model::{
    Alert, AlertState, For, Observation, Rule, RuleId, SeverityLabel, Timestamp, Transition,
};

fn machine(rules: impl IntoIterator<Item = Rule>) -> Machine {
    Machine::new(rules.into_iter().collect(), Settings::default())
}

fn see(machine: &mut Machine, observation: Observation) -> Vec<Transition> {
    machine.step(observation.sample.time, &[observation], &[])
}

/// `new>firing`, `firing>resolved` …
fn names(transitions: &[Transition]) -> Vec<String> {
    let from = |t: &Transition| t.from.map_or("new", AlertState::name);
    transitions
        .iter()
        .map(|t| format!("{}>{}", from(t), t.alert.state.name()))
        .collect()
}

fn only(machine: &Machine) -> Arc<Alert> {
    let [alert]: [_; 1] = machine.snapshot().try_into().expect("one alert");
    alert
}

#[test]
fn an_episode_from_its_first_sample_to_its_end() {
    let mut rule = rule("Slow");
    rule.hold = For::Samples { n: 2, of: 3 };
    rule.labels
        .set("team", "pay-{{ attributes['http.route'] }}");
    rule.annotations
        .set("summary", "{{ service }} at {{ value }} {{ unit }}");
    let mut machine = machine([rule]);
    let mut feed = Feed::new();
    feed.attributes = vec![("http.route", "/pay")];

    assert!(see(&mut machine, feed.normal(1.0)).is_empty());
    let start = feed.now();
    assert_eq!(
        names(&see(&mut machine, feed.anomaly(2.0))),
        ["new>pending"]
    );
    let fired = feed.now();
    assert_eq!(
        names(&see(&mut machine, feed.anomaly(3.0))),
        ["pending>firing"]
    );
    assert!(see(&mut machine, feed.anomaly(2.5)).is_empty());

    let alert = only(&machine);
    assert_eq!((alert.since, alert.fired_at), (start, Some(fired)));
    assert_eq!(
        (alert.observed, alert.expected, alert.anomalous_samples),
        (2.5, 1.0, 3)
    );
    assert_eq!(alert.labels.get("team"), Some("pay-/pay"));
    assert_eq!(alert.labels.get("http_route"), Some("/pay"));
    assert_eq!(alert.labels.get("severity"), Some("warning"));
    assert_eq!(alert.annotations.get("summary"), Some("checkout at 2.5 s"));
    assert_eq!(
        alert.annotations.get("baseline"),
        Some("mean of the last 100 samples")
    );

    // It grows worse, and stays so.
    let worse = see(&mut machine, feed.critical(9.0));
    assert_eq!(names(&worse), ["firing>firing"]);
    assert_eq!(
        worse.first().map(|t| t.alert.severity),
        Some(SeverityLabel::Critical)
    );
    assert!(see(&mut machine, feed.anomaly(3.0)).is_empty());
    assert_eq!(only(&machine).labels.get("severity"), Some("critical"));
    assert_eq!(only(&machine).worst_sigma, 8.0);
    assert_eq!(only(&machine).fingerprint, alert.fingerprint);

    assert!(see(&mut machine, feed.normal(0.0)).is_empty());
    assert!(see(&mut machine, feed.normal(0.0)).is_empty());
    assert_eq!(
        names(&see(&mut machine, feed.normal(0.0))),
        ["firing>resolved"]
    );
    assert_eq!(only(&machine).observed, 3.0);
    assert_eq!(only(&machine).annotations.get("resolved_reason"), None);

    // It is shown for a while and then forgotten.
    let gone = machine.next_deadline().expect("something to forget");
    assert!(
        machine
            .expire(gone.minus(Duration::from_nanos(1)))
            .is_empty()
    );
    assert_eq!(machine.snapshot().len(), 1);
    assert!(machine.expire(gone).is_empty());
    assert_eq!(
        (machine.snapshot().len(), machine.next_deadline()),
        (0, None)
    );
}

#[test]
fn what_never_held_is_dropped_silently() {
    let rule = Rule {
        hold: For::Duration(Duration::from_secs(60)),
        ..rule("Slow")
    };
    let mut machine = machine([rule]);
    let mut feed = Feed::new();
    assert_eq!(
        names(&see(&mut machine, feed.anomaly(2.0))),
        ["new>pending"]
    );
    let [(key, Some(_))] = &machine.changes()[..] else {
        panic!("it is written")
    };
    let key = key.clone();
    assert!(see(&mut machine, feed.normal(0.0)).is_empty());
    assert!(machine.snapshot().is_empty());
    assert_eq!(machine.changes(), [(key, None)]);
}

#[test]
fn a_signal_that_ends_or_falls_silent_ends_its_alert() {
    let mut machine = machine([rule("Slow")]);
    let mut feed = Feed::new();
    see(&mut machine, feed.anomaly(2.0));
    let ended = machine.step(feed.now(), &[], &[feed.signal().id]);
    assert_eq!(names(&ended), ["firing>resolved"]);
    assert_eq!(
        only(&machine).annotations.get("resolved_reason"),
        Some("the signal ended")
    );
    assert!(only(&machine).grounds.silent);

    see(&mut machine, feed.anomaly(2.0));
    let silent = feed
        .now()
        .minus(Duration::from_secs(1))
        .plus(Duration::from_mins(5));
    assert_eq!(
        names(&machine.expire(silent.minus(Duration::from_nanos(1)))),
        [] as [&str; 0]
    );
    assert_eq!(names(&machine.expire(silent)), ["firing>resolved"]);
    assert!(only(&machine).grounds.silent);
    assert_eq!(
        only(&machine).annotations.get("resolved_reason"),
        Some("no data since 1970-01-01T00:00:11Z")
    );
}

#[test]
fn instances_of_one_service_are_one_alert() {
    let mut machine = machine([rule("Slow")]);
    let (mut one, mut two) = (Feed::on(0, "one"), Feed::on(0, "two"));
    assert_eq!(names(&see(&mut machine, one.anomaly(2.0))), ["new>firing"]);
    assert!(see(&mut machine, two.anomaly(7.0)).is_empty());
    for _ in 0..9 {
        assert!(see(&mut machine, one.normal(0.0)).is_empty());
        assert!(see(&mut machine, two.anomaly(8.0)).is_empty());
    }
    // Its numbers are now those of the one that still deviates.
    assert_eq!(only(&machine).observed, 8.0);
    assert_eq!(only(&machine).signal_id, two.signal().id.to_string());
    see(&mut machine, two.normal(0.0));
    see(&mut machine, two.normal(0.0));
    assert_eq!(
        names(&see(&mut machine, two.normal(0.0))),
        ["firing>resolved"]
    );
}

#[test]
fn a_firing_alert_whose_rule_is_gone_is_resolved_after_the_restart() {
    let mut before = machine([rule("Slow"), rule("Other")]);
    let (mut slow, mut other) = (Feed::on(0, "one"), Feed::on(1, "one"));
    see(&mut before, slow.anomaly(2.0));
    see(&mut before, other.anomaly(2.0));
    let saved = before
        .changes()
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)));
    let rules: Arc<[Rule]> = Arc::new([rule("Other")]);
    let (mut after, warnings) = Machine::restore(rules, Settings::default(), slow.now(), saved);
    assert!(warnings.is_empty());
    assert_eq!(after.snapshot().len(), 2);
    assert_eq!(after.next_deadline(), Some(Timestamp::EPOCH));

    let resolved = after.expire(slow.now());
    assert_eq!(names(&resolved), ["firing>resolved"]);
    assert_eq!(
        resolved
            .first()
            .map(|t| t.alert.name().to_owned())
            .as_deref(),
        Some("Slow")
    );
    // The other rule moved up and goes on with its alert.
    other.rule = RuleId(0);
    assert!(see(&mut after, other.anomaly(2.0)).is_empty());
    assert_eq!(after.changes().len(), 3);
}

#[test]
fn an_open_band_survives_the_store() {
    let mut machine = machine([rule("Slow")]);
    let mut observation = Feed::new().anomaly(2.0);
    observation.judged.lower = f64::NEG_INFINITY;
    observation.judged.expected = f64::NAN;
    see(&mut machine, observation);
    let saved = machine
        .changes()
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)));
    let rules: Arc<[Rule]> = Arc::new([rule("Slow")]);
    let (after, warnings) = Machine::restore(rules, Settings::default(), Timestamp::EPOCH, saved);
    assert!(warnings.is_empty());
    let alert = only(&after);
    assert_eq!(
        (alert.lower, alert.upper, alert.expected),
        (f64::NEG_INFINITY, 1.5, 0.0)
    );
}

#[test]
fn a_long_incident_is_not_written_every_tick() {
    let mut machine = machine([rule("Slow")]);
    let mut feed = Feed::new();
    let mut written = 0;
    for _ in 0..1_000 {
        see(&mut machine, feed.anomaly(2.0));
        written += machine.changes().len();
    }
    assert_eq!(written, 11);
    assert_eq!(machine.all_changes().len(), 1);
    assert!(machine.all_changes().is_empty());
}

#[test]
fn explanations_stay_on_the_alert() {
    let mut machine = machine([rule("Slow")]);
    let mut feed = Feed::new();
    let mut fired = see(&mut machine, feed.anomaly(2.0));
    let note = |_: &Rule, alert: &mut Alert| {
        let text = format!("{} at {}", alert.state.name(), alert.observed);
        alert.annotations.set("explanation", text);
    };
    machine.annotate(&mut fired, note);
    let told = fired
        .first()
        .and_then(|t| t.alert.annotations.get("explanation"))
        .map(str::to_owned);
    assert_eq!(told.as_deref(), Some("firing at 2"));
    assert_eq!(
        only(&machine).annotations.get("explanation"),
        Some("firing at 2")
    );
    see(&mut machine, feed.anomaly(3.0));
    machine.annotate(&mut [], note);
    assert_eq!(
        only(&machine).annotations.get("explanation"),
        Some("firing at 3")
    );
}

#[test]
fn a_long_stop_of_the_daemon_is_no_silence_of_the_service() {
    let mut before = machine([rule("Slow")]);
    let mut feed = Feed::new();
    see(&mut before, feed.anomaly(2.0));
    let saved = before
        .changes()
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)));
    feed.skip(Duration::from_hours(1));
    let rules: Arc<[Rule]> = Arc::new([rule("Slow")]);
    let (mut after, _) = Machine::restore(rules, Settings::default(), feed.now(), saved);
    assert!(after.expire(feed.now()).is_empty());
    assert!(see(&mut after, feed.anomaly(2.0)).is_empty());
    assert_eq!(only(&after).anomalous_samples, 2);
    let deadline = feed
        .now()
        .minus(Duration::from_secs(1))
        .plus(Duration::from_mins(5));
    assert_eq!(after.next_deadline(), Some(deadline));
}

#[test]
fn an_alert_that_comes_and_goes_is_held_until_it_stays_calm() {
    let mut machine = machine([rule("Slow")]);
    let mut feed = Feed::new();
    let come_and_go = |machine: &mut Machine, feed: &mut Feed| {
        let mut seen = names(&see(machine, feed.anomaly(2.0)));
        for _ in 0..3 {
            seen.extend(names(&see(machine, feed.normal(0.0))));
        }
        feed.skip(Duration::from_mins(1));
        seen
    };
    for _ in 0..2 {
        let seen = come_and_go(&mut machine, &mut feed);
        assert_eq!(seen, ["new>firing", "firing>resolved"]);
        assert_eq!((machine.flapping(), only(&machine).grounds.flaps), (0, 0));
    }
    // Marked when it fires for the third time, and held from then on.
    assert_eq!(come_and_go(&mut machine, &mut feed), ["new>firing"]);
    assert_eq!((machine.flapping(), only(&machine).grounds.flaps), (1, 3));
    // Calm samples do not prolong it, anomalies do, and are counted; a restart changes nothing.
    assert!(see(&mut machine, feed.normal(0.0)).is_empty());
    assert!(come_and_go(&mut machine, &mut feed).is_empty());
    let rules: Arc<[Rule]> = [rule("Slow")].into();
    let (mut machine, warnings) =
        Machine::restore(rules, Settings::default(), feed.now(), machine.entries());
    assert_eq!(warnings, Vec::<String>::new());
    assert!(come_and_go(&mut machine, &mut feed).is_empty());
    assert_eq!((machine.flapping(), only(&machine).grounds.flaps), (1, 5));
    let calm = feed.now().minus(Duration::from_secs(61));
    assert!(see(&mut machine, feed.normal(0.0)).is_empty());
    let end = loop {
        let due = machine.next_deadline().expect("it ends");
        let ended = machine.expire(due);
        if !ended.is_empty() {
            assert_eq!(names(&ended), ["firing>resolved"]);
            break due;
        }
    };
    assert_eq!(end, calm.plus(Duration::from_mins(15)));
    assert_eq!(only(&machine).annotations.get("resolved_reason"), None);
    assert_eq!(machine.flapping(), 0);

    // After an hour without it is an alert as any.
    feed.skip(Duration::from_hours(1));
    machine.expire(feed.now());
    let seen = come_and_go(&mut machine, &mut feed);
    assert_eq!(seen, ["new>firing", "firing>resolved"]);
}

#[test]
fn nothing_flaps_where_that_is_switched_off_and_a_new_normal_ends_it() {
    let mut settings = Settings::default();
    settings.flapping.fires = 0;
    let mut never = Machine::new([rule("Slow")].into(), settings);
    let mut held = machine([rule("Slow")]);
    let mut feed = Feed::new();
    for _ in 0..9 {
        for observation in [
            feed.anomaly(2.0),
            feed.normal(0.0),
            feed.normal(0.0),
            feed.normal(0.0),
        ] {
            see(&mut never, observation.clone());
            see(&mut held, observation);
        }
    }
    assert_eq!((never.flapping(), held.flapping()), (0, 1));
    let mut relevelled = feed.anomaly(2.0);
    relevelled.judged.evidence.relevelled_from = Some(1.0);
    assert_eq!(names(&see(&mut held, relevelled)), ["firing>resolved"]);
}
