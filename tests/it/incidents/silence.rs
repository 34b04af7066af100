//! Who says nothing any more.

use super::{AS_SHIPPED, learned_shop};

/// `mailer`, which nobody waits for, stops: no error, no slow request, nothing. Somebody is told
/// within a few ticks; when it comes back, it is over.
#[test]
fn a_service_that_goes_silent() {
    for seed in [41, 42] {
        let mut watched = learned_shop(seed, AS_SHIPPED);
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
