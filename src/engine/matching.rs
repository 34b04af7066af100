//! Which rules watch a signal: asked of each that comes, and remembered for the many that a restart brings at
//! once.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::plan::Plan;
use super::pulse::watches_service;
use super::signal::Owner;
use crate::model::{Labels, Rule, Selector, SeriesIdentity, SignalKind, SignalRef};

/// What is remembered of signals that have in common whatever is behind these addresses, as long as that stays
/// where it is: of each rule, whether it matches them.
#[derive(Default)]
pub(super) struct Matching(HashMap<Alike, Vec<Answer>, RandomState>);

/// Instrument, keys of the series' attributes and of the resource's, kind.
type Alike = (usize, usize, usize, SignalKind);

/// Whether a rule matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Always,
    Never,
    /// That depends on the service, or on values of attributes.
    Ask,
}

/// The rules that watch a signal, with their positions.
pub(super) fn rules<'p>(
    owner: Owner<'_>,
    kind: SignalKind,
    plan: &'p Plan,
) -> Vec<(u32, &'p Rule)> {
    let seen = owner.seen(kind);
    let rules = (0..).zip(plan.rules.iter());
    rules
        .filter(|(_, rule)| watches(rule, &seen, Answer::Ask))
        .collect()
}

fn watches(rule: &Rule, seen: &SignalRef<'_>, answer: Answer) -> bool {
    let matches = match answer {
        Answer::Always => true,
        Answer::Never => false,
        Answer::Ask => rule.selector.matches(seen),
    };
    // A service that is silent is told once, and not once for each of its signals.
    matches && !watches_service(rule, &seen.identity.resource.service)
}

impl Matching {
    /// The same as [`rules`]. All that was asked about before must still be there.
    pub(super) fn rules<'p>(
        &mut self,
        owner: Owner<'_>,
        kind: SignalKind,
        plan: &'p Plan,
    ) -> Vec<(u32, &'p Rule)> {
        let seen = owner.seen(kind);
        let identity = owner.identity;
        let keys = |parts: Option<(&Arc<_>, &str)>| parts.map_or(0, |(keys, _)| address(keys));
        let alike = (
            address(&identity.instrument),
            keys(identity.attributes.parts()),
            keys(identity.resource.attributes.parts()),
            kind,
        );
        let answers = self.0.entry(alike).or_insert_with(|| {
            let answers = plan.rules.iter().map(|rule| answer(&rule.selector, &seen));
            answers.collect()
        });
        (0..)
            .zip(plan.rules.iter())
            .zip(answers)
            .filter(|((_, rule), answer)| watches(rule, &seen, **answer))
            .map(|(rule, _)| rule)
            .collect()
    }
}

fn address<T>(it: &Arc<T>) -> usize {
    Arc::as_ptr(it) as usize
}

/// What `selector` says of all signals like `seen`.
fn answer(selector: &Selector, seen: &SignalRef<'_>) -> Answer {
    if selector.names().any(|name| varies(name, seen.identity)) {
        let fixed = |name: &str| !varies(name, seen.identity);
        let fails = selector.matchers().iter().any(|matcher| {
            let text = || seen.label(&matcher.name).unwrap_or_default();
            fixed(&matcher.name) && !matcher.matches(&text())
        });
        return if fails { Answer::Never } else { Answer::Ask };
    }
    match selector.matches(seen) {
        true => Answer::Always,
        false => Answer::Never,
    }
}

/// Whether what is under `name` may differ between signals that are alike.
fn varies(name: &str, identity: &SeriesIdentity) -> bool {
    let sets = [&identity.attributes, &identity.resource.attributes];
    let mut keys = sets.iter().flat_map(|set| set.iter().map(|(key, _)| key));
    match name {
        "metric" | "signal" | "unit" => false,
        "service" => true,
        name => keys.any(|key| key == name || Labels::is_name_from(name, key)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::Settings;
    use crate::model::{AttributeValue, Attributes, Instrument, MetricKind, Resource, SeriesId};
    use crate::telemetry::Telemetry;

    const SELECTORS: [&str; 9] = [
        "{}",
        r#"{metric="m0",signal="rate"}"#,
        r#"{unit!="s"}"#,
        r#"{service="a"}"#,
        r#"{service!="a",metric=~"m[01]"}"#,
        r#"{x_y="1"}"#,
        r#"{x_y!="1",signal="rate",metric="m1"}"#,
        r#"{z="",unit="s"}"#,
        r#"{z=~"1|2"}"#,
    ];

    fn attributes() -> impl Strategy<Value = Attributes> {
        let pair = (
            prop::sample::select(vec!["x.y", "z", "other"]),
            prop::sample::select(vec!["1", "2"]),
        );
        prop::collection::vec(pair, 0..3).prop_map(|pairs| {
            let pairs = pairs.into_iter();
            Attributes::from_pairs(pairs.map(|(k, v)| (k.into(), AttributeValue::from(v))))
        })
    }

    proptest! {
        #[test]
        fn what_is_remembered_is_what_is_asked(
            excepted in any::<bool>(),
            instruments in prop::collection::vec((0..3_u8, any::<bool>()), 3),
            sets in prop::collection::vec(attributes(), 4),
            services in prop::collection::vec((any::<bool>(), attributes()), 3),
            signals in prop::collection::vec((0..3_usize, 0..4_usize, 0..3_usize, any::<bool>()), 1..40),
        ) {
            let rules: Vec<Rule> = SELECTORS.iter().map(|text| {
                let mut rule = crate::engine::tests::rule("Any", text);
                if excepted {
                    let other = Selector::parse(r#"{z="2"}"#).unwrap();
                    rule.selector = rule.selector.except([other]);
                }
                rule
            }).collect();
            let plan = Plan::new(Settings::default(), rules.into(), Telemetry::new()).unwrap();
            let instruments: Vec<_> = instruments.into_iter().map(|(metric, seconds)| Arc::new(Instrument {
                scope: Arc::default(),
                metric: format!("m{metric}").into(),
                unit: if seconds { "s" } else { "1" }.into(),
                kind: MetricKind::Gauge,
            })).collect();
            let resources: Vec<_> = services.into_iter().map(|(a, attributes)| Arc::new(Resource {
                service: if a { "a" } else { "b" }.into(),
                attributes,
            })).collect();
            let mut matching = Matching::default();
            for (instrument, set, resource, rate) in signals {
                let identity = SeriesIdentity {
                    resource: Arc::clone(&resources[resource]),
                    instrument: Arc::clone(&instruments[instrument]),
                    attributes: sets[set].clone(),
                };
                let owner = Owner { id: SeriesId(1), identity: &identity, judged: true };
                let kind = if rate { SignalKind::Rate } else { SignalKind::Value };
                let numbers = |rules: Vec<(u32, &Rule)>| rules.iter().map(|(n, _)| *n).collect::<Vec<_>>();
                prop_assert_eq!(
                    numbers(matching.rules(owner, kind, &plan)),
                    numbers(super::rules(owner, kind, &plan))
                );
            }
        }
    }
}
