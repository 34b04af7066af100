//! Tidewatch: OTLP in, calibrated deviations, alerts and degraded modes out.
//!
//! The modules stand in the order in which data flows; each knows only what stands before it, as
//! `tests/it/architecture.rs` checks. `ARCHITECTURE.md` is the map with words.

pub mod model;
pub mod clock;
pub mod telemetry;

pub mod config;
pub mod ingest;
pub mod derive;
pub mod window;
pub mod detect;
pub mod engine;
pub mod alert;
pub mod explain;
pub mod mute;
pub mod dispatch;
pub mod notify;
pub mod modes;
pub mod storage;
pub mod publish;
pub mod instruct;
pub mod expose;
pub mod follow;

pub mod simulate;
pub mod shutdown;
pub mod app;
pub mod cli;
