//! What keeps automation from a wrong flip, in plain words.

use serde_json::json;

use super::fixtures::{Story, direct, policy, secs};
use super::scenarios::settings;
use super::{Allowance, Error, Group, Machine, Members, Policy, ServiceTemplate, Settings, Target};
use crate::model::{Instruction, Level, Timestamp};

/// As the settings of all scenarios, but the policies only try.
fn tries() -> Settings {
    let mut tries = settings();
    for policy in &mut tries.policies {
        policy.dry_run = true;
    }
    tries
}

impl Story {
    fn decide(&mut self, approve: bool) -> Vec<String> {
        let proposals = self.machine.view(self.now()).proposals;
        let id = proposals.first().expect("there is one").id.clone();
        let (now, reason) = (self.now(), "as it should be");
        let decided = self.machine.decide(now, &id, approve, "alice", reason);
        let changes = decided.expect("it stands");
        changes.into_iter().map(|change| change.cause).collect()
    }
}

#[test]
fn a_gap_in_the_data_changes_nothing_and_does_not_count() {
    let mut story = Story::new(settings(), &["cart", "pay"]);
    story.fires("Slow", "cart");
    story.until(60);
    story.resolves("Slow", "cart");
    story.data = false;
    story.until(80);
    let blind = story.machine.view(story.now()).blind.unwrap();
    assert!(blind.starts_with("no data has come for a while"), "{blind}");
    assert_eq!(story.fires("Broken", "pay"), []);
    assert_eq!(story.until(10_000), []);
    assert_eq!(story.proposed(), [""; 0], "who is blind proposes nothing");
    story.data = true;
    assert_eq!(story.until(10_029), []);
    let up = story.until(10_030);
    assert_eq!(up.len(), 1);
    story.mode("pay", "degraded");
    // Of the 120 s of recovery 20 s had passed.
    story.until(10_129);
    story.mode("cart", "degraded");
    story.until(10_130);
    story.mode("cart", "normal");
}

#[test]
fn people_may_act_while_automation_is_blind() {
    let mut story = Story::new(tries(), &["cart"]);
    story.fires("Slow", "cart");
    story.data = false;
    story.until(100);
    assert!(story.machine.view(story.now()).blind.is_some());
    assert_eq!(story.proposed(), ["cart degraded DryRun"]);
    assert_eq!(story.decide(true).len(), 1);
    story.mode("cart", "degraded");
    story.overrides("cart", "critical", Some(200)).unwrap();
    story.mode("cart", "critical");
    story.until(200);
    story.mode("cart", "degraded");
}

#[test]
fn an_alert_that_falls_silent_is_neither_health_nor_illness() {
    let mut story = Story::new(settings(), &["cart", "pay"]);
    story.fires("Slow", "cart");
    story.fires("Broken", "pay");
    story.until(10);
    assert_eq!(story.falls_silent("Slow", "cart"), []);
    // On its way to critical: it does not go farther, nor back.
    assert_eq!(story.falls_silent("Broken", "pay"), []);
    assert_eq!(story.until(909), []);
    story.mode("cart", "degraded");
    story.mode("pay", "degraded");
    // Heard again, it is what it says.
    story.fires("Broken", "pay");
    story.mode("pay", "critical");
    story.until(910 + 119);
    story.mode("cart", "degraded");
    story.until(910 + 120);
    story.mode("cart", "normal");
    story.falls_silent("Broken", "pay");
    story.resolves("Broken", "pay");
    story.until(1_060);
    story.mode("pay", "degraded");
}

#[test]
fn an_alert_that_nobody_hears_of_any_more_counts_as_silent() {
    let mut story = Story::new(settings(), &["cart"]);
    story.fires("Slow", "cart");
    story.alerts.clear();
    story.until(10 + 900 + 119);
    story.mode("cart", "degraded");
    story.until(10 + 900 + 120);
    story.mode("cart", "normal");
    assert_eq!(story.machine.next_deadline(), None);
}

