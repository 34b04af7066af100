//! The files through the pipeline in virtual time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::app::{Replay, ReplaySettings};
use crate::clock;
use crate::config::Loaded;
use crate::ingest::replay::{Input, Merged, Notes, RecordFormat, Stretch};
use crate::model::{
    BaselineView, Event, Query as _, Rejections, Resource, Selector, SignalView, Timestamp,
};

use super::BacktestArgs;
use super::inputs::{Inputs, Speed, speed};
use super::ledger::Ledger;
use super::progress::Progress;

/// Points handed over at once: small enough to stay in a core's cache.
const STRETCH: usize = 500;
/// Services whose coverage is kept; the rest counts with the whole.
const MOST_SERVICES: usize = 100_000;
/// Signals looked at to say which are watched by no rule.
const MOST_SIGNALS: usize = 10_000;

/// What a run came to.
pub(super) struct Ran {
    pub(super) ledger: Ledger,
    /// When time began and ended.
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
    /// For how long there was data, of any service and of each.
    pub(super) covered: Duration,
    pub(super) covered_by: HashMap<Arc<str>, Duration>,
    pub(super) speed: Speed,
    /// Points and spans that counted, and the samples made of them.
    pub(super) points: u64,
    pub(super) spans: u64,
    pub(super) samples: u64,
    /// Points and spans of an earlier time, or of the same, than one before of their series.
    pub(super) late: u64,
    pub(super) repeated: u64,
    pub(super) rejections: Rejections,
    /// What was left out for its time: points, and rows of CSV.
    pub(super) dropped: u64,
    /// By input.
    pub(super) notes: Vec<(String, Notes)>,
    /// Services that were there at any time.
    pub(super) services: usize,
    /// Signals that were there at any time.
    pub(super) signals: u64,
    /// Signals at the end, those of them without a rule, and one of these.
    pub(super) left: usize,
    pub(super) unwatched: usize,
    pub(super) example: Option<String>,
    pub(super) wall: Duration,
    /// Of all threads; `None` where the system does not say.
    pub(super) cpu: Option<Duration>,
}

/// Runs all inputs, and hands on what happens as it does.
pub(super) fn run(
    loaded: &Loaded,
    inputs: &Inputs,
    args: &BacktestArgs,
    progress: &Progress,
    happened: &mut dyn FnMut(&Event, bool) -> Result<()>,
) -> Result<Ran> {
    let (began, cpu) = (clock::instant(), cpu_time());
    let opened = inputs.open()?;
    let speed = speed(&opened, loaded, args.tick);
    let mut merged = Merged::new(opened)?;
    let start = merged
        .next_time()
        .context("there is no data in the inputs")?;
    let settings = ReplaySettings {
        shards: args.threads.filter(|threads| threads.get() > 1),
        pace: speed.pace,
        saved: None,
    };
    let mut replay = Replay::start(&loaded.config, start, settings)?;
    let mut ledger = Ledger::default();
    let mut rejections = Rejections::default();
    let mut covered = Coverage::default();
    while let Some(stretch) = merged.next(STRETCH)? {
        let refused = match stretch {
            Stretch::Points(points) => {
                let senders = points
                    .iter()
                    .filter_map(|p| Some((p.identity.sender()?, p.time)));
                covered.note(senders);
                replay.play(points)?
            }
            Stretch::Batch(at, batch) => {
                let senders = batch.points.iter().filter_map(|p| batch.sender(p));
                covered.note(senders.map(|sender| (sender, at)));
                covered.note(batch.spans.iter().map(|span| (&span.resource, at)));
                replay.apply(at, batch)?
            }
        };
        rejections.merge(refused);
        for event in replay.take_events() {
            happened(&event, ledger.is_new(&event))?;
            ledger.note(&event, start);
        }
        progress.show(&merged, replay.now(), replay.telemetry().samples.get());
    }
    replay.finish()?;
    for event in replay.take_events() {
        happened(&event, ledger.is_new(&event))?;
        ledger.note(&event, start);
    }
    progress.clear();
    let all = Selector::default();
    let signals: Vec<SignalView> =
        replay.ask(async |engine| engine.signals(all, None, MOST_SIGNALS).await.items);
    let unwatched: Vec<&SignalView> = signals
        .iter()
        .filter(|signal| signal.baseline == BaselineView::Unwatched)
        .collect();
    let services = replay.ask(async |engine| engine.services().await);
    let seen = covered.services.len();
    let begun = replay.ask(async |engine| engine.signals_begun());
    let telemetry = replay.telemetry();
    let dropped = |reason| telemetry.late.with_label_values(&[reason]).get();
    Ok(Ran {
        start,
        end: replay.now(),
        covered: covered.whole.total(),
        covered_by: covered
            .services
            .into_iter()
            .map(|(service, covered)| (service, covered.total()))
            .collect(),
        speed,
        points: telemetry.points.get(),
        spans: telemetry.spans.get(),
        samples: telemetry.samples.get(),
        late: dropped("late"),
        repeated: dropped("repeated") + dropped("overlap"),
        rejections,
        dropped: dropped("late") + left_out(merged.inputs()),
        notes: notes(merged.inputs()),
        services: services.len().max(seen),
        signals: begun,
        left: signals.len(),
        unwatched: unwatched.len(),
        example: unwatched
            .first()
            .map(|signal| format!("{} {}", signal.metric, signal.signal)),
        ledger,
        wall: began.elapsed(),
        cpu: cpu_time()
            .zip(cpu)
            .map(|(now, then)| now.saturating_sub(then)),
    })
}

