use serde_json::{Map, Value};

use super::{ErrorCode, Failure};

/// The attribute of the context that names the service, by OpenTelemetry's convention.
const SERVICE_NAME: &str = "service.name";
/// Its short form.
const SERVICE: &str = "service";
/// The protocol's own: whom the flags are for. Where the others are missing it is the service.
const TARGETING_KEY: &str = "targetingKey";
/// Longest name of a service, in bytes; no known service has a longer one.
const MAX_SERVICE: usize = 2_048;

/// The service that flags are asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Subject(pub(super) String);

/// Reads the body of a request: `{"context": {…}}`.
pub(super) fn read(body: &[u8]) -> Result<Subject, Failure> {
    let body: Value = serde_json::from_slice(body)
        .map_err(|error| Failure::new(ErrorCode::ParseError, format!("no JSON: {error}")))?;
    match body.get("context") {
        Some(Value::Object(context)) => subject(context),
        Some(_) => Err(invalid("`context` is no object")),
        None => Err(invalid("there is no `context`")),
    }
}

fn invalid(details: impl Into<String>) -> Failure {
    Failure::new(ErrorCode::InvalidContext, details)
}

/// What is not null, which is how some SDKs send what is not set.
fn set(value: Option<&Value>) -> Option<&Value> {
    value.filter(|value| !value.is_null())
}

fn subject(context: &Map<String, Value>) -> Result<Subject, Failure> {
    // `{"service": {"name": …}}` is how some SDKs send attributes with a dot.
    let nested = match set(context.get(SERVICE)) {
        Some(Value::Object(service)) => set(service.get("name")).map(|name| (SERVICE_NAME, name)),
        Some(name) => Some((SERVICE, name)),
        None => None,
    };
    let named = set(context.get(SERVICE_NAME)).map(|name| (SERVICE_NAME, name));
    let key = set(context.get(TARGETING_KEY)).map(|name| (TARGETING_KEY, name));
    let Some((attribute, name)) = named.or(nested).or(key) else {
        return Err(Failure::new(
            ErrorCode::TargetingKeyMissing,
            format!(
                "the context names no service; set `{SERVICE_NAME}`, `{SERVICE}` or `{TARGETING_KEY}` \
                 to the service's name"
            ),
        ));
    };
    match name {
        Value::String(name) if name.is_empty() => Err(invalid(format!("`{attribute}` is empty"))),
        Value::String(name) if name.len() > MAX_SERVICE => Err(invalid(format!(
            "`{attribute}` is longer than {MAX_SERVICE} bytes"
        ))),
        Value::String(name) => Ok(Subject(name.clone())),
        _ => Err(invalid(format!("`{attribute}` is no string"))),
    }
}
