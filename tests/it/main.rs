//! The daemon as a black box, over its real ports, with the clients that its users have.

mod harness;

mod architecture;
mod cli;
mod clients;
mod main_job;
mod modes;
mod own_telemetry;
mod prometheus;
mod state;
