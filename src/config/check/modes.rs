//! Levels, groups, and who is told how.

use std::collections::BTreeSet;

use crate::config::{Allowance, Config, Modes, Parts, Period, Share};
use crate::model::Levels;

use super::Checker;

pub(super) const HOUR: Period = Period::secs(3600);
pub(super) const DAY: Period = Period::secs(86_400);
/// Most bytes of an instruction's features as JSON: every watcher is sent them.
const MAX_FEATURES: usize = 16 << 10;

/// What policies may refer to; `None` where the file is too broken to know.
pub(super) struct Known<'a> {
    pub(super) levels: Option<Vec<&'a str>>,
    pub(super) groups: Vec<&'a str>,
    pub(super) tick: Period,
}

impl Checker<'_> {
    pub(super) fn modes(&mut self, config: &Config) {
        let modes = &config.modes;
        self.mode_periods(modes);
        if let Some(receiver) = &modes.receiver {
            let names = self.receiver_names();
            self.receiver_name("modes.receiver", receiver, &names);
        }
        let levels_known = self.levels(modes);
        self.groups(modes);
        self.mode_webhooks(modes);
        let known = Known {
            levels: levels_known.then(|| {
                modes
                    .levels
                    .iter()
                    .map(|level| level.name.as_str())
                    .collect()
            }),
            groups: modes.groups.keys().map(String::as_str).collect(),
            tick: config.window.tick,
        };
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
            self.policy(policy, &path, &known);
        }
        self.step_names(modes);
        if modes.limit == Share(0.0) && modes.policies.iter().any(|policy| !policy.dry_run) {
            self.warn(
                "modes.limit",
                "no policy changes anything: each only proposes what it would do",
                "meant for trying? `dry_run: true` of a policy does that for one alone",
            );
        }
    }

    fn mode_periods(&mut self, modes: &Modes) {
        let second = Period::secs(1);
        let minute = Period::secs(60);
        for (path, value, from, to) in [
            ("modes.lease", modes.lease, second, HOUR),
            (
                "modes.silence",
                modes.silence,
                minute,
                Period::secs(7 * 86_400),
            ),
            ("modes.settle", modes.settle, Period::default(), HOUR),
            (
                "modes.acknowledge.within",
                modes.acknowledge.within,
                Period::secs(5),
                DAY,
            ),
            (
                "modes.audit.keep",
                modes.audit.keep,
                HOUR,
                Period::secs(3650 * 86_400),
            ),
        ] {
            self.period(path, value, from, to);
        }
        let entries = modes.audit.entries;
        if !(1_000..=5_000_000).contains(&entries) {
            self.error(
                "modes.audit.entries",
                format!("must be from 1000 to 5000000, is {entries}"),
                "leave the key out for the default, 200000",
            );
        }
    }

    /// Whether their names can be relied on.
    fn levels(&mut self, modes: &Modes) -> bool {
        let mut seen = BTreeSet::new();
        for (at, level) in modes.levels.iter().enumerate() {
            let path = format!("modes.levels[{at}]");
            let name_path = match self.node(&format!("{path}.name")) {
                Some(_) => format!("{path}.name"),
                None => path.clone(),
            };
            self.name(&name_path, &level.name);
            if !seen.insert(&level.name) {
                let shown = self.shown(&name_path, &level.name);
                self.error(
                    &name_path,
                    format!("a second level is called `{shown}`"),
                    "each needs a name of its own",
                );
            }
            self.parts(&path, &level.parts);
            if at == 0 && !level.parts.is_empty() {
                self.warn(
                    &path,
                    format!(
                        "`{}` is where every service is most of the time, and asks for less than everything",
                        level.name
                    ),
                    "the first level is the normal one; leave it a plain name",
                );
            }
        }
        let known = !self.is_broken("modes.levels");
        let names: Vec<_> = modes
            .levels
            .iter()
            .map(|level| level.name.clone())
            .collect();
        if known && seen.len() == names.len() && Levels::new(names).is_none() {
            self.error(
                "modes.levels",
                "must be 2 to 16 different names, from normal to worst",
                "the default is [normal, degraded, critical]",
            );
        }
        known
    }

    fn groups(&mut self, modes: &Modes) {
        let named: BTreeSet<&str> = modes
            .policies
            .iter()
            .flat_map(|policy| {
                let steps = policy.steps.iter().map(|step| &step.group);
                steps.chain([&policy.group]).flatten().map(String::as_str)
            })
            .collect();
        for (name, group) in &modes.groups {
            let path = format!("modes.groups.{name}");
            self.name(&path, name);
            if group.services.is_empty() && !self.is_broken(&path) {
                self.error(
                    &format!("{path}.services"),
                    "names no service, so that the group has none",
                    "list regular expressions such as [gateway, \"web-.*\"]",
                );
            }
            for (at, service) in group.services.iter().enumerate() {
                let path = format!("{path}.services[{at}]");
                self.service_regex(&path, &service.0);
            }
            let is_nothing = |limit| match limit {
                Allowance::Count(count) => count == 0,
                Allowance::Share(share) => share == Share(0.0),
            };
            match group.limit {
                Some(limit) if is_nothing(limit) => self.warn(
                    &format!("{path}.limit"),
                    format!(
                        "no policy changes any service of `{name}`: all of it is only proposed"
                    ),
                    "the least that lets policies work is 1",
                ),
                None if !named.contains(name.as_str())
                    && !self.is_broken("modes.policies")
                    && !self.is_broken(&path) =>
                {
                    self.warn(
                        &path,
                        "is of no use: no policy names it, and it has no limit",
                        format!("give it a `limit`, or write `group: {name}` in a policy"),
                    );
                }
                Some(_) | None => {}
            }
        }
    }

    /// A regular expression over names of services.
    fn service_regex(&mut self, path: &str, text: &str) {
        if text.trim().is_empty() {
            self.error(
                path,
                "matches no service",
                "name one, or write `.*` for all",
            );
        }
    }

    fn mode_webhooks(&mut self, modes: &Modes) {
        for (at, hook) in modes.webhooks.iter().enumerate() {
            let path = format!("modes.webhooks[{at}]");
            self.service_regex(&format!("{path}.service"), &hook.service.0);
            let url_path = format!("{path}.url");
            // A name stands in for the template, so that the rest can be read.
            let without = ["{{ service }}", "{{service}}"]
                .iter()
                .fold(hook.url.clone(), |url, hole| url.replace(hole, "service"));
            if without.contains("{{") {
                self.error(
                    &url_path,
                    "only `{{ service }}` can stand in it",
                    "write the rest out",
                );
            } else if let Err(bad) = crate::config::secret::http_url(&without) {
                let hint = bad
                    .hint
                    .unwrap_or_else(|| "such as http://checkout:8080/tidewatch".into());
                self.error(&url_path, "is no URL that can be sent to", hint);
            }
            if hook.secret.is_some() {
                self.secret(&format!("{path}.secret"));
            } else if !self.is_broken(&path) {
                self.warn(
                    &path,
                    "is not signed: the service cannot tell who sent it",
                    "add `secret: \"${env:NAME}\"`",
                );
            }
        }
    }

    /// What services are told beside the level.
    pub(super) fn parts(&mut self, path: &str, parts: &Parts) {
        if let Some(quality) = &parts.quality {
            self.name(&format!("{path}.quality"), quality);
        }
        for name in parts.features.keys() {
            if name.trim().is_empty() {
                self.error(
                    &format!("{path}.features"),
                    "a feature has no name",
                    "write `name: value`",
                );
            } else if name.starts_with("tidewatch.") {
                self.error(
                    &format!("{path}.features"),
                    format!("the feature `{name}` is called as Tidewatch's own flags are"),
                    "leave out `tidewatch.`",
                );
            }
        }
        let length = serde_json::to_vec(&parts.features).map_or(0, |json| json.len());
        if length > MAX_FEATURES {
            self.error(
                &format!("{path}.features"),
                format!("are {length} bytes as JSON; at most {MAX_FEATURES} are sent"),
                "send what the service can look up by",
            );
        }
    }
}