#[test]
fn a_policy_that_only_tries_proposes_each_step() {
    let mut story = Story::new(tries(), &["cart"]);
    assert_eq!(story.fires("Broken", "cart"), []);
    assert_eq!(story.proposed(), ["cart degraded DryRun"]);
    let proposal = story.machine.view(story.now()).proposals.remove(0);
    assert_eq!(
        (proposal.policy.as_str(), proposal.since),
        ("broken", story.now())
    );
    assert_eq!(proposal.why[0].explanation, "cart is Broken");
    let causes = story.decide(true);
    assert_eq!(causes, ["approved by alice: policy `broken`: Broken fires"]);
    story.mode("cart", "degraded");
    assert_eq!(
        story.notes(),
        ["made cart", "Approved cart by alice: as it should be"]
    );
    // The next step is another one, and comes after the hold.
    assert_eq!(story.proposed(), [""; 0]);
    story.until(30);
    assert_eq!(story.proposed(), ["cart critical DryRun"]);
    let proposal = story.machine.view(story.now()).proposals.remove(0);
    assert_eq!(proposal.instruction.features["broken"], json!(2));
    story.restart(tries());
    story.until(70);
    assert_eq!(story.machine.view(story.now()).proposals, [proposal]);
    story.decide(true);
    story.mode("cart", "critical");
    // It recovers as if it had been done by itself.
    story.resolves("Broken", "cart");
    story.until(200);
    story.mode("cart", "normal");
    // The next time it is asked anew.
    story.until(300);
    assert_eq!(story.fires("Broken", "cart"), []);
    assert_eq!(story.proposed(), ["cart degraded DryRun"]);
}

#[test]
fn a_policy_that_was_refused_leaves_the_service_alone_until_its_alerts_are_over() {
    let mut story = Story::new(tries(), &["cart"]);
    story.fires("Slow", "cart");
    assert_eq!(story.decide(false), [""; 0]);
    assert_eq!(story.proposed(), [""; 0]);
    story.until(300);
    story.restart(tries());
    story.fires("Slow", "cart");
    story.until(600);
    assert_eq!(story.proposed(), [""; 0]);
    // Another policy may still ask.
    story.fires("Broken", "cart");
    assert_eq!(story.proposed(), ["cart degraded DryRun"]);
    story.resolves("Broken", "cart");
    story.resolves("Slow", "cart");
    story.fires("Slow", "cart");
    assert_eq!(story.proposed(), ["cart degraded DryRun"]);
    let gone = story.machine.decide(story.now(), "0", true, "alice", "");
    assert!(matches!(gone, Err(Error::NotFound(_))));
}

#[test]
fn beyond_the_limit_a_person_may_say_yes() {
    let limited = Settings {
        limit: 0.0,
        ..settings()
    };
    let mut story = Story::new(limited, &["cart"]);
    story.fires("Broken", "cart");
    story.decide(true);
    story.mode("cart", "degraded");
    // It is away already: farther it may go by itself, after the hold.
    story.until(29);
    story.mode("cart", "degraded");
    story.until(30);
    story.mode("cart", "critical");
    story.resolves("Broken", "cart");
    story.until(300);
    story.mode("cart", "normal");
}

#[test]
fn during_a_freeze_new_wants_are_proposed_and_people_may_say_yes() {
    let mut story = Story::new(settings(), &["cart", "pay"]);
    story.freeze(true);
    story.fires("Slow", "cart");
    story.fires("Slow", "pay");
    assert_eq!(
        story.proposed(),
        ["cart degraded Frozen", "pay degraded Frozen"]
    );
    story.decide(true);
    story.mode("cart", "degraded");
    story.mode("pay", "normal");
    story.resolves("Slow", "cart");
    assert_eq!(story.until(500), []);
    story.mode("cart", "degraded");
    story.notes();
    story.freeze(false);
    story.mode("cart", "normal");
    story.mode("pay", "degraded");
    assert_eq!(story.notes(), ["withdrawn pay: automation has done it"]);
}

