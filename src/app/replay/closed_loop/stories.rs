//! The loop as it is meant to go, and what does not help.

use super::*;
use crate::model::{EffectVerdict, EpisodeAction, ProposalAction};

#[test]
fn an_incident_degrades_its_service_helps_and_is_over() {
    let mut world = World::new(policy(Otherwise::Undo));
    world.incident("cart", 10.0, [1.0, 0.3, 0.3]);
    world.until(INCIDENT + 20);
    assert_eq!(world.changes(), ["cart degrade to degraded"]);
    // Three of five samples fire the alert.
    assert!((3..=5).contains(&(world.tick_of(0) - INCIDENT)));
    let [effect] = &world.effects()[..] else {
        panic!("{:#?}", world.episodes());
    };
    assert_eq!(effect.verdict, EffectVerdict::Improved);
    assert_eq!(effect.before, Some(1.0));
    let after = effect.after.expect("it can be read");
    assert!((0.25..0.35).contains(&after), "{effect:?}");
    let judged_at = effect.judged_at.expect("it was judged");
    let watched = judged_at.since(at(world.tick_of(0)));
    assert!(watched <= Duration::from_secs(60), "{watched:?}");

    let view = world.replay.pipeline.modes.view(world.replay.now());
    let (state, report) = (&view.services["cart"], &view.reports["cart"]);
    assert!(report.acknowledged && report.differs_since.is_none());
    assert_eq!(report.actual, [("degraded".to_owned(), 1)]);
    assert_eq!(report.sequence, state.sequence);
    assert_eq!(state.episode.as_ref(), Some(&view.episodes[0].id));

    world.service("cart").incident = 1.0;
    world.until(INCIDENT + 60);
    assert_eq!(
        world.changes(),
        ["cart degrade to degraded", "cart recover to normal"]
    );
    // The alert resolves after some calm samples, and has to be over for two minutes.
    let calm = world.tick_of(1) - (INCIDENT + 20);
    assert!((13..=20).contains(&calm), "{calm} ticks");
    world.assert_calm();
    world.assert_over();
    let episode = &world.episodes()[0];
    assert!(
        episode.outcome.starts_with("recovered after "),
        "{episode:#?}"
    );
    assert!(episode.outcome.ends_with(": it helped"), "{episode:#?}");
    // The events tell the same, each before the change of mode that it led to.
    let told = world.events.iter().filter_map(|event| match &event.body {
        EventBody::Episode { action, .. } => Some(*action),
        _ => None,
    });
    let told: Vec<_> = told.collect();
    use EpisodeAction::{Ended, Judged, Opened};
    assert_eq!(told, [Opened, Judged, Ended]);
    let acknowledged = world.events.iter().any(|event| match &event.body {
        EventBody::Acknowledged {
            service,
            acknowledgement,
        } => service == "cart" && acknowledgement.mode == "degraded",
        _ => false,
    });
    assert!(acknowledged);
}

#[test]
fn what_has_no_effect_is_undone_and_not_tried_again_before_it_is_over() {
    let mut world = World::new(policy(Otherwise::Undo));
    world.incident("cart", 10.0, [1.0, 1.0, 1.0]);
    world.until(INCIDENT + 80);
    assert_eq!(
        world.changes(),
        ["cart degrade to degraded", "cart undo to normal"]
    );
    let watched = world.tick_of(1) - world.tick_of(0);
    assert!((30..=32).contains(&watched), "{watched} ticks");
    let [effect] = &world.effects()[..] else {
        panic!("{:#?}", world.episodes());
    };
    assert_eq!(effect.verdict, EffectVerdict::NoEffect);
    let after = effect.after.expect("it can be read");
    assert!((0.9..1.1).contains(&after), "{effect:?}");
    assert!(
        effect.sentence.ends_with("; it is taken back"),
        "{effect:?}"
    );
    assert_eq!(
        world.episodes()[0].outcome,
        "undone after 5m: a step had no effect"
    );

    // It is over, and begins again: then it is tried again.
    world.service("cart").incident = 1.0;
    world.until(INCIDENT + 300);
    world.assert_over();
    // Longer than what was learned meanwhile.
    world.incident("cart", 100.0, [1.0, 0.2, 0.2]);
    world.until(INCIDENT + 308);
    assert_eq!(world.changes().len(), 3, "{:?}", world.changes());
    world.assert_calm();
}

