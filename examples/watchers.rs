//! How long it takes until ten thousand watchers have heard that a service is told another mode.
//!
//! `cargo build && cargo run --example watchers -- --sse 10000` (or `--grpc 10000`, or both) starts the daemon
//! that was built with the same profile, connects so many watchers of one service, each by a connection of
//! its own, and changes that service's mode a few times. Then it sends a storm of alerts and changes the mode
//! once more. It prints the time from the decision to the median watcher, to 99 of 100 and to the last.
//! Watchers and daemon share the machine, so the truth is better than the numbers.

#![allow(clippy::print_stdout, clippy::disallowed_methods)]

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use serde_json::{Value, json};
use tidewatch::expose::modes::proto::WatchRequest;
use tidewatch::expose::modes::proto::modes_client::ModesClient;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// The service that everybody watches.
const SERVICE: &str = "checkout";
/// Connections that are opened at the same time.
const OPENING: usize = 64;
/// Longest that anything may take.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Parser)]
struct Args {
    /// Watchers by server-sent events.
    #[arg(long, default_value_t = 0)]
    sse: usize,
    /// Watchers by gRPC.
    #[arg(long, default_value_t = 0)]
    grpc: usize,
    /// Changes of the mode.
    #[arg(long, default_value_t = 5)]
    rounds: u64,
    /// Alerts that other systems report before the last change; half of them are of the watched service.
    #[arg(long, default_value_t = 10_000)]
    storm: usize,
}

/// A watcher has heard of the change with this number.
struct Heard {
    sequence: u64,
    at: SystemTime,
}

/// The daemon; killed when it is dropped.
struct Daemon {
    child: Child,
    otlp: String,
    api: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let all = args.sse + args.grpc;
    ensure!(all > 0, "give --sse or --grpc a number of watchers");
    rlimit::increase_nofile_limit(u64::try_from(all + 256)?)?;
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let daemon = start().await?;
    let http = reqwest::Client::new();
    introduce(&http, &daemon).await?;
    let idle = resident(&daemon);

