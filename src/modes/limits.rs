//! How many services automation may still take away from normal.
//!
//! Services that are heard, in telemetry or because they report, are counted by themselves, and apart from
//! them those that only alerts name: a name in a label neither widens the limit of the others nor takes
//! their room.

use super::Machine;
use super::service::Service;
use super::settings::{Allowance, Settings};
use crate::model::Restraint;

/// Some services: how many there are, and how many of them are away from normal.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    known: usize,
    away: usize,
}

/// Services of one kind: all of them, and those of each group.
#[derive(Debug, Clone, Default)]
struct Kind {
    all: Count,
    groups: Vec<Count>,
}

impl Kind {
    fn each(&mut self, service: &Service, mut change: impl FnMut(&mut Count)) {
        change(&mut self.all);
        for at in &service.groups {
            if let Some(count) = self.groups.get_mut(*at) {
                change(count);
            }
        }
    }
}

/// The room that is left, for all and for each group.
#[derive(Debug, Clone)]
pub(super) struct Room {
    heard: Kind,
    /// Those that only alerts name, as far as one asks for something.
    named: Kind,
    /// How many of each group are away, of both kinds.
    away: Vec<usize>,
}

impl Room {
    /// As it is now. Services that people have taken away count too.
    pub(super) fn survey(machine: &Machine) -> Self {
        let groups = machine.settings.groups.len();
        let kind = Kind {
            groups: vec![Count::default(); groups],
            ..Kind::default()
        };
        let mut room = Self {
            heard: kind.clone(),
            named: kind,
            away: vec![0; groups],
        };
        for service in machine.services.values() {
            let away = usize::from(service.is_away(&machine.settings.levels));
            if away == 0 && !service.heard && !service.is_asked() {
                continue;
            }
            let is_heard = service.is_among_heard(&machine.settings.levels);
            let count = |count: &mut Count| {
                count.known += 1;
                count.away += away;
            };
            room.kind(is_heard).each(service, count);
            if service.heard && !is_heard {
                // It is heard since it is away: it takes room there, too.
                room.heard.each(service, count);
            }
            room.leave(service, away);
        }
        room
    }

    /// Counts a service that is about to be asked for something.
    pub(super) fn admit(&mut self, service: &Service, settings: &Settings) {
        if !service.heard && !service.is_away(&settings.levels) && !service.is_asked() {
            self.named.each(service, |count| count.known += 1);
        }
    }

    /// Why there is no room for `service`; `None`: there is.
    pub(super) fn refuses(&self, service: &Service, settings: &Settings) -> Option<Restraint> {
        if service.is_away(&settings.levels) {
            return None;
        }
        let kind = match service.heard {
            true => &self.heard,
            false => &self.named,
        };
        if kind.all.away >= settings.allowed(kind.all.known) {
            return Some(Restraint::Limit);
        }
        let full = |at: &&usize| {
            let Some(group) = settings.groups.get(**at) else {
                return false;
            };
            match group.limit {
                Allowance::Count(count) => self.away.get(**at).is_some_and(|away| *away >= count),
                Allowance::Share(_) => {
                    let count = kind.groups.get(**at).copied().unwrap_or_default();
                    count.away >= group.limit.of(count.known)
                }
            }
        };
        let full = service.groups.iter().find(full)?;
        let group = settings.groups.get(*full)?.name.clone();
        Some(Restraint::GroupLimit { group })
    }

    /// Takes the room that `service` needs, which is not away yet.
    pub(super) fn take(&mut self, service: &Service) {
        self.kind(service.heard)
            .each(service, |count| count.away += 1);
        self.leave(service, 1);
    }

    fn kind(&mut self, is_heard: bool) -> &mut Kind {
        match is_heard {
            true => &mut self.heard,
            false => &mut self.named,
        }
    }

    fn leave(&mut self, service: &Service, away: usize) {
        for at in &service.groups {
            if let Some(count) = self.away.get_mut(*at) {
                *count += away;
            }
        }
    }
}
