//! Durable state: what a restart or a `kill -9` must not take away.
//!
//! Two files in the data directory:
//! - `tidewatch.redb`, a [`Store`]: alerts, groups, modes, overrides, the event log and the audit. Changes
//!   come in by [`Store::commit`] and [`Store::record`], and are on the disk once these return. One thread
//!   writes; changes that wait while it does so share its next transaction. All of it is in memory, too, but
//!   for the audit, which is long: that is read by [`Store::audit_back`] in pages. What services acknowledge
//!   is audited in a table of its own, so that however much of it there is, it pushes no decision out.
//! - `learning.snapshot`, written whole now and then by [`snapshot`]: what the detectors have learned.
//!
//! **Invariants.** A damaged file never keeps the daemon from starting: it is set aside under a new
//! name, nothing of it is deleted, and the warning says so. A file that another process holds, or
//! that a newer version wrote, is never touched. A disk that fails costs durability, not detection:
//! callers get an error and go on, and the next write that succeeds brings the whole state back to
//! the disk.
//!
//! Stages define what they persist, as bytes under a key; this module knows nothing of their meaning.

mod audit;
mod file;
mod store;
mod writer;
pub mod schema;
pub mod snapshot;
#[cfg(test)]
mod tests;

pub use audit::{IsOld, Part};
pub use store::{Recovered, Store};

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::model::Timestamp;

/// Events kept; the oldest leave when a newer one comes. As many as watchers can resume over.
pub const EVENTS_KEPT: usize = 10_000;
/// Entries of each table of the audit that are kept at most, whatever [`Store::prune_audit`] is asked for.
pub const AUDIT_KEPT: usize = 5_000_000;
/// A value larger than this is refused: it would be a bug, and memory holds every value.
pub const MAX_VALUE_BYTES: usize = 16 << 20;

/// A kind of durable state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// Alerts and their machines, by fingerprint and rule.
    Alerts,
    /// Groups of notifications, by group key.
    Dispatch,
    /// What services are told, and the policies' machines.
    Modes,
    /// Modes set by hand, and the kill switch.
    Overrides,
    /// The event log, by [`event_key`]; the last [`EVENTS_KEPT`] of it.
    Events,
    /// Events about modes, by [`event_key`]; kept longer than the event log, and not in memory. Earlier
    /// versions put acknowledgements here, too.
    Audit,
    /// The part of the audit that anybody can make grow: what services acknowledge, by [`event_key`].
    Acknowledgements,
    /// Notifications that are decided but not yet delivered, by message id.
    Outbox,
    /// Incidents, by id.
    Incidents,
    /// Silences, by id.
    Silences,
    /// Alerts that other systems report, by fingerprint.
    External,
    /// What people called normal, by the alert's fingerprint.
    Dismissals,
    /// Facts about the store itself and counters of its users.
    Meta,
}

impl Table {
    /// All tables.
    pub const ALL: [Self; 13] = [
        Self::Alerts,
        Self::Dispatch,
        Self::Modes,
        Self::Overrides,
        Self::Events,
        Self::Audit,
        Self::Acknowledgements,
        Self::Outbox,
        Self::Incidents,
        Self::Silences,
        Self::External,
        Self::Dismissals,
        Self::Meta,
    ];

    /// The tables of the audit: each with a bound of its own, and read as one.
    const AUDIT: [Self; 2] = [Self::Audit, Self::Acknowledgements];

    /// Its name in the file. Never changes.
    fn name(self) -> &'static str {
        match self {
            Self::Alerts => "alerts",
            Self::Dispatch => "dispatch",
            Self::Modes => "modes",
            Self::Overrides => "overrides",
            Self::Events => "events",
            Self::Audit => "audit",
            Self::Acknowledgements => "acknowledgements",
            Self::Outbox => "outbox",
            Self::Incidents => "incidents",
            Self::Silences => "silences",
            Self::External => "external",
            Self::Dismissals => "dismissals",
            Self::Meta => "meta",
        }
    }
}

