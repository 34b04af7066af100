//! Levels, groups and policies of modes.

use std::time::Duration;

use anyhow::{Context as _, Error, Result};

use crate::config::{self, Config};
use crate::model::{Level, Levels, Priority};
use crate::modes::{
    Allowance, EffectSettings, Group, Members, Otherwise, Parts, PlanStepSettings, Policy,
    ServiceTemplate, Settings, Step, Target,
};

pub(in crate::app) fn modes(config: &Config) -> Result<Settings> {
    let modes = &config.modes;
    let levels = modes.levels();
    let policies = modes.policies.iter().map(|one| {
        let wrong = || format!("modes policy `{}`", one.name);
        policy(one, &levels).with_context(wrong)
    });
    let groups = modes.groups.iter().map(|(name, one)| {
        let wrong = || format!("modes group `{name}`");
        group(name, one).with_context(wrong)
    });
    Ok(Settings {
        instructions: modes
            .levels
            .iter()
            .map(|level| level.parts.instruction())
            .collect(),
        lease: modes.lease.0,
        limit: modes.limit.0,
        groups: groups.collect::<Result<_>>()?,
        silence: modes.silence.0,
        settle: modes.settle.0,
        tick: config.window.tick.0,
        acknowledge_within: modes.acknowledge.within.0,
        policies: policies.collect::<Result<_>>()?,
        max_services: usize::try_from(config.limits.services).unwrap_or(usize::MAX),
        levels,
    })
}

fn group(name: &str, group: &config::Group) -> Result<Group> {
    let members = group.services.iter().map(|service| &service.0);
    Ok(Group {
        name: name.to_owned(),
        members: Members::parse(members).map_err(Error::msg)?,
        limit: match group.limit {
            None => Allowance::Share(1.0),
            Some(config::Allowance::Share(share)) => Allowance::Share(share.0),
            Some(config::Allowance::Count(count)) => {
                Allowance::Count(usize::try_from(count).unwrap_or(usize::MAX))
            }
        },
    })
}

fn policy(policy: &config::Policy, levels: &Levels) -> Result<Policy> {
    let steps = policy.steps.iter().map(|step| {
        Ok(PlanStepSettings {
            target: target(step.target())?,
            level: level(levels, &step.level)?,
            instruction: parts(step.parts()),
        })
    });
    Ok(Policy {
        name: policy.name.clone(),
        when: policy.when.selector.clone(),
        target: target(policy.target())?,
        // With steps it has none.
        level: match &policy.level {
            Some(name) => level(levels, name)?,
            None => Level(0),
        },
        instruction: parts(policy.parts()),
        step: match policy.step {
            config::Step::One => Step::One,
            config::Step::Direct => Step::Direct,
        },
        hold: policy.hold.0,
        recover: policy.recover.0,
        dry_run: policy.dry_run,
        effect: effect(&policy.effect),
        steps: steps.collect::<Result<_>>()?,
        acknowledge_within: policy.acknowledge_within().0,
    })
}

fn effect(effect: &config::Effect) -> EffectSettings {
    let within: Duration = effect.within.0;
    EffectSettings {
        within,
        improved: effect.improved.0,
        worse: effect.worse.0,
        otherwise: match effect.otherwise {
            config::Otherwise::Undo => Otherwise::Undo,
            config::Otherwise::Escalate => Otherwise::Escalate,
            config::Otherwise::Stay => Otherwise::Stay,
        },
    }
}

fn target(target: config::Target<'_>) -> Result<Target> {
    let template = |text| ServiceTemplate::parse(text).map_err(Error::msg);
    Ok(match target {
        config::Target::Service(text) => Target::Service(template(text)?),
        config::Target::Group(name) => Target::Group(name.to_owned()),
        config::Target::CallersOf(text) => Target::CallersOf(template(text)?),
    })
}

fn level(levels: &Levels, name: &str) -> Result<Level> {
    let unknown = || format!("there is no level `{name}`");
    levels.level(name).with_context(unknown)
}

fn parts(parts: config::Parts) -> Parts {
    Parts {
        features: parts.features,
        priority_floor: parts.priority_floor.map(Priority::from),
        quality: parts.quality,
        shed: parts.shed.map(|share| share.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_says_what_it_says() {
        let known = crate::app::known();
        let text = include_str!("../../../examples/modes.yaml");
        let loaded = config::parse("modes.yaml", text, &|_| None, &known).expect("the example");
        assert_eq!(loaded.warnings.to_string(), "");
        let settings = modes(&loaded.config).expect("settings");
        assert_eq!(settings.instructions[2].shed, 0.5);
        assert_eq!(settings.instructions[2].priority_floor, Priority::Critical);
        assert_eq!(settings.groups[0].limit, Allowance::Count(1));
        assert!(settings.groups[0].members.contain("web-shop"));
        let names: Vec<_> = settings.policies.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "slow-service",
                "failing-service",
                "protect-payment",
                "callers-of-slow"
            ]
        );
        let [slow, failing, plan, callers] = &settings.policies[..] else {
            panic!("four policies")
        };
        assert_eq!(slow.instruction.shed, Some(0.1));
        assert_eq!(slow.effect, EffectSettings::default());
        assert_eq!(failing.effect.otherwise, Otherwise::Stay);
        assert_eq!(failing.level, Level(2));
        assert_eq!(plan.steps.len(), 2);
        assert!(matches!(&plan.steps[0].target, Target::Group(name) if name == "edge"));
        assert!(matches!(callers.target, Target::CallersOf(_)));
        assert!(callers.dry_run);
    }

    #[test]
    fn defaults_are_the_same_on_both_sides() {
        let ours = modes(&Config::default()).expect("settings");
        let theirs = Settings::default();
        assert_eq!(ours.lease, theirs.lease);
        assert_eq!(ours.limit, theirs.limit);
        assert_eq!(ours.silence, theirs.silence);
        assert_eq!(ours.settle, theirs.settle);
        assert_eq!(ours.acknowledge_within, theirs.acknowledge_within);
        assert_eq!(
            effect(&config::Effect::default()),
            EffectSettings::default()
        );
    }
}
