#![no_main]

use libfuzzer_sys::fuzz_target;
use tidewatch::model::Selector;

fuzz_target!(|text: &str| {
    if let Ok(selector) = Selector::parse(text) {
        // What it shows reads as the same selector.
        let shown = selector.to_string();
        let again = Selector::parse(&shown).expect("it reads what it shows");
        assert_eq!(again.to_string(), shown);
    }
});