#[test]
fn an_override_withdraws_what_was_proposed() {
    let mut story = Story::new(tries(), &["cart"]);
    story.fires("Slow", "cart");
    story.overrides("cart", "normal", Some(100)).unwrap();
    assert_eq!(story.proposed(), [""; 0]);
    assert_eq!(
        story.notes(),
        ["made cart", "withdrawn cart: a person has set the mode"]
    );
    story.until(100);
    assert_eq!(story.proposed(), ["cart degraded DryRun"]);
}

#[test]
fn the_end_of_an_override_and_the_next_step_are_two_changes() {
    for by_hand in [false, true] {
        let mut story = Story::new(settings(), &["cart"]);
        story.fires("Broken", "cart");
        story.mode("cart", "degraded");
        let until = (!by_hand).then_some(1_000);
        story.overrides("cart", "normal", until).unwrap();
        story.until(999);
        story.mode("cart", "normal");
        let ended = match by_hand {
            true => {
                story.second = 1_000;
                let removed = story.machine.remove_override(story.now(), "cart", "bob");
                removed.unwrap()
            }
            false => story.until(1_000),
        };
        assert_eq!(ended.len(), 1);
        story.mode("cart", "degraded");
        story.restart(settings());
        // Until second 1040 it is blind: that does not count.
        story.until(1_069);
        story.mode("cart", "degraded");
        story.until(1_070);
        story.mode("cart", "critical");
    }
    // Who goes straight to a level does so here, too.
    let mut straight = settings();
    straight.policies = straight.policies.into_iter().map(direct).collect();
    let mut story = Story::new(straight, &["cart"]);
    story.overrides("cart", "normal", Some(1_000)).unwrap();
    story.fires("Broken", "cart");
    story.until(1_000);
    story.mode("cart", "critical");
}

