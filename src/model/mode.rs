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
    /// Features of the level: flags and values.
    pub features: BTreeMap<String, serde_json::Value>,
    /// The manual override in force.
    #[serde(rename = "override")]
    pub manual: Option<Override>,
    /// The instruction holds until then; it is renewed while Tidewatch runs.
    pub lease_expires_at: Timestamp,
    /// Number of the event that brought this state.
    pub sequence: u64,
}

/// A service was told another mode.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModeChange {
    /// Name of the level before.
    pub from: String,
    /// In words: the policy and alert, the recovery, or the override's author.
    pub cause: String,
    /// The state afterwards.
    pub state: ModeState,
}
