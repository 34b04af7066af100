//! Random histories of alerts, silence, acknowledgements, lost messages, people, restarts and jumps of the
//! clock, against a model of what must always hold.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::Machine;
use super::fixtures::secs;
use super::properties_world::{ALERTS, GATEWAY, NAMES, SETTINGS, World};
use crate::model::{
    AlertState, Level, ModeChange, ModeState, ModeStep, PlanRun, PlanState, Proposal,
    ProposalAction, StepState, Timestamp,
};

/// How many histories are played; some 100,000 say more, and take minutes.
const HISTORIES: &str = "TIDEWATCH_MODE_HISTORIES";

fn text(entries: impl IntoIterator<Item = (String, Vec<u8>)>) -> BTreeMap<String, String> {
    let text = |value| String::from_utf8(value).expect("JSON");
    let entries = entries.into_iter();
    entries.map(|(key, value)| (key, text(value))).collect()
}

#[track_caller]
fn assert_same(one: &BTreeMap<String, String>, other: &BTreeMap<String, String>) {
    for key in one.keys().chain(other.keys()) {
        assert_eq!(one.get(key), other.get(key), "{key}");
    }
}

/// Hold and recovery of a policy, or of the policy that a step of a plan is of.
fn patience(policy: &str) -> (Duration, Duration) {
    let name = policy.split('/').next().unwrap_or_default();
    let found = SETTINGS.policies.iter().find(|p| p.name == name);
    let policy = found.expect("only policies that there are act");
    (policy.hold, policy.recover)
}

/// Whether a policy stands behind it that goes straight to its level.
fn is_straight(state: &ModeState) -> bool {
    let mut policies = state.why.iter().map(|why| why.policy.as_str());
    policies.any(|policy| policy == "odd" || policy.starts_with("planned"))
}

impl World {
    pub(super) fn act(&mut self, (kind, which, number): (u8, u8, u8)) {
        let of = usize::from(which) % NAMES.len();
        let name = NAMES[of];
        let alert = usize::from(number) % ALERTS.len();
        let lost = which > 230;
        match kind % 32 {
            0..=7 => self.set_alert(alert, of, AlertState::Firing, lost),
            8..=10 => self.set_alert(alert, of, AlertState::Resolved, lost),
            11 => self.silence(alert, of, lost),
            12 => {
                // Samples stay away, or what was done helps, or does harm.
                for ((_, at), known) in &mut self.alerts {
                    if *at == of {
                        known.distance = [0.2, 1.0, 2.5][usize::from(number) % 3];
                        known.is_heard = number % 16 != 0;
                    }
                }
            }
            13 => {
                self.pass(self.now.plus(secs(u64::from(number % 64))));
                self.input(Machine::step);
            }
            14..=19 => self.ticks(number % 12, true),
            20 => self.ticks(number % 6, number > 100),
            21 => {
                let far = secs(u64::from(number) * 100);
                let to = match which > 127 {
                    true => self.now.plus(far),
                    false => self.now.minus(far),
                };
                self.pass(to);
                self.input(Machine::step);
            }
            22 => self.set_override(name, number),
            23 => self.remove_override(name),
            24 => self.freeze(number > 127),
            25 => self.restart(number > 127),
            26 => self.decide(which, number > 80),
            27 => {
                if !self.heard.remove(name) {
                    self.heard.insert(name);
                }
            }
            28 => self.acknowledge(GATEWAY, number),
            _ => {
                self.acknowledge(GATEWAY, number);
                self.acknowledge(name, number);
            }
        }
    }

