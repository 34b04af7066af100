//! `GET /api/v1/modes` and `/api/v1/modes/{service}`: polling, with an `ETag`, and long polling.
//!
//! The tag of one service stands for what it is told, without the lease: a 304 says that the instruction
//! still holds, and so renews the lease as an answer in full does. It does not stand for what instances
//! report, or each report of one would be an answer in full to all others; who wants the newest reports
//! sends no `If-None-Match`. The list is for people, so its tag stands for the reports, too.
//!
//! With `?wait=30s` a request whose tag is up to date is answered when there is something newer, or with a
//! 304 at the end of that time. It takes a watcher's place meanwhile.

use std::fmt::Write as _;
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{self, Query};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::State;
use super::http::{ServicePath, duration, named};
use super::shown::Shown;
use crate::expose::answer::{ApiError, success, success_page};
use crate::model::{Instruction, ModeReason, ModeState, Override, ServiceReport, Timestamp};

/// Longest that a request may wait, so that proxies do not take it for dead.
const MAX_WAIT: Duration = Duration::from_secs(60);

pub(super) fn routes() -> Router<State> {
    Router::new()
        .route("/api/v1/modes", get(list))
        .route("/api/v1/modes/{service}", get(one))
}

async fn list(
    extract::State(state): extract::State<State>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let modes = state.board.modes();
    // As of a single service: what may only not be known yet is no empty list.
    if let Some(reason) = state
        .board
        .not_ready()
        .filter(|_| modes.services.is_empty())
    {
        return Err(ApiError::unavailable(reason));
    }
    let told = modes.services.values();
    let tag = tag(told
        .clone()
        .map(|told| (told, modes.reports.get(&told.service))));
    if is_known(&headers, &tag) {
        return Ok(tagged(StatusCode::NOT_MODIFIED.into_response(), &tag));
    }
    let shown: Vec<_> = told.map(|told| Shown::from(&modes, told)).collect();
    Ok(tagged(success_page(shown, None), &tag))
}

#[derive(Deserialize)]
struct Wish {
    wait: Option<String>,
}

async fn one(
    extract::State(state): extract::State<State>,
    headers: HeaderMap,
    service: ServicePath,
    wish: Result<Query<Wish>, QueryRejection>,
) -> Result<Response, ApiError> {
    let service = named(service)?;
    let Query(wish) = wish.map_err(|rejection| ApiError::bad_data(rejection.body_text()))?;
    let wait = match wish.wait.as_deref() {
        Some(text) => duration("wait", text)?.min(MAX_WAIT),
        None => Duration::ZERO,
    };
    let known = |told: &ModeState| {
        let tag = tag([(told, None)]);
        is_known(&headers, &tag).then_some(tag)
    };
    let mut told = state.told(&service)?;
    let mut unchanged = known(&told);
    if unchanged.is_some() && !wait.is_zero() {
        let _place = state.place()?;
        let mut follow = state.board.follow(&service);
        let changed = async {
            loop {
                // What came since it was looked at first is no news to wait for.
                let Some(newest) = follow.now() else {
                    return;
                };
                if newest.sequence > told.sequence && known(&newest).is_none() {
                    return;
                }
                follow.changed().await;
            }
        };
        tokio::select! {
            () = changed => {}
            () = tokio::time::sleep(wait) => {}
            () = state.stop.cancelled() => {}
        }
        told = state.told(&service)?;
        unchanged = known(&told);
    }
    Ok(match unchanged {
        // An instruction whose lease has run out is not said to hold.
        Some(tag) if state.holds(&told) => tagged(StatusCode::NOT_MODIFIED.into_response(), &tag),
        _ => {
            let modes = state.board.modes();
            let shown = Shown::of(&told, modes.reports.get(&service));
            tagged(success(shown), &tag([(&told, None)]))
        }
    })
}

/// A tag over everything but the leases, which are renewed all the time, and when somebody was heard last.
fn tag<'a>(modes: impl IntoIterator<Item = (&'a ModeState, Option<&'a ServiceReport>)>) -> String {
    /// Feeds what is serialised to the hash, so that no copy of it is made.
    struct Feed(Sha256);
    impl std::io::Write for Feed {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.update(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    #[derive(Serialize)]
    struct Lasting<'a>(
        &'a str,
        &'a str,
        Timestamp,
        &'a [ModeReason],
        &'a Instruction,
        &'a Option<Override>,
        u64,
        &'a Option<String>,
        Option<Reported<'a>>,
    );
    /// What instances say, but for when one was heard last.
    #[derive(Serialize)]
    struct Reported<'a>(bool, u64, u32, &'a [(String, u32)], Option<Timestamp>);
    let mut feed = Feed(Sha256::new());
    for (mode, report) in modes {
        let lasting = Lasting(
            &mode.service,
            &mode.mode,
            mode.since,
            &mode.why,
            &mode.instruction,
            &mode.manual,
            mode.sequence,
            &mode.episode,
            report.map(|report| {
                let ServiceReport {
                    acknowledged,
                    sequence,
                    instances,
                    actual,
                    differs_since,
                    heard_at: _,
                } = report;
                Reported(*acknowledged, *sequence, *instances, actual, *differs_since)
            }),
        );
        serde_json::to_writer(&mut feed, &lasting).expect("texts and numbers, fed to a hash");
    }
    let digest = feed.0.finalize();
    let mut tag = String::from("W/\"");
    for byte in digest.iter().take(12) {
        write!(tag, "{byte:02x}").expect("a String takes everything");
    }
    tag.push('"');
    tag
}

