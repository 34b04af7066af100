//! `${env:NAME}` in texts, as the OpenTelemetry Collector reads it.

/// Where the variables come from: the process' environment, or a test's table.
pub(super) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A text after substitution.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Substituted {
    /// The text with all variables in place.
    pub(super) text: String,
    /// Whether anything came from a variable or its default.
    pub(super) changed: bool,
    /// What could not be substituted; left out of the text.
    pub(super) problems: Vec<Problem>,
}

/// A reference that could not be substituted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// Which `${` of the text it is, from 0. Escaped ones do not count.
    pub(super) occurrence: usize,
    pub(super) message: String,
    pub(super) hint: String,
}

/// Defaults may hold references themselves, so deep.
const MAX_DEPTH: usize = 8;

/// Replaces `${env:NAME}`, `${NAME}` and `${env:NAME:-default}` and turns `$$` into `$`. Any other `$`
/// stays as it is. What a variable holds is not looked through again.
pub(super) fn substitute(text: &str, lookup: Lookup<'_>) -> Substituted {
    let mut state = State {
        lookup,
        changed: false,
        occurrence: 0,
        problems: Vec::new(),
    };
    let text = state.expand(text, 0);
    Substituted {
        text,
        changed: state.changed,
        problems: state.problems,
    }
}

struct State<'a> {
    lookup: Lookup<'a>,
    changed: bool,
    occurrence: usize,
    problems: Vec<Problem>,
}

impl State<'_> {
    fn expand(&mut self, text: &str, depth: usize) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            let (before, from) = rest.split_at(at);
            out.push_str(before);
            if let Some(after) = from.strip_prefix("$$") {
                out.push('$');
                rest = after;
            } else if let Some(body) = from.strip_prefix("${") {
                let occurrence = self.occurrence;
                self.occurrence += 1;
                if let Some((inside, after)) = split_at_closing(body) {
                    self.changed = true;
                    match self.reference(inside, depth) {
                        Ok(value) => out.push_str(&value),
                        Err((message, hint)) => self.problems.push(Problem {
                            occurrence,
                            message,
                            hint,
                        }),
                    }
                    rest = after;
                } else {
                    self.problems.push(Problem {
                        occurrence,
                        message: "`${` is never closed".into(),
                        hint: "write `${env:NAME}`, or `$$` for a plain `$`".into(),
                    });
                    // Looking for the end of every later one too would take quadratic time.
                    return out;
                }
            } else {
                out.push('$');
                rest = from.strip_prefix('$').unwrap_or_default();
            }
        }
        out.push_str(rest);
        out
    }

    /// The value of what stands between `${` and `}`.
    fn reference(&mut self, inside: &str, depth: usize) -> Result<String, (String, String)> {
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        let name = name.strip_prefix("env:").unwrap_or(name);
        let is_start = |c: char| c.is_ascii_alphabetic() || c == '_';
        let is_name =
            name.starts_with(is_start) && name.chars().all(|c| is_start(c) || c.is_ascii_digit());
        if !is_name {
            return Err((
                format!("`${{{inside}}}` is not understood"),
                "write `${env:NAME}` or `${env:NAME:-default}`, or `$$` for a plain `$`".into(),
            ));
        }
        if let Some(value) = (self.lookup)(name) {
            return Ok(value);
        }
        match default {
            Some(default) if depth < MAX_DEPTH => Ok(self.expand(default, depth + 1)),
            Some(_) => Err((
                format!("defaults inside defaults, more than {MAX_DEPTH} deep"),
                "set the variable instead".into(),
            )),
            None => Err((
                format!("the environment variable `{name}` is not set"),
                format!("set it, or give a default: `${{env:{name}:-default}}`"),
            )),
        }
    }
}

/// Splits behind the `}` that closes; a `${` inside needs its own.
fn split_at_closing(body: &str) -> Option<(&str, &str)> {
    let mut open = 1usize;
    let mut previous = ' ';
    for (at, c) in body.char_indices() {
        match c {
            '{' if previous == '$' => open += 1,
            '}' => open -= 1,
            _ => {}
        }
        if open == 0 {
            let (inside, after) = body.split_at(at);
            return Some((inside, after.strip_prefix('}')?));
        }
        previous = c;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        match name {
            "A" => Some("alpha".into()),
            "EMPTY" => Some(String::new()),
            "TRICK" => Some("${env:A}$$".into()),
            _ => None,
        }
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let found = substitute(text, &lookup);
        assert_eq!(found.problems, [], "{text}");
        assert_eq!(found.text, expected, "{text}");
    }

    #[test]
    fn variables_are_put_in_as_the_collector_does() {
        check("plain", "plain");
        check("${env:A}", "alpha");
        check("${A}", "alpha");
        check("x-${env:A}-y", "x-alpha-y");
        check("${env:NONE:-dflt}", "dflt");
        check("${env:NONE:-}", "");
        check("${env:EMPTY:-dflt}", "");
        check("${env:NONE:-${env:A}!}", "alpha!");
        check("$$", "$");
        check("$${env:A}", "${env:A}");
        check("^a$", "^a$");
        check("$A", "$A");
        check("{{ service }}", "{{ service }}");
        // What a variable holds is text, never a reference.
        check("${env:TRICK}", "${env:A}$$");
    }

    #[test]
    fn what_cannot_be_put_in_is_named() {
        for (text, occurrence, message) in [
            ("${env:NONE}", 0, "`NONE` is not set"),
            ("${env:A}${env:NONE}", 1, "`NONE` is not set"),
            ("${file:/etc/x}", 0, "is not understood"),
            ("${}", 0, "is not understood"),
            ("${env:A", 0, "never closed"),
        ] {
            let found = substitute(text, &lookup);
            let [problem] = found.problems.as_slice() else {
                panic!("{text}: {found:?}");
            };
            assert_eq!(problem.occurrence, occurrence, "{text}");
            assert!(problem.message.contains(message), "{text}: {problem:?}");
        }
    }

    #[test]
    fn defaults_inside_defaults_have_a_bound() {
        let deep = "${env:N:-".repeat(100_000);
        assert_eq!(substitute(&deep, &lookup).problems.len(), 1);
        let closed = format!("{}x{}", "${env:N:-".repeat(50), "}".repeat(50));
        assert_eq!(substitute(&closed, &lookup).problems.len(), 1);
    }
}