#[test]
fn what_has_no_effect_is_taken_farther_where_the_policy_says_so() {
    let mut world = World::new(policy(Otherwise::Escalate));
    world.incident("cart", 10.0, [1.0, 0.95, 0.2]);
    world.until(INCIDENT + 60);
    world.service("cart").incident = 1.0;
    world.until(INCIDENT + 140);
    assert_eq!(
        world.changes(),
        [
            "cart degrade to degraded",
            "cart escalate to critical",
            "cart recover to degraded",
            "cart recover to normal"
        ]
    );
    let verdicts: Vec<_> = world.effects().iter().map(|e| e.verdict).collect();
    assert_eq!(verdicts, [EffectVerdict::NoEffect, EffectVerdict::Improved]);
    world.assert_calm();
    world.assert_over();
}

#[test]
fn at_the_worst_level_it_stays_and_says_so() {
    let mut world = World::new(policy(Otherwise::Escalate));
    world.incident("cart", 10.0, [1.0, 1.0, 1.0]);
    world.until(INCIDENT + 90);
    assert_eq!(
        world.changes(),
        ["cart degrade to degraded", "cart escalate to critical"]
    );
    let last = world.effects().pop().expect("two");
    assert_eq!(last.verdict, EffectVerdict::NoEffect);
    let end = "; `critical` is the worst level already, it stays";
    assert!(last.sentence.ends_with(end), "{last:?}");
    world.assert_calm();
}

#[test]
fn what_does_harm_is_undone_at_once() {
    let mut world = World::new(policy(Otherwise::Stay));
    world.incident("cart", 10.0, [1.0, 2.0, 2.0]);
    world.until(INCIDENT + 60);
    assert_eq!(
        world.changes(),
        ["cart degrade to degraded", "cart undo to normal"]
    );
    // Three readings, and no hold.
    let watched = world.tick_of(1) - world.tick_of(0);
    assert!((3..=5).contains(&watched), "{watched} ticks");
    let [effect] = &world.effects()[..] else {
        panic!("{:#?}", world.episodes());
    };
    assert_eq!(effect.verdict, EffectVerdict::Worse);
    let after = effect.after.expect("it can be read");
    assert!((1.8..2.2).contains(&after), "{effect:?}");
    let undone = world.mode_changes().find(|(_, c)| c.step == ModeStep::Undo);
    let (_, undone) = undone.expect("it was undone");
    assert!(undone.cause.contains("the step did harm"), "{undone:?}");
    let judged = world.events.iter().any(|event| match &event.body {
        EventBody::Episode { action, episode } => {
            let effects = episode.actions.iter().filter_map(|a| a.effect.as_ref());
            let mut verdicts = effects.map(|effect| effect.verdict);
            *action == EpisodeAction::Judged && verdicts.any(|v| v == EffectVerdict::Worse)
        }
        _ => false,
    });
    assert!(judged);
    world.service("cart").incident = 1.0;
    world.until(INCIDENT + 100);
    world.assert_over();
    world.assert_calm();
}

#[test]
fn who_finds_no_room_is_proposed_and_a_person_may_say_yes() {
    let mut world = World::new(policy(Otherwise::Undo));
    for name in ["cart", "pay", "stock"] {
        world.incident(name, 10.0, [1.0, 0.3, 0.3]);
    }
    world.until(INCIDENT + 20);
    // Half of five.
    assert_eq!(world.changes().len(), 2, "{:?}", world.changes());
    let now = world.replay.now();
    let view = world.replay.pipeline.modes.view(now);
    let [proposal] = &view.proposals[..] else {
        panic!("{:#?}", view.proposals);
    };
    let modes = &mut world.replay.pipeline.modes;
    let decided = modes.decide(now, &proposal.id, true, "alice", "it is needed");
    let decisions = Decisions {
        modes: decided.expect("it stands"),
        ..Decisions::default()
    };
    world.replay.settle(now, decisions);
    world.until(INCIDENT + 40);
    assert_eq!(world.changes().len(), 3, "{:?}", world.changes());
    let approved = world.events.iter().any(|event| match &event.body {
        EventBody::Proposal { action, author, .. } => {
            *action == ProposalAction::Approved && author == "alice"
        }
        _ => false,
    });
    assert!(approved);
    for name in ["cart", "pay", "stock"] {
        world.service(name).incident = 1.0;
    }
    world.until(INCIDENT + 100);
    world.assert_over();
    world.assert_calm();
    let helped = world
        .episodes()
        .iter()
        .filter(|e| e.outcome.ends_with(": it helped"))
        .count();
    assert_eq!(helped, 3, "{:#?}", world.episodes());
}
