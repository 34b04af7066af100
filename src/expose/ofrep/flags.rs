use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};

use crate::model::{ModeState, Timestamp};
use crate::publish::ModesView;

/// Tidewatch's own flags: what a service is told beside features.
const OWN: [&str; 5] = [
    "tidewatch.level",
    "tidewatch.mode",
    "tidewatch.priority_floor",
    "tidewatch.quality",
    "tidewatch.shed",
];
/// The variant of a flag that leaves the value to the service's code. Some SDKs cannot do without one.
const CODE_DEFAULT: &str = "code-default";
/// Alerts whose explanations go out with a flag; a service in trouble may have very many.
const MOST_CAUSES: usize = 3;

/// What helps a person: booleans, texts and numbers only, as the protocol wants it.
pub(super) type Metadata = BTreeMap<&'static str, Value>;

/// Why a flag has the value that it has. The protocol has further ones that do not come from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum Reason {
    /// The service is told so.
    TargetingMatch,
    /// Known, but not in force for this service: its code's default holds.
    Disabled,
    /// The service is not known, or what it was told no longer holds: its code's default holds.
    Unknown,
}

/// One flag as it is answered.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Flag {
    pub(super) key: String,
    /// `None`: the default of the service's own code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) value: Option<Value>,
    pub(super) reason: Reason,
    pub(super) variant: String,
    pub(super) metadata: Metadata,
}

/// All flags of one service at one moment.
#[derive(Debug)]
pub(super) struct Flags {
    view: Arc<ModesView>,
    service: String,
    now: Timestamp,
}

impl Flags {
    pub(super) fn new(view: Arc<ModesView>, service: String, now: Timestamp) -> Self {
        Self { view, service, now }
    }

    /// Whether Tidewatch knows the service.
    pub(super) fn is_known(&self) -> bool {
        self.view.services.contains_key(&self.service)
    }

    /// What the service is told, while that holds.
    fn told(&self) -> Option<&ModeState> {
        let state = self.view.services.get(&self.service)?;
        (state.lease_expires_at > self.now).then_some(state)
    }

    /// The flag called `key`; `None`: nobody knows one.
    pub(super) fn one(&self, key: &str) -> Option<Flag> {
        let is_own = OWN.contains(&key);
        let told = self.told();
        let in_force = told.and_then(|state| state.instruction.features.get(key));
        let setters = self.view.known_features.get(key);
        if !is_own && in_force.is_none() && setters.is_none() {
            return None;
        }
        let mut metadata = self.metadata();
        let Some(state) = told else {
            return Some(Flag {
                key: key.into(),
                value: None,
                reason: Reason::Unknown,
                variant: CODE_DEFAULT.into(),
                metadata,
            });
        };
        let value = match is_own {
            true => own(key, state),
            false => in_force.cloned(),
        };
        // JSON's null is no value of any type that a flag may have.
        let value = value.filter(|value| !value.is_null());
        if value.is_none() {
            let setters = setters.map(|setters| setters.join(", "));
            metadata.extend(setters.map(|setters| ("set_by", setters.into())));
            let detail = format!("{} does not set it; the code's default holds", state.mode);
            metadata.insert("detail", detail.into());
        }
        Some(Flag {
            key: key.into(),
            reason: match value {
                Some(_) => Reason::TargetingMatch,
                None => Reason::Disabled,
            },
            variant: match value {
                Some(_) => state.mode.clone(),
                None => CODE_DEFAULT.into(),
            },
            value,
            metadata,
        })
    }

    /// Every flag there is, by key.
    pub(super) fn all(&self) -> Vec<Flag> {
        let told = self.told().into_iter();
        let in_force = told.flat_map(|state| state.instruction.features.keys());
        let keys: BTreeSet<&str> = in_force
            .chain(self.view.known_features.keys())
            .map(String::as_str)
            .chain(OWN)
            .collect();
        keys.into_iter().filter_map(|key| self.one(key)).collect()
    }

    /// What there is to say of the service: its mode, since when and why, and the number to acknowledge.
    pub(super) fn metadata(&self) -> Metadata {
        let mut metadata = Metadata::from([("service", Value::from(self.service.as_str()))]);
        let Some(state) = self.told() else {
            let detail = match self.is_known() {
                true => "the lease has run out; the code's default holds",
                false => "Tidewatch does not know this service; the code's default holds",
            };
            metadata.insert("detail", detail.into());
            return metadata;
        };
        metadata.extend([
            ("mode", Value::from(state.mode.as_str())),
            ("level", state.level.0.into()),
            ("since", state.since.to_string().into()),
            ("sequence", state.sequence.into()),
            ("override", state.manual.is_some().into()),
        ]);
        let cause = cause(state);
        if !cause.is_empty() {
            metadata.insert("cause", cause.into());
        }
        if let Some(end) = state.manual.as_ref().and_then(|manual| manual.expires_at) {
            metadata.insert("until", end.to_string().into());
        }
        if let Some(episode) = &state.episode {
            metadata.insert("episode", episode.as_str().into());
        }
        metadata
    }
}

/// The value of one of [`OWN`]; `None`: the service's own.
fn own(key: &str, state: &ModeState) -> Option<Value> {
    let instruction = &state.instruction;
    match key {
        "tidewatch.level" => Some(state.level.0.into()),
        "tidewatch.mode" => Some(state.mode.as_str().into()),
        "tidewatch.priority_floor" => Some(instruction.priority_floor.name().into()),
        "tidewatch.quality" => instruction.quality.as_deref().map(Value::from),
        // Always with a decimal point: typed SDKs tell 0.0 from 0.
        "tidewatch.shed" => Some(json!(instruction.shed)),
        _ => None,
    }
}

/// Why the service is in its mode, in words; empty for normal.
fn cause(state: &ModeState) -> String {
    if let Some(manual) = &state.manual {
        return format!("set by {}: {}", manual.author, manual.reason);
    }
    let mut causes: Vec<String> = state
        .why
        .iter()
        .take(MOST_CAUSES)
        .map(|reason| {
            format!(
                "{} by policy {}: {}",
                reason.alertname, reason.policy, reason.explanation
            )
        })
        .collect();
    match state.why.len().saturating_sub(MOST_CAUSES) {
        0 => {}
        more => causes.push(format!("and {more} more")),
    }
    causes.join("; ")
}
