//! Silences: what people do not want to be told of for a while, as Alertmanager keeps them.

mod index;
mod store;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::ser::SerializeStruct as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{SilenceId, Silencer};
use crate::model::{Labels, MatchOp, Matcher, Timestamp};
use index::Index;

/// Most conditions of one silence.
const MAX_MATCHERS: usize = 64;

/// Alerts that are not notified for a while.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Silence {
    /// Its identity.
    pub id: SilenceId,
    /// All of them hold for the labels of an alert that it silences.
    #[serde(with = "conditions")]
    pub matchers: Vec<Matcher>,
    /// From then on …
    pub starts_at: Timestamp,
    /// … until then, exclusive.
    pub ends_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// Who made it; may be empty.
    pub created_by: String,
    /// Why; may be empty.
    pub comment: String,
}

/// Where a silence stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SilenceState {
    /// It silences.
    Active,
    /// It has not begun.
    Pending,
    /// It is over.
    Expired,
}

impl SilenceState {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Active, Self::Pending, Self::Expired];

    /// `active`, `pending` or `expired`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Pending => "pending",
            Self::Expired => "expired",
        }
    }
}

impl Silence {
    /// Where it stands at `now`.
    pub fn state(&self, now: Timestamp) -> SilenceState {
        if now >= self.ends_at {
            SilenceState::Expired
        } else if now < self.starts_at {
            SilenceState::Pending
        } else {
            SilenceState::Active
        }
    }

    /// Whether all conditions hold for `labels`, whatever the time.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.matchers
            .iter()
            .all(|matcher| matcher.matches(labels.get(&matcher.name).unwrap_or_default()))
    }

    /// How much text it holds.
    fn bytes(&self) -> usize {
        let matchers = self.matchers.iter();
        matchers
            .map(|m| m.name.len() + m.value.len())
            .sum::<usize>()
            + self.created_by.len()
            + self.comment.len()
    }
}

/// What somebody wants silenced.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The silence to change; `None`: a new one.
    pub id: Option<SilenceId>,
    /// All of them must hold; at least one of them must not hold for an absent label.
    pub matchers: Vec<Matcher>,
    /// From when on; a time in the past means from now on.
    pub starts_at: Timestamp,
    /// Until when.
    pub ends_at: Timestamp,
    /// Who wants it.
    pub created_by: String,
    /// Why.
    pub comment: String,
}

/// Why a silence was not set. The words are Alertmanager's, since its clients show them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SilenceError {
    /// There is none of that id.
    #[error("silence not found")]
    NotFound,
    /// It would silence nothing that is meant, or ends before it begins.
    #[error("{0}")]
    Invalid(String),
    /// There are as many as there may be.
    #[error("exceeded maximum number of silences: {count} (limit: {limit})")]
    Full {
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
}

/// Bounds of [`Silences`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SilenceSettings {
    /// How long a silence is still shown after its end; default 120 hours, as in Alertmanager.
    pub retention: Duration,
    /// How many there may be, expired ones among them; default 10,000.
    pub max_silences: usize,
    /// How much text one may hold: its conditions, creator and comment; default 16 KiB.
    pub max_bytes: usize,
}

impl Default for SilenceSettings {
    fn default() -> Self {
        Self {
            retention: Duration::from_hours(120),
            max_silences: 10_000,
            max_bytes: 16 * 1024,
        }
    }
}

/// All silences.
///
/// What is done to them is durable once [`Silences::changes`] is. A silence is never changed in what it
/// has silenced already: where an update would, the silence ends and another one begins.
#[derive(Debug, Clone, Default)]
pub struct Silences {
    settings: SilenceSettings,
    all: BTreeMap<SilenceId, Arc<Silence>>,
    index: Index,
    journal: store::Journal,
}

impl Silences {
    /// Without any.
    pub fn new(settings: SilenceSettings) -> Self {
        Self {
            settings,
            ..Self::default()
        }
    }

