//! Which service is to be told next, and when. Time is passed in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::model::Timestamp;

/// What is sent to a service. Sent again as it is while nobody took it, so that who did and could not say
/// so knows it again; until it is renewed, or there is a newer instruction.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// Its own.
    pub(super) id: String,
    pub(super) body: Vec<u8>,
    /// Number of the instruction.
    pub(super) sequence: u64,
    /// Until when the instruction holds by what it says.
    pub(super) holds_until: Timestamp,
    /// When it is to be renewed.
    pub(super) renewal: Instant,
}

/// What is known of telling one service.
#[derive(Debug)]
struct Entry {
    /// Which webhook reaches it; `None`: none does.
    hook: Option<usize>,
    /// Number of the instruction that it is to hear.
    wanted: u64,
    due: Instant,
    underway: bool,
    /// Failed attempts in a row.
    failed: u32,
    /// What it was sent last, if it was not taken.
    message: Option<Arc<Message>>,
}

/// Somebody who is to be told now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) service: Arc<str>,
    pub(super) hook: usize,
    /// What it was sent before and did not take.
    pub(super) message: Option<Arc<Message>>,
}

/// Who is to be told, in the order in which it is due. Bounded by the services that are known.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    services: BTreeMap<Arc<str>, Entry>,
    order: BTreeSet<(Instant, Arc<str>)>,
}

impl Agenda {
    /// Looks at what services are to hear: a name and the number of the instruction each, in the order of
    /// the names. What is new is due at once; who is not among them is left alone. `hook` finds the webhook
    /// of a service, once for each.
    pub(super) fn look<'a>(
        &mut self,
        now: Instant,
        wanted: impl Iterator<Item = (&'a str, u64)>,
        hook: impl Fn(&str) -> Option<usize>,
    ) {
        let mut gone: BTreeSet<Arc<str>> = self.services.keys().cloned().collect();
        for (service, sequence) in wanted {
            gone.remove(service);
            match self.services.get_mut(service) {
                Some(entry) if entry.wanted == sequence => {}
                Some(entry) => {
                    entry.wanted = sequence;
                    entry.failed = 0;
                    self.set_due(service, now);
                }
                None => {
                    let service: Arc<str> = service.into();
                    let entry = Entry {
                        hook: hook(&service),
                        wanted: sequence,
                        due: now,
                        underway: false,
                        failed: 0,
                        message: None,
                    };
                    if entry.hook.is_some() {
                        self.order.insert((now, Arc::clone(&service)));
                    }
                    self.services.insert(service, entry);
                }
            }
        }
        for service in gone {
            if let Some(entry) = self.services.remove(&service) {
                self.order.remove(&(entry.due, service));
            }
        }
    }

    fn set_due(&mut self, service: &str, due: Instant) {
        let Some((name, _)) = self.services.get_key_value(service) else {
            return;
        };
        let name = Arc::clone(name);
        let Some(entry) = self.services.get_mut(service) else {
            return;
        };
        self.order.remove(&(entry.due, Arc::clone(&name)));
        entry.due = due;
        if !entry.underway && entry.hook.is_some() {
            self.order.insert((due, name));
        }
    }

    /// When somebody is to be told next; `None`: nobody at present.
    pub(super) fn next(&self) -> Option<Instant> {
        self.order.first().map(|(due, _)| *due)
    }

    /// Who is to be told now. [`Agenda::done`] or [`Agenda::failed`] is to be called for each.
    pub(super) fn take(&mut self, now: Instant) -> Option<Job> {
        if self.next().is_none_or(|due| due > now) {
            return None;
        }
        let (_, service) = self.order.pop_first()?;
        let entry = self.services.get_mut(&service)?;
        entry.underway = true;
        let hook = entry.hook?;
        let message = entry.message.take();
        Some(Job {
            service,
            hook,
            message,
        })
    }

    /// `service` was told instruction `sequence`; it is told again after `renew`, or at once if there is a
    /// newer one. Returns after how many failures that was.
    pub(super) fn done(
        &mut self,
        now: Instant,
        service: &str,
        sequence: u64,
        renew: Duration,
    ) -> u32 {
        let Some(entry) = self.services.get_mut(service) else {
            return 0;
        };
        entry.underway = false;
        let failed = std::mem::take(&mut entry.failed);
        let superseded = entry.wanted != sequence;
        let due = if superseded { now } else { now + renew };
        self.set_due(service, due);
        failed
    }