#[test]
fn a_group_has_a_limit_of_its_own() {
    let edge = Group {
        name: "edge".into(),
        members: Members::parse(["gateway", "web-.*"]).unwrap(),
        limit: Allowance::Count(1),
    };
    let grouped = Settings {
        groups: vec![edge],
        ..settings()
    };
    let mut story = Story::new(grouped, &["cart", "gateway", "web-1"]);
    story.fires("Slow", "gateway");
    assert_eq!(story.fires("Broken", "web-1"), []);
    assert_eq!(
        story.proposed(),
        [r#"web-1 degraded GroupLimit { group: "edge" }"#]
    );
    assert_eq!(story.fires("Slow", "cart").len(), 1);
    story.resolves("Slow", "gateway");
    story.until(120);
    story.mode("gateway", "normal");
    story.mode("web-1", "degraded");
}

fn targeting(target: Target) -> Settings {
    let one = policy("all", r#"{alertname="Slow"}"#, "x", 1, 60, 120);
    let edge = Group {
        name: "edge".into(),
        members: Members::parse(["web-.*"]).unwrap(),
        limit: Allowance::Share(1.0),
    };
    Settings {
        limit: 1.0,
        groups: vec![edge],
        policies: vec![Policy { target, ..one }],
        ..Settings::default()
    }
}

#[test]
fn a_policy_may_tell_a_group_as_it_is_known() {
    let group = targeting(Target::Group("edge".into()));
    let mut story = Story::new(group, &["cart", "web-1", "web-2"]);
    assert_eq!(story.fires("Slow", "cart").len(), 2);
    story.mode("cart", "normal");
    story.services.push("web-3".into());
    story.until(10);
    story.mode("web-3", "degraded");
    story.services.retain(|name| name != "web-1");
    story.until(20);
    story.mode("web-1", "degraded");
    story.resolves("Slow", "cart");
    story.until(200);
    for service in ["web-2", "web-3"] {
        story.mode(service, "normal");
    }
    assert_eq!(story.machine.state(story.now(), "web-1"), None);
}

#[test]
fn a_policy_may_tell_the_callers_and_keeps_those_that_stop_calling() {
    let template = ServiceTemplate::parse("{{ service }}").unwrap();
    let callers = targeting(Target::CallersOf(template));
    let mut story = Story::new(callers, &["web", "cart", "db", "batch"]);
    story.calls = vec![("web", "db"), ("web", "cart"), ("db", "db")];
    story.until(10);
    assert_eq!(story.fires("Slow", "db").len(), 1);
    story.calls = vec![("cart", "db")];
    story.until(20);
    story.mode("web", "degraded");
    story.mode("cart", "degraded");
    story.mode("db", "normal");
    story.mode("batch", "normal");
    story.resolves("Slow", "db");
    story.until(140);
    story.mode("web", "normal");
    story.mode("cart", "normal");
    assert_eq!(story.machine.next_deadline(), None);
}

#[test]
fn levels_say_what_they_mean_also_by_hand() {
    let meaning = |shed| Instruction {
        shed,
        ..Instruction::default()
    };
    let meant = Settings {
        instructions: vec![Instruction::default(), meaning(0.1), meaning(0.5)],
        ..settings()
    };
    let mut story = Story::new(meant.clone(), &["cart"]);
    let shed = |story: &Story| {
        let state = story.machine.state(story.now(), "cart");
        state.unwrap().instruction.shed
    };
    story.fires("Broken", "cart");
    assert_eq!(shed(&story), 0.1, "on the way to critical");
    story.overrides("cart", "critical", None).unwrap();
    assert_eq!(shed(&story), 0.5);
    // A level that means something else now is told anew.
    let other = Settings {
        instructions: vec![Instruction::default(), meaning(0.1), meaning(0.7)],
        ..meant
    };
    story.restart(other);
    let told = story.until(1);
    assert_eq!(told.len(), 1);
    assert_eq!(shed(&story), 0.7);
}

#[test]
fn what_an_earlier_version_saved_goes_on() {
    let cart = r#"{"told":{"service":"cart","mode":"degraded","level":1,
        "since":"1970-01-01T00:00:10Z","why":[{"policy":"slow","fingerprint":"0000000000000007",
        "alertname":"Slow","explanation":"cart is Slow"}],"features":{"slow":1},"override":null,
        "lease_expires_at":"1970-01-01T00:00:40Z","sequence":7},
        "auto":{"rank":1,"name":"degraded"},"manual":null,"claims":[],
        "held":[{"policy":"slow","position":0,"level":1,"hold":{"secs":60,"nanos":0},
        "recover":{"secs":120,"nanos":0},"features":{"slow":1,"shared":"slow"}}],
        "reasons":[{"policy":"slow","fingerprint":"0000000000000007","alertname":"Slow",
        "explanation":"cart is Slow"}],"hold_from":"1970-01-01T00:00:10Z",
        "below_since":"1970-01-01T00:00:20Z"}"#;
    let saved = [
        ("service/cart".to_owned(), cart.into()),
        ("clock".into(), br#""1970-01-01T00:01:40Z""#.to_vec()),
    ];
    let (machine, warnings) = Machine::restore(saved, settings());
    assert_eq!(warnings, [""; 0]);
    let mut story = Story::new(settings(), &["cart"]);
    story.machine = machine;
    story.second = 110;
    let state = story.machine.state(story.now(), "cart").unwrap();
    assert_eq!((state.level, state.sequence), (Level(1), 7));
    // 80 s of the recovery had passed; it sees again from second 150 on.
    story.until(189);
    story.mode("cart", "degraded");
    story.until(190);
    story.mode("cart", "normal");
}

#[test]
fn a_direct_step_goes_as_far_as_direct_policies_ask() {
    let mut mixed = settings();
    mixed.policies[1].level = Level(2);
    mixed.policies[0] = direct(mixed.policies[0].clone());
    mixed.policies[1].hold = secs(0);
    let mut story = Story::new(mixed, &["cart"]);
    story.fires("Broken", "cart");
    // Without a hold nothing keeps the second step from following the first.
    story.mode("cart", "critical");
    assert_eq!(story.now(), Timestamp::from_secs(0));
}
