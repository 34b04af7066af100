//! The texts of a rule. They are templates (minijinja) over the numbers of an alert; what stands in
//! the numbers, labels and attributes is never read as a template.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;

use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind, UndefinedBehavior, Value};
use serde::Serialize;

use super::labels::{MAX_VALUE_CHARS, cut};
use crate::model::{Labels, Observation, Rule, SeverityLabel};

/// Longest rendered annotation, in bytes; what goes beyond is cut.
const MAX_RENDERED_BYTES: usize = 16 * 1024;
/// Instructions that one rendering may take, so that a loop in a template ends.
const FUEL: u64 = 50_000;
/// How deep templates may nest.
const RECURSION: usize = 32;

/// The texts of all rules, compiled once.
#[derive(Debug)]
pub(super) struct Texts {
    environment: Environment<'static>,
    rules: Vec<RuleTexts>,
}

#[derive(Debug, Default)]
struct RuleTexts {
    labels: Vec<(String, Text)>,
    annotations: Vec<(String, Text)>,
}

#[derive(Debug)]
enum Text {
    /// Nothing to replace, or a template that does not compile: shown as it stands.
    Plain(String),
    /// Under `name` in the environment.
    Template { name: String, raw: String },
}

impl Texts {
    pub(super) fn new(rules: &[Rule]) -> Self {
        let mut environment = environment();
        let mut compile = |at: usize, kind: &str, set: &Labels| -> Vec<(String, Text)> {
            let text = |(name, raw): (&str, &str)| {
                let id = format!("{at}/{kind}/{name}");
                let raw = raw.to_owned();
                let text = if is_template(&raw)
                    && environment
                        .add_template_owned(id.clone(), raw.clone())
                        .is_ok()
                {
                    Text::Template { name: id, raw }
                } else {
                    Text::Plain(raw)
                };
                (name.to_owned(), text)
            };
            set.iter().map(text).collect()
        };
        let rules = rules
            .iter()
            .enumerate()
            .map(|(at, rule)| RuleTexts {
                labels: compile(at, "label", &rule.labels),
                annotations: compile(at, "annotation", &rule.annotations),
            })
            .collect();
        Self { environment, rules }
    }

    /// The rule's labels for the episode that begins with `observation`; `labels` are those known so far.
    pub(super) fn labels(
        &self,
        observation: &Observation,
        severity: SeverityLabel,
        labels: &Labels,
    ) -> Vec<(&str, String)> {
        let texts = self.of(observation).map_or(&[][..], |rule| &rule.labels);
        self.render_all(texts, observation, severity, labels, MAX_VALUE_CHARS)
    }

    /// The rule's annotations with the numbers of `observation`.
    pub(super) fn annotations(
        &self,
        observation: &Observation,
        severity: SeverityLabel,
        labels: &Labels,
    ) -> Vec<(&str, String)> {
        let texts = self
            .of(observation)
            .map_or(&[][..], |rule| &rule.annotations);
        self.render_all(texts, observation, severity, labels, usize::MAX)
    }

    fn of(&self, observation: &Observation) -> Option<&RuleTexts> {
        self.rules.get(usize::try_from(observation.rule.0).ok()?)
    }

    fn render_all<'a>(
        &self,
        texts: &'a [(String, Text)],
        observation: &Observation,
        severity: SeverityLabel,
        labels: &Labels,
        max_chars: usize,
    ) -> Vec<(&'a str, String)> {
        // The context costs more than all plain texts together, so it is made only when one asks.
        let mut context = None;
        texts
            .iter()
            .map(|(name, text)| {
                let rendered = match text {
                    Text::Plain(raw) => raw.clone(),
                    Text::Template { name, raw } => {
                        let context = context.get_or_insert_with(|| {
                            Value::from(Serde(Context::new(observation, severity, labels)))
                        });
                        render(&self.environment, name, context).unwrap_or_else(|| raw.clone())
                    }
                };
                (name.as_str(), cut(&rendered, max_chars).to_owned())
            })
            .collect()
    }
}

/// What a template sees.
#[derive(Serialize)]
struct Context<'a> {
    service: &'a str,
    metric: &'a str,
    signal: Cow<'static, str>,
    value: f64,
    observed: f64,
    expected: f64,
    lower: f64,
    upper: f64,
    sigma: f64,
    unit: Cow<'a, str>,
    severity: &'static str,
    labels: &'a Labels,
    attributes: BTreeMap<&'a str, Cow<'a, str>>,
}

impl<'a> Context<'a> {
    fn new(observation: &'a Observation, severity: SeverityLabel, labels: &'a Labels) -> Self {
        let Observation {
            signal,
            sample,
            judged,
            ..
        } = observation;
        Self {
            service: signal.service(),
            metric: signal.metric(),
            signal: signal.id.kind.name(),
            value: sample.value,
            observed: sample.value,
            expected: judged.expected,
            lower: judged.lower,
            upper: judged.upper,
            sigma: judged.sigma,
            unit: signal.unit(),
            severity: severity.name(),
            labels,
            attributes: signal
                .attributes()
                .iter()
                .map(|(k, v)| (k, v.as_text()))
                .collect(),
        }
    }
}

