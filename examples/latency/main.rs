//! From a point that breaks a rule to the webhook about it: `benches/latency.sh` starts it beside a daemon.
//!
//! It loads the daemon at a fixed rate, sends single points of marked series that are beyond a bound, spread
//! evenly over the ticks, receives the webhooks, and prints how long each took: from before the request is
//! sent until the notification has been read, so that both ways over loopback are in it.
#![allow(clippy::print_stdout, reason = "printing is what it is for")]

mod probe;
#[path = "../load/requests.rs"]
#[allow(dead_code, reason = "shared with the load generator")]
mod requests;
#[path = "../load/send.rs"]
#[allow(dead_code, reason = "shared with the load generator")]
mod send;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use axum::Router;
use axum::extract::State;
use axum::routing::post;
use bytes::Bytes;
use clap::Parser;
use serde_json::Value;
use tidewatch::clock::Clock;
use tidewatch::model::Timestamp;

use requests::{Mix, Requests, Shape};
use send::{Answer, Connection, Plan, Transport};

/// Metric of the marked series; the rule of `benches/latency.sh` watches it.
const METRIC: &str = "latency.probe";

/// Sends points that break a rule, and times the webhooks about them.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where OTLP/gRPC goes
    #[arg(long)]
    endpoint: String,
    /// Where webhooks come in
    #[arg(long)]
    listen: SocketAddr,
    /// Points a second besides; 0: none
    #[arg(long)]
    rate: f64,
    /// Distinct series of these
    #[arg(long, default_value_t = 10_000)]
    series: usize,
    /// Length of the daemon's tick, in seconds
    #[arg(long, default_value_t = 10.0)]
    tick: f64,
    /// For so many ticks
    #[arg(long, default_value_t = 12)]
    ticks: u32,
    /// Alerts in each of them
    #[arg(long, default_value_t = 40)]
    alerts: u32,
}

/// When the webhook about a service came.
type Arrivals = Arc<Mutex<BTreeMap<String, Timestamp>>>;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    // The HTTP client wants one to be named, even for plain HTTP; a second would be an error to ignore.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    ensure!(
        arguments.alerts > 0 && arguments.ticks > 0 && arguments.tick > 0.0,
        "alerts, ticks and the tick must be more than 0"
    );
    let arrivals = Arrivals::default();
    let listener = tokio::net::TcpListener::bind(arguments.listen).await?;
    let hook = Router::new()
        .route("/", post(received))
        .with_state(Arc::clone(&arrivals));
    tokio::spawn(async { axum::serve(listener, hook).await });

    let shape = Shape {
        series: arguments.series,
        items: 200,
        max_bytes: 512 << 20,
        mix: Mix::All,
    };
    let requests = Arc::new(Requests::metrics(&shape)?);
    let count = arguments.alerts * arguments.ticks;
    let length = Duration::from_secs_f64(arguments.tick * f64::from(arguments.ticks));
    let plan = Plan {
        transport: Transport::Grpc,
        endpoint: arguments.endpoint.clone(),
        connections: 4,
        in_flight: 4,
        rounds: None,
        rate: Some(arguments.rate.max(1.0)),
        // A tick before, and one behind.
        length: length + Duration::from_secs_f64(2.0 * arguments.tick),
    };
    let mut connection = Connection::open(&plan, &requests).await?;
    let load = tokio::spawn(async move {
        match plan.rate {
            Some(rate) if rate > 1.0 => Some(send::run(plan, &requests).await),
            _ => None,
        }
    });
    let all: Vec<u32> = (0..count).collect();
    probe(&mut connection, &all, 1.0).await?;
    tokio::time::sleep(Duration::from_secs_f64(arguments.tick)).await;

    let mut sent = BTreeMap::new();
    let mut timer = tokio::time::interval(length / count);
    for number in all {
        timer.tick().await;
        sent.insert(service(number), Clock::System.now());
        probe(&mut connection, &[number], 1_000.0).await?;
    }
    let mut patience = 100;
    while arrived(&arrivals) < sent.len() && patience > 0 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        patience -= 1;
    }
    let outcome = load.await?.transpose()?;
    let arrivals = arrivals.lock().unwrap_or_else(PoisonError::into_inner);
    report(&arguments, &sent, &arrivals);
    if let Some(outcome) = outcome {
        println!(
            "\n{:.0} points a second besides; {} requests to try again, {} failed",
            outcome.items as f64 / outcome.elapsed.as_secs_f64(),
            outcome.retryable,
            outcome.failed
        );
    }
    ensure!(
        arrivals.len() == sent.len(),
        "webhooks are missing about {} of {} alerts",
        sent.len() - arrivals.len(),
        sent.len()
    );
    Ok(())
}

fn service(number: u32) -> String {
    format!("probe-{number:04}")
}

/// Sends one point of each of these services.
async fn probe(connection: &mut Connection, numbers: &[u32], value: f64) -> Result<()> {
    let now = u64::try_from(Clock::System.now().as_nanos()).unwrap_or(0);
    let services: Vec<String> = numbers.iter().map(|number| service(*number)).collect();
    let body = probe::gauges(&services, METRIC, value, now);
    match connection.send(Bytes::from(body)).await {
        Answer::Accepted(0) => Ok(()),
        Answer::Accepted(_) => bail!("a marked point was rejected"),
        Answer::Retryable => bail!("the daemon refuses marked points: there is too much load"),
        Answer::Failed(why) => bail!("a marked point could not be sent: {why}"),
    }
}

/// Takes a webhook in Alertmanager's form.
async fn received(State(arrivals): State<Arrivals>, body: Bytes) {
    let now = Clock::System.now();
    let message: Value = serde_json::from_slice(&body).unwrap_or_default();
    let alerts = message["alerts"].as_array().into_iter().flatten();
    let mut arrivals = arrivals.lock().unwrap_or_else(PoisonError::into_inner);
    for alert in alerts.filter(|alert| alert["status"] == "firing") {
        if let Some(service) = alert["labels"]["service"].as_str() {
            arrivals.entry(service.to_owned()).or_insert(now);
        }
    }
}

fn arrived(arrivals: &Arrivals) -> usize {
    arrivals
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .len()
}

fn report(
    arguments: &Arguments,
    sent: &BTreeMap<String, Timestamp>,
    arrivals: &BTreeMap<String, Timestamp>,
) {
    let tick = Duration::from_secs_f64(arguments.tick);
    let (mut whole, mut behind) = (Vec::new(), Vec::new());
    for (service, sent) in sent {
        if let Some(arrived) = arrivals.get(service) {
            let end = tidewatch::derive::tick_end(*sent, tick);
            whole.push(arrived.since(*sent).as_secs_f64());
            behind.push(arrived.since(end).as_secs_f64() * 1e3);
        }
    }
    println!("| {} alerts | p50 | p99 | most |", whole.len());
    println!("|---|---|---|---|");
    let line = |what: &str, mut values: Vec<f64>, unit: &str| {
        values.sort_by(f64::total_cmp);
        let at = |q: f64| {
            let at = (q * values.len() as f64).ceil() as usize;
            values
                .get(at.saturating_sub(1))
                .copied()
                .unwrap_or_default()
        };
        let (p50, p99, most) = (at(0.5), at(0.99), at(1.0));
        println!("| {what} | {p50:.3} {unit} | {p99:.3} {unit} | {most:.3} {unit} |");
    };
    line("from the request to the webhook", whole, "s");
    line("behind the end of the tick", behind, "ms");
}
