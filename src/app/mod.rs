//! The only place that knows all modules: builds them, wires the channels between them, and stops them
//! in the order in which data flows.

mod acknowledge;
mod audit;
mod builtin;
mod commands;
mod decide;
mod degrading;
mod deliver;
mod failing;
mod features;
mod learning;
mod limits;
mod memory;
mod own;
mod pipeline;
mod receivers;
mod replay;
mod report;
mod routing;
mod settings;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::config::{Config, Known};
use crate::engine::{self, Engine};
use crate::ingest::{self, Admission, Cause};
use crate::model::{Batch, BoxFuture, Rejections, Timestamp};
use crate::publish::Board;
use crate::shutdown::Shutdown;
use crate::storage::{Store, Table, snapshot};
use crate::telemetry::Telemetry;
use crate::{alert, detect, dispatch, expose, instruct, mute, notify};

use decide::Decider;
use deliver::StoreJournal;
use learning::Learning;
use pipeline::Pipeline;

pub(crate) use own::colours;
pub use own::{LogFormat, OwnTelemetry};
pub use replay::{Pace, Replay, ReplaySettings, SavedReplay};
pub use routing::routing;

/// What a configuration may refer to.
pub fn known() -> Known {
    Known {
        detectors: detect::names().collect(),
        template: alert::validate_template,
        text: receivers::check_text,
    }
}

/// A running daemon.
pub struct Daemon {
    /// Where OTLP/gRPC is taken; `None`: it is off.
    pub otlp_grpc: Option<SocketAddr>,
    /// Where OTLP/HTTP is taken; `None`: it is off.
    pub otlp_http: Option<SocketAddr>,
    /// Where the UI, the API and `/metrics` are.
    pub http: SocketAddr,
    shutdown: Shutdown,
    board: Board,
    admission: Arc<Admission>,
    engine: engine::Handle,
    notifier: notify::Notifier,
    store: Store,
    learning: Learning,
    instruct: JoinHandle<()>,
    ingest: JoinHandle<()>,
    decide: JoinHandle<()>,
    expose: JoinHandle<()>,
}

