//! The demo: the daemon, the shop, and the story of one incident.

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use super::{Endpoints, Receiver, Shop, Story};
use crate::app::{self, Daemon, LogFormat, OwnTelemetry};
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::telemetry::Telemetry;

/// How the demo is played.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Demo {
    /// How many times faster than real time, where a tick is ten seconds.
    pub speed: f64,
    /// Seed of the simulation.
    pub seed: u64,
    /// Whether it ends after the story.
    pub once: bool,
}

/// Ticks of learning before anything is judged.
const MIN_SAMPLES: u32 = 30;
/// A demo's tick is not shorter: percentiles of fewer requests would be noise.
const SHORTEST_TICK: Duration = Duration::from_millis(250);

/// Plays it; `true` if everything in the story was observed.
///
/// # Errors
/// The daemon or the shop cannot start, or standard output is gone.
pub async fn play(demo: Demo) -> anyhow::Result<bool> {
    let tick = Duration::from_secs_f64(10.0 / demo.speed).max(SHORTEST_TICK);
    let own = OwnTelemetry::start(LogFormat::Text, "off", "demo")?;
    let folder = scratch()?;
    let stop = CancellationToken::new();
    let receiver = Receiver::start(stop.clone()).await?;
    let config = configuration(tick, &receiver.url(), &folder)?;
    let mut daemon = Daemon::start(&config, Clock::System, Telemetry::new(), None).await?;
    let url = |address: Option<std::net::SocketAddr>| {
        address
            .map(|address| format!("http://{address}"))
            .context("OTLP is off")
    };
    let endpoints = Endpoints {
        otlp_grpc: url(daemon.otlp_grpc)?,
        otlp_http: url(daemon.otlp_http)?,
        api: format!("http://{}", daemon.http),
    };
    let mut out = std::io::stdout();
    let colours = app::colours(&out);
    writeln!(
        out,
        "Tidewatch watches a shop of {} services ({}), {:.0} times faster than real time.\n\
         The page: {}",
        Shop::SERVICES.len(),
        Shop::SERVICES.join(", "),
        10.0 / tick.as_secs_f64(),
        endpoints.api
    )?;
    let api = endpoints.api.clone();
    let shop = Shop {
        endpoints,
        export_every: tick / 2,
        seed: demo.seed,
    };
    // Its exporters block and bring their own threads, which must not be born inside the runtime.
    let runtime = tokio::runtime::Handle::current();
    let shop = tokio::task::spawn_blocking(move || {
        let _inside = runtime.enter();
        shop.open(Clock::System)
    })
    .await??;
    let mut story = Story {
        api,
        tick,
        min_samples: MIN_SAMPLES,
        shop: shop.clone(),
        receiver,
        out: &mut out,
        colours,
    };
    let shutdown = daemon.shutdown().clone();
    let signals = tokio::spawn(async move { shutdown.on_signal().await });
    let outcome = tokio::select! {
        outcome = story.tell() => Some(outcome?),
        ended = daemon.wait() => {
            ended?;
            None
        }
    };
    if outcome.is_some() && !demo.once {
        writeln!(
            out,
            "\nThe shop stays open; look around, and end with Ctrl-C."
        )?;
        daemon.wait().await?;
    }
    signals.abort();
    shop.close().await;
    stop.cancel();
    daemon.stop().await;
    own.stop();
    if let Err(error) = std::fs::remove_dir_all(&folder) {
        tracing::debug!(%error, "the demo's folder stays");
    }
    // Whoever ends it early has not missed anything.
    Ok(outcome.is_none_or(|outcome| outcome.is_whole() || !demo.once))
}

/// A folder of its own, so that a demo learns from nothing and leaves nothing.
fn scratch() -> anyhow::Result<std::path::PathBuf> {
    let name = format!("tidewatch-demo-{:016x}", rand::random::<u64>());
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// The usual ports, or any free one where somebody has them already.
fn listen(port: u16) -> String {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    format!("127.0.0.1:{}", if free { port } else { 0 })
}

fn configuration(tick: Duration, hook: &str, folder: &std::path::Path) -> anyhow::Result<Config> {
    let ms = tick.as_millis();
    let text = format!(
        r#"
otlp: {{grpc: "{grpc}", http: "{http}"}}
http: {{listen: "{api}"}}
storage: {{path: {folder:?}}}
window: {{tick: {ms}ms}}
flapping: {{fires: 0}}   # its times are those of real days
route: {{receiver: oncall, group_by: [service], group_wait: {ms}ms, group_interval: {interval}ms}}
receivers:
  - name: oncall
    webhook_configs: [{{url: "{hook}", secret: "${{env:TIDEWATCH_DEMO_SECRET:-only for the demo, never leaves loopback}}", send_resolved: true}}]
modes:
  receiver: oncall
  settle: {settle}ms
  levels:
    - normal
    - {{name: degraded, features: {{recommendations: false, low_priority_orders: later}}, priority_floor: normal}}
    - {{name: critical, features: {{recommendations: false, orders: later}}, priority_floor: critical, shed: 50%}}
  policies:
    - name: slow-service-sheds-load
      when: '{{alertname="LatencyDeviation",severity="critical"}}'
      service: "{{{{ service }}}}"
      level: degraded
      hold: {hold}ms
      recover: {hold}ms
      effect: {{within: {within}ms, improved: 30%, worse: 50%, otherwise: undo}}
"#,
        grpc = listen(4317),
        http = listen(4318),
        api = listen(9517),
        interval = (ms * 3).max(1_000),
        hold = ms * 6,
        settle = ms * 3,
        within = (ms * 30).max(10_000),
    );
    let loaded = config::parse("demo.yaml", &text, &|_| None, &app::known())?;
    Ok(loaded.config)
}
