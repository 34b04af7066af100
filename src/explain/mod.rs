//! Why: what people read about an alert, and the performance report.
//!
//! In: alerts as the machine keeps them, the topology as the engine saw it, the other active alerts.
//! Out: annotations (`explanation`, `recommendation`, `likely_origin` and the numbers with units), and
//! the [`Report`].
//!
//! What always holds: explaining changes annotations and nothing else; the same input gives the same
//! text; what a rule says in its own annotations wins; texts from outside are cut to a bearable length
//! and free of control characters. It knows nothing of detectors, routes and modes.

mod annotate;
mod cause;
mod quantity;
mod recommendation;
mod report;
mod report_text;
mod topology;

#[cfg(test)]
mod fixtures;

pub use annotate::{Context, annotate};
pub use report::{AlertLine, Health, Operation, Report, ServiceReport, SignalLine, Totals, report};
