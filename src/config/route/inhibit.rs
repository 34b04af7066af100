//! Alerts that make others superfluous.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::matchers::{MatcherText, RegexText};

/// While an alert fires that all conditions on the source hold for, alerts that all conditions on the target
/// hold for are not told.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct InhibitRule {
    /// Which alerts inhibit: `severity = critical`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub source_matchers: Vec<MatcherText>,
    /// Labels of those and the values they must have; an older form.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub source_match: BTreeMap<String, String>,
    /// Labels of those and regular expressions; an older form.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub source_match_re: BTreeMap<String, RegexText>,
    /// Which alerts are inhibited: `severity = warning`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub target_matchers: Vec<MatcherText>,
    /// Labels of those and the values they must have; an older form.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub target_match: BTreeMap<String, String>,
    /// Labels of those and regular expressions; an older form.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub target_match_re: BTreeMap<String, RegexText>,
    /// Labels in which the two must agree; absent in both is agreement. Empty: whatever they have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub equal: Vec<String>,
}
