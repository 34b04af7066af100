//! When an alert comes and goes too often to tell each time.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::units::Period;

/// An alert that fired often lately is flapping: it is marked as such, and stays firing until it was calm for
/// `hold`, so that its comings and goings are one notification.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Flapping {
    /// An alert that fires so often `within` the time below flaps; 2 to 64. `0`: none ever does.
    pub fires: u32,
    /// See `fires`; 1m to 24h.
    pub within: Period,
    /// A flapping alert resolves once it was calm for so long; 1m to 24h.
    pub hold: Period,
}

impl Default for Flapping {
    fn default() -> Self {
        Self {
            fires: 3,
            within: Period::secs(3600),
            hold: Period::secs(15 * 60),
        }
    }
}
