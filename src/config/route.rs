//! Which receiver is told of which alerts, and how often. Alertmanager's words and meaning.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::receiver::LOG_RECEIVER;
use super::units::Period;

/// Which receiver gets the alerts, in which portions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Route {
    /// Name of the receiver; `log` is always there.
    pub receiver: String,
    /// Alerts that agree in these labels come in one notification. Empty: all alerts in one; `['...']`: each
    /// alert by itself; `[incident]`: one for each incident, over all services that it touches.
    pub group_by: Vec<String>,
    /// How long a new group waits for further alerts before it is first told. `0`: not at all.
    pub group_wait: Period,
    /// How long a group waits before changes to it are told. At least 1s.
    pub group_interval: Period,
    /// How often an unchanged group that still fires is told again. At least `group_interval`.
    pub repeat_interval: Period,
}

impl Default for Route {
    fn default() -> Self {
        Self {
            receiver: LOG_RECEIVER.into(),
            group_by: vec!["service".into()],
            group_wait: Period::secs(10),
            group_interval: Period::secs(5 * 60),
            repeat_interval: Period::secs(4 * 3600),
        }
    }
}
