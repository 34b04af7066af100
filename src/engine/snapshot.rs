//! Learning as bytes, so that a restart does not lose it.
//!
//! A chunk begins with a version and the time it was taken; then come the [names](super::names) that it
//! and later chunks need, behind their length; then records, each behind its length. Names and records are
//! postcard; what does not decode is left out and reported, the rest of the chunk is used. How many shards
//! there were when it was written does not matter.

use std::ops::Bound;

use postcard::ser_flavors::Flavor;
use serde::{Deserialize, Serialize};

use super::bands::Bands;
use super::census::ServicesRecord;
use super::few::Few;
use super::matching::Matching;
use super::names::{Named, Names, NamesRecord, NamesRef, Naming};
use super::plan::Plan;
use super::pulse::PulseRecord;
use super::series::{Series, Source};
use super::shard::Shard;
use super::signal::Signal;
use super::watch::{Judge, Watch};
use crate::derive::{SeriesState, SpanSeries};
use crate::model::{SeriesId, SignalKind, Timestamp, raw};
use crate::window::Window;

/// Changes when a chunk's form does; chunks of another version are left out.
const VERSION: u8 = 5;
/// A chunk is closed when it has grown beyond this, so it is at most one record longer: about a
/// millisecond of a shard's time.
const CHUNK_BYTES: usize = 256 << 10;
/// The length before names and each record.
const LENGTH_BYTES: usize = 4;

/// One record, as it is written.
#[derive(Serialize)]
enum RecordRef<'a> {
    Services(&'a ServicesRecord),
    Series(SeriesRef<'a>),
    Pulses(&'a [PulseRecord]),
}

#[derive(Serialize)]
struct SeriesRef<'a> {
    id: [u8; 16],
    identity: Named<'a>,
    last_seen: Timestamp,
    source: SourceRef<'a>,
    signals: Vec<SignalRef<'a>>,
}

#[derive(Serialize)]
enum SourceRef<'a> {
    Points(&'a SeriesState),
    Spans(&'a SpanSeries),
}

#[derive(Serialize)]
struct SignalRef<'a> {
    kind: SignalKind,
    window: &'a Window,
    bands: &'a Bands,
    watches: Vec<WatchRef<'a>>,
}

/// A watch is found again by its rule's name and detector; positions change with the configuration.
#[derive(Serialize)]
struct WatchRef<'a> {
    alert: &'a str,
    detector: &'a str,
    #[serde(serialize_with = "raw::serialize")]
    saved: Vec<u8>,
    /// The place of the watch among the signal's that has the same detector.
    like: Option<u8>,
    window: Option<&'a Window>,
    hot: u32,
}

/// One record, as it is read: field by field the same.
#[derive(Deserialize)]
pub(super) enum Record<'a> {
    Services(ServicesRecord),
    #[serde(borrow)]
    Series(SeriesRecord<'a>),
    Pulses(Vec<PulseRecord>),
}

#[derive(Deserialize)]
pub(super) struct SeriesRecord<'a> {
    id: [u8; 16],
    #[serde(borrow)]
    identity: Named<'a>,
    last_seen: Timestamp,
    source: SourceRecord,
    #[serde(borrow)]
    signals: Vec<SignalRecord<'a>>,
}

#[derive(Deserialize)]
enum SourceRecord {
    Points(SeriesState),
    Spans(Box<SpanSeries>),
}

#[derive(Deserialize)]
struct SignalRecord<'a> {
    kind: SignalKind,
    window: Window,
    bands: Bands,
    #[serde(borrow)]
    watches: Vec<WatchRecord<'a>>,
}

#[derive(Deserialize)]
struct WatchRecord<'a> {
    alert: &'a str,
    detector: &'a str,
    saved: &'a [u8],
    like: Option<u8>,
    window: Option<Window>,
    hot: u32,
}

/// The head of a chunk taken at `taken`, with what is told in it.
fn begin(taken: Timestamp, names: Option<NamesRef<'_>>) -> Vec<u8> {
    let mut chunk = vec![VERSION];
    chunk.extend(taken.as_nanos().to_le_bytes());
    match names {
        Some(names) => append(&mut chunk, &names),
        None => chunk.extend([0; LENGTH_BYTES]),
    }
    chunk
}

