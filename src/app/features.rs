use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::modes;

/// Every feature that a policy may set, and what sets it, in words. Services ask for features that are not
/// in force at the moment, too, and are to be told so rather than that there is no such thing.
pub(super) fn known(settings: &modes::Settings) -> Arc<BTreeMap<String, Vec<String>>> {
    let mut known: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for policy in &settings.policies {
        let setter = format!("policy {}", policy.name);
        for feature in policy.features.keys() {
            let setters = known.entry(feature.clone()).or_default();
            setters.insert(setter.clone());
        }
    }
    let listed = known
        .into_iter()
        .map(|(feature, setters)| (feature, setters.into_iter().collect()));
    Arc::new(listed.collect())
}
