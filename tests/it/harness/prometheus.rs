//! A real Prometheus.

use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::free_port;

/// Prometheus on a free port, stopped when dropped.
pub struct Prometheus {
    child: Child,
    url: String,
    folder: tempfile::TempDir,
}

impl Prometheus {
    /// Scrapes a target every second.
    pub async fn scraping(target: &str) -> Self {
        Self::start(
            &format!(
                "global: {{scrape_interval: 1s}}\nscrape_configs:\n  - job_name: tidewatch\n    static_configs: [{{targets: [\"{target}\"]}}]\n"
            ),
            "",
        )
    }

    /// With this configuration and, if there are any, rules, which stand in `rules.yml` beside it.
    pub fn start(config: &str, rules: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, config).expect("written");
        std::fs::write(folder.path().join("rules.yml"), rules).expect("written");
        let port = free_port();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--web.enable-lifecycle")
            // Alerts that go on are sent again after so long, and again.
            .arg("--rules.alert.resend-delay=1s")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("prometheus: {e}; `tests/run` installs what is needed"));
        Self {
            child,
            url: format!("http://127.0.0.1:{port}"),
            folder,
        }
    }

    /// Goes on with other rules.
    pub async fn reload(&self, rules: &str) {
        std::fs::write(self.folder.path().join("rules.yml"), rules).expect("written");
        let answer = reqwest::Client::new()
            .post(format!("{}/-/reload", self.url))
            .send()
            .await
            .expect("Prometheus answers");
        assert!(answer.status().is_success(), "{answer:?}");
    }

    /// The result of an instant query; `None` while Prometheus does not answer.
    pub async fn query(&self, expression: &str) -> Option<Vec<Value>> {
        let answer = reqwest::Client::new()
            .get(format!("{}/api/v1/query", self.url))
            .query(&[("query", expression)])
            .send()
            .await
            .ok()?;
        let answer: Value = answer.json().await.ok()?;
        assert_ne!(answer["errorType"], "bad_data", "{expression}: {answer}");
        answer["data"]["result"].as_array().cloned()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
