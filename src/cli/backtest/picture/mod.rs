//! A series to look at: its samples, its band, and when it alerted.
//!
//! The data is run a second time, and the samples are fetched from the engine before they leave its
//! window, so that what is drawn is what was judged. They are gathered in as many columns as a screen has.

mod axis;
mod svg;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::app::{Replay, ReplaySettings};
use crate::config::Loaded;
use crate::engine::TELEMETRY;
use crate::ingest::replay::{Merged, Stretch};
use crate::model::{Query as _, SampleView, Selector, SignalId, SignalView, Timestamp, WindowSpec};

use super::BacktestArgs;
use super::inputs::{Inputs, speed};
use super::ledger::Incident;
use super::progress::Progress;
use super::run::Ran;

/// Columns that samples are gathered in.
const COLUMNS: usize = 1100;
/// Points between two looks at the series, at most; fewer with a small window.
const LOOK_EVERY: u32 = 64;
/// At least as many as signals of one series.
const MOST_SIGNALS: usize = 64;
/// Most alerts drawn and told.
const MOST_ALERTS: usize = 500;

/// A series as it is drawn.
pub(super) struct Picture {
    /// Which series it is.
    pub(super) title: String,
    unit: String,
    start: Timestamp,
    end: Timestamp,
    columns: Vec<Column>,
    alerts: Vec<Incident>,
    pub(super) samples: usize,
    outside: usize,
}

/// The samples of a short time.
#[derive(Debug, Clone, Copy, Default)]
struct Column {
    count: u32,
    first: f64,
    last: f64,
    min: f64,
    max: f64,
    /// Sums over the samples that were judged.
    judged: u32,
    expected: f64,
    lower: f64,
    upper: f64,
    /// The sample farthest outside its band, with its sigma.
    outside: Option<(f64, f64)>,
}

/// The name of a picture's file, whose ending says what it is.
pub(super) fn file(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    let ending = path.extension().map(|ending| ending.to_ascii_lowercase());
    match ending.as_ref().and_then(|ending| ending.to_str()) {
        Some("svg" | "html" | "htm") => Ok(path),
        _ => Err("expected a name that ends with .svg or .html".into()),
    }
}

/// Finds out before a long run whether there is a place for the picture; a file that is there stays as it
/// is.
pub(super) fn can_be_written(file: &Path) -> Result<()> {
    let was_there = file.exists();
    let opened = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(file);
    opened.with_context(|| format!("{} cannot be written", file.display()))?;
    if !was_there {
        std::fs::remove_file(file).ok();
    }
    Ok(())
}

/// Draws the series that `selector` chooses, or the one of the first alert.
pub(super) fn draw(
    loaded: &Loaded,
    inputs: &Inputs,
    args: &BacktestArgs,
    progress: &Progress,
    ran: &Ran,
    selector: Option<&Selector>,
) -> Result<Picture> {
    let opened = inputs.open()?;
    let speed = speed(&opened, loaded, args.tick);
    let mut merged = Merged::new(opened)?;
    let settings = ReplaySettings {
        pace: speed.pace,
        ..ReplaySettings::default()
    };
    let mut replay = Replay::start(&loaded.config, ran.start, settings)?;
    let mut series = Followed::new(ran, selector);
    let window = match loaded.config.window.spec() {
        WindowSpec::Samples(samples) => samples,
        WindowSpec::Duration(_) => LOOK_EVERY,
    };
    let step = usize::try_from(window.clamp(1, LOOK_EVERY)).unwrap_or(1);
    while let Some(stretch) = merged.next(step)? {
        match stretch {
            Stretch::Points(points) => replay.play(points)?,
            Stretch::Batch(at, batch) => replay.apply(at, batch)?,
        };
        replay.take_events();
        series.look(&replay);
        progress.show(&merged, replay.now(), replay.telemetry().samples.get());
    }
    replay.finish()?;
    series.look(&replay);
    progress.clear();
    series.finish(ran)
}

/// The series while it is run.
struct Followed {
    selector: Option<Selector>,
    id: Option<SignalId>,
    view: Option<SignalView>,
    start: Timestamp,
    end: Timestamp,
    seen: Timestamp,
    columns: Vec<Column>,
    samples: usize,
    outside: usize,
}

impl Followed {
    fn new(ran: &Ran, selector: Option<&Selector>) -> Self {
        // A service as a whole has no series.
        let mut incidents = ran.ledger.incidents.iter();
        let first = incidents.find(|i| i.alert.labels.get("metric") != Some(TELEMETRY));
        let id = match selector {
            Some(_) => None,
            None => first.and_then(|incident| incident.alert.signal_id.parse().ok()),
        };
        Self {
            selector: selector.cloned(),
            id,
            view: None,
            start: ran.start,
            end: ran
                .end
                .max(ran.start.plus(std::time::Duration::from_nanos(1))),
            seen: Timestamp::from_nanos(i64::MIN),
            columns: vec![Column::default(); COLUMNS],
            samples: 0,
            outside: 0,
        }
    }

