//! Changes of several services in order, as one.
//!
//! In: what the controller told, what services answered, watched time, and whether the cause goes on. Out:
//! what is to be brought about next, and where the plan stands. What always holds: a step is told only when
//! all before it are acknowledged; steps are undone and come back the last first; an undo never waits for
//! longer than a step may; what has ended stays ended.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::effect::words;
use crate::model::{
    Fingerprint, Level, ModeReason, PlanRun, PlanState, PlanStep, StepState, Timestamp,
};

/// Alerts of one plan that are counted.
pub(super) const MAX_ALERTS: usize = 1_000;
/// Services that one plan may change.
pub(super) const MAX_STEPS: usize = 100;

/// What the controller is to do for a plan now. Numbers are positions of steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// Nothing.
    Nothing,
    /// Tell the service of this step.
    Tell(usize),
    /// See whether the service of this step has acknowledged it.
    Await(usize),
    /// Take this step back, at once.
    Undo(usize),
    /// See whether the service of this step has acknowledged that it was taken back.
    AwaitUndo(usize),
    /// Let the service of this step recover.
    Recover(usize),
}

/// A step before it begins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Planned {
    pub(super) service: String,
    /// Name of the level.
    pub(super) mode: String,
    /// Which step of the policy it is of; a step for several services becomes several.
    pub(super) index: usize,
}

/// What is known of a step beside its words.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Slot {
    index: usize,
    /// Under which number it was told last, forth or back; `None`: never.
    sequence: Option<u64>,
    /// The level before it.
    before: Level,
}

/// Stands for the number of a change that is not written down yet. Nobody can have heard it.
pub(super) const UNNUMBERED: u64 = u64::MAX;

/// How a plan is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Terms {
    /// How long a step may take to be acknowledged.
    pub(super) within: Duration,
    /// Whether a person has said yes to it, whatever the limits.
    pub(super) approved: bool,
}

/// One plan that goes on, or that was undone and waits for its cause to be over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Run {
    plan: PlanRun,
    /// How long a step may take to be acknowledged.
    within: Duration,
    /// How much of that is left to the step that was told last.
    left: Duration,
    /// What is known of each step besides.
    slots: Vec<Slot>,
    /// The alerts that ask for it.
    alerts: BTreeSet<Fingerprint>,
    /// A person has said yes to it, whatever the limits.
    approved: bool,
    /// Its words changed since they were taken.
    #[serde(skip)]
    touched: bool,
}

impl Run {
    /// Begins, with `steps` in their order.
    pub(super) fn begin(
        now: Timestamp,
        id: String,
        policy: &str,
        why: Vec<ModeReason>,
        steps: Vec<Planned>,
        terms: Terms,
    ) -> Self {
        let slot = |step: &Planned| Slot {
            index: step.index,
            ..Slot::default()
        };
        Self {
            within: terms.within,
            left: terms.within,
            slots: steps.iter().map(slot).collect(),
            alerts: why.iter().map(|why| why.fingerprint).collect(),
            approved: terms.approved,
            touched: true,
            plan: PlanRun {
                id,
                policy: policy.into(),
                why,
                started_at: now,
                ended_at: None,
                state: PlanState::Running,
                steps: steps
                    .into_iter()
                    .map(|step| PlanStep {
                        service: step.service,
                        mode: step.mode,
                        state: StepState::Waiting,
                        at: now,
                        detail: String::new(),
                    })
                    .collect(),
                outcome: String::new(),
            },
        }
    }

    /// Where it stands.
    pub(super) fn plan(&self) -> &PlanRun {
        &self.plan
    }

