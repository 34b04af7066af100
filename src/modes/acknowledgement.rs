//! What services say about the mode that they run in.
//!
//! In: reports of instances, and what each service is told. Out: per service whether all that report have
//! heard the newest instruction and do as told, in which modes they run, and since when told and done
//! differ. What always holds: a report that only repeats another is no news; an instance that is not heard
//! of any more says nothing, neither yes nor no, and where none is heard of nothing differs. Every report
//! costs `O(log instances)`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{Acknowledgement, ModeState, ServiceReport, Timestamp};

/// An instance that is not heard of for so many leases does not report at present.
const PRESENT_LEASES: u32 = 3;
/// A service of which nobody reports is remembered for so long.
const REMEMBERED: Duration = Duration::from_secs(24 * 60 * 60);
/// When nothing else changes, the time when a service was heard of last is saved so rarely.
const SAVED_EVERY: Duration = Duration::from_secs(60 * 60);
/// Instances of one service that may report.
const MAX_INSTANCES: usize = 10_000;
/// Instances of all services that may report.
const MAX_ALL_INSTANCES: usize = 200_000;
/// Longest name of an instance, in bytes.
const MAX_NAME: usize = 256;
/// Longest detail that is kept, in bytes; the rest is cut off.
const MAX_DETAIL: usize = 256;
/// Services that refuse something are named with so many instances at most.
const MAX_MODES: usize = 16;

/// What a service was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told<'a> {
    pub(super) mode: &'a str,
    pub(super) sequence: u64,
}

impl<'a> Told<'a> {
    pub(super) fn of(state: &'a ModeState) -> Self {
        Self {
            mode: &state.mode,
            sequence: state.sequence,
        }
    }
}

/// What a report was.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Heard {
    /// The instance says something else than before, as kept.
    News(Acknowledgement),
    /// It says what it said before.
    Renewed,
}

/// Whether a service has heard one instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// No instance reports at present.
    Nobody,
    /// So many of the instances that report have not heard it, or have not said so.
    Waiting(u32),
    /// All that report have heard it and do as told.
    Done,
    /// An instance has heard it and runs in another mode: which one, in which, and what it says to it.
    Refused(Acknowledgement),
}

/// One instance as heard of last.
#[derive(Debug, Clone, PartialEq)]
struct Instance {
    mode: String,
    sequence: u64,
    detail: String,
    heard_at: Timestamp,
}

/// What the instances of one service say.
#[derive(Debug, Clone, Default)]
struct Service {
    instances: BTreeMap<String, Instance>,
    /// Who was heard of when, the longest ago first.
    ages: BTreeSet<(Timestamp, String)>,
    /// How many say the same, by sequence and mode.
    alike: BTreeMap<(u64, String), u32>,
    /// As of the last report or [`Reports::compare`].
    report: ServiceReport,
    /// What of it was saved last.
    saved: ServiceReport,
}

impl Service {
    fn remove(&mut self, name: &str) -> bool {
        let Some(instance) = self.instances.remove(name) else {
            return false;
        };
        self.ages.remove(&(instance.heard_at, name.into()));
        let key = (instance.sequence, instance.mode);
        if let Some(count) = self.alike.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.alike.remove(&key);
            }
        }
        true
    }

    fn insert(&mut self, name: &str, instance: Instance) {
        self.ages.insert((instance.heard_at, name.into()));
        let key = (instance.sequence, instance.mode.clone());
        *self.alike.entry(key).or_default() += 1;
        self.instances.insert(name.into(), instance);
    }

    /// Forgets those that do not report any more. How many.
    fn expire(&mut self, now: Timestamp, present: Duration) -> usize {
        let mut gone = 0;
        while let Some((heard_at, name)) = self.ages.first().cloned() {
            if now.since(heard_at) <= present {
                break;
            }
            gone += usize::from(self.remove(&name));
        }
        gone
    }

    fn actual(&self) -> Vec<(String, u32)> {
        let mut modes: BTreeMap<&str, u32> = BTreeMap::new();
        for ((_, mode), count) in &self.alike {
            *modes.entry(mode).or_default() += count;
        }
        let mut actual: Vec<_> = modes.into_iter().map(|(m, n)| (m.to_owned(), n)).collect();
        // Stable: of equals the first by name leads.
        actual.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        actual.truncate(MAX_MODES);
        actual
    }

    /// Sums up what its instances say. True if that is worth saving.
    fn refresh(&mut self, now: Timestamp, told: Told<'_>) -> bool {
        let does =
            |(sequence, mode): &(u64, String)| *sequence >= told.sequence && mode == told.mode;
        let agrees = self.alike.keys().all(does);
        // Of a service that reports no more it is known what it has heard, and not what it does.
        if let Some((oldest, _)) = self.alike.keys().next() {
            self.report.sequence = *oldest;
        }
        self.report.actual = self.actual();
        self.report.instances = u32::try_from(self.instances.len()).unwrap_or(u32::MAX);
        self.report.acknowledged = agrees && !self.instances.is_empty();
        self.report.differs_since =
            (!agrees).then(|| self.report.differs_since.unwrap_or(now).min(now));
        self.is_worth_saving()
    }
}

