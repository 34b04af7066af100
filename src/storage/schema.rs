//! The version of what the store's values mean, kept in the store itself.
//!
//! `MAJOR.MINOR`: a program reads every minor version of the majors it knows (a higher minor adds keys
//! and fields that may be ignored) and refuses a higher major, so that going back to an older release
//! never reads new state wrongly.

/// Key in [`super::Table::Meta`].
pub const KEY: &str = "schema";
/// The newest major version this program reads, and the one it writes.
pub const MAJOR: u32 = 1;
/// The minor version this program writes.
pub const MINOR: u32 = 0;

/// The present version as it is stored.
pub fn current() -> String {
    format!("{MAJOR}.{MINOR}")
}

/// What a stored version means for this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compatibility {
    /// It can be read.
    Readable,
    /// A newer major version wrote it.
    Newer {
        /// That version.
        major: u32,
    },
    /// It is no version at all.
    Garbage,
}

/// Judges a stored version.
pub fn judge(stored: &[u8]) -> Compatibility {
    let numbers = std::str::from_utf8(stored)
        .ok()
        .and_then(|text| text.split_once('.'))
        .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse::<u32>().ok()?)));
    match numbers {
        Some((major, _)) if major > MAJOR => Compatibility::Newer { major },
        Some((1..=MAJOR, _)) => Compatibility::Readable,
        Some(_) | None => Compatibility::Garbage,
    }
}

#[cfg(test)]
mod tests {
    use super::{Compatibility, MAJOR, current, judge};

    #[test]
    fn versions_are_judged() {
        let newer = format!("{}.0", MAJOR + 1);
        let cases = [
            (current(), Compatibility::Readable),
            (format!("{MAJOR}.99"), Compatibility::Readable),
            (newer, Compatibility::Newer { major: MAJOR + 1 }),
            ("0.1".into(), Compatibility::Garbage),
            ("1".into(), Compatibility::Garbage),
            ("one.two".into(), Compatibility::Garbage),
            (String::new(), Compatibility::Garbage),
        ];
        for (stored, expected) in cases {
            assert_eq!(judge(stored.as_bytes()), expected, "{stored:?}");
        }
    }
}
