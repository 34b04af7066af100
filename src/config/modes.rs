//! Operating modes: which there are, and which alerts put a service into which.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::Levels;

use super::rule::SelectorText;
use super::units::{Period, Share};

/// Operating modes of services. Without policies every service stays in the first level, unless a person
/// sets a mode by hand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Modes {
    /// The names of the levels, from normal to worst; 2 to 16.
    pub levels: Vec<String>,
    /// How long an instruction holds without being renewed: a service that hears nothing for this long goes
    /// back to its own default. 1s to 1h.
    pub lease: Period,
    /// Never more than this share of all services is away from normal at once by policies; one service may
    /// always be. `0%`: policies change nothing.
    pub limit: Share,
    /// Name of the receiver that is told of mode changes. Unset: that of the route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receiver: Option<String>,
    /// Which alerts lead to which level. Where several apply, the worst level wins.
    pub policies: Vec<Policy>,
}

impl Default for Modes {
    fn default() -> Self {
        Self {
            levels: Levels::default().names().to_vec(),
            lease: Period::secs(30),
            limit: Share(0.5),
            receiver: None,
            policies: Vec::new(),
        }
    }
}

impl Modes {
    /// The levels, checked when the configuration was loaded.
    pub fn levels(&self) -> Levels {
        Levels::new(self.levels.clone()).unwrap_or_default()
    }
}

/// While a firing alert matches, a service runs in a level.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Its name, for people; each once.
    pub name: String,
    /// Which alerts: a selector over their labels.
    pub when: SelectorText,
    /// Which service changes: a template over the alert's labels.
    #[serde(default = "default_service")]
    pub service: String,
    /// Into which level; not the first one.
    pub level: String,
    /// Flags and values that the service is told in this level.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub features: BTreeMap<String, serde_json::Value>,
    /// No change back before this long after the last change. `0`: any time.
    #[serde(default = "default_hold")]
    pub hold: Period,
    /// The alerts must be over for this long before the way back. `0`: at once.
    #[serde(default = "default_recover")]
    pub recover: Period,
}

fn default_service() -> String {
    "{{ service }}".into()
}

fn default_hold() -> Period {
    Period::secs(60)
}

fn default_recover() -> Period {
    Period::secs(120)
}
