use crate::expose::params::Params;
use crate::expose::state::State;
use crate::model::{Alert, AlertState, MatchOp, Matcher, Selector};
use std::sync::Arc;

use super::Error;

/// Most conditions in one request.
const MAX_FILTERS: usize = 64;

/// Which alerts a request asks for.
#[derive(Debug)]
pub(super) struct Filter {
    /// All of them must hold.
    labels: Vec<Selector>,
    receiver: Option<Matcher>,
    /// Whether active alerts are wanted; there are no others.
    active: bool,
}

impl Filter {
    pub(super) fn from_params(params: &Params) -> Result<Self, Error> {
        let filters: Vec<_> = params.all("filter").take(MAX_FILTERS + 1).collect();
        if filters.len() > MAX_FILTERS {
            let message = format!("more than {MAX_FILTERS} parameters `filter`");
            return Err(Error(http::StatusCode::BAD_REQUEST, message));
        }
        // Read only to refuse nonsense: nothing is ever silenced, inhibited or unprocessed here.
        for state in ["silenced", "inhibited", "unprocessed"] {
            params.flag(state, true)?;
        }
        let receiver = params.get("receiver").filter(|text| !text.is_empty());
        Ok(Self {
            labels: filters.into_iter().map(matcher).collect::<Result<_, _>>()?,
            receiver: receiver
                .map(|text| Matcher::new("receiver", MatchOp::Regex, text).map_err(bad))
                .transpose()?,
            active: params.flag("active", true)?,
        })
    }

    /// The firing alerts that are meant, by fingerprint.
    pub(super) fn apply(&self, state: &State) -> Vec<Arc<Alert>> {
        let receiver = &state.settings.routing.receiver;
        let received = self
            .receiver
            .as_ref()
            .is_none_or(|wanted| wanted.matches(receiver));
        if !self.active || !received {
            return Vec::new();
        }
        let mut alerts: Vec<_> = state
            .board
            .alerts()
            .iter()
            .filter(|alert| alert.state == AlertState::Firing)
            .filter(|alert| {
                self.labels
                    .iter()
                    .all(|filter| filter.matches(&alert.labels))
            })
            .cloned()
            .collect();
        alerts.sort_by_key(|alert| alert.fingerprint);
        alerts
    }
}

fn bad(message: String) -> Error {
    Error(
        http::StatusCode::BAD_REQUEST,
        format!("bad matcher format: {message}"),
    )
}

/// One condition. Alertmanager takes any text without quotes as the value, so what is no selector is
/// read that way.
fn matcher(text: &str) -> Result<Selector, Error> {
    let error = match Selector::parse(text) {
        Ok(selector) if !selector.matchers().is_empty() => return Ok(selector),
        Ok(_) => return Err(bad("it is empty".into())),
        Err(error) => error,
    };
    let at = text.find(['=', '!']);
    let bare = at
        .and_then(|at| text.split_at_checked(at))
        .and_then(|(name, rest)| {
            let (op, value) = [
                ("=~", MatchOp::Regex),
                ("!~", MatchOp::NotRegex),
                ("!=", MatchOp::NotEqual),
                ("=", MatchOp::Equal),
            ]
            .into_iter()
            .find_map(|(sign, op)| Some((op, rest.strip_prefix(sign)?)))?;
            let (name, value) = (name.trim(), value.trim());
            let named =
                !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            let quoted = value.starts_with(['"', '\'', '`', '{']);
            (named && !quoted && text.len() <= 4096).then(|| Matcher::new(name, op, value))
        });
    match bare {
        Some(matcher) => matcher
            .map(|matcher| Selector::new(vec![matcher]))
            .map_err(bad),
        None => Err(bad(error.to_string())),
    }
}
