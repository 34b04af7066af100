//! Starts the built daemon on free ports and talks to it as its users do.

use std::fmt::Debug;
use std::future::Future;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

pub mod alertmanager;
pub mod child;
pub mod hook;
pub mod otlp;
pub mod prometheus;

/// Longest that anything is waited for. Generous: the machine may be busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// How often it is looked whether it has happened.
const POLL: Duration = Duration::from_millis(20);

/// A port that nobody listens on, for programs that cannot be asked for a free one: taken and given back.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a port")
        .port()
}

/// Where the tests' parts lie.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A running daemon with a folder of its own; killed and removed when dropped.
pub struct Daemon {
    child: Child,
    /// `127.0.0.1:PORT` of OTLP/gRPC.
    pub grpc: String,
    /// `127.0.0.1:PORT` of OTLP/HTTP.
    pub http: String,
    /// `127.0.0.1:PORT` of API, UI and metrics.
    pub api: String,
    config: PathBuf,
    folder: Arc<tempfile::TempDir>,
    log: Arc<Mutex<Vec<String>>>,
    env: Vec<(String, String)>,
    client: reqwest::Client,
}

impl Daemon {
    /// Starts a daemon whose configuration is `extra` (YAML at the top level) and free ports. `extra`
    /// must not have `otlp`, `http` or `storage`.
    pub async fn start(extra: &str) -> Self {
        Self::start_with(extra, &[]).await
    }

    /// As [`Daemon::start`], with environment variables.
    pub async fn start_with(extra: &str, env: &[(&str, &str)]) -> Self {
        Self::start_on("127.0.0.1:0", extra, env).await
    }

    /// As [`Daemon::start_with`], with OTLP/HTTP on a given address.
    pub async fn start_on(otlp_http: &str, extra: &str, env: &[(&str, &str)]) -> Self {
        Self::start_otlp(otlp_http, "", extra, env).await
    }

    /// As [`Daemon::start_on`], with more settings in the section `otlp`, in YAML's flow style.
    pub async fn start_otlp(
        otlp_http: &str,
        otlp: &str,
        extra: &str,
        env: &[(&str, &str)],
    ) -> Self {
        Self::start_all(otlp_http, otlp, 0, extra, env).await
    }

    /// As [`Daemon::start`], with the API on a given port, so that it is found again after a restart.
    pub async fn start_api(port: u16, extra: &str) -> Self {
        Self::start_all("127.0.0.1:0", "", port, extra, &[]).await
    }

    async fn start_all(
        otlp_http: &str,
        otlp: &str,
        api: u16,
        extra: &str,
        env: &[(&str, &str)],
    ) -> Self {
        with_tls();
        let folder = Arc::new(tempfile::tempdir().expect("a temporary folder"));
        let config = folder.path().join("tidewatch.yaml");
        let data = folder.path().join("data");
        let text = format!(
            "otlp: {{grpc: \"127.0.0.1:0\", http: {otlp_http:?}, {otlp}}}\n\
             http: {{listen: \"127.0.0.1:{api}\"}}\n\
             storage: {{path: {data:?}}}\n\
             {extra}\n"
        );
        std::fs::write(&config, text).expect("the configuration is written");
        let env = env
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        // Built once: a client reads its certificates when it is built, which takes a while.
        Self::spawn(config, folder, env, reqwest::Client::new()).await
    }

