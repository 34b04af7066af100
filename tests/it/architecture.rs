//! The house's rules as tests: who may import whom, in which order modules stand, and how long a file
//! may grow.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What every module may use.
const EVERYWHERE: &[&str] = &["model", "clock", "telemetry"];

/// What a module may import besides [`EVERYWHERE`] and itself. A module that is not listed may import
/// nothing else; `app`, `cli` and `simulate` may import everything.
const ALLOWED: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("clock", &[]),
    ("telemetry", &[]),
    ("config", &[]),
    ("ingest", &[]),
    ("derive", &[]),
    ("window", &[]),
    ("detect", &["window"]),
    ("engine", &["derive", "window", "detect"]),
    ("alert", &[]),
    ("explain", &[]),
    ("mute", &[]),
    ("dispatch", &["mute"]),
    ("notify", &["dispatch"]),
    ("modes", &[]),
    ("storage", &[]),
    ("publish", &["mute", "dispatch"]),
    ("instruct", &["publish", "notify"]),
    ("expose", &["publish", "mute", "dispatch"]),
    ("follow", &[]),
    ("shutdown", &[]),
];

/// The ends of the pipeline: they know everything, and nobody knows them.
const ENDS: &[&str] = &["simulate", "app", "cli"];

/// Stages that are pure: no runtime, no I/O, no clock, no random source, no logging.
const PURE: &[&str] = &[
    "model", "derive", "window", "detect", "alert", "explain", "mute", "dispatch", "modes",
];

const IMPURE: &[&str] = &[
    "tokio::",
    "std::fs",
    "std::net",
    "std::thread",
    "tracing::",
    "rand::",
    "clock::instant",
];

/// Lines of one file, comments counted, its tests not.
const LONGEST_FILE: usize = 700;

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// All Rust files under `src`, as (path, module at the top, text without its tests).
fn files() -> Vec<(PathBuf, String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![source()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("src is readable") {
            let path = entry.expect("src is readable").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("sources are UTF-8");
                let inside = path.strip_prefix(source()).expect("it is inside");
                let top = inside
                    .iter()
                    .next()
                    .expect("it has a name")
                    .to_string_lossy();
                found.push((path.clone(), top.trim_end_matches(".rs").to_owned(), text));
            }
        }
    }
    found.sort();
    found
}

fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap_or_default()
}

/// The modules that `text` names as `crate::module`.
fn named(text: &str) -> Vec<String> {
    let code: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .map(|line| format!("{line}\n"))
        .collect();
    let mut modules = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let group = group.split_once("};").map_or(group, |(group, _)| group);
            modules.extend(
                group
                    .split(',')
                    .map(first_word)
                    .filter(|word| !word.is_empty()),
            );
        } else {
            modules.push(first_word(rest));
        }
    }
    modules
}

fn first_word(text: &str) -> String {
    text.trim_start()
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}

#[test]
fn modules_import_only_what_is_upstream_of_them() {
    let allowed: BTreeMap<_, _> = ALLOWED.iter().copied().collect();
    let known: Vec<&str> = ALLOWED
        .iter()
        .map(|(name, _)| *name)
        .chain(ENDS.iter().copied())
        .collect();
    let mut broken = Vec::new();
    for (path, module, text) in files() {
        if matches!(module.as_str(), "lib" | "main") || ENDS.contains(&module.as_str()) {
            continue;
        }
        let may = allowed.get(module.as_str()).copied();
        let Some(may) = may else {
            broken.push(format!(
                "{}: module `{module}` is not in the table",
                path.display()
            ));
            continue;
        };
        for import in named(without_tests(&text)) {
            let fine = import == module
                || EVERYWHERE.contains(&import.as_str())
                || may.contains(&import.as_str())
                || !known.contains(&import.as_str());
            if !fine {
                broken.push(format!(
                    "{}: `{module}` may not import `{import}`",
                    path.display()
                ));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn modules_are_declared_in_the_order_in_which_data_flows() {
    let lib = fs::read_to_string(source().join("lib.rs")).expect("lib.rs");
    let order: Vec<&str> = lib
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
        .collect();
    for (module, imports) in ALLOWED {
        let position = |name: &str| order.iter().position(|m| m == &name);
        let Some(own) = position(module) else {
            panic!("{module} is not declared in lib.rs")
        };
        for import in *imports {
            assert!(
                position(import).is_some_and(|at| at < own),
                "{import} stands behind {module}"
            );
        }
    }
    assert_eq!(
        order.len(),
        ALLOWED.len() + ENDS.len(),
        "lib.rs and the table differ: {order:?}"
    );
}

#[test]
fn pure_stages_touch_no_runtime_no_disk_and_no_clock() {
    let mut broken = Vec::new();
    for (path, module, text) in files() {
        let of_tests = path
            .iter()
            .any(|part| part == "tests.rs" || part == "tests");
        if of_tests || !PURE.contains(&module.as_str()) {
            continue;
        }
        for (number, line) in without_tests(&text).lines().enumerate() {
            if line.trim_start().starts_with("//") {
                continue;
            }
            for word in IMPURE {
                if line.contains(word) {
                    broken.push(format!("{}:{}: {word}", path.display(), number + 1));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn no_file_grows_past_one_sitting() {
    let long: Vec<_> = files()
        .into_iter()
        .filter(|(path, _, _)| !path.to_string_lossy().contains("tests"))
        .map(|(path, _, text)| (path, without_tests(&text).lines().count()))
        .filter(|(_, lines)| *lines > LONGEST_FILE)
        .collect();
    assert!(long.is_empty(), "{long:?}");
}