    /// Fetches the samples that are new.
    fn look(&mut self, replay: &Replay) {
        if self.view.is_none() {
            self.find(replay);
        }
        let (Some(id), Some(_)) = (self.id, &self.view) else {
            return;
        };
        let from = self.seen.plus(std::time::Duration::from_nanos(1));
        let to = Timestamp::from_nanos(i64::MAX);
        let new = replay.ask(async |engine| engine.samples(id, from, to).await);
        for sample in new.into_iter().flatten() {
            self.seen = self.seen.max(sample.time);
            self.add(&sample);
        }
    }

    fn find(&mut self, replay: &Replay) {
        let of_id = |view: &SignalView, id: SignalId| view.id == id.to_string();
        self.view = match (&self.selector, self.id) {
            (Some(selector), _) => {
                let selector = selector.clone();
                let found = replay.ask(async |engine| engine.signals(selector, None, 1).await);
                found.items.into_iter().next()
            }
            (None, Some(id)) => {
                // There is no question for one id, but lists are in their order.
                let all = Selector::default();
                let before = id_before(id);
                let found =
                    replay.ask(async |engine| engine.signals(all, before, MOST_SIGNALS).await);
                found.items.into_iter().find(|view| of_id(view, id))
            }
            (None, None) => {
                let watched = replay.ask(async |engine| engine.watched(None, 1).await);
                watched.items.into_iter().next()
            }
        };
        self.id = self
            .view
            .as_ref()
            .and_then(|view| view.id.parse().ok())
            .or(self.id);
    }

    fn add(&mut self, sample: &SampleView) {
        let whole = self.end.seconds_since(self.start).max(1e-9);
        let share = sample.time.seconds_since(self.start) / whole;
        let at = (share * (COLUMNS - 1) as f64).round().max(0.0) as usize;
        let Some(column) = self.columns.get_mut(at.min(COLUMNS - 1)) else {
            return;
        };
        self.samples += 1;
        let value = sample.value;
        if column.count == 0 {
            (column.first, column.min, column.max) = (value, value, value);
        }
        column.count += 1;
        column.last = value;
        column.min = column.min.min(value);
        column.max = column.max.max(value);
        let (Some(expected), Some(sigma)) = (sample.expected, sample.sigma) else {
            return;
        };
        // A band without an end is drawn to the edge.
        let lower = sample.lower.unwrap_or(f64::NEG_INFINITY);
        let upper = sample.upper.unwrap_or(f64::INFINITY);
        column.judged += 1;
        column.expected += expected;
        column.lower += lower;
        column.upper += upper;
        if value < lower || value > upper {
            self.outside += 1;
            if column
                .outside
                .is_none_or(|(_, worst)| sigma.abs() > worst.abs())
            {
                column.outside = Some((value, sigma));
            }
        }
    }

    fn finish(self, ran: &Ran) -> Result<Picture> {
        let Some(view) = self.view else {
            match self.selector {
                Some(selector) => bail!("--match: no series matches {selector}"),
                None => bail!("there is no series to draw: no rule watches any"),
            }
        };
        let alerts = ran
            .ledger
            .incidents
            .iter()
            .filter(|incident| incident.alert.signal_id == view.id);
        let picture = Picture {
            title: title(&view),
            unit: view.unit.clone(),
            start: self.start,
            end: self.end,
            columns: self.columns,
            alerts: alerts.take(MOST_ALERTS).cloned().collect(),
            samples: self.samples,
            outside: self.outside,
        };
        (picture.samples > 0)
            .then_some(picture)
            .context("the series has no samples to draw")
    }
}

/// The id just before `id`, so that a list behind it begins with `id`.
fn id_before(id: SignalId) -> Option<SignalId> {
    let series = crate::model::SeriesId(id.series.0.checked_sub(1)?);
    Some(SignalId {
        series,
        kind: crate::model::SignalKind::Quantile(u32::MAX),
    })
}

/// `p99 of http.server.request.duration of checkout {http.route="/pay"}`.
fn title(view: &SignalView) -> String {
    let signal = match view.signal.as_str() {
        "value" => String::new(),
        signal => format!("{signal} of "),
    };
    let attributes: Vec<String> = view
        .attributes
        .iter()
        .map(|(name, value)| format!("{name}={value:?}"))
        .collect();
    let attributes = match attributes.is_empty() {
        true => String::new(),
        false => format!(" {{{}}}", attributes.join(", ")),
    };
    format!("{signal}{} of {}{attributes}", view.metric, view.service)
}

impl Picture {
    /// The file's text, by its ending.
    pub(super) fn text(&self, file: &Path) -> String {
        match file.extension() {
            Some(ending) if ending.eq_ignore_ascii_case("svg") => svg::svg(self),
            Some(_) | None => svg::html(self),
        }
    }
}
