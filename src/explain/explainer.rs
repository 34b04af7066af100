use std::sync::Arc;

use super::annotate::annotate;
use super::context::{Context, Facts};
use super::dismissals::Dismissals;
use super::external;
use super::incident::Incidents;
use crate::model::{Alert, Dismissal, Fingerprint, Incident, Rule, Timestamp};

/// Explains alerts, and groups them into incidents.
///
/// Whenever alerts changed, the decision task asks the engine [`questions`](super::questions), calls
/// [`Explainer::step`] with the answers, has every alert that changed and those that the step named
/// annotated by [`Explainer::annotate`], and then calls [`Explainer::tell`]. What [`Explainer::changes`]
/// gives is to be durable together with the alerts.
#[derive(Debug, Clone, Default)]
pub struct Explainer {
    incidents: Incidents,
    dismissals: Dismissals,
    context: Context,
}

impl Explainer {
    /// With the incidents that [`Explainer::changes`] gave earlier, and what of them could not be used.
    pub fn restore(entries: impl IntoIterator<Item = (String, Vec<u8>)>) -> (Self, Vec<String>) {
        let (incidents, warnings) = Incidents::restore(entries);
        let explainer = Self {
            incidents,
            ..Self::default()
        };
        (explainer, warnings)
    }

    /// Takes back what [`Explainer::changes_of_dismissals`] gave earlier; what of it could not be used.
    pub fn restore_dismissals(
        &mut self,
        entries: impl IntoIterator<Item = (String, Vec<u8>)>,
    ) -> Vec<String> {
        let (dismissals, warnings) = Dismissals::restore(entries);
        self.dismissals = dismissals;
        warnings
    }

    /// Remembers that a person called the deviation of an alert normal.
    pub fn note_dismissal(&mut self, alert: &Alert, dismissal: Dismissal) {
        self.dismissals.note(alert, dismissal);
    }

    /// What people called normal and changed since the last call, as (key, value), `None` where it is
    /// forgotten.
    pub fn changes_of_dismissals(&mut self) -> Vec<(String, Option<Vec<u8>>)> {
        self.dismissals.changes()
    }

    /// Takes in what is known at `now`. Returns the alerts whose incident says something new of itself.
    pub fn step(&mut self, now: Timestamp, facts: Facts<'_>) -> Vec<Fingerprint> {
        self.context = Context::new(facts);
        self.incidents.step(now, facts.alerts, &self.context)
    }

    /// Brings the annotations and the grounds of an alert up to date.
    pub fn annotate(&self, rule: &Rule, alert: &mut Alert) {
        alert.grounds.dismissed = self.dismissals.before(alert).cloned();
        annotate(rule, alert, &self.context, self.incidents.part(alert));
    }

    /// The same for an alert that another system reports.
    pub fn annotate_external(&self, alert: &mut Alert) {
        external::annotate(alert, &self.context, self.incidents.part(alert));
    }

    /// Explains the incidents by their alerts as they are annotated.
    pub fn tell(&mut self, alerts: &[Arc<Alert>]) {
        self.incidents.tell(alerts);
    }

    /// Incidents that go on, then those that ended within a day, the newest first.
    pub fn incidents(&self) -> Vec<Arc<Incident>> {
        self.incidents.view()
    }

    /// Incidents that changed since the last call, as (key, value), `None` where one is gone.
    pub fn changes(&mut self) -> Vec<(String, Option<Vec<u8>>)> {
        self.incidents.changes()
    }
}
