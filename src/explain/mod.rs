//! Why: what people read about an alert, incidents over several services, and the performance report.
//!
//! In: alerts as the machine keeps them, the topology and the movements of signals as the engine saw
//! them, services with their versions. Out: annotations (`explanation`, `recommendation`,
//! `likely_origin`, `incident` and the numbers with units) with the facts they rest on, the
//! [`Incident`](crate::model::Incident)s, and the [`Report`].
//!
//! What always holds: explaining changes annotations and grounds and nothing else; the same input gives
//! the same text; what a rule says in its own annotations wins; texts from outside are cut to a bearable
//! length and free of control characters. It knows nothing of detectors, routes and modes.

mod annotate;
mod cause;
mod context;
mod dismissals;
mod explainer;
mod external;
mod gathered;
mod incident;
mod quantity;
mod recommendation;
mod record;
mod report;
mod report_text;
mod topology;
mod words;

#[cfg(test)]
mod fixtures;

pub use context::{Facts, questions};
pub use explainer::Explainer;
pub use gathered::Gathered;
pub use report::{AlertLine, Health, Operation, Report, ServiceReport, SignalLine, Totals, report};
