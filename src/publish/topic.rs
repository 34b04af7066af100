use std::ops::BitOr;
use std::sync::Arc;

use crate::model::EventBody;

/// The names of all kinds of events, in the order of their bits.
const NAMES: [&str; 9] = [
    "alert",
    "mode",
    "freeze",
    "proposal",
    "acknowledged",
    "episode",
    "plan",
    "silence",
    "dismissed",
];

/// A set of kinds of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kinds(u16);

impl Kinds {
    /// None.
    pub const NONE: Self = Self(0);
    /// Every kind.
    pub const ALL: Self = Self((1 << NAMES.len()) - 1);
    /// Alerts that changed their state.
    pub const ALERT: Self = Self(1);
    /// Changes of modes.
    pub const MODE: Self = Self(1 << 1);
    /// What services are told: changes of modes, and the kill switch.
    pub const MODES: Self = Self(0b110);

    /// The kind of one event.
    pub fn of(body: &EventBody) -> Self {
        Self(match body {
            EventBody::Alert { .. } => 1,
            EventBody::Mode(_) => 1 << 1,
            EventBody::Freeze { .. } => 1 << 2,
            EventBody::Proposal { .. } => 1 << 3,
            EventBody::Acknowledged { .. } => 1 << 4,
            EventBody::Episode { .. } => 1 << 5,
            EventBody::Plan { .. } => 1 << 6,
            EventBody::Silence { .. } => 1 << 7,
            EventBody::Dismissed { .. } => 1 << 8,
        })
    }

    /// The kinds named in `text`, with commas between them.
    ///
    /// # Errors
    /// One of the names is none, or there is none at all.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut kinds = Self::NONE;
        for name in text.split(',').map(str::trim) {
            let at = NAMES.iter().position(|known| *known == name);
            let at = at.ok_or_else(|| {
                format!(
                    "there are no events of type `{name}`; there are {}",
                    NAMES.join(", ")
                )
            })?;
            kinds = kinds | Self(1 << at);
        }
        Ok(kinds)
    }

    /// Whether all of `other` are among these.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Kinds {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What a watcher of events wants to hear of. What concerns all services is part of every service's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Only what is about this service; `None`: about any.
    pub service: Option<Arc<str>>,
    /// Only events of these kinds.
    pub kinds: Kinds,
}

impl Topic {
    /// Everything.
    pub const ALL: Self = Self {
        service: None,
        kinds: Kinds::ALL,
    };

    /// Whether an event of `kind`, about `service` or about all, is part of it.
    pub(super) fn has(&self, kind: Kinds, service: Option<&str>) -> bool {
        let about = match (&self.service, service) {
            (Some(wanted), Some(service)) => **wanted == *service,
            (Some(_), None) | (None, _) => true,
        };
        about && self.kinds.contains(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::Kinds;

    #[test]
    fn kinds_are_read_by_name() {
        assert_eq!(Kinds::parse("mode, freeze"), Ok(Kinds::MODES));
        let all = super::NAMES.join(",");
        assert_eq!(Kinds::parse(&all), Ok(Kinds::ALL));
        for wrong in ["", "modes", "mode,", "Mode"] {
            let error = Kinds::parse(wrong).unwrap_err();
            assert!(error.contains("there are alert, mode,"), "{error}");
        }
    }
}
