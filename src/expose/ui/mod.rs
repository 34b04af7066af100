//! The page: a file of HTML, some of script, one of style, all inside the binary. No request opens a
//! file, and the page loads nothing from elsewhere.

use axum::Router;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::header;

use super::state::State;

pub(super) fn routes() -> Router<State> {
    Router::new()
        .route("/", get(|| asset("text/html", include_str!("index.html"))))
        .route(
            "/ui/page.js",
            get(|| asset("text/javascript", include_str!("page.js"))),
        )
        .route(
            "/ui/chart.js",
            get(|| asset("text/javascript", include_str!("chart.js"))),
        )
        .route(
            "/ui/dom.js",
            get(|| asset("text/javascript", include_str!("dom.js"))),
        )
        .route(
            "/ui/modes.js",
            get(|| asset("text/javascript", include_str!("modes.js"))),
        )
        .route(
            "/ui/format.js",
            get(|| asset("text/javascript", include_str!("format.js"))),
        )
        .route(
            "/ui/style.css",
            get(|| asset("text/css", include_str!("style.css"))),
        )
        .route(
            "/ui/icon.svg",
            get(|| asset("image/svg+xml", include_str!("icon.svg"))),
        )
}

async fn asset(kind: &'static str, text: &'static str) -> Response {
    let kind = format!("{kind}; charset=utf-8");
    // Asked for anew each time: a daemon of another version may answer at the same address.
    (
        [
            (header::CONTENT_TYPE, kind.as_str()),
            (header::CACHE_CONTROL, "no-cache"),
        ],
        text,
    )
        .into_response()
}

#[cfg(test)]
mod tests {
    use crate::expose::fakes::Site;

    /// What stands in quotes behind `before`, everywhere in `text`.
    fn quoted_after<'a>(text: &'a str, before: &str) -> Vec<&'a str> {
        text.split(before)
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
            .collect()
    }

    #[tokio::test]
    async fn the_page_loads_only_what_is_in_the_binary_and_keeps_to_its_policy() {
        let site = Site::new();
        let page = site.get("/").await;
        assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
        let page = page.text();
        let mut loaded: Vec<String> = [
            "<link rel=\"icon\" href=\"",
            "stylesheet\" href=\"",
            " src=\"",
        ]
        .iter()
        .flat_map(|before| quoted_after(page, before))
        .map(|path| format!("/{path}"))
        .collect();
        assert!(loaded.len() >= 4, "{loaded:?}");
        let script = site.get("/ui/page.js").await.text().to_owned();
        let imported = quoted_after(&script, "from \"./");
        assert_eq!(imported, ["chart.js", "dom.js", "format.js", "modes.js"]);
        for name in &imported {
            let script = site.get(&format!("/ui/{name}")).await.text().to_owned();
            for other in quoted_after(&script, "from \"./") {
                assert!(imported.contains(&other), "{name} imports {other}");
            }
        }
        loaded.extend(imported.iter().map(|name| format!("/ui/{name}")));
        for path in loaded {
            let answer = site.get(&path).await;
            assert_eq!(answer.status, 200, "{path}");
            let text = answer.text();
            for never in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
            ] {
                assert!(!text.contains(never), "{path} uses {never}");
            }
        }
        for never in ["<style", "style=", "onclick", "onload", "//cdn", "https://"] {
            assert!(!page.contains(never), "the page has {never}");
        }
        // A script inline would be refused by the policy.
        assert_eq!(page.matches("<script").count(), 1);
        assert_eq!(page.matches("</script>").count(), 1);
        assert!(page.contains("<script type=\"module\" src=\"ui/page.js\"></script>"));
    }
}
