//! Learning as bytes, so that a restart does not lose it.
//!
//! A chunk is self-contained: any chunk can be restored alone, and by any number of shards. It begins
//! with a version and the time it was taken, then holds records, each behind its length. Records are
//! postcard; what does not decode is left out and reported, the rest of the chunk is used.

use std::ops::Bound;
use std::sync::Arc;

use postcard::ser_flavors::Flavor;
use serde::{Deserialize, Serialize};

use super::bands::Bands;
use super::census::ServicesRecord;
use super::few::Few;
use super::plan::Plan;
use super::pulse::PulseRecord;
use super::series::{Series, Source};
use super::shard::Shard;
use super::signal::Signal;
use super::watch::{Judge, Watch};
use crate::derive::{SeriesState, SpanSeries};
use crate::model::{SeriesId, SeriesIdentity, SignalKind, Timestamp};
use crate::window::Window;

/// Changes when a chunk's form does; chunks of another version are left out.
const VERSION: u8 = 4;
/// A chunk is closed when it has grown beyond this, so it is at most one record longer: about a
/// millisecond of a shard's time.
const CHUNK_BYTES: usize = 256 << 10;
/// Version and time.
const HEADER_BYTES: usize = 9;
/// The length before each record.
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
    identity: &'a SeriesIdentity,
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
    saved: Vec<u8>,
    /// The place of the watch among the signal's that has the same detector.
    like: Option<u8>,
    window: Option<&'a Window>,
    hot: u32,
}

/// One record, as it is read: field by field the same.
#[derive(Deserialize)]
pub(super) enum Record {
    Services(ServicesRecord),
    Series(Box<SeriesRecord>),
    Pulses(Vec<PulseRecord>),
}

#[derive(Deserialize)]
pub(super) struct SeriesRecord {
    identity: Arc<SeriesIdentity>,
    last_seen: Timestamp,
    source: SourceRecord,
    signals: Vec<SignalRecord>,
}

#[derive(Deserialize)]
enum SourceRecord {
    Points(SeriesState),
    Spans(Box<SpanSeries>),
}

#[derive(Deserialize)]
struct SignalRecord {
    kind: SignalKind,
    window: Window,
    bands: Bands,
    watches: Vec<WatchRecord>,
}

#[derive(Deserialize)]
struct WatchRecord {
    alert: String,
    detector: String,
    saved: Vec<u8>,
    like: Option<u8>,
    window: Option<Window>,
    hot: u32,
}

/// The head of a chunk taken at `taken`.
fn begin(taken: Timestamp) -> Vec<u8> {
    let mut chunk = vec![VERSION];
    chunk.extend(taken.as_nanos().to_le_bytes());
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
fn append(chunk: &mut Vec<u8>, record: &RecordRef<'_>) {
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
    let mut chunk = begin(taken);
    append(&mut chunk, &RecordRef::Services(services));
    if !pulses.is_empty() {
        append(&mut chunk, &RecordRef::Pulses(pulses));
    }
    chunk
}

/// Hands over the records of a chunk; says when it was taken, and how many bytes of it could not be read.
pub(super) fn read(
    chunk: &[u8],
    mut use_it: impl FnMut(Record),
) -> Result<(Timestamp, usize), String> {
    let (head, mut rest) = chunk
        .split_at_checked(HEADER_BYTES)
        .ok_or("it is too short")?;
    let (version, taken) = head.split_first().ok_or("it is too short")?;
    if *version != VERSION {
        return Err(format!("its version is {version}, not {VERSION}"));
    }
    let taken = taken.try_into().map_err(|_| "it is too short")?;
    let taken = Timestamp::from_nanos(i64::from_le_bytes(taken));
    let mut unreadable = 0;
    while !rest.is_empty() {
        let record = rest
            .split_first_chunk::<LENGTH_BYTES>()
            .and_then(|(length, behind)| {
                behind.split_at_checked(u32::from_le_bytes(*length) as usize)
            });
        let Some((record, behind)) = record else {
            unreadable += rest.len();
            break;
        };
        rest = behind;
        match postcard::from_bytes(record) {
            Ok(record) => use_it(record),
            Err(_) => unreadable += record.len(),
        }
    }
    Ok((taken, unreadable))
}

impl Shard {
    /// The chunk of the series behind `cursor`, by id, and where the next one begins; no chunk when
    /// there are no more series.
    pub(super) fn save(
        &self,
        cursor: Option<SeriesId>,
        taken: Timestamp,
    ) -> Option<(Vec<u8>, SeriesId)> {
        let from = cursor.map_or(Bound::Unbounded, Bound::Excluded);
        let mut chunk = begin(taken);
        chunk.reserve(CHUNK_BYTES + (CHUNK_BYTES >> 4));
        let mut last = None;
        for (id, series) in self.series.ordered(from) {
            let record = RecordRef::Series(series_ref(series, &self.plan));
            append(&mut chunk, &record);
            last = Some(id);
            if chunk.len() > CHUNK_BYTES {
                break;
            }
        }
        last.map(|last| (chunk, last))
    }
}

fn series_ref<'a>(series: &'a Series, plan: &'a Plan) -> SeriesRef<'a> {
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
        identity: &series.identity,
        last_seen: series.last_seen,
        source: match &series.source {
            Source::Points(state) => SourceRef::Points(state),
            Source::Spans(spans) => SourceRef::Spans(spans),
        },
        signals: series.signals.iter().map(signal).collect(),
    }
}

impl SeriesRecord {
    /// The series as it was, under the rules and settings of now.
    pub(super) fn restore(self, plan: &Plan) -> (SeriesId, Series) {
        let id = self.identity.id();
        let source = match self.source {
            SourceRecord::Points(state) => Source::Points(state),
            SourceRecord::Spans(spans) => Source::Spans(spans),
        };
        let mut series = Series::with(self.identity, source, self.last_seen, plan);
        let signals = self
            .signals
            .into_iter()
            .map(|signal| signal.restore(&series, id, plan))
            .collect();
        series.signals = signals;
        (id, series)
    }
}

impl SignalRecord {
    fn restore(self, series: &Series, id: SeriesId, plan: &Plan) -> Signal {
        let mut signal = Signal {
            kind: self.kind,
            window: self.window,
            watches: Few::default(),
            bands: self.bands,
        };
        let owner = series.owner(id);
        let unit = owner.meta(self.kind).unit().into_owned();
        signal.watch(owner, plan);
        let saved = self.watches;
        let mut taken = vec![false; saved.len()];
        let mut first_is_the_same = false;
        for (i, watch) in signal.watches.iter_mut().enumerate() {
            let Some(rule) = plan.rules.get(watch.rule as usize) else {
                continue;
            };
            let same = |(record, taken): (&WatchRecord, &bool)| {
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
            let learned = like.unwrap_or(record).saved.as_slice();
            let window = record.window.clone();
            watch.restore(rule, self.kind, &unit, learned, window, record.hot);
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