    /// Ends in an orderly way, or by a kill: then the time of the last save is the last that is known.
    fn restart(&mut self, killed: bool) {
        let saved = text(self.machine.entries());
        let entries = match self.store.clone().filter(|_| killed) {
            Some(mut kept) => {
                let entries = kept.clone();
                let sight = &self.machine.sight;
                for (key, time) in [("clock", sight.last), ("watched", sight.watched)] {
                    if let (Some(time), Some(kept)) = (time, kept.get_mut(key)) {
                        *kept = serde_json::to_vec(&time).expect("a time");
                    }
                }
                if !kept.is_empty() {
                    // Everything but the time is saved.
                    assert_same(&text(kept), &saved);
                }
                entries.into_iter().collect()
            }
            None => self.machine.entries(),
        };
        let killed = killed && self.store.is_some();
        let (restored, warnings) = Machine::restore(entries, SETTINGS.clone());
        assert_eq!(warnings, Vec::<String>::new());
        if !killed {
            assert_same(&text(restored.entries()), &saved);
        }
        let before = std::mem::replace(&mut self.machine, restored).view(self.now);
        self.fed_ticks = 0;
        self.reported.clear();
        // Who calls whom it hears with the next tick.
        self.calls.clear();
        // What never changed is normal since it is heard of again.
        let told = |name: &String| saved.contains_key(&format!("service/{name}"));
        self.told.retain(|name, _| told(name));
        let after = self.machine.view(self.now);
        assert!(after.blind.is_some(), "who has just started is blind");
        for (name, state) in &after.services {
            assert_eq!(state, &before.services[name]);
        }
        assert_eq!(after.proposals, before.proposals);
        assert_eq!(after.freeze, before.freeze);
        assert_eq!(after.plans, before.plans);
        assert_eq!(after.episodes, before.episodes);
        self.alerts
            .values_mut()
            .for_each(|known| known.is_told = true);
        let alerts = self.alerts.values().map(|known| known.alert.clone().into());
        let alerts: Vec<_> = alerts.collect();
        let named = self.named();
        self.input(|machine, now| {
            machine.know_services(now, named);
            machine.reconcile(now, &alerts)
        });
    }

    pub(super) fn check_proposal(&mut self, action: ProposalAction, proposal: &Proposal) {
        let id = proposal.id.clone();
        match action {
            ProposalAction::Made => assert!(self.proposed.insert(id), "made twice: {proposal:?}"),
            ProposalAction::Approved | ProposalAction::Rejected | ProposalAction::Withdrawn => {
                assert!(self.proposed.remove(&id), "it did not stand: {proposal:?}");
            }
        }
    }

    pub(super) fn check_plan(plan: &PlanRun) {
        for (at, step) in plan.steps.iter().enumerate() {
            let before = plan.steps.iter().take(at);
            let mut after = plan.steps.iter().skip(at + 1);
            match step.state {
                StepState::Told => {
                    let mut before = before;
                    let done = before.all(|step| step.state == StepState::Acknowledged);
                    assert!(done || plan.state != PlanState::Running, "{plan:?}");
                }
                StepState::Undoing | StepState::Undone | StepState::Recovered => {
                    let is_up = |state| {
                        let up = [StepState::Told, StepState::Acknowledged, StepState::Undoing];
                        up.contains(&state)
                    };
                    assert!(
                        !after.any(|step| is_up(step.state)),
                        "not in reverse: {plan:?}"
                    );
                }
                StepState::Waiting | StepState::Acknowledged | StepState::Failed => {}
            }
        }
        assert_eq!(
            plan.ended_at.is_some(),
            matches!(plan.state, PlanState::Undone | PlanState::Done),
            "{plan:?}"
        );
    }

