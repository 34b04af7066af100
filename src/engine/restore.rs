//! Taking back what an earlier run learned: chunks are read one after the other and decoded by as many
//! threads as there are shards, so that no more of them are in memory than are in work.

use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError, RwLock};
use std::thread;

use super::census::Census;
use super::matching::Matching;
use super::names::Names;
use super::plan::Plan;
use super::pulse::Pulses;
use super::router;
use super::shard::Shard;
use super::snapshot::{Chunk, Record};

/// Chunks that wait for one decoding thread: while one is read, the next is there.
const WAITING: usize = 2;

/// A chunk with its number.
type Numbered = (usize, Vec<u8>);

/// What chunks are restored into.
struct Restoring<'a> {
    shards: Vec<Mutex<&'a mut Shard>>,
    pulses: Mutex<&'a mut Pulses>,
    /// What the chunks so far have told.
    names: RwLock<Names>,
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
    let Some((_, first)) = chunks.peek() else {
        return Ok(Vec::new());
    };
    if let Some(version) = Chunk::other_version(first) {
        return Ok(vec![format!(
            "the saved learning has another form ({version}), of another version of Tidewatch: everything learns anew"
        )]);
    }
    let restoring = Restoring {
        shards: shards.iter_mut().map(Mutex::new).collect(),
        pulses: Mutex::new(pulses),
        names: RwLock::default(),
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
        let mut warnings = restoring.feed(chunks, feeders);
        let ended = decoders.into_iter().map(|decoder| {
            decoder.join().unwrap_or_else(|_| {
                plan.telemetry.panics.inc();
                let lost = "a part of the saved learning cannot be used: reading it failed";
                vec![(usize::MAX, lost.to_owned())]
            })
        });
        warnings.extend(ended.flatten());
        Ok::<_, io::Error>(warnings)
    })?;
    warnings.sort();
    Ok(warnings.into_iter().map(|(_, warning)| warning).collect())
}

impl Restoring<'_> {
    /// Hands each chunk to a decoder, in turns, when all that those before it have told is known; what could
    /// not be used, with the number of its chunk.
    fn feed(
        &self,
        chunks: impl Iterator<Item = Numbered>,
        feeders: Vec<SyncSender<Numbered>>,
    ) -> Vec<(usize, String)> {
        let mut warnings = Vec::new();
        for ((number, chunk), feeder) in chunks.zip(feeders.iter().cycle()) {
            // What is wrong with the chunk itself, its decoder says.
            match Chunk::of(&chunk).map(|chunk| chunk.names()) {
                Ok(Ok(Some(mut told))) => {
                    // Decoders wait while it is locked.
                    told.share(&self.plan.common);
                    let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
                    names.learn(told);
                }
                Ok(Err(error)) => warnings.push((
                    number,
                    format!("chunk {number} of the saved learning cannot be used whole: {error}"),
                )),
                Ok(Ok(None)) | Err(_) => {}
            }
            if number == 0 {
                // It has the services, and they are there before their series.
                let services = thread::scope(|scope| {
                    // A thread that panics must not end the start.
                    scope.spawn(|| self.all([(number, chunk)])).join()
                });
                match services {
                    Ok(unread) => warnings.extend(unread),
                    Err(_) => {
                        let warning = "the services of the saved learning cannot be used";
                        warnings.push((number, warning.to_owned()));
                    }
                }
                continue;
            }
            // A decoder that has failed is reported when it is joined; its chunks are lost.
            drop(feeder.send((number, chunk)));
        }
        warnings
    }

    /// Restores every chunk that comes; what could not be used, with the number of its chunk.
    fn all(&self, chunks: impl IntoIterator<Item = Numbered>) -> Vec<(usize, String)> {
        // What series share stays in the names, and so where it lies.
        let (mut warnings, mut matching) = (Vec::new(), Matching::default());
        for (number, chunk) in chunks {
            match self.chunk(&chunk, &mut matching) {
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
    fn chunk(&self, chunk: &[u8], matching: &mut Matching) -> Result<usize, String> {
        let chunk = Chunk::of(chunk)?;
        let plan = self.plan;
        let mut parts: Vec<Vec<_>> = self.shards.iter().map(|_| Vec::new()).collect();
        // Services come with the time until when all of them, and so all series, could have been heard.
        let mut heard = false;
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        let unreadable = chunk.records(|record| {
            match record {
                Record::Services(services) => {
                    self.census.restore_services(services);
                    heard = true;
                }
                Record::Pulses(records) => {
                    let mut pulses = self.pulses.lock().unwrap_or_else(PoisonError::into_inner);
                    pulses.restore(records, plan);
                }
                Record::Series(series) => {
                    let (id, series) = series.restore(&names, matching, plan)?;
                    let owner = router::owner(id, plan.settings.shards);
                    parts.get_mut(owner)?.push((id, series));
                }
            }
            Some(())
        });
        drop(names);
        for (shard, mut part) in self.shards.iter().zip(parts) {
            if part.is_empty() && !heard {
                continue;
            }
            // Between two series a shard is sound, should another thread have panicked meanwhile.
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.restored = shard.restored.max(Some(chunk.taken));
            // What comes twice, the first of it counts.
            part.retain(|(id, _)| !shard.series.contains_key(id));
            part.sort_by_key(|(id, _)| *id);
            part.dedup_by_key(|(id, _)| *id);
            let identities = part.iter().map(|(id, series)| (*id, &series.identity));
            self.census.restore(identities);
            for (id, series) in part {
                shard.place(id, series);
            }
        }
        Ok(unreadable)
    }
}