    async fn spawn(
        config: PathBuf,
        folder: Arc<tempfile::TempDir>,
        env: Vec<(String, String)>,
        client: reqwest::Client,
    ) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tidewatch"))
            .args(["run", "--log-format", "json", "--config"])
            .arg(&config)
            .env_remove("OTEL_EXPORTER_OTLP_ENDPOINT")
            .envs(env.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the daemon starts");
        let log = Arc::new(Mutex::new(Vec::new()));
        let stderr = child.stderr.take().expect("stderr is piped");
        let lines = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lines.lock().expect("log").push(line);
            }
        });
        let mut daemon = Self {
            child,
            grpc: String::new(),
            http: String::new(),
            api: String::new(),
            config,
            folder,
            log,
            env,
            client,
        };
        let listening = eventually("the daemon says where it listens", || {
            let line = daemon.log_line("\"message\":\"listening\"");
            async move { line }
        })
        .await;
        let listening: Value = serde_json::from_str(&listening).expect("a JSON log line");
        let address = |name: &str| listening[name].as_str().expect(name).to_owned();
        daemon.grpc = address("otlp_grpc");
        daemon.http = address("otlp_http");
        daemon.api = address("http");
        let ready = format!("http://{}/readyz", daemon.api);
        eventually("the daemon is ready", || {
            let asked = daemon.client.get(&ready).send();
            async move { asked.await.ok().filter(|a| a.status().is_success()) }
        })
        .await;
        daemon
    }

    /// Kills the daemon as a power cut would, and starts it on the same folder.
    pub async fn kill_and_restart(mut self) -> Self {
        self.child.kill().expect("kill -9");
        self.child.wait().expect("it is gone");
        Self::spawn(
            self.config.clone(),
            Arc::clone(&self.folder),
            self.env.clone(),
            self.client.clone(),
        )
        .await
    }

    /// Sends SIGTERM and waits for the end.
    pub async fn terminate(&mut self) -> std::process::ExitStatus {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .expect("kill");
        assert!(sent.success());
        let child = &mut self.child;
        eventually("the daemon ends", || {
            let status = child.try_wait().expect("wait");
            async move { status }
        })
        .await
    }

    /// Starts a daemon on the folder of one that has ended.
    pub async fn restart(self) -> Self {
        Self::spawn(
            self.config.clone(),
            Arc::clone(&self.folder),
            self.env.clone(),
            self.client.clone(),
        )
        .await
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it keeps its state.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The last log line that contains `part`.
    pub fn log_line(&self, part: &str) -> Option<String> {
        self.log
            .lock()
            .expect("log")
            .iter()
            .rev()
            .find(|line| line.contains(part))
            .cloned()
    }

    /// All of the log.
    pub fn log(&self) -> String {
        self.log.lock().expect("log").join("\n")
    }

    /// Posts metrics that must be taken whole.
    pub async fn post_metrics(&self, body: &Value) {
        let url = format!("http://{}/v1/metrics", self.http);
        let answer = self.client.post(url).json(body).send().await;
        let answer = answer.expect("the daemon answers");
        let status = answer.status();
        assert!(
            status.is_success(),
            "{status}: {}",
            answer.text().await.unwrap_or_default()
        );
    }

    /// GET on the API, as JSON.
    pub async fn get(&self, path: &str) -> Value {
        let answer = self
            .client
            .get(format!("http://{}{path}", self.api))
            .send()
            .await
            .expect(path);
        let status = answer.status();
        let text = answer.text().await.expect(path);
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{path}: {status} {text}"))
    }

    /// GET on the API, as text.
    pub async fn text(&self, path: &str) -> String {
        let answer = self
            .client
            .get(format!("http://{}{path}", self.api))
            .send()
            .await
            .expect(path);
        answer
            .error_for_status()
            .expect(path)
            .text()
            .await
            .expect(path)
    }

    /// `/api/v1/series` for a selector: the list under `data`.
    pub async fn series(&self, selector: &str) -> Vec<Value> {
        let answer = self
            .client
            .get(format!("http://{}/api/v1/series", self.api))
            .query(&[("match", selector), ("limit", "1000")])
            .send()
            .await
            .expect("series");
        let answer: Value = answer.json().await.expect("series");
        match &answer["data"] {
            Value::Array(items) => items.clone(),
            _ => panic!("{answer}"),
        }
    }

    /// The value of a metric on `/metrics` whose line starts with `name` (with its labels, if any).
    pub async fn metric(&self, name: &str) -> Option<f64> {
        let text = self.text("/metrics").await;
        text.lines()
            .find(|line| {
                line.strip_prefix(name)
                    .is_some_and(|rest| rest.starts_with(' '))
            })
            .and_then(|line| line.rsplit(' ').next()?.parse().ok())
    }

    /// Runs `tidewatch ARGUMENTS --url …` against this daemon.
    pub fn cli(&self, arguments: &[&str]) -> Output {
        let mut all: Vec<&str> = arguments.to_vec();
        let url = format!("http://{}", self.api);
        all.extend(["--url", &url]);
        tidewatch(&all)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            eprintln!("--- log of the daemon ---\n{}", self.log());
        }
    }
}

/// Says which implementation of TLS the clients in this process use. Once is enough; the others are told
/// that there is one.
pub fn with_tls() {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
}

/// Runs the command line.
pub fn tidewatch(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tidewatch"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("tidewatch runs")
}

/// Runs a program that the test command installs.
pub fn program(name: &str, arguments: &[&str]) -> Output {
    Command::new(name)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{name}: {error}; `tests/run` installs what is needed"))
}

/// What a program printed, after it succeeded.
#[track_caller]
pub fn stdout(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{}\n{text}\n{errors}",
        output.status
    );
    text
}

/// Waits until `look` sees what is waited for.
#[track_caller]
pub fn eventually<T: Debug, F, Fut>(what: &str, mut look: F) -> impl Future<Output = T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let caller = std::panic::Location::caller();
    let what = what.to_owned();
    async move {
        let mut timer = tokio::time::interval(POLL);
        let seen = tokio::time::timeout(PATIENCE, async {
            loop {
                timer.tick().await;
                if let Some(seen) = look().await {
                    return seen;
                }
            }
        });
        seen.await
            .unwrap_or_else(|_| panic!("{caller}: never happened: {what}"))
    }
}
