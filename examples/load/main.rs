//! A load generator for OTLP servers: `cargo run --release --example load -- --help`.
//!
//! It encodes a bounded number of realistic requests once, and then sends them round and round with
//! fresh times, ids and sums, over gRPC or HTTP. Beside what came back it reads how much CPU time and
//! memory the server took meanwhile, by its process id, so that any server can be measured alike.
#![allow(clippy::print_stdout, reason = "printing is what it is for")]

mod requests;
mod send;
mod usage;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, ValueEnum};
use serde_json::json;

use requests::{Mix, Requests, Shape};
use send::{Outcome, Plan, Rounds, Transport};
use usage::Usage;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Signal {
    /// Points of gauges, sums and histograms.
    Metrics,
    /// Spans of four services that call each other.
    Traces,
}

/// What requests of metrics hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Points {
    /// Sums, gauges and histograms
    All,
    /// Sums and gauges: one signal a series
    Numbers,
}

/// Sends OTLP at a server and says what it cost the server.
#[derive(Debug, Parser)]
#[command(after_help = "Example:
  load --pid $(pgrep -x tidewatch) --signal metrics --transport grpc --seconds 10")]
struct Arguments {
    /// What to send
    #[arg(long, value_enum, default_value = "metrics")]
    signal: Signal,
    /// How
    #[arg(long, value_enum, default_value = "grpc")]
    transport: Transport,
    /// Where to; by default the standard port of the transport on this machine
    #[arg(long)]
    endpoint: Option<String>,
    /// The server's process id, to read its CPU time and memory
    #[arg(long)]
    pid: Option<u32>,
    /// For how long to measure, in seconds
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// For how long to send before that, in seconds
    #[arg(long, default_value_t = 2)]
    warm_up: u64,
    /// Connections
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Requests under way on each connection
    #[arg(long, default_value_t = 4)]
    in_flight: usize,
    /// Distinct series (of metrics), or distinct operations (of traces)
    #[arg(long, default_value_t = 10_000)]
    series: usize,
    /// Items a request; 200 points or 512 spans by default
    #[arg(long)]
    items: Option<usize>,
    /// Items a second at most; as many as the server takes by default
    #[arg(long)]
    rate: Option<f64>,
    /// Most memory for encoded requests, in MiB
    #[arg(long, default_value_t = 512)]
    memory: usize,
    /// Kinds of metrics
    #[arg(long, value_enum, default_value = "all")]
    points: Points,
    /// Send every series so many times and end, instead of after --seconds
    #[arg(long)]
    rounds: Option<u64>,
    /// With --rounds: each round is so many seconds later than the one before, the last one is now
    #[arg(long, default_value_t = 0, requires = "rounds")]
    step: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    // The HTTP client wants one to be named, even for plain HTTP; a second would be an error to ignore.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    ensure!(arguments.seconds > 0, "--seconds must be at least 1");
    let shape = Shape {
        series: arguments.series.max(1),
        items: arguments.items.unwrap_or(match arguments.signal {
            Signal::Metrics => 200,
            Signal::Traces => 512,
        }),
        max_bytes: arguments.memory << 20,
        mix: match arguments.points {
            Points::All => Mix::All,
            Points::Numbers => Mix::Numbers,
        },
    };
    let requests = Arc::new(match arguments.signal {
        Signal::Metrics => Requests::metrics(&shape)?,
        Signal::Traces => Requests::traces(&shape)?,
    });
    let endpoint = arguments.endpoint.clone().unwrap_or_else(|| {
        let port = match arguments.transport {
            Transport::Grpc => 4317,
            Transport::Http => 4318,
        };
        format!("http://127.0.0.1:{port}")
    });
    let plan = |seconds| Plan {
        transport: arguments.transport,
        endpoint: endpoint.clone(),
        connections: arguments.connections.max(1),
        in_flight: arguments.in_flight.max(1),
        rounds: arguments.rounds.map(|count| Rounds {
            count,
            step: Duration::from_secs(arguments.step),
        }),
        rate: arguments.rate,
        length: Duration::from_secs(seconds),
    };
    if arguments.warm_up > 0 && arguments.rounds.is_none() {
        send::run(plan(arguments.warm_up), &requests)
            .await
            .context("while warming up")?;
    }
    let before = arguments.pid.map(Usage::of).transpose()?;
    let outcome = send::run(plan(arguments.seconds), &requests).await?;
    let after = arguments.pid.map(Usage::of).transpose()?;
    report(&arguments, &requests, &outcome, before.zip(after))
}

fn report(
    arguments: &Arguments,
    requests: &Requests,
    outcome: &Outcome,
    usage: Option<(Usage, Usage)>,
) -> Result<()> {
    let seconds = outcome.elapsed.as_secs_f64();
    let rate = outcome.items as f64 / seconds;
    let cpu = usage.map(|(before, after)| after.cpu_seconds - before.cpu_seconds);
    let per_cpu = cpu.map(|cpu| outcome.items as f64 / cpu.max(0.01));
    let resident = usage.map(|(_, after)| after.resident_bytes);
    if arguments.json {
        println!(
            "{}",
            json!({
                "items": outcome.items, "seconds": seconds, "items_per_second": rate,
                "cpu_seconds": cpu, "items_per_cpu_second": per_cpu, "resident_bytes": resident,
                "bytes_per_item": requests.bytes_per_item(), "retryable": outcome.retryable,
                "failed": outcome.failed, "rejected_items": outcome.rejected,
                "latency_ms": {
                    "p50": outcome.quantile(0.5), "p99": outcome.quantile(0.99), "max": outcome.quantile(1.0),
                },
            })
        );
    } else {
        println!(
            "{} items of {:.0} bytes in {seconds:.1} s: {rate:.0} a second",
            outcome.items,
            requests.bytes_per_item()
        );
        if let (Some(cpu), Some(per_cpu), Some(resident)) = (cpu, per_cpu, resident) {
            println!(
                "server: {cpu:.2} CPU-seconds, {per_cpu:.0} items per CPU-second, {:.0} MiB resident",
                resident as f64 / 1_048_576.0
            );
        }
        println!(
            "requests: p50 {:.1} ms, p99 {:.1} ms; {} answered with try again, {} failed; {} items rejected",
            outcome.quantile(0.5).unwrap_or_default(),
            outcome.quantile(0.99).unwrap_or_default(),
            outcome.retryable,
            outcome.failed,
            outcome.rejected
        );
    }
    ensure!(
        outcome.items > 0,
        "nothing was accepted{}",
        outcome
            .failure
            .as_ref()
            .map_or_else(String::new, |why| format!(": {why}"))
    );
    Ok(())
}
