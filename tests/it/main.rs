//! The daemon as a black box, over its real ports, with the clients that its users have.

mod harness;

mod architecture;
mod clients;
mod main_job;
mod prometheus;
mod state;
