//! What a reader of the summary should know of the data.

use crate::ingest::replay::{Note, Notes};

use super::super::output::clean;
use super::run::Ran;
use super::show::period;

/// Sentences, the most general first.
pub(super) fn of(ran: &Ran) -> Vec<String> {
    let mut remarks = Vec::new();
    if let (Some(pace), Some(spacing)) = (ran.speed.pace, ran.speed.spacing) {
        remarks.push(format!(
            "data comes every {}, so a tick is {} long and silence begins after {}; set window.tick or \
             --tick to have it otherwise",
            period(spacing),
            period(pace.tick),
            period(pace.spacing * 10),
        ));
    }
    for (file, notes) in &ran.notes {
        let file = clean(file);
        remarks.extend(noted(notes).into_iter().map(|(note, what)| {
            let place = match note.line {
                0 => String::new(),
                line => format!(" (first: line {line})"),
            };
            format!("{file}: {} {what}{place}", note.count)
        }));
    }
    if ran.late > 0 {
        remarks.push(format!(
            "{} older than one before of the same series and left out",
            are(ran.late)
        ));
    }
    if ran.repeated > 0 {
        remarks.push(format!(
            "{} of the same time as one before of the same series and left out",
            are(ran.repeated)
        ));
    }
    for (reason, count, example) in ran.rejections.iter() {
        remarks.push(format!(
            "{count} refused: {}, such as {}",
            reason.name(),
            clean(example)
        ));
    }
    if let Some(example) = &ran.example {
        remarks.push(format!(
            "{} of {} signals are watched by no rule, such as {}",
            ran.unwatched,
            ran.left,
            clean(example)
        ));
    }
    remarks
}

fn noted(notes: &Notes) -> Vec<(Note, &'static str)> {
    let all = [
        (
            notes.disordered,
            "earlier than the line before; rows out of order are left out: sort the file by time",
        ),
        (
            notes.sorted,
            "earlier than the line before; the file was read to its end and sorted by time",
        ),
        (notes.empty, "without a value"),
        (notes.foreign, "of another kind of data and left out"),
        (notes.broken, "broken off at the end"),
        (notes.future, "far ahead of the time around it and left out"),
    ];
    all.into_iter().filter(|(note, _)| note.count > 0).collect()
}

fn are(count: u64) -> String {
    match count {
        1 => "1 point is".into(),
        count => format!("{count} points are"),
    }
}
