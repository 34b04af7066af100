use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::time::Duration;

use serde_json::Value;

use super::{Receiver, Shop, ShopHandle};

/// How often the public API is asked whether the next thing has happened.
const POLL: Duration = Duration::from_millis(200);

/// Tells what happens to the shop, as seen through the daemon's public API alone.
pub struct Story<'a> {
    /// Base URL of the daemon's API.
    pub api: String,
    /// The daemon's tick: everything is waited for in multiples of it.
    pub tick: Duration,
    /// Samples that a baseline needs.
    pub min_samples: u32,
    /// The shop.
    pub shop: ShopHandle,
    /// Who gets the webhooks.
    pub receiver: Receiver,
    /// Where the story is told.
    pub out: &'a mut (dyn Write + Send),
    /// Whether `out` shows colours.
    pub colours: bool,
}

/// What was observed, in order. The story is whole when each is true.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// (what, whether it was seen through the public API).
    pub steps: Vec<(&'static str, bool)>,
}

impl Outcome {
    /// Whether everything was observed.
    pub fn is_whole(&self) -> bool {
        self.steps.iter().all(|(_, seen)| *seen)
    }
}

impl Story<'_> {
    /// Tells one incident from learning to recovery.
    ///
    /// # Errors
    /// `out` cannot be written to. What the daemon fails to do is in the [`Outcome`].
    pub async fn tell(&mut self) -> std::io::Result<Outcome> {
        let mut outcome = Outcome::default();
        self.chapter("1", "Learning what is normal")?;
        let seen = self.learn().await?;
        outcome
            .steps
            .push(("baselines of all services stand", seen));
        self.show_normal().await?;

        self.chapter(
            "2",
            "payment breaks: six times slower, every seventh charge fails",
        )?;
        self.shop.break_payment();
        let seen = self.alert().await?;
        outcome.steps.push(("an alert with its explanation", seen));
        let seen = self.webhook().await?;
        outcome.steps.push(("a signed webhook", seen));

        self.chapter("3", "The services it hurts are told to degrade")?;
        let seen = self.degraded().await?;
        outcome.steps.push(("payment told to run degraded", seen));
        let seen = self.acknowledged().await?;
        outcome
            .steps
            .push(("payment acknowledged it, and does it", seen));
        let seen = self.shedding().await?;
        outcome.steps.push(("load being shed", seen));

        self.chapter("4", "Did it help? The signals behind it are watched")?;
        let seen = self.effect().await?;
        outcome
            .steps
            .push(("the effect measured: payment is better", seen));

        self.chapter("5", "payment is repaired")?;
        self.shop.repair_payment();
        let seen = self.resolved().await?;
        outcome.steps.push(("all alerts resolved", seen));
        let seen = self.recovered().await?;
        outcome.steps.push(("every service back to normal", seen));
        let seen = self.episode().await?;
        outcome
            .steps
            .push(("the episode kept: cause, action, effect, duration", seen));

        writeln!(self.out)?;
        for (what, seen) in &outcome.steps {
            let mark = if *seen {
                self.paint("32", "seen  ")
            } else {
                self.paint("31", "MISSED")
            };
            writeln!(self.out, "  {mark}  {what}")?;
        }
        self.out.flush()?;
        Ok(outcome)
    }

    async fn learn(&mut self) -> std::io::Result<bool> {
        let wanted: BTreeSet<&str> = Shop::SERVICES.into();
        let bar = progress(u64::from(self.min_samples));
        let mut shown = 0;
        for _ in 0..self.polls(self.min_samples * 3 + 40) {
            let signals = self
                .series(r#"{signal="p99",metric="span.duration"}"#)
                .await;
            let ready: BTreeSet<String> = signals
                .iter()
                .filter(|signal| signal["baseline"]["state"] == "ready")
                .map(|signal| text(&signal["service"]))
                .collect();
            let remaining = signals
                .iter()
                .filter_map(|s| s["baseline"]["remaining"].as_u64());
            let behind = remaining.max().filter(|_| signals.len() >= wanted.len());
            bar.set_position(behind.map_or(0, |n| u64::from(self.min_samples).saturating_sub(n)));
            if ready.len() > shown {
                shown = ready.len();
                let names: Vec<_> = ready.iter().map(String::as_str).collect();
                let line = format!("baseline stands: {}", names.join(", "));
                bar.suspend(|| self.line(&line))?;
            }
            if wanted.iter().all(|service| ready.contains(*service)) {
                bar.finish_and_clear();
                return Ok(true);
            }
            tokio::time::sleep(POLL).await;
        }
        bar.finish_and_clear();
        Ok(false)
    }

    async fn show_normal(&mut self) -> std::io::Result<()> {
        let signals = self.series(r#"{metric="span.duration"}"#).await;
        let mut rows: BTreeMap<(String, String), BTreeMap<String, f64>> = BTreeMap::new();
        for signal in &signals {
            let key = (
                text(&signal["service"]),
                text(&signal["attributes"]["span.name"]),
            );
            let mean = signal["window"]["mean"].as_f64().unwrap_or_default();
            rows.entry(key)
                .or_default()
                .insert(text(&signal["signal"]), mean);
        }
        writeln!(
            self.out,
            "     {:<16}{:<24}{:>9}{:>11}{:>11}",
            "service", "operation", "rate/s", "p50 ms", "p99 ms"
        )?;
        for ((service, operation), stats) in rows {
            let get = |name: &str| stats.get(name).copied().unwrap_or_default();
            writeln!(
                self.out,
                "     {service:<16}{operation:<24}{:>9.1}{:>11.1}{:>11.1}",
                get("rate"),
                get("p50") * 1e3,
                get("p99") * 1e3
            )?;
        }
        Ok(())
    }

    async fn alert(&mut self) -> std::io::Result<bool> {
        for _ in 0..self.polls(60) {
            let alerts = self.get("/api/v2/alerts").await;
            let about_payment = alerts.as_array().into_iter().flatten().find(|alert| {
                alert["labels"]["service"] == "payment"
                    && alert["labels"]["alertname"] == "LatencyDeviation"
            });
            if let Some(alert) = about_payment {
                let explanation = text(&alert["annotations"]["explanation"]);
                self.line(&format!(
                    "alert {} ({})",
                    text(&alert["labels"]["alertname"]),
                    text(&alert["labels"]["severity"])
                ))?;
                self.line(&format!("  {explanation}"))?;
                let recommendation = text(&alert["annotations"]["recommendation"]);
                if !recommendation.is_empty() {
                    self.line(&format!("  {recommendation}"))?;
                }
                return Ok(!explanation.is_empty());
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(false)
    }

    async fn webhook(&mut self) -> std::io::Result<bool> {
        for _ in 0..self.polls(40) {
            let delivery = self.receiver.deliveries().into_iter().find(|delivery| {
                delivery.body["version"] == "4" && delivery.body["status"] == "firing"
            });
            if let Some(delivery) = delivery {
                let alerts = delivery.body["alerts"].as_array().map_or(0, Vec::len);
                self.line(&format!(
                    "webhook received: {alerts} alert(s), group {}, {}",
                    text(&delivery.body["groupKey"]),
                    if delivery.signed {
                        "signed"
                    } else {
                        "not signed"
                    }
                ))?;
                return Ok(delivery.signed && delivery.id.is_some());
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(false)
    }

    async fn degraded(&mut self) -> std::io::Result<bool> {
        for _ in 0..self.polls(60) {
            let state = self.get("/api/v1/modes/payment").await;
            let data = &state["data"];
            if data["mode"].as_str().is_some_and(|mode| mode != "normal") {
                self.line(&format!(
                    "payment → {} since {}",
                    text(&data["mode"]),
                    clock(&text(&data["since"]))
                ))?;
                // All of them are on the page and in `tidewatch mode get payment`.
                let why = data["why"].as_array().map_or(&[][..], Vec::as_slice);
                if let Some(reason) = why.first() {
                    let others = match why.len() - 1 {
                        0 => String::new(),
                        others => format!(" ({others} more of its alerts say the same)"),
                    };
                    self.line(&format!(
                        "  because of policy {}{others}: {}",
                        text(&reason["policy"]),
                        text(&reason["explanation"])
                    ))?;
                }
                self.line(&format!("  features: {}", data["features"]))?;
                return Ok(true);
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(false)
    }

    async fn acknowledged(&mut self) -> std::io::Result<bool> {
        for _ in 0..self.polls(60) {
            let state = self.get("/api/v1/modes/payment").await;
            let data = &state["data"];
            let actual = data["actual"].as_array().map_or(&[][..], Vec::as_slice);
            let follows = actual
                .first()
                .is_some_and(|most| most["mode"] == data["mode"]);
            if data["acknowledged"] == true && data["level"] != 0 && follows {
                let said = actual.iter().map(|each| {
                    let (instances, mode) = (&each["instances"], text(&each["mode"]));
                    format!("{instances} in {mode}")
                });
                self.line(&format!(
                    "payment has heard it (instruction {}); its instances: {}",
                    data["acknowledged_sequence"],
                    said.collect::<Vec<_>>().join(", ")
                ))?;
                return Ok(true);
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(false)
    }

    async fn effect(&mut self) -> std::io::Result<bool> {
        for _ in 0..self.polls(120) {
            let episodes = self.list("/api/v1/modes/episodes?service=payment").await;
            let actions = episodes.iter().flat_map(|episode| {
                let actions = episode["actions"].as_array();
                actions.map_or(&[][..], Vec::as_slice)
            });
            let judged = actions
                .filter(|action| !action["effect"]["judged_at"].is_null())
                .find(|action| action["effect"]["verdict"] == "improved");
            if let Some(action) = judged {
                let effect = &action["effect"];
                let share = |value: &Value| value.as_f64().map(|share| share * 100.0);
                if let (Some(before), Some(after)) =
                    (share(&effect["before"]), share(&effect["after"]))
                {
                    self.line(&format!(
                        "{} → {}: distance from what is expected {before:.0} % → {after:.0} %",
                        text(&action["from"]),
                        text(&action["to"])
                    ))?;
                    self.line(&format!("  {}", text(&effect["sentence"])))?;
                    return Ok(after < before);
                }
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(false)
    }

    async fn episode(&mut self) -> std::io::Result<bool> {
        for _ in 0..self.polls(20) {
            let episodes = self.list("/api/v1/modes/episodes?service=payment").await;
            let ended = episodes
                .iter()
                .find(|episode| !episode["ended_at"].is_null());
            if let Some(episode) = ended {
                let actions = episode["actions"].as_array().map_or(&[][..], Vec::as_slice);
                let steps = actions.iter().map(|action| {
                    let (from, to) = (text(&action["from"]), text(&action["to"]));
                    format!("{from} → {to} at {}", clock(&text(&action["at"])))
                });
                self.line(&format!(
                    "kept: payment, {}; {}",
                    steps.collect::<Vec<_>>().join(", "),
                    text(&episode["outcome"])
                ))?;
                return Ok(actions.len() > 1);
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(false)
    }

    async fn shedding(&mut self) -> std::io::Result<bool> {
        for _ in 0..self.polls(60) {
            let signals = self
                .series(r#"{metric="shop.requests.shed",signal="rate"}"#)
                .await;
            let shed: f64 = signals
                .iter()
                .filter_map(|s| s["last"]["value"].as_f64())
                .sum();
            // Less than one a second is a beginning, not yet a service that sheds load.
            if shed >= 1.5 {
                let degraded = self.shop.degraded().join(", ");
                self.line(&format!(
                    "{degraded} shed {shed:.0} requests a second; the others are served"
                ))?;
                return Ok(true);
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(false)
    }

    async fn resolved(&mut self) -> std::io::Result<bool> {
        for _ in 0..self.polls(120) {
            // An answer that is no list is no proof of silence.
            if self
                .get("/api/v2/alerts")
                .await
                .as_array()
                .is_some_and(Vec::is_empty)
            {
                self.line("no alert fires any more")?;
                return Ok(true);
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(false)
    }

    async fn recovered(&mut self) -> std::io::Result<bool> {
        for _ in 0..self.polls(120) {
            let modes = self.list("/api/v1/modes").await;
            let normal = modes
                .iter()
                .filter(|state| state["mode"] == "normal")
                .count();
            if !modes.is_empty() && normal == modes.len() && self.shop.degraded().is_empty() {
                self.line(&format!("all {normal} services run normally again"))?;
                return Ok(true);
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(false)
    }

    /// How often to ask within `ticks` of the daemon, and ten seconds for everything around it.
    fn polls(&self, ticks: u32) -> u32 {
        let time = self.tick * ticks + Duration::from_secs(10);
        u32::try_from(time.as_millis() / POLL.as_millis()).unwrap_or(u32::MAX)
    }

    async fn series(&self, selector: &str) -> Vec<Value> {
        let query = reqwest::Url::parse_with_params(
            "http://localhost/api/v1/series",
            [("limit", "1000"), ("match", selector)],
        );
        match query.as_ref().map(reqwest::Url::query) {
            Ok(Some(query)) => self.list(&format!("/api/v1/series?{query}")).await,
            Ok(None) | Err(_) => Vec::new(),
        }
    }

    async fn list(&self, path: &str) -> Vec<Value> {
        match self.get(path).await["data"].take() {
            Value::Array(items) => items,
            _ => Vec::new(),
        }
    }

    /// What the API answers; `null` where it does not.
    async fn get(&self, path: &str) -> Value {
        let answer = match reqwest::get(format!("{}{path}", self.api)).await {
            Ok(answer) => answer.json().await,
            Err(error) => Err(error),
        };
        answer.unwrap_or_else(|error| {
            tracing::debug!(path, %error, "the API did not answer");
            Value::Null
        })
    }

    fn chapter(&mut self, number: &str, title: &str) -> std::io::Result<()> {
        let title = self.paint("1", title);
        writeln!(self.out, "\n{number}. {title}")?;
        self.out.flush()
    }

    fn line(&mut self, text: &str) -> std::io::Result<()> {
        writeln!(self.out, "   {text}")?;
        self.out.flush()
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colours {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// How far learning is; on a terminal only.
fn progress(samples: u64) -> indicatif::ProgressBar {
    let bar = indicatif::ProgressBar::new(samples);
    if let Ok(style) = indicatif::ProgressStyle::with_template("   {bar:40} {pos} of {len} samples")
    {
        bar.set_style(style);
    }
    bar
}

/// `09:05:27Z` of `2026-01-01T09:05:27.001Z`.
fn clock(time: &str) -> String {
    let time = time.split_once('T').map_or(time, |(_, time)| time);
    let seconds = time.split(['.', 'Z']).next().unwrap_or(time);
    format!("{seconds}Z")
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}
