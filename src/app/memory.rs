//! How much memory the daemon has, and what happens when it is too much.

use std::fs::File;
use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::ingest::{Admission, Cause};

/// How often memory is looked at: often enough that a flood is stopped in time, rarely enough to cost
/// nothing.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Telemetry is refused from this share of the limit, and taken again below [`CALM`].
const FULL: f64 = 0.9;
/// See [`FULL`].
const CALM: f64 = 0.85;

/// Resident memory of this process in bytes; `None` where the system does not say.
pub(super) fn resident_bytes() -> Option<u64> {
    // With room for all of it there is one read and not eight: this is most of what an idle daemon does.
    let mut status = String::with_capacity(4096);
    let mut file = File::open("/proc/self/status").ok()?;
    file.read_to_string(&mut status).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// Refuses telemetry while memory is near `limit` bytes, until `stop`. Clients keep what is refused and
/// send it again.
pub(super) async fn watch(limit: u64, admission: Arc<Admission>, stop: CancellationToken) {
    let mut timer = tokio::time::interval(LOOK_EVERY);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut refusing = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = timer.tick() => {}
        }
        let Some(resident) = resident_bytes() else {
            continue;
        };
        let share = resident as f64 / limit as f64;
        if !refusing && share >= FULL {
            refusing = true;
            tracing::warn!(
                resident,
                limit,
                "memory is nearly used up: telemetry is refused for now"
            );
            admission.refuse(Cause::Memory);
        } else if refusing && share < CALM {
            refusing = false;
            tracing::info!(resident, limit, "memory is available again");
            admission.allow(Cause::Memory);
        }
    }
}
