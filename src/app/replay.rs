//! Telemetry in virtual time: the daemon's engine and decisions, driven by the times in the data.
//!
//! In: batches with the time at which each would have arrived, in order. Out: the events that the daemon
//! would have told. Nothing is written, sent or waited for, and hours pass in milliseconds.

#[cfg(test)]
mod closed_loop;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::{Builder, Runtime};

use super::pipeline::{self, Decisions, Pipeline};
use super::settings;
use crate::config::{Config, Period};
use crate::engine::{self, Engine, Placement, Recorded, Stop, TickReport, Ticks};
use crate::model::{Alert, Batch, Event, Incident, MetricPoint, ModeState, Rejections, Timestamp};
use crate::telemetry::Telemetry;

/// A daemon without ports, disk and clock: it lives in virtual time.
///
/// ```
/// use tidewatch::app::Replay;
/// use tidewatch::config::Config;
/// use tidewatch::model::{Batch, Timestamp};
///
/// # fn main() -> anyhow::Result<()> {
/// let start = Timestamp::from_secs(1_767_225_600);
/// let mut replay = Replay::start(&Config::default(), start, Default::default())?;
/// replay.apply(start, Batch::default())?;
/// replay.advance(start.plus(std::time::Duration::from_secs(3600)));
/// assert!(replay.take_events().is_empty());
/// # Ok(())
/// # }
/// ```
///
/// It must not be made or used within an asynchronous task, because it waits for a runtime of its own.
pub struct Replay {
    runtime: Runtime,
    pipeline: Pipeline,
    telemetry: Telemetry,
    ticks: Ticks,
    events: Vec<Event>,
    warnings: Vec<String>,
    /// As a store would keep them.
    incidents: BTreeMap<String, Vec<u8>>,
    now: Timestamp,
    /// When data last came.
    last_data: Timestamp,
    /// After so long without data there is no series left.
    forgets_after: Duration,
    /// Services may have come since the last tick.
    unseen: bool,
    /// There were spans, whose series only the engine's own tick closes.
    spans: bool,
}

/// How a replay differs from the daemon of its configuration.
#[derive(Debug, Clone, Default)]
pub struct ReplaySettings {
    /// Threads that own the series; `None`: none, the caller's does all, which is fastest for few
    /// series. What comes out does not depend on it.
    pub shards: Option<NonZeroUsize>,
    /// For recorded data that is rarer than the configured tick, in place of it.
    pub pace: Option<Pace>,
    /// What an earlier replay left, to go on from there.
    pub saved: Option<SavedReplay>,
}

/// How often recorded data comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Length of a tick: short enough that no two samples of a signal share one.
    pub tick: Duration,
    /// Time from one sample of a signal to the next, a multiple of the tick. What the daemon counts in
    /// ticks (when silence is noticed, when a silent alert or series ends) is counted in this.
    pub spacing: Duration,
}

/// Everything that survives a restart of the daemon: what it learned and what it decided.
#[derive(Debug, Clone, Default)]
pub struct SavedReplay {
    learning: Vec<Vec<u8>>,
    decisions: pipeline::Saved,
}

impl Replay {
    /// A replay whose time begins at `start`.
    ///
    /// # Errors
    /// A rule or a policy cannot be built as configured, or the system gives no thread.
    pub fn start(
        config: &Config,
        start: Timestamp,
        replay: ReplaySettings,
    ) -> anyhow::Result<Self> {
        let runtime = Builder::new_current_thread()
            .build()
            .context("cannot start a runtime")?;
        let SavedReplay {
            learning,
            decisions,
        } = replay.saved.unwrap_or_default();
        let mut config = config.clone();
        let mut tick = config.window.tick.0;
        if let Some(pace) = replay.pace {
            tick = pace.tick.max(INSTANT);
            let times = pace.spacing.as_nanos() / tick.as_nanos();
            let spacing = tick.saturating_mul(u32::try_from(times).unwrap_or(u32::MAX).max(1));
            config.window.tick = Period(spacing);
        }
        let spacing = config.window.tick.0;
        let like_the_daemon = settings::engine(&config, None);
        let engine_settings = engine::Settings {
            tick,
            idle_after: like_the_daemon.idle(),
            beat: replay.pace.map(|_| spacing),
            shards: replay.shards.unwrap_or(NonZeroUsize::MIN),
            placement: match replay.shards {
                Some(_) => Placement::Threads,
                None => Placement::InPlace,
            },
            ..like_the_daemon
        };
        let forgets_after = engine_settings.idle().saturating_add(spacing * 2);
        let telemetry = Telemetry::new();
        let rules = config.model_rules();
        let (engine, mut warnings) = Engine::start(
            engine_settings,
            Arc::clone(&rules),
            telemetry.clone(),
            learning,
        )?;
        let machines = pipeline::Settings {
            alert: settings::alert(&config),
            external: settings::external(&config),
            modes: settings::modes(&config)?,
            tick: spacing,
        };
        let incidents = decisions.incidents.clone();
        let (pipeline, w) = Pipeline::new(engine, &rules, machines, start, decisions);
        warnings.extend(w);
        let mut replay = Self {
            runtime,
            pipeline,
            telemetry,
            ticks: Ticks::new(start, tick, spacing),
            events: Vec::new(),
            warnings,
            incidents,
            now: start,
            last_data: start,
            forgets_after,
            unseen: true,
            spans: false,
        };
        let decisions = replay.pipeline.reconcile(start);
        replay.settle(start, decisions);
        Ok(replay)
    }

