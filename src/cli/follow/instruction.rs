use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::model::{ModeState, Timestamp};

/// What the service is to do, as files and commands are told it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Instruction {
    pub(super) service: String,
    pub(super) mode: String,
    /// Rank of the mode, 0 for normal; `None` for the default without Tidewatch, which knows no ranks.
    pub(super) level: Option<u8>,
    pub(super) priority_floor: &'static str,
    pub(super) quality: Option<String>,
    pub(super) shed: f64,
    pub(super) features: BTreeMap<String, Value>,
    /// `tidewatch`, or `default` while Tidewatch says nothing.
    pub(super) source: &'static str,
    /// Why, in words; may be empty.
    pub(super) reason: String,
    pub(super) since: Option<Timestamp>,
    /// Number of the event that brought it; `None` for the default.
    pub(super) sequence: Option<u64>,
}

impl Instruction {
    /// As Tidewatch tells it.
    pub(super) fn of(state: &ModeState) -> Self {
        let told = &state.instruction;
        let reason = match &state.manual {
            Some(manual) => format!("set by {}: {}", manual.author, manual.reason),
            None => {
                let reasons = state.why.iter().take(3);
                let reasons: Vec<_> = reasons
                    .map(|why| format!("{}: {}", why.alertname, why.explanation))
                    .collect();
                reasons.join("; ")
            }
        };
        Self {
            service: state.service.clone(),
            mode: state.mode.clone(),
            level: Some(state.level.0),
            priority_floor: told.priority_floor.name(),
            quality: told.quality.clone(),
            shed: told.shed,
            features: told.features.clone(),
            source: "tidewatch",
            reason,
            since: Some(state.since),
            sequence: Some(state.sequence),
        }
    }

    /// The service's own default.
    pub(super) fn default_of(service: &str, mode: &str, reason: String) -> Self {
        Self {
            service: service.into(),
            mode: mode.into(),
            level: None,
            priority_floor: "low",
            quality: None,
            shed: 0.0,
            features: BTreeMap::new(),
            source: "default",
            reason,
            since: None,
            sequence: None,
        }
    }

    /// The same for another reason.
    pub(super) fn because(&self, reason: String) -> Self {
        Self {
            reason,
            ..self.clone()
        }
    }

    /// Whether a service that does one does the other, too: they differ in reason or number at most.
    pub(super) fn has_effect_of(&self, other: &Self) -> bool {
        let effect = |instruction: &Self| Self {
            reason: String::new(),
            since: None,
            sequence: None,
            ..instruction.clone()
        };
        effect(self) == effect(other)
    }

    /// One line of JSON.
    pub(super) fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Names and values for an environment. A feature is `TIDEWATCH_FEATURE_` and its name in capitals,
    /// with `_` for what a name of a variable cannot have.
    pub(super) fn variables(&self) -> Vec<(String, String)> {
        let number = |number: Option<u64>| number.map_or(String::new(), |n| n.to_string());
        let features = serde_json::to_string(&self.features).unwrap_or_default();
        let fixed = [
            ("SERVICE", self.service.clone()),
            ("MODE", self.mode.clone()),
            ("LEVEL", number(self.level.map(u64::from))),
            ("PRIORITY_FLOOR", self.priority_floor.into()),
            ("QUALITY", self.quality.clone().unwrap_or_default()),
            ("SHED", self.shed.to_string()),
            ("SOURCE", self.source.into()),
            ("REASON", self.reason.clone()),
            (
                "SINCE",
                self.since.map_or(String::new(), Timestamp::rfc3339),
            ),
            ("SEQUENCE", number(self.sequence)),
            ("FEATURES", features),
        ];
        let fixed = fixed
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value));
        let features = self.features.iter().map(|(name, value)| {
            let text = match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            (format!("FEATURE_{}", capitals(name)), text)
        });
        let all = fixed.chain(features);
        // A zero byte would end a variable early.
        all.map(|(name, value)| (format!("TIDEWATCH_{name}"), value.replace('\0', "")))
            .collect()
    }

    /// The same as lines that a POSIX shell, systemd's `EnvironmentFile` and most readers of `.env` take.
    pub(super) fn env(&self) -> String {
        let lines = self.variables().into_iter();
        lines
            .map(|(name, value)| format!("{name}={}\n", quoted(&value)))
            .collect()
    }
}

