//! Operating modes: which there are, what they mean, which alerts put which services into which, and how
//! that is kept safe.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::Levels;

use super::route::RegexText;
use super::secret::Secret;
use super::units::{Period, Share};

mod allowance;
mod level;
mod policy;

pub use allowance::Allowance;
pub use level::{Level, Parts, PriorityFloor};
pub use policy::{Effect, Otherwise, PlanStep, Policy, Step, Target};

/// Operating modes of services. Without policies every service stays in the first level, unless a person
/// sets a mode by hand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Modes {
    /// The levels, from normal to worst; 2 to 16. Each is a name, or a name with what the level means:
    /// `{name: degraded, features: {recommendations: false}, priority_floor: normal, quality: reduced, shed: 10%}`.
    pub levels: Vec<Level>,
    /// How long an instruction holds without being renewed: a service that hears nothing for this long goes
    /// back to its own default. 1s to 1h.
    pub lease: Period,
    /// Never more than this share of all services is away from normal at once by policies; one service may
    /// always be. Who finds no room is proposed to people. `0%`: policies only propose.
    pub limit: Share,
    /// Services under a common name, for policies and for limits of their own.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<String, Group>,
    /// What an alert asked for is let go when nothing was heard of its signal for so long: until then nobody
    /// knows, and nothing changes. 1m to 7d.
    pub silence: Period,
    /// After a start, a gap in the data or a jump of the clock automation changes nothing until it has
    /// watched data for so long, and for three ticks at least. Up to 1h.
    pub settle: Period,
    /// What services say of the mode they run in.
    pub acknowledge: Acknowledge,
    /// What is kept of decisions about modes.
    pub audit: Audit,
    /// Services that are told by a signed request to them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub webhooks: Vec<ModeWebhook>,
    /// Name of the receiver that is told of mode changes. Unset: that of the route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receiver: Option<String>,
    /// Which alerts lead to which level. Where several apply, the worst level wins.
    pub policies: Vec<Policy>,
}

impl Default for Modes {
    fn default() -> Self {
        Self {
            levels: Levels::default().names().iter().map(Level::named).collect(),
            lease: Period::secs(30),
            limit: Share(0.5),
            groups: BTreeMap::new(),
            silence: Period::secs(15 * 60),
            settle: Period::secs(30),
            acknowledge: Acknowledge::default(),
            audit: Audit::default(),
            webhooks: Vec::new(),
            receiver: None,
            policies: Vec::new(),
        }
    }
}

impl Modes {
    /// The names of the levels, checked when the configuration was loaded.
    pub fn levels(&self) -> Levels {
        let names = self.levels.iter().map(|level| level.name.clone());
        Levels::new(names.collect()).unwrap_or_default()
    }
}

/// Services under a common name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Its services: regular expressions, each of which a whole name must match.
    pub services: Vec<RegexText>,
    /// No more of them are away from normal at once by policies: a number of services (`1`) or a share of
    /// those that are known (`50%`). Unset: as many as `modes.limit` allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Allowance>,
}

/// What services say of the mode they run in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Acknowledge {
    /// How long a service that reports may do something else than it was told before the alert
    /// `ModeNotApplied` fires. 5s to 1d.
    pub within: Period,
}

impl Default for Acknowledge {
    fn default() -> Self {
        Self {
            within: Period::secs(120),
        }
    }
}

/// What is kept of decisions about modes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Audit {
    /// For how long. 1h to 10y.
    pub keep: Period,
    /// And how many entries at most, of acknowledgements and of everything else each; the oldest leave
    /// first. 1000 to 5000000.
    #[schemars(range(min = 1000, max = 5_000_000))]
    pub entries: u32,
}

impl Default for Audit {
    fn default() -> Self {
        Self {
            keep: Period::secs(90 * 86_400),
            entries: 200_000,
        }
    }
}

/// Services that are told their mode by a signed request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModeWebhook {
    /// Which services: a regular expression that the whole name must match.
    pub service: RegexText,
    /// Where they listen; `{{ service }}` in it stands for the service's name.
    pub url: String,
    /// The key that the request is signed with, as notifications of webhook receivers are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
}
