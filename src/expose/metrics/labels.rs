use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use crate::expose::aside::in_turns;
use crate::model::Labels;

/// Sets that are compared in one turn.
const TURN: usize = 1_024;

/// Names that only histograms and summaries may use.
const RESERVED: [&str; 2] = ["le", "quantile"];

/// The labels of one sample: ours in the order they are given, then the client's by name.
#[derive(Debug, Clone, Default)]
pub(super) struct LabelSet<'a> {
    ours: Vec<(&'static str, &'a str)>,
    theirs: BTreeMap<String, Cow<'a, str>>,
}

impl<'a> LabelSet<'a> {
    /// A set of our own labels. `all_ours` names every label that is ours in this family, so that none
    /// of the client's takes its place.
    pub(super) fn new(
        ours: impl IntoIterator<Item = (&'static str, &'a str)>,
        theirs: impl IntoIterator<Item = (&'a str, &'a str)>,
        all_ours: &[&str],
    ) -> Self {
        let mut set = Self {
            ours: ours.into_iter().collect(),
            theirs: BTreeMap::new(),
        };
        for (key, value) in theirs.into_iter().filter(|(key, _)| !key.is_empty()) {
            let mut name = Labels::name_from(key);
            if all_ours.contains(&name.as_str()) || RESERVED.contains(&name.as_str()) {
                // The word Prometheus itself uses where a target's label meets its own.
                name.insert_str(0, "exported_");
            }
            set.theirs
                .entry(name)
                // Keys that become one name: their values, in the order of the keys.
                .and_modify(|joined| {
                    let joined = joined.to_mut();
                    joined.push(';');
                    joined.push_str(value);
                })
                .or_insert(Cow::Borrowed(value));
        }
        set
    }

    /// `a="b",c="d"`. An empty value is the same as no label, so it is left out.
    pub(super) fn render(&self) -> String {
        self.rendered().text
    }

    /// The same as a set to which one of ours may still be added.
    pub(super) fn rendered(&self) -> Rendered {
        // Of a name, its value and the signs around them.
        let length = |name: &str, value: &str| name.len() + value.len() + 4;
        let ours = self.ours.iter().map(|(name, value)| length(name, value));
        let theirs = self.theirs.iter().map(|(name, value)| length(name, value));
        let mut text = String::with_capacity(ours.chain(theirs).sum());
        for (name, value) in &self.ours {
            add(&mut text, name, value);
        }
        let ours = text.len();
        for (name, value) in &self.theirs {
            add(&mut text, name, value);
        }
        Rendered { text, ours }
    }
}

/// Adds a label, but an empty one.
fn add(out: &mut String, name: &str, value: &str) {
    if value.is_empty() {
        return;
    }
    if !out.is_empty() {
        out.push(',');
    }
    out.push_str(name);
    out.push_str("=\"");
    escape(out, value);
    out.push('"');
}

/// A set of labels as text.
#[derive(Debug, Clone)]
pub(super) struct Rendered {
    text: String,
    /// Ours end here.
    ours: usize,
}

impl Rendered {
    /// The text, with one more of ours behind the others.
    fn with(mut self, name: &str, value: &str) -> String {
        let theirs = self.text.split_off(self.ours);
        add(&mut self.text, name, value);
        // Theirs come with their comma where ours are not empty.
        if self.ours == 0 && !theirs.is_empty() && !self.text.is_empty() {
            self.text.push(',');
        }
        self.text.push_str(&theirs);
        self.text
    }
}

/// What the formats want escaped. Other control characters become U+FFFD: both formats allow them, but
/// scrapers that stop at a zero byte would lose everything behind it.
fn escape(out: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            '\t' => out.push('\t'),
            c if c.is_control() => out.push(char::REPLACEMENT_CHARACTER),
            c => out.push(c),
        }
    }
}

/// The sets in text form, each different from all others: where several would be the same, `name` with
/// the id is added to all of them, so that which one a sample belongs to does not depend on order.
pub(super) fn distinct(sets: Vec<(Rendered, String)>, name: &'static str) -> Vec<String> {
    let mut times: HashMap<&str, u32> = HashMap::with_capacity(sets.len());
    for (set, _) in in_turns(&sets, TURN) {
        *times.entry(&set.text).or_default() += 1;
    }
    let shared: Vec<bool> = in_turns(&sets, TURN)
        .map(|(set, _)| times.get(&*set.text).is_some_and(|count| *count > 1))
        .collect();
    in_turns(sets, TURN)
        .zip(shared)
        .map(|((set, id), shared)| match shared {
            true => set.with(name, &id),
            false => set.text,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(theirs: &[(&str, &str)], expected: &str) {
        let set = LabelSet::new(
            [("service", "s")],
            theirs.iter().copied(),
            &["service", "stat"],
        );
        assert_eq!(set.render(), expected);
    }

    #[test]
    fn keys_become_names_and_values_are_escaped() {
        check(&[], r#"service="s""#);
        check(&[("http.route", "/a")], r#"service="s",http_route="/a""#);
        check(&[("9", "x")], r#"service="s",key_9="x""#);
        check(&[("__name__", "x")], r#"service="s",key__name__="x""#);
        check(&[("a.b", "1"), ("a_b", "2")], r#"service="s",a_b="1;2""#);
        check(&[("a", "")], r#"service="s""#);
        check(
            &[("stat", "x"), ("le", "1"), ("quantile", "2")],
            r#"service="s",exported_le="1",exported_quantile="2",exported_stat="x""#,
        );
        check(
            &[("a", "\\\"\n\u{0}\u{7}\u{202e}<b>{{x}}")],
            "service=\"s\",a=\"\\\\\\\"\\n\u{fffd}\u{fffd}\u{202e}<b>{{x}}\"",
        );
    }

    #[test]
    fn sets_that_would_be_the_same_are_told_apart_by_their_id() {
        let set =
            |ours, theirs| LabelSet::new([("a", ours)], [("b", theirs)], &["a", "id"]).rendered();
        let sets = vec![
            (set("x", "s"), "1".to_owned()),
            (set("y", "s"), "2".into()),
            (set("x", "s"), "3".into()),
            (set("", "s"), "4".into()),
            (set("", "s"), "5".into()),
            (set("", ""), "6".into()),
            (set("", ""), "7".into()),
        ];
        let expected = [
            r#"a="x",id="1",b="s""#,
            r#"a="y",b="s""#,
            r#"a="x",id="3",b="s""#,
            r#"id="4",b="s""#,
            r#"id="5",b="s""#,
            r#"id="6""#,
            r#"id="7""#,
        ];
        assert_eq!(distinct(sets, "id"), expected);
    }
}
