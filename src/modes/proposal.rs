//! What automation would do, and leaves to people.

use super::asked::Want;
use super::limits::Room;
use super::outcome::Reason;
use super::service::Service;
use super::settle::Causes;
use super::{Error, Machine};
use crate::model::{
    EventBody, Labels, Level, ModeChange, ModeStep, Proposal, ProposalAction, Restraint, Timestamp,
};

impl Machine {
    /// Lets a person say yes to a proposal, or no to it. With a yes the step is taken now, whatever the
    /// limits; the way back is that of the policy. With a no the policy leaves the service where it is until
    /// its alerts there are over.
    ///
    /// # Errors
    /// There is no such proposal (any more).
    pub fn decide(
        &mut self,
        now: Timestamp,
        proposal: &str,
        approve: bool,
        author: &str,
        reason: &str,
    ) -> Result<Vec<ModeChange>, Error> {
        let mut all = self.services.iter();
        let found = all.find(|(_, s)| s.proposal.as_ref().is_some_and(|p| p.id == proposal));
        let Some(name) = found.map(|(name, _)| name.clone()) else {
            let message = format!("there is no proposal `{proposal}` any more");
            return Err(Error::NotFound(message));
        };
        self.sight.pass_to(now);
        let mut causes = Causes::new();
        if let Some(service) = self.services.get_mut(&name)
            && let Some(proposal) = service.proposal.take()
        {
            self.unsaved.insert(name.clone());
            let policies = &self.settings.policies;
            let position = policies.iter().position(|p| p.name == proposal.policy);
            let (level, restraint) = (proposal.level, proposal.restraint.clone());
            if approve {
                let plan = position.filter(|at| self.places.get(*at).is_some_and(Option::is_some));
                if let Some(position) =
                    position.filter(|_| restraint == Restraint::DryRun && plan.is_none())
                {
                    let stance = service.stances.entry(position).or_default();
                    stance.granted = stance.granted.max(level);
                    service.news();
                }
                let first = proposal.why.first().map(|why| why.alertname.as_str());
                let cause = format!(
                    "approved by {author}: policy `{}`: {} fires",
                    proposal.policy,
                    first.unwrap_or("an alert")
                );
                if let Some(position) = plan {
                    self.approve_plan(now, &name, position);
                } else {
                    let reason = Reason {
                        step: ModeStep::Degrade,
                        by: position,
                        cause,
                    };
                    self.take_step(&mut causes, &name, level, reason);
                }
            } else {
                let present = service.auto;
                service.set_aside(present, |at| Some(at) == position);
            }
            let action = match approve {
                true => ProposalAction::Approved,
                false => ProposalAction::Rejected,
            };
            self.note_proposal(action, proposal, author, reason);
        }
        Ok(self.settle(now, causes))
    }

    /// Makes proposals of the steps that automation wants to take and may not, and withdraws those that
    /// nothing asks for any more. Whoever does not see does not propose.
    pub(super) fn propose(&mut self, now: Timestamp) {
        let room = Room::survey(self);
        let names: Vec<_> = self
            .services
            .iter()
            .filter(|(_, s)| s.proposal.is_some() || !s.claims.is_empty())
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            let Some(service) = self.services.get(&name) else {
                continue;
            };
            let wanted = self.restrained(service, &room);
            let is_same = |before: &Proposal, want: &Want| {
                let policy = self.settings.policies.get(want.by.0);
                before.level == want.level && policy.is_some_and(|p| p.name == before.policy)
            };
            let before = service.proposal.as_ref();
            let stays = match (before, &wanted) {
                (Some(before), Some((want, _))) => is_same(before, want),
                (Some(_), None) | (None, _) => false,
            };
            let is_news = match (before, &wanted) {
                (Some(before), Some((_, restraint))) => {
                    !stays || before.restraint != *restraint || service.reconsider
                }
                (Some(_), None) | (None, Some(_)) => true,
                (None, None) => false,
            };
            // While blind nothing is made, but what stands for something else than is asked for goes.
            let is_blind = self.sight.is_blind();
            if !is_news || (is_blind && (stays || before.is_none())) {
                continue;
            }
            let wanted = wanted.filter(|_| !is_blind);
            let since = before.filter(|_| stays).map_or(now, |before| before.since);
            let made = wanted
                .map(|(want, restraint)| self.proposal(&name, service, &want, restraint, since));
            let reason = match before {
                _ if service.manual.is_some() => "a person has set the mode",
                Some(before) if before.level <= service.auto => "automation has done it",
                _ if service.wish().is_some() => {
                    "something else is asked for, or soon by automation"
                }
                _ => "nothing asks for it any more",
            };
            let Some(service) = self.services.get_mut(&name) else {
                continue;
            };
            service.reconsider = false;
            let before = std::mem::replace(&mut service.proposal, made.clone());
            self.unsaved.insert(name);
            if stays {
                continue;
            }
            if let Some(before) = before {
                self.note_proposal(ProposalAction::Withdrawn, before, "", reason);
            }
            if let Some(made) = made {
                self.note_proposal(ProposalAction::Made, made, "", "");
            }
        }
    }

    /// The step that automation wants to take and may not, and why; `None` also while a person has set the
    /// mode, or while the last change is held.
    fn restrained(&self, service: &Service, room: &Room) -> Option<(Want, Restraint)> {
        if service.manual.is_some() || service.held_until() > self.sight.watched() {
            return None;
        }
        if let Some(want) = service.want() {
            if service.free_from(&want) > self.sight.watched() {
                return None;
            }
            let restraint = match self.freeze {
                Some(_) => Some(Restraint::Frozen),
                None => room.refuses(service, &self.settings),
            };
            // What nothing restrains automation does as soon as it sees.
            return restraint.map(|restraint| (want, restraint));
        }
        let wish = service.wish()?;
        let restraint = match self.place(wish.by.0) {
            Some(_) => self.plan_restraint(&service.told.service, wish.by.0)?,
            None => Restraint::DryRun,
        };
        Some((wish, restraint))
    }

    fn proposal(
        &self,
        name: &str,
        service: &Service,
        want: &Want,
        restraint: Restraint,
        since: Timestamp,
    ) -> Proposal {
        let (instruction, why) = service.foretell(&self.settings, want);
        let mode = self.settings.levels.name(want.level).to_owned();
        let policy = self.settings.policies.get(want.by.0);
        let policy = policy.map_or_else(String::new, |policy| policy.name.clone());
        Proposal {
            id: id(name, &policy, want.level, since),
            service: name.into(),
            mode,
            level: want.level,
            instruction,
            policy,
            restraint,
            why,
            since,
        }
    }

    fn note_proposal(
        &mut self,
        action: ProposalAction,
        proposal: Proposal,
        author: &str,
        reason: &str,
    ) {
        self.notes.push(EventBody::Proposal {
            action,
            proposal,
            author: author.into(),
            reason: reason.into(),
        });
    }
}

/// A name that says what is proposed, so that nobody says yes to something else that stands there meanwhile.
fn id(service: &str, policy: &str, level: Level, since: Timestamp) -> String {
    let level = level.0.to_string();
    let since = since.to_string();
    let labels: Labels = [
        ("service", service),
        ("policy", policy),
        ("level", &level),
        ("since", &since),
    ]
    .into_iter()
    .collect();
    labels.fingerprint().to_string()
}
