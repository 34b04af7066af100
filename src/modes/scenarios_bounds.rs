//! What becomes of alerts when there are very many.

use std::sync::Arc;

use super::fixtures::{Story, alert, policy};
use super::scenarios::settings;
use super::{Policy, Settings};
use crate::model::{AlertState, Level};

/// `Big…` makes `cart` critical, all others degrade it.
fn one_service() -> Settings {
    let of = |name: &str, when: &str, level| policy(name, when, "cart", level, 0, 0);
    Settings {
        limit: 1.0,
        policies: vec![of("big", r#"{alertname=~"Big.*"}"#, 2), of("all", "{}", 1)],
        ..Settings::default()
    }
}

fn names(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|number| format!("Alert{number:04}"))
}

#[test]
fn a_service_stays_away_until_the_last_of_very_many_alerts_is_over() {
    for first in [0, 700] {
        let mut story = Story::new(one_service(), &["cart"]);
        let all: Vec<String> = names(1_000).collect();
        for name in &all {
            story.fires(name, "x");
        }
        story.fires("Big", "x");
        story.mode("cart", "critical");
        let state = story.machine.state(story.now(), "cart").unwrap();
        assert!(state.why.iter().all(|why| !why.explanation.is_empty()));
        story.resolves("Big", "x");
        let (late, early) = (&all[..first], &all[first..]);
        let (last, others) = late.split_last().unwrap_or((&all[0], &[]));
        for name in early.iter().chain(others).filter(|name| *name != last) {
            story.resolves(name, "x");
        }
        story.until(100);
        story.mode("cart", "degraded");
        story.resolves(last, "x");
        story.mode("cart", "normal");
        assert_eq!(story.machine.pairs, 0);
    }
}

#[test]
fn of_very_many_alerts_the_worst_are_saved_and_the_others_taken_in_again() {
    let mut story = Story::new(one_service(), &["cart"]);
    for name in names(600) {
        story.fires(&name, "x");
    }
    for name in ["Big1", "Big2"] {
        story.fires(name, "x");
    }
    let entries = story.machine.entries();
    let (_, cart) = entries
        .iter()
        .find(|(key, _)| key == "service/cart")
        .unwrap();
    let cart: serde_json::Value = serde_json::from_slice(cart).unwrap();
    assert_eq!(cart["claims"].as_array().unwrap().len(), 256);
    assert_eq!(cart["more"], true);
    story.restart(one_service());
    story.restart(one_service());
    let claims = |story: &Story| story.machine.services["cart"].claims.len();
    assert_eq!(claims(&story), 256);
    let big = |story: &Story| {
        let service = &story.machine.services["cart"];
        service
            .claims
            .values()
            .filter(|c| c.level == Level(2))
            .count()
    };
    assert_eq!(big(&story), 2);
    // Of what was saved all is over, and of the rest nobody has told yet.
    let saved: Vec<_> = story.machine.alerts.keys().copied().collect();
    let alerts = story.alerts.clone();
    for (fingerprint, alert) in &alerts {
        if saved.contains(fingerprint) {
            let service = alert.labels.get("service").unwrap();
            story.resolves(alert.name(), service);
        }
    }
    let rest: Vec<_> = story.alerts.values().cloned().collect();
    story.alerts.clear();
    story.until(300);
    assert_eq!(
        (claims(&story), story.machine.view(story.now()).blind),
        (0, None)
    );
    story.mode("cart", "critical");
    story.machine.reconcile(story.now(), &rest);
    assert_eq!(claims(&story), 602 - saved.len());
    story.mode("cart", "degraded");
    for alert in rest {
        story.resolves(alert.name(), "x");
    }
    story.mode("cart", "normal");
}

#[test]
fn an_alert_that_was_left_out_is_taken_in_when_there_is_room() {
    let mut story = Story::new(settings(), &["a", "b", "c"]);
    story.machine.most_pairs = 2;
    for service in ["a", "b", "c"] {
        story.fires("Slow", service);
    }
    assert_eq!(
        story.machine.take_warnings(),
        ["more than 2 pairs of alerts and services: modes leave the others out"]
    );
    story.until(20);
    story.mode("c", "normal");
    story.resolves("Slow", "a");
    story.until(30);
    story.mode("c", "degraded");
    assert!(story.machine.left_out.is_empty());
    // Nothing is kept of one that is over meanwhile.
    story.fires("Slow", "a");
    assert_eq!(story.machine.left_out.len(), 1);
    story.alerts.retain(|_, alert| alert.service != "a");
    story.until(40);
    assert!(story.machine.left_out.is_empty());
}

#[test]
fn a_service_that_was_left_out_is_asked_when_there_is_room() {
    let few = Settings {
        max_services: 100,
        ..settings()
    };
    let mut story = Story::new(few, &[]);
    for number in 0..101 {
        story.fires("Slow", &format!("s-{number:03}"));
    }
    let known = |story: &Story, name: &str| story.machine.state(story.now(), name).is_some();
    assert!(!known(&story, "s-100"));
    story.resolves("Slow", "s-000");
    // Degraded for 120 s, held for 60 s, then forgotten.
    story.until(170);
    assert!(!known(&story, "s-100"));
    story.until(180);
    assert!(known(&story, "s-100") && !known(&story, "s-000"));
}

#[test]
fn silent_alerts_are_saved_before_others_of_their_kind() {
    let tried = |policy: Policy| Policy {
        dry_run: true,
        ..policy
    };
    let mut tries = one_service();
    tries.policies = tries.policies.into_iter().map(tried).collect();
    let mut story = Story::new(tries.clone(), &["cart"]);
    for name in names(400) {
        story.fires(&name, "x");
    }
    story.falls_silent("Alert0399", "x");
    story.restart(tries);
    let silent = alert("Alert0399", "x", AlertState::Firing).fingerprint;
    assert!(story.machine.alerts.contains_key(&silent));
    let all: Vec<Arc<_>> = story.alerts.values().cloned().collect();
    story.machine.reconcile(story.now(), &all);
    assert_eq!(story.machine.pairs, 400);
}
