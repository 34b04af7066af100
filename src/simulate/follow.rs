use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio_util::sync::CancellationToken;

/// Longest event that is read; modes are far shorter.
const MAX_EVENT_BYTES: usize = 256 * 1024;
/// Pause before a lost stream is opened again.
const RECONNECT: Duration = Duration::from_millis(250);

/// Follows the mode of `service` over server-sent events until `stop`: takes the present mode first,
/// then every change, and picks up at `Last-Event-ID` when the connection breaks.
pub(super) async fn follow(
    api: String,
    service: &'static str,
    degraded: Arc<AtomicBool>,
    stop: CancellationToken,
) {
    let client = reqwest::Client::new();
    let mut last_id = None;
    loop {
        let watch = watch(&client, &api, service, &degraded, &mut last_id);
        tokio::select! {
            () = stop.cancelled() => return,
            ended = watch => if let Err(error) = ended {
                tracing::debug!(service, %error, "mode stream ended");
            },
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RECONNECT) => {}
        }
    }
}

async fn watch(
    client: &reqwest::Client,
    api: &str,
    service: &str,
    degraded: &AtomicBool,
    last_id: &mut Option<String>,
) -> anyhow::Result<()> {
    let mut request = client.get(format!("{api}/api/v1/events?service={service}"));
    if let Some(id) = &*last_id {
        request = request.header("last-event-id", id);
    }
    let mut stream = request.send().await?.error_for_status()?.bytes_stream();
    if last_id.is_none() {
        // Opened first and asked second, so that no change falls between the two.
        let url = format!("{api}/api/v1/modes/{service}");
        let answer = client.get(url).send().await?;
        if answer.status().is_success() {
            let state: serde_json::Value = answer.json().await?;
            obey(&state["data"], degraded);
        }
    }
    let mut buffer: Vec<u8> = Vec::new();
    while let Some(chunk) = stream.next().await {
        buffer.extend_from_slice(&chunk?);
        anyhow::ensure!(
            buffer.len() <= MAX_EVENT_BYTES,
            "an event of more than {MAX_EVENT_BYTES} bytes"
        );
        while let Some(end) = buffer.windows(2).position(|pair| pair == b"\n\n") {
            let event: Vec<u8> = buffer.drain(..end + 2).collect();
            take(&String::from_utf8_lossy(&event), degraded, last_id);
        }
    }
    Ok(())
}

/// One event: `id:`, `event:` and `data:` lines.
fn take(event: &str, degraded: &AtomicBool, last_id: &mut Option<String>) {
    let field = |name: &str| {
        event
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
    };
    if let Some(id) = field("id:") {
        *last_id = Some(id.to_owned());
    }
    if field("event:") == Some("mode")
        && let Some(data) = field("data:")
        && let Ok(event) = serde_json::from_str::<serde_json::Value>(data)
    {
        obey(&event["state"], degraded);
    }
}

fn obey(state: &serde_json::Value, degraded: &AtomicBool) {
    if let Some(mode) = state["mode"].as_str() {
        degraded.store(mode != "normal", Ordering::Relaxed);
    }
}
