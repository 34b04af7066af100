//! Any text as a configuration: an answer, and what is accepted can be shown.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidewatch::config::{self, Known};

fuzz_target!(|text: &str| {
    let known = Known {
        detectors: vec!["robust", "zscore", "threshold"],
        template: |_| Ok(()),
        text: |_, _, _| Ok(()),
    };
    let lookup = |name: &str| (name.len() < 4).then(|| format!("{name}: [x"));
    if let Ok(loaded) = config::parse("fuzz.yaml", text, &lookup, &known) {
        assert!(!loaded.config.to_yaml().is_empty());
        assert_eq!(loaded.config.model_rules().len(), loaded.config.rules.len());
    }
});
