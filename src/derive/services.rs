//! Services as small numbers, for memory that holds many of them.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::FixedState;

use crate::model::{AttributeValue, Attributes, Resource};

/// Numbers of services. A number stands for its service as long as something may refer to it, and then
/// for the next one that comes.
#[derive(Debug)]
pub(super) struct Services {
    numbers: HashMap<Arc<str>, u32, FixedState>,
    known: Vec<Option<Service>>,
    free: Vec<u32>,
    most: usize,
    /// Whom a number stands for that has no meaning.
    nobody: Arc<Resource>,
}

#[derive(Debug)]
struct Service {
    /// A resource that carries nothing but the name.
    resource: Arc<Resource>,
    /// The age at which it was last referred to.
    used: u64,
    /// Whether something still refers to it, whatever its age.
    held: bool,
}

impl Services {
    /// Knows `most` services at a time.
    pub(super) fn new(most: usize, seed: u64) -> Self {
        Self {
            numbers: HashMap::with_hasher(FixedState::with_seed(seed)),
            known: Vec::new(),
            free: Vec::new(),
            // The largest numbers mean something else to those who remember them.
            most: most.min(1 << 30),
            nobody: named(&"".into()),
        }
    }

    /// The number of a service; `None` if there are too many. Before the next
    /// [`release`](Self::release), whoever remembers it is to say so by [`used`](Self::used).
    pub(super) fn number(&mut self, name: &Arc<str>) -> Option<u32> {
        if let Some(known) = self.numbers.get(name) {
            return Some(*known);
        }
        if self.numbers.len() >= self.most {
            return None;
        }
        let service = Some(Service {
            resource: named(name),
            used: 0,
            held: false,
        });
        let number = self.free.pop().unwrap_or(self.known.len() as u32);
        match self.known.get_mut(number as usize) {
            Some(place) => *place = service,
            None => self.known.push(service),
        }
        self.numbers.insert(Arc::clone(name), number);
        Some(number)
    }

    /// The service as a resource that carries nothing but the name.
    pub(super) fn resource(&self, number: u32) -> &Arc<Resource> {
        let service = self.known.get(number as usize).and_then(Option::as_ref);
        service.map_or(&self.nobody, |service| &service.resource)
    }

    /// Notes that what was remembered at `age` refers to a service.
    pub(super) fn used(&mut self, number: u32, age: u64) {
        if let Some(Some(service)) = self.known.get_mut(number as usize) {
            service.used = service.used.max(age);
        }
    }

    /// Lets go of the services that nothing refers to: those that are not `held`, and were last used at
    /// an age that `is_forgotten`.
    pub(super) fn release(
        &mut self,
        held: impl Iterator<Item = u32>,
        is_forgotten: impl Fn(u64) -> bool,
    ) {
        for number in held {
            if let Some(Some(service)) = self.known.get_mut(number as usize) {
                service.held = true;
            }
        }
        for (number, place) in (0..).zip(&mut self.known) {
            if let Some(service) = place
                && !std::mem::take(&mut service.held)
                && is_forgotten(service.used)
            {
                self.numbers.remove(&service.resource.service);
                self.free.push(number);
                *place = None;
            }
        }
    }

    /// About how much memory it takes.
    pub(super) fn bytes(&self) -> usize {
        let each = size_of::<(Arc<str>, u32)>() + size_of::<Option<Service>>();
        self.numbers.capacity() * each + self.free.capacity() * size_of::<u32>()
    }
}

fn named(service: &Arc<str>) -> Arc<Resource> {
    let attributes = [("service.name".into(), AttributeValue::from(&**service))];
    Arc::new(Resource {
        service: Arc::clone(service),
        attributes: Attributes::from_pairs(attributes),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_given_away_once_nothing_refers_to_it() {
        let mut services = Services::new(2, 7);
        let (a, b, c) = (Arc::from("a"), Arc::from("b"), Arc::from("c"));
        assert_eq!(services.number(&a), Some(0));
        assert_eq!(services.number(&b), Some(1));
        assert_eq!((services.number(&c), services.number(&a)), (None, Some(0)));
        services.used(0, 5);
        services.used(1, 3);
        services.release([1].into_iter(), |age| age < 5);
        assert_eq!(services.number(&c), None, "one is held, one is young");
        services.release([].into_iter(), |age| age < 5);
        let name = |services: &Services, number| services.resource(number).service.to_string();
        assert_eq!((&*name(&services, 1), services.number(&c)), ("", Some(1)));
        assert_eq!([0, 1].map(|number| name(&services, number)), ["a", "c"]);
        assert_eq!(services.number(&b), None);
    }
}
