//! `tidewatch check --route` against `amtool config routes test`.

use std::process::Output;

use serde_json::Value;

use crate::harness::{program, stdout, tidewatch};

const CONFIG: &str = r#"
route:
  receiver: root
  routes:
    - matchers: [team = x]
      receiver: tx
      continue: true
      routes:
        - match: {severity: critical}
          receiver: pager
          group_by: [service]
        - match_re: {severity: warn.*}
          continue: true
        - matchers: ['severity != "", zone = ""']
          receiver: any
          routes:
            - {receiver: deep, continue: true}
            - {matchers: [a = b], receiver: deeper}
    - {matchers: ['team =~ "x|y"', 'z = ""'], receiver: ty}
    - {matchers: [q = 1], receiver: tq, continue: true}
receivers: [{name: root}, {name: tx}, {name: pager}, {name: any}, {name: deep}, {name: deeper}, {name: ty}, {name: tq}]
"#;

fn check(config: &str, arguments: &[&str]) -> Output {
    let mut all = vec!["check", "--config", config, "--route"];
    all.extend(arguments);
    tidewatch(&all)
}

#[test]
fn it_shows_the_routes_that_amtool_shows() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("alertmanager.yml");
    std::fs::write(&file, CONFIG).expect("written");
    let file = file.to_str().expect("UTF-8");
    for labels in [
        &[][..],
        &["team=x"],
        &["team=x", "severity=critical"],
        &["team=x", "severity=critical", "z=1"],
        &["team=x", "severity=warning"],
        &["team=x", "severity=info", "a=b"],
        &["team=x", "severity=info", "a=b", "zone=1"],
        &["team=y"],
        &["team=\"y\"", "z="],
        &["q=1", "team=z"],
        &["alertname = with a space"],
    ] {
        let mut arguments = vec!["config", "routes", "test", "--tree"];
        let option = format!("--config.file={file}");
        arguments.push(&option);
        arguments.extend(labels);
        // No-break spaces and empty lines are of no account.
        let lines = |text: String| -> Vec<String> {
            let text = text.replace('\u{a0}', " ");
            let lines = text.lines().map(str::trim_end);
            lines.filter(|l| !l.is_empty()).map(Into::into).collect()
        };
        let theirs = lines(stdout(&program("amtool", &arguments)));
        let ours = lines(stdout(&check(file, labels)));
        assert_eq!(ours, theirs, "{labels:?}");
    }

    let critical = ["team=x", "severity=critical"];
    let verify = |receivers: &'static str| {
        let arguments = [&critical[..], &["--verify-receivers", receivers]].concat();
        check(file, &arguments)
    };
    assert!(verify("pager,ty").status.success());
    let wrong = verify("ty,pager");
    assert_eq!(wrong.status.code(), Some(1));
    let said = String::from_utf8_lossy(&wrong.stderr);
    assert!(said.contains("the routes lead to pager,ty"), "{said}");

    let json = check(file, &[&critical[..], &["--output", "json"]].concat());
    let json: Value = serde_json::from_str(&stdout(&json)).expect("JSON");
    assert_eq!(json["receivers"], serde_json::json!(["pager", "ty"]));
    let route = &json["routes"][0];
    assert_eq!(route["route"], r#"{}/{team="x"}/{severity="critical"}"#);
    assert_eq!(route["group_by"], serde_json::json!(["service"]));
    assert_eq!(route["group_wait"], "30s");

    for wrong in ["team", "team=~x", "1=x"] {
        assert_eq!(check(file, &[wrong]).status.code(), Some(2), "{wrong}");
    }
}
