//! Policies of modes and their plans.

use std::collections::BTreeSet;

use crate::config::diagnostic::suggest;
use crate::config::{Effect, Modes, Otherwise, Period, Policy, Share, Step, Target};
use crate::model::{MODE_ALERTS, MatchOp};

use super::Checker;
use super::modes::{DAY, HOUR, Known};

/// Most steps of a plan.
const MAX_STEPS: usize = 32;

impl Checker<'_> {
    pub(super) fn policy(&mut self, policy: &Policy, path: &str, known: &Known<'_>) {
        let at = |key: &str| format!("{path}.{key}");
        self.name(&at("name"), &policy.name);
        self.when(policy, &at("when"));
        self.period(&at("hold"), policy.hold, Period::default(), DAY);
        self.period(&at("recover"), policy.recover, Period::default(), DAY);
        self.parts(path, &policy.parts());
        self.effect(&policy.effect, &at("effect"), known.tick);
        let targets = [
            ("service", policy.service.is_some()),
            ("group", policy.group.is_some()),
            ("callers_of", policy.callers_of.is_some()),
            ("steps", !policy.steps.is_empty()),
        ];
        self.one_kind_of_target(path, &targets);
        if policy.steps.is_empty() {
            self.target(policy.target(), path, known);
            match &policy.level {
                Some(level) => self.level(&at("level"), level, known),
                None if self.is_broken(path) => {}
                None => self.error(
                    path,
                    "the key `level` is missing",
                    "say into which level, or give the policy `steps`",
                ),
            }
            if policy.acknowledge_within.is_some() {
                self.warn(
                    &at("acknowledge_within"),
                    "counts only where there are `steps`",
                    "leave the key out; `modes.acknowledge.within` is when a service that does not follow is reported",
                );
            }
            self.escalation(policy, path, known);
        } else {
            self.plan(policy, path, known);
        }
    }

    /// Which alerts it is for.
    fn when(&mut self, policy: &Policy, path: &str) {
        let matchers = policy.when.selector.matchers();
        // A condition that also holds where the label is missing says nothing of what an alert is.
        if matchers.iter().all(|matcher| matcher.matches("")) {
            self.error(
                path,
                "names nothing that an alert must have: almost every alert would do",
                "if all of them are meant, say `{alertname=~\".+\"}`",
            );
        }
        let named = matchers
            .iter()
            .filter(|matcher| matcher.name == "alertname")
            .filter(|matcher| matches!(matcher.op, MatchOp::Equal | MatchOp::Regex));
        // An expression for anything is not meant for these.
        let own = named.flat_map(|matcher| {
            MODE_ALERTS
                .into_iter()
                .filter(|name| matcher.value.contains(name) && matcher.matches(name))
        });
        if let Some(name) = own.into_iter().next() {
            self.warn(
                path,
                format!("selects `{name}`, and no policy acts on alerts about modes themselves"),
                "name the alert that the service is in trouble by",
            );
        }
    }

    /// No policy may be called as a step of another's plan is.
    pub(super) fn step_names(&mut self, modes: &Modes) {
        for (at, policy) in modes.policies.iter().enumerate() {
            let Some((plan, number)) = policy.name.rsplit_once('/') else {
                continue;
            };
            let plans = modes.policies.iter().filter(|other| other.name == plan);
            let most = plans.map(|plan| plan.steps.len()).max().unwrap_or(0);
            let is_step = number
                .parse()
                .is_ok_and(|step: usize| (1..=most).contains(&step) && step.to_string() == number);
            if is_step {
                let path = format!("modes.policies[{at}].name");
                let shown = self.shown(&path, &policy.name);
                self.error(
                    &path,
                    format!("`{shown}` is what step {number} of the policy `{plan}` is called"),
                    "choose another name",
                );
            }
        }
    }

    fn one_kind_of_target(&mut self, path: &str, targets: &[(&str, bool)]) {
        let set = targets.iter().filter(|(_, is_set)| *is_set);
        let set: Vec<_> = set.map(|(key, _)| *key).collect();
        if let [first, second, ..] = set[..] {
            self.error(
                &format!("{path}.{second}"),
                format!("`{first}` and `{second}` both say which services change"),
                "keep one of the two; what differs is a policy of its own",
            );
        }
    }

    fn target(&mut self, target: Target<'_>, path: &str, known: &Known<'_>) {
        match target {
            Target::Service(template) => self.template(&format!("{path}.service"), template),
            Target::CallersOf(template) => self.template(&format!("{path}.callers_of"), template),
            Target::Group(group) if known.groups.contains(&group) => {}
            Target::Group(_) if self.is_broken("modes.groups") => {}
            Target::Group(group) => {
                let path = format!("{path}.group");
                let shown = self.shown(&path, group);
                let hint = match known.groups.is_empty() {
                    true => {
                        format!("define it: `groups: {{{group}: {{services: [...]}}}}` in `modes`")
                    }
                    false => suggest(group, known.groups.iter().copied(), "groups"),
                };
                self.error(&path, format!("unknown group `{shown}`"), hint);
            }
        }
    }

    fn level(&mut self, path: &str, level: &str, known: &Known<'_>) {
        let Some(levels) = &known.levels else { return };
        match levels.iter().position(|known| *known == level) {
            Some(0) => self.error(
                path,
                format!("`{level}` is where every service is anyway"),
                suggest("", levels.iter().skip(1).copied(), "levels"),
            ),
            Some(_) => {}
            None => {
                let shown = self.shown(path, level);
                self.error(
                    path,
                    format!("unknown level `{shown}`"),
                    suggest(level, levels.iter().copied(), "levels"),
                );
            }
        }
    }

    fn plan(&mut self, policy: &Policy, path: &str, known: &Known<'_>) {
        let at = |key: &str| format!("{path}.{key}");
        self.period(
            &at("acknowledge_within"),
            policy.acknowledge_within(),
            Period::secs(1),
            HOUR,
        );
        for (key, is_set) in [
            ("level", policy.level.is_some()),
            ("features", !policy.features.is_empty()),
            ("priority_floor", policy.priority_floor.is_some()),
            ("quality", policy.quality.is_some()),
            ("shed", policy.shed.is_some()),
        ] {
            if is_set {
                self.error(
                    &at(key),
                    format!("a policy with `steps` has no `{key}` of its own"),
                    "write it in the steps that it is for",
                );
            }
        }
        if policy.step == Step::Direct {
            self.warn(
                &at("step"),
                "has no effect beside `steps`: each goes straight to its level",
                "leave the key out",
            );
        }
        if policy.effect.otherwise == Otherwise::Escalate {
            self.warn(
                &at("effect.otherwise"),
                "a plan has no further level to escalate to, so a step without effect stays",
                "`undo` takes it back, `stay` says what happens",
            );
        }
        if policy.steps.len() > MAX_STEPS {
            self.error(
                &at("steps"),
                format!(
                    "has {} steps; at most {MAX_STEPS} can be",
                    policy.steps.len()
                ),
                "a group is one step for many services",
            );
        }
        let mut seen = BTreeSet::new();
        for (number, step) in policy.steps.iter().enumerate() {
            let path = format!("{path}.steps[{number}]");
            let targets = [
                ("service", step.service.is_some()),
                ("group", step.group.is_some()),
                ("callers_of", step.callers_of.is_some()),
            ];
            self.one_kind_of_target(&path, &targets);
            if targets.iter().all(|(_, is_set)| !is_set) {
                if !self.is_broken(&path) {
                    self.error(
                        &path,
                        "does not say which service changes",
                        "add `service`, `group` or `callers_of`",
                    );
                }
                continue;
            }
            let target = step.target();
            self.target(target, &path, known);
            self.level(&format!("{path}.level"), &step.level, known);
            self.parts(&path, &step.parts());
            let name = match target {
                Target::Service(name) => format!("service {name}"),
                Target::Group(name) => format!("group {name}"),
                Target::CallersOf(name) => format!("callers of {name}"),
            };
            if !seen.insert(name) {
                self.error(
                    &path,
                    "an earlier step changes the same",
                    "a plan changes each service once: write the level it is to reach there",
                );
            }
        }
        if policy.steps.len() == 1 && !self.is_broken(path) {
            self.warn(
                &at("steps"),
                "is a plan of one step",
                "write its keys into the policy itself, unless its acknowledgement is what you want",
            );
        }
    }

    fn effect(&mut self, effect: &Effect, path: &str, tick: Period) {
        let at = |key: &str| format!("{path}.{key}");
        self.period(&at("within"), effect.within, Period::secs(10), DAY);
        let readings = Period(tick.0.saturating_mul(3));
        if effect.within < readings && effect.within >= Period::secs(10) {
            self.error(
                &at("within"),
                format!(
                    "must be at least three ticks ({readings}), is {}",
                    effect.within
                ),
                "an effect is judged by three readings; give it time",
            );
        }
        for (key, share) in [("improved", effect.improved), ("worse", effect.worse)] {
            if share < Share(0.01) {
                self.error(
                    &at(key),
                    format!("must be from 1% to 100%, is {share}"),
                    "any noise would do; the defaults are 30% for `improved` and 50% for `worse`",
                );
            }
        }
    }

    fn escalation(&mut self, policy: &Policy, path: &str, known: &Known<'_>) {
        let worst = known.levels.as_ref().and_then(|levels| levels.last());
        if policy.effect.otherwise == Otherwise::Escalate
            && worst.copied() == policy.level.as_deref()
            && worst.is_some()
        {
            self.warn(
                &format!("{path}.effect.otherwise"),
                format!(
                    "there is no level beyond `{}` to escalate to, so a step without effect stays",
                    policy.level.as_deref().unwrap_or_default()
                ),
                "`undo` takes it back, `stay` says what happens",
            );
        }
    }
}
