//! The daemon as a black box, over its real ports, with the clients that its users have.

// A test binary has no outside: `pub` here means between its modules.
#![allow(unreachable_pub)]
// A failing test shows what the daemon said, and real clients live in real time.
#![allow(clippy::print_stderr, clippy::disallowed_methods)]

mod harness;

mod alertmanager_api;
mod architecture;
mod backtest;
mod bad_input;
mod calibration;
mod calm;
mod churn;
mod cli;
mod clients;
mod delivery;
mod detectors;
mod dismiss;
mod examples;
mod follow;
mod incidents;
mod limits;
mod main_job;
mod mode_watchers;
mod modes;
mod nab;
mod openfeature;
mod own_telemetry;
mod prometheus;
mod prometheus_alerts;
mod routing;
mod receivers;
mod state;
