//! Alerts that make others superfluous: `inhibit_rules` with Alertmanager's meaning.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Fingerprint, Labels, Selector};

/// While an alert fires that `source` holds for, no alert is notified that `target` holds for and that
/// agrees with it in `equal`.
#[derive(Debug, Clone, Default)]
pub struct InhibitRule {
    /// Which alerts inhibit.
    pub source: Selector,
    /// Which are inhibited.
    pub target: Selector,
    /// Labels that must be the same in both; two that are absent are the same.
    pub equal: Vec<String>,
}

/// Which alerts inhibit which. Told of each alert that fires or is over, it answers for any labels in
/// time that does not grow with the number of alerts.
#[derive(Debug, Clone, Default)]
pub struct Inhibitor {
    rules: Vec<InhibitRule>,
    /// By rule and the values of its `equal`: the firing alerts that `source` holds for.
    sources: BTreeMap<(usize, Vec<String>), Sources>,
    /// Where in `sources` an alert is.
    known: BTreeMap<Fingerprint, Vec<(usize, Vec<String>)>>,
}

#[derive(Debug, Clone, Default)]
struct Sources {
    /// Those that are no targets of the rule.
    plain: BTreeSet<Fingerprint>,
    /// Those that are targets as well. They do not inhibit alerts that are both, too: else two such
    /// alerts, or one alone, would silence themselves.
    targets: BTreeSet<Fingerprint>,
}

impl InhibitRule {
    fn key(&self, labels: &Labels) -> Vec<String> {
        let value = |name: &String| labels.get(name).unwrap_or_default().to_owned();
        self.equal.iter().map(value).collect()
    }
}

impl Inhibitor {
    /// With these rules; no alert fires yet.
    pub fn new(rules: Vec<InhibitRule>) -> Self {
        Self {
            rules,
            ..Self::default()
        }
    }

    /// The alert fires, with these labels from now on.
    pub fn fires(&mut self, fingerprint: Fingerprint, labels: &Labels) {
        self.is_over(fingerprint);
        let mut places = Vec::new();
        for (at, rule) in self.rules.iter().enumerate() {
            if !rule.source.matches(labels) {
                continue;
            }
            let place = (at, rule.key(labels));
            let sources = self.sources.entry(place.clone()).or_default();
            match rule.target.matches(labels) {
                true => sources.targets.insert(fingerprint),
                false => sources.plain.insert(fingerprint),
            };
            places.push(place);
        }
        if !places.is_empty() {
            self.known.insert(fingerprint, places);
        }
    }

    /// The alert does not fire.
    pub fn is_over(&mut self, fingerprint: Fingerprint) {
        for place in self.known.remove(&fingerprint).unwrap_or_default() {
            if let Some(sources) = self.sources.get_mut(&place) {
                sources.plain.remove(&fingerprint);
                sources.targets.remove(&fingerprint);
                if sources.plain.is_empty() && sources.targets.is_empty() {
                    self.sources.remove(&place);
                }
            }
        }
    }

    /// The alerts that inhibit one with these labels, sorted: for each rule that does, one of them.
    pub fn inhibited_by(&self, labels: &Labels) -> Vec<Fingerprint> {
        let by_rule = |(at, rule): (usize, &InhibitRule)| {
            if !rule.target.matches(labels) {
                return None;
            }
            let sources = self.sources.get(&(at, rule.key(labels)))?;
            let both = || {
                sources
                    .targets
                    .first()
                    .filter(|_| !rule.source.matches(labels))
            };
            sources.plain.first().or_else(both).copied()
        };
        let found: BTreeSet<_> = self.rules.iter().enumerate().filter_map(by_rule).collect();
        found.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> Labels {
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').expect("a pair");
            (name.to_owned(), value.to_owned())
        };
        text.split_whitespace().map(pair).collect()
    }

    fn inhibitor(rules: &[(&str, &str, &[&str])]) -> Inhibitor {
        let rule = |(source, target, equal): &(&str, &str, &[&str])| InhibitRule {
            source: Selector::parse(source).expect("a selector"),
            target: Selector::parse(target).expect("a selector"),
            equal: equal.iter().map(|name| (*name).to_owned()).collect(),
        };
        Inhibitor::new(rules.iter().map(rule).collect())
    }

    /// Whether `target` is inhibited while `sources` fire.
    #[track_caller]
    fn check(inhibitor: &Inhibitor, sources: &[&str], target: &str, expected: bool) {
        let mut inhibitor = inhibitor.clone();
        for source in sources {
            let labels = labels(source);
            inhibitor.fires(labels.fingerprint(), &labels);
        }
        let found = inhibitor.inhibited_by(&labels(target));
        assert_eq!(
            !found.is_empty(),
            expected,
            "{target} by {sources:?}: {found:?}"
        );
    }

    #[test]
    fn a_source_inhibits_targets_that_agree_with_it() {
        let rules: [(&str, &str, &[&str]); 1] = [(
            "{severity=critical}",
            "{severity=warning}",
            &["service", "zone"],
        )];
        let inhibitor = inhibitor(&rules);
        let critical = "severity=critical service=pay";
        check(
            &inhibitor,
            &[critical],
            "severity=warning service=pay",
            true,
        );
        check(
            &inhibitor,
            &[critical],
            "severity=warning service=pay x=y",
            true,
        );
        check(
            &inhibitor,
            &[critical],
            "severity=warning service=shop",
            false,
        );
        check(
            &inhibitor,
            &[critical],
            "severity=warning service=pay zone=a",
            false,
        );
        check(&inhibitor, &[critical], "severity=info service=pay", false);
        check(&inhibitor, &[critical], critical, false);
        check(&inhibitor, &[], "severity=warning service=pay", false);
        // Absent and empty are the same.
        check(
            &inhibitor,
            &["severity=critical zone="],
            "severity=warning service=",
            true,
        );
    }

    #[test]
    fn alerts_that_are_source_and_target_do_not_inhibit_each_other() {
        let rules: [(&str, &str, &[&str]); 1] = [("{a=x}", "{b=y}", &[])];
        let inhibitor = inhibitor(&rules);
        check(&inhibitor, &["a=x b=y"], "a=x b=y", false);
        check(&inhibitor, &["a=x b=y n=1"], "a=x b=y n=2", false);
        check(&inhibitor, &["a=x b=y"], "b=y", true);
        check(&inhibitor, &["a=x"], "a=x b=y", true);
    }

    #[test]
    fn what_is_over_inhibits_nothing() {
        let rules: [(&str, &str, &[&str]); 2] = [("{a=x}", "{b=y}", &[]), ("{c=z}", "{b=y}", &[])];
        let mut inhibitor = inhibitor(&rules);
        let (first, second) = (labels("a=x"), labels("a=x c=z"));
        inhibitor.fires(first.fingerprint(), &first);
        inhibitor.fires(second.fingerprint(), &second);
        let target = labels("b=y");
        let mut both = vec![first.fingerprint(), second.fingerprint()];
        both.sort_unstable();
        let one_each = inhibitor.inhibited_by(&target);
        assert!(one_each == both || one_each == [second.fingerprint()]);
        inhibitor.is_over(second.fingerprint());
        assert_eq!(inhibitor.inhibited_by(&target), [first.fingerprint()]);
        // It goes on with other labels.
        inhibitor.fires(first.fingerprint(), &labels("a=other"));
        assert!(inhibitor.inhibited_by(&target).is_empty());
        assert!(inhibitor.sources.is_empty() && inhibitor.known.is_empty());
    }
}
