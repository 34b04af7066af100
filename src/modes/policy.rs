use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use minijinja::{Environment, UndefinedBehavior};

use crate::model::{Labels, Level, Levels, Selector};

/// Steps that rendering a service's name may take; a name needs a handful.
const TEMPLATE_FUEL: u64 = 10_000;
/// Longest service name that a template may yield, in bytes. Ingested names are shorter.
pub(super) const MAX_SERVICE_NAME: usize = 2048;

/// How services are degraded.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The names of the levels, from normal to worst.
    pub levels: Levels,
    /// How long an instruction holds for a service that hears nothing newer. Default 30 s.
    pub lease: Duration,
    /// Share of the known services, 0 to 1, that may be away from normal before automation stops taking
    /// more away. Always at least one service, but for 0: then automation takes none. Default 0.5.
    pub limit: f64,
    /// Which alerts ask for which level; names are unique. Default none.
    pub policies: Vec<Policy>,
    /// Most services that are known at once; further ones are left alone. Default 10,000.
    pub max_services: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            levels: Levels::default(),
            lease: Duration::from_secs(30),
            limit: 0.5,
            policies: Vec::new(),
            max_services: 10_000,
        }
    }
}

impl Settings {
    /// How many of `known` services may be away from normal.
    pub(super) fn allowed(&self, known: usize) -> usize {
        // NaN is not above 0 either, and so means none: the safe side.
        if self.limit.is_nan() || self.limit <= 0.0 {
            return 0;
        }
        // Without the small addition 29 % of 100 would be 28.
        let share = (self.limit.min(1.0) * known as f64 + 1e-9).floor() as usize;
        share.max(1)
    }

    /// The worst level there is.
    pub(super) fn worst(&self) -> Level {
        Level(u8::try_from(self.levels.names().len().saturating_sub(1)).unwrap_or(u8::MAX))
    }
}

/// Asks for a level while an alert fires.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Its name, different from all others'.
    pub name: String,
    /// Holds for the labels of the alerts that count.
    pub when: Selector,
    /// Which service is told, from the alert's labels.
    pub service: ServiceTemplate,
    /// The level that it asks for; normal asks for nothing.
    pub level: Level,
    /// Flags and values that services are told beside the level.
    pub features: BTreeMap<String, serde_json::Value>,
    /// A change is not taken back before this much time has passed.
    pub hold: Duration,
    /// Nothing may have asked for the level for this long before the service steps back.
    pub recover: Duration,
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

    #[test]
    fn the_limit_is_a_share_but_at_least_one() {
        for (limit, known, allowed) in [
            (0.5, 0, 1),
            (0.5, 1, 1),
            (0.5, 5, 2),
            (0.29, 100, 29),
            (1.0, 7, 7),
            (9.0, 7, 7),
            (0.0, 7, 0),
            (-1.0, 7, 0),
            (f64::NAN, 7, 0),
            (1e-9, 7, 1),
        ] {
            let settings = Settings {
                limit,
                ..Settings::default()
            };
            assert_eq!(settings.allowed(known), allowed, "{limit} of {known}");
        }
    }
}
