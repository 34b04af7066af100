//! Alerts that belong together: those of one service, and of services that call each other, that began
//! within some minutes of one another.
//!
//! An alert joins an incident when it begins to fire, and stays in it until it resolves; where it
//! connects two incidents the younger becomes part of the older. Which incident an alert is part of
//! depends only on the order in which alerts fire, and is durable, so a restart changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::annotate::Part;
use super::cause::origin;
use super::context::Context;
use super::record::{Member, Record, VERSION};
use crate::model::{Alert, AlertState, Fingerprint, Incident, Timestamp};

/// Incidents that are over are kept for so long, and so many of them.
const KEPT: Duration = Duration::from_hours(24);
const MOST_KEPT: usize = 200;

/// All incidents that go on, and those that ended lately.
#[derive(Debug, Clone, Default)]
pub(super) struct Incidents {
    records: BTreeMap<String, Record>,
    /// In which incident each alert is or was last.
    of: BTreeMap<Fingerprint, String>,
    /// Changed since they were last written, those that are gone among them.
    changed: BTreeSet<String>,
    /// Those that the last step ended, until they are told.
    ended: BTreeSet<String>,
}

/// Ids of incidents by service. Those that became part of another stay in it, and are found no more.
type Index = BTreeMap<String, BTreeSet<String>>;

impl Incidents {
    /// Takes in all alerts as they are at `now`; returns those whose text about their incident is no
    /// longer up to date. `O(alerts + log incidents)`, and the search for an origin for each that fires.
    pub(super) fn step(
        &mut self,
        now: Timestamp,
        alerts: &[Arc<Alert>],
        context: &Context,
    ) -> Vec<Fingerprint> {
        let firing: BTreeMap<Fingerprint, &Arc<Alert>> = alerts
            .iter()
            .filter(|alert| alert.state == AlertState::Firing)
            .map(|alert| (alert.fingerprint, alert))
            .collect();
        self.update(now, alerts, &firing);
        let mut new: Vec<&Arc<Alert>> = firing
            .values()
            .copied()
            .filter(|alert| !self.is_member(alert.fingerprint))
            .collect();
        new.sort_by_key(|alert| (alert.since, alert.fingerprint));
        if !new.is_empty() {
            let mut index = self.index();
            for alert in new {
                self.join(now, alert, context, &mut index);
            }
        }
        self.forget(now);
        let mut outdated = Vec::new();
        for record in self
            .records
            .values_mut()
            .filter(|r| r.resolved_at.is_none())
        {
            if record.find_origin(&firing, context) {
                self.changed.insert(record.id.clone());
                let firing = record.members.iter().filter(|(_, member)| member.fires());
                outdated.extend(firing.map(|(fingerprint, _)| *fingerprint));
            }
        }
        outdated
    }

    /// Tells every incident that goes on or has just ended, by the alerts as they are explained.
    pub(super) fn tell(&mut self, alerts: &[Arc<Alert>]) {
        let alerts: BTreeMap<Fingerprint, &Arc<Alert>> = alerts
            .iter()
            .map(|alert| (alert.fingerprint, alert))
            .collect();
        let ended = std::mem::take(&mut self.ended);
        for record in self.records.values_mut() {
            if record.resolved_at.is_none() || ended.contains(&record.id) {
                record.tell(&alerts);
            }
        }
    }

