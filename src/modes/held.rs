//! What the policies of a departure demanded, and what a service is told for it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::policy::{Parts, Policy};
use super::settings::Settings;
use crate::model::{Instruction, Level};

/// What a policy demanded in the present departure from normal. It is kept by value until the service
/// is back, so that the way back is the promised one even when the policy is gone meanwhile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Held {
    pub(super) policy: String,
    pub(super) position: usize,
    /// The level that its parts are for.
    pub(super) level: Level,
    /// The level up to which it was heard.
    #[serde(default = "unsaid")]
    pub(super) reach: Level,
    pub(super) hold: Duration,
    pub(super) recover: Duration,
    #[serde(flatten)]
    pub(super) parts: Parts,
}

impl Held {
    pub(super) fn of(policy: &Policy, position: usize, reach: Level) -> Self {
        Self {
            policy: policy.name.clone(),
            position,
            level: policy.level,
            reach,
            hold: policy.hold,
            recover: policy.recover,
            parts: policy.instruction.clone(),
        }
    }
}

/// Stands for a reach that an earlier version did not save: it was that of the level.
pub(super) const UNSAID: Level = Level(u8::MAX);

fn unsaid() -> Level {
    UNSAID
}

/// How long `level` is held, and for how long nothing may have asked for it: the longest that a policy
/// demanded which was heard for at least this level.
pub(super) fn patience(held: &[Held], level: Level) -> (Duration, Duration) {
    let asked = held.iter().any(|held| held.reach >= level);
    // A level that no policy asked for, after the levels were renamed: whatever is known.
    let least = if asked { level } else { Level(0) };
    let held = held.iter().filter(|held| held.reach >= least);
    held.fold((Duration::ZERO, Duration::ZERO), |(hold, recover), held| {
        (hold.max(held.hold), recover.max(held.recover))
    })
}

/// What a service in `level` is told: what the level means, with the parts of the policies for this level
/// over it. Features of policies for milder levels stay where nobody says otherwise. Where policies
/// disagree on the floor or the share to shed, the stricter one holds; on the rest, the later one.
pub(super) fn instruction(settings: &Settings, held: &[Held], level: Level) -> Instruction {
    let meant = settings.instruction(level);
    let mut told: Option<Instruction> = None;
    for held in held.iter().filter(|held| held.level == level) {
        let with = held.parts.over(&meant);
        told = Some(match told {
            None => with,
            Some(mut told) => {
                told.features.extend(with.features);
                told.priority_floor = told.priority_floor.max(with.priority_floor);
                told.quality = with.quality.or(told.quality);
                told.shed = told.shed.max(with.shed);
                told
            }
        });
    }
    let mut told = told.unwrap_or(meant);
    let milder = |held: &&Held| held.level > Level(0) && held.level < level;
    // The most severe of them first: what is there already stays.
    for held in held.iter().filter(milder).rev() {
        for (name, value) in &held.parts.features {
            let told = told.features.entry(name.clone());
            told.or_insert_with(|| value.clone());
        }
        let parts = &held.parts;
        told.priority_floor = told
            .priority_floor
            .max(parts.priority_floor.unwrap_or_default());
        told.quality = told.quality.or_else(|| parts.quality.clone());
        told.shed = told.shed.max(parts.shed.unwrap_or_default());
    }
    told
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::Priority;

    fn held(level: u8, parts: Parts) -> Held {
        Held {
            policy: String::new(),
            position: 0,
            level: Level(level),
            reach: Level(level),
            hold: Duration::ZERO,
            recover: Duration::ZERO,
            parts,
        }
    }

    #[test]
    fn policies_speak_over_the_level_and_the_stricter_one_wins() {
        let level = |feature: &str, floor, shed| Instruction {
            features: [(feature.to_owned(), json!(true))].into(),
            priority_floor: floor,
            quality: Some(feature.into()),
            shed,
        };
        let settings = Settings {
            instructions: vec![
                Instruction::default(),
                level("one", Priority::Normal, 0.1),
                level("two", Priority::Critical, 0.5),
            ],
            ..Settings::default()
        };
        let told = |held: &[Held], level| instruction(&settings, held, Level(level));
        assert_eq!(told(&[], 0), Instruction::default());
        assert_eq!(told(&[], 2), settings.instructions[2]);
        // Levels beyond the end mean nothing.
        assert_eq!(told(&[], 3), Instruction::default());

        let mild = held(
            1,
            Parts {
                features: [("one".to_owned(), json!(1)), ("mild".into(), json!(1))].into(),
                shed: Some(0.6),
                ..Parts::default()
            },
        );
        let in_one = told(std::slice::from_ref(&mild), 1);
        assert_eq!(
            (in_one.shed, in_one.priority_floor),
            (0.6, Priority::Normal)
        );
        assert_eq!(in_one.features["one"], json!(1));
        let severe = held(
            2,
            Parts {
                features: [("mild".to_owned(), json!(2))].into(),
                priority_floor: Some(Priority::High),
                quality: Some("poor".into()),
                ..Parts::default()
            },
        );
        let both = told(&[mild, severe.clone()], 2);
        assert_eq!((both.shed, both.priority_floor), (0.6, Priority::High));
        assert_eq!(both.quality.as_deref(), Some("poor"));
        assert_eq!(both.features["mild"], json!(2));
        assert_eq!(both.features["two"], json!(true));
        let plain = held(2, Parts::default());
        let two = told(&[severe, plain], 2);
        assert_eq!((two.shed, two.priority_floor), (0.5, Priority::Critical));
    }
}
