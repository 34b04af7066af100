//! The drawing. It needs nothing from anywhere else: no script, no font, no address.

use super::super::super::output::{clean, digits, quantity};
use super::super::ledger::Incident;
use super::{COLUMNS, Column, Picture, axis};
use crate::model::{SeverityLabel, Timestamp};

const WIDTH: f64 = 1200.0;
const HEIGHT: f64 = 460.0;
const LEFT: f64 = 78.0;
const RIGHT: f64 = 22.0;
const TOP: f64 = 84.0;
const BOTTOM: f64 = 40.0;
/// Height of the lane above the plot in which alerts lie.
const LANE: f64 = 12.0;

/// Colours that tell their meaning apart also to those who see red and green alike.
const STYLE: &str = "
svg{--ground:#fff;--ink:#1c2430;--faint:#6a7686;--grid:#e7ebf0;--band:#bcd3ee;--mid:#6f9fd4;\
--line:#17406d;--out:#d9480f;--warning:#f0a500;--critical:#c92a2a;background:var(--ground);\
font:13px system-ui,-apple-system,'Segoe UI',sans-serif}
@media(prefers-color-scheme:dark){svg{--ground:#12161c;--ink:#e6eaf0;--faint:#93a0b0;--grid:#232b36;\
--band:#22405f;--mid:#4c83bd;--line:#a9cdf5;--out:#ff8a50;--warning:#f5b83d;--critical:#ff6b6b}}
text{fill:var(--ink)}.faint{fill:var(--faint);font-size:12px}.title{font-size:17px;font-weight:600}
.grid{stroke:var(--grid)}.frame{stroke:var(--faint);fill:none}.band{fill:var(--band);opacity:.75}
.mid{stroke:var(--mid);fill:none;stroke-dasharray:3 3}.line{stroke:var(--line);fill:none;\
stroke-width:1.3;stroke-linejoin:round}.out{fill:var(--out);stroke:var(--ground);stroke-width:.7}
.warning{fill:var(--warning)}.critical{fill:var(--critical)}.span{opacity:.16}.bar{opacity:.95}
";

/// The picture as SVG.
pub(super) fn svg(picture: &Picture) -> String {
    let frame = Frame::new(picture);
    let mut out = String::new();
    let title = escape(&picture.title);
    out.push_str(&format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         aria-label=\"{title}\"><style>{STYLE}</style>\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"var(--ground)\"/>\
         <text class=\"title\" x=\"{LEFT}\" y=\"28\">{title}</text>\
         <text class=\"faint\" x=\"{LEFT}\" y=\"48\">{}</text>",
        escape(&subtitle(picture)),
    ));
    legend(&mut out);
    grid(&mut out, picture, &frame);
    out.push_str(&format!("<clipPath id=\"plot\"><rect x=\"{LEFT}\" y=\"{TOP}\" width=\"{}\" height=\"{}\"/></clipPath>\
         <g clip-path=\"url(#plot)\">",
        WIDTH - LEFT - RIGHT,
        HEIGHT - TOP - BOTTOM,
    ));
    band(&mut out, picture, &frame);
    for incident in &picture.alerts {
        span(&mut out, picture, incident, Part::Plot);
    }
    line(&mut out, picture, &frame);
    outside(&mut out, picture, &frame);
    out.push_str("</g>");
    for incident in &picture.alerts {
        span(&mut out, picture, incident, Part::Lane);
    }
    out.push_str("</svg>\n");
    out
}

/// The picture in a page, with the alerts in words below.
pub(super) fn html(picture: &Picture) -> String {
    let mut rows = String::new();
    for incident in &picture.alerts {
        let alert = &incident.alert;
        let explanation = alert.annotations.get("explanation").unwrap_or_default();
        let until = incident
            .resolved_at
            .map_or_else(|| "still fires".into(), short);
        rows.push_str(&format!("<tr><td>{}</td><td>{until}</td><td><b class=\"{}\">{}</b></td><td>{}</td><td>{}</td></tr>",
            short(incident.fired_at),
            severity(alert.severity),
            severity(alert.severity),
            escape(alert.name()),
            escape(explanation),
        ));
    }
    let table = if rows.is_empty() {
        "<p>No alerts.</p>".to_owned()
    } else {
        format!(
            "<table><thead><tr><th>Fired</th><th>Resolved</th><th>Severity</th><th>Alert</th>\
             <th>Explanation</th></tr></thead><tbody>{rows}</tbody></table>"
        )
    };
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title><style>\
         :root{{color-scheme:light dark}}\
         body{{margin:0 auto;padding:16px;max-width:1240px;font:14px system-ui,sans-serif;\
         background:#fff;color:#1c2430}}svg{{width:100%;height:auto}}\
         table{{border-collapse:collapse;width:100%}}th,td{{text-align:left;padding:6px 10px;\
         border-bottom:1px solid #e7ebf0;vertical-align:top}}td:nth-child(-n+2){{white-space:nowrap}}\
         b.warning{{color:#9a6700}}b.critical{{color:#c92a2a}}\
         @media(prefers-color-scheme:dark){{body{{background:#12161c;color:#e6eaf0}}\
         th,td{{border-color:#232b36}}b.warning{{color:#f5b83d}}b.critical{{color:#ff6b6b}}}}\
         </style></head><body>{svg}{table}</body></html>\n",
        title = escape(&picture.title),
        svg = svg(picture),
    )
}

fn subtitle(picture: &Picture) -> String {
    let plural = |count: usize, one: &str| match count {
        1 => format!("1 {one}"),
        count => format!("{count} {one}s"),
    };
    format!(
        "{} to {} · {} · {} outside the band · {}",
        short(picture.start),
        short(picture.end),
        plural(picture.samples, "sample"),
        picture.outside,
        plural(picture.alerts.len(), "alert"),
    )
}

/// Where values lie.
struct Frame {
    low: f64,
    high: f64,
}

impl Frame {
    fn new(picture: &Picture) -> Self {
        let filled = || picture.columns.iter().filter(|column| column.count > 0);
        let mut low = filled().map(|column| column.min).fold(f64::MAX, f64::min);
        let mut high = filled().map(|column| column.max).fold(f64::MIN, f64::max);
        // The band is to be seen, but a very wide one must not press the line flat.
        let room = (high - low) / 2.0;
        let (least, most) = (low - room, high + room);
        for column in filled().filter(|column| column.judged > 0) {
            let (lower, upper) = column.band();
            low = low.min(lower.max(least));
            high = high.max(upper.min(most));
        }
        let pad = (high - low) * 0.04;
        let pad = if pad > 0.0 {
            pad
        } else {
            high.abs().max(1.0) * 0.05
        };
        Self {
            low: low - pad,
            high: high + pad,
        }
    }

    fn y(&self, value: f64) -> f64 {
        // Halves, so that the difference of two giants does not overflow.
        let share = (value / 2.0 - self.low / 2.0) / (self.high / 2.0 - self.low / 2.0);
        let y = HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM);
        // Far outside is outside; figures with many digits would only make the file larger.
        y.clamp(-HEIGHT, 2.0 * HEIGHT)
    }
}

impl Column {
    /// Mean ends of the band.
    fn band(&self) -> (f64, f64) {
        let judged = f64::from(self.judged.max(1));
        (self.lower / judged, self.upper / judged)
    }
}

fn x_of(picture: &Picture, at: Timestamp) -> f64 {
    let share =
        at.seconds_since(picture.start) / picture.end.seconds_since(picture.start).max(1e-9);
    LEFT + share.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
}

fn x(column: usize) -> f64 {
    LEFT + column as f64 / (COLUMNS - 1) as f64 * (WIDTH - LEFT - RIGHT)
}

fn legend(out: &mut String) {
    let mut at = WIDTH - RIGHT - 360.0;
    let y = 28.0;
    let mut entry = |shape: &str, text: &str, width: f64| {
        out.push_str(&format!("<g transform=\"translate({at},{y})\">{shape}<text class=\"faint\" x=\"24\" y=\"0\">{text}\
             </text></g>"
        ));
        at += width;
    };
    entry("<path class=\"line\" d=\"M0-4h18\"/>", "value", 72.0);
    entry(
        "<rect class=\"band\" y=\"-10\" width=\"18\" height=\"11\"/><path class=\"mid\" d=\"M0-4h18\"/>",
        "expected",
        94.0,
    );
    entry(
        "<circle class=\"out\" cx=\"9\" cy=\"-4\" r=\"3.5\"/>",
        "outside",
        82.0,
    );
    entry(
        "<rect class=\"warning bar\" y=\"-9\" width=\"9\" height=\"9\"/>\
         <rect class=\"critical bar\" x=\"9\" y=\"-9\" width=\"9\" height=\"9\"/>",
        "alert",
        60.0,
    );
}

fn grid(out: &mut String, picture: &Picture, frame: &Frame) {
    for value in axis::numbers(frame.low, frame.high, 5) {
        let y = frame.y(value);
        let unit = match picture.unit.as_str() {
            // Milliseconds are read more easily than thousandths.
            "s" => quantity(Some(value), "s"),
            _ => digits(value),
        };
        out.push_str(&format!("<path class=\"grid\" d=\"M{LEFT} {y:.1}H{}\"/><text class=\"faint\" text-anchor=\"end\" \
             x=\"{}\" y=\"{:.1}\">{unit}</text>",
            WIDTH - RIGHT,
            LEFT - 8.0,
            y + 4.0,
        ));
    }
    for (at, label) in axis::times(picture.start, picture.end, 9) {
        let x = x_of(picture, at);
        out.push_str(&format!("<path class=\"grid\" d=\"M{x:.1} {TOP}V{}\"/><text class=\"faint\" text-anchor=\"middle\" \
             x=\"{x:.1}\" y=\"{}\">{label}</text>",
            HEIGHT - BOTTOM,
            HEIGHT - BOTTOM + 20.0,
        ));
    }
    let unit = clean(&picture.unit);
    if !matches!(unit.as_str(), "" | "1" | "s") {
        let unit = escape(&unit);
        out.push_str(&format!(
            "<text class=\"faint\" text-anchor=\"end\" x=\"{}\" y=\"{}\">{unit}</text>",
            LEFT - 8.0,
            TOP - 12.0,
        ));
    }
}

/// The columns that hold something, in runs without a gap worth showing.
fn runs(picture: &Picture, holds: impl Fn(&Column) -> bool) -> Vec<Vec<(usize, Column)>> {
    let held: Vec<(usize, Column)> = picture
        .columns
        .iter()
        .copied()
        .enumerate()
        .filter(|(_, column)| holds(column))
        .collect();
    let mut gaps: Vec<usize> = held
        .iter()
        .zip(held.iter().skip(1))
        .map(|(a, b)| b.0 - a.0)
        .collect();
    gaps.sort_unstable();
    // Five times the usual distance is a gap.
    let usual = gaps.get(gaps.len() / 2).copied().unwrap_or(1);
    held.chunk_by(|a, b| b.0 - a.0 <= 5 * usual)
        .map(<[_]>::to_vec)
        .collect()
}

fn band(out: &mut String, picture: &Picture, frame: &Frame) {
    for run in runs(picture, |column| column.judged > 0) {
        let mut path = String::new();
        let upper = run.iter().map(|(at, column)| (*at, column.band().1));
        let lower = run.iter().rev().map(|(at, column)| (*at, column.band().0));
        for (n, (at, value)) in upper.chain(lower).enumerate() {
            let to = if n == 0 { 'M' } else { 'L' };
            path.push_str(&format!("{to}{:.1} {:.1}", x(at), frame.y(value)));
        }
        out.push_str(&format!("<path class=\"band\" d=\"{path}Z\"/>"));
        let mut path = String::new();
        for (n, (at, column)) in run.iter().enumerate() {
            let to = if n == 0 { 'M' } else { 'L' };
            let middle = column.expected / f64::from(column.judged.max(1));
            path.push_str(&format!("{to}{:.1} {:.1}", x(*at), frame.y(middle)));
        }
        out.push_str(&format!("<path class=\"mid\" d=\"{path}\"/>"));
    }
}

fn line(out: &mut String, picture: &Picture, frame: &Frame) {
    for run in runs(picture, |column| column.count > 0) {
        let mut path = String::new();
        for (n, (at, column)) in run.iter().enumerate() {
            let x = x(*at);
            let to = if n == 0 { 'M' } else { 'L' };
            path.push_str(&format!("{to}{x:.1} {:.1}", frame.y(column.first)));
            if column.count > 1 {
                let (low, high) = (frame.y(column.min), frame.y(column.max));
                let last = frame.y(column.last);
                path.push_str(&format!("V{low:.1}V{high:.1}V{last:.1}"));
            }
        }
        if let [(at, column)] = run.as_slice() {
            // A path of one point would not be seen.
            path.push_str(&format!("h.1M{:.1} {:.1}", x(*at), frame.y(column.last)));
        }
        out.push_str(&format!("<path class=\"line\" d=\"{path}\"/>"));
    }
}

fn outside(out: &mut String, picture: &Picture, frame: &Frame) {
    for (at, column) in picture.columns.iter().enumerate() {
        if let Some((value, sigma)) = column.outside {
            out.push_str(&format!(
                "<circle class=\"out\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\"><title>{}, {sigma:+.1} \
                 sigma</title></circle>",
                x(at),
                frame.y(value),
                digits(value),
            ));
        }
    }
}

/// Where an alert is drawn.
enum Part {
    Lane,
    Plot,
}

fn span(out: &mut String, picture: &Picture, incident: &Incident, part: Part) {
    let from = x_of(picture, incident.alert.since);
    let until = x_of(picture, incident.until(picture.end)).max(from + 2.0);
    let (y, height, class) = match part {
        Part::Lane => (TOP - LANE - 4.0, LANE, "bar"),
        Part::Plot => (TOP, HEIGHT - TOP - BOTTOM, "span"),
    };
    let alert = &incident.alert;
    let explanation = alert.annotations.get("explanation").unwrap_or_default();
    out.push_str(&format!(
        "<rect class=\"{} {class}\" x=\"{from:.1}\" y=\"{y}\" width=\"{:.1}\" height=\"{height}\">\
         <title>{}: {}</title></rect>",
        severity(alert.severity),
        until - from,
        escape(alert.name()),
        escape(explanation),
    ));
}

fn severity(label: SeverityLabel) -> &'static str {
    match label {
        SeverityLabel::Warning => "warning",
        SeverityLabel::Critical => "critical",
    }
}

/// `2026-01-31 12:00`.
fn short(at: Timestamp) -> String {
    let text = at.rfc3339().replacen('T', " ", 1);
    text.get(..16).unwrap_or(&text).to_owned()
}

/// Text from outside as text of XML and HTML.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in clean(text).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_band_far_wider_than_the_values_leaves_them_their_room() {
        let column = |value: f64, reach: f64| Column {
            count: 1,
            min: value,
            max: value,
            judged: 1,
            lower: value - reach,
            upper: value + reach,
            ..Column::default()
        };
        let picture = |reach: f64| Picture {
            title: String::new(),
            unit: String::new(),
            start: Timestamp::EPOCH,
            end: Timestamp::from_secs(100),
            columns: (0..100)
                .map(|n| column(10.0 + f64::from(n % 3), reach))
                .collect(),
            alerts: Vec::new(),
            samples: 100,
            outside: 0,
        };
        let wide = Frame::new(&picture(1e6));
        assert!(wide.high - wide.low < 5.0, "{} to {}", wide.low, wide.high);
        let narrow = Frame::new(&picture(0.5));
        assert!(narrow.low < 9.5 && narrow.high > 12.5);
    }
}