    /// `service` was not told anything, because there is nothing that holds; it is looked at again after
    /// `rest`.
    pub(super) fn rest(&mut self, now: Instant, service: &str, rest: Duration) {
        if let Some(entry) = self.services.get_mut(service) {
            entry.underway = false;
            self.set_due(service, now + rest);
        }
    }

    /// `service` could not be told instruction `sequence` by `message`; it is tried again after what `wait`
    /// says for so many failures in a row, or at once if there is a newer one. Returns that number.
    pub(super) fn failed(
        &mut self,
        now: Instant,
        service: &str,
        sequence: u64,
        message: Option<Arc<Message>>,
        wait: impl FnOnce(u32) -> Duration,
    ) -> u32 {
        let Some(entry) = self.services.get_mut(service) else {
            return 0;
        };
        entry.underway = false;
        let superseded = entry.wanted != sequence;
        entry.message = message;
        entry.failed = entry.failed.saturating_add(1);
        let failed = entry.failed;
        let due = if superseded { now } else { now + wait(failed) };
        self.set_due(service, due);
        failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RENEW: Duration = Duration::from_secs(15);

    fn look(agenda: &mut Agenda, now: Instant, wanted: &[(&str, u64)]) {
        let hook = |service: &str| (service != "deaf").then_some(0);
        agenda.look(now, wanted.iter().copied(), hook);
    }

    fn taken(agenda: &mut Agenda, now: Instant) -> Vec<String> {
        let jobs = std::iter::from_fn(|| agenda.take(now));
        jobs.map(|job| job.service.to_string()).collect()
    }

    #[test]
    fn what_is_new_is_told_at_once_and_renewed() {
        let mut agenda = Agenda::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        look(&mut agenda, start, &[("cart", 0), ("deaf", 0), ("pay", 1)]);
        assert_eq!(taken(&mut agenda, start), ["cart", "pay"]);
        assert_eq!(agenda.next(), None, "both are underway");
        assert_eq!(agenda.done(start, "cart", 0, RENEW), 0);
        // Something newer comes while it is told: it is told again at once.
        look(&mut agenda, at(1), &[("cart", 0), ("deaf", 0), ("pay", 2)]);
        assert_eq!(taken(&mut agenda, at(1)), [""; 0]);
        assert_eq!(agenda.done(at(2), "pay", 1, RENEW), 0);
        assert_eq!(taken(&mut agenda, at(2)), ["pay"]);
        assert_eq!(agenda.done(at(2), "pay", 2, RENEW), 0);
        assert_eq!(agenda.next(), Some(at(15)));
        assert_eq!(taken(&mut agenda, at(20)), ["cart", "pay"]);
        // Who is forgotten is left alone.
        agenda.done(at(20), "cart", 0, RENEW);
        look(&mut agenda, at(20), &[]);
        assert_eq!(agenda.done(at(21), "pay", 2, RENEW), 0);
        agenda.rest(at(21), "pay", RENEW);
        assert_eq!(agenda.next(), None);
    }

    #[test]
    fn failures_are_repeated_until_they_are_superseded() {
        let mut agenda = Agenda::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let wait = |failed: u32| Duration::from_secs(failed.into());
        look(&mut agenda, start, &[("pay", 1)]);
        assert_eq!(taken(&mut agenda, start), ["pay"]);
        assert_eq!(agenda.failed(start, "pay", 1, None, wait), 1);
        assert_eq!(agenda.next(), Some(at(1)));
        assert_eq!(taken(&mut agenda, at(1)), ["pay"]);
        assert_eq!(agenda.failed(at(1), "pay", 1, None, wait), 2);
        assert_eq!(agenda.next(), Some(at(3)));
        // What is newer does not wait for the old one's turn.
        look(&mut agenda, at(2), &[("pay", 2)]);
        assert_eq!(taken(&mut agenda, at(2)), ["pay"]);
        assert_eq!(agenda.failed(at(2), "pay", 2, None, wait), 1);
        assert_eq!(taken(&mut agenda, at(3)), ["pay"]);
        assert_eq!(agenda.done(at(3), "pay", 2, RENEW), 1);
        assert_eq!(agenda.next(), Some(at(18)));
    }
}
