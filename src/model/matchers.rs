//! Conditions as Alertmanager's configuration, its API and amtool write them (0.25; its package
//! `pkg/labels` documents the syntax): `severity = critical`, `team=~"a|b"`, `{a="b", c!="d"}`.

use super::{MatchOp, Matcher, Selector, SelectorError};

/// Longest text that is read, in bytes.
const MAX_LENGTH: usize = 16 * 1024;
/// Most conditions in one text.
const MAX_MATCHERS: usize = 64;

impl Matcher {
    /// Reads one condition: a label name, one of `=`, `!=`, `=~`, `!~`, and a value with or without
    /// double quotes. In the value `\n`, `\"` and `\\` are a line feed, a quote and a backslash; any other
    /// backslash stands for itself. White space around the three parts does not count.
    ///
    /// # Errors
    /// Says what is wrong and in which column.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        check_length(text)?;
        let chars: Vec<char> = text.chars().collect();
        parse_one(&chars, 0)
    }

    /// Reads conditions with commas between them. Braces around all of them and a comma behind the last
    /// are optional.
    ///
    /// # Errors
    /// As [`Matcher::parse`]; or there are more than 64.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, SelectorError> {
        check_length(text)?;
        let chars: Vec<char> = text.chars().collect();
        let start = usize::from(chars.first() == Some(&'{'));
        let end = chars.len() - usize::from(chars.len() > start && chars.last() == Some(&'}'));
        let mut matchers = Vec::new();
        for (from, part) in parts(&chars, start, end) {
            if matchers.len() == MAX_MATCHERS {
                return Err(error(format!("more than {MAX_MATCHERS} conditions"), from));
            }
            matchers.push(parse_one(part, from)?);
        }
        Ok(matchers)
    }
}

impl Selector {
    /// The selector with these conditions in Alertmanager's order: by name, value and comparison. So it
    /// prints as in Alertmanager's group keys.
    pub fn sorted(mut matchers: Vec<Matcher>) -> Self {
        matchers.sort_by(|a, b| (&a.name, &a.value, a.op).cmp(&(&b.name, &b.value, b.op)));
        Self::new(matchers)
    }
}

fn check_length(text: &str) -> Result<(), SelectorError> {
    if text.len() > MAX_LENGTH {
        let message = format!("{} bytes, at most {MAX_LENGTH} are read", text.len());
        return Err(error(message, 0));
    }
    Ok(())
}

/// What stands between commas outside of double quotes, each with where it begins.
fn parts(chars: &[char], start: usize, end: usize) -> Vec<(usize, &[char])> {
    let mut parts = Vec::new();
    let (mut quoted, mut escaped) = (false, false);
    let mut from = start;
    for (at, c) in chars.iter().enumerate().take(end).skip(start) {
        match c {
            ',' if !quoted => {
                parts.push((from, chars.get(from..at).unwrap_or_default()));
                from = at + 1;
            }
            '"' if !escaped => quoted = !quoted,
            _ => {}
        }
        escaped = *c == '\\' && !escaped;
    }
    let rest = chars.get(from..end).unwrap_or_default();
    if rest.iter().any(|c| !c.is_whitespace()) {
        parts.push((from, rest));
    }
    parts
}

/// Reads the condition `chars`, which stands at `offset` of the whole text.
fn parse_one(chars: &[char], offset: usize) -> Result<Matcher, SelectorError> {
    let peek = |at: usize| chars.get(at).copied();
    let past = |mut at: usize, is: fn(char) -> bool| {
        while peek(at).is_some_and(is) {
            at += 1;
        }
        at
    };
    let is_space = |c: char| c.is_ascii_whitespace();
    let name_at = past(0, is_space);
    let name_end = past(name_at, |c| {
        c.is_ascii_alphanumeric() || matches!(c, '_' | ':')
    });
    let name: String = chars.iter().take(name_end).skip(name_at).collect();
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        let message = "expected a label name: letters, digits, `_` and `:`, no digit first";
        return Err(error(message.into(), offset + name_at));
    }
    let op_at = past(name_end, is_space);
    let (op, length) = match (peek(op_at), peek(op_at + 1)) {
        (Some('='), Some('~')) => (MatchOp::Regex, 2),
        (Some('!'), Some('~')) => (MatchOp::NotRegex, 2),
        (Some('!'), Some('=')) => (MatchOp::NotEqual, 2),
        (Some('='), _) => (MatchOp::Equal, 1),
        _ => {
            let message = "expected one of `=`, `!=`, `=~`, `!~`";
            return Err(error(message.into(), offset + op_at));
        }
    };
    let value_at = past(op_at + length, is_space);
    let rest = chars.get(value_at..).unwrap_or_default();
    let spaces = rest.iter().rev().take_while(|c| is_space(**c)).count();
    let rest = rest.get(..rest.len() - spaces).unwrap_or_default();
    let value = unquote(rest).map_err(|at| {
        let message = "a double quote is not closed, or stands inside without a backslash";
        error(message.into(), offset + value_at + at)
    })?;
    Matcher::of_alertmanager(&name, op, &value).map_err(|message| error(message, offset + value_at))
}