/// One change: a key set to a value, or removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub table: Table,
    /// Which.
    pub key: String,
    /// The new value; `None` removes the key.
    pub value: Option<Vec<u8>>,
}

impl Change {
    /// Sets `key` to `value`.
    pub fn put(table: Table, key: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        Self {
            table,
            key: key.into(),
            value: Some(value.into()),
        }
    }

    /// Removes `key`.
    pub fn remove(table: Table, key: impl Into<String>) -> Self {
        Self {
            table,
            key: key.into(),
            value: None,
        }
    }

    /// Appends the event numbered `sequence` to the audit.
    pub fn audit(sequence: u64, value: impl Into<Vec<u8>>) -> Self {
        Self::put(Table::Audit, event_key(sequence), value)
    }

    /// Appends the event numbered `sequence` to the audit's acknowledgements.
    pub fn acknowledgement(sequence: u64, value: impl Into<Vec<u8>>) -> Self {
        Self::put(Table::Acknowledgements, event_key(sequence), value)
    }

    /// Appends the event numbered `sequence` to the event log.
    pub fn event(sequence: u64, value: impl Into<Vec<u8>>) -> Self {
        Self::put(Table::Events, event_key(sequence), value)
    }
}

/// The key of an event: its number with leading zeros, so that keys sort as numbers do.
pub fn event_key(sequence: u64) -> String {
    format!("{sequence:020}")
}

/// Why the store cannot do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Another process has the store open: there may be only one daemon per data directory.
    #[error(
        "{path} is in use by another process: is a second tidewatch running? Give each its own storage.path"
    )]
    Locked {
        /// The file.
        path: String,
    },
    /// A newer version of Tidewatch wrote the file.
    #[error(
        "{path} was written by a newer version (schema {found}, this one knows up to {known}): use that version, or another storage.path"
    )]
    Newer {
        /// The file.
        path: String,
        /// Major version of the schema that was found.
        found: u32,
        /// The newest major version that is known here.
        known: u32,
    },
    /// The disk does not do what it should. At a commit: what was to be written may not be on it.
    #[error("{path}: {reason}")]
    Disk {
        /// The file.
        path: String,
        /// What happened.
        reason: String,
    },
    /// A value of more than [`MAX_VALUE_BYTES`].
    #[error("{table:?}/{key}: {bytes} bytes are more than a value may have")]
    TooLarge {
        /// Its table.
        table: Table,
        /// Its key.
        key: String,
        /// Its size.
        bytes: usize,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

impl Error {
    fn disk(path: &Path, reason: impl ToString) -> Self {
        Self::Disk {
            path: path.display().to_string(),
            reason: reason.to_string(),
        }
    }
}

/// Everything in the store, by table and key; of the audit only what is not on the disk yet.
pub(crate) type Contents = BTreeMap<Table, BTreeMap<String, Vec<u8>>>;

/// Renames a damaged file to `NAME.damaged-SECONDS` (`-1`, `-2`, … where that is taken), keeping
/// every byte for whoever wants to look into it.
fn set_aside(path: &Path, now: Timestamp) -> std::io::Result<PathBuf> {
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let seconds = now.as_nanos().div_euclid(1_000_000_000);
    // A bound on the search; so many damaged files of one second do not occur.
    for attempt in 0..1000 {
        let suffix = match attempt {
            0 => format!("{name}.damaged-{seconds}"),
            n => format!("{name}.damaged-{seconds}-{n}"),
        };
        let aside = path.with_file_name(suffix);
        if !aside.try_exists()? {
            std::fs::rename(path, &aside)?;
            return Ok(aside);
        }
    }
    Err(std::io::Error::other("too many damaged files beside it"))
}

/// Makes a rename in `directory` durable.
fn sync_directory(directory: &Path) -> std::io::Result<()> {
    std::fs::File::open(directory)?.sync_all()
}
