use std::io::{Cursor, Write as _};
use std::path::Path;

use super::*;
use crate::model::{MetricKind, PointData, Reject};

fn naming() -> Naming {
    Naming {
        service: "file".into(),
        metric: None,
    }
}

/// An input with this content, called `test`.
fn open_as(bytes: &[u8], format: Option<RecordFormat>) -> Result<Input, Error> {
    Input::of_bytes(Path::new("test"), bytes.to_vec(), format, &naming())
}

fn open(text: &str) -> Input {
    open_as(text.as_bytes(), None).expect("it opens")
}

/// Everything in it: `time service/metric{attributes}=value`, or what a request holds.
fn all(mut input: Input) -> (Vec<String>, Notes) {
    let mut seen = Vec::new();
    while let Some(arrival) = input.next_arrival().expect("it reads") {
        seen.push(match arrival.data {
            Data::Point(point) => {
                assert_eq!(point.series, point.identity.here().unwrap().id());
                assert_eq!(point.time, arrival.at);
                shown(&point)
            }
            Data::Batch(batch) => format!(
                "{}: {} points, {} spans, {} refused",
                arrival.at,
                batch.points.len(),
                batch.spans.len(),
                batch.rejections.total()
            ),
        });
    }
    (seen, input.notes().clone())
}

fn shown(point: &MetricPoint) -> String {
    let PointData::Number(value) = &point.data else {
        panic!("a number");
    };
    let identity = point.identity.here().unwrap();
    let attributes: Vec<String> = identity
        .attributes
        .iter()
        .map(|(name, value)| format!("{name}={}", value.as_text()))
        .collect();
    format!(
        "{} {}/{}{{{}}}={value}",
        point.time,
        identity.resource.service,
        identity.metric,
        attributes.join(",")
    )
}

#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let (seen, notes) = all(open(text));
    assert_eq!(seen, expected, "{text}");
    assert_eq!(notes, Notes::default(), "{text}");
}

#[track_caller]
fn fails(text: &str, expected: &str) {
    let error = match open_as(text.as_bytes(), None) {
        Err(error) => error,
        Ok(mut input) => loop {
            match input.next_arrival() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("{text} is read"),
                Err(error) => break error,
            }
        },
    };
    assert!(error.to_string().starts_with(expected), "{text}: {error}");
}

#[test]
fn csv_comes_in_many_forms() {
    let two = &[
        "2026-01-01T00:00:00Z file/value{}=1.5",
        "2026-01-01T00:05:00Z file/value{}=2",
    ];
    check(
        "timestamp,value\n2026-01-01 00:00:00,1.5\n2026-01-01 00:05:00,2\n",
        two,
    );
    check(
        "timestamp,value\r\n2026-01-01 00:00:00,1.5\r\n\r\n2026-01-01 00:05:00, 2",
        two,
    );
    check(
        "\u{feff}2026-01-01 00:00:00,1.5\n2026-01-01 00:05:00,2\n",
        two,
    );
    check("# by hand\n1767225600,1.5\n1767225900000,2\n", two);
    check(
        "value;time\n1.5;2026-01-01T00:00:00Z\n2;2026-01-01T00:05:00Z\n",
        two,
    );
    check(
        "\"Date\",\"Value\",\"is_anomaly\"\n\"2026-01-01 00:00\",\"1.5\",0\n\"2026-01-01 00:05\",\"2\",1\n",
        two,
    );
}

#[test]
fn every_column_of_numbers_is_a_series() {
    let text = "Time,cpu,\"mem, used\"\n1767225600,1,2\n1767225660,3,\n1767225720,,4\n";
    let (seen, notes) = all(open(text));
    let expected = [
        "2026-01-01T00:00:00Z file/cpu{}=1",
        "2026-01-01T00:00:00Z file/mem, used{}=2",
        "2026-01-01T00:01:00Z file/cpu{}=3",
        "2026-01-01T00:02:00Z file/mem, used{}=4",
    ];
    assert_eq!(seen, expected);
    assert_eq!(notes.empty, Note { count: 2, line: 3 });
}