    /// Makes a silence, or changes the one that the draft names. `new` is the id that it gets where it is
    /// another one afterwards; it must be one that was never used. Returns its id.
    ///
    /// # Errors
    /// See [`SilenceError`]; nothing has changed then.
    pub fn set(
        &mut self,
        now: Timestamp,
        draft: Draft,
        new: SilenceId,
    ) -> Result<SilenceId, SilenceError> {
        check_times(now, &draft)?;
        let before = match draft.id {
            None => None,
            Some(id) => Some(self.get(id).cloned().ok_or(SilenceError::NotFound)?),
        };
        let mut silence = Silence {
            id: new,
            matchers: draft.matchers,
            starts_at: draft.starts_at,
            ends_at: draft.ends_at,
            updated_at: now,
            created_by: draft.created_by,
            comment: draft.comment,
        };
        self.check(&silence)?;
        if let Some(before) = &before
            && can_become(before, &silence, now)
        {
            silence.id = before.id;
            self.put(silence);
            return Ok(before.id);
        }
        if self.all.len() >= self.settings.max_silences {
            return Err(SilenceError::Full {
                count: self.all.len(),
                limit: self.settings.max_silences,
            });
        }
        if let Some(before) = before
            && before.state(now) != SilenceState::Expired
        {
            self.end(now, Silence::clone(&before));
        }
        silence.starts_at = silence.starts_at.max(now);
        self.put(silence);
        Ok(new)
    }

    /// Ends a silence now. One that is over stays as it is.
    ///
    /// # Errors
    /// There is none of that id.
    pub fn expire(&mut self, now: Timestamp, id: SilenceId) -> Result<(), SilenceError> {
        let silence = self.get(id).ok_or(SilenceError::NotFound)?;
        if silence.state(now) != SilenceState::Expired {
            let silence = Silence::clone(silence);
            self.end(now, silence);
        }
        Ok(())
    }

    /// The silence of that id.
    pub fn get(&self, id: SilenceId) -> Option<&Arc<Silence>> {
        self.all.get(&id)
    }

    /// All of them by id, also those that are over.
    pub fn list(&self) -> impl ExactSizeIterator<Item = &Arc<Silence>> {
        self.all.values()
    }

    /// Ids of the silences that are active at `now` and hold for `labels`, sorted. Those that ask for a
    /// label's very value are found by it; the others are looked at one by one.
    pub fn matching(&self, labels: &Labels, now: Timestamp) -> Vec<SilenceId> {
        let mut found: Vec<_> = self
            .index
            .candidates(labels)
            .filter(|id| {
                let silence = self.all.get(id);
                silence.is_some_and(|silence| {
                    silence.state(now) == SilenceState::Active && silence.matches(labels)
                })
            })
            .collect();
        found.sort_unstable();
        found
    }

    /// Forgets those that were over for as long as they are kept.
    pub fn collect(&mut self, now: Timestamp) {
        let retention = self.settings.retention;
        let old: Vec<_> = self
            .all
            .values()
            .filter(|silence| silence.ends_at.plus(retention) <= now)
            .map(|silence| silence.id)
            .collect();
        for id in old {
            if let Some(silence) = self.all.remove(&id) {
                self.index.remove(&silence);
            }
            self.journal.changed(id);
        }
    }

    /// When one of them begins, ends, or is to be forgotten next after `now`. `O(silences)`.
    pub fn next_deadline(&self, now: Timestamp) -> Option<Timestamp> {
        let retention = self.settings.retention;
        self.all
            .values()
            .flat_map(|s| [s.starts_at, s.ends_at, s.ends_at.plus(retention)])
            .filter(|time| *time > now)
            .min()
    }

    fn check(&self, silence: &Silence) -> Result<(), SilenceError> {
        let invalid = |problem: String| Err(SilenceError::Invalid(problem));
        if silence.matchers.is_empty() {
            return invalid("silence invalid: at least one matcher required".into());
        }
        if silence.matchers.len() > MAX_MATCHERS {
            return invalid(format!(
                "silence invalid: more than {MAX_MATCHERS} matchers"
            ));
        }
        for (at, matcher) in silence.matchers.iter().enumerate() {
            if !is_label_name(&matcher.name) {
                return invalid(format!(
                    "silence invalid: invalid label matcher {at}: invalid label name {:?}",
                    matcher.name
                ));
            }
        }
        // A negative condition counts as one that means something, as in Alertmanager.
        let means_nothing = |matcher: &Matcher| match matcher.op {
            MatchOp::Equal | MatchOp::Regex => matcher.matches(""),
            MatchOp::NotEqual | MatchOp::NotRegex => false,
        };
        if silence.matchers.iter().all(means_nothing) {
            return invalid(
                "silence invalid: at least one matcher must not match the empty string".into(),
            );
        }
        let (bytes, most) = (silence.bytes(), self.settings.max_bytes);
        if bytes > most {
            return invalid(format!(
                "silence exceeded maximum size: {bytes} bytes (limit: {most} bytes)"
            ));
        }
        Ok(())
    }