    /// What has to be brought about.
    pub(super) fn want(&self) -> Want {
        let steps = || self.plan.steps.iter().enumerate();
        match self.plan.state {
            PlanState::Running => {
                let next = steps().find(|(_, step)| step.state != StepState::Acknowledged);
                match next.map(|(at, step)| (at, step.state)) {
                    Some((at, StepState::Told)) => Want::Await(at),
                    Some((at, _)) => Want::Tell(at),
                    None => Want::Nothing,
                }
            }
            PlanState::Undoing => match self.last_to_undo() {
                Some((at, StepState::Undoing)) => Want::AwaitUndo(at),
                Some((at, _)) => Want::Undo(at),
                None => Want::Nothing,
            },
            PlanState::Recovering => {
                let mut last = steps().rev().filter(|(_, step)| is_up(step.state));
                last.next()
                    .map_or(Want::Nothing, |(at, _)| Want::Recover(at))
            }
            PlanState::Standing | PlanState::Undone | PlanState::Done => Want::Nothing,
        }
    }

    /// Under which number a step was told last, forth or back.
    pub(super) fn sequence(&self, at: usize) -> Option<u64> {
        self.slots.get(at)?.sequence
    }

    /// Which step of the policy a step is of.
    pub(super) fn index(&self, at: usize) -> Option<usize> {
        self.slots.get(at).map(|slot| slot.index)
    }

    /// The level that the service had before a step.
    pub(super) fn before(&self, at: usize) -> Level {
        self.slots
            .get(at)
            .map(|slot| slot.before)
            .unwrap_or_default()
    }

    /// Whether a person has said yes to it, whatever the limits.
    pub(super) fn is_approved(&self) -> bool {
        self.approved
    }

    /// How much time is left to what is waited for.
    pub(super) fn left(&self) -> Option<Duration> {
        matches!(self.want(), Want::Await(_) | Want::AwaitUndo(_)).then_some(self.left)
    }

    /// The alerts that ask for it.
    pub(super) fn alerts(&self) -> &BTreeSet<Fingerprint> {
        &self.alerts
    }

    /// Takes in which alerts ask for it now.
    pub(super) fn asked_by(&mut self, now: Timestamp, alerts: BTreeSet<Fingerprint>) {
        self.alerts = alerts;
        if self.alerts.is_empty() {
            self.over(now);
        } else {
            self.again(now);
        }
    }

    /// Whether a step asks for its level: it was told and is not taken back.
    pub(super) fn asks(&self, at: usize) -> bool {
        self.plan
            .steps
            .get(at)
            .is_some_and(|step| is_up(step.state))
    }

    /// Notes under which number the present change of `service` was written down.
    pub(super) fn number(&mut self, service: &str, sequence: u64) -> bool {
        let (Want::Await(at) | Want::AwaitUndo(at)) = self.want() else {
            return false;
        };
        let is_of = self
            .plan
            .steps
            .get(at)
            .is_some_and(|s| s.service == service);
        let slot = self.slots.get_mut(at).filter(|_| is_of);
        let Some(slot) = slot.filter(|slot| slot.sequence == Some(UNNUMBERED)) else {
            return false;
        };
        slot.sequence = Some(sequence);
        true
    }

    fn told_under(&mut self, at: usize, sequence: u64) {
        if let Some(slot) = self.slots.get_mut(at) {
            slot.sequence = Some(sequence);
        }
    }

    /// The service of the step was told, which had the level `before`; `sequence` is that of what it is
    /// told now, or [`UNNUMBERED`].
    pub(super) fn told(&mut self, now: Timestamp, at: usize, before: Level, sequence: u64) {
        self.told_under(at, sequence);
        if let Some(slot) = self.slots.get_mut(at) {
            slot.before = before;
        }
        self.left = self.within;
        self.put(now, at, StepState::Told, "");
    }

    /// The step was taken back.
    pub(super) fn told_back(&mut self, now: Timestamp, at: usize, sequence: u64) {
        self.told_under(at, sequence);
        self.left = self.within;
        self.put(now, at, StepState::Undoing, "taken back");
    }