    pub(super) fn check(&mut self, changes: &[ModeChange], frozen: bool, was_blind: bool) {
        let view = self.machine.view(self.now);
        let is_blind = was_blind && view.blind.is_some();
        let mut taken = BTreeSet::new();
        // Who was forgotten, at rest, and is heard of again, begins anew.
        self.told.retain(|name, told| {
            let found = view.services.get(name);
            let same = |found: &ModeState| (found.sequence, found.since) == (0, told.since);
            found.is_some_and(|found| found.sequence > 0 || same(found))
        });
        for change in changes {
            let name = change.state.service.clone();
            let before = self.told.insert(name.clone(), change.state.clone());
            let is_approved = self.approved.as_ref() == Some(&name)
                || (self.approved.is_some() && change.cause.starts_with("plan `"));
            let by_hand = change.step == ModeStep::Override
                || change.state.manual.is_some()
                || before
                    .as_ref()
                    .is_some_and(|before| before.manual.is_some());
            if by_hand {
                self.check_override(change, before.as_ref());
                continue;
            }
            if !is_approved {
                assert!(!frozen, "a change while frozen: {change:?}");
                assert!(!is_blind, "a change while blind: {change:?}");
                assert!(self.fed_ticks >= 3, "too early: {change:?}");
            }
            self.check_step(change, before.as_ref(), is_approved);
            let by_person =
                is_approved || (self.plans_approved && change.cause.starts_with("plan `"));
            if change.from == "normal" && change.state.level > Level(0) && !by_person {
                taken.insert(name);
            }
        }
        self.check_limits(&taken);
        self.check_kinds();
        for (name, state) in &view.services {
            let manual = self.overrides.get(name);
            assert_eq!(state.manual.as_ref(), manual, "{name}");
            if let Some(manual) = manual {
                assert_eq!(state.mode, manual.mode, "an override wins");
            }
            let mut shown = state.clone();
            assert_eq!(shown.lease_expires_at, self.now.plus(SETTINGS.lease));
            let told = self
                .told
                .entry(name.clone())
                .or_insert_with(|| state.clone());
            shown.lease_expires_at = told.lease_expires_at;
            assert_eq!(&shown, told, "the view shows what was told");
        }
        let standing: BTreeSet<_> = view.proposals.iter().map(|p| p.id.clone()).collect();
        assert_eq!(standing, self.proposed);
        for proposal in &view.proposals {
            let told = &self.told[&proposal.service];
            assert_eq!(told.manual, None, "a person has decided: {proposal:?}");
            assert!(proposal.level > told.level, "{proposal:?}");
        }
        // What is set aside is until the alerts are over; neighbours share theirs. Until then it asked for
        // nothing.
        if !self.alerts.values().any(|known| known.counts(self.watched)) {
            let set_aside = std::mem::take(&mut self.set_aside);
            self.asked.retain(|(name, _), _| !set_aside.contains(name));
        }
    }

    /// When a person gives a service back it is told where automation had it, or has come back to.
    fn check_override(&mut self, change: &ModeChange, before: Option<&ModeState>) {
        let name = &change.state.service;
        self.released.remove(name);
        let ends = before.is_some_and(|before| before.manual.is_some());
        if !ends || change.state.manual.is_some() {
            return;
        }
        self.released.insert(name.clone(), self.watched);
        let auto = self.counted.get(name).map(|(auto, _)| *auto);
        assert!(
            change.state.level <= auto.unwrap_or_default() || is_straight(&change.state),
            "farther than automation had it: {change:?}"
        );
    }

    /// Who is away stays counted as it was.
    fn check_kinds(&mut self) {
        let levels = &SETTINGS.levels;
        let services = self.machine.services.iter();
        let counted: BTreeMap<_, _> = services
            .map(|(name, service)| {
                let counted = (service.auto, service.is_among_heard(levels));
                (name.clone(), counted)
            })
            .collect();
        // Who was away by hand only is back for a moment when that ends.
        for (name, (auto, heard)) in &counted {
            let both = |before: &&(Level, bool)| before.0.min(*auto) > Level(0);
            let before = self.counted.get(name).filter(both);
            assert!(
                before.is_none_or(|(_, before)| before == heard),
                "{name} is away and counts otherwise than before"
            );
        }
        self.counted = counted;
    }

