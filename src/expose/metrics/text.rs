use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::thread;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::negotiation::Format;

/// So much text is gathered before it is compressed, and others have their turn.
const PART_BYTES: usize = 64 * 1024;

/// What a family of samples is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// Writes families one after the other. The caller sees to it that no name comes twice.
#[derive(Debug)]
pub(super) struct Writer {
    out: String,
    format: Format,
    /// Where the text goes part by part if it is compressed; what is asked for by a machine may be a hundred
    /// megabytes as it is.
    gzip: Option<GzEncoder<Vec<u8>>>,
    /// How much of `out` there was when others had their turn.
    turned: usize,
}

impl Writer {
    pub(super) fn new(format: Format, compress: bool) -> Self {
        Self {
            out: String::with_capacity(16 * 1024),
            format,
            gzip: compress.then(|| GzEncoder::new(Vec::new(), Compression::fast())),
            turned: 0,
        }
    }

    /// Begins the family `name`; a counter's ends in `_total`.
    pub(super) fn family(&mut self, name: &str, help: &str, kind: Kind) {
        let open = self.format == Format::OpenMetrics;
        let (name, kind) = match (kind, name.strip_suffix("_total")) {
            // OpenMetrics: `_total` belongs to the sample, and a counter has no other name.
            (Kind::Counter, Some(base)) if open => (base, "counter"),
            (Kind::Counter, None) if open => (name, "unknown"),
            (Kind::Counter, _) => (name, "counter"),
            (Kind::Gauge, _) => (name, "gauge"),
            (Kind::Histogram, _) => (name, "histogram"),
        };
        let mut help = help.replace('\\', "\\\\").replace('\n', "\\n");
        if open {
            help = help.replace('"', "\\\"");
        }
        self.out.push_str("# HELP ");
        self.words([name, " ", &help, "\n# TYPE ", name, " ", kind, "\n"]);
    }

    /// One sample. `labels` is what [`super::labels::LabelSet::render`] gave, without braces.
    pub(super) fn sample(&mut self, name: &str, suffix: &str, labels: &str, value: f64) {
        self.words([name, suffix]);
        if !labels.is_empty() {
            self.words(["{", labels, "}"]);
        }
        self.out.push(' ');
        write_number(&mut self.out, value);
        self.out.push('\n');
        if self.out.len() - self.turned < PART_BYTES {
            return;
        }
        if let Some(gzip) = &mut self.gzip {
            // Writing to memory does not fail.
            gzip.write_all(self.out.as_bytes()).ok();
            self.out.clear();
        }
        self.turned = self.out.len();
        thread::yield_now();
    }

    /// A bucket's upper bound as the value of `le`. OpenMetrics has one spelling for each number.
    pub(super) fn bound(&self, bound: f64) -> String {
        let mut text = String::new();
        write_number(&mut text, bound);
        let whole = text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'-');
        if whole && self.format == Format::OpenMetrics {
            text.push_str(".0");
        }
        text
    }

    /// The whole text.
    ///
    /// # Errors
    /// It cannot be compressed.
    pub(super) fn finish(mut self) -> io::Result<Vec<u8>> {
        if self.format == Format::OpenMetrics {
            self.out.push_str("# EOF\n");
        }
        match self.gzip {
            Some(mut gzip) => {
                gzip.write_all(self.out.as_bytes())?;
                gzip.finish()
            }
            None => Ok(self.out.into_bytes()),
        }
    }

    fn words<const N: usize>(&mut self, words: [&str; N]) {
        words.iter().for_each(|word| self.out.push_str(word));
    }
}

/// A number as both formats read it: whole ones without a fraction, others in the shortest form that
/// is read back as the same.
fn write_number(out: &mut String, value: f64) {
    // Beyond this a double holds no fraction, and writing all digits helps nobody.
    const MOST_DIGITS: f64 = 1e15;
    if value.is_nan() {
        out.push_str("NaN");
    } else if value.is_infinite() {
        out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    } else if value.fract() == 0.0 && value.abs() < MOST_DIGITS {
        // Writing to a String does not fail, here and below.
        write!(out, "{}", value as i64).ok();
    } else {
        write!(out, "{value:?}").ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_read_back_as_they_were() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "0"),
            (1.0, "1"),
            (-3.0, "-3"),
            (0.1, "0.1"),
            (1e300, "1e300"),
            (1e15, "1000000000000000.0"),
            (5e-324, "5e-324"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            let mut text = String::new();
            write_number(&mut text, value);
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn counters_are_named_as_each_format_wants() {
        for (format, expected) in [
            (
                Format::Text,
                "# HELP a_total A \\\\ \"b\"\\n.\n# TYPE a_total counter\na_total{x=\"y\"} 1\n",
            ),
            (
                Format::OpenMetrics,
                "# HELP a A \\\\ \\\"b\\\"\\n.\n# TYPE a counter\na_total{x=\"y\"} 1\n# EOF\n",
            ),
        ] {
            let mut writer = Writer::new(format, false);
            writer.family("a_total", "A \\ \"b\"\n.", Kind::Counter);
            writer.sample("a_total", "", "x=\"y\"", 1.0);
            let text = writer.finish().expect("memory");
            assert_eq!(String::from_utf8_lossy(&text), expected);
        }
        assert_eq!(Writer::new(Format::Text, false).bound(1.0), "1");
        assert_eq!(Writer::new(Format::OpenMetrics, false).bound(1.0), "1.0");
        assert_eq!(Writer::new(Format::OpenMetrics, false).bound(0.25), "0.25");
        assert_eq!(
            Writer::new(Format::OpenMetrics, false).bound(f64::INFINITY),
            "+Inf"
        );
    }
}
