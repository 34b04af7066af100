//! Filters that texts have beside those of minijinja.

use minijinja::{Environment, Error, ErrorKind, Value};

use super::time::date;

/// Longest pattern of `regex_replace`.
const MAX_PATTERN: usize = 1000;

pub(super) fn add(environment: &mut Environment<'static>) {
    environment.add_filter(
        "date",
        |value: Value, format: Option<&str>, zone: Option<&str>| date(&value, format, zone),
    );
    environment.add_filter("duration", duration);
    environment.add_filter("default", default);
    environment.add_filter("d", default);
    environment.add_filter("regex_replace", regex_replace);
}

/// A number of seconds as `1h 5m`: the two largest units.
fn duration(seconds: f64) -> String {
    const UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)];
    // Negative and NaN become 0, what is too large the largest.
    let mut rest = seconds.round() as u64;
    let mut parts = Vec::new();
    for (unit, size) in UNITS {
        let count = rest / size;
        rest %= size;
        if count > 0 {
            parts.push(format!("{count}{unit}"));
        } else if !parts.is_empty() {
            break;
        }
    }
    match parts.is_empty() {
        true => "0s".into(),
        false => parts
            .iter()
            .take(2)
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(" "),
    }
}

/// `other` in place of what is undefined or an empty text: a label that is not there is empty.
fn default(value: Value, other: Option<Value>, falsy: Option<bool>) -> Value {
    let is_missing = value.is_undefined()
        || value.is_none()
        || value.as_str() == Some("")
        || (falsy == Some(true) && !value.is_true());
    match is_missing {
        true => other.unwrap_or_else(|| "".into()),
        false => value,
    }
}

/// What matches `pattern` replaced by `replacement`, in which `$1` is the first group.
fn regex_replace(text: &str, pattern: &str, replacement: &str) -> Result<String, Error> {
    let wrong = |what: String| Error::new(ErrorKind::InvalidOperation, what);
    if pattern.len() > MAX_PATTERN {
        return Err(wrong(format!("a pattern longer than {MAX_PATTERN} bytes")));
    }
    let pattern = regex::RegexBuilder::new(pattern)
        .size_limit(1 << 20)
        .build()
        .map_err(|error| wrong(format!("bad regular expression: {error}")))?;
    Ok(pattern.replace_all(text, replacement).into_owned())
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn durations_have_two_units() {
        for (seconds, expected) in [
            (0.0, "0s"),
            (f64::NAN, "0s"),
            (-5.0, "0s"),
            (59.6, "1m"),
            (65.0, "1m 5s"),
            (3600.0, "1h"),
            (3605.0, "1h"),
            (90_061.0, "1d 1h"),
        ] {
            assert_eq!(duration(seconds), expected, "{seconds}");
        }
    }
}