fn capitals(name: &str) -> String {
    let fit = |c: char| match c.is_ascii_alphanumeric() {
        true => c.to_ascii_uppercase(),
        false => '_',
    };
    name.chars().map(fit).collect()
}

fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.:/@%+,".contains(c);
    if value.chars().all(plain) {
        return value.to_owned();
    }
    // One line is one variable, also for readers that know no quotes over several lines.
    let line: String = value
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    format!("'{}'", line.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told() -> Instruction {
        let state = json!({
            "service": "cart", "mode": "degraded", "level": 1, "since": "2026-01-01T00:00:00Z",
            "why": [{"policy": "slow", "fingerprint": "00000000000000ff", "alertname": "Slow",
                     "explanation": "it's\nslow"}],
            "features": {"recommendations": false, "max-steps": 1, "model": "small one", "list": [1, "a"]},
            "priority_floor": "high", "quality": "reduced", "shed": 0.25, "override": null,
            "lease_expires_at": "2026-01-01T00:00:30Z", "sequence": 9,
        });
        Instruction::of(&serde_json::from_value(state).unwrap())
    }

    #[test]
    fn a_shell_reads_what_is_written() {
        insta::assert_snapshot!(told().env(), @r#"
        TIDEWATCH_SERVICE=cart
        TIDEWATCH_MODE=degraded
        TIDEWATCH_LEVEL=1
        TIDEWATCH_PRIORITY_FLOOR=high
        TIDEWATCH_QUALITY=reduced
        TIDEWATCH_SHED=0.25
        TIDEWATCH_SOURCE=tidewatch
        TIDEWATCH_REASON='Slow: it'\''s slow'
        TIDEWATCH_SINCE=2026-01-01T00:00:00Z
        TIDEWATCH_SEQUENCE=9
        TIDEWATCH_FEATURES='{"list":[1,"a"],"max-steps":1,"model":"small one","recommendations":false}'
        TIDEWATCH_FEATURE_LIST='[1,"a"]'
        TIDEWATCH_FEATURE_MAX_STEPS=1
        TIDEWATCH_FEATURE_MODEL='small one'
        TIDEWATCH_FEATURE_RECOMMENDATIONS=false
        "#);
        for nasty in ["$(touch x)", "`x`", "a'b\"c", "; rm -rf /", "ä ö", ""] {
            let mut told = told();
            told.reason = nasty.into();
            let script = format!("{}printf %s \"$TIDEWATCH_REASON\"", told.env());
            let output = std::process::Command::new("/bin/sh")
                .args(["-c", &script])
                .output()
                .unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), nasty);
        }
    }

    #[test]
    fn the_default_asks_for_nothing() {
        let default = Instruction::default_of("cart", "normal", "Tidewatch is away".into());
        let expected = json!({
            "service": "cart", "mode": "normal", "level": null, "priority_floor": "low",
            "quality": null, "shed": 0.0, "features": {}, "source": "default",
            "reason": "Tidewatch is away", "since": null, "sequence": null,
        });
        assert_eq!(
            serde_json::from_str::<Value>(&default.json()).unwrap(),
            expected
        );
        let told = told();
        assert!(!default.has_effect_of(&told));
        let newer = Instruction {
            sequence: Some(10),
            reason: "another".into(),
            ..told.clone()
        };
        assert!(told != newer && told.has_effect_of(&newer));
        let stricter = Instruction {
            shed: 0.5,
            ..told.clone()
        };
        assert!(!told.has_effect_of(&stricter));
    }
}
