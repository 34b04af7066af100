use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use crate::modes;

/// Every feature that a level or a policy may set, and what sets it, in words. Services ask for features
/// that are not in force at the moment, too, and are to be told so rather than that there is no such
/// thing.
pub(super) fn known(settings: &modes::Settings) -> Arc<BTreeMap<String, Vec<String>>> {
    let mut known: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut set_by = |setter: String, features: &BTreeMap<String, Value>| {
        for feature in features.keys() {
            let setters = known.entry(feature.clone()).or_default();
            setters.insert(setter.clone());
        }
    };
    for (name, level) in settings.levels.names().iter().zip(&settings.instructions) {
        set_by(format!("level {name}"), &level.features);
    }
    for policy in &settings.policies {
        let own = [&policy.instruction].into_iter();
        let steps = policy.steps.iter().map(|step| &step.instruction);
        for parts in own.chain(steps) {
            set_by(format!("policy {}", policy.name), &parts.features);
        }
    }
    let listed = known
        .into_iter()
        .map(|(feature, setters)| (feature, setters.into_iter().collect()));
    Arc::new(listed.collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::known;
    use crate::config;

    #[test]
    fn levels_policies_and_steps_make_features_known() {
        let config = r#"
modes:
  levels:
    - normal
    - {name: degraded, features: {recommendations: false}}
  policies:
    - {name: slow, when: '{alertname="A"}', service: "{{ service }}", level: degraded,
       features: {recommendations: true, max_steps: 1}}
    - name: plan
      when: '{alertname="B"}'
      steps:
        - {service: gateway, level: degraded, features: {cache_only: true}}
"#;
        let found = config::parse("t.yaml", config, &|_| None, &crate::app::known());
        let config = found.expect("a configuration").config;
        let settings = super::super::settings::modes(&config).expect("settings");
        let expected = json!({
            "cache_only": ["policy plan"],
            "max_steps": ["policy slow"],
            "recommendations": ["level degraded", "policy slow"],
        });
        assert_eq!(
            serde_json::to_value(&*known(&settings)).expect("JSON"),
            expected
        );
    }
}