    /// What an alert's incident says of itself.
    pub(super) fn part(&self, alert: &Alert) -> Option<Part<'_>> {
        let record = self.records.get(self.of.get(&alert.fingerprint)?)?;
        let member = record.members.get(&alert.fingerprint)?;
        (member.since == alert.since).then(|| Part {
            id: &record.id,
            summary: &record.summary,
            has_more: record.members.len() + record.left_out > 1,
        })
    }

    /// Those that go on first, then the newest first.
    pub(super) fn view(&self) -> Vec<Arc<Incident>> {
        let mut all: Vec<_> = self.records.values().map(Record::view).collect();
        all.sort_by(|a, b| (a.state, b.since, &a.id).cmp(&(b.state, a.since, &b.id)));
        all.into_iter().map(Arc::new).collect()
    }

    /// What changed since the last call, as (id, saved form); `None` where it is gone.
    pub(super) fn changes(&mut self) -> Vec<(String, Option<Vec<u8>>)> {
        let changed = std::mem::take(&mut self.changed);
        let saved = |id: String| {
            let record = self.records.get(&id);
            // Texts and times always have a JSON form.
            let value = record.and_then(|record| serde_json::to_vec(record).ok());
            (id, value)
        };
        changed.into_iter().map(saved).collect()
    }

    /// As of what [`Incidents::changes`] gave, and what of it could not be used.
    pub(super) fn restore(
        entries: impl IntoIterator<Item = (String, Vec<u8>)>,
    ) -> (Self, Vec<String>) {
        let (mut incidents, mut warnings) = (Self::default(), Vec::new());
        for (key, value) in entries {
            let record: Result<Record, _> = serde_json::from_slice(&value);
            let problem = match record {
                Ok(record) if record.version != VERSION => {
                    format!("version {} of the form, known is {VERSION}", record.version)
                }
                Ok(record) if record.id != key => "key and content do not belong together".into(),
                Ok(record) => {
                    let members = record.members.keys();
                    incidents
                        .of
                        .extend(members.map(|member| (*member, key.clone())));
                    incidents.records.insert(key, record);
                    continue;
                }
                Err(error) => error.to_string(),
            };
            warnings.push(format!(
                "incident {key} cannot be restored and is dropped: {problem}"
            ));
            incidents.changed.insert(key);
        }
        // Where several remember an alert, it is in the one in which it still fires.
        for (id, record) in &incidents.records {
            let firing = record.members.iter().filter(|(_, member)| member.fires());
            incidents
                .of
                .extend(firing.map(|(member, _)| (*member, id.clone())));
        }
        (incidents, warnings)
    }

    fn is_member(&self, fingerprint: Fingerprint) -> bool {
        let record = self
            .of
            .get(&fingerprint)
            .and_then(|id| self.records.get(id));
        record
            .and_then(|record| record.members.get(&fingerprint))
            .is_some_and(Member::fires)
    }

    /// Notes which alerts are over.
    fn update(
        &mut self,
        now: Timestamp,
        alerts: &[Arc<Alert>],
        firing: &BTreeMap<Fingerprint, &Arc<Alert>>,
    ) {
        let ends: BTreeMap<Fingerprint, Timestamp> = alerts
            .iter()
            .filter_map(|alert| Some((alert.fingerprint, alert.resolved_at?)))
            .collect();
        for record in self
            .records
            .values_mut()
            .filter(|r| r.resolved_at.is_none())
        {
            let mut changed = false;
            for (fingerprint, member) in record.members.iter_mut().filter(|(_, m)| m.fires()) {
                match firing
                    .get(fingerprint)
                    .filter(|alert| alert.since == member.since)
                {
                    Some(alert) => {
                        changed |= member.severity != alert.severity;
                        member.severity = alert.severity;
                    }
                    None => {
                        member.resolved_at = Some(ends.get(fingerprint).copied().unwrap_or(now));
                        changed = true;
                    }
                }
            }
            if !record.members.values().any(Member::fires) {
                let last = record
                    .members
                    .values()
                    .filter_map(|member| member.resolved_at)
                    .max();
                record.resolved_at = Some(last.unwrap_or(now));
                self.ended.insert(record.id.clone());
            }
            if changed {
                record.thin_out(&mut self.of);
                self.changed.insert(record.id.clone());
            }
        }
    }

    /// Which incidents touch each service.
    fn index(&self) -> Index {
        let mut index = Index::new();
        for record in self.records.values() {
            for service in &record.services {
                let ids = index.entry(service.clone()).or_default();
                ids.insert(record.id.clone());
            }
        }
        index
    }

    /// Puts an alert into the incidents that it is near to, which become one, or into a new one.
    fn join(&mut self, now: Timestamp, alert: &Arc<Alert>, context: &Context, index: &mut Index) {
        let cause = origin(alert, &context.topology, &context.deviations, context.tick);
        let path = cause.map(|cause| cause.path).unwrap_or_default();
        let neighbours: BTreeSet<&str> = context
            .topology
            .neighbours(&alert.service)
            .chain(path.iter().map(String::as_str))
            .filter(|service| *service != alert.service)
            .collect();
        let services = neighbours.iter().copied().chain([alert.service.as_str()]);
        let touched = services.filter_map(|service| index.get(service)).flatten();
        let near: BTreeSet<String> = touched
            .filter_map(|id| self.records.get(id))
            .filter(|record| record.is_near(now, alert, &neighbours))
            .map(|record| record.id.clone())
            .collect();
        let oldest = near
            .iter()
            .filter_map(|id| self.records.get(id))
            .min_by_key(|record| (record.resolved_at.is_some(), record.since, &record.id))
            .map(|record| record.id.clone());
        let id = oldest.unwrap_or_else(|| id_of(alert));
        let mut record = self
            .records
            .remove(&id)
            .unwrap_or_else(|| Record::new(&id, alert));
        for other in near.into_iter().filter(|other| *other != id) {
            // One that is over stays what it was.
            let goes_on = |record: &Record| record.resolved_at.is_none();
            if self.records.get(&other).is_some_and(goes_on)
                && let Some(other) = self.records.remove(&other)
            {
                let members = other.members.keys();
                self.of.extend(members.map(|member| (*member, id.clone())));
                self.changed.insert(other.id.clone());
                record.absorb(other);
            }
        }
        record.since = record.since.min(alert.since);
        record.resolved_at = None;
        record.services.insert(alert.service.clone());
        record.members.insert(alert.fingerprint, Member::of(alert));
        record.thin_out(&mut self.of);
        self.of.insert(alert.fingerprint, id.clone());
        self.changed.insert(id.clone());
        for service in &record.services {
            let ids = index.entry(service.clone()).or_default();
            ids.insert(id.clone());
        }
        self.records.insert(id, record);
    }

    /// Lets go of incidents that have been over for long.
    fn forget(&mut self, now: Timestamp) {
        let mut over: Vec<(Timestamp, String)> = self
            .records
            .values()
            .filter_map(|record| Some((record.resolved_at?, record.id.clone())))
            .collect();
        over.sort();
        let too_many = over.len().saturating_sub(MOST_KEPT);
        for (at, (ended, id)) in over.into_iter().enumerate() {
            if at < too_many || now.since(ended) > KEPT {
                self.records.remove(&id);
                self.of.retain(|_, of| *of != id);
                self.changed.insert(id);
            }
        }
    }
}

