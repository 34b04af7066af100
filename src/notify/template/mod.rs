//! The texts of receivers: templates (minijinja) over a notification.
//!
//! In: what the configuration says, and files of templates. Out: text for one target, in which every
//! value is written so that it stays a value there: a label is never markup, a link or JSON.
//!
//! Always holds: rendering ends (fuel, depth, length); a template that fails at run time is replaced by
//! the built-in text, counted (`tidewatch_template_errors_total`) and said in the log; a label or
//! annotation that an alert does not have is empty, any other unknown name is a mistake.
//!
//! The way: [`Templates`] compiles, [`Text`] is one text of an integration, `view` is what texts see of
//! one message, `words` what Tidewatch says where nobody wrote a template.

mod check;
mod filters;
mod labels;
#[cfg(test)]
mod tests;
mod time;
mod view;
pub(super) mod words;

pub use check::check_text;
pub(super) use view::View;

use std::fmt::{self, Write as _};
use std::io;
use std::sync::{Arc, LazyLock};

use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};

/// Longest rendered text, in bytes. A mail about a hundred alerts is a third of it.
const MAX_RENDERED_BYTES: usize = 512 * 1024;
/// Instructions that one rendering may take: some hundred for each of a hundred alerts.
const FUEL: u64 = 500_000;
/// How deep templates may nest.
const RECURSION: usize = 32;

/// Where a text goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// A line.
    Line,
    /// Text of several lines.
    Plain,
    /// HTML.
    Html,
    /// A line in Slack's markup.
    SlackLine,
    /// Slack's markup.
    Slack,
    /// A line in Markdown.
    MarkdownLine,
    /// Markdown.
    Markdown,
    /// JSON: values are written as JSON.
    Json,
}

impl Target {
    fn is_line(self) -> bool {
        match self {
            Self::Line | Self::SlackLine | Self::MarkdownLine => true,
            Self::Plain | Self::Html | Self::Slack | Self::Markdown | Self::Json => false,
        }
    }

    fn escape(self) -> Escape {
        match self {
            Self::Line | Self::Plain => Escape::None,
            Self::Html => Escape::Html,
            Self::SlackLine | Self::Slack => Escape::Slack,
            Self::MarkdownLine | Self::Markdown => Escape::Markdown,
            Self::Json => Escape::Json,
        }
    }
}

/// How values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escape {
    None,
    Html,
    Slack,
    Markdown,
    Json,
}

/// All ways, in the order of their numbers.
const ESCAPES: [Escape; 5] = [
    Escape::None,
    Escape::Html,
    Escape::Slack,
    Escape::Markdown,
    Escape::Json,
];

/// The files of templates that texts may include and import, ready for every target. Cheap to clone.
#[derive(Clone)]
pub struct Templates(Arc<[Environment<'static>; ESCAPES.len()]>);

impl fmt::Debug for Templates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Templates")
    }
}

/// Without files.
static BUILT_IN: LazyLock<Templates> =
    LazyLock::new(|| Templates(Arc::new(ESCAPES.map(environment))));

impl Templates {
    /// Those of `files`, as pairs of name and text.
    ///
    /// # Errors
    /// A file is no template: says which and why.
    pub fn new<'f>(
        files: impl IntoIterator<Item = (&'f str, &'f str)> + Clone,
    ) -> Result<Self, String> {
        let mut environments = ESCAPES.map(environment);
        for environment in &mut environments {
            for (name, text) in files.clone() {
                environment
                    .add_template_owned(name.to_owned(), text.to_owned())
                    .map_err(|error| format!("`{name}`: {}", check::describe(&error)))?;
            }
        }
        Ok(Self(Arc::new(environments)))
    }

    fn environment(&self, escape: Escape) -> &Environment<'static> {
        &self.0[escape as usize]
    }

    /// A text that goes to `target`.
    ///
    /// # Errors
    /// It is no template: says why.
    pub fn text(&self, target: Target, source: &str) -> Result<Text, String> {
        let is_template = is_template(source);
        if is_template {
            self.environment(target.escape())
                .template_from_str(source)
                .map_err(|error| check::describe(&error))?;
        }
        Ok(Text {
            source: source.into(),
            is_template,
            target,
            templates: self.clone(),
        })
    }
}

impl Default for Templates {
    /// No files.
    fn default() -> Self {
        BUILT_IN.clone()
    }
}

/// A text of an integration: as it stands, or a template.
#[derive(Debug, Clone)]
pub struct Text {
    source: Arc<str>,
    is_template: bool,
    target: Target,
    templates: Templates,
}

