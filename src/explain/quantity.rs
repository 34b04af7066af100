//! Numbers for people: three significant digits and a unit that fits the size.

/// How values of a signal are written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Style<'a> {
    /// A time; so many seconds are one of its unit.
    Time(f64),
    /// A size; so many bytes are one of its unit.
    Bytes(f64),
    /// A share: 0.042 is 4.2 %.
    Share,
    /// What stands behind the number as it is.
    Plain(&'a str),
    /// So much a second; the text is what of.
    PerSecond(&'a str),
}

impl<'a> Style<'a> {
    /// The style for a unit in UCUM, as OpenTelemetry writes them.
    pub(super) fn of(unit: &'a str) -> Self {
        match unit {
            "s" => Self::Time(1.0),
            "ms" => Self::Time(1e-3),
            "us" | "µs" => Self::Time(1e-6),
            "ns" => Self::Time(1e-9),
            "min" => Self::Time(60.0),
            "h" => Self::Time(3_600.0),
            "d" => Self::Time(86_400.0),
            "By" | "B" | "bytes" => Self::Bytes(1.0),
            "kBy" => Self::Bytes(1e3),
            "MBy" => Self::Bytes(1e6),
            "GBy" => Self::Bytes(1e9),
            "KiBy" => Self::Bytes(1024.0),
            "MiBy" => Self::Bytes(1024.0 * 1024.0),
            "GiBy" => Self::Bytes(1024.0 * 1024.0 * 1024.0),
            "1" => Self::Plain(""),
            _ => match unit.strip_suffix("/s") {
                Some(what) => Self::PerSecond(noun(what)),
                None => Self::Plain(noun(unit)),
            },
        }
    }

    /// The style for the values of one signal. A dimensionless value is a share if it is an error
    /// ratio, or if all of `values` lie within -1 and 1 (utilisations do, counts mostly do not).
    pub(super) fn of_signal(signal: &str, unit: &'a str, values: &[f64]) -> Self {
        let within = || values.iter().all(|value| value.abs() <= 1.0);
        if signal == "error_ratio" || unit == "1" && within() {
            Self::Share
        } else {
            Self::of(unit)
        }
    }

    /// One value: `312 ms`, `4.2 %`, `12.5/s`.
    pub(super) fn value(self, value: f64) -> String {
        let (number, suffix) = self.parts(value);
        number + &suffix
    }

    /// A band: `90 to 160 ms`, `at least 90 ms`, `at most 160 ms`; `None` when it is open at both ends.
    pub(super) fn range(self, lower: f64, upper: f64) -> Option<String> {
        match (lower.is_finite(), upper.is_finite()) {
            (false, false) => None,
            (true, false) => Some(format!("at least {}", self.value(lower))),
            (false, true) => Some(format!("at most {}", self.value(upper))),
            (true, true) => {
                let ((from, unit), (to, of)) = (self.parts(lower), self.parts(upper));
                if (&from, &unit) == (&to, &of) {
                    return Some(from + &unit);
                }
                // A zero has every unit.
                let same = unit == of || from == "0";
                let unit = if same { String::new() } else { unit };
                Some(format!("{from}{unit} to {to}{of}"))
            }
        }
    }

    /// The number and what stands behind it, with the space between.
    fn parts(self, value: f64) -> (String, String) {
        match self {
            Self::Time(seconds) => scaled(value * seconds, &TIMES),
            Self::Bytes(bytes) => scaled(value * bytes, &SIZES),
            Self::Share => {
                let share = if value.abs() < LEAST_SHARE {
                    0.0
                } else {
                    value
                };
                (plain(share * 100.0), " %".into())
            }
            Self::Plain("") => (plain(value), String::new()),
            Self::Plain(unit) => (plain(value), format!(" {unit}")),
            Self::PerSecond("" | "1") => (plain(value), "/s".into()),
            Self::PerSecond(what) => match Self::of(what) {
                bytes @ Self::Bytes(_) => {
                    let (number, suffix) = bytes.parts(value);
                    (number, suffix + "/s")
                }
                _ => (plain(value), format!(" {what}/s")),
            },
        }
    }
}

/// A smaller share of anything is none: one in ten million.
const LEAST_SHARE: f64 = 1e-7;

/// The sigma beyond which the tail of a normal distribution is less than the smallest double: a larger
/// number says no more, and is not believed.
const MOST_SIGMA: f64 = 38.0;

/// A sigma in a sentence: `6.1`, or `more than 38`.
pub(super) fn spoken_sigma(size: f64) -> String {
    if size.abs() > MOST_SIGMA {
        format!("more than {MOST_SIGMA}")
    } else {
        sigma(size)
    }
}

/// A sigma: its size with one decimal, without decimals from 100.
pub(super) fn sigma(sigma: f64) -> String {
    let size = sigma.abs();
    if size < 99.95 {
        format!("{size:.1}")
    } else {
        format!("{size:.0}")
    }
}

/// Up to which size (exclusive), in which part of the base unit, called how.
type Scale = [(f64, f64, &'static str)];

const TIMES: [(f64, f64, &str); 7] = [
    (1e-6, 1e-9, "ns"),
    (1e-3, 1e-6, "µs"),
    (1.0, 1e-3, "ms"),
    (120.0, 1.0, "s"),
    (7_200.0, 60.0, "min"),
    (172_800.0, 3_600.0, "h"),
    (f64::INFINITY, 86_400.0, "d"),
];

const SIZES: [(f64, f64, &str); 5] = [
    (1024.0, 1.0, "B"),
    (1_048_576.0, 1024.0, "KiB"),
    (1_073_741_824.0, 1_048_576.0, "MiB"),
    (1_099_511_627_776.0, 1_073_741_824.0, "GiB"),
    (f64::INFINITY, 1_099_511_627_776.0, "TiB"),
];

fn scaled(value: f64, scale: &Scale) -> (String, String) {
    // Rounding comes first: 0.9996 s is 1 s, not 1000 ms.
    let value = three_digits(value);
    let base = || scale.iter().find(|(_, part, _)| *part == 1.0);
    let fits = || scale.iter().find(|(below, _, _)| value.abs() < *below);
    let found = if value == 0.0 || !value.is_finite() {
        base()
    } else {
        fits()
    };
    match found.or(scale.last()) {
        Some((_, part, name)) => (plain(value / part), format!(" {name}")),
        None => (plain(value), String::new()),
    }
}

fn three_digits(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return if value == 0.0 { 0.0 } else { value };
    }
    // Printing rounds exactly where a multiplication would not.
    format!("{value:.2e}").parse().unwrap_or(value)
}

/// A number without a unit: `0.042`, `12.5`, `12,300`, `4.56M`, `1.2e-7`.
fn plain(value: f64) -> String {
    if !value.is_finite() {
        return value.to_string();
    }
    let value = three_digits(value);
    let size = value.abs();
    if size == 0.0 {
        return "0".into();
    }
    let trimmed = |value: f64, decimals: usize| {
        let text = format!("{value:.decimals$}");
        match text.contains('.') {
            true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
            false => text,
        }
    };
    match size {
        _ if !(1e-4..1e15).contains(&size) => format!("{value:e}"),
        _ if size < 1.0 => trimmed(value, 6),
        _ if size < 1e3 => trimmed(value, 2),
        _ if size < 1e6 => {
            let digits = format!("{:.0}", size);
            let (thousands, rest) = digits.split_at(digits.len().saturating_sub(3));
            format!("{}{thousands},{rest}", if value < 0.0 { "-" } else { "" })
        }
        _ if size < 1e9 => trimmed(value / 1e6, 2) + "M",
        _ if size < 1e12 => trimmed(value / 1e9, 2) + "G",
        _ => trimmed(value / 1e12, 2) + "T",
    }
}

/// `{request}` in UCUM is a remark about what is counted.
fn noun(unit: &str) -> &str {
    unit.strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'))
        .unwrap_or(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: f64, unit: &str, expected: &str) {
        assert_eq!(Style::of(unit).value(value), expected, "{value} {unit}");
    }

    #[test]
    fn values_have_a_unit_that_fits() {
        check(0.3123, "s", "312 ms");
        check(0.9996, "s", "1 s");
        check(0.0, "s", "0 s");
        check(-0.09, "s", "-90 ms");
        check(1.5, "s", "1.5 s");
        check(150.0, "s", "2.5 min");
        check(10_000.0, "s", "2.78 h");
        check(1e6, "s", "11.6 d");
        check(1.5e-5, "s", "15 µs");
        check(2e-12, "s", "0.002 ns");
        check(1500.0, "ms", "1.5 s");
        check(1536.0, "By", "1.5 KiB");
        check(3e9, "By", "2.79 GiB");
        check(12.5, "1/s", "12.5/s");
        check(1536.0, "By/s", "1.5 KiB/s");
        check(12.0, "{request}/s", "12 request/s");
        check(12_345.0, "1", "12,300");
        check(-12_345.0, "", "-12,300");
        check(4_560_000.0, "{item}", "4.56M item");
        check(0.000_042, "", "4.2e-5");
        check(45.0, "%", "45 %");
        check(1e300, "", "1e300");
        check(f64::INFINITY, "", "inf");
        check(f64::NAN, "s", "NaN s");
    }

    #[test]
    fn shares_are_percentages() {
        let check = |signal, value: f64, expected: &str| {
            assert_eq!(
                Style::of_signal(signal, "1", &[value]).value(value),
                expected
            );
        };
        check("error_ratio", 0.042, "4.2 %");
        check("value", 0.5, "50 %");
        check("value", 523.0, "523");
        check("error_ratio", 1e-6, "0.0001 %");
        check("error_ratio", -5.99e-10, "0 %");
        let band = |lower, upper| Style::Share.range(lower, upper);
        assert_eq!(band(0.0, 5.04e-10).as_deref(), Some("0 %"));
    }

    #[test]
    fn bands_name_the_unit_once_where_it_is_the_same() {
        let check = |lower, upper, expected: Option<&str>| {
            assert_eq!(Style::of("s").range(lower, upper).as_deref(), expected);
        };
        check(0.09, 0.16, Some("90 to 160 ms"));
        check(0.0, 0.16, Some("0 to 160 ms"));
        check(0.9, 1.6, Some("900 ms to 1.6 s"));
        check(f64::NEG_INFINITY, 1.6, Some("at most 1.6 s"));
        check(0.9, f64::INFINITY, Some("at least 900 ms"));
        check(f64::NEG_INFINITY, f64::INFINITY, None);
    }
}
