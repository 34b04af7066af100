use std::sync::Arc;

use minijinja::{Environment, UndefinedBehavior};

use crate::model::Labels;

/// Steps that rendering a service's name may take; a name needs a handful.
const TEMPLATE_FUEL: u64 = 10_000;
/// Longest service name that a template may yield, in bytes. Ingested names are shorter.
pub(super) const MAX_SERVICE_NAME: usize = 2048;

/// Which services a policy tells.
#[derive(Debug, Clone)]
pub enum Target {
    /// One, named from the alert's labels.
    Service(ServiceTemplate),
    /// All known members of the group of this name.
    Group(String),
    /// All that call the service which is named from the alert's labels. Who calls is asked when the alert
    /// fires and while it goes on; who has been added stays, because a caller that is degraded may well
    /// stop calling.
    CallersOf(ServiceTemplate),
}

impl Target {
    /// Whether it depends on who calls whom.
    pub(super) fn asks_who_calls(&self) -> bool {
        matches!(self, Self::CallersOf(_))
    }

    /// Whether further services may come to it while an alert goes on.
    pub(super) fn is_open(&self) -> bool {
        match self {
            Self::Service(_) => false,
            Self::Group(_) | Self::CallersOf(_) => true,
        }
    }
}

/// The name of a service: fixed text, or a template over an alert's labels as `{{ service }}`. A label
/// that the alert does not have is an error, so that no wrong service is told.
#[derive(Debug, Clone)]
pub struct ServiceTemplate {
    text: String,
    /// `None`: the text is the name.
    environment: Option<Arc<Environment<'static>>>,
}

impl ServiceTemplate {
    /// Reads a template.
    ///
    /// # Errors
    /// It is empty, or not a template: says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Err("the service's name is empty".into());
        }
        let is_template = ["{{", "{%", "{#"].iter().any(|open| text.contains(open));
        let environment = if is_template {
            let mut environment = Environment::new();
            environment.set_undefined_behavior(UndefinedBehavior::Strict);
            environment.set_fuel(Some(TEMPLATE_FUEL));
            environment
                .template_from_str(text)
                .map_err(|error| error.to_string())?;
            Some(Arc::new(environment))
        } else {
            None
        };
        Ok(Self {
            text: text.into(),
            environment,
        })
    }

    /// The text as it was read.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The service that an alert with `labels` is about. The labels' values are never templates.
    pub(super) fn render(&self, labels: &Labels) -> Result<String, String> {
        let name = match &self.environment {
            None => self.text.clone(),
            Some(environment) => environment
                .render_str(&self.text, &labels.0)
                .map_err(|error| error.to_string())?,
        };
        match name.trim() {
            "" => Err("the service's name is empty".into()),
            name if name.len() > MAX_SERVICE_NAME => {
                Err(format!("the service's name has {} bytes", name.len()))
            }
            name => Ok(name.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(template: &str, expected: Result<&str, &str>) {
        let labels: Labels = [("service", "cart"), ("evil", "{{ service }}")]
            .into_iter()
            .collect();
        let rendered = ServiceTemplate::parse(template).and_then(|t| t.render(&labels));
        match (rendered, expected) {
            (Ok(name), Ok(expected)) => assert_eq!(name, expected, "{template}"),
            (Err(error), Err(part)) => assert!(error.contains(part), "{template}: {error}"),
            (rendered, _) => panic!("{template}: {rendered:?}"),
        }
    }

    #[test]
    fn a_service_is_named_by_text_or_by_labels() {
        check("checkout", Ok("checkout"));
        check("{{ service }}", Ok("cart"));
        check("{{ service }}-gateway", Ok("cart-gateway"));
        check("{{ evil }}", Ok("{{ service }}"));
        check("{{ nothing }}", Err("undefined"));
        check("{{ service", Err("syntax error"));
        check(" ", Err("empty"));
        check("{% if false %}x{% endif %}", Err("empty"));
        check(
            "{% for i in range(100000) %}{{ service }}{% endfor %}",
            Err("fuel"),
        );
    }
}
