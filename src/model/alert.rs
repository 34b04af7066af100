use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Grounds, Labels, Reported, SeverityLabel, Timestamp};

/// Identifies an alert: a hash of its labels without `severity`, so that an alert which grows worse
/// stays the same alert. Shown as 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(pub u64);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match u64::from_str_radix(text, 16) {
            Ok(hash) if text.len() == 16 && !text.starts_with('+') => Ok(Self(hash)),
            _ => Err(format!(
                "`{text}` is not a fingerprint: 16 hexadecimal digits"
            )),
        }
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// Where an alert stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertState {
    /// The condition holds, but not yet for long enough.
    Pending,
    /// It fires.
    Firing,
    /// It is over.
    Resolved,
}

impl AlertState {
    /// `pending`, `firing` or `resolved`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

/// One alert: a rule's condition on one signal, over time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Its identity.
    pub fingerprint: Fingerprint,
    /// `alertname`, `service`, `metric`, `signal`, `severity`, the point's attributes as label names,
    /// and the rule's own.
    pub labels: Labels,
    /// Texts for people: the rule's (rendered), `explanation`, `recommendation`, and the numbers below.
    pub annotations: Labels,
    /// Where it stands.
    pub state: AlertState,
    /// Highest severity label of the episode; equals the label `severity`.
    pub severity: SeverityLabel,
    /// 0.0 to 1.0, the highest of the episode; see [`super::severity`].
    pub severity_score: f64,
    /// The service it is about.
    pub service: String,
    /// Id of the signal, as on the API.
    pub signal_id: String,
    /// Unit of `observed`, `expected`, `lower` and `upper`; may be empty.
    pub unit: String,
    /// The latest anomalous value.
    pub observed: f64,
    /// What was expected then.
    pub expected: f64,
    /// Lower end of the band then; `-inf`, in JSON `null`, where there is none.
    #[serde(with = "lower_end")]
    pub lower: f64,
    /// Upper end of the band then; `inf`, in JSON `null`, where there is none.
    #[serde(with = "upper_end")]
    pub upper: f64,
    /// Sigma of `observed`, signed.
    pub sigma: f64,
    /// Largest |sigma| of the episode, signed.
    pub worst_sigma: f64,
    /// How many anomalous samples the episode has had.
    pub anomalous_samples: u32,
    /// First anomalous sample of the episode.
    pub since: Timestamp,
    /// When it began to fire; `None` while pending.
    pub fired_at: Option<Timestamp>,
    /// When it was resolved.
    pub resolved_at: Option<Timestamp>,
    /// Time of the latest sample it has seen.
    pub updated_at: Timestamp,
    /// A trace that shows it, as 32 hexadecimal digits.
    pub trace_id: Option<String>,
    /// What its explanation rests on.
    #[serde(default)]
    pub grounds: Box<Grounds>,
}

impl Alert {
    /// When the deviation began for good; see [`Grounds::onset`].
    pub fn onset(&self) -> Timestamp {
        self.grounds.onset.unwrap_or(self.since)
    }

    /// What another system said of it; `None`: it is one of a rule here.
    pub fn reported(&self) -> Option<&Reported> {
        self.grounds.reported.as_ref()
    }

    /// Where people see what it rests on: its signal's page under `base` (without a slash at the end), or
    /// what the system that reported it says; may be empty then.
    pub fn generator_url(&self, base: &str) -> String {
        match self.reported() {
            Some(reported) => reported.generator_url.clone(),
            None => format!("{base}/#{}", self.signal_id),
        }
    }

    /// The rule's name.
    pub fn name(&self) -> &str {
        self.labels.get("alertname").unwrap_or_default()
    }
}

/// JSON has no infinity: a band that is open at one side has `null` there.
macro_rules! open_end {
    ($module:ident, $infinity:expr) => {
        mod $module {
            use serde::{Deserialize, Deserializer, Serialize, Serializer};

            pub(super) fn serialize<S: Serializer>(
                end: &f64,
                serializer: S,
            ) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    end.is_finite().then_some(end).serialize(serializer)
                } else {
                    end.serialize(serializer)
                }
            }

            pub(super) fn deserialize<'de, D: Deserializer<'de>>(
                deserializer: D,
            ) -> Result<f64, D::Error> {
                if deserializer.is_human_readable() {
                    Ok(Option::deserialize(deserializer)?.unwrap_or($infinity))
                } else {
                    f64::deserialize(deserializer)
                }
            }
        }
    };
}

open_end!(lower_end, f64::NEG_INFINITY);
open_end!(upper_end, f64::INFINITY);

/// An alert as another system reports it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PostedAlert {
    /// Who it is. Labels without a value count as absent.
    pub labels: Labels,
    /// What is said of it.
    pub annotations: Labels,
    /// Since when; `None`: not said.
    pub starts_at: Option<Timestamp>,
    /// Until when, if it is not reported again before; `None`: not said.
    pub ends_at: Option<Timestamp>,
    /// Where it is explained; may be empty.
    pub generator_url: String,
}

/// An alert that moved from one state to another. `to` is `alert.state`.
#[derive(Debug, Clone)]
pub struct Transition {
    /// The state before; `None` when it is new.
    pub from: Option<AlertState>,
    /// The alert afterwards.
    pub alert: Arc<Alert>,
    /// When.
    pub at: Timestamp,
}
