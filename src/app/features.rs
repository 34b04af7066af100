use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::modes;

/// Every feature that a level or a policy may set, and what sets it, in words. Services ask for features that are not
/// in force at the moment, too, and are to be told so rather than that there is no such thing.
pub(super) fn known(settings: &modes::Settings) -> Arc<BTreeMap<String, Vec<String>>> {
    let mut known: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut set = |features: &BTreeMap<String, serde_json::Value>, setter: &str| {
        for feature in features.keys() {
            let setters = known.entry(feature.clone()).or_default();
            setters.insert(setter.to_owned());
        }
    };
    let levels = settings.levels.names().iter();
    for (level, instruction) in levels.zip(&settings.instructions) {
        set(&instruction.features, &format!("level {level}"));
    }
    for policy in &settings.policies {
        let setter = format!("policy {}", policy.name);
        set(&policy.instruction.features, &setter);
        for step in &policy.steps {
            set(&step.instruction.features, &setter);
        }
    }
    let listed = known
        .into_iter()
        .map(|(feature, setters)| (feature, setters.into_iter().collect()));
    Arc::new(listed.collect())
}
