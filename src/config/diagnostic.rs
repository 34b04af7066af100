//! What is wrong with a configuration, where, and what to do about it.

use std::fmt;

/// Whether the configuration can be used all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It cannot be used.
    Error,
    /// It can, but probably does something that was not meant.
    Warning,
}

/// A place in the file, both counted from 1; columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file, as it was named on the command line.
    pub file: String,
    /// Where; `None` when it concerns the file as a whole.
    pub at: Option<Position>,
    /// How bad.
    pub severity: Severity,
    /// The setting, as `rules[0].sigma.warning`; empty for the file as a whole.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// `file:line:column: error: path: message`, and the hint on a line of its own.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(at) = self.at {
            write!(f, ":{}:{}", at.line, at.column)?;
        }
        f.write_str(match self.severity {
            Severity::Error => ": error: ",
            Severity::Warning => ": warning: ",
        })?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// Everything that was found, in the order of the file. As an error it says at least one thing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl Diagnostics {
    /// In the order of the file, each once.
    pub(super) fn sorted(mut found: Vec<Diagnostic>) -> Self {
        found.sort_by(|a, b| (a.at, a.severity, &a.path).cmp(&(b.at, b.severity, &b.path)));
        // A part of the file that is used twice by an alias would be complained of twice.
        found.dedup_by(|a, b| a.at == b.at && a.message == b.message);
        Self(found)
    }

    /// How many of them are errors.
    pub fn errors(&self) -> usize {
        let is_error = |d: &&Diagnostic| d.severity == Severity::Error;
        self.0.iter().filter(is_error).count()
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, diagnostic) in self.0.iter().enumerate() {
            if at > 0 {
                writeln!(f)?;
            }
            write!(f, "{diagnostic}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

/// The hint for a word that is not one of `known`: the nearest of them, else all.
pub(super) fn suggest<'k>(
    word: &str,
    known: impl IntoIterator<Item = &'k str>,
    what: &str,
) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let nearest = known
        .iter()
        .min_by_key(|candidate| distance(word, candidate));
    match nearest {
        Some(candidate) if resembles(word, candidate) => format!("did you mean `{candidate}`?"),
        Some(_) => format!("known {what}: {}", known.join(", ")),
        None => format!("there are no {what}"),
    }
}

/// Whether somebody may have meant `known` when they wrote `word`.
pub(super) fn resembles(word: &str, known: &str) -> bool {
    distance(word, known) <= (word.chars().count() / 3).max(1)
}

/// In how many letters two words differ. Case, dashes and underscores do not count: they are what people
/// mix up most.
fn distance(a: &str, b: &str) -> usize {
    // No word of ours is longer; the distance takes time by the product of the lengths.
    const LONGEST: usize = 40;
    let plain = |text: &str| -> String {
        let letters = text.chars().filter(|c| !matches!(c, '-' | '_' | ' '));
        letters.flat_map(char::to_lowercase).take(LONGEST).collect()
    };
    strsim::osa_distance(&plain(a), &plain(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_suggested_or_else_all() {
        let keys = ["receiver", "group_by", "group_wait"];
        assert_eq!(
            suggest("reciever", keys, "keys"),
            "did you mean `receiver`?"
        );
        assert_eq!(suggest("groupBy", keys, "keys"), "did you mean `group_by`?");
        assert_eq!(
            suggest("group-wait", keys, "keys"),
            "did you mean `group_wait`?"
        );
        assert_eq!(
            suggest("colour", keys, "keys"),
            "known keys: receiver, group_by, group_wait"
        );
        assert_eq!(suggest("x", [], "levels"), "there are no levels");
    }

    #[test]
    fn a_diagnostic_reads_as_compilers_write_it() {
        let diagnostic = Diagnostic {
            file: "t.yaml".into(),
            at: Some(Position { line: 3, column: 5 }),
            severity: Severity::Error,
            path: "route".into(),
            message: "unknown key `reciever`".into(),
            hint: Some("did you mean `receiver`?".into()),
        };
        assert_eq!(
            diagnostic.to_string(),
            "t.yaml:3:5: error: route: unknown key `reciever`\n  hint: did you mean `receiver`?"
        );
    }
}
