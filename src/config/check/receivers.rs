//! Receivers: names that exist, chains that end, secrets that are not in clear.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::config::diagnostic::suggest;
use crate::config::receiver::LOG_RECEIVER;
use crate::config::yaml::Node;
use crate::config::{
    Config, Global, Period, Receiver, Route, TemplateFile, TextKind, read_templates,
};

use super::Checker;

impl Checker<'_> {
    pub(super) fn receivers(&mut self, config: &Config) {
        let names = self.receiver_names();
        self.global(&config.global);
        let files = self.templates(&config.templates);
        if let Some(from) = &config.global.smtp_from {
            self.text("global.smtp_from", TextKind::Line, from, &files);
        }
        let mut seen = BTreeSet::new();
        for (at, receiver) in config.receivers.iter().enumerate() {
            let path = format!("receivers[{at}]");
            self.receiver(receiver, &path, &names, &mut seen, (&config.global, &files));
        }
        self.fallbacks(config);
        self.resolve_timeouts(config);
    }

    /// Another Alertmanager must hear of an alert again before it takes it for resolved.
    fn resolve_timeouts(&mut self, config: &Config) {
        for (at, receiver) in config.receivers.iter().enumerate() {
            let longest = longest_repeat(&config.route, ("", Period::default()), &receiver.name);
            for (n, one) in receiver.alertmanager_configs.iter().enumerate() {
                if longest >= one.resolve_timeout {
                    self.warn(
                        &format!("receivers[{at}].alertmanager_configs[{n}].resolve_timeout"),
                        format!(
                            "it takes alerts for resolved after {}, and they are told again only after {longest}",
                            one.resolve_timeout
                        ),
                        "make it a multiple of `repeat_interval`",
                    );
                }
            }
        }
    }

    /// The files of templates, as far as they can be read.
    fn templates(&mut self, patterns: &[String]) -> Vec<TemplateFile> {
        let files = match read_templates(Path::new(""), patterns) {
            Ok(files) => files,
            Err(error) => {
                let path = format!("templates[{}]", error.at);
                self.error(&path, error.reason, "a path beside the configuration");
                return Vec::new();
            }
        };
        for at in 0..patterns.len() {
            if !files.iter().any(|file| file.at == at) {
                let path = format!("templates[{at}]");
                self.warn(
                    &path,
                    "names no file",
                    "the path is relative to the configuration's",
                );
            }
        }
        for file in &files {
            if let Err(reason) = (self.known.text)(&files, TextKind::Plain, &file.text) {
                self.error(
                    &format!("templates[{}]", file.at),
                    format!("`{}`: bad template: {reason}", file.name),
                    "see docs/receivers.md for what templates may say",
                );
            }
        }
        files
    }

    fn text(&mut self, path: &str, kind: TextKind, text: &str, files: &[TemplateFile]) {
        if let Err(reason) = (self.known.text)(files, kind, text) {
            let (reason, hint) = reason.split_once('\n').unwrap_or((
                &reason,
                "templates look like \"{{ status }}: {{ common_labels.alertname }}\"",
            ));
            self.error(path, format!("bad template: {reason}"), hint);
        }
    }

    /// Names as the file has them: a receiver with a mistake in it is still known.
    pub(super) fn receiver_names(&self) -> BTreeSet<String> {
        let receivers = self.place.root.get("receivers");
        let receivers = receivers.map_or(&[][..], Node::elements);
        let names = receivers
            .iter()
            .filter_map(|receiver| Some(receiver.get("name")?.text()?.to_owned()));
        names.chain([LOG_RECEIVER.to_owned()]).collect()
    }

    pub(super) fn receiver_name(&mut self, path: &str, name: &str, names: &BTreeSet<String>) {
        if !names.contains(name) {
            let shown = self.shown(path, name);
            self.error(
                path,
                format!("unknown receiver `{shown}`"),
                suggest(name, names.iter().map(String::as_str), "receivers"),
            );
        }
    }

    fn receiver<'c>(
        &mut self,
        receiver: &'c Receiver,
        path: &str,
        names: &BTreeSet<String>,
        seen: &mut BTreeSet<&'c str>,
        (global, files): (&Global, &[TemplateFile]),
    ) {
        let name_path = format!("{path}.name");
        self.name(&name_path, &receiver.name);
        if receiver.name == LOG_RECEIVER {
            self.error(
                &name_path,
                "the receiver `log` is built in",
                "choose another name",
            );
        } else if !seen.insert(&receiver.name) {
            let shown = self.shown(&name_path, &receiver.name);
            self.error(
                &name_path,
                format!("a second receiver is called `{shown}`"),
                "each needs a name of its own",
            );
        }
        if receiver.is_empty() && !self.is_broken(path) {
            self.warn(path, "tells nobody", "add `webhook_configs`");
        }
        if let Some(fallback) = &receiver.fallback {
            self.receiver_name(&format!("{path}.fallback"), fallback, names);
        }
        self.integrations(receiver, global, path);
        for (key, kind, text) in receiver.texts() {
            self.text(&format!("{path}.{key}"), kind, text, files);
        }
    }

    /// A chain of fallbacks must end.
    fn fallbacks(&mut self, config: &Config) {
        let next: BTreeMap<&str, &str> = config
            .receivers
            .iter()
            .filter_map(|receiver| Some((receiver.name.as_str(), receiver.fallback.as_deref()?)))
            .collect();
        for (at, receiver) in config.receivers.iter().enumerate() {
            let mut name = receiver.name.as_str();
            for _ in 0..next.len() {
                match next.get(name) {
                    Some(following) => name = following,
                    None => break,
                }
                if name == receiver.name {
                    self.error(
                        &format!("receivers[{at}].fallback"),
                        "leads back to this receiver",
                        "let the last of the chain fall back to `log`",
                    );
                    break;
                }
            }
        }
    }
}

/// The longest `repeat_interval` of the routes to `receiver`; `around` are the receiver and the interval of
/// the route around this one.
fn longest_repeat(route: &Route, around: (&str, Period), receiver: &str) -> Period {
    let own = (
        route.receiver.as_deref().unwrap_or(around.0),
        route.repeat_interval.unwrap_or(around.1),
    );
    let here = match own.0 == receiver {
        true => own.1,
        false => Period::default(),
    };
    let below = route
        .routes
        .iter()
        .map(|route| longest_repeat(route, own, receiver));
    below.fold(here, Period::max)
}
