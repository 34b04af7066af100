//! YAML text to a tree whose every node knows its place in the file. Variables are put in here, on
//! the scalars of the parsed file, so that no value can change the file's structure and every
//! position stays true.

use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::DuplicateKeyPolicy;
use serde_saphyr::{Location, Spanned};

use super::diagnostic::Position;
use super::env;

/// Largest file that is read, in bytes. A thousand rules take some 500 KiB.
pub(super) const MAX_BYTES: usize = 4 * 1024 * 1024;
/// Deepest nesting; the schema needs 6 levels, values of features may have more.
const MAX_DEPTH: usize = 32;
/// Most nodes of the tree, aliases expanded.
const MAX_NODES: usize = 200_000;

/// Number of a node in its tree.
pub(super) type NodeId = u32;

/// One value of the file.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) at: Position,
    pub(super) value: Value,
}

#[derive(Debug)]
pub(super) enum Value {
    /// Nothing stands there (or `null`, `~`).
    Null,
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A key of a mapping.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) id: NodeId,
    pub(super) at: Position,
    pub(super) text: String,
}

/// A text, number or truth value: which, the reader decides that knows what it wants.
#[derive(Debug)]
pub(super) struct Scalar {
    /// With variables in place.
    pub(super) text: String,
    /// As the file has it, for messages: variables never show in them.
    pub(super) raw: String,
    /// Neither in quotes nor a block, so that `5` is a number.
    pub(super) plain: bool,
    /// Whether anything of it comes from a variable.
    pub(super) substituted: bool,
    /// Where it stands in the file, in bytes.
    source: Option<Range<usize>>,
}

/// Something wrong with the text itself.
#[derive(Debug)]
pub(super) struct Flaw {
    pub(super) at: Option<Position>,
    /// The node or key it was found at, if the rest of the tree can be used.
    pub(super) node: Option<NodeId>,
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

/// Reads `text`. The tree holds all that could be read; `None` when the text is no YAML at all.
pub(super) fn parse(text: &str, lookup: env::Lookup<'_>) -> (Option<Node>, Vec<Flaw>) {
    let source = text.strip_prefix('\u{feff}').unwrap_or(text);
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            max_nodes: MAX_NODES,
            max_documents: 1,
            max_aliases: 1_000,
            max_total_scalar_bytes: MAX_BYTES,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_NODES,
            max_replay_stack_depth: MAX_DEPTH,
        },
        // All pairs reach the tree, so that each duplicate is named with its place.
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        strict_booleans: true,
        non_finite_float_policy: serde_saphyr::options::NonFiniteFloatPolicy::AsString,
        with_snippet: false,
    };
    if source.trim().is_empty() {
        return (Some(Node::empty()), Vec::new());
    }
    match serde_saphyr::from_str_with_options::<Raw>(source, options) {
        Ok(raw) => {
            let mut builder = Builder {
                source,
                lookup,
                next: 0,
                flaws: Vec::new(),
            };
            let root = builder.node(raw);
            // Only comments.
            let root = if root.is_null() { Node::empty() } else { root };
            (Some(root), builder.flaws)
        }
        Err(error) => (None, vec![syntax_flaw(&error, source)]),
    }
}

fn syntax_flaw(error: &serde_saphyr::Error, source: &str) -> Flaw {
    let at = error.location().map(position);
    let message = error.to_string();
    // The place is said once, by us; what an alias was used for comes after it.
    let message = message
        .split_once(" at line ")
        .map_or(message.as_str(), |(before, _)| before)
        .to_owned();
    let line = at.and_then(|at| source.lines().nth(at.line.saturating_sub(1) as usize));
    let hint = if message.contains("alias") {
        Some("write the value out instead of repeating it by an alias".into())
    } else if line.is_some_and(|line| line.contains('\t')) {
        Some("YAML takes no tabs for indentation; use spaces".into())
    } else if line.is_some_and(|line| line.contains("${")) {
        Some("put variables in quotes inside of { } and [ ]: \"${env:NAME}\"".into())
    } else if line.is_some_and(|line| line.contains("{{")) {
        Some("put templates in quotes: \"{{ service }}\"".into())
    } else if line.is_some_and(|line| line.contains(": {") && line.contains("=")) {
        Some("put selectors in quotes: '{service=\"checkout\"}'".into())
    } else {
        None
    };
    Flaw {
        at,
        node: None,
        message,
        hint,
    }
}

