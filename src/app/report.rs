//! The performance report, made on demand from the engine's state and the published alerts.

use crate::clock::Clock;
use crate::engine::Handle;
use crate::explain;
use crate::expose;
use crate::expose::aside::in_turns;
use crate::model::{BaselineView, BoxFuture, Examined, Query as _, Selector};
use crate::publish::Board;

/// Signals that one report looks at. With more, the report says how many it saw.
const MOST_SIGNALS: usize = 50_000;
/// Signals that are asked for together, and those that are taken in in one turn.
const PAGE: usize = 1_000;
const TURN: usize = 64;
/// The medians of operations.
const MEDIANS: &str = r#"{metric="span.duration",signal="p50"}"#;

/// Makes reports.
pub(super) struct Reporter {
    pub(super) engine: Handle,
    pub(super) board: Board,
    pub(super) clock: Clock,
}

impl Reporter {
    /// Made page by page, so that little is in memory at a time.
    async fn report(&self) -> explain::Report {
        let (mut gathered, mut cursor, mut left) =
            (explain::Gathered::default(), None, MOST_SIGNALS);
        while left > 0 {
            let page = self.engine.examined(cursor, left.min(PAGE)).await;
            left = left.saturating_sub(page.items.len());
            in_turns(page.items, TURN).for_each(|signal| gathered.add(&signal));
            match page.next {
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
        // The built-in rules watch no medians, and no operation is understood without its own.
        let (mut cursor, mut left) = (None, MOST_SIGNALS);
        while left > 0
            && let Ok(medians) = Selector::parse(MEDIANS)
        {
            let page = self.engine.signals(medians, cursor, left.min(PAGE)).await;
            left = left.saturating_sub(page.items.len());
            for view in in_turns(page.items, TURN) {
                if view.baseline == BaselineView::Unwatched {
                    gathered.add(&Examined {
                        view,
                        worst: None,
                        trend: None,
                    });
                }
            }
            match page.next {
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
        let services = self.engine.services().await;
        let (alerts, incidents) = (self.board.alerts(), self.board.incidents());
        explain::report(self.clock.now(), gathered, &services, &alerts, &incidents)
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
