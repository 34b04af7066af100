use std::borrow::Cow;
use std::time::Duration;

use axum::extract;
use axum::response::Response;
use futures_util::future::join_all;

use crate::expose::answer::{ApiError, success, success_page};
use crate::expose::aside::{aside_waiting, in_turns};
use crate::expose::params::Params;
use crate::expose::state::State;
use crate::model::{LabelSource, Labels, Selector, SignalId, SignalView, Timestamp};

/// A signal whose newest sample is older than the newest of all by more than this is not what somebody
/// looks for who asks for the most surprising ones now.
const FRESH: Duration = Duration::from_secs(600);
/// Signals that are asked for together.
const PAGE: usize = 1_000;
/// Watched signals among which the most surprising are looked for, or as many as `/metrics` shows.
const LOOKED_AT: usize = 50_000;
/// Most surprising signals that are kept while others are looked at: those among them that turn out not to
/// report any more must not take the place of all that do.
const KEPT: usize = 5_000;

/// Signals by id; with `sort=sigma` the watched ones, most surprising first.
pub(super) async fn list(
    extract::State(state): extract::State<State>,
    params: Params,
) -> Result<Response, ApiError> {
    let limit = params.limit(state.settings.page_default, state.settings.page_limit)?;
    let selectors = params.selectors()?;
    let cursor = params.cursor()?;
    match params.get("sort") {
        None | Some("" | "id") => {
            shown(state, async move |state: &State| {
                page(state, selectors, cursor, limit).await
            })
            .await
        }
        Some("sigma") if cursor.is_some() => Err(ApiError::bad_data(
            "`sort=sigma` has one page only: it takes no cursor",
        )),
        Some("sigma") => {
            shown(state, async move |state: &State| {
                (surprising(state, &selectors, limit).await, None)
            })
            .await
        }
        Some(_) => Err(ApiError::bad_data(
            "invalid parameter `sort`: expected `id` or `sigma`",
        )),
    }
}

/// The answer with what `list` gives; of a thousand signals it is more than a megabyte.
async fn shown<F>(state: State, list: F) -> Result<Response, ApiError>
where
    F: AsyncFnOnce(&State) -> (Vec<SignalView>, Option<SignalId>) + Send + 'static,
{
    let reader = state.clone();
    let answer = async move || {
        let (signals, next) = list(&reader).await;
        success_page(signals, next.map(|id| id.to_string()))
    };
    let answer = aside_waiting(&state, answer).await;
    answer.ok_or_else(|| ApiError::unavailable("the answer could not be made"))
}

/// The signals after `cursor` that any of the selectors holds for, and where the next page begins.
async fn page(
    state: &State,
    selectors: Vec<Selector>,
    cursor: Option<SignalId>,
    limit: usize,
) -> (Vec<SignalView>, Option<SignalId>) {
    let pages = selectors
        .into_iter()
        .map(|selector| state.query.signals(selector, cursor, limit));
    let pages = join_all(pages).await;
    if let [_] = pages.as_slice() {
        return pages
            .into_iter()
            .next()
            .map_or((Vec::new(), None), |page| (page.items, page.next));
    }
    // Each page holds the first `limit` of its own signals, so together they hold the first `limit`
    // of the union.
    let mut more = pages.iter().any(|page| page.next.is_some());
    let mut signals: Vec<(SignalId, SignalView)> = pages
        .into_iter()
        .flat_map(|page| page.items)
        .filter_map(|signal| Some((signal.id.parse().ok()?, signal)))
        .collect();
    signals.sort_by_key(|(id, _)| *id);
    signals.dedup_by_key(|(id, _)| *id);
    more |= signals.len() > limit;
    signals.truncate(limit);
    let last = signals.last().map(|(id, _)| *id).filter(|_| more);
    (
        signals.into_iter().map(|(_, signal)| signal).collect(),
        last,
    )
}

/// The `limit` signals with the largest |sigma|, of those that still report.
async fn surprising(state: &State, selectors: &[Selector], limit: usize) -> Vec<SignalView> {
    let kept = limit.max(KEPT);
    let mut newest = Timestamp::EPOCH;
    let mut most: Vec<SignalView> = Vec::new();
    let (mut cursor, mut left) = (None, LOOKED_AT.max(state.settings.exposed_signals));
    while left > 0 {
        let page = state.query.watched(cursor, left.min(PAGE)).await;
        left = left.saturating_sub(page.items.len());
        for signal in in_turns(page.items, 64) {
            newest = last_time(&signal).map_or(newest, |time| newest.max(time));
            let meant = || selectors.iter().any(|s| s.matches(&Seen(&signal)));
            if sigma(&signal).is_some() && meant() {
                most.push(signal);
            }
        }
        if most.len() >= 2 * kept {
            keep(&mut most, kept, newest);
        }
        match page.next {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    keep(&mut most, limit, newest);
    most
}

/// Keeps the `limit` most surprising of the fresh ones.
fn keep(signals: &mut Vec<SignalView>, limit: usize, newest: Timestamp) {
    signals.retain(|signal| last_time(signal).is_some_and(|time| newest.since(time) <= FRESH));
    signals.sort_by(|a, b| {
        let size = |signal| sigma(signal).unwrap_or(0.0);
        size(b).total_cmp(&size(a)).then_with(|| a.id.cmp(&b.id))
    });
    signals.truncate(limit);
}

fn last_time(signal: &SignalView) -> Option<Timestamp> {
    Some(signal.last.as_ref()?.time)
}

/// How surprising its newest sample is, on whatever side.
fn sigma(signal: &SignalView) -> Option<f64> {
    signal.last.as_ref()?.sigma.map(f64::abs)
}

/// A shown signal as selectors see the real one.
struct Seen<'a>(&'a SignalView);

impl LabelSource for Seen<'_> {
    fn label(&self, name: &str) -> Option<Cow<'_, str>> {
        let Self(signal) = self;
        let text = match name {
            "service" => &signal.service,
            "metric" => &signal.metric,
            "signal" => &signal.signal,
            "unit" => &signal.unit,
            _ => {
                let sets = [&signal.attributes, &signal.resource];
                sets.into_iter().find_map(|set| {
                    let by_label = || set.iter().find(|(key, _)| Labels::name_from(key) == name);
                    set.get(name).or_else(|| by_label().map(|(_, value)| value))
                })?
            }
        };
        Some(Cow::Borrowed(text))
    }
}

/// The samples of one signal within a time, oldest first.
pub(super) async fn samples(
    extract::State(state): extract::State<State>,
    extract::Path(id): extract::Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    let from = params
        .time("from")?
        .unwrap_or(Timestamp::from_nanos(i64::MIN));
    let to = params
        .time("to")?
        .unwrap_or(Timestamp::from_nanos(i64::MAX));
    if from > to {
        return Err(ApiError::bad_data("`from` is later than `to`"));
    }
    let unknown = || ApiError::not_found("there is no such signal");
    // What cannot be an id is not the id of anything.
    let id: SignalId = id.parse().map_err(|_| unknown())?;
    let samples = state.query.samples(id, from, to).await;
    samples.map(success).ok_or_else(unknown)
}