/// What is kept of one service over a restart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Saved(ServiceReport);

/// What all services say.
#[derive(Debug, Clone, Default)]
pub(super) struct Reports {
    services: BTreeMap<String, Service>,
    /// Instances that report, of all services.
    instances: usize,
    /// Services whose saved form has changed.
    unsaved: BTreeSet<String>,
}

impl Reports {
    /// Takes in what an instance of a service says that was `told` something.
    ///
    /// # Errors
    /// Says what is wrong with it, or that there is no room.
    pub(super) fn hear(
        &mut self,
        now: Timestamp,
        service: &str,
        told: Told<'_>,
        mut said: Acknowledgement,
        lease: Duration,
    ) -> Result<Heard, String> {
        if said.instance.len() > MAX_NAME {
            return Err(format!(
                "the name of the instance has {} bytes; at most {MAX_NAME} are kept",
                said.instance.len()
            ));
        }
        let end = said.detail.floor_char_boundary(MAX_DETAIL);
        said.detail.truncate(end);
        // It cannot have heard what was not told yet, or a wrong number would count for all times. Who only
        // says in which mode it runs has heard what told it that mode.
        said.sequence = match said.sequence {
            0 if said.mode == told.mode => told.sequence,
            sequence => sequence.min(told.sequence),
        };
        let present = lease.saturating_mul(PRESENT_LEASES);
        if !self.services.contains_key(service) && self.instances >= MAX_ALL_INSTANCES {
            return Err(full(MAX_ALL_INSTANCES, "of all services"));
        }
        let entry = self.services.entry(service.into()).or_default();
        self.instances -= entry.expire(now, present);
        let before = entry.instances.get(&said.instance);
        if before.is_none() && entry.instances.len() >= MAX_INSTANCES {
            return Err(full(MAX_INSTANCES, "of one service"));
        }
        if before.is_none() && self.instances >= MAX_ALL_INSTANCES {
            return Err(full(MAX_ALL_INSTANCES, "of all services"));
        }
        let is_same = before.is_some_and(|before| {
            (&before.mode, before.sequence, &before.detail)
                == (&said.mode, said.sequence, &said.detail)
        });
        self.instances -= usize::from(entry.remove(&said.instance));
        let instance = Instance {
            mode: said.mode.clone(),
            sequence: said.sequence,
            detail: said.detail.clone(),
            heard_at: now,
        };
        entry.insert(&said.instance, instance);
        self.instances += 1;
        entry.report.heard_at = Some(now);
        if entry.refresh(now, told) {
            self.unsaved.insert(service.into());
        }
        Ok(if is_same {
            Heard::Renewed
        } else {
            Heard::News(said)
        })
    }

    /// Whether an instance of a service reports at present.
    pub(super) fn is_present(&self, now: Timestamp, service: &str, lease: Duration) -> bool {
        let newest = self.services.get(service).and_then(|s| s.ages.last());
        let present = lease.saturating_mul(PRESENT_LEASES);
        newest.is_some_and(|(heard_at, _)| now.since(*heard_at) <= present)
    }

    /// A service is told something else from now on.
    pub(super) fn tell(&mut self, now: Timestamp, service: &str, told: Told<'_>) {
        if let Some(entry) = self.services.get_mut(service)
            && entry.refresh(now, told)
        {
            self.unsaved.insert(service.into());
        }
    }

