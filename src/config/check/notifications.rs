//! The route: a receiver that exists, times that make sense.

use crate::config::{Config, Period};

use super::Checker;

impl Checker<'_> {
    pub(super) fn notifications(&mut self, config: &Config) {
        let names = self.receiver_names();
        let route = &config.route;
        self.receiver_name("route.receiver", &route.receiver, &names);
        let week = Period::secs(7 * 86_400);
        self.period(
            "route.group_wait",
            route.group_wait,
            Period::default(),
            week,
        );
        self.period(
            "route.group_interval",
            route.group_interval,
            Period::secs(1),
            week,
        );
        let year = Period::secs(365 * 86_400);
        self.period(
            "route.repeat_interval",
            route.repeat_interval,
            Period::secs(1),
            year,
        );
        if route.repeat_interval < route.group_interval {
            self.warn(
                "route.repeat_interval",
                format!(
                    "is shorter than group_interval ({}), which holds it back",
                    route.group_interval
                ),
                "make it a multiple of group_interval",
            );
        }
        // `...` stands for all labels, as in Alertmanager.
        let single = |label: &&String| *label != "..." || route.group_by.len() > 1;
        for (at, label) in route
            .group_by
            .iter()
            .enumerate()
            .filter(|(_, label)| single(label))
        {
            self.label_name(&format!("route.group_by[{at}]"), label);
        }
    }
}
