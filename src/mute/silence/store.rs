//! What must survive a crash, and how it comes back: each silence under its id.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Silence, SilenceId, SilenceSettings, Silences};
use crate::model::Timestamp;

/// Version of the form below; another one is not read.
const VERSION: u32 = 1;

/// Which silences changed since they were last written.
#[derive(Debug, Clone, Default)]
pub(super) struct Journal {
    changed: BTreeSet<SilenceId>,
    /// Entries that could not be read.
    damaged: Vec<String>,
}

impl Journal {
    pub(super) fn changed(&mut self, id: SilenceId) {
        self.changed.insert(id);
    }
}

#[derive(Serialize)]
struct Save<'a> {
    version: u32,
    silence: &'a Silence,
}

#[derive(Deserialize)]
struct Saved {
    version: u32,
    silence: Silence,
}

impl Silences {
    /// What must be durable before anybody is told of the last changes: entries that changed since the
    /// last call, as (key, value), `None` where the entry is gone.
    pub fn changes(&mut self) -> Vec<(String, Option<Vec<u8>>)> {
        let journal = std::mem::take(&mut self.journal);
        let damaged = journal.damaged.into_iter().map(|key| (key, None));
        let save = |silence: &Silence| {
            let version = VERSION;
            // Texts and times always have a JSON form.
            serde_json::to_vec(&Save { version, silence }).ok()
        };
        let changed = journal
            .changed
            .into_iter()
            .map(|id| (id.to_string(), self.get(id).and_then(|s| save(s))));
        damaged.chain(changed).collect()
    }

    /// The silences as of the entries that [`Silences::changes`] gave, and what of them could not be used.
    pub fn restore(
        settings: SilenceSettings,
        now: Timestamp,
        entries: impl IntoIterator<Item = (String, Vec<u8>)>,
    ) -> (Self, Vec<String>) {
        let mut silences = Self::new(settings);
        let mut warnings = Vec::new();
        for (key, value) in entries {
            match read(&key, &value) {
                Ok(silence) => silences.keep(silence),
                Err(problem) => {
                    warnings.push(format!(
                        "silence {key} cannot be restored and is dropped: {problem}"
                    ));
                    silences.journal.damaged.push(key);
                }
            }
        }
        silences.collect(now);
        (silences, warnings)
    }
}

fn read(key: &str, value: &[u8]) -> Result<Silence, String> {
    let saved: Saved = serde_json::from_slice(value).map_err(|error| error.to_string())?;
    if saved.version != VERSION {
        return Err(format!(
            "version {} of the form, known is {VERSION}",
            saved.version
        ));
    }
    if saved.silence.id.to_string() != key {
        return Err("key and content do not belong together".into());
    }
    Ok(saved.silence)
}