    fn end(&mut self, now: Timestamp, mut silence: Silence) {
        silence.starts_at = silence.starts_at.min(now);
        silence.ends_at = now;
        silence.updated_at = now;
        self.put(silence);
    }

    fn put(&mut self, silence: Silence) {
        self.journal.changed(silence.id);
        self.keep(silence);
    }

    fn keep(&mut self, silence: Silence) {
        if let Some(before) = self.all.get(&silence.id) {
            self.index.remove(before);
        }
        self.index.insert(&silence);
        self.all.insert(silence.id, Arc::new(silence));
    }
}

impl Silencer for Silences {
    fn silenced_by(&self, labels: &Labels, now: Timestamp) -> Vec<SilenceId> {
        self.matching(labels, now)
    }
}

fn check_times(now: Timestamp, draft: &Draft) -> Result<(), SilenceError> {
    let problem = if draft.starts_at >= draft.ends_at {
        "start time must be before end time"
    } else if draft.ends_at < now {
        "end time can't be in the past"
    } else {
        return Ok(());
    };
    let problem = format!("Failed to create silence: {problem}");
    Err(SilenceError::Invalid(problem))
}

/// Whether a silence can become another without changing what it has silenced already.
fn can_become(before: &Silence, after: &Silence, now: Timestamp) -> bool {
    let conditions = |silence: &Silence| -> Vec<_> {
        let matchers = silence.matchers.iter();
        matchers
            .map(|m| (m.name.clone(), m.op, m.value.clone()))
            .collect()
    };
    // Clients send times back with fewer decimals than they had.
    let seconds = |time: Timestamp| time.as_nanos().div_euclid(1_000_000_000);
    conditions(before) == conditions(after)
        && match before.state(now) {
            SilenceState::Active => {
                seconds(before.starts_at) == seconds(after.starts_at) && after.ends_at >= now
            }
            SilenceState::Pending => after.starts_at >= now,
            SilenceState::Expired => false,
        }
}

/// Whether `name` may name a label: `[a-zA-Z_][a-zA-Z0-9_]*`.
pub fn is_label_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// A condition as Alertmanager's API writes it.
pub struct Condition<'a>(pub &'a Matcher);

impl Serialize for Condition<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(matcher) = self;
        let is_regex = matches!(matcher.op, MatchOp::Regex | MatchOp::NotRegex);
        let is_equal = matches!(matcher.op, MatchOp::Equal | MatchOp::Regex);
        let mut fields = serializer.serialize_struct("Matcher", 4)?;
        fields.serialize_field("isEqual", &is_equal)?;
        fields.serialize_field("isRegex", &is_regex)?;
        fields.serialize_field("name", &matcher.name)?;
        fields.serialize_field("value", &matcher.value)?;
        fields.end()
    }
}

/// How a condition compares, from the two words that Alertmanager has for it.
pub fn comparison(is_regex: bool, is_equal: bool) -> MatchOp {
    match (is_regex, is_equal) {
        (false, true) => MatchOp::Equal,
        (false, false) => MatchOp::NotEqual,
        (true, true) => MatchOp::Regex,
        (true, false) => MatchOp::NotRegex,
    }
}

/// Conditions in the store.
mod conditions {
    use super::*;

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Saved {
        name: String,
        value: String,
        is_regex: bool,
        is_equal: bool,
    }

    pub(super) fn serialize<S: Serializer>(
        matchers: &[Matcher],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(matchers.iter().map(Condition))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<Matcher>, D::Error> {
        let saved = Vec::<Saved>::deserialize(deserializer)?;
        let read = |saved: Saved| {
            let op = comparison(saved.is_regex, saved.is_equal);
            Matcher::of_alertmanager(&saved.name, op, &saved.value)
        };
        let read: Result<_, _> = saved.into_iter().map(read).collect();
        read.map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for Silence {
    /// Its conditions: `{service="checkout",severity!="critical"}`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (at, matcher) in self.matchers.iter().enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            write!(f, "{matcher}")?;
        }
        f.write_str("}")
    }
}

#[cfg(test)]
mod tests;