    fn check_step(&mut self, change: &ModeChange, before: Option<&ModeState>, is_approved: bool) {
        let state = &change.state;
        let name = state.service.clone();
        let from = before.map_or(Level(0), |before| before.level);
        if state.level == from {
            return;
        }
        let watched = self.watched;
        match change.step {
            ModeStep::Degrade | ModeStep::Escalate if !is_straight(state) => {
                assert_eq!(state.level.0, from.0 + 1, "one level at a time: {change:?}");
            }
            ModeStep::Degrade | ModeStep::Escalate => assert!(state.level > from),
            ModeStep::Recover => {
                assert_eq!(state.level.0 + 1, from.0, "one level at a time: {change:?}");
                self.check_recovery(change, from);
            }
            ModeStep::Undo => {
                assert!(state.level < from, "{change:?}");
                self.set_aside.insert(name.clone());
            }
            ModeStep::Update | ModeStep::Override => panic!("a level changed: {change:?}"),
        }
        // An undo is at once, and a person does as she likes.
        if change.step != ModeStep::Undo && !is_approved {
            let (moved, hold) = self.moved.get(&name).copied().unwrap_or_default();
            assert!(
                hold.is_zero() || watched - moved >= hold,
                "within the hold of {hold:?}: {change:?}"
            );
        }
        let released = self.released.remove(&name);
        let goes_on = change.step == ModeStep::Undo || is_straight(state) || is_approved;
        // Who is not named may have been forgotten meanwhile.
        let is_named = self.named().contains(&name.as_str());
        if let Some(released) = released.filter(|_| !goes_on && is_named) {
            let why = match change.step {
                ModeStep::Recover => before.map_or(&state.why, |before| &before.why),
                _ => &state.why,
            };
            let holds = why.iter().map(|why| patience(&why.policy).0);
            let hold = holds.min().unwrap_or_default();
            let since = watched - released;
            assert!(since >= hold, "given back {since:?} ago: {change:?}");
        }
        // The hold is that of the policies behind it, at normal of those that were.
        let why = match state.level {
            Level(0) => before.map_or(&state.why, |before| &before.why),
            _ => &state.why,
        };
        let asked_for = |policy: &str| {
            let name = policy.split('/').next().unwrap_or_default();
            let found = SETTINGS.policies.iter().find(|p| p.name == name);
            found.map_or(Level(0), |policy| policy.level)
        };
        let holds = why
            .iter()
            .filter(|why| asked_for(&why.policy) >= state.level)
            .map(|why| patience(&why.policy).0);
        // Which of the policies are not heard where some are set aside is not known here.
        let hold = match self.set_aside.contains(&name) {
            true => holds.min(),
            false => holds.max(),
        };
        let hold = hold.unwrap_or_default();
        self.moved.insert(name, (watched, hold));
    }

    fn check_recovery(&self, change: &ModeChange, from: Level) {
        let name = &change.state.service;
        if self.set_aside.contains(name) {
            return;
        }
        assert!(self.asked_level(name) < from, "still asked for: {change:?}");
        let least = if name == GATEWAY { 0 } else { 20 };
        if let Some(asked) = self.asked.get(&(name.clone(), from)) {
            let since = self.watched - *asked;
            assert!(since >= secs(least), "asked for {since:?} ago: {change:?}");
        }
    }

