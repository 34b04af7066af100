//! Taking back what an earlier run learned: chunks are read one after the other and decoded by as many
//! threads as there are shards, so that no more of them are in memory than are in work.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::census::Census;
use super::plan::Plan;
use super::pulse::Pulses;
use super::router;
use super::shard::Shard;
use super::snapshot::{self, Record, SeriesRecord};

/// Chunks that wait for one decoding thread: while one is read, the next is there.
const WAITING: usize = 2;

/// What chunks are restored into.
struct Restoring<'a> {
    shards: Vec<Mutex<&'a mut Shard>>,
    pulses: Mutex<&'a mut Pulses>,
    census: &'a Census,
    plan: &'a Plan,
}

/// Hands the records of all chunks to the shards, and says what could not be used.
///
/// # Errors
/// The system gives no thread.
pub(super) fn restore(
    chunks: impl IntoIterator<Item = Vec<u8>>,
    shards: &mut [Shard],
    pulses: &mut Pulses,
    census: &Census,
    plan: &Plan,
) -> io::Result<Vec<String>> {
    let mut chunks = (0..).zip(chunks).peekable();
    // Mostly tests and replays have none.
    if chunks.peek().is_none() {
        return Ok(Vec::new());
    }
    let restoring = Restoring {
        shards: shards.iter_mut().map(Mutex::new).collect(),
        pulses: Mutex::new(pulses),
        census,
        plan,
    };
    let mut warnings = thread::scope(|scope| {
        let (mut feeders, mut decoders) = (Vec::new(), Vec::new());
        for number in 0..restoring.shards.len() {
            let (feeder, inbox) = sync_channel(WAITING);
            let restoring = &restoring;
            let decoder = thread::Builder::new()
                .name(format!("tidewatch-restore-{number}"))
                .spawn_scoped(scope, move || restoring.all(inbox))?;
            feeders.push(feeder);
            decoders.push(decoder);
        }
        feed(chunks, feeders);
        let ended = decoders.into_iter().map(|decoder| {
            decoder.join().unwrap_or_else(|_| {
                plan.telemetry.panics.inc();
                let lost = "a part of the saved learning cannot be used: reading it failed";
                vec![(usize::MAX, lost.to_owned())]
            })
        });
        Ok::<Vec<_>, io::Error>(ended.flatten().collect())
    })?;
    warnings.sort();
    Ok(warnings.into_iter().map(|(_, warning)| warning).collect())
}

/// Hands each chunk to a decoder that has room, in turns.
fn feed(
    chunks: impl Iterator<Item = (usize, Vec<u8>)>,
    feeders: Vec<SyncSender<(usize, Vec<u8>)>>,
) {
    for (chunk, feeder) in chunks.zip(feeders.iter().cycle()) {
        // A decoder that has failed is reported when it is joined; its chunks are lost.
        drop(feeder.send(chunk));
    }
}

impl Restoring<'_> {
    /// Restores every chunk that comes; what could not be used, with the number of its chunk.
    fn all(&self, chunks: Receiver<(usize, Vec<u8>)>) -> Vec<(usize, String)> {
        let mut warnings = Vec::new();
        for (number, chunk) in chunks {
            match self.chunk(&chunk) {
                Ok(0) => {}
                Ok(unreadable) => warnings.push((
                    number,
                    format!(
                        "{unreadable} bytes of chunk {number} of the saved learning cannot be read"
                    ),
                )),
                Err(error) => warnings.push((
                    number,
                    format!("chunk {number} of the saved learning cannot be used: {error}"),
                )),
            }
        }
        warnings
    }

    /// Restores one chunk, and says how many bytes of it could not be read.
    fn chunk(&self, chunk: &[u8]) -> Result<usize, String> {
        let plan = self.plan;
        let mut parts: Vec<Vec<_>> = self.shards.iter().map(|_| Vec::new()).collect();
        let mut keep = |series: Box<SeriesRecord>| {
            let (id, series) = series.restore(plan);
            if let Some(part) = parts.get_mut(router::owner(id, plan.settings.shards)) {
                part.push((id, series));
            }
        };
        let (taken, unreadable) = snapshot::read(chunk, |record| match record {
            Record::Services(services) => self.census.restore_services(services),
            Record::Pulses(records) => {
                let mut pulses = self.pulses.lock().unwrap_or_else(PoisonError::into_inner);
                pulses.restore(records, plan);
            }
            Record::Series(series) => keep(series),
        })?;
        for (shard, part) in self.shards.iter().zip(parts) {
            if part.is_empty() {
                continue;
            }
            // Between two series a shard is sound, should another thread have panicked meanwhile.
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.restored = shard.restored.max(Some(taken));
            for (id, series) in part {
                if !shard.series.contains_key(&id) {
                    self.census.restore(id, &series.identity);
                    shard.insert(id, series);
                }
            }
        }
        Ok(unreadable)
    }
}
