use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Fingerprint, Timestamp};

/// Rank of an operating level: 0 is normal, higher is worse.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Level(pub u8);

/// The names of the levels, from normal to worst. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Levels(Vec<String>);

impl Default for Levels {
    fn default() -> Self {
        Self(["normal", "degraded", "critical"].map(String::from).into())
    }
}

impl Levels {
    /// From names, at least two and at most 16, all different; `None` otherwise.
    pub fn new(names: Vec<String>) -> Option<Self> {
        let distinct: std::collections::BTreeSet<_> = names.iter().collect();
        ((2..=16).contains(&names.len()) && distinct.len() == names.len()).then_some(Self(names))
    }

    /// The level called `name`.
    pub fn level(&self, name: &str) -> Option<Level> {
        self.0
            .iter()
            .position(|n| n == name)
            .and_then(|at| u8::try_from(at).ok())
            .map(Level)
    }

    /// The name of `level`; a level beyond the last has the last one's.
    pub fn name(&self, level: Level) -> &str {
        self.0
            .get(usize::from(level.0))
            .or(self.0.last())
            .map_or("normal", String::as_str)
    }

    /// All names, from normal to worst.
    pub fn names(&self) -> &[String] {
        &self.0
    }
}

/// How important a request is: services that shed load serve the more important ones first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Can wait, such as a prefetch. As a floor: everything is served.
    #[default]
    Low,
    /// Most requests.
    Normal,
    /// Is missed at once.
    High,
    /// Must not fail, such as a payment.
    Critical,
}

impl Priority {
    /// All of them, the least important first.
    pub const ALL: [Self; 4] = [Self::Low, Self::Normal, Self::High, Self::Critical];

    /// `low`, `normal`, `high` or `critical`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

/// What a service is told beside the name of its level.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Instruction {
    /// Flags and values.
    pub features: BTreeMap<String, serde_json::Value>,
    /// The least important requests that are still served; `low`: all.
    pub priority_floor: Priority,
    /// The tier of quality to serve, such as `reduced`; `None`: the service's own.
    pub quality: Option<String>,
    /// Share of the load to refuse, 0 to 1.
    pub shed: f64,
}

/// Why a service is in its mode.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModeReason {
    /// The policy that decided.
    pub policy: String,
    /// The alert it decided on.
    pub fingerprint: Fingerprint,
    /// The alert's name.
    pub alertname: String,
    /// The alert's explanation in one sentence.
    pub explanation: String,
}

/// A mode set by hand. It wins over every policy until it is removed or expires.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Override {
    /// Name of the level.
    pub mode: String,
    /// Who set it.
    pub author: String,
    /// Why.
    pub reason: String,
    /// When it was set.
    pub set_at: Timestamp,
    /// When it ends by itself; `None`: when it is removed.
    pub expires_at: Option<Timestamp>,
}

/// What one service is told now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModeState {
    /// The service (`service.name`).
    pub service: String,
    /// Name of the level.
    pub mode: String,
    /// Rank of the level.
    pub level: Level,
    /// Since when.
    pub since: Timestamp,
    /// The alerts behind it; empty for normal and for an override.
    pub why: Vec<ModeReason>,
    /// What it means: features, priority floor, quality and share of load to shed.
    #[serde(flatten)]
    pub instruction: Instruction,
    /// The manual override in force.
    #[serde(rename = "override")]
    pub manual: Option<Override>,
    /// The instruction holds until then; it is renewed while Tidewatch runs.
    pub lease_expires_at: Timestamp,
    /// Number of the event that brought this state.
    pub sequence: u64,
    /// Id of the departure from normal that goes on; `None` while automation has it at normal.
    #[serde(default)]
    pub episode: Option<String>,
}

/// What kind of step a change of mode is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModeStep {
    /// The level stays; reasons or instructions are others.
    #[default]
    Update,
    /// Away from normal, or farther away.
    Degrade,
    /// Farther away because the step before had no effect.
    Escalate,
    /// Towards normal: what was wrong is over.
    Recover,
    /// Back to where it was: the step did harm, had no effect, or its plan failed.
    Undo,
    /// By hand: an override was set, removed or has expired.
    Override,
}

/// A service was told another mode.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModeChange {
    /// What kind of step it is.
    #[serde(default)]
    pub step: ModeStep,
    /// Name of the level before.
    pub from: String,
    /// In words: the policy and alert, the recovery, or the override's author.
    pub cause: String,
    /// The state afterwards.
    pub state: ModeState,
}
