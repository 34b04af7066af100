//! Scenarios of plans: several services in order, as one.

use super::fixtures::{Story, direct, policy, secs};
use super::{Parts, PlanStepSettings, Policy, ServiceTemplate, Settings, Target};
use crate::model::{
    Acknowledgement, EventBody, Level, ModeChange, PlanState, ProposalAction, Restraint, StepState,
};

const SERVICES: [&str; 6] = ["gateway", "cart", "pay", "stock", "mail", "search"];

/// First the gateway, then the service itself.
fn plan() -> Policy {
    let step = |service: &str| PlanStepSettings {
        target: Target::Service(ServiceTemplate::parse(service).unwrap()),
        level: Level(1),
        instruction: Parts::default(),
    };
    Policy {
        steps: vec![step("gateway"), step("{{ service }}")],
        acknowledge_within: secs(30),
        ..policy("edge", r#"{alertname="Slow"}"#, "{{ service }}", 1, 60, 60)
    }
}

/// A story whose changes are numbered, and whose services can answer.
struct Told {
    story: Story,
    sequence: u64,
    changes: Vec<String>,
}

impl Told {
    fn new(limit: f64, policies: Vec<Policy>) -> Self {
        let settings = Settings {
            limit,
            policies,
            ..Settings::default()
        };
        Self {
            story: Story::new(settings, &SERVICES),
            sequence: 0,
            changes: Vec::new(),
        }
    }

    fn number(&mut self, changes: Vec<ModeChange>) {
        for change in changes {
            self.sequence += 1;
            let service = change.state.service;
            self.story.machine.number(&service, self.sequence);
            if change.from != change.state.mode {
                self.changes
                    .push(format!("{service} {}", change.state.mode));
            }
        }
    }

    fn fires(&mut self, name: &str, service: &str) {
        let changes = self.story.fires(name, service);
        self.number(changes);
    }

    fn resolves(&mut self, name: &str, service: &str) {
        let changes = self.story.resolves(name, service);
        self.number(changes);
    }

    fn until(&mut self, second: i64) {
        while self.story.second < second {
            let next = second.min(self.story.second + 1);
            let changes = self.story.until(next);
            self.number(changes);
        }
    }

    /// The service says that it runs in `mode`, by the newest instruction.
    fn says(&mut self, service: &str, mode: &str) {
        let now = self.story.now();
        let told = self.story.machine.state(now, service).expect("it is known");
        let said = Acknowledgement {
            instance: "1".into(),
            mode: mode.into(),
            sequence: told.sequence,
            detail: "not now".into(),
        };
        let changes = self.story.machine.acknowledge(now, service, said);
        self.number(changes.expect("it is fine"));
    }

    fn acknowledges(&mut self, service: &str) {
        let now = self.story.now();
        let told = self.story.machine.state(now, service).expect("it is known");
        self.says(service, &told.mode);
    }

    /// State, steps and outcome of the newest plan.
    #[track_caller]
    fn plan(&self) -> (PlanState, Vec<StepState>, String) {
        let view = self.story.machine.view(self.story.now());
        let plan = view.plans.first().expect("there is one");
        let steps = plan.steps.iter().map(|step| step.state).collect();
        (plan.state, steps, plan.outcome.clone())
    }

    #[track_caller]
    fn check(&self, changes: &[&str], state: PlanState) {
        assert_eq!(self.changes, changes);
        assert_eq!(self.plan().0, state, "{:?}", self.plan());
    }
}

#[test]
fn a_step_is_told_when_the_one_before_has_answered() {
    let mut told = Told::new(0.5, vec![plan()]);
    told.fires("Slow", "cart");
    told.until(20);
    told.check(&["gateway degraded"], PlanState::Running);
    told.acknowledges("gateway");
    told.check(&["gateway degraded", "cart degraded"], PlanState::Running);
    // What others say does not matter, nor what was said of an earlier instruction.
    told.acknowledges("gateway");
    told.acknowledges("pay");
    told.check(&["gateway degraded", "cart degraded"], PlanState::Running);
    told.acknowledges("cart");
    assert_eq!(told.plan().0, PlanState::Standing);
    // Its episode and its plan end in reverse order, each with its own recovery.
    told.resolves("Slow", "cart");
    told.until(79);
    assert_eq!(told.plan().0, PlanState::Recovering);
    told.until(81);
    assert_eq!(told.changes[2..], ["cart normal"]);
    told.until(139);
    assert_eq!(told.changes[2..], ["cart normal"]);
    told.until(141);
    assert_eq!(told.changes[2..], ["cart normal", "gateway normal"]);
    // The plan notices with the next tick.
    told.until(150);
    assert_eq!(told.plan().0, PlanState::Done);
    assert_eq!(told.story.machine.next_deadline(), None);
}

#[test]
fn who_refuses_a_step_has_the_plan_undone() {
    let mut told = Told::new(0.5, vec![plan()]);
    told.fires("Slow", "cart");
    told.acknowledges("gateway");
    told.says("cart", "normal");
    // At once, and the gateway when the cart has answered to its undo.
    told.check(
        &["gateway degraded", "cart degraded", "cart normal"],
        PlanState::Undoing,
    );
    told.acknowledges("cart");
    assert_eq!(told.changes[3..], ["gateway normal"]);
    told.acknowledges("gateway");
    let (state, steps, outcome) = told.plan();
    assert_eq!(
        (state, &steps[..]),
        (PlanState::Undone, &[StepState::Undone; 2][..])
    );
    let expected = "undone: step 2, `cart`: instance `1` runs in `normal` all the same: not now";
    assert_eq!(outcome, expected);
    // It is not tried again before its alerts are over.
    told.until(600);
    assert_eq!(told.changes.len(), 4);
    told.resolves("Slow", "cart");
    told.fires("Slow", "cart");
    assert_eq!(told.changes[4..], ["gateway degraded"]);
}

#[test]
fn an_override_on_a_step_has_the_plan_undone() {
    let mut told = Told::new(0.5, vec![plan()]);
    told.fires("Slow", "cart");
    told.acknowledges("gateway");
    let set = told.story.overrides("cart", "normal", None);
    told.number(set.expect("it is known"));
    told.until(20);
    let changes = [
        "gateway degraded",
        "cart degraded",
        "cart normal",
        "gateway normal",
    ];
    told.check(&changes, PlanState::Undoing);
    told.until(90);
    assert_eq!(told.plan().0, PlanState::Undone);
    assert!(
        told.plan().2.contains("a person has set the mode"),
        "{:?}",
        told.plan()
    );
}

#[test]
fn a_plan_without_room_is_proposed_by_its_first_step_and_a_yes_is_for_all_of_it() {
    // One of six.
    let mut told = Told::new(0.2, vec![plan()]);
    told.fires("Slow", "cart");
    told.until(60);
    assert_eq!(told.changes, Vec::<String>::new());
    let view = told.story.machine.view(told.story.now());
    let [proposal] = &view.proposals[..] else {
        panic!("{:#?}", view.proposals);
    };
    assert_eq!(
        (proposal.service.as_str(), &proposal.restraint),
        ("gateway", &Restraint::Limit)
    );
    let now = told.story.now();
    let decided = told
        .story
        .machine
        .decide(now, &proposal.id, true, "alice", "do it");
    told.number(decided.expect("it stands"));
    told.acknowledges("gateway");
    told.acknowledges("cart");
    told.check(&["gateway degraded", "cart degraded"], PlanState::Standing);
    let notes = told.story.machine.take_notes();
    let approved = |note: &EventBody| {
        matches!(
            note,
            EventBody::Proposal {
                action: ProposalAction::Approved,
                ..
            }
        )
    };
    assert_eq!(notes.iter().filter(|note| approved(note)).count(), 1);
    assert!(told.story.machine.view(now).proposals.is_empty());
}

#[test]
fn a_plan_that_only_tries_proposes_its_first_step() {
    let dry = Policy {
        dry_run: true,
        ..plan()
    };
    let mut told = Told::new(1.0, vec![dry]);
    told.fires("Slow", "cart");
    told.until(60);
    assert_eq!(told.changes, Vec::<String>::new());
    let view = told.story.machine.view(told.story.now());
    let [proposal] = &view.proposals[..] else {
        panic!("{:#?}", view.proposals);
    };
    assert_eq!(proposal.restraint, Restraint::DryRun);
    // A no holds until its alerts are over.
    let now = told.story.now();
    let decided = told
        .story
        .machine
        .decide(now, &proposal.id, false, "alice", "no");
    told.number(decided.expect("it stands"));
    told.until(300);
    assert!(
        told.story
            .machine
            .view(told.story.now())
            .proposals
            .is_empty()
    );
    assert!(told.story.machine.view(told.story.now()).plans.is_empty());
}

#[test]
fn a_plan_stands_still_while_frozen_and_over_a_restart() {
    let mut told = Told::new(0.5, vec![plan()]);
    told.fires("Slow", "cart");
    told.until(20);
    let frozen = told.story.freeze(true);
    told.number(frozen);
    told.until(200);
    told.check(&["gateway degraded"], PlanState::Running);
    let thawed = told.story.freeze(false);
    told.number(thawed);
    told.until(205);
    assert_eq!(told.plan().0, PlanState::Running);
    // Ten of its thirty seconds are left to it, of which some have passed.
    let settings = told.story.machine.settings.clone();
    let entries = told.story.machine.entries();
    let plain = Settings {
        policies: vec![plan()],
        ..settings
    };
    let (restored, warnings) = super::Machine::restore(entries.clone(), plain);
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(restored.entries(), entries);
    told.story.machine = restored;
    told.until(215);
    assert_eq!(told.plan().0, PlanState::Running, "it does not see yet");
    told.until(300);
    told.check(&["gateway degraded", "gateway normal"], PlanState::Undone);
}

#[test]
fn what_two_plans_have_changed_is_undone_by_neither_alone() {
    let mut told = Told::new(1.0, vec![plan()]);
    told.fires("Slow", "cart");
    told.acknowledges("gateway");
    told.acknowledges("cart");
    told.until(10);
    told.fires("Slow", "pay");
    // It is told one reason more, and hears that first.
    told.acknowledges("gateway");
    assert_eq!(
        told.changes,
        ["gateway degraded", "cart degraded", "pay degraded"]
    );
    // Nobody answers for the second one.
    told.until(120);
    assert_eq!(told.changes[3..], ["pay normal"]);
    let plans = told.story.machine.view(told.story.now()).plans;
    let states: Vec<_> = plans.iter().map(|plan| plan.state).collect();
    assert_eq!(states, [PlanState::Standing, PlanState::Undone]);
}

#[test]
fn another_policy_keeps_what_a_plan_gives_back() {
    let other = direct(policy(
        "broken",
        r#"{alertname="Broken"}"#,
        "gateway",
        2,
        0,
        30,
    ));
    let mut told = Told::new(1.0, vec![plan(), other]);
    told.fires("Slow", "cart");
    told.acknowledges("gateway");
    told.acknowledges("cart");
    told.until(100);
    told.fires("Broken", "gateway");
    assert_eq!(told.changes[2..], ["gateway critical"]);
    told.resolves("Slow", "cart");
    told.until(300);
    // The plan is over; the gateway is where the other policy wants it.
    told.check(
        &[
            "gateway degraded",
            "cart degraded",
            "gateway critical",
            "cart normal",
        ],
        PlanState::Done,
    );
    told.resolves("Broken", "gateway");
    told.until(600);
    assert_eq!(told.changes[4..], ["gateway degraded", "gateway normal"]);
}
