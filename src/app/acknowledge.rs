//! What services say of the modes they run in, taken in together.

use super::commands::{answer, refused};
use super::decide::Decider;
use super::pipeline::Decisions;
use crate::publish::Acknowledging;

impl Decider {
    /// Takes in what instances of services say: whatever it leads to is made durable together, and public
    /// together, and then they are answered. As with alerts, they are heard even if the disk fails.
    pub(super) async fn acknowledge(&mut self, many: Vec<Acknowledging>) {
        let now = self.clock.now();
        let mut decisions = Decisions::default();
        let mut answers = Vec::with_capacity(many.len());
        for Acknowledging {
            service,
            acknowledgement,
            reply,
        } in many
        {
            let modes = &mut self.pipeline.modes;
            let result = modes.acknowledge(now, &service, acknowledgement);
            let result = result.map(|changes| decisions.modes.extend(changes));
            answers.push((reply, result.map_err(refused)));
        }
        let events = self.pipeline.events(now, &decisions);
        // Most say what they said before: that is shown with the next tick.
        if !events.is_empty() {
            self.settle_events(now, decisions, events).await;
        }
        for (reply, result) in answers {
            answer(reply, result);
        }
    }
}
