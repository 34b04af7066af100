use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::HeaderMap;
use axum::routing::post;
use tokio_util::sync::CancellationToken;

/// Deliveries that are remembered; a demo makes a handful.
const REMEMBERED: usize = 1_000;

/// One webhook as it came in.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// `webhook-id`, the same over retries.
    pub id: Option<String>,
    /// Whether it carried a signature.
    pub signed: bool,
    /// The JSON body.
    pub body: serde_json::Value,
}

/// An HTTP receiver for webhooks that remembers what it was sent.
#[derive(Debug, Clone)]
pub struct Receiver {
    address: SocketAddr,
    deliveries: Arc<Mutex<Vec<Delivery>>>,
}

impl Receiver {
    /// Listens on a free port of the loopback interface until `stop`.
    ///
    /// # Errors
    /// No port can be had.
    pub async fn start(stop: CancellationToken) -> anyhow::Result<Self> {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        let receiver = Self {
            address: listener.local_addr()?,
            deliveries: Arc::default(),
        };
        let router = Router::new()
            .route("/hook", post(take))
            .layer(DefaultBodyLimit::max(4 << 20))
            .with_state(receiver.clone());
        tokio::spawn(async move {
            let served = axum::serve(listener, router)
                .with_graceful_shutdown(async move { stop.cancelled().await })
                .await;
            if let Err(error) = served {
                tracing::warn!(%error, "the demo's webhook receiver ended");
            }
        });
        Ok(receiver)
    }

    /// Where webhooks are to be sent.
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// What has come in, oldest first.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.deliveries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

async fn take(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let delivery = Delivery {
        id: text("webhook-id").map(str::to_owned),
        signed: text("webhook-signature").is_some(),
        body: serde_json::from_slice(&body).unwrap_or_default(),
    };
    let mut deliveries = receiver
        .deliveries
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    if deliveries.len() < REMEMBERED {
        deliveries.push(delivery);
    }
}