#[test]
fn columns_of_text_name_the_series() {
    check(
        "time,service,metric,route,value,note\n\
         1767225600,cart,http,/a,1,9\n1767225600,cart,http,/b,2,9\n1767225660,pay,http,/a,3,9\n",
        &[
            "2026-01-01T00:00:00Z cart/http{route=/a}=1",
            "2026-01-01T00:00:00Z cart/http{route=/b}=2",
            "2026-01-01T00:01:00Z pay/http{route=/a}=3",
        ],
    );
}

#[test]
fn what_is_left_out_of_csv_is_counted() {
    let text = "timestamp,value\n100,1\n300,2\n200,3\n300,\n400,NaN\n400,n/a\n500,4\n50,5\n";
    let (seen, notes) = all(open(text));
    assert_eq!(seen.len(), 3, "{seen:?}");
    assert_eq!(notes.disordered, Note { count: 2, line: 4 });
    assert_eq!(notes.empty, Note { count: 3, line: 5 });
}

#[test]
fn csv_with_the_newest_row_first_is_sorted() {
    let rows = (0..100).rev().map(|n| format!("{},{n}\n", 1_000 + n));
    let text = format!("timestamp,value\n{}", rows.collect::<String>());
    let (seen, notes) = all(open(&text));
    assert_eq!(seen.len(), 100, "{seen:?}");
    assert_eq!((notes.sorted.count, notes.disordered.count), (99, 0));
    // A row that is left out may say what it likes.
    let text = "timestamp,value\n100,1\n200,2\n300,3\n150,many\n400,4\n500,5\n";
    assert_eq!(all(open(text)).1.disordered, Note { count: 1, line: 5 });
}

#[test]
fn errors_say_where() {
    fails(
        "timestamp,value\n100,1\nyesterday,2\n",
        "test:3: `yesterday` is not a time\n  hint: times are",
    );
    fails(
        "timestamp,value\n100,1\n200,many\n",
        "test:3: `many` is not a number\n  hint: ",
    );
    fails(
        "timestamp,text\n100,one\n",
        "test:1: there are 0 columns of values",
    );
    fails(
        &format!("timestamp,value\n100,{}\n", "1".repeat(2_000_000)),
        "test:2: the line has more than",
    );
    fails(
        "timestamp,cpu,mem,cpu\n100,1,2,3\n",
        "test:1: two columns are called `cpu`",
    );
    let utf16: Vec<u8> = "\u{feff}time,value\n100,1\n"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let error = open_as(&utf16, None).err().map(|error| error.to_string());
    assert!(error.is_some_and(|error| error.starts_with("test: this is UTF-16")));
    fails("{\"a\": 1}", "test: this JSON is neither");
    fails(
        "{\"resourceMetrics\":[]}\n{\"resourceMetrics\":[}\n\n",
        "test:2: invalid JSON",
    );
    fails(
        "{\"resourceMetrics\":[]}\n{\"else\":[]}\n\n",
        "test:2: this line is no OTLP request",
    );
    fails(
        r#"{"status":"error","errorType":"bad_data","error":"no such metric"}"#,
        "test: Prometheus answered with an error: no such metric",
    );
    fails(
        r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#,
        "test: this is not the answer to a range query\n  hint: ask /api/v1/query_range",
    );
    fails(
        r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[1,2]]}]}}"#,
        "test:1: invalid type",
    );
}

const GAUGE: &str = r#"{"resourceMetrics":[{"resource":{},"scopeMetrics":[{"metrics":[{"name":"m","gauge":{"dataPoints":[{"timeUnixNano":"100000000000","asDouble":1},{"timeUnixNano":"110000000000","asDouble":2}]}}]}]}]}"#;
const SPAN: &str = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"00000000000000000000000000000001","spanId":"0000000000000001","name":"s","startTimeUnixNano":"120000000000","endTimeUnixNano":"121000000000"}]}]}]}"#;

