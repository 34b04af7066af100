//! One incident: who is part of it, where it comes from, and what is said of it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::annotate::{appeared, clean, resolution, uncalled};
use super::cause::{began, is_effect, origin};
use super::context::Context;
use super::words::clock;
use crate::model::{
    Alert, Fingerprint, Incident, IncidentAlert, IncidentState, SeverityLabel, Timestamp,
};

/// Version of the form in which incidents are saved; another one is not read.
pub(super) const VERSION: u32 = 1;
/// An alert that begins so long after the last of its service began is the same trouble …
const SAME_SERVICE: Duration = Duration::from_hours(1);
/// … and so long after one of a service that calls its own or is called by it.
const NEIGHBOUR: Duration = Duration::from_mins(15);
/// An incident whose last alert was resolved no longer ago goes on with the next alert near it.
const REOPENS: Duration = Duration::from_mins(5);
/// Alerts of one incident that are listed, and resolved ones that are remembered.
pub(super) const MOST_LISTED: usize = 100;
/// Alerts of one incident that are asked where it comes from.
const MOST_ASKED: usize = 1_000;
/// Services named in a sentence.
const MOST_NAMED: usize = 6;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) version: u32,
    pub(super) id: String,
    pub(super) since: Timestamp,
    pub(super) members: BTreeMap<Fingerprint, Member>,
    /// Resolved alerts that are no longer remembered.
    pub(super) left_out: usize,
    pub(super) services: BTreeSet<String>,
    pub(super) origin: String,
    pub(super) summary: String,
    pub(super) explanation: String,
    pub(super) recommendation: String,
    pub(super) resolved_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Member {
    pub(super) alertname: String,
    pub(super) service: String,
    pub(super) severity: SeverityLabel,
    pub(super) since: Timestamp,
    pub(super) resolved_at: Option<Timestamp>,
    /// The service that it seemed to come from when it deviated, and since when that deviated. A callee
    /// that has recovered before its callers is still where it came from.
    pub(super) blames: Option<(String, Timestamp)>,
}

impl Member {
    pub(super) fn of(alert: &Alert) -> Self {
        Self {
            alertname: alert.name().to_owned(),
            service: alert.service.clone(),
            severity: alert.severity,
            since: alert.since,
            resolved_at: None,
            blames: None,
        }
    }

    pub(super) fn fires(&self) -> bool {
        self.resolved_at.is_none()
    }
}

impl Record {
    pub(super) fn new(id: &str, alert: &Alert) -> Self {
        Self {
            version: VERSION,
            id: id.to_owned(),
            since: alert.since,
            members: BTreeMap::new(),
            left_out: 0,
            services: BTreeSet::new(),
            origin: String::new(),
            summary: String::new(),
            explanation: String::new(),
            recommendation: String::new(),
            resolved_at: None,
        }
    }

    /// Whether an alert that begins belongs here: by its own service, or by one of `neighbours`, which it
    /// calls, which call it, or which it probably comes from.
    pub(super) fn is_near(
        &self,
        now: Timestamp,
        alert: &Alert,
        neighbours: &BTreeSet<&str>,
    ) -> bool {
        let is_over = |end: Option<Timestamp>| end.is_some_and(|ended| now.since(ended) > REOPENS);
        !is_over(self.resolved_at)
            && self.members.values().any(|member| {
                let apart = alert.since.since(member.since);
                let apart = apart.max(member.since.since(alert.since));
                let near = || {
                    member.service == alert.service
                        || apart <= NEIGHBOUR && neighbours.contains(member.service.as_str())
                };
                apart <= SAME_SERVICE && near() && !is_over(member.resolved_at)
            })
    }

    pub(super) fn absorb(&mut self, other: Self) {
        self.since = self.since.min(other.since);
        self.members.extend(other.members);
        self.left_out += other.left_out;
        self.services.extend(other.services);
    }

