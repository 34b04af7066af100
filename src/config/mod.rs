//! Configuration: a YAML file in, checked settings out, or every mistake with its line, column and a
//! hint.
//!
//! In: the text of a file, the environment, and what the rest of the daemon knows (detectors, how to
//! check a template). Out: [`Config`], one part per stage, in which nothing is left to check.
//!
//! Always holds: positions are those of the file, whatever variables and aliases put in; all mistakes
//! are reported at once; no secret and no value of a variable shows in a message or in the serialised
//! configuration.
//!
//! The way: `yaml` (text to a tree with places, variables put in) → `decode` (tree to the typed
//! settings below, by serde) → `check` (what several settings must fulfil together).

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model;

mod builtin;
mod check;
mod decode;
mod delivery;
mod diagnostic;
mod env;
mod flapping;
mod learning;
mod listen;
mod modes;
mod receiver;
mod route;
mod rule;
mod secret;
#[cfg(test)]
mod tests;
mod units;
mod yaml;

pub use builtin::builtin_rules;
pub use check::Known;
pub use decode::BadText;
pub use delivery::{Breaker, Concurrency, Delivery, Outbox, Retry};
pub use diagnostic::{Diagnostic, Diagnostics, Position, Severity};
pub use flapping::Flapping;
pub use learning::{Limits, Log, LogFormat, LogLevel, Storage, Window};
pub use listen::{Address, Auth, Basic, Cors, Http, HttpUrl, Listen, Otlp, Tls};
pub use modes::{
    Acknowledge, Allowance, Audit, Effect, Group, Level, ModeWebhook, Modes, Otherwise, Parts,
    PlanStep, Policy, PriorityFloor, Step, Target,
};
pub use receiver::{
    Alertmanager, Authorization, BasicAuth, Card, Email, Global, HostPort, HttpConfig,
    LOG_RECEIVER, LogFile, Opsgenie, PagerDuty, PagerDutyImage, PagerDutyLink, Receiver, Responder,
    Slack, SlackAction, SlackField, Teams, TemplateError, TemplateFile, TextKind, Texts, TimeZone,
    TlsConfig, Webhook, read_templates,
};
pub use route::{
    DayRange, InhibitRule, Location, MatcherText, MonthRange, RegexText, Route, Span, TimeInterval,
    TimeOfDay, TimeRange, WeekdayRange, YearRange,
};
pub use rule::{
    BurnRate, BurnSeverity, Direction, Hold, Objective, Resolve, Rule, RuleWindow, SelectorText,
    Sigma,
};
pub use secret::{Secret, SecretUrl};
pub use units::{ByteSize, Period, Quantity, Share};

/// The configuration of Tidewatch. Every key may be left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "Tidewatch configuration")]
pub struct Config {
    /// Where OTLP comes in, and its limits.
    pub otlp: Otlp,
    /// The port of the UI, the API, `/metrics`, the modes and health.
    pub http: Http,
    /// Durable state: where it is kept, and how often learning is written.
    pub storage: Storage,
    /// The past that each signal is compared with.
    pub window: Window,
    /// Bounds on what is kept.
    pub limits: Limits,
    /// Which signals are watched, how, and what a deviation is called. Absent: the built-in rules, which
    /// watch latency, errors, rate and values of everything. `[]`: none.
    pub rules: Vec<Rule>,
    /// When an alert comes and goes too often to tell each time.
    pub flapping: Flapping,
    /// What receivers take where they do not say themselves, and how long reports hold.
    pub global: Global,
    /// Files of templates that texts of receivers may include and import by name; `*` in the name stands
    /// for any characters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub templates: Vec<String>,
    /// Which receiver gets which alerts, in which portions. A `route` of Alertmanager means the same here.
    /// Absent: all go to `log`, by service.
    pub route: Route,
    /// Alerts that make others superfluous, as in Alertmanager.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inhibit_rules: Vec<InhibitRule>,
    /// Spans of time that routes refer to, as in Alertmanager.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub time_intervals: Vec<TimeInterval>,
    /// An older name of `time_intervals`; the two are one list.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mute_time_intervals: Vec<TimeInterval>,
    /// Those who can be told. `log` is always there.
    pub receivers: Vec<Receiver>,
    /// How notifications are delivered, and what happens when a receiver is in trouble.
    pub delivery: Delivery,
    /// Operating modes of services.
    pub modes: Modes,
    /// The daemon's own log, on standard error.
    pub log: Log,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            otlp: Otlp::default(),
            http: Http::default(),
            storage: Storage::default(),
            window: Window::default(),
            limits: Limits::default(),
            rules: builtin_rules(),
            flapping: Flapping::default(),
            route: Route::builtin(),
            inhibit_rules: Vec::new(),
            time_intervals: Vec::new(),
            mute_time_intervals: Vec::new(),
            global: Global::default(),
            templates: Vec::new(),
            receivers: Vec::new(),
            delivery: Delivery::default(),
            modes: Modes::default(),
            log: Log::default(),
        }
    }
}