impl Text {
    /// The text with what `context` holds.
    fn render(&self, context: &Value) -> Result<String, minijinja::Error> {
        if !self.is_template {
            return Ok(self.finish(&self.source));
        }
        let environment = self.templates.environment(self.target.escape());
        let template = environment.template_from_str(&self.source)?;
        let mut output = Limited::default();
        let done = template.render_captured_to(context.clone(), &mut output);
        if let Err(error) = done
            // Of text the beginning is better than nothing; half a document is broken.
            && (!output.full || matches!(self.target, Target::Json | Target::Html))
        {
            return Err(error);
        }
        Ok(self.finish(&output.text()))
    }

    /// The value of a text that is one single expression, which may be of any type; else the text.
    fn value(&self, context: &Value) -> Result<serde_json::Value, minijinja::Error> {
        let environment = self.templates.environment(Escape::None);
        let expression = self.expression().map(|e| environment.compile_expression(e));
        match expression {
            Some(Ok(expression)) => {
                let value = expression.eval(context.clone())?;
                if value.is_undefined() {
                    return Err(minijinja::ErrorKind::UndefinedError.into());
                }
                serde_json::to_value(&value).map_err(|error| {
                    minijinja::Error::new(minijinja::ErrorKind::BadSerialization, error.to_string())
                })
            }
            Some(Err(_)) | None => self.render(context).map(Into::into),
        }
    }

    /// What stands between the braces, where that is all.
    fn expression(&self) -> Option<&str> {
        self.source.trim().strip_prefix("{{")?.strip_suffix("}}")
    }

    fn finish(&self, text: &str) -> String {
        match self.target.is_line() {
            true => one_line(text),
            false => text.to_owned(),
        }
    }
}

/// `text` on one line, without characters that could pretend to be more.
pub(super) fn one_line(text: &str) -> String {
    let plain = text.trim().chars();
    plain
        .map(
            |c| match c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') {
                true => ' ',
                false => c,
            },
        )
        .collect()
}

fn is_template(text: &str) -> bool {
    ["{{", "{%", "{#"].iter().any(|open| text.contains(open))
}

fn environment(escape: Escape) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
    environment.set_fuel(Some(FUEL));
    // So that an error says what it is about.
    environment.set_debug(true);
    environment.set_recursion_limit(RECURSION);
    // By target, whatever a file is called: a macro from `texts.html` is text in a mail's text.
    environment.set_auto_escape_callback(move |_| match escape {
        Escape::None => AutoEscape::None,
        Escape::Html => AutoEscape::Html,
        Escape::Slack => AutoEscape::Custom("slack".into()),
        Escape::Markdown => AutoEscape::Custom("markdown".into()),
        Escape::Json => AutoEscape::Json,
    });
    environment.set_formatter(move |out, state, value| {
        let special: fn(char) -> Option<&'static str> = match escape {
            Escape::Slack => slack,
            Escape::Markdown => markdown,
            Escape::None | Escape::Html | Escape::Json => {
                return minijinja::escape_formatter(out, state, value);
            }
        };
        let text = value.to_string();
        if value.is_safe() {
            return Ok(out.write_str(&text)?);
        }
        for c in text.chars() {
            match special(c) {
                Some(escaped) => out.write_str(escaped)?,
                None => out.write_char(c)?,
            }
        }
        Ok(())
    });
    filters::add(&mut environment);
    environment
}

/// Slack's three characters of control:
/// <https://docs.slack.dev/messaging/formatting-message-text#escaping>.
fn slack(c: char) -> Option<&'static str> {
    match c {
        '&' => Some("&amp;"),
        '<' => Some("&lt;"),
        '>' => Some("&gt;"),
        _ => None,
    }
}

/// What makes links, images, HTML, emphasis and code. An underscore within a word does not.
fn markdown(c: char) -> Option<&'static str> {
    match c {
        '\\' => Some("\\\\"),
        '[' => Some("\\["),
        ']' => Some("\\]"),
        '*' => Some("\\*"),
        '`' => Some("\\`"),
        '<' => Some("&lt;"),
        _ => None,
    }
}

/// Takes [`MAX_RENDERED_BYTES`] and then fails, which ends the rendering.
#[derive(Default)]
struct Limited {
    bytes: Vec<u8>,
    full: bool,
}

impl Limited {
    fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.bytes);
        // A character that the limit cut in two is left out.
        text.trim_end_matches(char::REPLACEMENT_CHARACTER)
            .to_owned()
    }
}

impl io::Write for Limited {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let room = MAX_RENDERED_BYTES.saturating_sub(self.bytes.len());
        let taken = text.len().min(room);
        self.bytes.extend(text.iter().take(taken));
        if taken < text.len() {
            self.full = true;
            return Err(io::Error::other("the text is too long"));
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