    /// Lets time pass until just before `at`, then takes in what arrives at that time. Answers what of it
    /// was refused. A batch of an earlier time than the present one arrives now.
    ///
    /// # Errors
    /// A part of the engine has panicked, which is a bug.
    pub fn apply(&mut self, at: Timestamp, batch: Batch) -> anyhow::Result<Rejections> {
        self.pass(at)?;
        self.now = self.now.max(at);
        self.take_in(batch)
    }

    /// Takes in points that arrive at their own times, which do not fall: what [`Replay::apply`] would
    /// do with each of them, in a fraction of its time. Answers what of them was refused.
    ///
    /// # Errors
    /// A part of the engine has panicked, which is a bug.
    pub fn play(&mut self, points: Vec<MetricPoint>) -> anyhow::Result<Rejections> {
        let mut rejections = Rejections::default();
        let mut points = points.into_iter().peekable();
        while let Some(first) = points.peek() {
            let at = first.time.max(self.now);
            if self.is_fast() {
                let end = Timestamp::from_nanos(i64::MAX);
                let Some(unknown) = self.run(&mut points, end, &mut rejections)? else {
                    continue;
                };
                // All of one time come together, as in a request; a new series may be among them.
                let mut batch = together(&mut points, self.now);
                batch.points.insert(0, unknown);
                rejections.merge(self.take_in(batch)?);
            } else {
                let batch = together(&mut points, at);
                rejections.merge(self.apply(at, batch)?);
            }
        }
        Ok(rejections)
    }

    /// Lets time pass up to `to`: ticks that end there are closed. What is applied for such a tick
    /// afterwards is late, as it is for the daemon.
    ///
    /// # Errors
    /// A part of the engine has panicked, which is a bug.
    pub fn advance(&mut self, to: Timestamp) -> anyhow::Result<()> {
        self.pass(to.plus(INSTANT))?;
        self.now = self.now.max(to);
        Ok(())
    }

    /// The clock of the daemon's machine is set to `to`, forward or back. What is due then is done at
    /// once, as the daemon does it when it notices; the time between was never.
    pub fn set_clock(&mut self, to: Timestamp) {
        self.now = to;
        self.last_data = to;
        self.ticks.set(to);
        if self.pipeline.is_tick_due(to) {
            let (_, decisions) = self.runtime.block_on(self.pipeline.close(to));
            self.settle(to, decisions);
        }
    }

    /// Closes the tick that is open, so that what came last is judged.
    ///
    /// # Errors
    /// A part of the engine has panicked, which is a bug.
    pub fn finish(&mut self) -> anyhow::Result<()> {
        self.advance(self.ticks.next())
    }

    /// The present time.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// What happened since this was last called, in order; pending alerts are among it.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// What was odd since this was last called, for people.
    pub fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// The alerts that are pending, firing or lately resolved, by fingerprint.
    pub fn alerts(&self) -> Vec<Arc<Alert>> {
        self.pipeline.alerts.snapshot()
    }

    /// Incidents that go on, then those that ended within a day, the newest first.
    pub fn incidents(&self) -> Vec<Arc<Incident>> {
        self.pipeline.explainer.incidents()
    }

    /// What each known service is told, by name.
    pub fn modes(&self) -> BTreeMap<String, ModeState> {
        self.pipeline.modes.view(self.now).services
    }

    /// Asks the engine, for instance with [`crate::model::Query::signals`].
    pub fn ask<T>(&self, question: impl AsyncFnOnce(&engine::Handle) -> T) -> T {
        self.runtime.block_on(question(&self.pipeline.engine))
    }

    /// Counters of what went through.
    pub fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    /// What a stop at this moment leaves to the next start.
    pub fn save(&mut self) -> SavedReplay {
        let learning = self.runtime.block_on(self.pipeline.engine.snapshot());
        SavedReplay {
            learning,
            decisions: pipeline::Saved {
                incidents: self.incidents.clone(),
                ..self.pipeline.save()
            },
        }
    }

    /// Does everything that is due before `until`, each at its time.
    fn pass(&mut self, until: Timestamp) -> anyhow::Result<()> {
        if self.is_fast() {
            let nothing = &mut Vec::new().into_iter().peekable();
            self.run(nothing, until, &mut Rejections::default())?;
            return Ok(());
        }
        loop {
            // When nobody is left to send anything, ticks bring nothing.
            if self.ticks.next() > self.last_data.plus(self.forgets_after) {
                self.ticks.skip(until);
            }
            let tick = self.ticks.next();
            match self.pipeline.next_deadline().filter(|at| *at < tick) {
                Some(deadline) if deadline < until => self.expire(deadline),
                None if tick < until => {
                    let (_, decisions) = self.runtime.block_on(self.pipeline.close(tick));
                    self.ticks.close(tick);
                    self.now = self.now.max(tick);
                    self.settle(tick, decisions);
                    anyhow::ensure!(
                        self.pipeline.engine.is_whole(),
                        "a part of the engine has panicked"
                    );
                }
                Some(_) | None => return Ok(()),
            }
        }
    }

