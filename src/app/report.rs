//! The performance report, made on demand from the engine's state and the published alerts.

use crate::clock::Clock;
use crate::engine::Handle;
use crate::explain;
use crate::expose;
use crate::expose::aside::in_turns;
use crate::model::{BaselineView, BoxFuture, Examined, Query as _, Selector, SignalView};
use crate::publish::Board;

/// Signals that one report looks at. With more, the report says how many it saw.
const MOST_SIGNALS: usize = 50_000;
/// The medians of operations.
const MEDIANS: &str = r#"{metric="span.duration",signal="p50"}"#;

/// Makes reports.
pub(super) struct Reporter {
    pub(super) engine: Handle,
    pub(super) board: Board,
    pub(super) clock: Clock,
}

impl Reporter {
    async fn report(&self) -> explain::Report {
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
        let report = explain::report(now, &signals, &services, &alerts, &incidents);
        // To let go of so many texts takes a while, too.
        in_turns(signals, 64).for_each(drop);
        report
    }
}

impl expose::Report for Reporter {
    fn json(&self) -> BoxFuture<'_, serde_json::Value> {
        // A report is plain data of our own and always has a JSON form.
        Box::pin(async { serde_json::to_value(self.report().await).unwrap_or_default() })
    }

    fn markdown(&self) -> BoxFuture<'_, String> {
        Box::pin(async { self.report().await.to_markdown() })
    }
}
