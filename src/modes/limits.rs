//! How many services automation may still take away from normal.

use super::Machine;
use super::service::Service;
use super::settings::Settings;
use crate::model::Restraint;

/// Some services: how many there are, and how many of them are away from normal.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    known: usize,
    away: usize,
}

/// The room that is left, for all and for each group.
#[derive(Debug, Clone)]
pub(super) struct Room {
    all: Count,
    groups: Vec<Count>,
}

impl Room {
    /// As it is now. Services that people have taken away count too.
    pub(super) fn survey(machine: &Machine) -> Self {
        let mut room = Self {
            all: Count::default(),
            groups: vec![Count::default(); machine.settings.groups.len()],
        };
        for service in machine.services.values() {
            let away = usize::from(service.is_away(&machine.settings.levels));
            room.each(service, |count| {
                count.known += 1;
                count.away += away;
            });
        }
        room
    }

    /// Why there is no room for `service`; `None`: there is.
    pub(super) fn refuses(&self, service: &Service, settings: &Settings) -> Option<Restraint> {
        if service.is_away(&settings.levels) {
            return None;
        }
        if self.all.away >= settings.allowed(self.all.known) {
            return Some(Restraint::Limit);
        }
        let full = |at: &&usize| match (self.groups.get(**at), settings.groups.get(**at)) {
            (Some(count), Some(group)) => count.away >= group.limit.of(count.known),
            (_, _) => false,
        };
        let full = service.groups.iter().find(full)?;
        let group = settings.groups.get(*full)?.name.clone();
        Some(Restraint::GroupLimit { group })
    }

    /// Takes the room that `service` needs, which is not away yet.
    pub(super) fn take(&mut self, service: &Service) {
        self.each(service, |count| count.away += 1);
    }

    fn each(&mut self, service: &Service, mut change: impl FnMut(&mut Count)) {
        change(&mut self.all);
        for at in &service.groups {
            if let Some(count) = self.groups.get_mut(*at) {
                change(count);
            }
        }
    }
}