#[test]
fn otlp_lines_are_requests_that_arrive_when_their_newest_has_happened() {
    let early = GAUGE.replace("0000000000\"", "000000000\"");
    let (seen, notes) = all(open(&format!(
        "{GAUGE}\n\n{SPAN}\n{{\"resourceLogs\":[]}}\n{early}\n{}",
        GAUGE.get(..100).expect("long"),
    )));
    assert_eq!(
        seen,
        [
            "1970-01-01T00:01:50Z: 2 points, 0 spans, 0 refused",
            "1970-01-01T00:02:01Z: 0 points, 1 spans, 0 refused",
            "1970-01-01T00:02:01Z: 2 points, 0 spans, 0 refused",
        ]
    );
    let once = |line| Note { count: 1, line };
    assert_eq!(notes.foreign, once(4));
    assert_eq!(notes.disordered, once(5));
    assert_eq!(notes.broken, once(6));
}

#[test]
fn one_wrong_clock_does_not_make_the_rest_late() {
    let point =
        |seconds: u64| format!("{{\"timeUnixNano\":\"{seconds}000000000\",\"asDouble\":1}}");
    let points = [100, 110, 105, 4_000_000_000].map(point).join(",");
    let text = format!(
        r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"name":"m","gauge":{{"dataPoints":[{points}]}}}}]}}]}}]}}"#
    );
    let mut input = open(&text);
    let arrival = input
        .next_arrival()
        .expect("it reads")
        .expect("it is there");
    assert_eq!(arrival.at, Timestamp::from_secs(110));
    let Data::Batch(batch) = arrival.data else {
        panic!("a request");
    };
    assert_eq!(batch.points.len(), 3);
    assert!(
        batch
            .rejections
            .iter()
            .any(|(r, n, _)| (r, n) == (Reject::Future, 1))
    );
    assert_eq!(input.notes().future.count, 1);
}

#[test]
fn compressed_files_are_told_by_their_content() {
    let text = "timestamp,value\n1767225600,1\n";
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(text.as_bytes()).expect("memory");
    let zst = zstd::encode_all(text.as_bytes(), 0).expect("memory");
    for bytes in [gz.finish().expect("memory"), zst] {
        let (seen, _) = all(open_as(&bytes, None).expect("it opens"));
        assert_eq!(seen, ["2026-01-01T00:00:00Z file/value{}=1"]);
    }
}

#[test]
fn prometheus_answers_are_turned_into_the_order_of_time() {
    let text = r#"{"status":"success","data":{"resultType":"matrix","result":[
        {"metric":{"__name__":"up","job":"api","instance":"a"},"values":[[1767225600,"1"],[1767225660.5,"NaN"],[1767225720,"0"]]},
        {"metric":{"__name__":"http_requests_total","service":"web","job":"x"},"values":[[1767225600,"10"],[1767225660,"20"]]},
        {"metric":{},"values":[[1767225630.123,"1e3"]]}]},"warnings":["w"]}"#;
    let mut input = open(text);
    assert_eq!(input.format(), RecordFormat::Prometheus);
    let first = input.next_arrival().expect("reads").expect("is there");
    let second = input.next_arrival().expect("reads").expect("is there");
    let (Data::Point(first), Data::Point(second)) = (first.data, second.data) else {
        panic!("points");
    };
    assert_eq!(
        shown(&first),
        "2026-01-01T00:00:00Z api/up{instance=a,job=api}=1"
    );
    assert_eq!(first.identity.here().unwrap().kind, MetricKind::Gauge);
    assert!(matches!(
        second.identity.here().unwrap().kind,
        MetricKind::Sum {
            monotonic: true,
            ..
        }
    ));
    let (rest, notes) = all(input);
    assert_eq!(
        rest,
        [
            "2026-01-01T00:00:30.123Z file/value{}=1000",
            "2026-01-01T00:01:00Z web/http_requests_total{job=x,service=web}=20",
            "2026-01-01T00:02:00Z api/up{instance=a,job=api}=0",
        ]
    );
    assert_eq!(notes.empty.count, 1);
}

