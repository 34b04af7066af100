//! Stage 5, ALERT: judged samples come in, transitions pending → firing → resolved go out.
//!
//! In: [`crate::model::Observation`]s of the rules, in the engine's order, and the signals that ended.
//! Out: [`crate::model::Transition`]s in the same order, the snapshot that readers see, and what must
//! be durable.
//!
//! What always holds:
//! - an alert resolves only after it fired; a condition that never held for long enough is dropped
//!   without a word;
//! - no two transitions in a row lead to the same state, but for a firing alert whose severity rose;
//! - the same observations give the same transitions, with or without a restart between them;
//! - series that differ only in what is no label (the instance or version that reports) are one alert:
//!   it fires when the first of them does and resolves when the last of them has calmed down;
//! - an alert that fired often lately is held: it resolves only once it was calm for long
//!   ([`Flapping`]);
//! - values from outside are never read as templates, and memory is bounded by
//!   [`Settings::max_active`].
//!
//! Alerts that other systems report are kept beside ([`External`]): they come as alerts, and only their end
//! is decided here.
//!
//! It knows nothing of detectors, windows, routes and modes, and never asks for the time.

mod entry;
mod episode;
mod external;
mod flapping;
mod labels;
mod machine;
mod past;
mod store;
mod template;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod laws;
#[cfg(test)]
mod scenarios;

pub use external::{External, ExternalSettings, Received};
pub use flapping::Flapping;
pub use machine::{Machine, Settings};
pub use template::validate_template;
