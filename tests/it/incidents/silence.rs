//! Who says nothing any more.

use super::shop;
use super::watched::Watched;
use super::world::World;

/// What a rule about silence looks like.
const SILENCE: &str = r#"
rules:
  - alert: ServiceSilent
    match: '{metric="span.duration",signal="rate"}'
    detector: absence
"#;

/// `mailer`, which nobody waits for, stops: no error, no slow request, nothing. Somebody is told
/// within a few ticks; when it comes back, it is over.
#[test]
fn a_service_that_goes_silent() {
    for seed in [41, 42] {
        let mut watched = Watched::new(seed, SILENCE, World::new(seed, shop()));
        watched.run(120);
        watched.expect_silence();
        watched.mark();
        for instance in &mut watched.world.service("mailer").instances {
            instance.up = false;
        }
        watched.run(30);
        watched.expect(&["ServiceSilent"], "mailer", 12);
        watched.expect_only(&["mailer"]);
        let now = watched.now();
        for instance in &mut watched.world.service("mailer").instances {
            instance.up = true;
            instance.restart(now);
        }
        watched.run(20);
        watched.expect_all_resolved();
    }
}
