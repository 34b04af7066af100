use std::borrow::Cow;
use std::fmt;

use super::Labels;

/// What a selector can be held against: something with named texts.
pub trait LabelSource {
    /// The text under `name`; `None` counts as empty, as in Prometheus.
    fn label(&self, name: &str) -> Option<Cow<'_, str>>;
}

impl LabelSource for Labels {
    fn label(&self, name: &str) -> Option<Cow<'_, str>> {
        self.get(name).map(Cow::Borrowed)
    }
}

/// A Prometheus-style selector: `{service="checkout",metric=~"http.*"}`. All matchers must hold;
/// the empty selector `{}` holds for everything.
#[derive(Debug, Clone, Default)]
pub struct Selector {
    matchers: Vec<Matcher>,
    /// What is taken out again.
    except: Vec<Selector>,
}

/// One condition of a selector.
#[derive(Debug, Clone)]
pub struct Matcher {
    /// Name of the label.
    pub name: String,
    /// How it is compared.
    pub op: MatchOp,
    /// With what.
    pub value: String,
    /// The compiled, fully anchored expression of `=~` and `!~`.
    regex: Option<regex::Regex>,
}

/// The four comparisons of Prometheus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`, anchored at both ends
    Regex,
    /// `!~`, anchored at both ends
    NotRegex,
}

/// What is wrong with a selector, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} at column {column}")]
pub struct SelectorError {
    /// What is wrong, and what was expected instead.
    pub message: String,
    /// Where, in characters from 1.
    pub column: usize,
}

/// Longest selector that is read, in bytes.
const MAX_LENGTH: usize = 16 * 1024;
/// Most conditions of one selector.
const MAX_MATCHERS: usize = 64;
/// Bound on a compiled expression, in bytes; the engine runs in linear time, this bounds its memory.
const REGEX_SIZE_LIMIT: usize = 1 << 20;

impl Matcher {
    /// One condition.
    ///
    /// # Errors
    /// The expression of `=~` or `!~` is not valid or too large when compiled.
    pub fn new(name: &str, op: MatchOp, value: &str) -> Result<Self, String> {
        Self::anchored(name, op, value, "^(?s:")
    }

    /// One condition as Alertmanager has it: there `.` does not stand for a line feed.
    ///
    /// # Errors
    /// As [`Matcher::new`].
    pub fn of_alertmanager(name: &str, op: MatchOp, value: &str) -> Result<Self, String> {
        Self::anchored(name, op, value, "^(?:")
    }

    fn anchored(name: &str, op: MatchOp, value: &str, before: &str) -> Result<Self, String> {
        let compile = |pattern: &str| {
            regex::RegexBuilder::new(pattern)
                .size_limit(REGEX_SIZE_LIMIT)
                .build()
                .map_err(|error| format!("invalid regular expression `{value}`: {error}"))
        };
        let regex = match op {
            MatchOp::Equal | MatchOp::NotEqual => None,
            MatchOp::Regex | MatchOp::NotRegex => {
                // Alone first: `a)|(b` would otherwise close the group that anchors it.
                compile(value)?;
                Some(compile(&format!("{before}{value})$"))?)
            }
        };
        Ok(Self {
            name: name.into(),
            op,
            value: value.into(),
            regex,
        })
    }

    /// Whether `text` (empty where the label is absent) meets the condition.
    pub fn matches(&self, text: &str) -> bool {
        let by_regex = || {
            self.regex
                .as_ref()
                .is_some_and(|regex| regex.is_match(text))
        };
        match self.op {
            MatchOp::Equal => text == self.value,
            MatchOp::NotEqual => text != self.value,
            MatchOp::Regex => by_regex(),
            MatchOp::NotRegex => !by_regex(),
        }
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let op = match self.op {
            MatchOp::Equal => "=",
            MatchOp::NotEqual => "!=",
            MatchOp::Regex => "=~",
            MatchOp::NotRegex => "!~",
        };
        write_name(f, &self.name)?;
        write!(f, "{op}")?;
        write_quoted(f, &self.value)
    }
}

/// A name as it is where it may stand bare, else in quotes.
fn write_name(f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
    if !name.is_empty() && name.chars().all(is_name_char) {
        f.write_str(name)
    } else {
        write_quoted(f, name)
    }
}

