use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Fingerprint, Judged, Labels, Measure, SeverityLabel, Timestamp};

/// What the explanation of an alert rests on, as facts. Records of before there were any have none.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Grounds {
    /// The deviation in one sentence.
    pub sentence: String,
    /// What number was judged.
    pub measure: Measure,
    /// Unit of the signal's own values, where the number judged is another one; may be empty.
    pub signal_unit: String,
    /// The signal's newest anomalous value, where the number judged is another one.
    pub present: Option<f64>,
    /// Least value of the episode's anomalous samples.
    pub least: Option<f64>,
    /// Greatest value of the episode's anomalous samples.
    pub greatest: Option<f64>,
    /// First anomalous sample since which all were, until the alert fired: the one that an episode begins
    /// with may be a chance one some ticks before.
    pub onset: Option<Timestamp>,
    /// Time of the newest anomalous sample.
    pub anomalous_until: Option<Timestamp>,
    /// How much time the baseline had seen, in seconds; 0 where the detector does not know.
    pub history_seconds: u64,
    /// At some sample of the episode no value in all of that time was this far out on its side.
    pub never_seen: bool,
    /// The level that was normal before, where the deviation has lasted until it became the normal one.
    pub relevelled_from: Option<f64>,
    /// The level that is normal since.
    pub relevelled_to: Option<f64>,
    /// How often it fired lately, where that is too often to tell each time; 0 where it is not.
    pub flaps: u32,
    /// Within so many seconds.
    pub flapping_seconds: u64,
    /// Other signals that moved at about the same time, the first first; at most eight.
    pub moved: Vec<Moved>,
    /// Attribute values that carry the change, where they tell what moved from what did not.
    pub carriers: Vec<Carrier>,
    /// A version that appeared shortly before.
    pub version: Option<Appeared>,
    /// Where it probably comes from.
    pub origin: Option<LikelyOrigin>,
    /// Of a service that is silent, its callers, where all of them have stopped calling it; else empty.
    pub uncalled_by: Vec<String>,
    /// Id of the incident that the alert is part of.
    pub incident: Option<String>,
    /// It ended because nothing more was heard of it, which says nothing about how the service is.
    pub silent: bool,
    /// Who called an earlier deviation of the same alert or signal normal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dismissed: Option<Dismissal>,
    /// What another system said, where the alert is its and not one of a rule here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reported: Option<Reported>,
}

/// "This was normal": what a person answered to an alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dismissal {
    /// Who.
    pub author: String,
    /// Why.
    pub comment: String,
    /// When.
    pub at: Timestamp,
}

/// What another system, Prometheus for one, said of an alert of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reported {
    /// Its annotations as they came.
    pub annotations: Labels,
    /// Where it is explained; may be empty.
    pub generator_url: String,
    /// It is over at this time unless it is reported again before.
    pub ends_at: Timestamp,
    /// Whether that time follows from there being none.
    pub is_timeout: bool,
    /// It was said to be over, but it flaps: it is held until that time.
    #[serde(default)]
    pub is_held: bool,
}

impl Grounds {
    /// Takes in what was judged of an anomalous sample at `time` with the value `observed`.
    pub fn note(&mut self, time: Timestamp, observed: f64, judged: &Judged) {
        let evidence = &judged.evidence;
        self.measure = evidence.measure;
        self.least = Some(self.least.map_or(observed, |least| least.min(observed)));
        self.greatest = Some(self.greatest.map_or(observed, |most| most.max(observed)));
        self.present = evidence.present;
        self.anomalous_until = self.anomalous_until.max(Some(time));
        // The detector learns from the episode too, and has seen the value once it was there.
        self.never_seen |= evidence.never_seen;
        self.history_seconds = self.history_seconds.max(evidence.history.as_secs());
    }
}