/// Whether the client has what `tag` stands for.
fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let bare = tag.trim_start_matches("W/");
    headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|known| known == "*" || known.trim_start_matches("W/") == bare)
}

fn tagged(mut response: Response, tag: &str) -> Response {
    let headers = response.headers_mut();
    if let Ok(tag) = HeaderValue::from_str(tag) {
        headers.insert(ETAG, tag);
    }
    // A cache may keep it but has to ask each time.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expose::modes::Limits;
    use crate::expose::modes::fixture::{Fixture, NOW, mode, mode_event};

    fn fixture() -> Fixture {
        Fixture::new(Limits::default())
    }

    #[tokio::test]
    async fn modes_are_listed_and_found() {
        let fixture = fixture();
        let (status, _, list) = fixture.ask("GET", "/api/v1/modes", &[], "").await;
        assert_eq!(status, 200);
        assert_eq!(list["status"], "success");
        assert_eq!(list["next"], serde_json::Value::Null);
        assert_eq!(list["data"][0]["service"], "cart");
        assert_eq!(list["data"][1]["mode"], "degraded");

        let (status, _, one) = fixture.ask("GET", "/api/v1/modes/pay", &[], "").await;
        assert_eq!(status, 200);
        let expected = serde_json::json!({
            "service": "pay", "mode": "degraded", "level": 1, "since": "1970-01-12T13:46:40Z",
            "why": [{"policy": "slow", "fingerprint": "0000000000000007", "alertname": "Slow",
                     "explanation": "it is slow"}],
            "features": {"max_steps": 1}, "override": null,
            "lease_expires_at": "1970-01-12T13:47:10Z", "sequence": 0, "episode": null,
            "priority_floor": "low", "quality": null, "shed": 0.0,
            "acknowledged": null, "acknowledged_sequence": null, "instances": 0, "actual": [],
            "differs_since": null, "heard_at": null,
        });
        assert_eq!(one["data"], expected);

        let (status, _, error) = fixture.ask("GET", "/api/v1/modes/a%2Fb", &[], "").await;
        assert_eq!(
            (status.as_u16(), &error["errorType"]),
            (404, &"not_found".into())
        );
        assert_eq!(error["error"], "there is no service `a/b`");
        let (status, _, error) = fixture.ask("GET", "/api/v1/modes/%ff", &[], "").await;
        assert_eq!(
            (status.as_u16(), &error["errorType"]),
            (400, &"bad_data".into())
        );
        // While starting, a service that is not known yet is no answer to build on.
        fixture.board.set_ready(Some("starting".into()));
        let (status, _, error) = fixture.ask("GET", "/api/v1/modes/new", &[], "").await;
        assert_eq!(
            (status.as_u16(), &error["error"]),
            (503, &"starting".into())
        );
    }

    #[tokio::test]
    async fn what_is_known_is_not_sent_again() {
        let fixture = fixture();
        for path in ["/api/v1/modes", "/api/v1/modes/pay"] {
            let (_, headers, _) = fixture.ask("GET", path, &[], "").await;
            let tag = headers["etag"].to_str().unwrap().to_owned();
            let lists = [tag.clone(), format!("\"x\", {tag}"), "*".into()];
            for list in lists {
                let known = [("if-none-match", list.as_str())];
                // The lease alone is no news.
                let mut renewed = mode("pay", 1, 0);
                renewed.lease_expires_at = NOW.plus(Duration::from_secs(90));
                fixture.publish([mode("cart", 0, 0), renewed]);
                let (status, headers, body) = fixture.ask("GET", path, &known, "").await;
                assert_eq!(status, 304, "{path} {list}");
                assert_eq!(headers["etag"], tag.as_str());
                assert_eq!(body, serde_json::Value::Null);
            }
            fixture.publish([mode("cart", 0, 0), mode("pay", 2, 1)]);
            let known = [("if-none-match", tag.as_str())];
            let (status, _, _) = fixture.ask("GET", path, &known, "").await;
            assert_eq!(status, 200);
            fixture.publish([mode("cart", 0, 0), mode("pay", 1, 0)]);
        }
    }

    #[tokio::test]
    async fn before_services_are_known_there_is_no_list() {
        let fixture = fixture();
        let list = || fixture.ask("GET", "/api/v1/modes", &[], "");
        fixture.board.set_ready(Some("starting".into()));
        assert_eq!(list().await.0, 200, "what is known is told all the same");
        fixture
            .board
            .set_modes(crate::publish::ModesView::default());
        let (status, _, error) = list().await;
        assert_eq!(
            (status.as_u16(), &error["error"]),
            (503, &"starting".into())
        );
        fixture.board.set_ready(None);
        let (status, _, empty) = list().await;
        assert_eq!(
            (status.as_u16(), &empty["data"]),
            (200, &serde_json::json!([]))
        );
    }

    #[tokio::test]
    async fn what_instances_report_is_shown_beside_what_they_are_told() {
        let fixture = fixture();
        let ask = || fixture.ask("GET", "/api/v1/modes/pay", &[], "");
        let (_, before, _) = ask().await;
        let (_, list_before, _) = fixture.ask("GET", "/api/v1/modes", &[], "").await;
        let mut view = crate::publish::ModesView::clone(&fixture.board.modes());
        let report = ServiceReport {
            acknowledged: false,
            sequence: 4,
            instances: 3,
            actual: vec![("normal".into(), 2), ("degraded".into(), 1)],
            differs_since: Some(NOW),
            heard_at: Some(NOW),
        };
        view.reports.insert("pay".into(), report);
        fixture.board.set_modes(view);
        let (_, after, shown) = ask().await;
        let expected = serde_json::json!([
            {"mode": "normal", "instances": 2}, {"mode": "degraded", "instances": 1},
        ]);
        let shown = &shown["data"];
        assert_eq!(
            (&shown["mode"], &shown["actual"]),
            (&"degraded".into(), &expected)
        );
        assert_eq!(shown["acknowledged"], false);
        assert_eq!(shown["acknowledged_sequence"], 4);
        assert_eq!(shown["differs_since"], "1970-01-12T13:46:40Z");
        // No news to the service, but to people.
        assert_eq!(before["etag"], after["etag"]);
        let (_, list_after, list) = fixture.ask("GET", "/api/v1/modes", &[], "").await;
        assert_ne!(list_before["etag"], list_after["etag"]);
        assert_eq!(list["data"][1]["actual"], expected);
    }

    #[tokio::test]
    async fn a_long_poll_is_answered_when_there_is_something_new() {
        let fixture = fixture();
        let path = "/api/v1/modes/pay?wait=1h";
        // Nothing is known yet: answered at once.
        let (status, headers, _) = fixture.ask("GET", path, &[], "").await;
        assert_eq!(status, 200);
        let tag = headers["etag"].to_str().unwrap().to_owned();
        let known = [("if-none-match", tag.as_str())];
        let change = async {
            while fixture.telemetry.watchers.get() == 0 {
                tokio::task::yield_now().await;
            }
            // Neither another's mode nor a lease is news.
            fixture.publish([mode("cart", 1, 5), mode("pay", 1, 0)]);
            fixture.board.append([mode_event(5, "cart", 1)]);
            tokio::task::yield_now().await;
            assert_eq!(fixture.telemetry.watchers.get(), 1);
            fixture.publish([mode("cart", 1, 5), mode("pay", 2, 6)]);
            fixture.board.append([mode_event(6, "pay", 2)]);
        };
        let ((status, headers, shown), ()) =
            tokio::join!(fixture.ask("GET", path, &known, ""), change);
        assert_eq!(
            (status.as_u16(), &shown["data"]["mode"]),
            (200, &"critical".into())
        );
        assert_eq!(fixture.telemetry.watchers.get(), 0);

        let tag = headers["etag"].to_str().unwrap().to_owned();
        let known = [("if-none-match", tag.as_str())];
        let (status, _, _) = fixture
            .ask("GET", "/api/v1/modes/pay?wait=1ms", &known, "")
            .await;
        assert_eq!(status, 304);
        let (status, _, error) = fixture
            .ask("GET", "/api/v1/modes/pay?wait=soon", &[], "")
            .await;
        assert_eq!(
            (status.as_u16(), &error["errorType"]),
            (400, &"bad_data".into())
        );
        // A lease that ran out is never said to hold.
        fixture.run_out();
        let (status, _, _) = fixture
            .ask("GET", "/api/v1/modes/pay?wait=1ms", &known, "")
            .await;
        assert_eq!(status, 200);
        // When the daemon stops, nobody is kept waiting.
        fixture.stop.cancel();
        let (status, _, _) = fixture.ask("GET", path, &known, "").await;
        assert_eq!(status, 200);
    }
}
