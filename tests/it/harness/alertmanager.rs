//! Debian's Alertmanager: a real one to compare with, its amtool, and the description of its API.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::{eventually, program, with_tls};

/// A real Alertmanager on a free port, stopped when dropped.
pub struct Alertmanager {
    child: Child,
    pub url: String,
    _folder: tempfile::TempDir,
}

impl Alertmanager {
    /// With this configuration.
    pub async fn start(config: &str) -> Self {
        with_tls();
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("alertmanager.yml");
        fs::write(&file, config).expect("written");
        let port = super::free_port();
        let child = Command::new("prometheus-alertmanager")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.path={}",
                folder.path().join("data").display()
            ))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--cluster.listen-address=")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("alertmanager: {e}; `tests/run` installs what is needed"));
        let alertmanager = Self {
            child,
            url: format!("http://127.0.0.1:{port}"),
            _folder: folder,
        };
        let ready = format!("{}/-/ready", alertmanager.url);
        eventually("Alertmanager is ready", || {
            let asked = reqwest::get(ready.clone());
            async move { asked.await.ok().filter(|a| a.status().is_success()) }
        })
        .await;
        alertmanager
    }
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Runs amtool against `url`; what it printed, after it succeeded.
#[track_caller]
pub fn amtool(url: &str, arguments: &[&str]) -> String {
    let url = format!("--alertmanager.url={url}");
    let output = program("amtool", &[&[url.as_str()], arguments].concat());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "amtool {arguments:?}: {}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// The description of its API (OpenAPI 2) that the installed Alertmanager carries in its program.
pub struct Description(Value);

impl Description {
    pub fn of_installed() -> Self {
        let path = std::env::split_paths(&std::env::var_os("PATH").expect("a PATH"))
            .map(|folder| folder.join("prometheus-alertmanager"))
            .find(|path| path.is_file());
        let path: PathBuf = path.expect("`tests/run` installs what is needed");
        let program = fs::read(path).expect("the program is readable");
        let begins = br#"{
  "consumes": ["#;
        let at = program
            .windows(begins.len())
            .position(|window| window == begins)
            .expect("the program carries the description");
        let mut values = serde_json::Deserializer::from_slice(&program[at..]).into_iter();
        let value: Value = values.next().expect("a value").expect("JSON");
        assert_eq!(value["info"]["title"], "Alertmanager API");
        Self(value)
    }

    /// What does not fit in the answer with this status of an operation (`/silences`, `get`).
    pub fn misfits(&self, path: &str, method: &str, status: u16, answer: &Value) -> Vec<String> {
        let responses = &self.0["paths"][path][method]["responses"];
        let response = self.resolved(&responses[status.to_string()]);
        if response.is_null() {
            return vec![format!("{method} {path}: {status} is not described")];
        }
        let mut misfits = Vec::new();
        match &response["schema"] {
            Value::Null => {}
            schema => self.check(schema, answer, path, &mut misfits),
        }
        misfits
    }

    fn resolved<'d>(&'d self, schema: &'d Value) -> &'d Value {
        match schema["$ref"].as_str() {
            Some(reference) => {
                let pointer = reference.strip_prefix('#').expect("a local reference");
                self.0.pointer(pointer).expect(reference)
            }
            None => schema,
        }
    }

    /// The properties of an object and which of them must be there, those of its parts among them.
    fn properties<'d>(&'d self, schema: &'d Value) -> (Vec<(&'d String, &'d Value)>, Vec<&'d str>) {
        let schema = self.resolved(schema);
        let (mut properties, mut required) = (Vec::new(), Vec::new());
        for part in schema["allOf"].as_array().into_iter().flatten() {
            let (of_part, required_of_part) = self.properties(part);
            properties.extend(of_part);
            required.extend(required_of_part);
        }
        properties.extend(schema["properties"].as_object().into_iter().flatten());
        let names = schema["required"].as_array().into_iter().flatten();
        required.extend(names.filter_map(Value::as_str));
        (properties, required)
    }

    fn check(&self, schema: &Value, value: &Value, place: &str, misfits: &mut Vec<String>) {
        let schema = self.resolved(schema);
        let mut misfit = |what: &str| misfits.push(format!("{place}: {what}: {value}"));
        if let Some(allowed) = schema["enum"].as_array()
            && !allowed.contains(value)
        {
            misfit("none of the allowed values");
        }
        let kind = match schema["allOf"].is_array() {
            true => "object",
            false => schema["type"].as_str().expect("a type"),
        };
        match kind {
            "string" => {
                let text = value.as_str();
                let is_time = |text: &str| text.parse::<jiff::Timestamp>().is_ok();
                match (text, schema["format"].as_str()) {
                    (None, _) => misfit("no string"),
                    (Some(text), Some("date-time")) if !is_time(text) => misfit("no time"),
                    _ => {}
                }
            }
            "boolean" if !value.is_boolean() => misfit("no boolean"),
            "array" => match value.as_array() {
                None => misfit("no list"),
                Some(items) => {
                    let least = schema["minItems"].as_u64().unwrap_or(0);
                    if u64::try_from(items.len()).unwrap_or(0) < least {
                        misfit("too short");
                    }
                    for (at, item) in items.iter().enumerate() {
                        self.check(&schema["items"], item, &format!("{place}.{at}"), misfits);
                    }
                }
            },
            "object" => {
                let Some(fields) = value.as_object() else {
                    return misfit("no object");
                };
                let (properties, required) = self.properties(schema);
                for name in required {
                    if !fields.contains_key(name) {
                        misfits.push(format!("{place}: {name} is missing"));
                    }
                }
                for (name, field) in fields {
                    let place = format!("{place}.{name}");
                    let known = properties.iter().find(|(property, _)| *property == name);
                    match (known, &schema["additionalProperties"]) {
                        (Some((_, schema)), _) => self.check(schema, field, &place, misfits),
                        (None, Value::Null) => misfits.push(format!("{place} is not described")),
                        (None, schema) => self.check(schema, field, &place, misfits),
                    }
                }
            }
            _ => {}
        }
    }
}