impl Daemon {
    /// Restores what earlier runs left, takes the ports, and begins to work. `own` is how this
    /// daemon names itself in the telemetry it exports, if it does: `service.name` and instance.
    ///
    /// # Errors
    /// A port is taken, the data directory cannot be used or belongs to another daemon, or a setting
    /// that can only be tried fails (a certificate, for example).
    pub async fn start(
        config: &Config,
        clock: Clock,
        telemetry: Telemetry,
        own: Option<(String, String)>,
    ) -> anyhow::Result<Self> {
        let now = clock.now();
        let shutdown = Shutdown::default();
        let directory = config.storage.path.clone();
        let (store, mut recovered) = Store::open(&directory, now, &telemetry)?;
        let mut saved = snapshot::Reader::open(&directory, now);
        let rules = config.model_rules();
        let engine_settings = settings::engine(config, own);
        let (engine, unread) = Engine::start(
            engine_settings,
            Arc::clone(&rules),
            telemetry.clone(),
            saved.by_ref(),
        )?;

        let (dispatcher, d) =
            dispatch::Dispatcher::restore(routing(config), now, recovered.take(Table::Dispatch));
        let (silences, s) = mute::Silences::restore(
            mute::SilenceSettings::default(),
            now,
            recovered.take(Table::Silences),
        );
        let (history, h) = decide::history(recovered.take(Table::Events));
        let tick = config.window.tick.0;
        let modes = settings::modes(config)?;
        let known_features = features::known(&modes);
        let (mut pipeline, p) = Pipeline::new(
            engine.clone(),
            &rules,
            pipeline::Settings {
                alert: settings::alert(config),
                external: settings::external(config),
                modes,
                tick,
            },
            now,
            pipeline::Saved {
                alerts: recovered.take(Table::Alerts),
                external: recovered.take(Table::External),
                modes: recovered.take(Table::Modes),
                incidents: recovered.take(Table::Incidents),
                dismissals: recovered.take(Table::Dismissals),
                sequence: history.last().map_or(0, |event| event.sequence),
            },
        );
        let warnings = [
            std::mem::take(&mut recovered.warnings),
            saved.found().warning.into_iter().collect(),
            unread,
            p,
            d,
            s,
            h,
        ];
        for warning in warnings.into_iter().flatten() {
            tracing::warn!("{warning}");
        }
        let (board, commands) = Board::new(history);

        let ingest_settings = settings::ingest(config);
        let admission = Arc::new(Admission::new(ingest_settings.inflight_bytes, &telemetry));
        let otlp = ingest::Server::bind(ingest_settings)
            .await
            .map_err(|error| cannot_start(&error, "`otlp.grpc` and `otlp.http`"))?;
        let api = expose::Server::bind(settings::expose(config))
            .await
            .map_err(|error| cannot_start(&error, "`http.listen`"))?;
        let http = api.local_addr();
        let external_url = match &config.http.external_url {
            Some(url) => url.as_str().trim_end_matches('/').to_owned(),
            None => format!("http://{http}"),
        };
        let kept = notify::Kept {
            journal: Some(Arc::new(StoreJournal(store.clone()))),
            entries: recovered.take(Table::Outbox),
        };
        let (notifier, warnings) = notify::Notifier::start(
            settings::notify(config, external_url, rand::random())?,
            kept,
            telemetry.clone(),
            clock.clone(),
            &shutdown.notify,
        )?;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        pipeline.receivers.watch(notifier.clone());

        let save_learning = Arc::new(Notify::new());
        let decider = Decider {
            clock: clock.clone(),
            telemetry: telemetry.clone(),
            pipeline,
            dispatcher,
            shown: (0, Timestamp::EPOCH),
            silences,
            notifier: notifier.clone(),
            store: store.clone(),
            board: board.clone(),
            save_learning: Arc::clone(&save_learning),
            mode_receiver: config.modes.receiver.clone(),
            known_features,
        };
        let learning = Learning {
            engine: engine.clone(),
            directory,
            clock: clock.clone(),
            telemetry: telemetry.clone(),
            soon: save_learning,
            turn: Arc::default(),
        };
        let sink = Arc::new(EngineSink {
            engine: engine.clone(),
            clock: clock.clone(),
        });
        let sources = expose::Sources {
            board: board.clone(),
            query: Arc::new(engine.clone()),
            report: Arc::new(report::Reporter {
                engine: engine.clone(),
                board: board.clone(),
                clock: clock.clone(),
            }),
            deliveries: Arc::new(notifier.clone()),
            audit: Arc::new(audit::Reader(store.clone())),
            telemetry: telemetry.clone(),
            clock: clock.clone(),
        };
        let instructor = instruct::Instructor::new(
            settings::instruct(config, rand::random())?,
            board.clone(),
            clock.clone(),
            telemetry.clone(),
        )?;
        let acknowledgements = board.acknowledgements().context("taken once")?;
        let daemon = Self {
            otlp_grpc: otlp.grpc_addr(),
            otlp_http: otlp.http_addr(),
            http,
            board: board.clone(),
            admission: Arc::clone(&admission),
            engine,
            notifier,
            store,
            expose: tokio::spawn(api.serve(sources, shutdown.expose.clone())),
            decide: on_its_own(
                "tidewatch-decide",
                decider.run(commands, acknowledgements, shutdown.decide.clone()),
            )
            .context("cannot start a thread for decisions")?,
            instruct: tokio::spawn(instructor.run(shutdown.notify.clone())),
            ingest: tokio::spawn(otlp.serve(
                sink,
                Arc::clone(&admission),
                telemetry,
                clock.clone(),
                shutdown.ingest.clone(),
            )),
            learning: learning.clone(),
            shutdown,
        };
        let stop = &daemon.shutdown.decide;
        tokio::spawn(learning.run(config.storage.snapshot_interval.0, stop.clone()));
        tokio::spawn(audit::keep(
            daemon.store.clone(),
            config.modes.audit.clone(),
            clock,
            stop.clone(),
        ));
        tokio::spawn(memory::watch(
            config.limits.memory.0,
            admission,
            stop.clone(),
        ));
        Ok(daemon)
    }

    /// What stops it.
    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// Waits until a stop is requested.
    ///
    /// # Errors
    /// A part of the daemon has ended by itself, which is a bug. It is to be stopped then, too.
    pub async fn wait(&mut self) -> anyhow::Result<()> {
        let ended = tokio::select! {
            () = self.shutdown.requested.cancelled() => return Ok(()),
            ended = &mut self.ingest => ("the OTLP servers", ended),
            ended = &mut self.decide => ("the decision task", ended),
            ended = &mut self.expose => ("the API server", ended),
        };
        self.shutdown.requested.cancel();
        let (part, result) = ended;
        result.with_context(|| format!("{part} failed"))?;
        anyhow::bail!("{part} ended")
    }

    /// Stops each stage after the one before it has drained, and saves everything.
    pub async fn stop(self) {
        self.board.set_ready(Some("shutting down".into()));
        self.admission.refuse(Cause::Stopping);
        self.shutdown.ingest.cancel();
        join("OTLP servers", self.ingest).await;
        self.shutdown.decide.cancel();
        join("decision task", self.decide).await;
        self.learning.save().await;
        self.engine.stop().await;
        self.shutdown.notify.cancel();
        let left = self.notifier.finish().await;
        if left > 0 {
            tracing::warn!(
                count = left,
                "notifications could not be delivered before the end; they are kept for the next start"
            );
        }
        join("telling services", self.instruct).await;
        self.store.close().await;
        self.shutdown.expose.cancel();
        join("API server", self.expose).await;
    }
}

