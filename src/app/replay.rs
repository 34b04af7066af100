//! Telemetry in virtual time: the daemon's engine and decisions, driven by the times in the data.
//!
//! In: batches with the time at which each would have arrived, in order. Out: the events that the daemon
//! would have told. Nothing is written, sent or waited for, and hours pass in milliseconds.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::{Builder, Runtime};

use super::pipeline::{self, Decisions, Pipeline};
use super::settings;
use crate::config::Config;
use crate::derive::tick_end;
use crate::engine::{self, Engine};
use crate::model::{Alert, Batch, Event, ModeState, Rejections, Timestamp};
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
    events: Vec<Event>,
    warnings: Vec<String>,
    now: Timestamp,
    /// When data last came.
    last_data: Timestamp,
    /// After so long without data there is no series left.
    forgets_after: Duration,
    tick: Duration,
}

/// How a replay differs from the daemon of its configuration.
#[derive(Debug, Clone, Default)]
pub struct ReplaySettings {
    /// Threads that own the series; `None`: one, which is fastest for few series. What comes out does
    /// not depend on it.
    pub shards: Option<NonZeroUsize>,
    /// What an earlier replay left, to go on from there.
    pub saved: Option<SavedReplay>,
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
        let engine_settings = engine::Settings {
            shards: replay.shards.unwrap_or(NonZeroUsize::MIN),
            ..settings::engine(config, None)
        };
        let tick = engine_settings.tick;
        let forgets_after = engine_settings.idle().saturating_add(tick * 2);
        let telemetry = Telemetry::new();
        let rules = config.model_rules();
        let (engine, mut warnings) = Engine::start(
            engine_settings,
            Arc::clone(&rules),
            telemetry.clone(),
            learning,
        )?;
        let machines = pipeline::Settings {
            alert: settings::alert(config),
            modes: settings::modes(config)?,
            tick,
        };
        let (pipeline, w) = Pipeline::new(engine, &rules, machines, start, decisions);
        warnings.extend(w);
        let mut replay = Self {
            runtime,
            pipeline,
            telemetry,
            events: Vec::new(),
            warnings,
            now: start,
            last_data: start,
            forgets_after,
            tick,
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
        let at = at.max(self.now);
        self.pass(at, Until::Before);
        self.now = at;
        self.last_data = at;
        let applied = self.runtime.block_on(self.pipeline.engine.apply(batch, at));
        Ok(applied?)
    }

    /// Lets time pass up to `to`: ticks that end there are closed. What is applied for such a tick
    /// afterwards is late, as it is for the daemon.
    pub fn advance(&mut self, to: Timestamp) {
        self.pass(to, Until::At);
        self.now = self.now.max(to);
    }

    /// The clock of the daemon's machine is set to `to`, forward or back. What is due then is done at
    /// once, as the daemon does it when it notices; the time between was never.
    pub fn set_clock(&mut self, to: Timestamp) {
        self.now = to;
        self.last_data = to;
        if self.pipeline.is_tick_due(to) {
            let (_, decisions) = self.runtime.block_on(self.pipeline.close(to));
            self.settle(to, decisions);
        }
    }

    /// Closes the tick that is open, so that what came last is judged.
    pub fn finish(&mut self) {
        self.advance(tick_end(self.now, self.tick));
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
            decisions: self.pipeline.save(),
        }
    }

    /// Does everything that is due until `to`, each at its time.
    fn pass(&mut self, to: Timestamp, until: Until) {
        let is_due = |at: Timestamp| match until {
            Until::Before => at < to,
            Until::At => at <= to,
        };
        loop {
            // When nobody is left to send anything, ticks bring nothing.
            if self.pipeline.next_tick() > self.last_data.plus(self.forgets_after) {
                self.pipeline.skip_to(to.minus(self.tick));
            }
            let tick = self.pipeline.next_tick();
            let deadline = self.pipeline.next_deadline();
            match deadline.filter(|at| *at < tick) {
                Some(deadline) if is_due(deadline) => {
                    // One that has passed unnoticed is noticed now.
                    let now = deadline.max(self.now);
                    let decisions = self.runtime.block_on(self.pipeline.expire(now));
                    self.now = now;
                    self.settle(now, decisions);
                }
                None if is_due(tick) => {
                    let (_, decisions) = self.runtime.block_on(self.pipeline.close(tick));
                    self.now = self.now.max(tick);
                    self.settle(tick, decisions);
                }
                Some(_) | None => return,
            }
        }
    }

    fn settle(&mut self, now: Timestamp, decisions: Decisions) {
        self.warnings.extend(self.pipeline.modes.take_warnings());
        let events = self.pipeline.events(now, &decisions);
        if !events.is_empty() {
            // There is no store that waits for them; they are not to gather.
            drop(self.pipeline.alerts.changes());
            drop(self.pipeline.modes.changes());
        }
        self.events.extend(events);
    }
}

/// How far time passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    Before,
    At,
}
