//! Scenarios in plain words, and the alerts and policies that the tests are made of.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::{Error, Freeze, Machine, Parts, Policy, ServiceTemplate, Settings, Target};
use crate::model::{
    Alert, AlertState, Labels, Level, Levels, ModeChange, Override, Selector, SeverityLabel,
    Timestamp, Transition,
};

pub(super) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) fn alert(name: &str, service: &str, state: AlertState) -> Alert {
    let labels: Labels = [("alertname", name), ("service", service)]
        .into_iter()
        .collect();
    let at = Timestamp::from_secs(1);
    Alert {
        fingerprint: labels.fingerprint(),
        labels,
        annotations: [("explanation", format!("{service} is {name}"))]
            .into_iter()
            .collect(),
        state,
        severity: SeverityLabel::Critical,
        severity_score: 0.5,
        service: service.into(),
        signal_id: String::new(),
        unit: "s".into(),
        observed: 2.0,
        expected: 1.0,
        lower: 0.5,
        upper: 1.5,
        sigma: 6.0,
        worst_sigma: 6.0,
        anomalous_samples: 3,
        since: at,
        fired_at: Some(at),
        resolved_at: None,
        updated_at: at,
        trace_id: None,
        grounds: Default::default(),
    }
}

pub(super) fn transition(alert: Alert, at: Timestamp) -> Transition {
    Transition {
        from: None,
        alert: Arc::new(alert),
        at,
    }
}

pub(super) fn policy(
    name: &str,
    when: &str,
    service: &str,
    level: u8,
    hold: u64,
    recover: u64,
) -> Policy {
    let when = Selector::parse(when).unwrap();
    let target = Target::Service(ServiceTemplate::parse(service).unwrap());
    Policy {
        instruction: Parts {
            features: [
                (name.to_owned(), json!(level)),
                ("shared".into(), json!(name)),
            ]
            .into(),
            ..Parts::default()
        },
        hold: secs(hold),
        recover: secs(recover),
        ..Policy::new(name, when, target, Level(level))
    }
}

/// A machine with a clock, so that a scenario reads as a story.
struct Story {
    machine: Machine,
    second: i64,
}

impl Story {
    fn new(settings: Settings, services: &[&str]) -> Self {
        let mut machine = Machine::new(settings);
        machine.know_services(Timestamp::from_secs(0), services);
        Self { machine, second: 0 }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_secs(self.second)
    }

    fn set(&mut self, name: &str, service: &str, state: AlertState) -> Vec<ModeChange> {
        let now = self.now();
        let transition = transition(alert(name, service, state), now);
        self.machine.on_transitions(now, &[transition])
    }

    fn fires(&mut self, name: &str, service: &str) -> Vec<ModeChange> {
        self.set(name, service, AlertState::Firing)
    }

    fn resolves(&mut self, name: &str, service: &str) -> Vec<ModeChange> {
        self.set(name, service, AlertState::Resolved)
    }

    /// Goes on to `second`, stopping at every deadline on the way as the daemon does.
    fn until(&mut self, second: i64) -> Vec<ModeChange> {
        let mut changes = Vec::new();
        while self.second < second {
            let end = Timestamp::from_secs(second);
            let next = self.machine.next_deadline().map_or(end, |at| at.min(end));
            self.second = next.as_nanos() / 1_000_000_000;
            changes.extend(self.machine.step(next));
        }
        changes
    }

    fn overrides(
        &mut self,
        service: &str,
        mode: &str,
        until: Option<i64>,
    ) -> Result<Vec<ModeChange>, Error> {
        let manual = Override {
            mode: mode.into(),
            author: "alice".into(),
            reason: "drill".into(),
            set_at: self.now(),
            expires_at: until.map(Timestamp::from_secs),
        };
        self.machine.set_override(self.now(), service, manual)
    }

