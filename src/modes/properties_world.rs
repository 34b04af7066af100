//! The world that random histories happen in: services, alerts, a clock, people, and what all of them have
//! seen so far.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use super::fixtures::{alert, direct, policy, secs, transition};
use super::{
    Allowance, EffectSettings, Freeze, Group, MAX_STEP, Machine, Members, Otherwise, Parts,
    PlanStepSettings, Policy, ServiceTemplate, Settings, Target, Tick,
};
use crate::model::{
    Acknowledgement, Alert, AlertState, EventBody, Level, ModeChange, ModeState, Override,
    Timestamp, Transition,
};

pub(super) const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
pub(super) const ALERTS: [&str; 6] = ["Slow", "Broken", "Odd", "Called", "Tried", "Planned"];
pub(super) const GATEWAY: &str = "gateway";
const CALLS: [(&str, &str); 3] = [("a", "b"), ("c", "b"), ("b", "a")];
const FIRST: i64 = 1_000_000;
const TICK: u64 = 10;

/// `Slow` degrades its service and `Broken` makes it critical, one step at a time; `Odd` makes it critical
/// at once. `Slow` and `Odd` degrade the gateway. `Called` degrades the callers, `Tried` only proposes,
/// and `Planned` degrades first the gateway, then the service itself.
pub(super) static SETTINGS: LazyLock<Settings> = LazyLock::new(|| {
    let own = "{{ service }}";
    let effect = |within, otherwise| EffectSettings {
        within: secs(within),
        otherwise,
        ..EffectSettings::default()
    };
    let step = |service: &str| PlanStepSettings {
        target: Target::Service(ServiceTemplate::parse(service).unwrap()),
        level: Level(1),
        instruction: Parts::default(),
    };
    let callers = ServiceTemplate::parse(own).unwrap();
    Settings {
        limit: 0.5,
        groups: vec![
            Group {
                name: "edge".into(),
                members: Members::parse(["a|b", "c"]).unwrap(),
                limit: Allowance::Count(1),
            },
            Group {
                name: "rim".into(),
                members: Members::parse(["[d-h]"]).unwrap(),
                limit: Allowance::Share(0.4),
            },
        ],
        silence: secs(300),
        policies: vec![
            Policy {
                effect: effect(60, Otherwise::Undo),
                ..policy("slow", r#"{alertname="Slow"}"#, own, 1, 20, 90)
            },
            Policy {
                effect: effect(100, Otherwise::Escalate),
                ..policy("broken", r#"{alertname="Broken"}"#, own, 2, 80, 70)
            },
            direct(Policy {
                effect: effect(200, Otherwise::Stay),
                ..policy("odd", r#"{alertname="Odd"}"#, own, 2, 40, 30)
            }),
            Policy {
                effect: effect(30, Otherwise::Escalate),
                ..policy("edge", r#"{alertname=~"Slow|Odd"}"#, GATEWAY, 1, 5, 0)
            },
            Policy {
                target: Target::CallersOf(callers),
                ..policy("called", r#"{alertname="Called"}"#, own, 1, 30, 30)
            },
            Policy {
                dry_run: true,
                ..policy("tried", r#"{alertname="Tried"}"#, own, 2, 30, 30)
            },
            Policy {
                steps: vec![step(GATEWAY), step(own)],
                ..policy("planned", r#"{alertname="Planned"}"#, own, 1, 10, 20)
            },
        ],
        ..Settings::default()
    }
});

/// An alert as the world knows it.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) alert: Alert,
    /// How far its signal is from what is expected, beside how far it was at first.
    pub(super) distance: f64,
    /// Whether samples of it come.
    pub(super) is_heard: bool,
    /// Whether the machine has heard of how it is.
    pub(super) is_told: bool,
    /// Since when nobody knows how it is.
    pub(super) silent_at: Option<Duration>,
}

impl Known {
    /// Whether it may count at the time `watched`: it fires, or nobody has known of it for long.
    pub(super) fn counts(&self, watched: Duration) -> bool {
        let silent = |at: Duration| watched - at < SETTINGS.silence;
        let fires = self.alert.state == AlertState::Firing && self.is_told;
        fires || self.silent_at.is_some_and(silent)
    }
}

pub(super) struct World {
    pub(super) machine: Machine,
    pub(super) now: Timestamp,
    /// Time as far as somebody may have watched.
    pub(super) watched: Duration,
    /// Ticks with data since the last start or jump of the clock.
    pub(super) fed_ticks: u32,
    pub(super) alerts: BTreeMap<(usize, usize), Known>,
    /// Services that telemetry names, beside the gateway.
    pub(super) heard: BTreeSet<&'static str>,
    /// Services that have reported since the last start.
    pub(super) reported: BTreeSet<String>,
    /// On which level automation had services after the last input, and whether they counted among those that
    /// are heard.
    pub(super) counted: BTreeMap<String, (Level, bool)>,
    /// When people gave a service back that automation has not moved since.
    pub(super) released: BTreeMap<String, Duration>,
    /// Who was seen to call whom, in the last tick.
    pub(super) calls: Vec<(&'static str, &'static str)>,
    /// Callers that an alert has been seen to have: the alert's service, and the caller.
    called: BTreeSet<(usize, &'static str)>,
    pub(super) told: BTreeMap<String, ModeState>,
    pub(super) overrides: BTreeMap<String, Override>,
    pub(super) frozen: bool,
    /// When automation last moved a service, and for how long that holds.
    pub(super) moved: BTreeMap<String, (Duration, Duration)>,
    /// When a level was last asked for.
    pub(super) asked: BTreeMap<(String, Level), Duration>,
    /// Services where a policy is not heard for now: it was refused, or what it did was undone.
    pub(super) set_aside: BTreeSet<String>,
    /// Proposals that stand, by what was told of them.
    pub(super) proposed: BTreeSet<String>,
    /// A person has let a plan go beyond the limits.
    pub(super) plans_approved: bool,
    /// The service of the proposal that a person has said yes to in this input.
    pub(super) approved: Option<String>,
    pub(super) sequence: u64,
    /// What was saved after each input; in some histories only, because it takes most of the time.
    pub(super) store: Option<BTreeMap<String, Vec<u8>>>,
}

impl World {
    pub(super) fn new(saving: bool) -> Self {
        let mut world = Self {
            machine: Machine::new(SETTINGS.clone()),
            now: Timestamp::from_secs(FIRST),
            watched: Duration::ZERO,
            fed_ticks: 0,
            alerts: BTreeMap::new(),
            heard: NAMES.into_iter().take(6).collect(),
            reported: BTreeSet::new(),
            counted: BTreeMap::new(),
            released: BTreeMap::new(),
            calls: Vec::new(),
            called: BTreeSet::new(),
            told: BTreeMap::new(),
            overrides: BTreeMap::new(),
            frozen: false,
            moved: BTreeMap::new(),
            asked: BTreeMap::new(),
            set_aside: BTreeSet::new(),
            proposed: BTreeSet::new(),
            plans_approved: false,
            approved: None,
            sequence: 0,
            store: saving.then(BTreeMap::new),
        };
        // What follows is mostly about what a machine does that sees.
        for _ in 0..4 {
            world.ticks(1, true);
        }
        world
    }

    /// What policies ask of a service that are heard without a person's word, by alerts that fire or of
    /// which nobody knows.
    pub(super) fn asked_level(&self, service: &str) -> Level {
        let going_on = self.alerts.iter();
        let going_on = going_on.filter(|(_, known)| known.counts(self.watched));
        let level = |(&(kind, of), _): (&(usize, usize), &Known)| {
            let (name, own) = (ALERTS[kind], NAMES[of]);
            let is_caller = |(at, caller): &(usize, &str)| *at == of && *caller == service;
            match name {
                "Slow" if service == GATEWAY || service == own => 1,
                "Odd" if service == GATEWAY => 1,
                "Broken" | "Odd" if service == own => 2,
                "Called" if self.called.iter().any(is_caller) => 1,
                _ => 0,
            }
        };
        Level(going_on.map(level).max().unwrap_or_default())
    }

    /// Whether an alert asks a service for anything by more than a proposal.
    pub(super) fn is_asked(&self, service: &str) -> bool {
        let mut going_on = self.alerts.iter();
        going_on.any(|(&(kind, of), known)| {
            let called = |(at, caller): &(usize, &str)| *at == of && *caller == service;
            let names = NAMES[of] == service || self.called.iter().any(called);
            names && ALERTS[kind] != "Tried" && known.counts(self.watched)
        })
    }

    /// Marks what is asked for until this moment.
    pub(super) fn note_asked(&mut self) {
        let called = ALERTS.iter().position(|name| *name == "Called");
        let called = called.expect("there is one");
        for (of, own) in NAMES.into_iter().enumerate() {
            match self.alerts.get(&(called, of)) {
                Some(known) if known.alert.state == AlertState::Firing && known.is_told => {
                    let callers = self.calls.iter().filter(|(_, callee)| *callee == own);
                    self.called.extend(callers.map(|(caller, _)| (of, *caller)));
                }
                Some(known) if known.counts(self.watched) => {}
                Some(_) | None => self.called.retain(|(at, _)| *at != of),
            }
        }
        for service in NAMES.into_iter().chain([GATEWAY]) {
            let asked = self.asked_level(service);
            for level in 1..=asked.0 {
                let key = (service.to_owned(), Level(level));
                self.asked.insert(key, self.watched);
            }
        }
    }

    pub(super) fn pass(&mut self, now: Timestamp) {
        let ahead = now.since(self.now);
        if ahead > MAX_STEP || self.now.since(now) > secs(1) {
            self.fed_ticks = 0;
        } else {
            self.watched += ahead;
        }
        self.now = now;
        self.note_asked();
        let over = |at: Timestamp| at <= now;
        self.overrides
            .retain(|_, manual| !manual.expires_at.is_some_and(over));
    }

    /// Lets ticks pass, each with data or not.
    pub(super) fn ticks(&mut self, count: u8, fed: bool) {
        for _ in 0..count {
            self.pass(self.now.plus(secs(TICK)));
            self.tick(fed);
        }
    }

    fn tick(&mut self, fed: bool) {
        self.fed_ticks += u32::from(fed);
        let now = self.now;
        for known in self.alerts.values_mut() {
            known.is_told = true;
            let alert = &mut known.alert;
            if fed && known.is_heard && alert.state == AlertState::Firing {
                alert.updated_at = now;
                alert.anomalous_samples += 1;
                alert.observed = alert.expected + known.distance;
            }
        }
        let alerts: Vec<_> = self
            .alerts
            .values()
            .map(|k| Arc::new(k.alert.clone()))
            .collect();
        self.calls = match self.watched.as_secs() % 3 {
            // Who is degraded may well stop calling.
            0 => Vec::new(),
            _ => CALLS.to_vec(),
        };
        self.note_asked();
        let calls = self.calls.clone();
        let services = self.named();
        let tick = Tick {
            services: &services,
            calls: &calls,
            alerts: &alerts,
            fed,
        };
        self.input(|machine, now| machine.tick(now, &tick));
        for (name, service) in &self.machine.services {
            if services.contains(&name.as_str()) {
                assert!(service.heard, "{name} is named");
            } else if !self.reported.contains(name) {
                assert!(!service.heard, "only alerts tell of {name}");
            }
        }
    }

    /// Whom telemetry names.
    pub(super) fn named(&self) -> Vec<&'static str> {
        self.heard.iter().copied().chain([GATEWAY]).collect()
    }

    /// An alert fires or ends; the message may be lost.
    pub(super) fn set_alert(&mut self, kind: usize, of: usize, what: AlertState, lost: bool) {
        let fresh = alert(ALERTS[kind], NAMES[of], what);
        let known = self.alerts.entry((kind, of)).or_insert_with(|| Known {
            alert: fresh,
            distance: 1.0,
            is_heard: true,
            is_told: false,
            silent_at: None,
        });
        known.alert.state = what;
        known.alert.grounds.silent = false;
        known.is_told = !lost;
        known.silent_at = None;
        known.distance = 1.0;
        known.alert.observed = known.alert.expected + 1.0;
        known.alert.updated_at = self.now;
        known.is_heard = true;
        self.tell_alert(kind, of, lost);
    }

    /// Nothing more is heard of an alert.
    pub(super) fn silence(&mut self, kind: usize, of: usize, lost: bool) {
        let known = self.alerts.get_mut(&(kind, of));
        let Some(known) = known.filter(|k| k.alert.state == AlertState::Firing) else {
            return;
        };
        known.alert.state = AlertState::Resolved;
        known.alert.grounds.silent = true;
        // Of one that was never heard of there is nothing to miss.
        known.silent_at = known.is_told.then_some(self.watched);
        self.tell_alert(kind, of, lost);
    }

    fn tell_alert(&mut self, kind: usize, of: usize, lost: bool) {
        self.note_asked();
        if let Some(known) = self.alerts.get(&(kind, of)).filter(|_| !lost) {
            let told: Transition = transition(known.alert.clone(), self.now);
            self.input(|machine, now| machine.on_transitions(now, &[told]));
        }
    }

    /// An instance says in which mode it runs: the one it was told, or not.
    pub(super) fn acknowledge(&mut self, service: &str, number: u8) {
        let Some(told) = self.told.get(service).cloned() else {
            return;
        };
        self.reported.insert(service.into());
        let mode = if number < 200 {
            told.mode
        } else {
            "critical".into()
        };
        let said = Acknowledgement {
            instance: if number.is_multiple_of(4) { "2" } else { "1" }.into(),
            mode,
            sequence: told.sequence.saturating_sub(u64::from(number % 16 == 1)),
            detail: String::new(),
        };
        self.input(|machine, now| {
            let said = machine.acknowledge(now, service, said);
            said.expect("the service is known, and so is the mode")
        });
    }

    /// A person says yes or no to a proposal.
    pub(super) fn decide(&mut self, which: u8, approve: bool) {
        let proposals = self.machine.view(self.now).proposals;
        let Some(proposal) = proposals.get(usize::from(which) % proposals.len().max(1)) else {
            return;
        };
        if approve {
            self.approved = Some(proposal.service.clone());
            self.plans_approved |= proposal.policy.starts_with("planned");
        } else {
            self.set_aside.insert(proposal.service.clone());
        }
        self.input(|machine, now| {
            let decided = machine.decide(now, &proposal.id, approve, "alice", "because");
            decided.expect("it stands")
        });
        self.approved = None;
    }

    pub(super) fn set_override(&mut self, name: &str, number: u8) {
        if !self.machine.services.contains_key(name) {
            return;
        }
        let level = ["normal", "degraded", "critical"][usize::from(number) % 3];
        let manual = Override {
            mode: level.into(),
            author: "alice".into(),
            reason: "because".into(),
            set_at: self.now,
            expires_at: (number > 99).then(|| self.now.plus(secs(u64::from(number)))),
        };
        self.overrides.insert(name.into(), manual.clone());
        self.input(|machine, now| {
            let set = machine.set_override(now, name, manual);
            set.expect("the service is known and the override is fine")
        });
    }

    pub(super) fn remove_override(&mut self, name: &str) {
        let had = self.overrides.remove(name).is_some();
        self.input(|machine, now| {
            let removed = machine.remove_override(now, name, "bob");
            assert_eq!(removed.is_ok(), had);
            removed.unwrap_or_default()
        });
    }

    pub(super) fn freeze(&mut self, frozen: bool) {
        let freeze = frozen.then(|| Freeze {
            author: "alice".into(),
            reason: "storm".into(),
            set_at: self.now,
        });
        let was_frozen = std::mem::replace(&mut self.frozen, frozen);
        self.input_as(was_frozen && frozen, |machine, now| {
            machine.freeze(now, freeze)
        });
    }

    pub(super) fn input(&mut self, input: impl FnOnce(&mut Machine, Timestamp) -> Vec<ModeChange>) {
        self.input_as(self.frozen, input);
    }

    /// Gives the machine an input, numbers what happened as the daemon does, and checks all laws.
    fn input_as(
        &mut self,
        frozen: bool,
        input: impl FnOnce(&mut Machine, Timestamp) -> Vec<ModeChange>,
    ) {
        let was_blind = self.machine.view(self.now).blind.is_some();
        let mut changes = input(&mut self.machine, self.now);
        let notes = self.machine.take_notes();
        self.sequence += notes.len() as u64;
        for change in &mut changes {
            self.sequence += 1;
            change.state.sequence = self.sequence;
            self.machine.number(&change.state.service, self.sequence);
        }
        self.check_notes(&notes);
        self.check(&changes, frozen, was_blind);
        let Some(store) = &mut self.store else {
            return;
        };
        for (key, value) in self.machine.changes() {
            match value {
                Some(value) => store.insert(key, value),
                None => store.remove(&key),
            };
        }
    }

    fn check_notes(&mut self, notes: &[EventBody]) {
        for note in notes {
            match note {
                EventBody::Proposal {
                    action, proposal, ..
                } => self.check_proposal(*action, proposal),
                EventBody::Plan { plan } => Self::check_plan(plan),
                _ => {}
            }
        }
    }
}
