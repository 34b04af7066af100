use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::target::Target;
use crate::model::{Instruction, Level, Priority, Selector};

/// Asks for a level while an alert fires.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Its name, different from all others'.
    pub name: String,
    /// Holds for the labels of the alerts that count.
    pub when: Selector,
    /// Which services are told. Of no meaning where there are `steps`.
    pub target: Target,
    /// The level that it asks for; normal asks for nothing. Of no meaning where there are `steps`.
    pub level: Level,
    /// What services are told in that level, where it differs from what the level means. Default nothing.
    pub instruction: Parts,
    /// How the level is reached. Default one level at a time.
    pub step: Step,
    /// A change is followed by no other automatic one before this much time has passed. Default 1 minute.
    pub hold: Duration,
    /// Nothing may have asked for the level for this long before the service steps back. Default 2
    /// minutes.
    pub recover: Duration,
    /// Whether it only proposes what it would do. Default no.
    pub dry_run: bool,
    /// How its effect is judged.
    pub effect: EffectSettings,
    /// Changes of several services in this order, as one, in place of `target` and `level`. Default none.
    pub steps: Vec<PlanStepSettings>,
    /// How long a step of `steps` may take to be acknowledged. Default 30 s.
    pub acknowledge_within: Duration,
}

impl Policy {
    /// A policy with the defaults.
    pub fn new(name: &str, when: Selector, target: Target, level: Level) -> Self {
        Self {
            name: name.into(),
            when,
            target,
            level,
            instruction: Parts::default(),
            step: Step::One,
            hold: Duration::from_mins(1),
            recover: Duration::from_mins(2),
            dry_run: false,
            effect: EffectSettings::default(),
            steps: Vec::new(),
            acknowledge_within: Duration::from_secs(30),
        }
    }
}

/// How a level is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Step {
    /// One level at a time, each after `hold` since the last change.
    #[default]
    One,
    /// At once.
    Direct,
}

/// Parts of an instruction; what is not set is as the level has it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Parts {
    /// Flags and values, beside those of the level or in place of them.
    pub features: BTreeMap<String, serde_json::Value>,
    /// The least important requests that are still served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_floor: Option<Priority>,
    /// The tier of quality to serve.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quality: Option<String>,
    /// Share of the load to refuse, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shed: Option<f64>,
}

impl Parts {
    /// These parts over those of `level`.
    pub(super) fn over(&self, level: &Instruction) -> Instruction {
        let mut features = level.features.clone();
        features.extend(self.features.clone());
        Instruction {
            features,
            priority_floor: self.priority_floor.unwrap_or(level.priority_floor),
            quality: self.quality.clone().or_else(|| level.quality.clone()),
            shed: self.shed.unwrap_or(level.shed),
        }
    }
}

/// How the effect of a step is judged, by the distance of the alerts' signals from what was expected when
/// the step was taken.
#[derive(Debug, Clone, PartialEq)]
pub struct EffectSettings {
    /// How long a step may take to show. Default 5 minutes.
    pub within: Duration,
    /// By what share, 0 to 1, the distance must shrink to count as better. Default 0.3.
    pub improved: f64,
    /// By what share, above 0, the distance must grow to count as worse. Default 0.5.
    pub worse: f64,
    /// What is done when nothing has changed within that time. Default undo.
    pub otherwise: Otherwise,
}

impl Default for EffectSettings {
    fn default() -> Self {
        Self {
            within: Duration::from_mins(5),
            improved: 0.3,
            worse: 0.5,
            otherwise: Otherwise::Undo,
        }
    }
}

/// What is done with a step that had no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Otherwise {
    /// The service goes back to where it was.
    #[default]
    Undo,
    /// One level more, as long as there is one.
    Escalate,
    /// Nothing.
    Stay,
}

/// One step of a plan.
#[derive(Debug, Clone)]
pub struct PlanStepSettings {
    /// Which services; several are told one after the other, by name.
    pub target: Target,
    /// The level that they are told.
    pub level: Level,
    /// What they are told in that level, where it differs from what the level means.
    pub instruction: Parts,
}
