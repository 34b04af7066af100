//! A scrape of `/metrics` over loopback: the daemon in this process, the client on this thread.

use tempfile::TempDir;
use tidewatch::app::{self, Daemon};
use tidewatch::clock::Clock;
use tidewatch::config;
use tidewatch::telemetry::Telemetry;
use tokio::runtime::Runtime;

use super::{Size, Stage};

struct Scrape {
    runtime: Runtime,
    client: reqwest::Client,
    url: String,
    signals: u64,
    // Until it is dropped.
    daemon: Option<Daemon>,
    _directory: TempDir,
}

/// Sends every series twice, so that sums have a rate, and waits until `/metrics` shows them.
pub(crate) fn scrape(size: Size) -> Box<dyn Stage> {
    let directory = tempfile::tempdir().expect("a directory");
    let text = format!(
        "otlp: {{grpc: off, http: \"127.0.0.1:0\"}}\nhttp: {{listen: \"127.0.0.1:0\"}}\n\
         storage: {{path: {:?}}}\nwindow: {{tick: 100ms}}\n\
         rules: [{{alert: All, match: \"{{}}\"}}]\n",
        directory.path()
    );
    let config = config::parse("bench.yaml", &text, &|_| None, &app::known());
    let config = config.expect("a sound configuration").config;
    let runtime = Runtime::new().expect("a runtime");
    let daemon = Daemon::start(&config, Clock::System, Telemetry::new(), None);
    let daemon = runtime.block_on(daemon).expect("a daemon");
    let client = reqwest::Client::new();
    let otlp = daemon.otlp_http.expect("it listens");
    let requests = super::metrics(size);
    for turn in 0..2 * requests.count() {
        let (body, _) = requests.make(turn, super::nanos(Clock::System.now()));
        let request = client
            .post(format!("http://{otlp}/v1/metrics"))
            .header("content-type", "application/x-protobuf")
            .body(body);
        let answer = runtime.block_on(request.send()).expect("an answer");
        assert!(answer.status().is_success(), "{}", answer.status());
    }
    let mut scrape = Scrape {
        url: format!("http://{}/metrics", daemon.http),
        runtime,
        client,
        signals: 0,
        daemon: Some(daemon),
        _directory: directory,
    };
    // At most so many are shown, and each series is a signal at least.
    while scrape.signals < (size.series() as u64).min(10_000) {
        scrape.signals = scrape.shown();
    }
    Box::new(scrape)
}

impl Scrape {
    fn text(&self) -> String {
        let answer = self.client.get(&self.url).send();
        self.runtime.block_on(async {
            let answer = answer.await.expect("an answer");
            answer.text().await.expect("text")
        })
    }

    fn shown(&self) -> u64 {
        let text = self.text();
        let mut lines = text.lines();
        let found = lines.find_map(|line| line.strip_prefix("tidewatch_exposed_signals "));
        found.and_then(|count| count.parse().ok()).unwrap_or(0)
    }
}

impl Drop for Scrape {
    fn drop(&mut self) {
        // Its threads must end before the runtime that they use.
        if let Some(daemon) = self.daemon.take() {
            self.runtime.block_on(daemon.stop());
        }
    }
}

impl Stage for Scrape {
    fn run(&mut self) {
        std::hint::black_box(self.text());
    }

    fn items(&self) -> u64 {
        self.signals
    }
}