impl Config {
    /// The rules as the pipeline takes them; a rule's `RuleId` is its position here. A table of objectives is
    /// as many rules as it has lines.
    pub fn model_rules(&self) -> Arc<[model::Rule]> {
        let window = self.window.spec();
        self.rules
            .iter()
            .flat_map(|rule| rule.to_models(window, self.window.tick))
            .collect()
    }

    /// Makes relative paths of receivers and templates ones below `base`, as Alertmanager takes them.
    fn below(&mut self, base: &Path) {
        self.global.below(base);
        for receiver in &mut self.receivers {
            receiver.below(base);
        }
        for pattern in &mut self.templates {
            *pattern = base.join(&*pattern).display().to_string();
        }
    }

    /// The configuration in force as YAML, defaults written out and secrets hidden: for people to read,
    /// not to load again.
    pub fn to_yaml(&self) -> String {
        let mut shown = self.clone();
        shown.route = shown.route.written_out();
        for rule in &mut shown.rules {
            rule.sigma = rule.has_sigma().then(|| rule.thresholds());
            rule.hold = Some(rule.holds());
        }
        serde_saphyr::to_string(&shown)
            .unwrap_or_else(|error| format!("# cannot be shown: {error}\n"))
    }

    /// What Alertmanager's tools read of a configuration, as YAML: routes, receivers by name, inhibition and
    /// time intervals; and behind it, in comments, the whole as [`Config::to_yaml`] shows it.
    pub fn to_alertmanager_yaml(&self) -> String {
        /// Keys in Alertmanager's order; `amtool` refuses any that it does not know.
        #[derive(Serialize)]
        struct Shown<'a> {
            route: Route,
            #[serde(skip_serializing_if = "Vec::is_empty")]
            inhibit_rules: &'a Vec<InhibitRule>,
            receivers: Vec<Named<'a>>,
            #[serde(skip_serializing_if = "Vec::is_empty")]
            time_intervals: Vec<&'a TimeInterval>,
        }
        #[derive(Serialize)]
        struct Named<'a> {
            name: &'a str,
        }
        let names = self.receivers.iter().map(|receiver| receiver.name.as_str());
        let log =
            (!self.receivers.iter().any(|one| one.name == LOG_RECEIVER)).then_some(LOG_RECEIVER);
        let shown = Shown {
            route: self.route.clone().written_out(),
            inhibit_rules: &self.inhibit_rules,
            receivers: names.chain(log).map(|name| Named { name }).collect(),
            time_intervals: self
                .time_intervals
                .iter()
                .chain(&self.mute_time_intervals)
                .collect(),
        };
        let mut text = serde_saphyr::to_string(&shown)
            .unwrap_or_else(|error| format!("# cannot be shown: {error}\n"));
        text.push_str("\n# The whole configuration in force:\n");
        for line in self.to_yaml().lines() {
            text.push_str("# ");
            text.push_str(line);
            text.push('\n');
        }
        text
    }
}

