//! Scenarios in plain words.

use std::sync::Arc;

use serde_json::json;

use super::fixtures::alert;
use super::fixtures::{Story, direct, policy, transition};
use super::{Error, Machine, Settings};
use crate::model::{AlertState, Levels, ModeStep, Timestamp};

/// `Slow` degrades (hold 60 s, recover 120 s), `Broken` makes critical (hold 30 s, recover 10 s).
pub(super) fn settings() -> Settings {
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
fn a_service_goes_up_and_comes_back_step_by_step() {
    let mut story = Story::new(settings(), &["cart", "pay"]);
    let up = story.fires("Slow", "cart");
    assert_eq!(up.len(), 1);
    assert_eq!(
        (up[0].from.as_str(), up[0].state.mode.as_str(), up[0].step),
        ("normal", "degraded", ModeStep::Degrade)
    );
    assert_eq!(up[0].cause, "policy `slow`: Slow fires");
    assert_eq!(up[0].state.why[0].explanation, "cart is Slow");
    assert_eq!(up[0].state.instruction.features["slow"], json!(1));

    story.until(5);
    let reason = story.fires("Broken", "cart");
    assert_eq!((reason.len(), reason[0].step), (1, ModeStep::Update));
    assert_eq!(reason[0].state.why.len(), 2);
    assert_eq!(story.until(59), []);
    // The change to degraded is held for the 60 s of its policy.
    let worse = story.until(60);
    assert_eq!(worse[0].state.mode, "critical");
    assert_eq!(worse[0].cause, "policy `broken`: Broken fires");
    // The features of both hold; where they disagree the more severe policy wins.
    assert_eq!(worse[0].state.instruction.features["slow"], json!(1));
    assert_eq!(
        worse[0].state.instruction.features["shared"],
        json!("broken")
    );

    story.until(65);
    assert_eq!(story.resolves("Slow", "cart").len(), 1, "one reason less");
    assert_eq!(story.resolves("Broken", "cart"), []);
    let state = story.machine.state(story.now(), "cart").unwrap();
    assert_eq!(state.why.len(), 1, "the last reason stays during recovery");

    // critical: held 30 s from second 60. degraded: the longest of both, 60 s and 120 s.
    assert_eq!(story.until(89), []);
    let back = story.until(90);
    assert_eq!(back[0].step, ModeStep::Recover);
    story.mode("cart", "degraded");
    let state = story.machine.state(story.now(), "cart").unwrap();
    assert_eq!(state.since, story.now());
    assert!(!state.instruction.features.contains_key("broken"));
    story.until(209);
    story.mode("cart", "degraded");
    let back = story.until(210);
    story.mode("cart", "normal");
    assert_eq!(
        back[0].cause,
        "recovered: nothing asks for `degraded` any more"
    );
    assert!(back[0].state.why.is_empty() && back[0].state.instruction.features.is_empty());
    assert_eq!(story.machine.next_deadline(), None);
    // Back at normal, too, it is held before it may go again.
    assert_eq!(story.fires("Slow", "cart"), []);
    assert_eq!(story.until(269), []);
    assert_eq!(story.until(270).len(), 1);
}

#[test]
fn a_direct_policy_goes_straight_to_its_level_but_not_within_a_hold() {
    let mut straight = settings();
    straight.policies = straight.policies.into_iter().map(direct).collect();
    let mut story = Story::new(straight, &["cart", "pay"]);
    let up = story.fires("Broken", "cart");
    assert_eq!((up.len(), up[0].state.mode.as_str()), (1, "critical"));
    story.fires("Slow", "pay");
    story.until(10);
    assert_eq!(story.fires("Broken", "pay").len(), 1, "a reason more");
    story.mode("pay", "degraded");
    story.until(60);
    story.mode("pay", "critical");
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
fn beyond_the_limit_the_most_severe_go_first_and_the_rest_are_proposed() {
    let limited = Settings {
        limit: 0.5,
        ..settings()
    };
    let mut story = Story::new(limited, &["a", "b", "c", "d", "e"]);
    let now = story.now();
    let all =
        ["a", "b", "c", "d"].map(|name| transition(alert("Slow", name, AlertState::Firing), now));
    let one = transition(alert("Broken", "e", AlertState::Firing), now);
    let all = [&all[..], &[one]].concat();
    for transition in &all {
        let alert = Arc::clone(&transition.alert);
        story.alerts.insert(alert.fingerprint, alert);
    }
    let up = story.machine.on_transitions(now, &all);
    let names: Vec<_> = up
        .iter()
        .map(|change| change.state.service.as_str())
        .collect();
    assert_eq!(names, ["a", "e"]);
    assert_eq!(
        story.proposed(),
        ["b degraded Limit", "c degraded Limit", "d degraded Limit"]
    );
    assert_eq!(story.notes(), ["made b", "made c", "made d"]);
    // Who is away already may get worse.
    story.until(70);
    story.mode("e", "critical");

    story.resolves("Broken", "e");
    let later = story.until(300);
    story.mode("e", "normal");
    let taken = later.iter().find(|change| change.state.service == "b");
    let taken = taken.expect("b took the room that e left");
    assert_eq!(taken.state.mode, "degraded");
    assert_eq!(story.notes(), ["withdrawn b: automation has done it"]);
    // More services are found: there is room for one more.
    story.services.push("f".into());
    story.until(310);
    story.mode("c", "degraded");
    story.mode("d", "normal");
    story.resolves("Slow", "d");
    assert_eq!(
        story.notes(),
        [
            "withdrawn c: automation has done it",
            "withdrawn d: nothing asks for it any more"
        ]
    );
}

#[test]
fn a_limit_of_nothing_leaves_every_service_to_people() {
    let none = Settings {
        limit: 0.0,
        ..settings()
    };
    let mut story = Story::new(none, &["a"]);
    assert_eq!(story.fires("Broken", "a"), []);
    assert_eq!(story.proposed(), ["a degraded Limit"]);
    story.overrides("a", "degraded", None).unwrap();
    story.mode("a", "degraded");
    assert_eq!(story.proposed(), [""; 0]);
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
    assert_eq!((ended.len(), ended[0].step), (1, ModeStep::Override));
    assert_eq!(
        (ended[0].from.as_str(), ended[0].state.mode.as_str()),
        ("critical", "normal")
    );
    assert_eq!(ended[0].cause, "the override by alice has expired");
    // It is told first where automation has it.
    assert_eq!(story.until(159), []);
    let up = story.until(160);
    assert_eq!(up[0].cause, "policy `slow`: Slow fires");
    story.mode("cart", "degraded");
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
    assert_eq!(thawed.len(), 1);
    story.mode("pay", "degraded");
    // It has just been given back.
    story.until(2059);
    story.mode("cart", "degraded");
    story.until(2060);
    story.mode("cart", "normal");
}

#[test]
fn a_clock_that_jumps_changes_nothing() {
    let mut story = Story::new(settings(), &["cart"]);
    story.fires("Slow", "cart");
    story.resolves("Slow", "cart");
    // A day ahead at once, a year back, both ends of time: none of it counts.
    for jump in [86_400, -31_536_000] {
        story.second += jump;
        assert_eq!(story.machine.step(story.now()), []);
    }
    for end in [i64::MIN, i64::MAX] {
        let end = Timestamp::from_nanos(end);
        assert_eq!(story.machine.step(end), []);
    }
    story.second = 2_000_000;
    story.tick();
    assert!(story.machine.view(story.now()).blind.is_some());
    story.until(2_000_029);
    assert_eq!(
        story.machine.next_deadline(),
        None,
        "a blind one waits for ticks"
    );
    // 20 s later it sees again; nothing of the 120 s had been watched.
    story.until(2_000_139);
    story.mode("cart", "degraded");
    story.until(2_000_150);
    story.mode("cart", "normal");
    // Nothing is stuck afterwards.
    story.until(2_000_210);
    story.fires("Slow", "cart");
    story.mode("cart", "degraded");
    story.resolves("Slow", "cart");
    story.until(2_000_330);
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

    // Down for an hour: 50 s of the recovery were seen before, and the rest is counted from when there
    // has been enough data.
    story.restart(settings());
    story.second = 3690;
    story.tick();
    story.until(3720);
    assert_eq!(story.machine.view(story.now()).blind, None);
    story.until(3789);
    story.mode("cart", "degraded");
    story.until(3790);
    story.mode("cart", "normal");
}

#[test]
fn new_settings_find_the_nearest_level_and_let_go_of_old_policies() {
    let mut before = settings();
    before.policies = before.policies.into_iter().map(direct).collect();
    let mut story = Story::new(before, &["cart", "pay"]);
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
fn reconciling_takes_in_new_alerts_and_leaves_lost_ones_open_for_a_while() {
    let mut story = Story::new(settings(), &["cart", "pay", "ship"]);
    story.fires("Slow", "cart");
    story.fires("Slow", "ship");
    story.restart(settings());
    // How the alert of `cart` ended nobody knows; that of `ship` was resolved.
    story.alerts.clear();
    for (name, service, state) in [
        ("Broken", "pay", AlertState::Firing),
        ("Slow", "ship", AlertState::Resolved),
    ] {
        let alert = Arc::new(alert(name, service, state));
        story.alerts.insert(alert.fingerprint, alert);
    }
    let all: Vec<_> = story.alerts.values().cloned().collect();
    assert_eq!(story.machine.reconcile(story.now(), &all), []);
    story.until(30);
    story.mode("pay", "degraded");
    story.until(150);
    story.mode("ship", "normal");
    // 15 minutes of silence, then the ordinary recovery.
    story.until(30 + 900 + 119);
    story.mode("cart", "degraded");
    story.until(30 + 900 + 120);
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
    assert_eq!(known, ["a", "c"], "b is at rest and leaves first");
    story.services = vec!["c".into()];
    story.resolves("Slow", "a");
    // Not within the hold of its last change: it would be forgotten too.
    story.until(170);
    story.machine.changes();
    story.until(180);
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
