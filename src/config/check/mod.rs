//! What settings must fulfil beyond their types: ranges, and what they say of each other.

use std::collections::HashSet;

use crate::config::decode::path_of;
use crate::config::diagnostic::{Diagnostic, Severity};
use crate::config::yaml::{Node, NodeId, Value};
use crate::config::{Config, Period, TemplateFile, TextKind};

mod delivery;
mod integrations;
mod learning;
mod listening;
mod modes;
mod policies;
mod routing;
mod receivers;
mod rules;

/// What the configuration may refer to, known elsewhere in the daemon.
#[derive(Debug, Clone)]
pub struct Known {
    /// Names of the detectors.
    pub detectors: Vec<&'static str>,
    /// Says what is wrong with a template.
    pub template: fn(&str) -> Result<(), String>,
    /// Says what is wrong with a text of a receiver, which may use these files.
    pub text: fn(&[TemplateFile], TextKind, &str) -> Result<(), String>,
}

/// Where the settings stand in the file.
pub(in crate::config) struct Place<'a> {
    pub(in crate::config) file: &'a str,
    pub(in crate::config) root: &'a Node,
    /// What could not be read and so is not in the settings.
    pub(in crate::config) skipped: &'a HashSet<NodeId>,
}

/// Longest name of an alert, receiver, level or policy.
const MAX_NAME: usize = 200;

/// Everything that is wrong or suspicious.
pub(in crate::config) fn check(
    config: &Config,
    place: &Place<'_>,
    known: &Known,
) -> Vec<Diagnostic> {
    let mut checker = Checker {
        place,
        known,
        found: Vec::new(),
    };
    checker.listening(config);
    checker.learning(config);
    for (at, rule) in config.rules.iter().enumerate() {
        checker.rule(config, rule, &format!("rules[{at}]"));
    }
    checker.routing(config);
    checker.receivers(config);
    checker.delivery(config);
    checker.modes(config);
    checker.found
}

struct Checker<'a> {
    place: &'a Place<'a>,
    known: &'a Known,
    found: Vec<Diagnostic>,
}

impl Checker<'_> {
    fn report(&mut self, severity: Severity, path: &str, message: String, hint: Option<String>) {
        let (node, rest) = self.walk(path);
        // As the file counts, which may have elements that could not be read.
        let mut path = path_of(self.place.root, node.id);
        if !path.is_empty() && !rest.is_empty() {
            path.push('.');
        }
        path.push_str(rest);
        let at = Some(node.at);
        self.found.push(Diagnostic {
            file: self.place.file.into(),
            at,
            severity,
            path,
            message,
            hint,
        });
    }

    fn error(&mut self, path: &str, message: impl Into<String>, hint: impl Into<String>) {
        self.report(Severity::Error, path, message.into(), Some(hint.into()));
    }

    fn warn(&mut self, path: &str, message: impl Into<String>, hint: impl Into<String>) {
        self.report(Severity::Warning, path, message.into(), Some(hint.into()));
    }

    /// The node at `path`, or the nearest around it that stands in the file; and what of the path is left.
    fn walk<'p>(&self, path: &'p str) -> (&Node, &'p str) {
        let mut node = self.place.root;
        let mut rest = path;
        while !rest.is_empty() {
            let (segment, following) = rest.split_once('.').unwrap_or((rest, ""));
            let (key, index) = segment.split_once('[').unwrap_or((segment, ""));
            let mut found = node.get(key);
            if let Some(index) = index.strip_suffix(']') {
                // The settings hold only the elements that could be read.
                let read = |node: &&Node| !self.place.skipped.contains(&node.id);
                found = found
                    .zip(index.parse().ok())
                    .and_then(|(list, index)| list.elements().iter().filter(read).nth(index));
            }
            match found {
                Some(found) => node = found,
                None => break,
            }
            rest = following;
        }
        (node, rest)
    }

    /// The node at `path`; `None` when it does not stand in the file.
    fn node(&self, path: &str) -> Option<&Node> {
        let (node, rest) = self.walk(path);
        rest.is_empty().then_some(node)
    }

    /// A setting's value for a message: as it stands in the file, so that no variable shows.
    fn shown(&self, path: &str, value: &str) -> String {
        match self.node(path).map(|node| &node.value) {
            Some(Value::Scalar(scalar)) if scalar.substituted => scalar.raw.clone(),
            _ => value.to_owned(),
        }
    }

    /// Whether anything of the setting at `path` could not be read.
    fn is_broken(&self, path: &str) -> bool {
        fn any(node: &Node, skipped: &HashSet<NodeId>) -> bool {
            skipped.contains(&node.id)
                || match &node.value {
                    Value::Null | Value::Scalar(_) => false,
                    Value::List(list) => list.iter().any(|child| any(child, skipped)),
                    Value::Map(pairs) => pairs
                        .iter()
                        .any(|(key, child)| skipped.contains(&key.id) || any(child, skipped)),
                }
        }
        self.node(path)
            .is_some_and(|node| any(node, self.place.skipped))
    }

    fn period(&mut self, path: &str, value: Period, from: Period, to: Period) {
        if value < from || value > to {
            self.error(
                path,
                format!("must be from {from} to {to}, is {value}"),
                "choose a value in that range",
            );
        }
    }

    fn name(&mut self, path: &str, name: &str) {
        if name.trim().is_empty() {
            self.error(path, "must not be empty", "give it a name");
        } else if name.len() > MAX_NAME {
            self.error(
                path,
                format!("is longer than {MAX_NAME} bytes"),
                "shorten it",
            );
        }
    }

    fn template(&mut self, path: &str, text: &str) {
        if let Err(reason) = (self.known.template)(text) {
            self.error(
                path,
                format!("bad template: {reason}"),
                "templates look like \"{{ service }} is slow\"",
            );
        }
    }

    /// A secret that stands in the file itself.
    fn secret(&mut self, path: &str) {
        let value = self.node(path).map(|node| &node.value);
        let clear = matches!(value, Some(Value::Scalar(scalar)) if !scalar.substituted);
        if clear {
            self.warn(
                path,
                "a secret stands in clear in the file",
                "write \"${env:NAME}\" and set the variable where the daemon runs",
            );
        }
    }

    fn label_name(&mut self, path: &str, name: &str) {
        let is_start = |c: char| c.is_ascii_alphabetic() || c == '_';
        let good = name.starts_with(is_start)
            && !name.starts_with("__")
            && name.chars().all(|c| is_start(c) || c.is_ascii_digit());
        if !good {
            self.error(
                path,
                format!("`{name}` is no label name"),
                "letters, digits and _, no digit first and not __",
            );
        }
    }
}