/// Where postcard writes: at the end of a chunk.
struct End<'a>(&'a mut Vec<u8>);

impl Flavor for End<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// Appends a record behind its length.
fn append(chunk: &mut Vec<u8>, record: &impl Serialize) {
    let at = chunk.len();
    let begin = at + LENGTH_BYTES;
    chunk.extend([0; LENGTH_BYTES]);
    // Nothing in a record can fail to be written: no maps of unknown length, no foreign types.
    let written = postcard::serialize_with_flavor(record, End(chunk));
    let length = u32::try_from(chunk.len() - begin).ok();
    match (written.ok().and(length), chunk.get_mut(at..begin)) {
        (Some(length), Some(place)) => place.copy_from_slice(&length.to_le_bytes()),
        _ => chunk.truncate(at),
    }
}

/// The chunk of the services.
pub(super) fn write_services(
    services: &ServicesRecord,
    pulses: &[PulseRecord],
    taken: Timestamp,
) -> Vec<u8> {
    let mut chunk = begin(taken, None);
    append(&mut chunk, &RecordRef::Services(services));
    if !pulses.is_empty() {
        append(&mut chunk, &RecordRef::Pulses(pulses));
    }
    chunk
}

/// A chunk, taken apart.
pub(super) struct Chunk<'a> {
    pub(super) taken: Timestamp,
    /// What is told in it, not yet decoded; empty if it is nothing.
    names: &'a [u8],
    records: &'a [u8],
}

impl<'a> Chunk<'a> {
    /// The version of a chunk that is not of this one.
    pub(super) fn other_version(chunk: &[u8]) -> Option<u8> {
        chunk.first().copied().filter(|version| *version != VERSION)
    }

    /// Fails for one of another version, or of none.
    pub(super) fn of(chunk: &'a [u8]) -> Result<Self, String> {
        let short = || "it is too short".to_owned();
        let (version, rest) = chunk.split_first().ok_or_else(short)?;
        if *version != VERSION {
            return Err(format!("its version is {version}, not {VERSION}"));
        }
        let (taken, rest) = rest.split_first_chunk().ok_or_else(short)?;
        let (names, records) = split(rest).ok_or_else(short)?;
        Ok(Self {
            taken: Timestamp::from_nanos(i64::from_le_bytes(*taken)),
            names,
            records,
        })
    }

    /// What is told in it; `None` if it is nothing.
    pub(super) fn names(&self) -> Result<Option<NamesRecord>, String> {
        match self.names {
            [] => Ok(None),
            names => postcard::from_bytes(names)
                .map(Some)
                .map_err(|error| format!("names cannot be read: {error}")),
        }
    }

    /// Hands over the records; says how many bytes could not be read or used.
    pub(super) fn records(&self, mut use_it: impl FnMut(Record<'a>) -> Option<()>) -> usize {
        let (mut rest, mut unreadable) = (self.records, 0);
        while !rest.is_empty() {
            let Some((record, behind)) = split(rest) else {
                return unreadable + rest.len();
            };
            rest = behind;
            if postcard::from_bytes(record)
                .ok()
                .and_then(&mut use_it)
                .is_none()
            {
                unreadable += record.len();
            }
        }
        unreadable
    }
}

/// What stands behind its length, and what comes then.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, behind) = bytes.split_first_chunk::<LENGTH_BYTES>()?;
    behind.split_at_checked(u32::from_le_bytes(*length) as usize)
}

impl Shard {
    /// The chunk of the series behind `cursor`, by id, and where the next one begins; no chunk when
    /// there are no more series. What `naming` meets for the first time is told in it.
    pub(super) fn save(
        &self,
        cursor: Option<SeriesId>,
        taken: Timestamp,
        naming: &mut Naming,
    ) -> Option<(Vec<u8>, SeriesId)> {
        let from = cursor.map_or(Bound::Unbounded, Bound::Excluded);
        let mut records = Vec::with_capacity(CHUNK_BYTES + (CHUNK_BYTES >> 4));
        let mut last = None;
        for (id, series) in self.series.ordered(from) {
            let record = series_ref(id, series, taken, &self.plan, naming);
            append(&mut records, &RecordRef::Series(record));
            last = Some(id);
            if records.len() + naming.waiting() > CHUNK_BYTES {
                break;
            }
        }
        let mut chunk = begin(taken, naming.tell());
        chunk.append(&mut records);
        last.map(|last| (chunk, last))
    }
}