/// A configuration that can be used.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What was probably not meant: print it, and go on.
    pub warnings: Diagnostics,
    /// Whether it says itself how long a tick is (`window.tick`).
    pub sets_tick: bool,
}

/// Reads and checks the file at `path`.
///
/// # Errors
/// Everything that is wrong with it, warnings among them. Nothing is applied.
pub fn load(path: &Path, known: &Known) -> Result<Loaded, Diagnostics> {
    let file = path.display().to_string();
    let text = read(path).map_err(|message| {
        Diagnostics(vec![Diagnostic {
            file: file.clone(),
            at: None,
            severity: Severity::Error,
            path: String::new(),
            message,
            hint: None,
        }])
    })?;
    parse(&file, &text, &|name| std::env::var(name).ok(), known)
}

/// The file's text; a large file is refused before it is read.
fn read(path: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("cannot be read: {error}");
    let too_large = |bytes: u64| {
        format!(
            "is {bytes} bytes or more; at most {} are read",
            yaml::MAX_BYTES
        )
    };
    let limit = yaml::MAX_BYTES as u64;
    let file = std::fs::File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    if length > limit {
        return Err(too_large(length));
    }
    // A device or pipe says 0 bytes and gives any number.
    let mut bytes = Vec::new();
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(too_large(limit));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = error
            .as_bytes()
            .iter()
            .take(valid)
            .filter(|b| **b == b'\n')
            .count()
            + 1;
        format!("is not UTF-8 text; the first bad byte is in line {line}")
    })
}

/// Reads and checks the `text` of the file called `file`, with variables from `lookup`.
///
/// # Errors
/// Everything that is wrong with it, warnings among them.
pub fn parse(
    file: &str,
    text: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
    known: &Known,
) -> Result<Loaded, Diagnostics> {
    let (root, flaws) = yaml::parse(text, lookup);
    let skipped = flaws.iter().filter_map(|flaw| flaw.node).collect();
    let mut found: Vec<_> = flaws
        .into_iter()
        .map(|flaw| Diagnostic {
            file: file.into(),
            at: flaw.at,
            severity: Severity::Error,
            path: match (&root, flaw.node) {
                (Some(root), Some(node)) => decode::path_of(root, node),
                _ => String::new(),
            },
            message: flaw.message,
            hint: flaw.hint,
        })
        .collect();
    let Some(root) = root else {
        return Err(Diagnostics::sorted(found));
    };
    let decoded = decode::decode::<Config>(&root, text, skipped);
    found.extend(decoded.mistakes.into_iter().map(|mistake| Diagnostic {
        file: file.into(),
        at: Some(mistake.at),
        severity: Severity::Error,
        path: mistake.path,
        message: mistake.message,
        hint: mistake.hint,
    }));
    let mut config = decoded.value;
    if let Some(config) = &mut config {
        config.below(Path::new(file).parent().unwrap_or(Path::new("")));
    }
    if let Some(config) = &config {
        let place = check::Place {
            file,
            root: &root,
            skipped: &decoded.skipped,
        };
        found.extend(check::check(config, &place, known));
    }
    if let Some(config) = &mut config
        && config.window.duration.is_none()
    {
        // Written out, so that the configuration in force shows it.
        config.window.samples.get_or_insert(100);
    }
    let sets_tick = root.get("window").is_some_and(|w| w.get("tick").is_some());
    found.truncate(MAX_SHOWN);
    let found = Diagnostics::sorted(found);
    match config {
        Some(config) if found.errors() == 0 => Ok(Loaded {
            config,
            warnings: found,
            sets_tick,
        }),
        _ => Err(found),
    }
}

/// Most diagnostics of one file.
const MAX_SHOWN: usize = 200;

/// The JSON Schema of the configuration file, with descriptions and defaults.
pub fn schema() -> serde_json::Value {
    let schema = schemars::SchemaGenerator::default().into_root_schema_for::<Config>();
    schema.to_value()
}