    /// The step that is waited for was acknowledged, forth or back.
    pub(super) fn acknowledged(&mut self, now: Timestamp, at: usize) {
        match self.want() {
            Want::Await(waiting) if waiting == at => {
                self.put(now, at, StepState::Acknowledged, "");
                let mut steps = self.plan.steps.iter();
                if steps.all(|step| step.state == StepState::Acknowledged) {
                    self.plan.state = PlanState::Standing;
                }
            }
            Want::AwaitUndo(waiting) if waiting == at => {
                self.put(now, at, StepState::Undone, "");
                self.end_of_undo(now);
            }
            _ => {}
        }
    }

    /// The step that is next or waited for cannot be: what was done is taken back. `detail` is a clause.
    pub(super) fn fail(&mut self, now: Timestamp, at: usize, detail: &str) {
        match self.want() {
            Want::Tell(next) | Want::Await(next) if next == at => {}
            _ => return,
        }
        self.put(now, at, StepState::Failed, detail);
        let service = self.plan.steps.get(at).map_or("", |s| s.service.as_str());
        self.plan.outcome = format!("undone: step {}, `{service}`: {detail}", at + 1);
        self.plan.state = PlanState::Undoing;
        self.end_of_undo(now);
    }

    /// All that was done is taken back, for another reason than a step of its own. `because` is a clause.
    pub(super) fn undo(&mut self, now: Timestamp, because: &str) {
        match self.plan.state {
            PlanState::Running | PlanState::Standing | PlanState::Recovering => {}
            PlanState::Undoing | PlanState::Undone | PlanState::Done => return,
        }
        self.plan.outcome = format!("undone: {because}");
        self.plan.state = PlanState::Undoing;
        self.touched = true;
        self.end_of_undo(now);
    }

    /// Watched time passes.
    pub(super) fn pass(&mut self, now: Timestamp, elapsed: Duration) {
        let want = self.want();
        if !matches!(want, Want::Await(_) | Want::AwaitUndo(_)) {
            return;
        }
        self.left = self.left.saturating_sub(elapsed);
        if !self.left.is_zero() {
            return;
        }
        let within = words(self.within);
        match want {
            Want::Await(at) => self.fail(now, at, &format!("not acknowledged within {within}")),
            Want::AwaitUndo(at) => {
                let detail = format!("not acknowledged within {within}");
                self.put(now, at, StepState::Undone, &detail);
                self.end_of_undo(now);
            }
            Want::Nothing | Want::Tell(_) | Want::Undo(_) | Want::Recover(_) => {}
        }
    }

    /// Its cause is over: its services come back. One that is being undone goes on with that.
    fn over(&mut self, now: Timestamp) {
        match self.plan.state {
            PlanState::Running | PlanState::Standing => {
                self.plan.state = PlanState::Recovering;
                self.touched = true;
                self.end_of_recovery(now);
            }
            PlanState::Recovering | PlanState::Undoing | PlanState::Undone | PlanState::Done => {}
        }
    }

    /// Its cause is there again, before all of its services were back.
    fn again(&mut self, now: Timestamp) {
        if self.plan.state != PlanState::Recovering {
            return;
        }
        for at in 0..self.plan.steps.len() {
            if self.plan.steps.get(at).map(|s| s.state) == Some(StepState::Recovered) {
                self.put(now, at, StepState::Waiting, "");
            }
        }
        let mut steps = self.plan.steps.iter();
        let stands = steps.all(|step| step.state == StepState::Acknowledged);
        self.plan.state = if stands {
            PlanState::Standing
        } else {
            PlanState::Running
        };
        // One that was told and had not answered yet gets its time again.
        self.left = self.within;
        self.touched = true;
    }

    /// The service of a step has come back.
    pub(super) fn back(&mut self, now: Timestamp, at: usize) {
        if self.want() == Want::Recover(at) {
            self.put(now, at, StepState::Recovered, "");
            self.end_of_recovery(now);
        }
    }

