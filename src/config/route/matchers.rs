//! Conditions on labels, as texts of a configuration.

use std::fmt;
use std::str::FromStr;

use crate::config::decode::BadText;
use crate::config::rule::one_line;
use crate::config::units::as_text;
use crate::model::{MatchOp, Matcher, SelectorError};

/// One condition or several with commas between them: `severity="critical", team=~a|b`.
#[derive(Debug, Clone)]
pub struct MatcherText {
    text: String,
    /// The conditions.
    pub matchers: Vec<Matcher>,
}

/// A regular expression that a whole value must match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegexText(pub String);

impl PartialEq for MatcherText {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl FromStr for MatcherText {
    type Err = BadText;

    fn from_str(text: &str) -> Result<Self, BadText> {
        let matchers = Matcher::parse_list(text).map_err(|SelectorError { message, column }| {
            let message = one_line(&message);
            let mut bad = BadText::new(format!("bad matcher: {message} (its column {column})"))
                .hint("matchers look like 'severity = critical' or 'team =~ \"a|b\"'");
            bad.column = Some(column);
            bad
        })?;
        Ok(Self {
            text: text.into(),
            matchers,
        })
    }
}

impl FromStr for RegexText {
    type Err = BadText;

    fn from_str(text: &str) -> Result<Self, BadText> {
        // The name does not matter.
        Matcher::of_alertmanager("value", MatchOp::Regex, text)
            .map(|_| Self(text.into()))
            .map_err(|message| {
                let bad = BadText::new(one_line(&message));
                if text.starts_with('*') {
                    bad.hint("`.*` stands for anything")
                } else if text.contains("{{") {
                    bad.hint("it is a regular expression, and no template")
                } else {
                    bad
                }
            })
    }
}

impl fmt::Display for MatcherText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for RegexText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

as_text!(MatcherText, "Matcher", "a matcher such as 'severity = critical'", {
    "type": "string"
});
as_text!(RegexText, "Regex", "a regular expression", {
    "type": ["string", "number", "boolean"]
});
