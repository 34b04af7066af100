//! Any bytes as a recording, in each form and as what they look like: an answer, and what is given out
//! is in order of time and usable.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use tidewatch::ingest::replay::{Data, Input, Naming, RecordFormat};
use tidewatch::model::{PointData, Timestamp};

fuzz_target!(|bytes: &[u8]| {
    let naming = Naming {
        service: "fuzz".into(),
        metric: None,
    };
    let forms = RecordFormat::ALL.into_iter().map(Some).chain([None]);
    for form in forms {
        let opened = Input::of_bytes(Path::new("fuzz"), bytes.to_vec(), form, &naming);
        let Ok(mut input) = opened else { continue };
        let mut now = Timestamp::from_nanos(i64::MIN);
        while let Ok(Some(arrival)) = input.next_arrival() {
            assert!(arrival.at >= now);
            now = arrival.at;
            match arrival.data {
                Data::Point(point) => {
                    let identity = point.identity.here().expect("rows say theirs");
                    assert_eq!(point.series, identity.id());
                    assert_eq!(point.time, now);
                    assert!(matches!(point.data, PointData::Number(number) if number.is_finite()));
                }
                Data::Batch(batch) => {
                    assert!(batch.spans.iter().all(|span| span.start <= span.end));
                }
            }
        }
    }
});
