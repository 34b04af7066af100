//! The files through the pipeline in virtual time.

use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::app::{Replay, ReplaySettings};
use crate::clock;
use crate::config::Loaded;
use crate::ingest::replay::{Input, Merged, Notes, Stretch};
use crate::model::{BaselineView, Event, Query as _, Rejections, Selector, SignalView, Timestamp};

use super::BacktestArgs;
use super::inputs::{Inputs, Speed, speed};
use super::ledger::Ledger;
use super::progress::Progress;

/// Points handed over at once: small enough to stay in a core's cache.
pub(super) const STRETCH: usize = 2_000;
/// Signals looked at to say which are watched by no rule.
const MOST_SIGNALS: usize = 10_000;

/// What a run came to.
pub(super) struct Ran {
    pub(super) ledger: Ledger,
    /// When time began and ended.
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
    /// For how long any input had data.
    pub(super) covered: Duration,
    pub(super) speed: Speed,
    /// Points and spans that counted, and the samples made of them.
    pub(super) points: u64,
    pub(super) spans: u64,
    pub(super) samples: u64,
    /// Points and spans of an earlier time, or of the same, than one before of their series.
    pub(super) late: u64,
    pub(super) repeated: u64,
    pub(super) rejections: Rejections,
    /// By input.
    pub(super) notes: Vec<(String, Notes)>,
    /// Services at the end.
    pub(super) services: usize,
    /// Signals at the end, those of them without a rule, and one of these.
    pub(super) signals: usize,
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
    happened: &mut dyn FnMut(&Event) -> Result<()>,
) -> Result<Ran> {
    let (began, cpu) = (clock::instant(), cpu_time());
    let opened = inputs.open()?;
    let speed = speed(&opened, loaded, args.tick);
    let mut merged = Merged::new(opened)?;
    let start = merged
        .next_time()
        .context("there is no data in the inputs")?;
    let settings = ReplaySettings {
        shards: args.threads,
        pace: speed.pace,
        saved: None,
    };
    let mut replay = Replay::start(&loaded.config, start, settings)?;
    let mut ledger = Ledger::default();
    let mut rejections = Rejections::default();
    let mut covered = Covered::default();
    while let Some(stretch) = merged.next(STRETCH)? {
        let refused = match stretch {
            Stretch::Points(points) => {
                covered.note(
                    points.first().map(|p| p.time),
                    points.last().map(|p| p.time),
                );
                replay.play(points)?
            }
            Stretch::Batch(at, batch) => {
                covered.note(Some(at), Some(at));
                replay.apply(at, batch)?
            }
        };
        rejections.merge(refused);
        for event in replay.take_events() {
            ledger.note(&event, start);
            happened(&event)?;
        }
        progress.show(&merged, replay.now(), replay.telemetry().samples.get());
    }
    replay.finish()?;
    for event in replay.take_events() {
        ledger.note(&event, start);
        happened(&event)?;
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
    let telemetry = replay.telemetry();
    let dropped = |reason| telemetry.late.with_label_values(&[reason]).get();
    Ok(Ran {
        start,
        end: replay.now(),
        covered: covered.total(),
        speed,
        points: telemetry.points.get(),
        spans: telemetry.spans.get(),
        samples: telemetry.samples.get(),
        late: dropped("late"),
        repeated: dropped("repeated") + dropped("overlap"),
        rejections,
        notes: notes(merged.inputs()),
        services: services.len(),
        signals: signals.len(),
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

fn notes(inputs: &[Input]) -> Vec<(String, Notes)> {
    let noted = inputs
        .iter()
        .filter(|input| *input.notes() != Notes::default());
    noted
        .map(|input| (input.path().display().to_string(), input.notes().clone()))
        .collect()
}

/// For how long there was data: a pause of more than a day does not count.
#[derive(Default)]
struct Covered {
    since: Option<Timestamp>,
    last: Timestamp,
    total: Duration,
}

impl Covered {
    const PAUSE: Duration = Duration::from_hours(24);

    fn note(&mut self, first: Option<Timestamp>, last: Option<Timestamp>) {
        let (Some(first), Some(last)) = (first, last) else {
            return;
        };
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
