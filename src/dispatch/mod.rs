//! Stage 6, NOTIFY (first half): transitions come in, notifications go out, grouped as Alertmanager
//! groups them.
//!
//! In: [`crate::model::Transition`]s. Out: [`Notification`]s, each about one group of alerts, and what
//! must be durable.
//!
//! What always holds:
//! - a pending alert is never notified, nor one that was resolved before anyone was told of it;
//! - an alert that fires is in a notification within the longer of `group_wait` and `group_interval`;
//! - whoever was told that an alert fires is told when it is resolved;
//! - while a group has firing alerts, its notifications are at least `group_interval` apart;
//! - a restart neither repeats nor forgets.
//!
//! It knows nothing of receivers but their name, nor of delivery, and never asks for the time.

mod dispatcher;
mod group;
mod notification;
mod store;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod laws;
#[cfg(test)]
mod scenarios;

pub use dispatcher::{Dispatcher, GroupBy, Settings};
pub use notification::{Notification, Status};
