//! Which alerts put which services into which level.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::rule::SelectorText;
use crate::config::units::{Period, Share};

use super::level::{Parts, PriorityFloor};

/// Of policies that say nothing of whom they are for: the service that the alert is about.
const DEFAULT_SERVICE: &str = "{{ service }}";

/// While a firing alert matches, services run in a level. At most one of `service`, `group`, `callers_of`
/// and `steps` says which.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Its name, for people; each once.
    pub name: String,
    /// Which alerts: a selector over their labels.
    pub when: SelectorText,
    /// Which service changes: a template over the alert's labels. Unset, and nothing else is named:
    /// `{{ service }}`, the one that the alert is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// All services of this group change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Those change that call the service named here, a template over the alert's labels, as far as traces
    /// show them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callers_of: Option<String>,
    /// Several services change, one after the other, each when the one before has acknowledged; if one does
    /// not, those before it are taken back in reverse order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<PlanStep>,
    /// Into which level; not the first one. With `steps` each of them has its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// Whether a service goes through the levels one at a time, or at once to the one asked for. The way
    /// back is always one at a time.
    #[serde(default)]
    pub step: Step,
    /// Flags and values that the service is told in this level, over the level's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub features: BTreeMap<String, serde_json::Value>,
    /// The least important requests that are still served. Unset: as the level has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority_floor: Option<PriorityFloor>,
    /// The tier of quality to serve. Unset: as the level has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<String>,
    /// Share of the load to refuse. Unset: as the level has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shed: Option<Share>,
    /// No further change before this long after the last one. `0`: any time.
    #[serde(default = "default_hold")]
    pub hold: Period,
    /// The alerts must be over for this long before each step back. `0`: at once.
    #[serde(default = "default_recover")]
    pub recover: Period,
    /// Whether it only proposes what it would do, and people decide.
    #[serde(default)]
    pub dry_run: bool,
    /// How it is judged whether a step helped, and what is done if not.
    #[serde(default)]
    pub effect: Effect,
    /// Of `steps`: a step that is not acknowledged within this time has failed. 1s to 1h. Unset: 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledge_within: Option<Period>,
}

/// Whom a policy or a step is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// One service: a template.
    Service(&'a str),
    /// The services of a group.
    Group(&'a str),
    /// Those that call a service: a template.
    CallersOf(&'a str),
}

impl Policy {
    /// Whom it is for; of a policy with steps each step says it.
    pub fn target(&self) -> Target<'_> {
        target(&self.service, &self.group, &self.callers_of)
    }

    /// What it says of the instruction, over the level's.
    pub fn parts(&self) -> Parts {
        Parts {
            features: self.features.clone(),
            priority_floor: self.priority_floor,
            quality: self.quality.clone(),
            shed: self.shed,
        }
    }

    /// How long a step of its plan may go without acknowledgement.
    pub fn acknowledge_within(&self) -> Period {
        self.acknowledge_within.unwrap_or(Period::secs(30))
    }
}

/// One step of a plan; exactly one of `service`, `group` and `callers_of` says whom it is for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanStep {
    /// Which service changes: a template over the alert's labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The services of this group change, by name one after the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Those change that call the service named here, by name one after the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callers_of: Option<String>,
    /// Into which level; not the first one.
    pub level: String,
    /// Flags and values that the service is told, over the level's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub features: BTreeMap<String, serde_json::Value>,
    /// The least important requests that are still served. Unset: as the level has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority_floor: Option<PriorityFloor>,
    /// The tier of quality to serve. Unset: as the level has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<String>,
    /// Share of the load to refuse. Unset: as the level has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shed: Option<Share>,
}

impl PlanStep {
    /// Whom it is for.
    pub fn target(&self) -> Target<'_> {
        target(&self.service, &self.group, &self.callers_of)
    }

    /// What it says of the instruction, over the level's.
    pub fn parts(&self) -> Parts {
        Parts {
            features: self.features.clone(),
            priority_floor: self.priority_floor,
            quality: self.quality.clone(),
            shed: self.shed,
        }
    }
}

fn target<'a>(
    service: &'a Option<String>,
    group: &'a Option<String>,
    callers_of: &'a Option<String>,
) -> Target<'a> {
    match (service, group, callers_of) {
        (None, Some(group), _) => Target::Group(group),
        (None, None, Some(callee)) => Target::CallersOf(callee),
        (service, _, _) => Target::Service(service.as_deref().unwrap_or(DEFAULT_SERVICE)),
    }
}

/// How far a service goes at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// One level, and farther only after `hold`, while it is still asked for.
    #[default]
    One,
    /// To the level asked for.
    Direct,
}

/// How it is judged whether a step helped: the signals of the alerts behind it are watched, by how far they
/// are from what was expected when the step was taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Effect {
    /// A step that has not helped within this time had no effect. 10s to 1d, and three ticks at least.
    pub within: Period,
    /// It helped when they are nearer by this share, or the alert is over.
    pub improved: Share,
    /// It did harm when they are farther away by this share: then it is taken back at once.
    pub worse: Share,
    /// What is done about a step that had no effect.
    pub otherwise: Otherwise,
}

impl Default for Effect {
    fn default() -> Self {
        Self {
            within: Period::secs(5 * 60),
            improved: Share(0.3),
            worse: Share(0.5),
            otherwise: Otherwise::default(),
        }
    }
}

/// What is done about a step that had no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Otherwise {
    /// It is taken back, and the policy leaves the service alone until its alerts are over.
    #[default]
    Undo,
    /// The service goes one level farther, up to the worst.
    Escalate,
    /// It stays.
    Stay,
}

fn default_hold() -> Period {
    Period::secs(60)
}

fn default_recover() -> Period {
    Period::secs(120)
}