    /// Forgets the resolved alerts that are too many.
    pub(super) fn thin_out(&mut self, of: &mut BTreeMap<Fingerprint, String>) {
        let mut over: Vec<(Timestamp, Fingerprint)> = self
            .members
            .iter()
            .filter_map(|(fingerprint, member)| Some((member.resolved_at?, *fingerprint)))
            .collect();
        if over.len() <= MOST_LISTED {
            return;
        }
        over.sort();
        for (_, fingerprint) in over.iter().take(over.len() - MOST_LISTED) {
            self.members.remove(fingerprint);
            if of.get(fingerprint) == Some(&self.id) {
                of.remove(fingerprint);
            }
            self.left_out += 1;
        }
    }

    /// Looks where it comes from: each alert names a service, and the one that most name is it, of equals
    /// the one that deviates for longest. Says whether the summary changed.
    pub(super) fn find_origin(
        &mut self,
        firing: &BTreeMap<Fingerprint, &Arc<Alert>>,
        context: &Context,
    ) -> bool {
        let members = self.members.iter_mut().filter(|(_, member)| member.fires());
        for (fingerprint, member) in members.take(MOST_ASKED) {
            let Some(alert) = firing.get(fingerprint) else {
                continue;
            };
            match origin(alert, &context.topology, &context.deviations, context.tick) {
                Some(cause) => member.blames = Some((cause.service().to_owned(), cause.since)),
                // A service that nobody calls says nothing of where it comes from.
                None if !context.deviations.uncalled_by(alert).is_empty() => member.blames = None,
                None if is_effect(alert) || member.blames.is_some() => {}
                None => member.blames = Some((alert.service.clone(), began(alert))),
            }
        }
        let mut named: BTreeMap<&str, (usize, Timestamp)> = BTreeMap::new();
        for (service, since) in self.members.values().filter_map(|m| m.blames.as_ref()) {
            let (votes, first) = named.entry(service).or_insert((0, *since));
            *votes += 1;
            *first = (*first).min(*since);
        }
        let best = named
            .into_iter()
            .max_by_key(|(service, (votes, since))| (*votes, Reverse((*since, *service))))
            .map(|(service, _)| service);
        let first = || self.members.values().min_by_key(|member| member.since);
        if let Some(service) = best.or_else(|| first().map(|member| member.service.as_str())) {
            self.origin = service.to_owned();
        }
        let before = std::mem::take(&mut self.summary);
        self.summary = self.summarise();
        self.summary != before
    }

    /// `Incident 0123456789abcdef: 5 alerts of 3 services since 12:00:05Z, likely origin payment.`
    fn summarise(&self) -> String {
        let (alerts, services) = (self.members.len() + self.left_out, self.services.len());
        let count = |count: usize, what: &str| match count {
            1 => format!("1 {what}"),
            many => format!("{many} {what}s"),
        };
        let since = clock(self.since, self.since);
        let (alerts, of) = (count(alerts, "alert"), count(services, "service"));
        match services {
            1 => format!(
                "Incident {}: {alerts} of {} since {since}.",
                self.id,
                clean(self.services.first().unwrap_or(&self.origin))
            ),
            _ => format!(
                "Incident {}: {alerts} of {of} since {since}, likely origin {}.",
                self.id,
                clean(&self.origin)
            ),
        }
    }

