//! What people tell the decision task: each command is carried out once it is durable, or not at all.

use std::sync::Arc;

use super::decide::{Decider, keyed};
use super::pipeline::Decisions;
use super::{audit, deliver};
use crate::alert;
use crate::model::{
    Alert, AlertState, Dismissal, EventBody, Fingerprint, ModeChange, ModeState, PostedAlert,
    SilenceAction, Timestamp,
};
use crate::modes;
use crate::mute::{Draft, Silence, SilenceError, SilenceId, SilenceState, Silences};
use crate::publish::{Command, CommandError, PostedAnswer};
use crate::storage::{Change, Table};

impl Decider {
    /// Carries out what a person wants, once it is durable.
    pub(super) async fn command(&mut self, command: Command) {
        let now = self.clock.now();
        match command {
            Command::SetOverride {
                service,
                manual,
                reply,
            } => {
                let apply = |modes: &mut modes::Machine| modes.set_override(now, &service, manual);
                let done = self.change_modes(now, apply, None).await;
                answer(reply, done.and_then(|()| self.state(now, &service)));
            }
            Command::RemoveOverride {
                service,
                author,
                reply,
            } => {
                let apply =
                    |modes: &mut modes::Machine| modes.remove_override(now, &service, &author);
                let done = self.change_modes(now, apply, None).await;
                answer(reply, done.and_then(|()| self.state(now, &service)));
            }
            Command::Freeze {
                freeze,
                author,
                reply,
            } => {
                let event = EventBody::Freeze {
                    frozen: freeze.is_some(),
                    author,
                    reason: freeze
                        .as_ref()
                        .map_or_else(String::new, |f| f.reason.clone()),
                };
                let freeze = freeze.map(|freeze| modes::Freeze {
                    author: freeze.author,
                    reason: freeze.reason,
                    set_at: freeze.set_at,
                });
                let apply = |modes: &mut modes::Machine| Ok(modes.freeze(now, freeze));
                answer(reply, self.change_modes(now, apply, Some(event)).await);
            }
            Command::Decide {
                proposal,
                approve,
                author,
                reason,
                reply,
            } => {
                let found = self.pipeline.modes.view(now).proposals;
                let found = found.into_iter().find(|found| found.id == proposal);
                let apply = |modes: &mut modes::Machine| {
                    modes.decide(now, &proposal, approve, &author, &reason)
                };
                let done = self.change_modes(now, apply, None).await;
                let unknown = || CommandError::NotFound("there is no such proposal".into());
                answer(reply, done.and_then(|()| found.ok_or_else(unknown)));
            }
            Command::Dismiss {
                fingerprint,
                author,
                comment,
                reply,
            } => {
                let dismissal = Dismissal {
                    author,
                    comment,
                    at: now,
                };
                answer(reply, self.dismiss(now, fingerprint, dismissal).await);
            }
            Command::PostAlerts { alerts, reply } => {
                answer(reply, Ok(self.post_alerts(now, alerts).await));
            }
            Command::SetSilence { draft, reply } => {
                answer(reply, self.set_silence(now, draft).await);
            }
            Command::ExpireSilence { id, reply } if self.is_over(now, id) => {
                answer(reply, Ok(()));
            }
            Command::ExpireSilence { id, reply } => {
                let apply = |silences: &mut Silences| silences.expire(now, id).map(|()| id);
                let action = SilenceAction::Expired;
                let done = self.change_silences(now, action, apply).await;
                answer(reply, done.map(drop));
            }
        }
    }

    fn state(&self, now: Timestamp, service: &str) -> Result<ModeState, CommandError> {
        let unknown = || CommandError::NotFound(format!("there is no service `{service}`"));
        self.pipeline.modes.state(now, service).ok_or_else(unknown)
    }

    /// Applies a command to the modes, and takes it back if it cannot be made durable.
    async fn change_modes(
        &mut self,
        now: Timestamp,
        apply: impl FnOnce(&mut modes::Machine) -> Result<Vec<ModeChange>, modes::Error>,
        done: Option<EventBody>,
    ) -> Result<(), CommandError> {
        let before = self.pipeline.modes.clone();
        let modes = apply(&mut self.pipeline.modes).map_err(refused)?;
        let decisions = Decisions {
            modes,
            done,
            ..Decisions::default()
        };
        let committed = self.commit(now, &decisions, |decider| {
            keyed(Table::Modes, decider.pipeline.modes.changes())
        });
        let committed = committed.await;
        if committed.is_err() {
            self.pipeline.modes = before;
        }
        committed
    }

    /// Teaches the detectors of an alert that what deviates is normal, and ends it. Of one that is over
    /// already there is nothing to teach; that it was normal is remembered all the same.
    async fn dismiss(
        &mut self,
        now: Timestamp,
        fingerprint: Fingerprint,
        dismissal: Dismissal,
    ) -> Result<Arc<Alert>, CommandError> {
        let alerts = self.pipeline.snapshot();
        let mut alerts = alerts.iter();
        let alert = alerts.find(|alert| alert.fingerprint == fingerprint);
        let unknown = || CommandError::NotFound("there is no such alert".into());
        let alert = Arc::clone(alert.ok_or_else(unknown)?);
        let invalid = |message: &str| Err(CommandError::Invalid(message.into()));
        if alert.reported().is_some() {
            return invalid(
                "another system reports this alert, and would go on to: silence it, or change its rule there",
            );
        }
        let mut taught = alert.state == AlertState::Resolved;
        for (signal, rule, since) in self.pipeline.alerts.grounds_of(fingerprint) {
            let rules = self.pipeline.engine.accept(signal, since).await;
            taught |= rules.contains(&rule);
        }
        if !taught {
            return invalid(
                "the rule of this alert does not learn what is normal, so that it would fire again: silence the alert, or change the rule",
            );
        }
        let decisions = self.pipeline.dismiss(now, &alert, dismissal).await;
        let ended = decisions.transitions.last().map(|t| Arc::clone(&t.alert));
        self.settle(now, decisions).await;
        self.save_learning.notify_one();
        Ok(ended.unwrap_or(alert))
    }

