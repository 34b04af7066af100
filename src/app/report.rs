//! The performance report, made on demand from the engine's state and the published alerts.

use crate::clock::Clock;
use crate::engine::Handle;
use crate::explain;
use crate::expose;
use crate::model::{BaselineView, BoxFuture, Examined, Query as _, Selector, SignalView};
use crate::publish::Board;
use crate::telemetry::Telemetry;

/// Signals that one report looks at. With more, the report says how many it saw.
const MOST_SIGNALS: usize = 50_000;
/// The medians of operations.
const MEDIANS: &str = r#"{metric="span.duration",signal="p50"}"#;

/// Makes reports.
pub(super) struct Reporter {
    pub(super) engine: Handle,
    pub(super) board: Board,
    pub(super) clock: Clock,
    pub(super) telemetry: Telemetry,
}

impl Reporter {
    /// `shape` makes the answer. Neither it nor the report is made on a thread that takes telemetry in.
    async fn report<T: Send + 'static>(&self, shape: fn(explain::Report) -> T) -> Option<T> {
        let mut signals = self.engine.examined(MOST_SIGNALS).await;
        // The built-in rules watch no medians, and no operation is understood without its own.
        if let Ok(medians) = Selector::parse(MEDIANS) {
            let medians = self.engine.signals(medians, None, MOST_SIGNALS).await;
            let unwatched = |signal: &SignalView| signal.baseline == BaselineView::Unwatched;
            let examined = |view| Examined {
                view,
                worst: None,
                trend: None,
            };
            signals.extend(medians.items.into_iter().filter(unwatched).map(examined));
        }
        let services = self.engine.services().await;
        let (alerts, incidents) = (self.board.alerts(), self.board.incidents());
        let now = self.clock.now();
        let report = tokio::task::spawn_blocking(move || {
            let report = explain::report(now, &signals, &services, &alerts, &incidents);
            shape(report)
        });
        let report = report.await;
        if let Err(error) = &report {
            self.telemetry.panics.inc();
            tracing::error!(%error, "the report could not be made");
        }
        report.ok()
    }
}

impl expose::Report for Reporter {
    fn json(&self) -> BoxFuture<'_, serde_json::Value> {
        Box::pin(async {
            // A report is plain data of our own and always has a JSON form.
            let json = self.report(|report| serde_json::to_value(report).unwrap_or_default());
            json.await.unwrap_or_default()
        })
    }

    fn markdown(&self) -> BoxFuture<'_, String> {
        Box::pin(async {
            let markdown = self.report(|report| report.to_markdown()).await;
            markdown.unwrap_or_default()
        })
    }
}
