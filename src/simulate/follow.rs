use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::follow::{Service, Told};
use crate::model::Acknowledgement;

/// Follows the mode of one service until `stop`, and says that it does. Without an instruction that holds
/// it runs as normal.
pub(super) async fn follow(
    service: Service,
    instance: String,
    degraded: Arc<AtomicBool>,
    stop: CancellationToken,
) {
    let (sender, mut told) = watch::channel(Told::Nothing);
    let obey = async {
        // Told again with each renewal, and said again, so that it is known to live.
        while told.changed().await.is_ok() {
            let heard = told.borrow_and_update().clone();
            let state = match heard {
                Told::Instruction(state) => Some(state),
                Told::Nothing | Told::Unknown | Told::Silent { .. } => None,
            };
            let away = state.as_ref().is_some_and(|state| state.mode != "normal");
            degraded.store(away, Ordering::Relaxed);
            let Some(state) = state else { continue };
            let said = Acknowledgement {
                instance: instance.clone(),
                mode: state.mode.clone(),
                sequence: state.sequence,
                detail: String::new(),
            };
            if let Err(error) = service.acknowledge(&said).await {
                tracing::debug!(service = state.service, %error, "not acknowledged");
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        never = service.follow(&sender) => match never {},
        () = obey => {}
    }
}
