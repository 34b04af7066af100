//! An HTTP receiver for webhooks that answers as told and remembers what came.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use serde_json::Value;

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Method, path and query.
    pub target: String,
    pub headers: HeaderMap,
    pub raw: Vec<u8>,
    pub body: Value,
}

impl Delivery {
    pub fn header(&self, name: &str) -> String {
        self.headers
            .get(name)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default()
            .to_owned()
    }
}

/// The receiver. Answers 200, or the next of the statuses it was given.
#[derive(Clone)]
pub struct Hook {
    pub url: String,
    deliveries: Arc<Mutex<Vec<Delivery>>>,
    answers: Arc<Mutex<VecDeque<StatusCode>>>,
}

impl Hook {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let url = format!("http://{}/hook", listener.local_addr().expect("bound"));
        let hook = Self {
            url,
            deliveries: Arc::default(),
            answers: Arc::default(),
        };
        let router = Router::new().fallback(take).with_state(hook.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.expect("serves") });
        hook
    }

    /// The statuses of the next answers; 200 after them.
    pub fn answer(&self, statuses: &[u16]) {
        let statuses = statuses
            .iter()
            .map(|s| StatusCode::from_u16(*s).expect("a status"));
        self.answers.lock().expect("answers").extend(statuses);
    }

    /// What has come in, oldest first.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.deliveries.lock().expect("deliveries").clone()
    }
}

async fn take(
    State(hook): State<Hook>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    raw: Bytes,
) -> StatusCode {
    let body = serde_json::from_slice(&raw).unwrap_or_default();
    hook.deliveries.lock().expect("deliveries").push(Delivery {
        target: format!("{method} {uri}"),
        headers,
        raw: raw.to_vec(),
        body,
    });
    hook.answers
        .lock()
        .expect("answers")
        .pop_front()
        .unwrap_or(StatusCode::OK)
}