    fn freeze(&mut self, frozen: bool) -> Vec<ModeChange> {
        let freeze = Freeze {
            author: "alice".into(),
            reason: "drill".into(),
            set_at: self.now(),
        };
        self.machine.freeze(self.now(), frozen.then_some(freeze))
    }

    #[track_caller]
    fn mode(&self, service: &str, expected: &str) {
        let state = self.machine.state(self.now(), service).expect(service);
        assert_eq!(state.mode, expected, "{service} at {} s", self.second);
    }

    fn restart(&mut self, settings: Settings) -> Vec<String> {
        let (machine, warnings) = Machine::restore(self.machine.entries(), settings);
        self.machine = machine;
        warnings
    }
}

/// `Slow` degrades (hold 60 s, recover 120 s), `Broken` makes critical (hold 30 s, recover 10 s).
fn settings() -> Settings {
    Settings {
        limit: 1.0,
        policies: vec![
            policy("slow", r#"{alertname="Slow"}"#, "{{ service }}", 1, 60, 120),
            policy(
                "broken",
                r#"{alertname="Broken"}"#,
                "{{ service }}",
                2,
                30,
                10,
            ),
        ],
        ..Settings::default()
    }
}

#[test]
fn a_service_goes_up_at_once_and_comes_back_step_by_step() {
    let mut story = Story::new(settings(), &["cart", "pay"]);
    let up = story.fires("Slow", "cart");
    assert_eq!(up.len(), 1);
    assert_eq!(
        (up[0].from.as_str(), up[0].state.mode.as_str()),
        ("normal", "degraded")
    );
    assert_eq!(up[0].cause, "policy `slow`: Slow fires");
    assert_eq!(up[0].state.why[0].explanation, "cart is Slow");
    assert_eq!(up[0].state.instruction.features["slow"], json!(1));

    story.until(5);
    let worse = story.fires("Broken", "cart");
    assert_eq!(worse[0].state.mode, "critical");
    // The features of both hold; where they disagree the more severe policy wins.
    assert_eq!(worse[0].state.instruction.features["slow"], json!(1));
    assert_eq!(
        worse[0].state.instruction.features["shared"],
        json!("broken")
    );
    assert_eq!(worse[0].state.why.len(), 2);

    story.until(10);
    assert_eq!(story.resolves("Slow", "cart").len(), 1, "one reason less");
    assert_eq!(story.resolves("Broken", "cart"), []);
    let state = story.machine.state(story.now(), "cart").unwrap();
    assert_eq!(state.why.len(), 1, "the last reason stays during recovery");

    // critical: held 30 s from second 5. degraded: the longest of both, 60 s and 120 s.
    assert_eq!(story.until(34), []);
    story.until(35);
    story.mode("cart", "degraded");
    let state = story.machine.state(story.now(), "cart").unwrap();
    assert_eq!(state.since, story.now());
    assert!(!state.instruction.features.contains_key("broken"));
    story.until(154);
    story.mode("cart", "degraded");
    let back = story.until(155);
    story.mode("cart", "normal");
    assert_eq!(
        back[0].cause,
        "recovered: nothing asks for `degraded` any more"
    );
    assert!(back[0].state.why.is_empty() && back[0].state.instruction.features.is_empty());
    assert_eq!(story.machine.next_deadline(), None);
}

#[test]
fn a_relapse_starts_the_recovery_anew() {
    let mut story = Story::new(settings(), &["cart"]);
    story.fires("Slow", "cart");
    story.until(100);
    story.resolves("Slow", "cart");
    story.until(219);
    assert_eq!(story.fires("Slow", "cart"), []);
    story.resolves("Slow", "cart");
    story.until(338);
    story.mode("cart", "degraded");
    story.until(339);
    story.mode("cart", "normal");
}

#[test]
fn beyond_the_limit_the_most_severe_go_first_and_the_rest_wait_for_room() {
    let limited = Settings {
        limit: 0.5,
        ..settings()
    };
    let mut story = Story::new(limited, &["a", "b", "c", "d", "e"]);
    let now = story.now();
    let all =
        ["a", "b", "c", "d"].map(|name| transition(alert("Slow", name, AlertState::Firing), now));
    let one = transition(alert("Broken", "e", AlertState::Firing), now);
    let up = story
        .machine
        .on_transitions(now, &[&all[..], &[one]].concat());
    let names: Vec<_> = up
        .iter()
        .map(|change| change.state.service.as_str())
        .collect();
    assert_eq!(names, ["a", "e"]);
    assert_eq!(story.machine.waiting().len(), 3);
    // Who is away already may get worse.
    assert_eq!(story.fires("Broken", "a").len(), 1);

    story.resolves("Broken", "e");
    let later = story.until(300);
    story.mode("e", "normal");
    let taken = later.iter().find(|change| change.state.service == "b");
    let taken = taken.expect("b took the room that e left");
    assert_eq!(taken.state.mode, "degraded");
    // More services are found: there is room for one more.
    story
        .machine
        .know_services(story.now(), ["a", "b", "c", "d", "e", "f"]);
    story.until(301);
    story.mode("c", "degraded");
    story.mode("d", "normal");
}

#[test]
fn a_limit_of_nothing_leaves_every_service_to_people() {
    let none = Settings {
        limit: 0.0,
        ..settings()
    };
    let mut story = Story::new(none, &["a"]);
    assert_eq!(story.fires("Broken", "a"), []);
    assert_eq!(story.machine.waiting(), [("a", Level(2))]);
    story.overrides("a", "degraded", None).unwrap();
    story.mode("a", "degraded");
}

#[test]
fn an_override_wins_and_ends_by_itself() {
    let mut story = Story::new(settings(), &["cart"]);
    let set = story.overrides("cart", "critical", Some(100)).unwrap();
    assert_eq!(set[0].cause, "set by alice: drill");
    assert_eq!(story.fires("Slow", "cart"), []);
    assert_eq!(story.until(99), []);
    story.mode("cart", "critical");
    let ended = story.until(100);
    assert_eq!(ended.len(), 1);
    assert_eq!(
        (ended[0].from.as_str(), ended[0].state.mode.as_str()),
        ("critical", "degraded")
    );
    assert_eq!(
        ended[0].cause,
        "the override by alice has expired; policy `slow`: Slow fires"
    );
    story.overrides("cart", "normal", None).unwrap();
    story.mode("cart", "normal");
    let removed = story
        .machine
        .remove_override(story.now(), "cart", "bob")
        .unwrap();
    assert_eq!(removed[0].cause, "override removed by bob");
    story.mode("cart", "degraded");
}

#[test]
fn wrong_commands_are_refused_and_change_nothing() {
    let mut story = Story::new(settings(), &["cart"]);
    story.until(50);
    let refused = story.overrides("nobody", "degraded", None).unwrap_err();
    assert_eq!(
        refused,
        Error::NotFound("there is no service `nobody`".into())
    );
    let refused = story.overrides("cart", "worse", None).unwrap_err();
    assert!(matches!(refused, Error::Invalid(text) if text.contains("normal, degraded, critical")));
    for past in [50, 49, -1] {
        let refused = story.overrides("cart", "degraded", Some(past)).unwrap_err();
        assert!(matches!(refused, Error::Invalid(_)));
    }
    for service in ["cart", "nobody"] {
        let refused = story.machine.remove_override(story.now(), service, "bob");
        assert!(matches!(refused, Err(Error::NotFound(_))), "{service}");
    }
    assert_eq!(story.machine.changes(), []);
}

#[test]
fn a_freeze_stops_both_ways_but_not_people() {
    let mut story = Story::new(settings(), &["cart", "pay"]);
    story.fires("Slow", "cart");
    assert_eq!(story.freeze(true), []);
    assert_eq!(story.fires("Broken", "cart"), []);
    assert_eq!(story.fires("Slow", "pay"), []);
    assert_eq!(story.resolves("Broken", "cart"), []);
    assert_eq!(story.resolves("Slow", "cart"), []);
    assert_eq!(story.until(1000), []);
    story.overrides("cart", "normal", Some(2000)).unwrap();
    story.mode("cart", "normal");
    assert_eq!(
        story.machine.next_deadline(),
        Some(Timestamp::from_secs(2000))
    );
    story.until(2000);
    story.mode("cart", "degraded");
    let thawed = story.freeze(false);
    assert_eq!(thawed.len(), 2);
    story.mode("cart", "normal");
    story.mode("pay", "degraded");
}

#[test]
fn a_clock_that_jumps_changes_nothing() {
    let mut story = Story::new(settings(), &["cart"]);
    story.second = 1_000_000;
    story.fires("Slow", "cart");
    story.resolves("Slow", "cart");
    // A day ahead at once counts as a minute, a year back as nothing, the end of time as a minute.
    story.second += 86_400;
    assert_eq!(story.machine.step(story.now()), []);
    story.second -= 31_536_000;
    assert_eq!(story.machine.step(story.now()), []);
    let ends = [i64::MIN, i64::MAX].map(Timestamp::from_nanos);
    assert_eq!(story.machine.step(ends[0]), []);
    assert_eq!(story.machine.step(ends[1]).len(), 1);
    story.mode("cart", "normal");
    // Nothing is stuck afterwards.
    story.fires("Slow", "cart");
    story.mode("cart", "degraded");
    story.resolves("Slow", "cart");
    story.until(story.second + 120);
    story.mode("cart", "normal");
}

#[test]
fn a_restart_keeps_everything_and_does_not_count_as_health() {
    let mut story = Story::new(settings(), &["cart", "pay", "ship"]);
    story.fires("Slow", "cart");
    story.overrides("pay", "critical", Some(10_000)).unwrap();
    story.until(50);
    story.resolves("Slow", "cart");
    story.until(100);
    story.freeze(true);
    story.machine.number("cart", 7);
    let before = story.machine.view(story.now());
    assert_eq!(story.restart(settings()), Vec::<String>::new());
    let after = story.machine.view(story.now());
    assert_eq!(after.freeze, before.freeze);
    assert_eq!(after.services["cart"], before.services["cart"]);
    assert_eq!(after.services["cart"].sequence, 7);
    assert_eq!(after.services["pay"], before.services["pay"]);
    assert_eq!(story.freeze(false), []);

    // Down for an hour: 50 s of the recovery were seen before, at most 60 s count for the hour.
    story.restart(settings());
    story.second = 3700;
    assert_eq!(story.machine.step(story.now()), []);
    story.until(3709);
    story.mode("cart", "degraded");
    story.until(3710);
    story.mode("cart", "normal");
}

#[test]
fn new_settings_find_the_nearest_level_and_let_go_of_old_policies() {
    let mut story = Story::new(settings(), &["cart", "pay"]);
    story.fires("Broken", "cart");
    story.fires("Slow", "cart");
    story.overrides("pay", "critical", None).unwrap();
    let fewer = Settings {
        levels: Levels::new(vec!["fine".into(), "degraded".into()]).unwrap(),
        policies: vec![policy(
            "slow",
            r#"{alertname="Slow"}"#,
            "{{ service }}",
            1,
            60,
            120,
        )],
        ..settings()
    };
    let warnings = story.restart(fewer.clone());
    assert_eq!(
        warnings,
        [
            "modes: service `cart`: the level `critical` is gone, `degraded` is nearest",
            "modes: policy `broken` is gone, service `cart` recovers from it",
            "modes: override of service `pay`: the level `critical` is gone, `degraded` is nearest",
        ]
    );
    let told = story.until(1);
    assert_eq!(told.len(), 2);
    assert_eq!(
        (told[0].from.as_str(), told[0].state.mode.as_str()),
        ("critical", "degraded")
    );
    assert_eq!(told[0].state.why.len(), 1);
    // Both policies are gone: the way back is the one that was promised.
    let none = Settings {
        policies: Vec::new(),
        ..fewer
    };
    story.restart(none);
    story.until(60);
    story.mode("cart", "degraded");
    story.until(200);
    story.mode("cart", "fine");
    story.mode("pay", "degraded");
}

#[test]
fn damaged_entries_are_left_out_with_a_warning() {
    let mut story = Story::new(settings(), &["cart"]);
    story.fires("Slow", "cart");
    let mut entries = story.machine.entries();
    entries.push(("service/pay".into(), b"{".to_vec()));
    entries.push(("freeze".into(), b"\xff".to_vec()));
    entries.push(("else".into(), Vec::new()));
    let (machine, warnings) = Machine::restore(entries, settings());
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert_eq!(machine.entries(), story.machine.entries());
}

#[test]
fn reconciling_lets_go_of_alerts_that_were_lost_and_takes_in_new_ones() {
    let mut story = Story::new(settings(), &["cart", "pay"]);
    story.fires("Slow", "cart");
    story.restart(settings());
    let firing = [Arc::new(alert("Broken", "pay", AlertState::Firing))];
    let changes = story.machine.reconcile(story.now(), &firing);
    assert_eq!(changes.len(), 1);
    story.mode("pay", "critical");
    story.until(120);
    story.mode("cart", "normal");
    story.mode("pay", "critical");
}

#[test]
fn services_are_bounded_and_forgotten_at_rest() {
    let few = Settings {
        max_services: 2,
        ..settings()
    };
    let mut story = Story::new(few, &["a", "b", "c"]);
    assert_eq!(story.fires("Slow", "c"), []);
    assert_eq!(story.machine.take_warnings().len(), 1);
    story.fires("Slow", "a");
    story.machine.know_services(story.now(), ["c"]);
    let known: Vec<_> = story
        .machine
        .view(story.now())
        .services
        .into_keys()
        .collect();
    assert_eq!(known, ["a"], "no room for c when it was named");
    story.machine.know_services(story.now(), ["c"]);
    story.resolves("Slow", "a");
    story.until(200);
    story.machine.changes();
    story.machine.know_services(story.now(), ["c"]);
    let forgotten = story.machine.changes();
    assert_eq!(forgotten[0], ("service/a".into(), None));
    assert_eq!(story.machine.view(story.now()).services.len(), 1);
}

#[test]
fn a_policy_that_names_no_service_says_so() {
    let strange = Settings {
        policies: vec![policy("odd", "{}", "{{ nothing }}", 1, 0, 0)],
        ..settings()
    };
    let mut story = Story::new(strange, &["cart"]);
    assert_eq!(story.fires("Slow", "cart"), []);
    story.fires("Slow", "cart");
    let warnings = story.machine.take_warnings();
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("policy `odd` names no service for alert Slow"));
}

#[test]
fn without_hold_and_recovery_a_service_is_back_at_once() {
    let quick = Settings {
        policies: vec![policy("quick", "{}", "cart", 2, 0, 0)],
        ..settings()
    };
    let mut story = Story::new(quick, &[]);
    story.fires("Slow", "anything");
    story.mode("cart", "critical");
    let back = story.resolves("Slow", "anything");
    assert_eq!(back.len(), 1);
    story.mode("cart", "normal");
}

#[test]
fn many_alerts_are_counted_but_few_are_told() {
    let all = Settings {
        policies: vec![policy("all", "{}", "cart", 1, 0, 0)],
        ..settings()
    };
    let mut story = Story::new(all, &[]);
    for number in 0..1000 {
        story.fires(&format!("alert{number}"), "x");
    }
    let state = story.machine.state(story.now(), "cart").unwrap();
    assert_eq!(state.why.len(), 20);
    for number in 0..1000 {
        story.resolves(&format!("alert{number}"), "x");
    }
    story.mode("cart", "normal");
}
