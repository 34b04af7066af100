//! What Tidewatch says where nobody wrote a template: titles, and texts for each target.

use std::collections::BTreeSet;

use crate::dispatch::{Notification, Status};
use crate::model::{Alert, ModeChange};
use crate::notify::message;

/// Alerts that a built-in text tells one by one; a chat is not read further.
macro_rules! shown {
    () => {
        "10"
    };
}
/// Names of alerts in a title.
const MAX_NAMES: usize = 3;

/// The built-in title.
pub(in crate::notify) const TITLE: &str = "{{ title }}";
/// Where the title leads.
pub(in crate::notify) const URL: &str = "{{ url }}";

/// A text for chats and pagers, with bold words between `$b`, paragraphs apart by `$p`, and a link.
macro_rules! told {
    ($b:literal, $p:literal, $link:literal) => {
        concat!(
            "{% if mode %}{{ mode.cause }}{% endif %}",
            "{% for alert in alerts[:", shown!(), "] %}",
            "{% if not loop.first %}\n\n{% endif %}",
            $b, "{{ alert.name }}", $b, " on ", $b, "{{ alert.service | default('no service') }}", $b, ": ",
            "{% if alert.status == 'resolved' %}resolved {{ alert.ends_at | date }} after {{ alert.duration | duration }}",
            "{% else %}{{ alert.severity | default('firing') }} since {{ alert.starts_at | date }}{% endif %}",
            "{% if alert.explanation %}", $p, "{{ alert.explanation }}{% endif %}",
            "{% if alert.recommendation and alert.status != 'resolved' %}",
            $p, $b, "What to do:", $b, " {{ alert.recommendation }}{% endif %}",
            "{% if alert.url %}", $p, $link, "{% endif %}",
            "{% endfor %}",
            "{% set more = truncated_alerts + ([alerts | length - ", shown!(), ", 0] | max) %}",
            "{% if more > 0 %}\n\n… and {{ more }} more{% endif %}",
        )
    };
}

/// The built-in text, as it is.
pub(in crate::notify) const PLAIN: &str = told!("", "\n", "{{ alert.url }}");

/// The built-in text in Slack's markup.
pub(in crate::notify) const SLACK: &str = told!("*", "\n", "<{{ alert.url }}|Open in Tidewatch>");

/// The built-in text in Markdown.
pub(in crate::notify) const MARKDOWN: &str =
    told!("**", "\n\n", "[Open in Tidewatch]({{ alert.url | safe }})");

/// The built-in mail.
pub(in crate::notify) const HTML: &str = concat!(
    "<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"><title>{{ title }}</title></head>\n",
    "<body style=\"font:14px/1.5 system-ui,sans-serif;color:#1a1a1a;max-width:46em;margin:1em auto;padding:0 1em\">\n",
    "<h2 style=\"margin:0 0 .5em;color:{% if mode %}#5a5a5a{% elif status == 'resolved' %}#1f7a3d{% else %}#b3261e{% endif %}\">{{ title }}</h2>\n",
    "{% if mode %}<p>{{ mode.cause }}</p>\n{% endif %}",
    "{% for alert in alerts %}",
    "<div style=\"border-left:4px solid {% if alert.status == 'resolved' %}#1f7a3d{% elif alert.severity == 'critical' %}#b3261e{% else %}#c77700{% endif %};padding:.1em 1em;margin:1em 0\">\n",
    "<p><b>{{ alert.name }}</b> on <b>{{ alert.service | default('no service') }}</b>: ",
    "{% if alert.status == 'resolved' %}resolved {{ alert.ends_at | date }} after {{ alert.duration | duration }}",
    "{% else %}{{ alert.severity | default('firing') }} since {{ alert.starts_at | date }}{% endif %}</p>\n",
    "{% if alert.explanation %}<p>{{ alert.explanation }}</p>\n{% endif %}",
    "{% if alert.recommendation and alert.status != 'resolved' %}<p><b>What to do:</b> {{ alert.recommendation }}</p>\n{% endif %}",
    "<p style=\"color:#5a5a5a;font-size:12px\">",
    "{% for name, value in alert.labels | items %}{{ name }}={{ value }}{% if not loop.last %}, {% endif %}{% endfor %}</p>\n",
    "{% if alert.url %}<p><a href=\"{{ alert.url }}\">Open in Tidewatch</a></p>\n{% endif %}",
    "</div>\n{% endfor %}",
    "{% if truncated_alerts > 0 %}<p>… and {{ truncated_alerts }} more</p>\n{% endif %}",
    "</body></html>\n",
);

/// `[FIRING:2] checkout: LatencyDeviation`: status and number, the group, and what its alerts are called.
pub(super) fn title(notification: &Notification, alerts: &[&Alert]) -> String {
    let firing = alerts.iter().filter(|a| message::is_firing(a)).count() as u64;
    let mut title = match notification.status {
        // Firing ones come first: where all that are listed fire, so may those that are not.
        Status::Firing if firing == alerts.len() as u64 => {
            format!("[FIRING:{}]", firing + notification.truncated)
        }
        Status::Firing => format!("[FIRING:{firing}]"),
        Status::Resolved => "[RESOLVED]".into(),
    };
    for (_, value) in notification
        .group_labels
        .iter()
        .filter(|(_, v)| !v.is_empty())
    {
        title.push(' ');
        title.push_str(value);
    }
    let mut names = BTreeSet::new();
    for alert in alerts {
        if !alert.name().is_empty() {
            names.insert(alert.name());
        }
    }
    if notification.group_labels.get("alertname").is_none() && !names.is_empty() {
        let separator = if notification.group_labels.is_empty() {
            " "
        } else {
            ": "
        };
        title.push_str(separator);
        let shown: Vec<_> = names.iter().take(MAX_NAMES).copied().collect();
        title.push_str(&shown.join(", "));
        if names.len() > MAX_NAMES {
            title.push_str(&format!(" and {} more", names.len() - MAX_NAMES));
        }
    }
    title
}

/// `checkout runs degraded (was normal)`.
pub(super) fn mode_title(change: &ModeChange) -> String {
    let state = &change.state;
    format!(
        "{} runs {} (was {})",
        state.service, state.mode, change.from
    )
}

/// The worst severity of those that fire; of all when none does.
pub(super) fn severity(alerts: &[&Alert]) -> &'static str {
    let firing = alerts.iter().filter(|alert| message::is_firing(alert));
    let worst = firing.map(|alert| alert.severity).max();
    let worst = worst.or_else(|| alerts.iter().map(|alert| alert.severity).max());
    worst.map_or("", crate::model::SeverityLabel::name)
}