    let (heard, mut arrivals) = mpsc::channel(all);
    let ready = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let mut watchers = JoinSet::new();
    for number in 0..all {
        let (api, heard, ready) = (daemon.api, heard.clone(), Arc::clone(&ready));
        let opened = Arc::clone(&ready);
        watchers.spawn(async move {
            let watched = match number < args.sse {
                true => watch_sse(api, &heard, &ready).await,
                false => watch_grpc(api, &heard, &ready).await,
            };
            println!("a watcher was let down: {watched:?}");
        });
        while number + 1 - opened.load(Ordering::Relaxed) >= OPENING {
            ensure!(
                began.elapsed() < PATIENCE,
                "watchers could not be connected"
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    while ready.load(Ordering::Relaxed) < all {
        ensure!(
            began.elapsed() < PATIENCE,
            "watchers could not be connected"
        );
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    println!(
        "{} watchers by SSE, {} by gRPC, connected within {:.1} s",
        args.sse,
        args.grpc,
        began.elapsed().as_secs_f64()
    );
    if let (Some(idle), Some(watched)) = (idle, resident(&daemon)) {
        println!(
            "resident memory of the daemon: {idle} MiB before, {watched} MiB with all of them"
        );
    }
    for round in 0..args.rounds {
        change(&http, &daemon, round, all, &mut arrivals, "change").await?;
    }
    if args.storm > 0 {
        let began = Instant::now();
        storm(&http, &daemon, args.storm).await?;
        let took = began.elapsed().as_secs_f64();
        println!("{} alerts were reported within {took:.1} s", args.storm);
        change(
            &http,
            &daemon,
            args.rounds,
            all,
            &mut arrivals,
            "change after the storm",
        )
        .await?;
    }
    let metrics = http
        .get(format!("http://{}/metrics", daemon.api))
        .send()
        .await?;
    for line in metrics.text().await?.lines() {
        if line.starts_with("tidewatch_watchers") {
            println!("{line}");
        }
    }
    // Before the daemon goes, or each would say so.
    watchers.shutdown().await;
    Ok(())
}

/// Starts the daemon that lies beside this example, on free ports and a folder of its own.
async fn start() -> Result<Daemon> {
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("tidewatch.yaml");
    let data = folder.path().join("data");
    let text = format!(
        "otlp: {{grpc: \"127.0.0.1:0\", http: \"127.0.0.1:0\"}}\n\
         http: {{listen: \"127.0.0.1:0\"}}\n\
         storage: {{path: {data:?}}}\n\
         window: {{tick: 1s}}\n"
    );
    std::fs::write(&config, text)?;
    let example = std::env::current_exe()?;
    let binary: Option<PathBuf> = example
        .ancestors()
        .nth(2)
        .map(|folder| folder.join("tidewatch"));
    let binary = binary.context("examples lie in a folder of their own")?;
    let mut child = Command::new(&binary)
        .args(["run", "--log-format", "json", "--config"])
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{}: build it first", binary.display()))?;
    let lines = BufReader::new(child.stderr.take().context("stderr is piped")?).lines();
    let mut lines = lines.map_while(Result::ok);
    let line = lines.find(|line| line.contains("\"message\":\"listening\""));
    let listening: Value = serde_json::from_str(&line.context("the daemon did not start")?)?;
    // Or it would wait for somebody to read its log.
    std::thread::spawn(move || lines.for_each(drop));
    let address = |name: &str| {
        listening[name]
            .as_str()
            .context("an address")
            .map(str::to_owned)
    };
    Ok(Daemon {
        child,
        otlp: address("otlp_http")?,
        api: address("http")?.parse()?,
        _folder: folder,
    })
}

/// Sends a little data of the service and waits until its mode is known.
async fn introduce(http: &reqwest::Client, daemon: &Daemon) -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
    let points = json!([{"timeUnixNano": now.to_string(), "asDouble": 1.0}]);
    let body = json!({"resourceMetrics": [{
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": SERVICE}}]},
        "scopeMetrics": [{"metrics": [{"name": "x", "unit": "1", "gauge": {"dataPoints": points}}]}],
    }]});
    let url = format!("http://{}/v1/metrics", daemon.otlp);
    http.post(url)
        .json(&body)
        .send()
        .await?
        .error_for_status()?;
    let url = format!("http://{}/api/v1/modes/{SERVICE}", daemon.api);
    let began = Instant::now();
    while !http.get(&url).send().await?.status().is_success() {
        ensure!(began.elapsed() < PATIENCE, "the service is not known");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Reads events for as long as they come.
async fn watch_sse(
    api: SocketAddr,
    heard: &mpsc::Sender<Heard>,
    ready: &AtomicUsize,
) -> Result<()> {
    let mut stream = TcpStream::connect(api).await?;
    let request =
        format!("GET /api/v1/events?service={SERVICE}&type=mode HTTP/1.1\r\nHost: {api}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    let mut bytes = [0; 2048];
    loop {
        while let Some(end) = text.find("\n\n") {
            let at = SystemTime::now();
            let event: String = text.drain(..end + 2).collect();
            if event.contains("event: snapshot\n") {
                ready.fetch_add(1, Ordering::Relaxed);
            } else if event.contains("event: mode\n") {
                let sequence = event.lines().find_map(|line| line.strip_prefix("id: "));
                let sequence = sequence.context("an id")?.parse()?;
                heard.send(Heard { sequence, at }).await?;
            }
        }
        let read = stream.read(&mut bytes).await?;
        ensure!(read > 0, "the stream has ended");
        text.push_str(std::str::from_utf8(&bytes[..read])?);
    }
}

/// Reads messages for as long as they come.
async fn watch_grpc(
    api: SocketAddr,
    heard: &mpsc::Sender<Heard>,
    ready: &AtomicUsize,
) -> Result<()> {
    let mut client = ModesClient::connect(format!("http://{api}")).await?;
    let service = SERVICE.to_owned();
    let mut modes = client.watch(WatchRequest { service }).await?.into_inner();
    let mut last = None;
    while let Some(mode) = modes.message().await? {
        let at = SystemTime::now();
        match last {
            None => drop(ready.fetch_add(1, Ordering::Relaxed)),
            // Only the lease is later.
            Some(last) if last == mode.sequence => {}
            Some(_) => {
                let sequence = mode.sequence;
                heard.send(Heard { sequence, at }).await?;
            }
        }
        last = Some(mode.sequence);
    }
    Ok(())
}

/// Changes the mode, waits until everybody has heard of it, and prints how long that took.
async fn change(
    http: &reqwest::Client,
    daemon: &Daemon,
    round: u64,
    all: usize,
    arrivals: &mut mpsc::Receiver<Heard>,
    what: &str,
) -> Result<()> {
    let mode = if round.is_multiple_of(2) {
        "degraded"
    } else {
        "critical"
    };
    let body = json!({"mode": mode, "author": "load", "reason": format!("round {round}")});
    let url = format!("http://{}/api/v1/modes/{SERVICE}/override", daemon.api);
    let asked = SystemTime::now();
    let answer = http.put(url).json(&body).send().await?.error_for_status()?;
    let told: Value = answer.json().await?;
    let sequence = told["data"]["sequence"].as_u64().context("a sequence")?;
    let since = told["data"]["since"].as_str().context("a time")?;
    let since = tidewatch::model::Timestamp::parse_rfc3339(since).map_err(anyhow::Error::msg)?;
    let decided = UNIX_EPOCH + Duration::from_nanos(u64::try_from(since.as_nanos())?);
    let mut times = Vec::with_capacity(all);
    let hear = async {
        while times.len() < all {
            let heard = arrivals.recv().await.context("watchers")?;
            ensure!(
                heard.sequence == sequence,
                "{} instead of {sequence}",
                heard.sequence
            );
            times.push(heard.at.duration_since(decided).unwrap_or_default());
        }
        Ok(())
    };
    tokio::time::timeout(PATIENCE, hear)
        .await
        .context("not everybody heard of it")??;
    times.sort();
    let at = |share: f64| times[((all - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!(
        "{what} {round}: asked {:.1} ms before the decision; half had heard after {:.1} ms, 99 % after {:.1} ms, the last after {:.1} ms",
        decided
            .duration_since(asked)
            .unwrap_or_default()
            .as_secs_f64()
            * 1e3,
        at(0.5),
        at(0.99),
        at(1.0),
    );
    Ok(())
}

/// Reports alerts of the watched service and of another one.
async fn storm(http: &reqwest::Client, daemon: &Daemon, alerts: usize) -> Result<()> {
    let url = format!("http://{}/api/v2/alerts", daemon.api);
    let alerts: Vec<Value> = (0..alerts)
        .map(|n| {
            let service = if n % 2 == 0 { SERVICE } else { "other" };
            let number = n.to_string();
            json!({"labels": {"alertname": "Storm", "service": service, "n": number}})
        })
        .collect();
    for some in alerts.chunks(1_000) {
        http.post(&url)
            .json(&some)
            .send()
            .await?
            .error_for_status()?;
    }
    Ok(())
}

/// MiB of the daemon in memory, where the system says it.
fn resident(daemon: &Daemon) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.child.id())).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kib / 1024)
}