/// Of the alert that an incident began with: FNV-1a over its fingerprint and beginning.
fn id_of(alert: &Alert) -> String {
    let bytes = alert.fingerprint.0.to_be_bytes().into_iter();
    let bytes = bytes.chain(alert.since.as_nanos().to_be_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::context::Facts;
    use crate::explain::fixtures::{alert, edges, rule};
    use crate::explain::record::MOST_LISTED;
    use crate::model::IncidentState;

    /// Alerts by name, service and beginning, all firing.
    struct Case {
        incidents: Incidents,
        alerts: Vec<Arc<Alert>>,
        calls: Vec<(&'static str, &'static str)>,
    }

    const START: i64 = 1_767_268_800;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_secs(START + second)
    }

    impl Case {
        fn new(calls: &[(&'static str, &'static str)]) -> Self {
            Self {
                incidents: Incidents::default(),
                alerts: Vec::new(),
                calls: calls.to_vec(),
            }
        }

        fn context(&self) -> Context {
            Context::new(Facts {
                alerts: &self.alerts,
                edges: &edges(&self.calls),
                tick: Duration::from_secs(10),
                ..Facts::default()
            })
        }

        fn fires(&mut self, number: u64, service: &str, since: i64) -> &mut Self {
            let mut alert = alert(service);
            alert.fingerprint = Fingerprint(number);
            (alert.since, alert.updated_at) = (at(since), at(since));
            self.alerts.retain(|known| known.fingerprint.0 != number);
            self.alerts.push(Arc::new(alert));
            self
        }

        fn resolves(&mut self, number: u64, end: i64) -> &mut Self {
            for alert in self.alerts.iter_mut().filter(|a| a.fingerprint.0 == number) {
                let alert = Arc::make_mut(alert);
                alert.state = AlertState::Resolved;
                alert.resolved_at = Some(at(end));
            }
            self
        }

        /// Steps, annotates and tells, as the decision task does.
        fn step(&mut self, now: i64) -> Vec<u64> {
            let context = self.context();
            let outdated = self.incidents.step(at(now), &self.alerts, &context);
            for alert in &mut self.alerts {
                let part = self.incidents.part(alert);
                crate::explain::annotate::annotate(&rule(), Arc::make_mut(alert), &context, part);
            }
            self.incidents.tell(&self.alerts);
            outdated
                .into_iter()
                .map(|fingerprint| fingerprint.0)
                .collect()
        }

        /// The incidents that go on, as alerts and origin.
        fn open(&self) -> Vec<(Vec<u64>, String)> {
            let mut open: Vec<_> = self
                .incidents
                .view()
                .iter()
                .filter(|incident| incident.state == IncidentState::Firing)
                .map(|incident| {
                    let alerts = incident.alerts.iter().map(|alert| alert.fingerprint.0);
                    (alerts.collect(), incident.origin.clone())
                })
                .collect();
            open.sort();
            open
        }
    }

    #[test]
    fn three_services_in_a_row_are_one_incident_of_the_deepest() {
        let mut case = Case::new(&[("web", "shop"), ("shop", "pay"), ("web", "ads")]);
        case.fires(3, "pay", 0);
        assert_eq!(case.step(10), [3]);
        case.fires(2, "shop", 10).fires(1, "web", 20);
        assert_eq!(case.step(30), [1, 2, 3]);
        assert_eq!(case.open(), [(vec![3, 2, 1], "pay".to_owned())]);
        assert_eq!(case.step(40), [] as [u64; 0]);
        let view = case.incidents.view();
        let incident = view.first().expect("one");
        assert_eq!(incident.services, ["pay", "shop", "web"]);
        assert_eq!(
            incident.explanation,
            "p99 of POST /pay (server) of pay is 2.6 times its usual 120 ms. First pay at \
             12:00:00Z, then shop at 12:00:10Z, web at 12:00:20Z. 3 alerts in all, 3 of them critical."
        );
        // Every alert says so, with the same words.
        let said: BTreeSet<_> = case
            .alerts
            .iter()
            .map(|alert| {
                alert
                    .annotations
                    .get("incident_summary")
                    .unwrap_or_default()
                    .to_owned()
            })
            .collect();
        assert_eq!(
            said.into_iter().collect::<Vec<_>>(),
            [format!(
                "Incident {}: 3 alerts of 3 services since 12:00:00Z, likely origin pay.",
                incident.id
            )]
        );
        let web = case
            .alerts
            .iter()
            .find(|alert| alert.service == "web")
            .expect("web");
        let explanation = web.annotations.get("explanation").expect("explained");
        assert!(explanation.ends_with("likely origin pay."), "{explanation}");
        assert_eq!(web.annotations.get("incident"), Some(incident.id.as_str()));
    }

    #[test]
    fn what_is_far_in_calls_or_in_time_is_another_incident() {
        let mut case = Case::new(&[("web", "shop")]);
        case.fires(1, "shop", 0).fires(2, "mail", 5);
        case.step(10);
        assert_eq!(case.open().len(), 2);
        case.fires(3, "web", 1_000);
        case.step(1_010);
        assert_eq!(case.open().len(), 3, "a quarter of an hour later");
        case.fires(4, "shop", 1_100);
        case.step(1_110);
        // The same service within an hour, and now near to its caller: two become one.
        assert_eq!(
            case.open(),
            [
                (vec![1, 3, 4], "shop".to_owned()),
                (vec![2], "mail".to_owned())
            ]
        );
    }

    #[test]
    fn an_origin_that_recovers_first_stays_the_origin() {
        let mut case = Case::new(&[("web", "shop"), ("shop", "pay")]);
        case.fires(3, "pay", 0)
            .fires(2, "shop", 0)
            .fires(1, "web", 0);
        case.step(10);
        let told = case.incidents.view().remove(0).explanation.clone();
        assert!(
            told.contains(" Since 12:00:00Z in pay, shop, web."),
            "{told}"
        );
        case.resolves(3, 20).resolves(2, 20);
        case.step(20);
        assert_eq!(case.open(), [(vec![1, 2, 3], "pay".to_owned())]);
    }

    #[test]
    fn an_incident_ends_with_its_last_alert_and_goes_on_if_it_comes_back_soon() {
        let mut case = Case::new(&[]);
        case.fires(1, "shop", 0).fires(2, "shop", 10);
        case.step(20);
        case.resolves(1, 60);
        case.step(60);
        assert_eq!(case.open(), [(vec![1, 2], "shop".to_owned())]);
        case.resolves(2, 100);
        case.step(100);
        assert_eq!(case.open(), []);
        let ended = case.incidents.view().remove(0);
        assert_eq!(
            (ended.state, ended.resolved_at),
            (IncidentState::Resolved, Some(at(100)))
        );
        assert!(
            ended
                .explanation
                .starts_with("p99 of POST /pay (server) of shop was 2.6 times"),
            "{}",
            ended.explanation
        );
        case.fires(1, "shop", 200);
        case.step(210);
        let again = case.incidents.view().remove(0);
        assert_eq!(
            (again.id.clone(), again.state),
            (ended.id.clone(), IncidentState::Firing)
        );
        case.resolves(1, 300);
        case.step(300);
        case.fires(1, "shop", 3_000);
        case.step(3_010);
        let ids: Vec<_> = case.incidents.view().iter().map(|i| i.id.clone()).collect();
        assert_eq!(ids.len(), 2);
        assert_eq!(ids[1], ended.id);
        // After a day nobody asks any more.
        case.step(100_000);
        assert_eq!(case.incidents.view().len(), 1);
    }

    #[test]
    fn a_restart_in_the_middle_changes_nothing() {
        let story = |restart_at: Option<usize>| {
            let mut case = Case::new(&[("web", "shop"), ("shop", "pay")]);
            let mut store: BTreeMap<String, Vec<u8>> = BTreeMap::new();
            let steps: [&dyn Fn(&mut Case); 5] = [
                &|case| {
                    case.fires(1, "web", 0);
                },
                &|case| {
                    case.fires(2, "pay", 10);
                },
                &|case| {
                    case.fires(3, "shop", 20);
                },
                &|case| {
                    case.resolves(1, 30);
                },
                &|case| {
                    case.resolves(2, 40).resolves(3, 40);
                },
            ];
            for (number, happens) in steps.into_iter().enumerate() {
                happens(&mut case);
                case.step(number as i64 * 10);
                for (key, value) in case.incidents.changes() {
                    match value {
                        Some(value) => drop(store.insert(key, value)),
                        None => drop(store.remove(&key)),
                    }
                }
                if restart_at == Some(number) {
                    let (restored, warnings) = Incidents::restore(store.clone());
                    assert_eq!(warnings, Vec::<String>::new());
                    case.incidents = restored;
                }
            }
            case.incidents.view()
        };
        let expected = story(None);
        assert_eq!(expected.len(), 1);
        for number in 0..5 {
            assert_eq!(story(Some(number)), expected, "restart after step {number}");
        }
        let (_, warnings) = Incidents::restore([("x".to_owned(), b"{}".to_vec())]);
        assert_eq!(warnings.len(), 1);
    }

    #[test]
    fn memory_is_bounded() {
        let mut case = Case::new(&[]);
        for number in 0..300 {
            case.fires(number, "shop", number as i64);
            case.step(number as i64);
            case.resolves(number, number as i64 + 1);
            case.alerts.retain(|alert| alert.fingerprint.0 + 5 > number);
        }
        let view = case.incidents.view();
        let [incident] = view.as_slice() else {
            panic!("{}", view.len())
        };
        assert_eq!(incident.alerts.len() + incident.alerts_omitted, 300);
        assert!(case.incidents.of.len() <= MOST_LISTED + 5);
        for number in 0..300 {
            case.fires(number, &format!("s{number}"), number as i64);
        }
        case.step(400);
        case.alerts.clear();
        case.step(410);
        assert_eq!(case.incidents.view().len(), MOST_KEPT);
    }
}