    /// Whether a service runs in `mode` by the instruction `sequence` or a newer one.
    pub(super) fn standing(
        &mut self,
        now: Timestamp,
        service: &str,
        mode: &str,
        sequence: u64,
        lease: Duration,
    ) -> Standing {
        let Some(entry) = self.services.get_mut(service) else {
            return Standing::Nobody;
        };
        self.instances -= entry.expire(now, lease.saturating_mul(PRESENT_LEASES));
        let newest = entry.alike.range((sequence, String::new())..);
        let mut done = 0;
        for ((at, other), count) in newest {
            if other == mode {
                done += count;
                continue;
            }
            let refuses = |(_, i): &(&String, &Instance)| i.sequence == *at && i.mode == *other;
            let who = entry.instances.iter().find(refuses);
            return Standing::Refused(Acknowledgement {
                instance: who.map_or_else(String::new, |(name, _)| name.clone()),
                mode: other.clone(),
                sequence: *at,
                detail: who.map_or_else(String::new, |(_, i)| i.detail.clone()),
            });
        }
        let all = u32::try_from(entry.instances.len()).unwrap_or(u32::MAX);
        match (all, all.saturating_sub(done)) {
            (0, _) => Standing::Nobody,
            (_, 0) => Standing::Done,
            (_, waiting) => Standing::Waiting(waiting),
        }
    }

    /// Compares what all say with what they are told (`None`: the service is not known any more), and
    /// forgets who has not been heard of for long. `O(services)`, and what has come and gone.
    pub(super) fn compare<'a>(
        &mut self,
        now: Timestamp,
        lease: Duration,
        told: impl Fn(&str) -> Option<Told<'a>>,
    ) {
        let present = lease.saturating_mul(PRESENT_LEASES);
        let (instances, unsaved) = (&mut self.instances, &mut self.unsaved);
        self.services.retain(|name, service| {
            let heard_at = service.report.heard_at.unwrap_or(now);
            let told = told(name).filter(|_| now.since(heard_at) <= REMEMBERED);
            let Some(told) = told else {
                *instances -= service.instances.len();
                unsaved.insert(name.clone());
                return false;
            };
            *instances -= service.expire(now, present);
            if service.refresh(now, told) {
                unsaved.insert(name.clone());
            }
            true
        });
    }

    /// What each service says, as of its last report or [`Reports::compare`].
    pub(super) fn view(&self) -> BTreeMap<String, ServiceReport> {
        let services = self.services.iter();
        services
            .map(|(name, service)| (name.clone(), service.report.clone()))
            .collect()
    }

    /// What has to be saved since the last call; `None`: nothing any more.
    pub(super) fn changes(&mut self) -> Vec<(String, Option<Saved>)> {
        let mut changes = Vec::new();
        for name in std::mem::take(&mut self.unsaved) {
            let saved = self.services.get_mut(&name).map(Service::save);
            changes.push((name, saved));
        }
        changes
    }

    /// Everything that has to be kept.
    pub(super) fn entries(&self) -> Vec<(String, Saved)> {
        let services = self.services.iter();
        services
            .filter(|(_, service)| service.saved.heard_at.is_some())
            .map(|(name, service)| (name.clone(), Saved(service.saved.clone())))
            .collect()
    }

    /// Takes back what was saved of a service. Nobody reports until they are heard of again.
    pub(super) fn restore(&mut self, name: String, saved: Saved) {
        let service = Service {
            report: saved.0.clone(),
            saved: saved.0,
            ..Service::default()
        };
        self.services.insert(name, service);
    }
}

impl Service {
    /// How many report changes all the time where instances come and go, and is known soon after a start.
    fn is_worth_saving(&self) -> bool {
        let (new, old) = (&self.report, &self.saved);
        let aged = match (new.heard_at, old.heard_at) {
            (Some(new), Some(old)) => {
                new.since(old) >= SAVED_EVERY || old.since(new) > Duration::ZERO
            }
            (new, old) => new != old,
        };
        let modes = |report: &ServiceReport| -> BTreeSet<String> {
            report.actual.iter().map(|(mode, _)| mode.clone()).collect()
        };
        aged || new.differs_since != old.differs_since
            || new.sequence != old.sequence
            || modes(new) != modes(old)
    }

    fn save(&mut self) -> Saved {
        self.saved = ServiceReport {
            instances: 0,
            acknowledged: false,
            ..self.report.clone()
        };
        Saved(self.saved.clone())
    }
}