fn write_quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let escaped = text
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n");
    write!(f, "\"{escaped}\"")
}

/// Label names may hold dots and dashes without quotes here, since OpenTelemetry's attributes do.
fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | ':')
}

impl Selector {
    /// The selector with these conditions.
    pub fn new(matchers: Vec<Matcher>) -> Self {
        Self {
            matchers,
            except: Vec::new(),
        }
    }

    /// Reads `{name="value", other=~"expression"}`. The braces may be left out. Names with other
    /// characters than letters, digits and `_.-:` are put in quotes; values in double, single or back
    /// quotes, or bare.
    ///
    /// # Errors
    /// Says what is wrong and in which column.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        if text.len() > MAX_LENGTH {
            return Err(SelectorError {
                message: format!(
                    "selector of {} bytes, at most {MAX_LENGTH} are read",
                    text.len()
                ),
                column: 1,
            });
        }
        Parser {
            chars: text.chars().collect(),
            at: 0,
        }
        .selector()
    }

    /// Its conditions, without what [`Selector::except`] takes out.
    pub fn matchers(&self) -> &[Matcher] {
        &self.matchers
    }

    /// The names that it asks for, some more than once.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let own = self.matchers.iter().map(|matcher| matcher.name.as_str());
        let excepted: Vec<&str> = self
            .except
            .iter()
            .flat_map(|other| other.names().collect::<Vec<_>>())
            .collect();
        own.chain(excepted)
    }

    /// Whether all conditions hold for `labels`, and nothing that is taken out does.
    pub fn matches(&self, labels: &dyn LabelSource) -> bool {
        self.holds(labels) && !self.except.iter().any(|other| other.matches(labels))
    }

    /// What both hold for.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        self.matchers.extend(other.matchers.iter().cloned());
        self.except.extend(other.except.iter().cloned());
        self
    }

    /// What this holds for and none of `others` does.
    #[must_use]
    pub fn except(mut self, others: impl IntoIterator<Item = Self>) -> Self {
        self.except.extend(others);
        self
    }

    fn holds(&self, labels: &dyn LabelSource) -> bool {
        self.matchers
            .iter()
            .all(|matcher| matcher.matches(&labels.label(&matcher.name).unwrap_or_default()))
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (at, matcher) in self.matchers.iter().enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            write!(f, "{matcher}")?;
        }
        f.write_str("}")
    }
}

struct Parser {
    chars: Vec<char>,
    at: usize,
}

impl Parser {
    fn selector(mut self) -> Result<Selector, SelectorError> {
        let braced = self.eat('{');
        let mut matchers = Vec::new();
        loop {
            self.skip_space();
            match self.peek() {
                None if braced => return Err(self.error("missing `}`")),
                None => break,
                Some('}') if braced => {
                    self.at += 1;
                    break;
                }
                Some(_) => {}
            }
            if matchers.len() == MAX_MATCHERS {
                return Err(self.error(&format!("more than {MAX_MATCHERS} conditions")));
            }
            matchers.push(self.matcher()?);
            self.skip_space();
            match self.peek() {
                Some(',') => self.at += 1,
                Some('}') if braced => {}
                None => {}
                Some(other) => {
                    return Err(self.error(&format!("expected `,` or `}}`, found `{other}`")));
                }
            }
        }
        self.skip_space();
        match self.peek() {
            Some(other) => Err(self.error(&format!("expected the end, found `{other}`"))),
            None => Ok(Selector::new(matchers)),
        }
    }

    fn matcher(&mut self) -> Result<Matcher, SelectorError> {
        let name = match self.peek() {
            Some('"' | '\'' | '`') => self.quoted()?,
            _ => self.bare("a label name")?,
        };
        self.skip_space();
        let op = self.operator()?;
        self.skip_space();
        let start = self.at;
        let value = match self.peek() {
            Some('"' | '\'' | '`') => self.quoted()?,
            _ => self.bare("a quoted value")?,
        };
        Matcher::new(&name, op, &value).map_err(|message| SelectorError {
            message,
            column: start + 1,
        })
    }

    fn operator(&mut self) -> Result<MatchOp, SelectorError> {
        let op = match (self.peek(), self.chars.get(self.at + 1)) {
            (Some('='), Some('~')) => MatchOp::Regex,
            (Some('!'), Some('~')) => MatchOp::NotRegex,
            (Some('!'), Some('=')) => MatchOp::NotEqual,
            (Some('='), _) => MatchOp::Equal,
            _ => return Err(self.error("expected one of `=`, `!=`, `=~`, `!~`")),
        };
        self.at += if op == MatchOp::Equal { 1 } else { 2 };
        Ok(op)
    }

