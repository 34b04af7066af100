//! A number beside each row: how surprising it is, for scorers of detectors.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use crate::config::{Config, builtin_rules};
use crate::detect;
use crate::ingest::replay::{Input, Naming, RecordFormat, Row, Rows};
use crate::model::{Rule, Sample, SignalKind, Verdict};
use crate::window::Window;

use super::inputs::Inputs;

/// The score that says one half is that of so many sigmas.
const HALF: f64 = 4.0;

/// What was written.
pub(super) struct Written {
    pub(super) input: String,
    pub(super) file: String,
    pub(super) rows: u64,
    pub(super) detector: String,
}

/// Writes a file with `timestamp,value,score` for each CSV file, under `folder` at the path as given,
/// and says which. `detector`: `None` for that of the built-in rules.
pub(super) fn write(
    config: &Config,
    inputs: &Inputs,
    detector: Option<&str>,
    folder: &Path,
) -> Result<Vec<Written>> {
    let rule = rule(config, detector)?;
    let mut taken = BTreeSet::new();
    let mut written = Vec::new();
    for (path, naming) in &inputs.files {
        if !is_csv(path, naming)? {
            continue;
        }
        let place = folder.join(inside(path)?);
        ensure!(
            taken.insert(place.clone()),
            "{} would be written for two inputs",
            place.display()
        );
        let rows = score(config, &rule, path, &place)
            .with_context(|| format!("the scores in {}", place.display()))?;
        written.push(Written {
            input: path.display().to_string(),
            file: place.display().to_string(),
            rows,
            detector: rule.detector.name.clone(),
        });
    }
    if written.is_empty() {
        bail!("--scores: none of the inputs is CSV");
    }
    Ok(written)
}

fn is_csv(path: &Path, naming: &Naming) -> Result<bool> {
    // What it is named or made of was found out once; asking again keeps one place that knows.
    let input = Input::open(path, None, naming)?;
    Ok(input.format() == RecordFormat::Csv)
}

/// The first of the built-in rules that watches plain values, or the configuration's with this detector.
fn rule(config: &Config, detector: Option<&str>) -> Result<Rule> {
    let usual = Config {
        window: config.window.clone(),
        rules: builtin_rules(),
        ..Config::default()
    };
    let built_in = usual.model_rules();
    let value = built_in
        .iter()
        .find(|rule| rule.alert == "ValueDeviation")
        .context("there is no built-in rule for values")?;
    let name = detector.unwrap_or(value.detector.name.as_str());
    let own = config.model_rules();
    let own = own.iter().find(|rule| rule.detector.name == name);
    let mut rule = own.unwrap_or(value).clone();
    name.clone_into(&mut rule.detector.name);
    detect::build(&rule, SignalKind::Value)
        .map_err(anyhow::Error::msg)
        .context("--detector")?;
    Ok(rule)
}

/// `path` as a place inside a folder: what leads to the root or upwards is left out, and so is the ending
/// of a compressed file.
fn inside(path: &Path) -> Result<PathBuf> {
    let parts = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name),
        Component::Prefix(_) | Component::RootDir | Component::CurDir | Component::ParentDir => {
            None
        }
    });
    let place: PathBuf = parts.collect();
    ensure!(
        place.file_name().is_some(),
        "{} has no name to write scores under",
        path.display()
    );
    let packed = place
        .extension()
        .is_some_and(|ending| ending == "gz" || ending == "zst");
    Ok(if packed {
        place.with_extension("")
    } else {
        place
    })
}

/// Scores one file; answers how many rows it has.
fn score(config: &Config, rule: &Rule, input: &Path, output: &Path) -> Result<u64> {
    let mut rows = Rows::open(input)?;
    if let Some(folder) = output.parent() {
        fs::create_dir_all(folder)?;
    }
    // Aside, so that there is a whole file or none.
    let mut aside = output.as_os_str().to_owned();
    aside.push(".part");
    let aside = PathBuf::from(aside);
    let written = write_scores(config, rule, &mut rows, &aside).and_then(|count| {
        fs::rename(&aside, output)?;
        Ok(count)
    });
    if written.is_err() {
        // What matters is why it could not be written.
        fs::remove_file(&aside).ok();
    }
    written
}

fn write_scores(config: &Config, rule: &Rule, rows: &mut Rows, file: &Path) -> Result<u64> {
    let mut out = BufWriter::new(File::create(file)?);
    writeln!(out, "timestamp,value,score")?;
    let mut detector = detect::build(rule, SignalKind::Value).map_err(anyhow::Error::msg)?;
    let spec = rule.detector.window.unwrap_or(config.window.spec());
    let mut window = Window::new(spec);
    let mut count = 0;
    // Of a file that had to be sorted, the scores wait for their rows' place.
    let mut waiting: Vec<(Row, f64)> = Vec::new();
    let is_sorted = rows.is_sorted();
    while let Some(row) = rows.next_row()? {
        count += 1;
        let mut score = 0.0;
        if let Some(value) = row.sample()? {
            let sample = Sample {
                time: row.time,
                value,
            };
            // As the engine's watch does it.
            window.expire(sample.time);
            if let Verdict::Judged(judged) = detector.observe(sample, 1, &window) {
                let sigmas = judged.evidence.report;
                score = sigmas / (sigmas + HALF);
            }
            window.push(sample);
        }
        if is_sorted {
            waiting.push((row, score));
        } else {
            write_row(&mut out, &row, score)?;
        }
    }
    waiting.sort_by_key(|(row, _)| row.number);
    for (row, score) in &waiting {
        write_row(&mut out, row, *score)?;
    }
    out.flush()?;
    Ok(count)
}

fn write_row(out: &mut impl std::io::Write, row: &Row, score: f64) -> Result<()> {
    out.write_all(&quoted(&row.text))?;
    out.write_all(b",")?;
    out.write_all(&quoted(&row.value_text))?;
    writeln!(out, ",{score}")?;
    Ok(())
}

/// A field as CSV wants it.
fn quoted(field: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    if !field.iter().any(|byte| matches!(byte, b'"' | b',')) {
        return field.into();
    }
    let mut quoted = vec![b'"'];
    for byte in field {
        if *byte == b'"' {
            quoted.push(b'"');
        }
        quoted.push(*byte);
    }
    quoted.push(b'"');
    quoted.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_stay_inside_their_folder() {
        for (path, expected) in [
            ("a/b.csv", "a/b.csv"),
            ("/data/b.csv", "data/b.csv"),
            ("../../b.csv", "b.csv"),
            ("./a/../b.csv.gz", "a/b.csv"),
        ] {
            let place = inside(Path::new(path)).expect(path);
            assert_eq!(place, Path::new(expected), "{path}");
        }
        assert!(inside(Path::new("..")).is_err());
        assert!(inside(Path::new("/")).is_err());
    }
}