fn full(most: usize, whose: &str) -> String {
    format!("{most} instances {whose} report already; report for the service as a whole instead")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LEASE: Duration = Duration::from_secs(10);
    const DEGRADED: Told<'static> = told("degraded", 7);

    const fn told(mode: &str, sequence: u64) -> Told<'_> {
        Told { mode, sequence }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    fn said(instance: &str, mode: &str, sequence: u64) -> Acknowledgement {
        Acknowledgement {
            instance: instance.into(),
            mode: mode.into(),
            sequence,
            detail: String::new(),
        }
    }

    /// Reports of a service that is told `degraded` under 7: an instance, its mode, and the sequence.
    fn hear(reports: &mut Reports, now: i64, text: &str) -> Heard {
        let parts: Vec<_> = text.split(' ').collect();
        let said = said(parts[0], parts[1], parts[2].parse().expect("a number"));
        let heard = reports.hear(at(now), "cart", DEGRADED, said, LEASE);
        heard.expect("there is room")
    }

    fn report(reports: &mut Reports, now: i64) -> ServiceReport {
        reports.compare(at(now), LEASE, |_| Some(DEGRADED));
        reports.view().remove("cart").expect("it has reported")
    }

    #[track_caller]
    fn check(texts: &[&str], expected: Standing, agrees: bool) {
        let mut reports = Reports::default();
        for text in texts {
            hear(&mut reports, 0, text);
        }
        let standing = reports.standing(at(0), "cart", "degraded", 7, LEASE);
        assert_eq!(standing, expected, "{texts:?}");
        if !texts.is_empty() {
            let report = report(&mut reports, 0);
            assert_eq!(report.acknowledged, agrees, "{texts:?}");
            assert_eq!(report.differs_since.is_none(), agrees, "{texts:?}");
        }
    }

    #[test]
    fn an_instruction_is_acknowledged_when_all_that_report_do_as_told() {
        check(&[], Standing::Nobody, false);
        check(&["a degraded 7"], Standing::Done, true);
        check(&["a degraded 6"], Standing::Waiting(1), false);
        check(&["a normal 6", "b degraded 7"], Standing::Waiting(1), false);
        check(&["a normal 6", "a degraded 7"], Standing::Done, true);
        check(&["a degraded 7", "b degraded 7"], Standing::Done, true);
        let refused = Standing::Refused(said("b", "normal", 7));
        check(&["a degraded 7", "b normal 7"], refused, false);
        // Who does not say what it has heard says by its mode that it has heard.
        check(&["a degraded 0"], Standing::Done, true);
        check(&["a normal 0"], Standing::Waiting(1), false);
        // Nobody has heard what was not told yet.
        let refused = Standing::Refused(said("a", "normal", 7));
        check(&["a normal 99"], refused, false);
    }

    #[test]
    fn what_only_repeats_is_no_news() {
        let mut reports = Reports::default();
        let news = |text: &str| {
            let parts: Vec<_> = text.split(' ').collect();
            Heard::News(said(
                parts[0],
                parts[1],
                parts[2].parse().expect("a number"),
            ))
        };
        assert_eq!(hear(&mut reports, 0, "a normal 6"), news("a normal 6"));
        assert_eq!(hear(&mut reports, 5, "a normal 6"), Heard::Renewed);
        assert_eq!(hear(&mut reports, 6, "a degraded 7"), news("a degraded 7"));
        assert_eq!(hear(&mut reports, 30, "a degraded 7"), Heard::Renewed);
        // It was away for longer than three leases: that it is back is news.
        assert_eq!(hear(&mut reports, 61, "a degraded 7"), news("a degraded 7"));
    }

    #[test]
    fn a_difference_lasts_from_its_beginning_as_long_as_somebody_reports_it() {
        let mut reports = Reports::default();
        hear(&mut reports, 0, "a normal 6");
        hear(&mut reports, 0, "b degraded 7");
        assert_eq!(report(&mut reports, 1).differs_since, Some(at(0)));
        let actual = report(&mut reports, 20).actual;
        assert_eq!(actual, [("degraded".into(), 1), ("normal".into(), 1)]);
        hear(&mut reports, 25, "b degraded 7");
        // The one that differs is gone, and with it the difference.
        let late = report(&mut reports, 31);
        assert_eq!((late.differs_since, late.instances), (None, 1));
        // Where nobody reports nothing differs, whatever it is told.
        let gone = report(&mut reports, 100);
        assert_eq!((gone.differs_since, gone.instances), (None, 0));
        assert_eq!((gone.acknowledged, gone.actual), (false, vec![]));
        let newer = |_: &str| Some(told("normal", 8));
        reports.compare(at(110), LEASE, newer);
        reports.tell(at(120), "cart", told("critical", 9));
        assert_eq!(reports.view()["cart"].differs_since, None);
        // Nor for who differed last: one that lags behind does so while it reports.
        hear(&mut reports, 130, "a normal 6");
        assert_eq!(report(&mut reports, 160).differs_since, Some(at(130)));
        let removed = report(&mut reports, 161);
        assert_eq!((removed.differs_since, removed.sequence), (None, 6));
        // A day later nobody remembers that it ever reported.
        reports.compare(at(130 + 24 * 3600 + 1), LEASE, newer);
        assert!(reports.view().is_empty() && reports.instances == 0);
    }

    #[test]
    fn it_survives_a_restart_that_a_service_has_reported() {
        let mut reports = Reports::default();
        hear(&mut reports, 0, "a normal 6");
        let before = report(&mut reports, 1);
        let mut restored = Reports::default();
        for (name, saved) in reports.changes() {
            restored.restore(name, saved.expect("it reports"));
        }
        assert_eq!(restored.entries(), reports.entries());
        assert!(reports.changes().is_empty());
        let after = ServiceReport {
            sequence: 6,
            heard_at: before.heard_at,
            ..ServiceReport::default()
        };
        assert_eq!(report(&mut restored, 50), after);
        // Renewals are not worth a write, but for one in an hour.
        reports.changes();
        for now in 1..3700 {
            hear(&mut reports, now, "a normal 6");
            report(&mut reports, now);
            assert_eq!(!reports.changes().is_empty(), now == 3600, "{now}");
        }
        reports.compare(at(3700), LEASE, |_| None);
        assert_eq!(reports.changes(), [("cart".into(), None)]);
    }

    #[test]
    fn instances_are_bounded() {
        let mut reports = Reports::default();
        for number in 0..MAX_INSTANCES {
            hear(&mut reports, 0, &format!("{number} degraded 7"));
        }
        let more = reports.hear(at(1), "cart", DEGRADED, said("x", "degraded", 7), LEASE);
        assert!(more.expect_err("it is full").contains("10000 instances"));
        // Who is known may go on, and who is gone makes room.
        assert_eq!(hear(&mut reports, 20, "3 degraded 7"), Heard::Renewed);
        hear(&mut reports, 40, "x degraded 7");
        assert_eq!(reports.instances, 2);
        let long = said(&"x".repeat(257), "degraded", 7);
        assert!(reports.hear(at(1), "cart", DEGRADED, long, LEASE).is_err());
        let mut wordy = said("x", "normal", 7);
        wordy.detail = "grün".repeat(100);
        match reports.hear(at(41), "cart", DEGRADED, wordy, LEASE) {
            Ok(Heard::News(kept)) => assert!(kept.detail.len() <= MAX_DETAIL),
            other => panic!("{other:?}"),
        }
    }

    proptest! {
        #[test]
        fn the_summary_is_that_of_all_instances(
            history in prop::collection::vec((0..4_u8, 0..3_usize, 4..9_u64, 0..20_i64), 1..40),
        ) {
            let mut reports = Reports::default();
            let mut model: BTreeMap<u8, (usize, u64, i64)> = BTreeMap::new();
            let modes = ["normal", "degraded", "critical"];
            let mut now = 0;
            for (instance, mode, sequence, passed) in history {
                now += passed;
                hear(&mut reports, now, &format!("{instance} {} {sequence}", modes[mode]));
                model.insert(instance, (mode, sequence.min(7), now));
                model.retain(|_, (_, _, heard)| now - *heard <= 30);
                let report = report(&mut reports, now);
                prop_assert_eq!(report.instances as usize, model.len());
                prop_assert_eq!(reports.instances, model.len());
                let all = model.values().all(|(mode, sequence, _)| (*mode, *sequence) == (1, 7));
                prop_assert_eq!(report.acknowledged, all);
                prop_assert_eq!(report.differs_since.is_none(), all);
                prop_assert_eq!(report.sequence, model.values().map(|v| v.1).min().unwrap());
                for (mode, count) in &report.actual {
                    let same = |v: &&(usize, u64, i64)| modes[v.0] == mode;
                    prop_assert_eq!(*count as usize, model.values().filter(same).count());
                }
                let standing = reports.standing(at(now), "cart", "degraded", 7, LEASE);
                prop_assert_eq!(standing == Standing::Done, all);
            }
        }
    }
}