fn series_ref<'a>(
    id: SeriesId,
    series: &'a Series,
    taken: Timestamp,
    plan: &'a Plan,
    naming: &mut Naming,
) -> SeriesRef<'a> {
    let watch = |watch: &'a Watch| {
        let rule = plan.rules.get(watch.rule as usize)?;
        Some(WatchRef {
            alert: &rule.alert,
            detector: &rule.detector.name,
            saved: watch.save(),
            like: match &watch.judge {
                Judge::Own(_) => None,
                Judge::Like(at) => Some(*at),
            },
            window: watch.window.as_deref(),
            hot: watch.hot,
        })
    };
    let signal = |signal: &'a Signal| SignalRef {
        kind: signal.kind,
        window: &signal.window,
        bands: &signal.bands,
        watches: signal.watches.iter().filter_map(watch).collect(),
    };
    SeriesRef {
        id: id.0.to_le_bytes(),
        identity: naming.name(&series.identity),
        // What was heard while others were written is as old as they are, or the downtime that follows would
        // count as silence of these alone.
        last_seen: series.last_seen.min(taken),
        source: match &series.source {
            Source::Points(state) => SourceRef::Points(state),
            Source::Spans(spans) => SourceRef::Spans(spans),
        },
        signals: series.signals.iter().map(signal).collect(),
    }
}

impl SeriesRecord<'_> {
    /// The series as it was, under the rules and settings of now; `None` if it has a name that was not
    /// told.
    pub(super) fn restore(
        self,
        names: &Names,
        matching: &mut Matching,
        plan: &Plan,
    ) -> Option<(SeriesId, Series)> {
        let id = SeriesId(u128::from_le_bytes(self.id));
        let identity = names.identity(&self.identity)?;
        let source = match self.source {
            SourceRecord::Points(state) => Source::Points(state),
            SourceRecord::Spans(spans) => Source::Spans(spans),
        };
        let mut series = Series::with(identity, source, self.last_seen, plan);
        let signals = self
            .signals
            .into_iter()
            .map(|signal| signal.restore(&series, id, matching, plan))
            .collect();
        series.signals = signals;
        Some((id, series))
    }
}

impl SignalRecord<'_> {
    fn restore(
        self,
        series: &Series,
        id: SeriesId,
        matching: &mut Matching,
        plan: &Plan,
    ) -> Signal {
        let mut signal = Signal {
            kind: self.kind,
            window: self.window,
            watches: Few::default(),
            bands: self.bands,
        };
        let owner = series.owner(id);
        let unit = owner.seen(self.kind).unit();
        signal.watch(owner, matching.rules(owner, self.kind, plan), plan);
        let saved = self.watches;
        let mut taken = vec![false; saved.len()];
        let mut first_is_the_same = false;
        for (i, watch) in signal.watches.iter_mut().enumerate() {
            let Some(rule) = plan.rules.get(watch.rule as usize) else {
                continue;
            };
            let same = |(record, taken): (&WatchRecord<'_>, &bool)| {
                !taken && record.alert == rule.alert && record.detector == rule.detector.name
            };
            let Some(at) = saved.iter().zip(&taken).position(same) else {
                continue;
            };
            first_is_the_same |= i == 0 && at == 0;
            let (Some(record), Some(taken)) = (saved.get(at), taken.get_mut(at)) else {
                continue;
            };
            *taken = true;
            let like = record.like.and_then(|like| saved.get(usize::from(like)));
            let learned = like.unwrap_or(record).saved;
            let window = record.window.clone();
            watch.restore(rule, self.kind, unit, learned, window, record.hot);
        }
        // What another rule expected says nothing about this one.
        let bands = std::mem::take(&mut signal.bands).checked(signal.window.is_exact());
        if first_is_the_same {
            signal.bands = bands;
            signal.bands.truncate(signal.window.len());
        }
        signal
    }
}
