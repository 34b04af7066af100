//! What goes wrong around the loop: silence, restarts, and services that do not answer.

use super::*;
use crate::model::{EffectVerdict, PlanState, StepState};

#[test]
fn half_of_the_services_fall_silent_and_nothing_is_changed_for_it() {
    let mut world = World::new(policy(Otherwise::Undo));
    world.incident("cart", 10.0, [1.0, 0.9, 0.9]);
    world.until(INCIDENT + 10);
    assert_eq!(world.changes(), ["cart degrade to degraded"]);
    for name in ["cart", "pay", "stock"] {
        world.service(name).is_cut_off = true;
    }
    // Neither is the time for an effect over, nor has anything recovered; the alert has ended meanwhile.
    world.until(INCIDENT + 90);
    assert_eq!(world.changes(), ["cart degrade to degraded"]);
    assert_eq!(world.effects()[0].verdict, EffectVerdict::Watching);
    // They are back, and so is the incident: it is judged by what was seen.
    for name in ["cart", "pay", "stock"] {
        world.service(name).is_cut_off = false;
    }
    world.until(INCIDENT + 150);
    assert_eq!(
        world.changes(),
        ["cart degrade to degraded", "cart undo to normal"]
    );
    let effect = world.effects().remove(0);
    assert_eq!(effect.verdict, EffectVerdict::NoEffect, "{effect:?}");
    world.assert_calm();
}

#[test]
fn a_service_that_stays_silent_is_let_go_in_the_end() {
    let mut world = World::new(policy(Otherwise::Undo));
    world.incident("cart", 10.0, [1.0, 0.9, 0.9]);
    world.until(INCIDENT + 10);
    world.service("cart").is_cut_off = true;
    // Five minutes until the alert is silent, fifteen until nobody waits for it any more.
    world.until(INCIDENT + 10 + 118);
    assert_eq!(world.changes(), ["cart degrade to degraded"]);
    world.until(INCIDENT + 10 + 150);
    assert_eq!(
        world.changes(),
        ["cart degrade to degraded", "cart recover to normal"]
    );
    let effect = world.effects().remove(0);
    assert_eq!(effect.verdict, EffectVerdict::Unknown, "{effect:?}");
    // It was told, and nobody has acknowledged it; nor does anybody say otherwise.
    let report = &world.replay.pipeline.modes.view(world.replay.now()).reports["cart"];
    assert_eq!((report.instances, report.acknowledged), (0, false));
    assert_eq!((&report.actual, report.differs_since), (&vec![], None));
    world.assert_calm();
}

#[test]
fn killed_in_the_middle_it_goes_on_where_it_was() {
    for stop in [2, 4, 5, 6, 12, 30] {
        let mut world = World::new(policy(Otherwise::Undo));
        world.incident("cart", 10.0, [1.0, 0.3, 0.3]);
        world.until(INCIDENT + stop);
        let before = world.changes();
        world.restart(3);
        // While it does not see it changes nothing.
        let blind = world.n;
        world.until(blind + 2);
        assert_eq!(world.changes(), before, "stopped at {stop}");
        world.until(INCIDENT + 60);
        world.service("cart").incident = 1.0;
        world.until(INCIDENT + 120);
        assert_eq!(
            world.changes(),
            ["cart degrade to degraded", "cart recover to normal"],
            "stopped at {stop}"
        );
        let verdicts: Vec<_> = world.effects().iter().map(|e| e.verdict).collect();
        assert_eq!(verdicts, [EffectVerdict::Improved], "stopped at {stop}");
        world.assert_calm();
        world.assert_over();
    }
}

#[test]
fn a_plan_goes_from_step_to_step_and_comes_back_in_reverse() {
    let mut world = World::new(plan());
    world.incident("cart", 10.0, [1.0, 0.3, 0.3]);
    world.until(INCIDENT + 20);
    let there = ["gateway degrade to degraded", "cart degrade to degraded"];
    assert_eq!(world.changes(), there);
    assert_eq!(world.plans()[0].state, PlanState::Standing);
    // Killed while it stands, it stands.
    world.restart(3);
    world.until(INCIDENT + 40);
    assert_eq!(world.plans()[0].state, PlanState::Standing);
    world.service("cart").incident = 1.0;
    world.until(INCIDENT + 100);
    let back = ["cart recover to normal", "gateway recover to normal"];
    assert_eq!(world.changes(), [there, back].concat());
    let plan = &world.plans()[0];
    assert_eq!(plan.state, PlanState::Done);
    assert!(
        plan.steps
            .iter()
            .all(|step| step.state == StepState::Recovered)
    );
    world.assert_calm();
    world.assert_over();
}

#[test]
fn a_plan_without_an_answer_is_undone_in_reverse() {
    let mut world = World::new(plan());
    world.service("cart").acknowledges = false;
    world.incident("cart", 10.0, [1.0, 0.3, 0.3]);
    world.until(INCIDENT + 60);
    assert_eq!(
        world.changes(),
        [
            "gateway degrade to degraded",
            "cart degrade to degraded",
            "cart undo to normal",
            "gateway undo to normal"
        ]
    );
    // Thirty seconds for the answer, and thirty for the answer to the undo.
    assert!((3..=4).contains(&(world.tick_of(2) - world.tick_of(1))));
    assert!((3..=4).contains(&(world.tick_of(3) - world.tick_of(2))));
    let plan = &world.plans()[0];
    assert_eq!(plan.state, PlanState::Undone);
    let outcome = "undone: step 2, `cart`: not acknowledged within 30s";
    assert_eq!(plan.outcome, outcome);
    assert!(
        plan.steps
            .iter()
            .all(|step| step.state == StepState::Undone)
    );
    // It is over; with an answer the next one stands.
    world.service("cart").incident = 1.0;
    world.service("cart").acknowledges = true;
    world.until(INCIDENT + 200);
    world.assert_over();
    // Longer than what was learned meanwhile.
    world.incident("cart", 100.0, [1.0, 0.9, 0.9]);
    world.until(INCIDENT + 208);
    assert_eq!(world.plans()[0].state, PlanState::Standing);
    assert_eq!(world.plans().len(), 2);
}

#[test]
fn killed_while_a_plan_waits_for_an_answer_it_is_undone_all_the_same() {
    let mut world = World::new(plan());
    world.service("cart").acknowledges = false;
    world.incident("cart", 10.0, [1.0, 0.3, 0.3]);
    while world.changes().len() < 2 {
        world.until(world.n + 1);
    }
    world.restart(2);
    world.until(INCIDENT + 60);
    let changes = world.changes();
    assert_eq!(
        changes[2..],
        ["cart undo to normal", "gateway undo to normal"]
    );
    assert_eq!(world.plans()[0].state, PlanState::Undone);
}

#[test]
fn a_plan_that_does_harm_is_undone_in_reverse() {
    let mut world = World::new(plan());
    world.incident("cart", 10.0, [1.0, 2.0, 2.0]);
    world.until(INCIDENT + 60);
    let changes = world.changes();
    assert_eq!(
        changes[2..],
        ["cart undo to normal", "gateway undo to normal"]
    );
    let plan = &world.plans()[0];
    assert_eq!(plan.state, PlanState::Undone);
    assert!(plan.outcome.contains("the step did harm"), "{plan:#?}");
}
