//! A service that does what Tidewatch tells it: a tower layer refuses what the priority floor leaves out
//! and a share of the rest, and a task follows the mode and says which one runs.
//!
//! ```text
//! TIDEWATCH_URL=http://127.0.0.1:9517 SERVICE=cart LISTEN=127.0.0.1:8080 cargo run --example axum
//! curl -i -H 'x-priority: low' http://127.0.0.1:8080/
//! ```

#![allow(clippy::print_stdout)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures_util::future::{Either, Ready, ready};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;
use tower::{Layer, Service};

/// As `modes.lease` of Tidewatch: who hears nothing for so long goes back to the default.
const LEASE: Duration = Duration::from_secs(30);
/// The least important first; who names no priority is `normal`.
const PRIORITIES: [&str; 4] = ["low", "normal", "high", "critical"];

/// What we are told; the default is this service's own.
#[derive(Clone, Debug, Default, PartialEq)]
struct Told {
    floor: usize,
    shed: f64,
    recommendations: Option<bool>,
    state: Value,
}

fn priority(name: &str) -> usize {
    PRIORITIES
        .iter()
        .position(|known| *known == name)
        .unwrap_or(1)
}

/// Refuses requests below the floor, and the told share of those above it that are not critical.
#[derive(Clone)]
struct Shed<S> {
    inner: S,
    told: watch::Receiver<Told>,
    seen: Arc<AtomicU64>,
}

impl<S: Service<Request, Response = Response>> Service<Request> for Shed<S> {
    type Response = Response;
    type Error = S::Error;
    type Future = Either<Ready<Result<Response, S::Error>>, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let named = request.headers().get("x-priority");
        let priority = priority(
            named
                .and_then(|name| name.to_str().ok())
                .unwrap_or("normal"),
        );
        let (floor, shed) = {
            let told = self.told.borrow();
            (told.floor, told.shed)
        };
        // Spread evenly: of four with a share of 0.25, each fourth.
        let is_unlucky = || {
            let n = self.seen.fetch_add(1, Ordering::Relaxed) as f64;
            ((n + 1.0) * shed).floor() > (n * shed).floor()
        };
        if priority < floor || (priority < 3 && is_unlucky()) {
            let refusal = (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "5")]);
            return Either::Left(ready(Ok(refusal.into_response())));
        }
        Either::Right(self.inner.call(request))
    }
}

#[derive(Clone)]
struct ShedLayer(watch::Receiver<Told>);

impl<S> Layer<S> for ShedLayer {
    type Service = Shed<S>;

    fn layer(&self, inner: S) -> Shed<S> {
        let told = self.0.clone();
        Shed {
            inner,
            told,
            seen: Arc::default(),
        }
    }
}

/// Asks Tidewatch, which answers at once when something changes, and says what runs.
async fn follow(url: String, told: watch::Sender<Told>) {
    let http = reqwest::Client::new();
    let (mut tag, mut heard) = (String::new(), Instant::now());
    loop {
        let asked = http
            .get(format!("{url}?wait=10s"))
            .header("if-none-match", &tag);
        let answer = asked.timeout(Duration::from_secs(15)).send().await;
        match answer {
            Ok(answer) if answer.status().is_success() => {
                let header = answer
                    .headers()
                    .get("etag")
                    .and_then(|tag| tag.to_str().ok());
                tag = header.unwrap_or_default().to_owned();
                let state = answer.json::<Value>().await.unwrap_or_default()["data"].take();
                heard = Instant::now();
                told.send_replace(Told {
                    floor: priority(state["priority_floor"].as_str().unwrap_or("low")),
                    shed: state["shed"].as_f64().unwrap_or(0.0),
                    recommendations: state["features"]["recommendations"].as_bool(),
                    state,
                });
            }
            Ok(answer) if answer.status() == StatusCode::NOT_MODIFIED => heard = Instant::now(),
            _ => {
                tag.clear();
                if heard.elapsed() > LEASE {
                    told.send_replace(Told::default());
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        }
        let (mode, sequence) = {
            let state = &told.borrow().state;
            (state["mode"].clone(), state["sequence"].clone())
        };
        let said = json!({"mode": mode, "sequence": sequence, "instance": "one"});
        drop(http.post(format!("{url}/ack")).json(&said).send().await);
    }
}

async fn index(State(told): State<watch::Receiver<Told>>) -> Json<Value> {
    let told = told.borrow();
    let recommendations = told.recommendations.unwrap_or(true);
    Json(json!({"mode": told.state["mode"], "recommendations": recommendations}))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let setting = |name: &str, default: &str| std::env::var(name).unwrap_or(default.into());
    let base = setting("TIDEWATCH_URL", "http://127.0.0.1:9517");
    let url = format!("{base}/api/v1/modes/{}", setting("SERVICE", "cart"));
    let (sender, told) = watch::channel(Told::default());
    tokio::spawn(follow(url, sender));
    let router = Router::new()
        .route("/", get(index))
        .layer(ShedLayer(told.clone()))
        .with_state(told);
    let listener = tokio::net::TcpListener::bind(setting("LISTEN", "127.0.0.1:8080")).await?;
    println!("listening on {}", listener.local_addr()?);
    Ok(axum::serve(listener, router).await?)
}