    /// Whether stretches can be run without closing each tick over all shards.
    fn is_fast(&self) -> bool {
        self.pipeline.engine.is_in_place() && !self.spans && !self.pipeline.is_restless()
    }

    /// Takes in points, and does everything that is due before each; without points, what is due before
    /// `until`. Gives back a point that arrives now and whose series is new.
    fn run(
        &mut self,
        points: &mut std::iter::Peekable<std::vec::IntoIter<MetricPoint>>,
        until: Timestamp,
        rejections: &mut Rejections,
    ) -> anyhow::Result<Option<MetricPoint>> {
        loop {
            let arriving = points.peek().is_some();
            let deadline = self.pipeline.next_deadline();
            // The tick that ends at a deadline comes first.
            let due = deadline.map(|at| at.max(self.now).plus(INSTANT));
            let recorded = Recorded {
                points,
                ticks: &mut self.ticks,
                now: &mut self.now,
                until: due.map_or(until, |due| due.min(until)),
                rejections,
            };
            let watches_modes = self.pipeline.watches_modes();
            let unseen = self.unseen;
            let (alerts, modes) = (&mut self.pipeline.alerts, &mut self.pipeline.modes);
            // While there are alerts, each tick explains them anew.
            let look_always = unseen || watches_modes || !alerts.is_quiet();
            let mut transitions = Vec::new();
            let mut look = |report: &TickReport| {
                if unseen {
                    return ControlFlow::Break(());
                }
                transitions = alerts.step(report.end, &report.observations, &report.ended);
                if watches_modes {
                    modes.watch(report.end, report.fed);
                }
                let is_calm = !watches_modes || !modes.is_busy();
                if transitions.is_empty() && alerts.is_quiet() && is_calm {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            };
            let engine = self.pipeline.engine.clone();
            let stop = engine.replay(recorded, look_always, &mut look);
            let stop = stop.context("the engine does not work in place")??;
            if arriving {
                self.last_data = self.now;
            }
            match stop {
                Stop::Unknown(point) => return Ok(Some(*point)),
                Stop::Done => return Ok(None),
                Stop::Closed(report) => {
                    let now = report.end;
                    let decisions = if unseen {
                        self.unseen = false;
                        self.runtime.block_on(self.pipeline.decide(now, &report))
                    } else {
                        self.runtime
                            .block_on(self.pipeline.conclude(now, transitions))
                    };
                    self.settle(now, decisions);
                    if !report.ended.is_empty() {
                        // Services may have left with the last of their series.
                        self.unseen = true;
                    }
                    if !self.is_fast() {
                        // The limits want to see every tick from now on.
                        return match points.peek() {
                            Some(_) => Ok(None),
                            None => self.pass(until).map(|()| None),
                        };
                    }
                }
                Stop::Until => match deadline {
                    Some(deadline) if deadline.max(self.now) < until => self.expire(deadline),
                    Some(_) | None => return Ok(None),
                },
            }
        }
    }

    /// Lets the engine take in what arrives now.
    fn take_in(&mut self, batch: Batch) -> anyhow::Result<Rejections> {
        self.last_data = self.now;
        self.unseen = true;
        self.spans |= !batch.spans.is_empty();
        for point in &batch.points {
            self.ticks.note(point.time);
        }
        let applying = self.pipeline.engine.apply(batch, self.now);
        Ok(self.runtime.block_on(applying)?)
    }

    /// Does what is due at `deadline`.
    fn expire(&mut self, deadline: Timestamp) {
        // One that has passed unnoticed is noticed now.
        self.now = self.now.max(deadline);
        let decisions = self.runtime.block_on(self.pipeline.expire(self.now));
        self.settle(self.now, decisions);
    }

    fn settle(&mut self, now: Timestamp, decisions: Decisions) {
        self.warnings.extend(self.pipeline.modes.take_warnings());
        let events = self.pipeline.events(now, &decisions);
        if !events.is_empty() {
            // There is no store that waits for them; they are not to gather.
            drop(self.pipeline.alerts.changes());
            drop(self.pipeline.modes.changes());
        }
        for (key, value) in self.pipeline.explainer.changes() {
            match value {
                Some(value) => self.incidents.insert(key, value),
                None => self.incidents.remove(&key),
            };
        }
        self.events.extend(events);
    }
}

/// The shortest time there is.
const INSTANT: Duration = Duration::from_nanos(1);

/// The next points, those that arrive until `at`.
fn together(
    points: &mut std::iter::Peekable<std::vec::IntoIter<MetricPoint>>,
    at: Timestamp,
) -> Batch {
    let mut batch = Batch::default();
    while let Some(point) = points.next_if(|point| point.time <= at) {
        batch.points.push(point);
    }
    batch
}