/// The value that is meant, or where a quote is wrong.
fn unquote(chars: &[char]) -> Result<String, usize> {
    let is_quoted = chars.first() == Some(&'"');
    let mut closed = !is_quoted;
    let mut value = String::new();
    let mut at = usize::from(is_quoted);
    while let Some(c) = chars.get(at) {
        let next = chars.get(at + 1);
        match (c, next) {
            ('\\', Some('n')) => value.push('\n'),
            ('\\', Some(c @ ('"' | '\\'))) => value.push(*c),
            ('\\', Some(c)) => value.extend(['\\', *c]),
            ('"', None) if !closed => closed = true,
            ('"', _) => return Err(at),
            (c, _) => value.push(*c),
        }
        at += if *c == '\\' && next.is_some() { 2 } else { 1 };
    }
    if closed { Ok(value) } else { Err(0) }
}

fn error(message: String, at: usize) -> SelectorError {
    SelectorError {
        message,
        column: at + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Alertmanager 0.25 makes of these, by its own tests and documentation.
    #[test]
    fn conditions_are_read_as_by_alertmanager() {
        for (text, printed) in [
            ("severity=critical", r#"{severity="critical"}"#),
            (" severity  =  critical ", r#"{severity="critical"}"#),
            (r#"team=~"a|b""#, r#"{team=~"a|b"}"#),
            ("team!~a|b", r#"{team!~"a|b"}"#),
            ("a=", r#"{a=""}"#),
            (r#"a="""#, r#"{a=""}"#),
            ("a=some words, b=c", r#"{a="some words",b="c"}"#),
            (
                r#"{foo = "bar", dings != "bums", }"#,
                r#"{foo="bar",dings!="bums"}"#,
            ),
            ("", "{}"),
            ("{}", "{}"),
            (r#"a="x, y",b=z"#, r#"{a="x, y",b="z"}"#),
            (r#"a="say \"hi, all\"""#, r#"{a="say \"hi, all\""}"#),
            (r"a=~\d+\.\d", r#"{a=~"\\d+\\.\\d"}"#),
            (r#"a="\\d""#, r#"{a="\\d"}"#),
            (r"a=x\ny", r#"{a="x\ny"}"#),
            (r"a=x\", r#"{a="x\\"}"#),
            ("a='x'", r#"{a="'x'"}"#),
            ("a:b=c", r#"{a:b="c"}"#),
            ("a={b}", r#"{a="{b"}"#),
            ("a==b", r#"{a="=b"}"#),
        ] {
            let read = Matcher::parse_list(text).map(Selector::new).expect(text);
            assert_eq!(read.to_string(), printed, "{text}");
        }
    }

    #[test]
    fn mistakes_are_named_with_their_column() {
        for (text, message, column) in [
            ("a", "expected one of", 2),
            ("=x", "expected a label name", 1),
            ("1a=x", "expected a label name", 1),
            ("a-b=x", "expected one of", 2),
            ("a=b,,c=d", "expected a label name", 5),
            (r#"a="x"#, "double quote", 3),
            (r#"a=x"y"#, "double quote", 4),
            (r#"a="x" b="y""#, "double quote", 5),
            ("a=~(", "invalid regular expression", 4),
            ("b=c, a=~a)|(b", "invalid regular expression", 9),
        ] {
            let error = Matcher::parse_list(text).expect_err(text);
            assert!(error.message.contains(message), "{text}: {error}");
            assert_eq!(error.column, column, "{text}: {error}");
        }
        assert!(Matcher::parse_list(&"a=b,".repeat(100)).is_err());
        assert!(Matcher::parse(&"x".repeat(1 << 20)).is_err());
    }

    #[test]
    fn a_dot_is_no_line_feed() {
        let [matcher] = &Matcher::parse_list("a=~x.y").expect("one")[..] else {
            panic!("one condition");
        };
        assert!(matcher.matches("x y") && !matcher.matches("x\ny"));
    }

    #[test]
    fn they_are_sorted_as_in_group_keys() {
        let read = Matcher::parse_list("b=2,a!=1,b=~1,a=1").expect("conditions");
        assert_eq!(
            Selector::sorted(read).to_string(),
            r#"{a="1",a!="1",b=~"1",b="2"}"#
        );
    }
}