    /// Explains it by the worst alert of the service that it comes from.
    pub(super) fn tell(&mut self, alerts: &BTreeMap<Fingerprint, &Arc<Alert>>) {
        let over = self.resolved_at.is_some();
        // At its end all of them are told of, as far as they are still known.
        let members = self.members.iter();
        let members = members.filter(|(_, member)| over || member.fires());
        let alerts: Vec<&Arc<Alert>> = members
            .filter_map(|(fingerprint, member)| {
                let alert = alerts.get(fingerprint).copied();
                alert.filter(|alert| alert.since == member.since)
            })
            .collect();
        let lead = alerts.iter().min_by_key(|alert| {
            let of_origin = alert.service == self.origin && !is_effect(alert);
            let severity = Reverse(alert.severity);
            (!of_origin, severity, alert.since, alert.fingerprint)
        });
        let Some(lead) = lead else { return };
        let near = lead.updated_at;
        let mut text = format!("{}.", lead.grounds.sentence);
        if let Some(carried) = lead.annotations.get("carried_by") {
            text.push_str(&format!(" Only {carried}."));
        }
        if let Some(uncalled) = uncalled(&lead.grounds.uncalled_by) {
            text.push_str(&format!(" {uncalled}."));
        }
        let version = alerts.iter().find_map(|alert| {
            let version = alert.grounds.version.as_ref()?;
            (version.service == self.origin).then(|| appeared(version, alert.since))
        });
        if let Some(version) = version {
            text.push_str(&format!(" {version}."));
        }
        if lead.service != self.origin {
            let origin = clean(&self.origin);
            let deviates = if over { "deviated" } else { "deviates" };
            text.push_str(&format!(
                " Likely origin: {origin}, which {deviates} without an alert of its own."
            ));
        }
        if self.services.len() > 1 {
            text.push_str(&self.in_order(near));
        }
        let critical = self
            .members
            .values()
            .filter(|member| member.severity == SeverityLabel::Critical)
            .count();
        let all = self.members.len() + self.left_out;
        if all > 1 {
            text.push_str(&format!(
                " {all} alerts in all, {critical} of them critical."
            ));
        }
        if let Some(resolution) = resolution(lead).filter(|_| over) {
            text.push_str(&format!(" {resolution}"));
        }
        self.explanation = text;
        let recommendation = lead.annotations.get("recommendation").unwrap_or_default();
        self.recommendation = recommendation.to_owned();
    }

    /// ` First payment at 12:00:00Z, then checkout at 12:00:10Z, frontend at 12:00:20Z.`, or where all
    /// began at once ` Since 12:00:00Z in payment, checkout, frontend.`
    fn in_order(&self, near: Timestamp) -> String {
        let mut first: BTreeMap<&str, Timestamp> = BTreeMap::new();
        for member in self.members.values() {
            let since = first.entry(&member.service).or_insert(member.since);
            *since = (*since).min(member.since);
        }
        let mut first: Vec<_> = first.into_iter().collect();
        // What began at once is told from the origin on.
        first.sort_by_key(|(service, since)| (*since, *service != self.origin, *service));
        let more = match first.len().saturating_sub(MOST_NAMED) {
            0 => String::new(),
            more => format!(" and {more} more services"),
        };
        let (Some((_, start)), Some((_, end))) = (first.first(), first.last()) else {
            return String::new();
        };
        let at_once = start == end;
        let start = clock(*start, near);
        let mut named = first
            .iter()
            .take(MOST_NAMED)
            .map(|(service, since)| match at_once {
                true => clean(service),
                false => format!("{} at {}", clean(service), clock(*since, near)),
            });
        if at_once {
            let named: Vec<_> = named.collect();
            return format!(" Since {start} in {}{more}.", named.join(", "));
        }
        let head = named.next().unwrap_or_default();
        let then: Vec<_> = named.collect();
        format!(" First {head}, then {}{more}.", then.join(", "))
    }

    pub(super) fn view(&self) -> Incident {
        let mut members: Vec<_> = self.members.iter().collect();
        // Those that fire are listed before those that are over, each in the order of their beginning.
        members.sort_by_key(|(fingerprint, member)| (!member.fires(), member.since, **fingerprint));
        let listed = members.len().min(MOST_LISTED);
        let mut alerts: Vec<IncidentAlert> = members
            .into_iter()
            .take(MOST_LISTED)
            .map(|(fingerprint, member)| IncidentAlert {
                fingerprint: *fingerprint,
                alertname: member.alertname.clone(),
                service: member.service.clone(),
                severity: member.severity,
                since: member.since,
                resolved_at: member.resolved_at,
            })
            .collect();
        alerts.sort_by_key(|alert| (alert.since, alert.fingerprint));
        Incident {
            id: self.id.clone(),
            state: match self.resolved_at {
                None => IncidentState::Firing,
                Some(_) => IncidentState::Resolved,
            },
            since: self.since,
            resolved_at: self.resolved_at,
            origin: self.origin.clone(),
            services: self.services.iter().cloned().collect(),
            alerts_omitted: self.members.len() - listed + self.left_out,
            alerts,
            explanation: self.explanation.clone(),
            recommendation: self.recommendation.clone(),
        }
    }
}