    /// Where it stands, if that has changed since the last call.
    pub(super) fn take_news(&mut self) -> Option<PlanRun> {
        std::mem::take(&mut self.touched).then(|| self.plan.clone())
    }

    /// Whether nothing is left to be done.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.plan.state, PlanState::Undone | PlanState::Done)
    }

    fn put(&mut self, now: Timestamp, at: usize, state: StepState, detail: &str) {
        let Some(step) = self.plan.steps.get_mut(at) else {
            return;
        };
        (step.state, step.at) = (state, now);
        // Why it was taken back, and how that went, belong together.
        let goes_on = matches!(state, StepState::Undoing | StepState::Undone);
        step.detail = match (step.detail.is_empty(), detail.is_empty()) {
            (false, false) if goes_on => format!("{}; {detail}", step.detail),
            (false, true) if goes_on => return self.touched = true,
            _ => detail.into(),
        };
        self.touched = true;
    }

    /// After it was restored.
    pub(super) fn align(&mut self) {
        self.slots.resize(self.plan.steps.len(), Slot::default());
    }

    /// The last step that has to be taken back, or is being taken back.
    fn last_to_undo(&self) -> Option<(usize, StepState)> {
        let steps = self.plan.steps.iter().enumerate().rev();
        let mut open = steps.filter(|(at, step)| match step.state {
            StepState::Told | StepState::Acknowledged | StepState::Undoing => true,
            // One that could not be told has nothing to be taken back.
            StepState::Failed => self.sequence(*at).is_some(),
            StepState::Waiting | StepState::Undone | StepState::Recovered => false,
        });
        open.next().map(|(at, step)| (at, step.state))
    }

    fn end_of_undo(&mut self, now: Timestamp) {
        if self.last_to_undo().is_none() {
            self.plan.state = PlanState::Undone;
            self.plan.ended_at = Some(now);
        }
    }

    fn end_of_recovery(&mut self, now: Timestamp) {
        if !self.plan.steps.iter().any(|step| is_up(step.state)) {
            self.plan.state = PlanState::Done;
            self.plan.ended_at = Some(now);
            let lasted = words(now.since(self.plan.started_at));
            self.plan.outcome = format!("recovered after {lasted}");
        }
    }
}