    fn bare(&mut self, expected: &str) -> Result<String, SelectorError> {
        let start = self.at;
        while self.peek().is_some_and(is_name_char) {
            self.at += 1;
        }
        if start == self.at {
            return Err(self.error(&format!("expected {expected}")));
        }
        Ok(self.chars.iter().take(self.at).skip(start).collect())
    }

    fn quoted(&mut self) -> Result<String, SelectorError> {
        let opening = self.at;
        let quote = self.peek();
        self.at += 1;
        let mut text = String::new();
        loop {
            let next = self.peek();
            self.at += 1;
            match next {
                None => {
                    return Err(SelectorError {
                        message: "quote is never closed".into(),
                        column: opening + 1,
                    });
                }
                _ if next == quote => return Ok(text),
                // Back quotes take everything as it is.
                Some('\\') if quote != Some('`') => {
                    let escaped = self.peek();
                    self.at += 1;
                    match escaped {
                        Some('n') => text.push('\n'),
                        Some('t') => text.push('\t'),
                        Some(c @ ('\\' | '"' | '\'')) => text.push(c),
                        // Expressions are full of `\d` and `\.`: keep the backslash for them.
                        Some(c) => text.extend(['\\', c]),
                        None => {}
                    }
                }
                Some(c) => text.push(c),
            }
        }
    }

    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn eat(&mut self, wanted: char) -> bool {
        self.skip_space();
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn skip_space(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.at += 1;
        }
    }

    fn error(&self, message: &str) -> SelectorError {
        SelectorError {
            message: message.into(),
            column: self.at + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, labels: &[(&str, &str)], expected: bool) {
        let selector = Selector::parse(text).expect(text);
        let labels: Labels = labels.iter().copied().collect();
        assert_eq!(selector.matches(&labels), expected, "{text} on {labels:?}");
        let again = Selector::parse(&selector.to_string()).expect("what we print we read");
        assert_eq!(again.to_string(), selector.to_string());
    }

    #[test]
    fn selectors_hold_as_in_prometheus() {
        check("{}", &[], true);
        check("", &[("a", "b")], true);
        check(r#"{service="checkout"}"#, &[("service", "checkout")], true);
        check(r#"service="checkout""#, &[("service", "cart")], false);
        check(r#"{service!="checkout"}"#, &[], true);
        check(r#"{service=""}"#, &[], true);
        check(
            r#"{metric=~"http.*"}"#,
            &[("metric", "http.server.duration")],
            true,
        );
        check(
            r#"{metric=~"http"}"#,
            &[("metric", "http.server.duration")],
            false,
        );
        check(r#"{metric!~"http.*|rpc.*",}"#, &[("metric", "queue")], true);
        check(r#"{http.route="/pay"}"#, &[("http.route", "/pay")], true);
        check(r#"{"odd name"='x"y'}"#, &[("odd name", "x\"y")], true);
        check(r#"{a=~"\d+\.\d"}"#, &[("a", "12.5")], true);
        check("{a=~`\\d+`}", &[("a", "12")], true);
        check("{service=checkout}", &[("service", "checkout")], true);
    }

    #[test]
    fn mistakes_are_named_with_their_column() {
        for (text, message, column) in [
            (r#"{service}"#, "expected one of", 9),
            (r#"{service="x"#, "quote is never closed", 10),
            (r#"{service="x""#, "missing `}`", 13),
            (r#"{="x"}"#, "expected a label name", 2),
            (r#"{a="x"}b"#, "expected the end", 8),
            (r#"{a=~"("}"#, "invalid regular expression", 5),
            (r#"{a=~"a)|(b"}"#, "invalid regular expression", 5),
            (r#"{a="x" b="y"}"#, "expected `,` or `}`", 8),
        ] {
            let error = Selector::parse(text).expect_err(text);
            assert!(error.message.contains(message), "{text}: {error}");
            assert_eq!(error.column, column, "{text}: {error}");
        }
        assert!(Selector::parse(&"x".repeat(1 << 20)).is_err());
    }
}
