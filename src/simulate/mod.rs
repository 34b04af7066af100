//! A small shop for the demo: six services that call each other and report through the real
//! OpenTelemetry SDK over OTLP, an incident in one of them, and the mode each of them follows.
//!
//! Nothing here is known to the daemon; the shop is a client as any other.

pub mod demo;
mod follow;
mod receiver;
mod service;
mod shop;
mod story;

pub use receiver::{Delivery, Receiver};
pub use service::Endpoints;
pub use shop::{Incident, Shop, ShopHandle};
pub use story::{Outcome, Story};
