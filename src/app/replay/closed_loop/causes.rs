//! What may lead to a mode beside a deviation: a promise that is being broken, and what will be full.

use super::*;
use crate::{app, config};

/// Services with this rule alone, called `Cause`, and a policy for it.
fn world(rule: &str) -> World {
    let text =
        format!("rules:\n  - {{alert: Cause, match: '{{metric=\"queue.depth\"}}', {rule}}}\n");
    let loaded = config::parse("t.yaml", &text, &|_| None, &app::known());
    let when = Selector::parse(r#"{alertname="Cause"}"#).expect("a selector");
    let policy = Policy {
        when,
        ..policy(Otherwise::Stay)
    };
    World::with(loaded.expect("a configuration").config, policy)
}

#[test]
fn a_budget_that_burns_degrades_its_service_and_is_over() {
    let burn = "burn: [{long: 10m, short: 1m, rate: 5, severity: critical}]";
    let rule = format!("detector: slo, objective: 90%, target: 200, {burn}");
    let mut world = world(&rule);
    world.incident("cart", 5.0, [1.0, 0.1, 0.1]);
    world.until(INCIDENT + 40);
    assert_eq!(world.changes(), ["cart degrade to degraded"]);
    world.service("cart").incident = 1.0;
    world.until(INCIDENT + 150);
    assert_eq!(
        world.changes(),
        ["cart degrade to degraded", "cart recover to normal"]
    );
    world.assert_calm();
    world.assert_over();
}

#[test]
fn what_will_be_full_degrades_its_service_before_it_is() {
    let mut world = world("detector: forecast, upper: 1000, horizon: 30m");
    // It grows by five a tick, and no more once the service does less.
    let mut depth = 1.0;
    for n in 1..=160 {
        let is_told = !world.changes().is_empty();
        depth += if is_told { 0.0 } else { 0.05 };
        world.incident("cart", depth, [1.0, 1.0, 1.0]);
        world.until(INCIDENT + n);
    }
    assert_eq!(
        world.changes().first().map(String::as_str),
        Some("cart degrade to degraded")
    );
    let reached = 100.0 * depth;
    assert!(reached < 900.0, "told at {reached} of 1000");
    world.until(INCIDENT + 400);
    assert_eq!(
        world.changes(),
        ["cart degrade to degraded", "cart recover to normal"]
    );
    world.assert_calm();
    world.assert_over();
}
