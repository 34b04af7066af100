//! What is kept: where, how much of the past, and how much in all; and how the daemon speaks of itself.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::WindowSpec;

use super::units::{ByteSize, Period};

/// Durable state: where it is kept, and how often learning is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Storage {
    /// The directory; it is created. A relative path counts from where the daemon was started.
    pub path: PathBuf,
    /// How often learning is written to disk: a crash loses at most this much of it, or 50 times the CPU time
    /// that writing it took where that is longer, since it may cost 2 % of a core (of a million series that
    /// is some minutes). Alerts and modes are always written before they are told, and what a person has
    /// taught at once. At least 1s.
    pub snapshot_interval: Period,
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            path: "./tidewatch-data".into(),
            snapshot_interval: Period::secs(30),
        }
    }
}

/// The past that each signal is compared with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// The last so many samples, 2 to 10000. Default 100, unless `duration` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(default = "default_samples", range(min = 2, max = 10_000))]
    pub samples: Option<u32>,
    /// Instead of `samples`: the samples of the last so long, at least two ticks, and never more than
    /// 10000 of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<Period>,
    /// Length of a tick: each signal yields one sample a tick. 100ms to 1h. Shorter sees more and is noisier.
    #[serde(default = "default_tick")]
    pub tick: Period,
    /// A signal without data for so long is forgotten. At least ten ticks. Longer costs memory where
    /// attribute values come and go.
    #[serde(default = "default_idle_after")]
    pub idle_after: Period,
}

fn default_samples() -> Option<u32> {
    Some(100)
}

fn default_tick() -> Period {
    Period::secs(10)
}

fn default_idle_after() -> Period {
    Period::secs(3600)
}

impl Default for Window {
    fn default() -> Self {
        Self {
            samples: default_samples(),
            duration: None,
            tick: default_tick(),
            idle_after: default_idle_after(),
        }
    }
}

impl Window {
    /// The window of signals whose rule sets none of its own.
    pub fn spec(&self) -> WindowSpec {
        match self.duration {
            Some(duration) => WindowSpec::Duration(duration.0),
            None => WindowSpec::Samples(self.samples.unwrap_or(100)),
        }
    }
}

/// Bounds on what is kept. Known series go on when a bound is reached; new ones are refused or folded
/// into one overflow series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Most series of all services together. At least 1.
    pub series: u64,
    /// Most series of one service, so that one cannot take the room of all. At least 1.
    pub series_per_service: u64,
    /// Most services. At least 1.
    pub services: u64,
    /// Above this much memory new data is refused with an answer that clients retry. A quarter of it is
    /// the room for requests in work. At least 64MiB.
    pub memory: ByteSize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            series: 1_000_000,
            series_per_service: 100_000,
            services: 10_000,
            memory: ByteSize(2 << 30),
        }
    }
}

/// The daemon's own log, on standard error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `text` for people, `json` for machines.
    pub format: LogFormat,
    /// From which level on. The environment variable `RUST_LOG` wins over it.
    pub level: LogLevel,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            level: LogLevel::Info,
        }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// A line for people.
    Text,
    /// A JSON object a line.
    Json,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What somebody has to look at.
    Error,
    /// And what may become that.
    Warn,
    /// And what happened.
    Info,
    /// And how.
    Debug,
    /// And every step.
    Trace,
}

impl LogLevel {
    /// Its name, as `tracing` filters know it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}