    /// Who was taken away by automation must have found room.
    fn check_limits(&self, taken: &BTreeSet<String>) {
        if taken.is_empty() {
            return;
        }
        let levels = &SETTINGS.levels;
        let away =
            |name: &str| usize::from(self.told.get(name).is_some_and(|t| t.level > Level(0)));
        for kind in [true, false] {
            // Of one kind: how many there are, and how many are away. Who is heard since it is away counts in
            // both; who is named by alerts only, as far as one asks for something.
            let count = |is_member: &dyn Fn(&str) -> bool| {
                let services = self.machine.services.iter();
                let services = services.filter(|(name, _)| is_member(name));
                services.fold((0, 0), |(known, gone), (name, service)| {
                    let among_heard = service.is_among_heard(levels);
                    let away_itself = service.is_away(levels);
                    let counts = match (among_heard, kind) {
                        (true, true) => true,
                        (false, true) => service.heard && away_itself,
                        (false, false) => away_itself || self.is_asked(name),
                        (true, false) => false,
                    };
                    match counts {
                        true => (known + 1, gone + away(name)),
                        false => (known, gone),
                    }
                })
            };
            let was_taken = |is_member: &dyn Fn(&str) -> bool| {
                taken.iter().any(|name| {
                    let service = &self.machine.services[name];
                    is_member(name) && service.is_among_heard(levels) == kind
                })
            };
            let all = |_: &str| true;
            let (known, gone) = count(&all);
            assert!(
                !was_taken(&all) || gone <= SETTINGS.allowed(known),
                "{gone} of {known} are away, heard: {kind}, {taken:?} were taken"
            );
            let rim = |name: &str| SETTINGS.groups[1].members.contain(name);
            let (known, gone) = count(&rim);
            assert!(
                !was_taken(&rim) || gone <= SETTINGS.groups[1].limit.of(known),
                "{gone} of {known} of the rim are away, heard: {kind}, {taken:?} were taken"
            );
        }
        let edge = |name: &&String| SETTINGS.groups[0].members.contain(name);
        if taken.iter().any(|name| edge(&name)) {
            let away: usize = self.told.keys().filter(edge).map(|name| away(name)).sum();
            assert!(
                away <= 1,
                "{away} of the group are away, {taken:?} were taken"
            );
        }
    }

    /// Nothing is wrong any more and nobody interferes: everybody comes back to normal.
    pub(super) fn calm(&mut self, silently: bool) {
        let firing: Vec<_> = self.alerts.keys().copied().collect();
        for (kind, of) in firing {
            match silently {
                true => self.silence(kind, of, false),
                false => self.set_alert(kind, of, AlertState::Resolved, false),
            }
        }
        for name in NAMES.into_iter().chain([GATEWAY]) {
            if self.overrides.contains_key(name) {
                self.remove_override(name);
            }
        }
        self.freeze(false);
        // Alerts that ended are forgotten after a while.
        let mut ticks = 0;
        loop {
            if ticks == 30 && !silently {
                self.alerts.clear();
            }
            let next = self.now.plus(secs(10));
            let deadline = self.machine.next_deadline().filter(|at| *at < next);
            if let Some(deadline) = deadline {
                assert!(deadline > self.now, "{deadline} is not ahead");
                self.pass(deadline);
                self.input(Machine::step);
                continue;
            }
            self.ticks(1, true);
            ticks += 1;
            if !self.machine.is_busy() && ticks > 31 {
                break;
            }
            assert!(
                ticks < 300,
                "it does not end: {:#?}",
                self.machine.view(self.now)
            );
        }
        assert_eq!(self.machine.next_deadline(), None);
        let view = self.machine.view(self.now);
        assert_eq!(view.proposals, []);
        for state in view.services.values() {
            assert_eq!((state.mode.as_str(), state.level), ("normal", Level(0)));
            assert!(state.why.is_empty() && state.instruction.features.is_empty());
            assert_eq!(state.episode, None);
        }
        for episode in &view.episodes {
            assert!(episode.ended_at.is_some(), "{episode:?}");
        }
        for plan in &view.plans {
            assert!(plan.ended_at.is_some(), "{plan:?}");
        }
        assert!(self.now > Timestamp::EPOCH);
    }
}

fn histories() -> u32 {
    let set = std::env::var(HISTORIES).ok();
    set.and_then(|text| text.parse().ok()).unwrap_or(2_000)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(histories()))]

    #[test]
    fn whatever_happens_modes_are_safe_and_end(
        saving in proptest::bool::weighted(0.1),
        silently in proptest::bool::weighted(0.3),
        history in proptest::collection::vec(any::<(u8, u8, u8)>(), 1..48),
    ) {
        let mut world = World::new(saving);
        for action in history {
            world.act(action);
        }
        world.calm(silently);
    }
}
