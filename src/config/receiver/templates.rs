//! Files of templates that texts of receivers may include and import.

use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Most files, and most bytes of one.
const MAX_FILES: usize = 100;
const MAX_BYTES: u64 = 1 << 20;

/// A file of templates, known to texts by its name without the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateFile {
    /// Which of the patterns names it.
    pub at: usize,
    /// The name.
    pub name: String,
    /// What it holds.
    pub text: String,
}

/// Why a pattern's files cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct TemplateError {
    /// Which of the patterns.
    pub at: usize,
    /// What is wrong.
    pub reason: String,
}

/// Reads the files that `patterns` name, in the order of their names. A pattern is a path, relative to
/// `base`; in its last part `*` stands for any characters.
///
/// # Errors
/// A folder or file cannot be read, there are too many, or two have one name. A pattern with `*` may name
/// none.
pub fn read_templates(
    base: &Path,
    patterns: &[String],
) -> Result<Vec<TemplateFile>, TemplateError> {
    let mut files: Vec<TemplateFile> = Vec::new();
    for (at, pattern) in patterns.iter().enumerate() {
        let failed = |reason: String| TemplateError { at, reason };
        for path in expand(&base.join(pattern)).map_err(failed)? {
            let name = path.file_name().map(|name| name.to_string_lossy());
            let name = name.unwrap_or_default().into_owned();
            if files.iter().any(|file| file.name == name) {
                return Err(failed(format!("a second file is called `{name}`")));
            }
            if files.len() == MAX_FILES {
                return Err(failed(format!("there are more than {MAX_FILES} files")));
            }
            let text = read(&path).map_err(failed)?;
            files.push(TemplateFile { at, name, text });
        }
    }
    Ok(files)
}

/// The files that a pattern stands for; one without `*` stands for itself.
fn expand(pattern: &Path) -> Result<Vec<PathBuf>, String> {
    let last = pattern.file_name().and_then(|name| name.to_str());
    let (Some(last), Some(folder)) = (last, pattern.parent()) else {
        return Err("names no file".into());
    };
    if !last.contains('*') {
        return Ok(vec![pattern.to_owned()]);
    }
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        // A pattern may match nothing, as in Alertmanager.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            let folder = folder.display();
            return Err(format!("the folder {folder} cannot be read: {error}"));
        }
    };
    let mut found: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| matches(last, name)) && path.is_file()
        })
        .collect();
    found.sort();
    Ok(found)
}

/// Whether `name` fits `pattern`, in which `*` stands for any characters.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let parts: Vec<_> = parts.collect();
    let Some((last, middle)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

fn read(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let failed = |error: std::io::Error| format!("{shown} cannot be read: {error}");
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut text = String::new();
    file.take(MAX_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(format!("{shown} is longer than {MAX_BYTES} bytes"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, name, fits) in [
            ("*.j2", "a.j2", true),
            ("*.j2", "a.tmpl", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("*", "anything", true),
            ("ab*ba", "aba", false),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn files_are_found_by_pattern_beside_the_configuration() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("t")).unwrap();
        for (name, text) in [
            ("t/b.j2", "B"),
            ("t/a.j2", "A"),
            ("t/c.txt", "C"),
            ("d", "D"),
        ] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let read = |patterns: &[&str]| {
            let patterns: Vec<_> = patterns.iter().map(|p| (*p).to_owned()).collect();
            read_templates(folder.path(), &patterns)
        };
        let names = |found: Vec<TemplateFile>| -> String {
            found
                .into_iter()
                .map(|file| file.name + "=" + &file.text + " ")
                .collect()
        };
        assert_eq!(
            read(&["t/*.j2", "d"]).map(names),
            Ok("a.j2=A b.j2=B d=D ".into())
        );
        assert_eq!(read(&["none/*"]).map(names), Ok(String::new()));
        assert_eq!(read(&["d", "none"]).unwrap_err().at, 1);
        assert!(
            read(&["d", "d"])
                .unwrap_err()
                .reason
                .contains("second file")
        );
    }
}
