use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::follow::{Service, Told};

/// Follows the mode of one service until `stop`. Without an instruction that holds it runs as normal.
pub(super) async fn follow(service: Service, degraded: Arc<AtomicBool>, stop: CancellationToken) {
    let (sender, mut told) = watch::channel(Told::Nothing);
    let obey = async {
        while told.changed().await.is_ok() {
            let away = match &*told.borrow_and_update() {
                Told::Instruction(state) => state.mode != "normal",
                Told::Nothing | Told::Unknown | Told::Silent { .. } => false,
            };
            degraded.store(away, Ordering::Relaxed);
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        never = service.follow(&sender) => match never {},
        () = obey => {}
    }
}