#[test]
fn the_pace_is_that_of_one_series() {
    let rows = |step: u64, count: u64| -> String {
        (0..count)
            .map(|n| format!("{},1\n", 1_767_225_600 + n * step + u64::from(n == 7)))
            .collect()
    };
    let spacing = |text: &str| open(text).spacing();
    let seconds = std::time::Duration::from_secs;
    let regular: String = rows(300, 7);
    assert_eq!(
        spacing(&regular),
        Some(Spacing {
            usual: seconds(300),
            grid: seconds(300)
        })
    );
    let nearly = rows(300, 20);
    assert_eq!(
        spacing(&nearly),
        Some(Spacing {
            usual: seconds(300),
            grid: seconds(1)
        })
    );
    assert_eq!(spacing("1767225600,1\n"), None);
    assert_eq!(spacing("1767225600,1\n1767225600,1\n"), None);
    let wide = "time,service,value\n0,a,1\n0,b,1\n3600,a,1\n3600,b,1\n";
    assert_eq!(
        spacing(wide),
        Some(Spacing {
            usual: seconds(3600),
            grid: seconds(3600)
        })
    );
    assert_eq!(spacing(GAUGE), None);
}

#[test]
fn several_inputs_become_one_in_order_of_time() {
    let a = open("10,1\n30,2\n30,3\n200,4\n");
    let b = open("10,5\n20,6\n40,7\n");
    let c = open(&format!("{GAUGE}\n{SPAN}\n"));
    let mut merged = Merged::new(vec![a, b, c]).expect("they read");
    assert_eq!(merged.next_time(), Some(Timestamp::from_secs(10)));
    let mut seen = Vec::new();
    while let Some(stretch) = merged.next(2).expect("they read") {
        match stretch {
            Stretch::Points(points) => {
                assert!(points.len() <= 2);
                seen.extend(points.iter().map(|p| p.time.as_nanos() / 1_000_000_000));
            }
            Stretch::Batch(at, _) => seen.push(at.as_nanos() / 1_000_000_000),
        }
    }
    assert_eq!(seen, [10, 10, 20, 30, 30, 40, 110, 121, 200]);
    assert_eq!(merged.next_time(), None);
}

#[test]
fn the_seeds_of_the_fuzzer_are_read() {
    let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/replay");
    let mut formats = std::collections::BTreeSet::new();
    for file in std::fs::read_dir(seeds).expect("there are seeds") {
        let path = file.expect("a seed").path();
        let input = Input::open(&path, None, &naming()).expect("it opens");
        formats.insert(input.format().name());
        assert!(!all(input).0.is_empty(), "{}", path.display());
    }
    assert_eq!(formats.len(), RecordFormat::ALL.len());
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_answered(bytes: Vec<u8>, form in 0usize..4) {
        let format = RecordFormat::ALL.get(form).copied();
        if let Ok(mut input) = open_as(&bytes, format) {
            while let Ok(Some(_)) = input.next_arrival() {}
        }
    }

    /// However the rows are cut into reads, they are the same.
    #[test]
    fn rows_do_not_depend_on_how_they_are_read(values in proptest::collection::vec(-1e9f64..1e9, 1..50), size in 1usize..40) {
        struct Slow(Cursor<Vec<u8>>, usize);
        impl Read for Slow {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let room = buffer.len().min(self.1);
                self.0.read(&mut buffer[..room])
            }
        }
        let text: String = values.iter().enumerate().map(|(n, value)| format!("{n},{value}\n")).collect();
        let slow = Box::new(Slow(Cursor::new(text.into_bytes()), size));
        let opened = Opened::of("test".into(), slow, None, Arc::default()).expect("memory");
        let input = Input::of(Path::new("test"), opened, Some(RecordFormat::Csv), &naming()).expect("it opens");
        let (seen, _) = all(input);
        let expected: Vec<String> = values
            .iter()
            .enumerate()
            .map(|(n, value)| format!("{} file/value{{}}={value}", Timestamp::from_secs(n as i64)))
            .collect();
        proptest::prop_assert_eq!(seen, expected);
    }
}