fn position(location: Location) -> Position {
    let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX).max(1);
    Position {
        line: number(location.line()),
        column: number(location.column()),
    }
}

/// The tree as the parser hands it over.
struct Raw {
    at: Location,
    content: Content,
}

enum Content {
    Null,
    Text(String),
    /// A plain scalar that the parser took for a number or a truth value.
    Other,
    List(Vec<Raw>),
    Map(Vec<(Spanned<String>, Raw)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Content>::deserialize(deserializer)?;
        Ok(Self {
            at: spanned.defined,
            content: spanned.value,
        })
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Content, E> {
        Ok(Content::Null)
    }

    fn visit_none<E>(self) -> Result<Content, E> {
        Ok(Content::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Content, E> {
        Ok(Content::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Content, E> {
        Ok(Content::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Content, E> {
        Ok(Content::Other)
    }

    fn visit_i128<E>(self, _: i128) -> Result<Content, E> {
        Ok(Content::Other)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Content, E> {
        Ok(Content::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Content, E> {
        Ok(Content::Other)
    }

    fn visit_str<E>(self, text: &str) -> Result<Content, E> {
        Ok(Content::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Content, E> {
        Ok(Content::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Content, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = seq.next_element()? {
            list.push(element);
        }
        Ok(Content::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Content, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(Content::Map(pairs))
    }
}

struct Builder<'a> {
    source: &'a str,
    lookup: env::Lookup<'a>,
    next: NodeId,
    flaws: Vec<Flaw>,
}

impl Builder<'_> {
    fn id(&mut self) -> NodeId {
        self.next += 1;
        self.next
    }

    fn node(&mut self, raw: Raw) -> Node {
        let id = self.id();
        let at = position(raw.at);
        let value = match raw.content {
            Content::Null => Value::Null,
            Content::Text(text) => self.scalar(id, raw.at, Some(text)),
            Content::Other => self.scalar(id, raw.at, None),
            Content::List(list) => {
                Value::List(list.into_iter().map(|raw| self.node(raw)).collect())
            }
            Content::Map(pairs) => self.map(pairs),
        };
        Node { id, at, value }
    }

    fn map(&mut self, pairs: Vec<(Spanned<String>, Raw)>) -> Value {
        let mut map: Vec<(Key, Node)> = Vec::with_capacity(pairs.len());
        let mut first = std::collections::HashMap::new();
        for (key, raw) in pairs {
            let key = Key {
                id: self.id(),
                at: position(key.defined),
                text: key.value,
            };
            let node = self.node(raw);
            if let Some(line) = first.get(&key.text) {
                self.flaws.push(Flaw {
                    at: Some(key.at),
                    node: Some(key.id),
                    message: format!("key `{}` stands here a second time", key.text),
                    hint: Some(format!("the first one is in line {line}; keep one of them")),
                });
            } else {
                first.insert(key.text.clone(), key.at.line);
            }
            map.push((key, node));
        }
        Value::Map(map)
    }

    fn scalar(&mut self, id: NodeId, at: Location, text: Option<String>) -> Value {
        let span = at.span();
        let range = span
            .byte_offset()
            .zip(span.byte_len())
            .and_then(|(from, len)| {
                let from = usize::try_from(from).ok()?;
                Some(from..from.checked_add(usize::try_from(len).ok()?)?)
            });
        let raw = range
            .clone()
            .and_then(|range| self.source.get(range))
            .map(str::trim_end);
        // A quoted text or a block is never the same as what stands in the file.
        let plain = text.is_none() || text.as_deref() == raw;
        let text = text.or_else(|| raw.map(str::to_owned)).unwrap_or_default();
        let raw = raw.unwrap_or(&text).to_owned();
        let substituted = env::substitute(&text, self.lookup);
        let mut scalar = Scalar {
            text: substituted.text,
            raw,
            plain,
            substituted: substituted.changed,
            source: range,
        };
        for problem in substituted.problems {
            let offset = nth_reference(&scalar.raw, problem.occurrence);
            let at = self.place(&scalar, offset).unwrap_or(position(at));
            self.flaws.push(Flaw {
                at: Some(at),
                node: Some(id),
                message: problem.message,
                hint: Some(problem.hint),
            });
        }
        if scalar.raw.chars().count() > 60 {
            scalar.raw = scalar.raw.chars().take(60).chain(['…']).collect();
        }
        Value::Scalar(scalar)
    }

    /// The place `offset` bytes into the scalar's own text in the file.
    fn place(&self, scalar: &Scalar, offset: usize) -> Option<Position> {
        place_of(self.source, scalar.source.as_ref()?.start + offset)
    }
}

/// Where the `n`-th reference that is not escaped begins in `raw`, in bytes.
fn nth_reference(raw: &str, n: usize) -> usize {
    let mut seen = 0;
    let mut at = 0;
    while let Some(found) = raw.get(at..).and_then(|rest| rest.find('$')) {
        at += found;
        let rest = raw.get(at..).unwrap_or_default();
        if rest.starts_with("${") {
            if seen == n {
                return at;
            }
            seen += 1;
        }
        at += if rest.starts_with("$$") { 2 } else { 1 };
    }
    0
}

/// Line and column of the byte at `offset` of `source`.
fn place_of(source: &str, offset: usize) -> Option<Position> {
    let before = source.get(..offset)?;
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let lines = before.bytes().filter(|byte| *byte == b'\n').count();
    Some(Position {
        line: u32::try_from(lines + 1).ok()?,
        column: u32::try_from(before.get(line_start..)?.chars().count() + 1).ok()?,
    })
}

impl Node {
    fn empty() -> Self {
        Self {
            id: 0,
            at: Position { line: 1, column: 1 },
            value: Value::Map(Vec::new()),
        }
    }

    /// Whether nothing stands there.
    pub(super) fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    /// The value under `key`; the last where it stands there several times.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(pairs) => pairs
                .iter()
                .rfind(|(other, _)| other.text == key)
                .map(|(_, node)| node),
            Value::Null | Value::Scalar(_) | Value::List(_) => None,
        }
    }

    /// The elements of a list; none of anything else.
    pub(super) fn elements(&self) -> &[Node] {
        match &self.value {
            Value::List(list) => list,
            Value::Null | Value::Scalar(_) | Value::Map(_) => &[],
        }
    }

    /// The text of a scalar.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(scalar) => Some(&scalar.text),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        }
    }

    /// The place of the `column`-th character (from 1) of a scalar's text, if the text stands in the
    /// file as it is.
    pub(super) fn place_inside(&self, source: &str, column: usize) -> Option<Position> {
        let Value::Scalar(scalar) = &self.value else {
            return None;
        };
        let source = source.strip_prefix('\u{feff}').unwrap_or(source);
        let range = scalar.source.clone()?;
        let within = source.get(range.clone())?.find(&scalar.text)?;
        let inside: usize = scalar
            .text
            .chars()
            .take(column.saturating_sub(1))
            .map(char::len_utf8)
            .sum();
        place_of(source, range.start + within + inside)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> Node {
        let (node, flaws) = parse(text, &|name| (name == "N").then(|| "7".into()));
        assert!(flaws.is_empty(), "{flaws:?}");
        node.expect(text)
    }

    #[track_caller]
    fn scalar<'n>(root: &'n Node, key: &str) -> (&'n Scalar, Position) {
        let node = root.get(key).expect(key);
        match &node.value {
            Value::Scalar(scalar) => (scalar, node.at),
            other => panic!("{key}: {other:?}"),
        }
    }

    #[test]
    fn scalars_keep_their_text_place_and_quotes() {
        let root = tree(
            "a: 0x10\nb: \"5\"\nc: off\nd: 'ä'\ne: ${env:N}\nf: true\ng: |\n  two\n  lines\nh: 007\n",
        );
        for (key, text, plain, line, column) in [
            ("a", "0x10", true, 1, 4),
            ("b", "5", false, 2, 4),
            ("c", "off", true, 3, 4),
            ("d", "ä", false, 4, 4),
            ("e", "7", true, 5, 4),
            ("f", "true", true, 6, 4),
            ("g", "two\nlines\n", false, 8, 3),
            ("h", "007", true, 10, 4),
        ] {
            let (scalar, at) = scalar(&root, key);
            assert_eq!(scalar.text, text, "{key}");
            assert_eq!(scalar.plain, plain, "{key}");
            assert_eq!(at, Position { line, column }, "{key}");
        }
        assert_eq!(scalar(&root, "e").0.raw, "${env:N}");
        assert!(scalar(&root, "e").0.substituted);
    }

    #[test]
    fn places_inside_texts_are_found() {
        let text = "\u{feff}# ä\nä:\n  - x\n  - '{a=\"ö\", b}'\n";
        let root = tree(text);
        let node = &root.get("ä").expect("ä").elements()[1];
        let place = node.place_inside(text, 8).expect("a place");
        assert_eq!(
            place,
            Position {
                line: 4,
                column: 13
            }
        );
    }

    #[test]
    fn duplicates_are_all_found() {
        let (_, flaws) = parse("a: 1\nb: {c: 1, c: 2}\na: 2\na: 3\n", &|_| None);
        let places: Vec<_> = flaws.iter().filter_map(|flaw| flaw.at).collect();
        assert_eq!(
            places,
            [(2, 11), (3, 1), (4, 1)].map(|(line, column)| Position { line, column })
        );
    }

    #[test]
    fn merge_keys_are_no_duplicates() {
        let root = tree("x: &x {a: 1, b: 2}\ny:\n  <<: *x\n  a: 3\n");
        let y = root.get("y").expect("y");
        assert_eq!(y.get("a").and_then(Node::text), Some("3"));
        assert_eq!(y.get("b").and_then(Node::text), Some("2"));
    }

    #[test]
    fn missing_variables_are_named_at_their_place() {
        let (_, flaws) = parse("a:\n  b: \"x $$ ${env:N} ${env:GONE}\"\n", &|name| {
            (name == "N").then(|| "7".into())
        });
        assert_eq!(flaws.len(), 1);
        assert_eq!(
            flaws[0].at,
            Some(Position {
                line: 2,
                column: 21
            })
        );
    }

    #[test]
    fn bombs_are_refused() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..10 {
            let alias = format!("*a{}", level - 1);
            let list = vec![alias; 10].join(", ");
            text.push_str(&format!("a{level}: &a{level} [{list}]\n"));
        }
        let (root, flaws) = parse(&text, &|_| None);
        assert!(root.is_none());
        assert!(flaws[0].at.is_some(), "{flaws:?}");
        let (root, flaws) = parse(&"[".repeat(1_000_000), &|_| None);
        assert!(root.is_none() && flaws.len() == 1, "{flaws:?}");
        let (root, _) = parse(&"- ".repeat(100_000), &|_| None);
        assert!(root.is_none());
    }

    #[test]
    fn tabs_get_a_hint() {
        let (root, flaws) = parse("a:\n\tb: 1\n", &|_| None);
        assert!(root.is_none());
        assert!(flaws[0].hint.as_ref().is_some_and(|h| h.contains("tabs")));
        assert_eq!(flaws[0].at.map(|at| at.line), Some(2));
    }
}
