//! Levels and policies.

use std::collections::BTreeSet;

use crate::config::diagnostic::suggest;
use crate::config::{Config, Period, Policy};
use crate::model::Levels;

use super::Checker;

impl Checker<'_> {
    pub(super) fn modes(&mut self, config: &Config) {
        let modes = &config.modes;
        self.period(
            "modes.lease",
            modes.lease,
            Period::secs(1),
            Period::secs(3600),
        );
        if let Some(receiver) = &modes.receiver {
            let names = self.receiver_names();
            self.receiver_name("modes.receiver", receiver, &names);
        }
        for (at, level) in modes.levels.iter().enumerate() {
            self.name(&format!("modes.levels[{at}]"), level);
        }
        let levels_known = !self.is_broken("modes.levels");
        if levels_known && Levels::new(modes.levels.clone()).is_none() {
            self.error(
                "modes.levels",
                "must be 2 to 16 different names, from normal to worst",
                "the default is [normal, degraded, critical]",
            );
        }
        let mut seen = BTreeSet::new();
        for (at, policy) in modes.policies.iter().enumerate() {
            let path = format!("modes.policies[{at}]");
            if !seen.insert(&policy.name) {
                let path = format!("{path}.name");
                let shown = self.shown(&path, &policy.name);
                self.error(
                    &path,
                    format!("a second policy is called `{shown}`"),
                    "each needs a name of its own",
                );
            }
            self.policy(policy, &path, levels_known.then_some(&modes.levels));
        }
    }

    fn policy(&mut self, policy: &Policy, path: &str, levels: Option<&Vec<String>>) {
        self.name(&format!("{path}.name"), &policy.name);
        self.template(&format!("{path}.service"), &policy.service);
        let day = Period::secs(86_400);
        self.period(&format!("{path}.hold"), policy.hold, Period::default(), day);
        self.period(
            &format!("{path}.recover"),
            policy.recover,
            Period::default(),
            day,
        );
        let Some(levels) = levels else { return };
        let level_path = format!("{path}.level");
        match levels.iter().position(|level| *level == policy.level) {
            Some(0) => self.error(
                &level_path,
                format!("`{}` is where every service is anyway", policy.level),
                suggest("", levels.iter().skip(1).map(String::as_str), "levels"),
            ),
            Some(_) => {}
            None => {
                let shown = self.shown(&level_path, &policy.level);
                self.error(
                    &level_path,
                    format!("unknown level `{shown}`"),
                    suggest(&policy.level, levels.iter().map(String::as_str), "levels"),
                );
            }
        }
    }
}