/// Rows and points that the inputs left out for their times.
fn left_out(inputs: &[Input]) -> u64 {
    let of = |input: &Input| {
        let notes = input.notes();
        // Lines of OTLP out of order are only noted.
        let disordered = match input.format() {
            RecordFormat::Csv => notes.disordered.count,
            RecordFormat::Otlp | RecordFormat::Prometheus => 0,
        };
        disordered + notes.future.count
    };
    inputs.iter().map(of).sum()
}

fn notes(inputs: &[Input]) -> Vec<(String, Notes)> {
    let noted = inputs
        .iter()
        .filter(|input| *input.notes() != Notes::default());
    noted
        .map(|input| (input.path().display().to_string(), input.notes().clone()))
        .collect()
}

/// For how long there was data, altogether and of each service.
#[derive(Default)]
struct Coverage {
    whole: Covered,
    services: HashMap<Arc<str>, Covered>,
}

impl Coverage {
    /// Takes in what arrived of whom, in order of time.
    fn note<'a>(&mut self, arrived: impl Iterator<Item = (&'a Arc<Resource>, Timestamp)>) {
        // Neighbours mostly are of one resource; only its first and last time need to be known.
        let mut run: Option<(&Arc<Resource>, Timestamp, Timestamp)> = None;
        for (resource, at) in arrived {
            match &mut run {
                Some((present, _, last)) if Arc::ptr_eq(present, resource) => *last = at,
                Some(ended) => {
                    let (before, first, last) = *ended;
                    *ended = (resource, at, at);
                    self.add(before, first, last);
                }
                None => run = Some((resource, at, at)),
            }
        }
        if let Some((resource, first, last)) = run {
            self.add(resource, first, last);
        }
    }

    fn add(&mut self, resource: &Resource, first: Timestamp, last: Timestamp) {
        self.whole.add(first, last);
        if let Some(service) = self.services.get_mut(&*resource.service) {
            service.add(first, last);
        } else if self.services.len() < MOST_SERVICES {
            let mut service = Covered::default();
            service.add(first, last);
            self.services.insert(Arc::clone(&resource.service), service);
        }
    }
}

/// Spans of time: a pause of more than a day does not count.
#[derive(Default)]
struct Covered {
    since: Option<Timestamp>,
    last: Timestamp,
    total: Duration,
}

impl Covered {
    const PAUSE: Duration = Duration::from_hours(24);

    fn add(&mut self, first: Timestamp, last: Timestamp) {
        match self.since {
            Some(since) if first.since(self.last) > Self::PAUSE => {
                self.total += self.last.since(since);
                self.since = Some(first);
            }
            Some(_) => {}
            None => self.since = Some(first),
        }
        self.last = self.last.max(last);
    }

    fn total(&self) -> Duration {
        let open = self.since.map(|since| self.last.since(since));
        self.total + open.unwrap_or_default()
    }
}

/// Processor time of this process, all threads together.
fn cpu_time() -> Option<Duration> {
    // Fields 14 and 15 of proc_pid_stat(5), in ticks, of which Linux shows 100 a second to programs
    // on every architecture; the name before them may hold anything, but ends with the last `)`.
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis((user + system) * 10))
}
