use super::alerts::Shown;
use super::error::Error;
use crate::expose::params::Params;
use crate::expose::state::State;
use crate::model::{AlertState, MatchOp, Matcher};

/// Most conditions in one request.
const MAX_FILTERS: usize = 64;

/// Which alerts a request asks for.
#[derive(Debug)]
pub(super) struct Filter {
    /// All of them must hold.
    labels: Vec<Matcher>,
    receiver: Option<Matcher>,
    /// Whether those are wanted that nothing mutes, that a silence does, that another alert does.
    active: bool,
    silenced: bool,
    inhibited: bool,
}

impl Filter {
    pub(super) fn from_params(params: &Params) -> Result<Self, Error> {
        let receiver = params.get("receiver").filter(|text| !text.is_empty());
        let receiver = receiver.map(|text| {
            let matcher = Matcher::of_alertmanager("receiver", MatchOp::Regex, text);
            matcher.map_err(|error| {
                Error::bad_request(format!("failed to parse receiver param: {error}"))
            })
        });
        Ok(Self {
            labels: matchers(params)?,
            receiver: receiver.transpose()?,
            active: wants(params, "active"),
            silenced: wants(params, "silenced"),
            inhibited: wants(params, "inhibited"),
        })
    }

    /// The firing alerts that are meant, by fingerprint.
    pub(super) fn apply(&self, state: &State) -> Vec<Shown> {
        let silences = state.board.silences();
        let now = state.clock.now();
        let (alerts, notifying) = (state.board.alerts(), state.board.notifying());
        let meant = alerts
            .iter()
            .filter(|alert| alert.state == AlertState::Firing)
            .filter(|alert| {
                self.labels
                    .iter()
                    .all(|matcher| matcher.matches(alert.labels.get(&matcher.name).unwrap_or("")))
            })
            .map(|alert| Shown::new(alert, &silences, &notifying, now))
            .filter(|shown| self.wants_state(shown))
            .filter(|shown| {
                let mut receivers = shown.receivers.iter();
                self.receiver.is_none() || receivers.any(|name| self.wants_receiver(name))
            });
        let mut meant: Vec<_> = meant.collect();
        meant.sort_by_key(|shown| shown.alert.fingerprint);
        meant
    }

    pub(super) fn wants_receiver(&self, name: &str) -> bool {
        self.receiver
            .as_ref()
            .is_none_or(|wanted| wanted.matches(name))
    }

    fn wants_state(&self, shown: &Shown) -> bool {
        let (silenced, inhibited) = (
            !shown.silenced_by.is_empty(),
            !shown.inhibited_by.is_empty(),
        );
        (self.active || silenced || inhibited)
            && (self.silenced || !silenced)
            && (self.inhibited || !inhibited)
    }
}

/// The conditions under `filter`.
pub(super) fn matchers(params: &Params) -> Result<Vec<Matcher>, Error> {
    let filters: Vec<_> = params.all("filter").take(MAX_FILTERS + 1).collect();
    if filters.len() > MAX_FILTERS {
        let message = format!("more than {MAX_FILTERS} parameters `filter`");
        return Err(Error::bad_request(message));
    }
    let read = |text: &str| {
        Matcher::parse(text).map_err(|error| {
            let shown: String = text.chars().take(64).collect();
            Error::bad_request(format!("bad matcher format: {shown}: {error}"))
        })
    };
    filters.into_iter().map(read).collect()
}

/// Whether alerts of a state are wanted; they are if nothing is said. What does not mean yes means no, as
/// in Alertmanager.
fn wants(params: &Params, state: &str) -> bool {
    const YES: [&str; 10] = [
        "true", "1", "yes", "ok", "y", "on", "selected", "checked", "t", "enabled",
    ];
    match params.get(state) {
        None | Some("") => true,
        Some(text) => YES.iter().any(|yes| text.eq_ignore_ascii_case(yes)),
    }
}