/// Checks a template text of a rule: that it can be read, and that every filter, test and function in
/// it exists. Names it does not know are no mistake; they are empty where a signal has no such
/// attribute.
///
/// # Errors
/// Says what is wrong, and in which line of the text.
pub fn validate_template(text: &str) -> Result<(), String> {
    let environment = environment();
    let template = environment
        .template_from_str(text)
        .map_err(|e| describe(&e))?;
    let labels = Labels::default();
    let sample = Context {
        service: "checkout",
        metric: "latency",
        signal: "p99".into(),
        value: 2.0,
        observed: 2.0,
        expected: 1.0,
        lower: 0.5,
        upper: 1.5,
        sigma: 5.0,
        unit: "s".into(),
        severity: "warning",
        labels: &labels,
        attributes: BTreeMap::new(),
    };
    match template.render_captured_to(Value::from(Serde(&sample)), io::sink()) {
        Ok(_) => Ok(()),
        // Other failures may come from the sample's values alone.
        Err(error) => match error.kind() {
            ErrorKind::UnknownFilter
            | ErrorKind::UnknownTest
            | ErrorKind::UnknownFunction
            | ErrorKind::UnknownMethod
            | ErrorKind::TemplateNotFound
            | ErrorKind::BadInclude
            | ErrorKind::TooManyArguments
            | ErrorKind::MissingArgument
            | ErrorKind::OutOfFuel => Err(describe(&error)),
            _ => Ok(()),
        },
    }
}

fn describe(error: &minijinja::Error) -> String {
    let what = error
        .detail()
        .map_or_else(|| error.kind().to_string(), str::to_owned);
    match error.line() {
        Some(line) if line > 1 => format!("{what} (line {line} of the text)"),
        _ => what,
    }
}

fn is_template(text: &str) -> bool {
    ["{{", "{%", "{#"]
        .iter()
        .any(|opening| text.contains(opening))
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Chainable);
    // The texts go to terminals, logs and JSON; whoever shows them as HTML escapes them there.
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(RECURSION);
    environment
}

/// The rendered text, cut at [`MAX_RENDERED_BYTES`]; `None` when rendering fails.
fn render(environment: &Environment<'_>, name: &str, context: &Value) -> Option<String> {
    let mut output = Limited {
        bytes: Vec::new(),
        full: false,
    };
    let template = environment.get_template(name).ok()?;
    let done = template
        .render_captured_to(context.clone(), &mut output)
        .is_ok();
    (done || output.full).then(|| {
        let text = String::from_utf8_lossy(&output.bytes);
        // A character that the limit cut in two is left out.
        text.trim_end_matches(char::REPLACEMENT_CHARACTER)
            .to_owned()
    })
}

/// Takes [`MAX_RENDERED_BYTES`] and then fails, which ends the rendering.
struct Limited {
    bytes: Vec<u8>,
    full: bool,
}

impl io::Write for Limited {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let room = MAX_RENDERED_BYTES.saturating_sub(self.bytes.len());
        let taken = text.len().min(room);
        self.bytes.extend(text.iter().take(taken));
        if taken < text.len() {
            self.full = true;
            return Err(io::Error::other("the text is long enough"));
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::fixtures::{Feed, rule};

    #[track_caller]
    fn check(template: &str, expected: &str) {
        let mut rule = rule("Slow");
        rule.annotations.set("text", template);
        let mut feed = Feed::new();
        feed.attributes = vec![("http.route", "{{ 1 + 1 }}")];
        let observation = feed.critical(9.5);
        let labels: Labels = [("team", "payments")].into_iter().collect();
        let texts = Texts::new(&[rule]);
        let rendered = texts.annotations(&observation, SeverityLabel::Critical, &labels);
        assert_eq!(rendered, [("text", expected.to_owned())], "{template}");
    }

    #[test]
    fn texts_are_rendered_and_never_fail() {
        check("plain { text }", "plain { text }");
        check(
            "{{ service }} {{ metric }} {{ signal }}",
            "checkout latency p99",
        );
        check(
            "{{ value }} {{observed}} {{ expected }} {{ unit }}",
            "9.5 9.5 1.0 s",
        );
        check(
            "{{ lower }}..{{ upper }} {{ sigma }} {{ severity }}",
            "0.5..1.5 8.0 critical",
        );
        check("{{ labels.team }}", "payments");
        // Undefined is empty, and the text around it stays.
        check("a{{ nothing.at.all }}b", "ab");
        // What a client sends is text, whatever it looks like.
        check("{{ attributes['http.route'] }}", "{{ 1 + 1 }}");
        // Mistakes show the raw text.
        check("{{ $labels.service }}", "{{ $labels.service }}");
        check("{{ value | nonsense }}", "{{ value | nonsense }}");
        check(
            "{% for a in range(10000) %}{% for b in range(10000) %}{% endfor %}{% endfor %}",
            "{% for a in range(10000) %}{% for b in range(10000) %}{% endfor %}{% endfor %}",
        );
        check("{{ 'ü' * 10000 }}", &"ü".repeat(MAX_RENDERED_BYTES / 2));
    }

    #[test]
    fn mistakes_are_found_before_they_matter() {
        for good in [
            "",
            "plain",
            "{{ service }}",
            "{{ attributes['a.b'] | upper }}",
            "{{ x.y.z }}",
            "{% if sigma > 3 %}high{% endif %}",
            "{{ value | round(2) }}",
        ] {
            assert_eq!(validate_template(good), Ok(()), "{good}");
        }
        for (bad, says) in [
            ("{{ $labels.service }}", "unexpected character"),
            ("{{ service ", "end of"),
            ("{{ service | nonsense }}", "nonsense"),
            ("{{ humanize(value) }}", "humanize"),
            ("one\n{% if %}", "line 2"),
            ("{% include 'other' %}", "include"),
        ] {
            let error = validate_template(bad).expect_err(bad);
            assert!(error.contains(says), "{bad}: {error}");
        }
    }
}
