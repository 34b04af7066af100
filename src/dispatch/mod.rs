//! Stage 6, NOTIFY (first half): transitions come in, notifications go out, routed, grouped and timed as
//! Alertmanager does it.
//!
//! In: [`crate::model::Transition`]s, and who is silenced. Out: [`Notification`]s, each about one group of
//! alerts of one route, and what must be durable.
//!
//! A group is looked at `group_wait` after it begins, and from then on every `group_interval`. Then it is
//! told if there is an alert that fires and was not in its last notification, or with another severity;
//! if an alert is over that was told; or if it fires and the last notification is longer ago than
//! `repeat_interval`.
//!
//! What always holds:
//! - a pending alert is never notified, nor one that was resolved before anyone was told of it;
//! - an alert that fires and is not muted is in a notification within the longer of `group_wait` and
//!   `group_interval`;
//! - what is muted is in no notification;
//! - whoever was told that an alert fires is told when it is resolved; if it is muted then, as soon as it is
//!   not (for up to 120 hours);
//! - while a group has firing alerts, its notifications are at least `group_interval` apart;
//! - a restart neither repeats nor forgets.
//!
//! It knows nothing of receivers but their name, nor of delivery, and never asks for the time.

mod dispatcher;
mod group;
mod notification;
mod route;
mod store;
mod view;

#[cfg(test)]
mod changes;
#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod laws;
#[cfg(test)]
mod scenarios;

pub use dispatcher::{Dispatcher, Settings};
pub use notification::{Notification, Reason, Status};
pub use route::{GroupBy, Node, Route, Routes};
pub use view::{AlertView, GroupView, Notifying};
