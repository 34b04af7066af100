use axum::extract;
use axum::response::Response;
use serde::Serialize;
use serde_json::Value;

use crate::expose::AuditQuery;
use crate::expose::answer::{ApiError, success_page};
use crate::expose::params::Params;
use crate::expose::state::State;
use crate::model::{Event, Timestamp};

/// The kinds of entries that there are, by the names of their events.
const TYPES: [&str; 6] = [
    "mode",
    "freeze",
    "proposal",
    "acknowledged",
    "episode",
    "plan",
];

/// An entry as it is shown: number, time, kind, and then what the event says.
#[derive(Serialize)]
struct Entry<'a> {
    sequence: u64,
    time: Timestamp,
    r#type: &'a str,
    data: Value,
}

/// Everything that was decided about modes, the newest first.
pub(super) async fn list(
    extract::State(state): extract::State<State>,
    params: Params,
) -> Result<Response, ApiError> {
    let cursor = params.get("cursor").filter(|text| !text.is_empty());
    let before = cursor
        .map(|text| {
            let wrong = "invalid parameter `cursor`: expected the `next` of an earlier answer";
            text.parse().map_err(|_| ApiError::bad_data(wrong))
        })
        .transpose()?;
    let types: Vec<String> = params
        .all("type")
        .flat_map(|text| text.split(','))
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
        .collect();
    if let Some(unknown) = types.iter().find(|name| !TYPES.contains(&name.as_str())) {
        let shown: String = unknown.chars().take(64).collect();
        return Err(ApiError::bad_data(format!(
            "invalid parameter `type`: `{shown}` is none of {}",
            TYPES.join(", ")
        )));
    }
    let service = params.get("service").filter(|text| !text.is_empty());
    let query = AuditQuery {
        service: service.map(str::to_owned),
        types,
        from: params.time("from")?,
        to: params.time("to")?,
        before,
        limit: params.limit(state.settings.page_default, state.settings.page_limit)?,
    };
    let page = state.audit.page(query).await;
    let page = page.map_err(|error| ApiError::unavailable(format!("the audit: {error}")))?;
    let entries: Vec<Entry<'_>> = page.events.iter().map(entry).collect();
    let next = page.next.map(|next| next.to_string());
    Ok(success_page(entries, next))
}

fn entry(event: &Event) -> Entry<'_> {
    // Plain data of our own, which always has a JSON form.
    let mut data = serde_json::to_value(&event.body).unwrap_or_default();
    if let Value::Object(fields) = &mut data {
        fields.remove("type");
    }
    Entry {
        sequence: event.sequence,
        time: event.time,
        r#type: event.name(),
        data,
    }
}