fn is_up(state: StepState) -> bool {
    match state {
        StepState::Told | StepState::Acknowledged => true,
        StepState::Waiting
        | StepState::Failed
        | StepState::Undoing
        | StepState::Undone
        | StepState::Recovered => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::modes::fixtures::secs;
    use crate::modes::plan_list::{MAX_ENDED, Plans, Saved};

    const SERVICES: [&str; 3] = ["gateway", "cart", "stock"];

    const TERMS: Terms = Terms {
        within: Duration::from_secs(30),
        approved: false,
    };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    fn planned(service: &str) -> Planned {
        Planned {
            service: service.into(),
            mode: "degraded".into(),
            index: 0,
        }
    }

    fn begin(plans: &mut Plans, now: i64) -> bool {
        let steps = SERVICES.map(planned).into();
        let begun = plans.begin(at(now), "protect", "protect", Vec::new(), steps, TERMS);
        begun.is_ok()
    }

    /// What a plan does in answer to a script: `t`ell or take back what it wants, `a`cknowledge, `f`ail,
    /// `w`ait ten seconds, `o`ver, a`g`ain, `b`ack. Its steps in letters, then its state.
    fn play(script: &str) -> (String, PlanState) {
        let mut plans = Plans::default();
        assert!(begin(&mut plans, 0));
        let mut now = 0;
        for action in script.chars() {
            now += 10;
            let saved = serde_json::to_vec(&plans.entries()).expect("it is finite");
            let read: Vec<(String, Saved)> =
                serde_json::from_slice(&saved).expect("it was written");
            plans = Plans::default();
            read.into_iter().for_each(|(_, saved)| plans.restore(saved));
            let run = plans.get_mut("protect").expect("it goes on");
            let want = run.want();
            match (action, want) {
                ('t', Want::Tell(step)) => run.told(at(now), step, Level(0), 1),
                ('t', Want::Undo(step)) => run.told_back(at(now), step, 2),
                ('a', Want::Await(step) | Want::AwaitUndo(step)) => {
                    run.acknowledged(at(now), step);
                }
                ('f', Want::Tell(step) | Want::Await(step)) => run.fail(at(now), step, "no"),
                ('b', Want::Recover(step)) => run.back(at(now), step),
                ('w', _) => run.pass(at(now), secs(10)),
                ('o', _) => run.over(at(now)),
                ('g', _) => run.again(at(now)),
                other => panic!("{other:?} in {script}"),
            }
        }
        let run = plans.get("protect").expect("it goes on");
        let letter = |step: &PlanStep| match step.state {
            StepState::Waiting => '-',
            StepState::Told => 't',
            StepState::Acknowledged => 'A',
            StepState::Failed => 'F',
            StepState::Undoing => 'u',
            StepState::Undone => 'U',
            StepState::Recovered => 'R',
        };
        assert_eq!(run.is_over(), run.plan().ended_at.is_some());
        (
            run.plan().steps.iter().map(letter).collect(),
            run.plan().state,
        )
    }

    #[track_caller]
    fn check(script: &str, steps: &str, state: PlanState) {
        assert_eq!(play(script), (steps.into(), state), "{script}");
    }

    #[test]
    fn steps_are_told_one_after_the_other_and_undone_in_reverse() {
        check("", "---", PlanState::Running);
        check("ta", "A--", PlanState::Running);
        check("tatata", "AAA", PlanState::Standing);
        // Nobody answers: it and those before it are taken back.
        check("tataww", "AA-", PlanState::Running);
        check("tatawwt", "AAt", PlanState::Running);
        check("tatatww", "AAt", PlanState::Running);
        check("tatatwww", "AAF", PlanState::Undoing);
        check("tatatwwwt", "AAu", PlanState::Undoing);
        check("tatatwwwta", "AAU", PlanState::Undoing);
        check("tatatwwwtata", "AUU", PlanState::Undoing);
        // Nobody answers to that either: it goes on.
        check("tatatwwwtwwwtwwwt", "uUU", PlanState::Undoing);
        check("tatatwwwtwwwtwwwtwww", "UUU", PlanState::Undone);
        // What could not be told has nothing to be taken back.
        check("tataf", "AAF", PlanState::Undoing);
        check("tatafta", "AUF", PlanState::Undoing);
        check("tataftata", "UUF", PlanState::Undone);
        check("f", "F--", PlanState::Undone);
        // Once it is undone it stays so.
        check("foog", "F--", PlanState::Undone);
    }

    #[test]
    fn when_its_cause_is_over_its_services_come_back_the_last_first() {
        check("tatatao", "AAA", PlanState::Recovering);
        check("tatataob", "AAR", PlanState::Recovering);
        check("tatataobbb", "RRR", PlanState::Done);
        check("tato", "At-", PlanState::Recovering);
        check("tatobb", "RR-", PlanState::Done);
        check("o", "---", PlanState::Done);
        // It is there again.
        check("tatataobg", "AA-", PlanState::Running);
        check("tatataobgta", "AAA", PlanState::Standing);
        check("tatataog", "AAA", PlanState::Standing);
    }

    #[test]
    fn what_happened_is_told_in_words() {
        let mut plans = Plans::default();
        begin(&mut plans, 0);
        let run = plans.get_mut("protect").expect("it goes on");
        run.told(at(1), 0, Level(0), 1);
        run.acknowledged(at(2), 0);
        run.told(at(3), 1, Level(0), 2);
        run.pass(at(33), secs(30));
        run.told_back(at(33), 1, 3);
        run.pass(at(63), secs(30));
        run.told_back(at(64), 0, 4);
        run.acknowledged(at(65), 0);
        let plan = run.plan().clone();
        assert_eq!(
            plan.outcome,
            "undone: step 2, `cart`: not acknowledged within 30s"
        );
        let details: Vec<_> = plan.steps.iter().map(|s| s.detail.as_str()).collect();
        let cart = "not acknowledged within 30s; taken back; not acknowledged within 30s";
        assert_eq!(details, ["taken back", cart, ""]);
        assert_eq!(plans.take_news(), [plan]);
        assert!(plans.take_news().is_empty());
        // Under its key nothing begins before it is let go.
        assert!(!begin(&mut plans, 70));
        assert!(plans.release("protect"));
        assert!(begin(&mut plans, 70) && !plans.release("protect"));
        let states: Vec<_> = plans.view().iter().map(|p| p.state).collect();
        assert_eq!(states, [PlanState::Running, PlanState::Undone]);
    }

    #[test]
    fn the_newest_of_those_that_ended_are_kept() {
        let mut plans = Plans::default();
        let mut store = BTreeMap::new();
        for now in 0..300 {
            assert!(begin(&mut plans, now / 2));
            plans
                .get_mut("protect")
                .expect("it goes on")
                .over(at(now / 2));
            assert!(plans.release("protect"));
            for (id, saved) in plans.changes() {
                match saved {
                    Some(saved) => store.insert(id, saved),
                    None => store.remove(&id),
                };
            }
        }
        assert_eq!((plans.view().len(), store.len()), (MAX_ENDED, MAX_ENDED));
        let (many, none) = (vec![planned("cart"); MAX_STEPS + 1], Vec::new());
        for steps in [many, none] {
            let begun = plans.begin(at(0), "other", "other", Vec::new(), steps, TERMS);
            assert!(begun.expect_err("it cannot begin").contains("steps"));
        }
    }

    proptest! {
        #[test]
        fn order_holds_and_every_plan_ends(
            history in prop::collection::vec((0..8_u8, 0..3_usize), 0..60),
        ) {
            let mut plans = Plans::default();
            begin(&mut plans, 0);
            let run = plans.get_mut("protect").expect("it goes on");
            let mut undone: Vec<usize> = Vec::new();
            let calm = [(6, 0)].into_iter().cycle().take(40);
            let calm = calm.chain([(5, 0)]).chain([(6, 0)].into_iter().cycle().take(40));
            let all = history.len() + 81;
            for (now, (action, step)) in history.into_iter().chain(calm).enumerate() {
                let now = at(now as i64 * 10);
                let want = run.want();
                match (action, want) {
                    (0 | 6, Want::Tell(at)) => run.told(now, at, Level(0), 1),
                    (0 | 6, Want::Undo(at)) => {
                        undone.push(at);
                        run.told_back(now, at, 2);
                    }
                    (1, _) => run.acknowledged(now, step),
                    (2, _) => run.fail(now, step, "no"),
                    (3, _) => run.back(now, step),
                    (4, _) => run.again(now),
                    (5, _) => run.over(now),
                    (6, Want::Recover(at)) => run.back(now, at),
                    (7, _) => run.undo(now, "it did harm"),
                    _ => run.pass(now, secs(10)),
                }
                let states: Vec<_> = run.plan().steps.iter().map(|s| s.state).collect();
                let told = states.iter().filter(|s| **s == StepState::Told);
                prop_assert!(told.count() <= 1);
                // What was told stands before what was not.
                let up: Vec<_> = states.iter().map(|s| is_up(*s)).collect();
                prop_assert!(up.is_sorted_by(|a, b| a >= b), "{:?}", states);
                prop_assert!(undone.is_sorted_by(|a, b| a > b), "{:?}", undone);
                prop_assert_eq!(run.is_over(), run.plan().ended_at.is_some());
            }
            prop_assert!(run.is_over(), "after {}: {:?}", all, run.plan());
            prop_assert!((0..3).all(|at| !run.asks(at)));
        }
    }
}
