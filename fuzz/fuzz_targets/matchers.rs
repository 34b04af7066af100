#![no_main]

use libfuzzer_sys::fuzz_target;
use tidewatch::model::Matcher;

// Alertmanager's conditions, as routes, silences and requests have them: any text is answered.
fuzz_target!(|text: &str| {
    drop(Matcher::parse_list(text));
    drop(Matcher::parse(text));
});