/// A signal that deviates at about the time of an alert.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Moved {
    /// Id of the signal; of several alike the one that moved most.
    pub signal_id: String,
    /// The service.
    pub service: String,
    /// Name of the metric.
    pub metric: String,
    /// Name of the signal.
    pub signal: String,
    /// Unit of the values; may be empty.
    pub unit: String,
    /// Attributes of the point, in text form.
    pub attributes: BTreeMap<String, String>,
    /// How many series with these attributes moved alike, such as those of several instances.
    pub series: u32,
    /// First sample of the deviation.
    pub since: Timestamp,
    /// The value before, or what was expected.
    pub usual: f64,
    /// Median of the samples since.
    pub value: f64,
    /// Largest deviation since, signed, in sigmas of the detector or of the median's spread.
    pub sigma: f64,
    /// Whether a rule watches it.
    pub watched: bool,
}

impl Moved {
    /// Change relative to the usual value: 0.5 is half as much again; `None` where that was 0.
    pub fn change(&self) -> Option<f64> {
        let change = (self.value - self.usual) / self.usual.abs();
        change.is_finite().then_some(change)
    }
}

/// Values of one attribute that a deviation is confined to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Carrier {
    /// The attribute: `service.instance.id`.
    pub attribute: String,
    /// Its values that moved, at most five.
    pub values: Vec<String>,
    /// How many values of it there are, those among them.
    pub of: u32,
    /// Whether there are more values than were looked at.
    pub sampled: bool,
}

/// A version of a service that was not there before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Appeared {
    /// The service.
    pub service: String,
    /// Its `service.version`.
    pub version: String,
    /// When something of it arrived first.
    pub first_seen: Timestamp,
}

/// The callee that a deviation probably comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LikelyOrigin {
    /// From the alert's own service to the callee.
    pub path: Vec<String>,
    /// Since when the callee deviates.
    pub since: Timestamp,
    /// Whether an alert says so; else it is known by signals that moved.
    pub alerted: bool,
}

impl LikelyOrigin {
    /// The callee.
    pub fn service(&self) -> &str {
        self.path.last().map_or("", String::as_str)
    }
}

/// What the engine is asked about the signals of one service.
#[derive(Debug, Clone, PartialEq)]
pub struct MovedQuestion {
    /// The service.
    pub service: String,
    /// About when the deviation began.
    pub since: Timestamp,
    /// Signals whose siblings are to be compared.
    pub subjects: Vec<Subject>,
}

/// A signal of which is asked who of its siblings moved with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Subject {
    /// Id of the signal, as on the API.
    pub signal_id: String,
    /// Name of its metric.
    pub metric: String,
    /// Whether it rose.
    pub above: bool,
}

/// What the engine answers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Movement {
    /// The service.
    pub service: String,
    /// Signals that moved, the first first; a few more than are shown, since some may be the alert's own.
    pub moved: Vec<Moved>,
    /// By id of the subject's signal; empty where it was looked and nothing separates what moved from what
    /// did not.
    pub carriers: BTreeMap<String, Vec<Carrier>>,
}

/// Alerts of one or more services that are told as one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// Identity; 16 hexadecimal digits.
    pub id: String,
    /// Whether anything of it still fires.
    pub state: IncidentState,
    /// First anomalous sample of all its alerts.
    pub since: Timestamp,
    /// When its last alert was resolved.
    pub resolved_at: Option<Timestamp>,
    /// The service that it probably began in.
    pub origin: String,
    /// All services that it has touched, by name.
    pub services: Vec<String>,
    /// Its alerts, the first first; at most 100.
    pub alerts: Vec<IncidentAlert>,
    /// Alerts that are not listed.
    pub alerts_omitted: usize,
    /// In a few sentences.
    pub explanation: String,
    /// What to do first.
    pub recommendation: String,
}

/// Whether an incident goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IncidentState {
    /// At least one of its alerts fires.
    Firing,
    /// All are resolved.
    Resolved,
}

/// One alert of an incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentAlert {
    /// Identity of the alert.
    pub fingerprint: Fingerprint,
    /// The rule's name.
    pub alertname: String,
    /// The service that it is about.
    pub service: String,
    /// Highest of the episode so far.
    pub severity: SeverityLabel,
    /// First anomalous sample.
    pub since: Timestamp,
    /// When it was resolved; `None` while it fires.
    pub resolved_at: Option<Timestamp>,
}
