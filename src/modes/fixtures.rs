//! The alerts and policies that the tests are made of, and a machine with a clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::{Error, Freeze, Machine, Parts, Policy, ServiceTemplate, Settings, Step, Target, Tick};
use crate::model::{
    Alert, AlertState, EventBody, Fingerprint, Labels, Level, ModeChange, Override, ProposalAction,
    Selector, SeverityLabel, Timestamp, Transition,
};

pub(super) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) fn alert(name: &str, service: &str, state: AlertState) -> Alert {
    let labels: Labels = [("alertname", name), ("service", service)]
        .into_iter()
        .collect();
    let at = Timestamp::from_secs(1);
    Alert {
        fingerprint: labels.fingerprint(),
        labels,
        annotations: [("explanation", format!("{service} is {name}"))]
            .into_iter()
            .collect(),
        state,
        severity: SeverityLabel::Critical,
        severity_score: 0.5,
        service: service.into(),
        signal_id: String::new(),
        unit: "s".into(),
        observed: 2.0,
        expected: 1.0,
        lower: 0.5,
        upper: 1.5,
        sigma: 6.0,
        worst_sigma: 6.0,
        anomalous_samples: 3,
        since: at,
        fired_at: Some(at),
        resolved_at: None,
        updated_at: at,
        trace_id: None,
        grounds: Default::default(),
    }
}

pub(super) fn transition(alert: Alert, at: Timestamp) -> Transition {
    Transition {
        from: None,
        alert: Arc::new(alert),
        at,
    }
}

pub(super) fn policy(
    name: &str,
    when: &str,
    service: &str,
    level: u8,
    hold: u64,
    recover: u64,
) -> Policy {
    let when = Selector::parse(when).unwrap();
    let target = Target::Service(ServiceTemplate::parse(service).unwrap());
    Policy {
        instruction: Parts {
            features: [
                (name.to_owned(), json!(level)),
                ("shared".into(), json!(name)),
            ]
            .into(),
            ..Parts::default()
        },
        hold: secs(hold),
        recover: secs(recover),
        ..Policy::new(name, when, target, Level(level))
    }
}

/// The policy, but straight to its level.
pub(super) fn direct(policy: Policy) -> Policy {
    Policy {
        step: Step::Direct,
        ..policy
    }
}

/// A machine with a clock, so that a scenario reads as a story. There is a tick with data every ten
/// seconds, as long as there is `data`.
pub(super) struct Story {
    pub(super) machine: Machine,
    pub(super) second: i64,
    pub(super) services: Vec<String>,
    pub(super) calls: Vec<(&'static str, &'static str)>,
    pub(super) alerts: BTreeMap<Fingerprint, Arc<Alert>>,
    pub(super) data: bool,
}

impl Story {
    /// At second 0 the machine has seen enough.
    pub(super) fn new(settings: Settings, services: &[&str]) -> Self {
        let mut story = Self {
            machine: Machine::new(settings),
            second: -40,
            services: services.iter().map(|&name| name.to_owned()).collect(),
            calls: Vec::new(),
            alerts: BTreeMap::new(),
            data: true,
        };
        story.until(0);
        assert_eq!(story.machine.view(story.now()).blind, None);
        story
    }

    pub(super) fn now(&self) -> Timestamp {
        Timestamp::from_secs(self.second)
    }

    pub(super) fn set(&mut self, name: &str, service: &str, state: AlertState) -> Vec<ModeChange> {
        self.tell(alert(name, service, state))
    }

    pub(super) fn tell(&mut self, alert: Alert) -> Vec<ModeChange> {
        let now = self.now();
        let transition = transition(alert, now);
        let alert = Arc::clone(&transition.alert);
        self.alerts.insert(alert.fingerprint, alert);
        self.machine.on_transitions(now, &[transition])
    }

    pub(super) fn fires(&mut self, name: &str, service: &str) -> Vec<ModeChange> {
        self.set(name, service, AlertState::Firing)
    }

    pub(super) fn resolves(&mut self, name: &str, service: &str) -> Vec<ModeChange> {
        self.set(name, service, AlertState::Resolved)
    }

    /// Nothing more is heard of the alert.
    pub(super) fn falls_silent(&mut self, name: &str, service: &str) -> Vec<ModeChange> {
        let mut silent = alert(name, service, AlertState::Resolved);
        silent.grounds.silent = true;
        self.tell(silent)
    }

    pub(super) fn tick(&mut self) -> Vec<ModeChange> {
        let services: Vec<&str> = self.services.iter().map(String::as_str).collect();
        let alerts: Vec<_> = self.alerts.values().cloned().collect();
        let tick = Tick {
            services: &services,
            calls: &self.calls,
            alerts: &alerts,
            fed: self.data,
        };
        self.machine.tick(self.now(), &tick)
    }

    /// Goes on to `second`, stopping at every tick and deadline on the way as the daemon does.
    pub(super) fn until(&mut self, second: i64) -> Vec<ModeChange> {
        let mut changes = Vec::new();
        while self.second < second {
            let tick = (self.second.div_euclid(10) + 1) * 10;
            let end = Timestamp::from_secs(second.min(tick));
            let next = self.machine.next_deadline().map_or(end, |at| at.min(end));
            self.second = next.as_nanos().div_euclid(1_000_000_000);
            changes.extend(if self.second == tick {
                self.tick()
            } else {
                self.machine.step(next)
            });
        }
        changes
    }

    pub(super) fn overrides(
        &mut self,
        service: &str,
        mode: &str,
        until: Option<i64>,
    ) -> Result<Vec<ModeChange>, Error> {
        let manual = Override {
            mode: mode.into(),
            author: "alice".into(),
            reason: "drill".into(),
            set_at: self.now(),
            expires_at: until.map(Timestamp::from_secs),
        };
        self.machine.set_override(self.now(), service, manual)
    }

    pub(super) fn freeze(&mut self, frozen: bool) -> Vec<ModeChange> {
        let freeze = Freeze {
            author: "alice".into(),
            reason: "drill".into(),
            set_at: self.now(),
        };
        self.machine.freeze(self.now(), frozen.then_some(freeze))
    }

    #[track_caller]
    pub(super) fn mode(&self, service: &str, expected: &str) {
        let state = self.machine.state(self.now(), service).expect(service);
        assert_eq!(state.mode, expected, "{service} at {} s", self.second);
    }

    /// The proposals that stand: service, level, and why it is left to people.
    pub(super) fn proposed(&self) -> Vec<String> {
        let proposals = self.machine.view(self.now()).proposals;
        let shown = proposals
            .iter()
            .map(|p| format!("{} {} {:?}", p.service, p.mode, p.restraint));
        shown.collect()
    }

    /// What became of proposals since this was last called: action, service and why.
    pub(super) fn notes(&mut self) -> Vec<String> {
        let notes = self.machine.take_notes().into_iter();
        let proposals = notes.filter_map(|note| match note {
            EventBody::Proposal {
                action,
                proposal,
                author,
                reason,
            } => Some(match action {
                ProposalAction::Made => format!("made {}", proposal.service),
                ProposalAction::Approved | ProposalAction::Rejected => {
                    format!("{action:?} {} by {author}: {reason}", proposal.service)
                }
                ProposalAction::Withdrawn => format!("withdrawn {}: {reason}", proposal.service),
            }),
            _ => None,
        });
        proposals.collect()
    }

    /// Ends and starts anew, blind as ever.
    pub(super) fn restart(&mut self, settings: Settings) -> Vec<String> {
        let (machine, warnings) = Machine::restore(self.machine.entries(), settings);
        self.machine = machine;
        warnings
    }
}
