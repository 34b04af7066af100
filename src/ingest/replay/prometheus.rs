//! What Prometheus answers to `/api/v1/query_range`: all samples of one series, then those of the next.
//! That is turned into the order of time in memory, 24 bytes a sample.

use std::collections::BTreeMap;
use std::fmt;
use std::io::BufReader;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, SeqAccess, Visitor};

use super::identity::{self, Named, Naming};
use super::{Arrival, Data, Error, Note, Notes, Opened, Source};
use crate::model::{MetricPoint, PointData, Timestamp};

/// Most samples of one file: 1.2 GB. Prometheus gives at most 11,000 a series.
const MAX_SAMPLES: usize = 50_000_000;
/// Labels by which the service is called, the first that is there.
const SERVICES: [&str; 4] = ["service_name", "service", "job", "app"];

/// An answer, in order of time.
pub(super) struct Prometheus {
    series: Vec<Named>,
    samples: std::vec::IntoIter<Stored>,
    notes: Notes,
    bytes: u64,
}

#[derive(Clone, Copy)]
struct Stored {
    time: Timestamp,
    series: u32,
    value: f64,
}

#[derive(Deserialize)]
struct Answer {
    status: String,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    data: Option<AnswerData>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnswerData {
    result_type: String,
    result: Vec<Series>,
}

#[derive(Deserialize)]
struct Series {
    #[serde(default)]
    metric: BTreeMap<String, String>,
    #[serde(default)]
    values: Values,
    #[serde(default)]
    value: Option<IgnoredAny>,
    #[serde(default)]
    histograms: Option<IgnoredAny>,
}

/// `[[1767225600.5, "1.5"], …]`; what is no finite number is only counted.
#[derive(Default)]
struct Values {
    samples: Vec<(Timestamp, f64)>,
    empty: u64,
}

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Values;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of [time, \"value\"]")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Values, A::Error> {
                let mut values = Values::default();
                while let Some((time, value)) =
                    list.next_element::<(f64, std::borrow::Cow<'_, str>)>()?
                {
                    if values.samples.len() >= MAX_SAMPLES {
                        return Err(de::Error::custom("too many samples"));
                    }
                    if time.is_nan() || time.abs() > 9e9 {
                        return Err(de::Error::custom(format!(
                            "{time} is not a time in seconds"
                        )));
                    }
                    let number = value.parse::<f64>().map_err(|_| {
                        de::Error::custom("a value is a number in quotes".to_owned())
                    })?;
                    // Prometheus keeps milliseconds.
                    let millis = (time * 1e3).round() as i64;
                    let time = Timestamp::from_nanos(millis * 1_000_000);
                    if number.is_finite() {
                        values.samples.push((time, number));
                    } else {
                        values.empty += 1;
                    }
                }
                Ok(values)
            }
        }
        deserializer.deserialize_seq(List)
    }
}

impl Prometheus {
    pub(super) fn read(file: Arc<str>, opened: Opened, naming: &Naming) -> Result<Self, Error> {
        let read = Arc::clone(&opened.read);
        let error = |line: u64, message: String, hint: Option<&str>| Error {
            file: file.to_string(),
            line,
            message,
            hint: hint.map(str::to_owned),
        };
        let reader = BufReader::with_capacity(256 * 1024, opened.into_reader());
        let answer: Answer = serde_json::from_reader(reader).map_err(|wrong| {
            error(
                wrong.line() as u64,
                wrong.to_string(),
                Some("it is the whole answer of /api/v1/query_range, as curl saves it"),
            )
        })?;
        if answer.status != "success" {
            let said = answer.error.unwrap_or(answer.status);
            return Err(error(
                0,
                format!("Prometheus answered with an error: {said}"),
                None,
            ));
        }
        let data = answer.data.filter(|data| data.result_type == "matrix");
        let Some(data) = data else {
            return Err(error(
                0,
                "this is not the answer to a range query".into(),
                Some("ask /api/v1/query_range with start, end and step; its resultType is matrix"),
            ));
        };
        let mut notes = Notes::default();
        let mut named = Vec::new();
        let mut samples = Vec::new();
        for (number, series) in (0u32..).zip(data.result) {
            let shape = series.value.is_some() || series.histograms.is_some();
            if series.values.samples.is_empty() && shape {
                notes.foreign.add(1, 0);
            }
            notes.empty.add(series.values.empty, 0);
            if samples.len() + series.values.samples.len() > MAX_SAMPLES {
                return Err(error(
                    0,
                    format!("it has more than {MAX_SAMPLES} samples"),
                    Some("ask for fewer series or a shorter time at once"),
                ));
            }
            named.push(name(series.metric, naming));
            samples.extend(
                series
                    .values
                    .samples
                    .into_iter()
                    .map(|(time, value)| Stored {
                        time,
                        series: number,
                        value,
                    }),
            );
        }
        samples.sort_by_key(|sample| (sample.time, sample.series));
        if notes.empty.count == 0 {
            notes.empty = Note::default();
        }
        Ok(Self {
            series: named,
            samples: samples.into_iter(),
            notes,
            bytes: read.load(std::sync::atomic::Ordering::Relaxed),
        })
    }
}

/// How the series with these labels is called.
fn name(mut labels: BTreeMap<String, String>, naming: &Naming) -> Named {
    let metric = labels.remove("__name__").filter(|name| !name.is_empty());
    // The name of a raw counter says that it is one; rates and sums of it have lost their names.
    let kind = identity::kind_of(metric.as_deref().unwrap_or_default());
    let metric = naming.metric.clone().or(metric);
    let service = SERVICES
        .iter()
        .find_map(|label| labels.get(*label).filter(|value| !value.is_empty()))
        .cloned()
        .unwrap_or_else(|| naming.service.clone());
    let metric = metric.unwrap_or_else(|| "value".into());
    identity::series(&service, &metric, kind, labels)
}

impl Source for Prometheus {
    fn next(&mut self) -> Result<Option<Arrival>, Error> {
        let next = self.samples.next();
        let found =
            next.and_then(|sample| Some((sample, self.series.get(sample.series as usize)?)));
        Ok(found.map(|(sample, series)| Arrival {
            at: sample.time,
            data: Data::Point(MetricPoint {
                series: series.id,
                identity: Arc::clone(&series.identity).into(),
                start: None,
                time: sample.time,
                data: PointData::Number(sample.value),
                exemplar: None,
            }),
        }))
    }

    fn notes(&self) -> &Notes {
        &self.notes
    }

    fn position(&self) -> u64 {
        self.bytes
    }
}