/// Open files besides connections that come in: the store, requests to receivers and services, and some to
/// spare.
const OTHER_FILES: usize = 1_024;

/// Raises this process's soft limit on open files, commonly 1,024, to what the listeners may need, as far as
/// the hard one lets it. Every connection is a file; without room for them clients would be turned away below
/// our own limits.
fn allow_many_files(config: &Config) {
    let (watched, taken) = (settings::expose(config), settings::ingest(config));
    // OTLP has two doors of its own.
    let needed = watched.max_connections + 2 * taken.max_connections + OTHER_FILES;
    let needed = u64::try_from(needed).unwrap_or(u64::MAX);
    match rlimit::increase_nofile_limit(needed) {
        Ok(limit) if limit < needed => {
            tracing::warn!(
                limit,
                needed,
                "few open files are allowed: connections beyond are refused, and so are watchers of modes; \
                 raise the hard limit (LimitNOFILE= of systemd, ulimit -Hn of a shell)"
            );
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "the limit on open files could not be raised"),
    }
}

/// Runs `task` on a thread of its own: what it computes in one go, thousands of alerts and their words, holds up
/// nothing else.
fn on_its_own(
    name: &str,
    task: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Handle::current();
    let (done, ended) = oneshot::channel();
    std::thread::Builder::new()
        .name(name.into())
        .spawn(move || {
            runtime.block_on(task);
            // Nobody waits for it where the daemon ends anyway.
            done.send(()).ok();
        })?;
    Ok(tokio::spawn(async move {
        if ended.await.is_err() {
            // It has said so itself.
            std::panic::resume_unwind(Box::new("its thread panicked"));
        }
    }))
}

/// Waits for a task that has been told to end; one that had ended before was reported by `wait`.
async fn join(what: &str, task: JoinHandle<()>) {
    if task.is_finished() {
        return;
    }
    if let Err(error) = task.await {
        tracing::error!(%error, "{what}: it did not end well");
    }
}

/// Hands decoded requests to the engine.
struct EngineSink {
    engine: engine::Handle,
    clock: Clock,
}

impl ingest::Sink for EngineSink {
    fn apply(&self, batch: Batch) -> BoxFuture<'_, Result<Rejections, ingest::Refused>> {
        Box::pin(async {
            self.engine
                .apply(batch, self.clock.now())
                .await
                .map_err(|busy| ingest::Refused::Retryable {
                    after: busy.retry_after,
                    reason: busy.reason.into(),
                })
        })
    }
}

/// Runs the daemon until SIGINT or SIGTERM, with logs and telemetry about itself.
///
/// # Errors
/// It cannot start; see [`Daemon::start`].
pub async fn run(config: &Config, format: LogFormat) -> anyhow::Result<()> {
    let instance = format!("{:016x}", rand::random::<u64>());
    let telemetry = Telemetry::new();
    let mut own = OwnTelemetry::start(format, config.log.level.name(), &instance)?;
    let own_name = own.service_name().map(|name| (name, instance.clone()));
    allow_many_files(config);
    let mut daemon = Daemon::start(config, Clock::System, telemetry.clone(), own_name).await?;
    own.export_metrics(&telemetry, &instance)?;
    let shown =
        |address: Option<SocketAddr>| address.map_or_else(|| "off".into(), |a| a.to_string());
    tracing::info!(
        otlp_grpc = shown(daemon.otlp_grpc),
        otlp_http = shown(daemon.otlp_http),
        http = %daemon.http,
        "listening"
    );
    let shutdown = daemon.shutdown().clone();
    let signals = tokio::spawn(async move { shutdown.on_signal().await });
    let ended = daemon.wait().await;
    match &ended {
        Ok(()) => tracing::info!("stopping"),
        Err(error) => tracing::error!("stopping, because {error:#}"),
    }
    daemon.stop().await;
    // Its end was the reason to stop, or does not matter any more.
    signals.abort();
    let flushed = tokio::task::spawn_blocking(move || own.stop());
    flushed.await.context("own telemetry")?;
    ended
}

/// A server that cannot begin, with what to do about it. What the system says is in its message already.
fn cannot_start(error: &dyn std::fmt::Display, settings: &str) -> anyhow::Error {
    anyhow::anyhow!(
        "{error}\n  hint: if another daemon or collector has the port, stop it, or set another address in {settings}"
    )
}