    /// Takes alerts that another system reports. As with our own, they are taken even if the disk fails.
    async fn post_alerts(&mut self, now: Timestamp, alerts: Vec<PostedAlert>) -> PostedAnswer {
        let (decisions, received) = self.pipeline.post(now, alerts).await;
        // Mostly the same is merely reported again: that is shown with the next tick.
        if !decisions.transitions.is_empty() || self.pipeline.external.is_changed() {
            self.settle(now, decisions).await;
        }
        let alert::Received {
            firing,
            resolved,
            invalid,
            refused,
        } = received;
        for (result, count) in [
            ("firing", firing),
            ("resolved", resolved),
            ("invalid", invalid.len()),
            ("refused", refused),
        ] {
            let counter = &self.telemetry.received_alerts;
            let counter = counter.with_label_values(&[result]);
            counter.inc_by(u64::try_from(count).unwrap_or(u64::MAX));
        }
        PostedAnswer { invalid, refused }
    }

    fn is_over(&self, now: Timestamp, id: SilenceId) -> bool {
        let silence = self.silences.get(id);
        silence.is_some_and(|silence| silence.state(now) == SilenceState::Expired)
    }

    async fn set_silence(
        &mut self,
        now: Timestamp,
        draft: Draft,
    ) -> Result<SilenceId, CommandError> {
        let new = SilenceId::from_random(rand::random());
        let apply = |silences: &mut Silences| silences.set(now, draft, new);
        self.change_silences(now, SilenceAction::Set, apply).await
    }

    /// Applies a command to the silences, and takes it back if it cannot be made durable.
    async fn change_silences(
        &mut self,
        now: Timestamp,
        action: SilenceAction,
        apply: impl FnOnce(&mut Silences) -> Result<SilenceId, SilenceError>,
    ) -> Result<SilenceId, CommandError> {
        let before = self.silences.clone();
        let id = apply(&mut self.silences).map_err(refusal)?;
        let silence = self.silences.get(id);
        let decisions = Decisions {
            done: silence.map(|silence| silence_event(action, silence)),
            ..Decisions::default()
        };
        let committed = self.commit(now, &decisions, |decider| {
            keyed(Table::Silences, decider.silences.changes())
        });
        if let Err(error) = committed.await {
            self.silences = before;
            return Err(error);
        }
        self.board.set_silences(self.silences.clone());
        Ok(id)
    }

    /// Makes `decisions` and what `changes` gives durable, then public.
    async fn commit(
        &mut self,
        now: Timestamp,
        decisions: &Decisions,
        changes: impl FnOnce(&mut Self) -> Vec<Change>,
    ) -> Result<(), CommandError> {
        let sequence = self.pipeline.sequence;
        // Numbers the modes, so before their changes are taken.
        let events = self.pipeline.events(now, decisions);
        let mut changes = changes(self);
        changes.extend(events.iter().flat_map(audit::changes));
        let parcel = self.at_once(now, &decisions.transitions, &events);
        changes.extend(deliver::changes(&parcel));
        if let Err(error) = self.store.commit(changes).await {
            self.pipeline.sequence = sequence;
            return Err(CommandError::Unavailable(format!(
                "it cannot be made durable: {error}"
            )));
        }
        self.notifier.deliver(parcel);
        self.tell(&decisions.transitions, &events);
        self.publish(now, events);
        Ok(())
    }

    /// Forgets silences that were over long ago.
    pub(super) async fn forget_silences(&mut self, now: Timestamp) {
        self.silences.collect(now);
        let changes = keyed(Table::Silences, self.silences.changes());
        if !changes.is_empty() {
            self.record(changes).await;
            self.board.set_silences(self.silences.clone());
        }
    }
}

/// Why the machine of modes does not take something.
pub(super) fn refused(error: modes::Error) -> CommandError {
    match error {
        modes::Error::NotFound(message) => CommandError::NotFound(message),
        modes::Error::Invalid(message) => CommandError::Invalid(message),
    }
}

fn refusal(error: SilenceError) -> CommandError {
    let message = error.to_string();
    match error {
        SilenceError::NotFound => CommandError::NotFound(message),
        SilenceError::Invalid(_) | SilenceError::Full { .. } => CommandError::Invalid(message),
    }
}

fn silence_event(action: SilenceAction, silence: &Silence) -> EventBody {
    EventBody::Silence {
        action,
        id: silence.id.to_string(),
        matchers: silence.to_string(),
        starts_at: silence.starts_at,
        ends_at: silence.ends_at,
        author: silence.created_by.clone(),
        comment: silence.comment.clone(),
    }
}

pub(super) fn answer<T>(
    reply: tokio::sync::oneshot::Sender<Result<T, CommandError>>,
    result: Result<T, CommandError>,
) {
    // Whoever asked may have left; it is carried out all the same.
    drop(reply.send(result));
}
