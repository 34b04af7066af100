use std::time::Duration;

use regex::{Regex, RegexBuilder};

use super::policy::Policy;
use crate::model::{Instruction, Level, Levels};

/// Memory that the compiled expressions of one group's member may take, in bytes; names are short.
const MAX_EXPRESSION: usize = 1 << 20;

/// Of so many services that may be known one may be known from alerts only.
const NAMED_SHARE: usize = 10;
/// But so many may be, however few there may be at all.
const MIN_NAMED: usize = 100;

/// How services are degraded.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The names of the levels, from normal to worst.
    pub levels: Levels,
    /// What each level means, by rank; a level beyond the end means nothing but its name. Default none.
    pub instructions: Vec<Instruction>,
    /// How long an instruction holds for a service that hears nothing newer. Default 30 s.
    pub lease: Duration,
    /// Share of the services that are heard, 0 to 1, that may be away from normal before automation stops
    /// taking more away; apart from them it holds among those that only alerts name, as far as one asks for
    /// something. Always at least one service, but for 0: then automation takes none. Default 0.5.
    pub limit: f64,
    /// Services that have a limit of their own beside the common one; names are unique. Default none.
    pub groups: Vec<Group>,
    /// For how much watched time the claim of an alert that fell silent is kept. Default 15 minutes.
    pub silence: Duration,
    /// How much time with data, and at least three ticks of it, automation wants to have seen after a
    /// start, a gap in the data or a jump of the clock before it changes anything. Default 30 s.
    pub settle: Duration,
    /// Time from one call of [`Machine::tick`](super::Machine::tick) to the next. Default 10 s.
    pub tick: Duration,
    /// For how long a service may run in another mode than it was told before that is worth an alert.
    /// Default 2 minutes.
    pub acknowledge_within: Duration,
    /// Which alerts ask for which level; names are unique. Default none.
    pub policies: Vec<Policy>,
    /// Most services that are known at once; further ones are left alone. At most a tenth of them, or 100
    /// if that is more, may be known from alerts only. Default 10,000.
    pub max_services: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            levels: Levels::default(),
            instructions: Vec::new(),
            lease: Duration::from_secs(30),
            limit: 0.5,
            groups: Vec::new(),
            silence: Duration::from_mins(15),
            settle: Duration::from_secs(30),
            tick: Duration::from_secs(10),
            acknowledge_within: Duration::from_mins(2),
            policies: Vec::new(),
            max_services: 10_000,
        }
    }
}

impl Settings {
    /// How many of `known` services may be away from normal.
    pub(super) fn allowed(&self, known: usize) -> usize {
        Allowance::Share(self.limit).of(known)
    }

    /// Most services that only alerts name; whoever sends alerts must not fill the house.
    pub(super) fn max_named(&self) -> usize {
        let share = self.max_services / NAMED_SHARE;
        share.max(MIN_NAMED).min(self.max_services)
    }

    /// The worst level there is.
    pub(super) fn worst(&self) -> Level {
        Level(u8::try_from(self.levels.names().len().saturating_sub(1)).unwrap_or(u8::MAX))
    }

    /// What `level` means.
    pub(super) fn instruction(&self, level: Level) -> Instruction {
        let found = self.instructions.get(usize::from(level.0));
        found.cloned().unwrap_or_default()
    }

    /// The positions of the groups that `service` is in.
    pub(super) fn groups_of(&self, service: &str) -> Vec<usize> {
        let groups = self.groups.iter().enumerate();
        groups
            .filter(|(_, group)| group.members.contain(service))
            .map(|(at, _)| at)
            .collect()
    }
}

/// How many services of some may be away from normal at once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Allowance {
    /// A share of those that are heard, 0 to 1, and apart from them of those that only alerts name; always
    /// at least one service, but for 0.
    Share(f64),
    /// So many, heard or not.
    Count(usize),
}

impl Allowance {
    /// How many of `known` services.
    pub(super) fn of(self, known: usize) -> usize {
        let share = match self {
            Self::Count(count) => return count,
            Self::Share(share) => share,
        };
        // NaN is not above 0 either, and so means none: the safe side.
        if share.is_nan() || share <= 0.0 {
            return 0;
        }
        // Without the small addition 29 % of 100 would be 28.
        let share = (share.min(1.0) * known as f64 + 1e-9).floor() as usize;
        share.max(1)
    }
}

/// Services that belong together.
#[derive(Debug, Clone)]
pub struct Group {
    /// Its name, different from all others'.
    pub name: String,
    /// Which services are in it.
    pub members: Members,
    /// How many of its known members automation may have away from normal at once.
    pub limit: Allowance,
}

/// Names of services, or regular expressions that hold for whole names.
#[derive(Debug, Clone)]
pub struct Members(Vec<Regex>);

impl Members {
    /// Reads names or expressions.
    ///
    /// # Errors
    /// One is no regular expression, or too large a one: says which and what is wrong.
    pub fn parse<S: AsRef<str>>(members: impl IntoIterator<Item = S>) -> Result<Self, String> {
        let whole = |member: S| {
            let member = member.as_ref();
            let build = |text: &str| RegexBuilder::new(text).size_limit(MAX_EXPRESSION).build();
            // Alone first: `a)|(b` is none, though it becomes one between brackets.
            build(member)
                .and_then(|_| build(&format!("^(?:{member})$")))
                .map_err(|error| format!("`{member}`: {error}"))
        };
        let members = members.into_iter().map(whole);
        members.collect::<Result<_, _>>().map(Self)
    }

    /// Whether `service` is one of them.
    pub fn contain(&self, service: &str) -> bool {
        self.0.iter().any(|member| member.is_match(service))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_a_share_but_at_least_one() {
        for (limit, known, allowed) in [
            (0.5, 0, 1),
            (0.5, 1, 1),
            (0.5, 5, 2),
            (0.29, 100, 29),
            (1.0, 7, 7),
            (9.0, 7, 7),
            (0.0, 7, 0),
            (-1.0, 7, 0),
            (f64::NAN, 7, 0),
            (1e-9, 7, 1),
        ] {
            let settings = Settings {
                limit,
                ..Settings::default()
            };
            assert_eq!(settings.allowed(known), allowed, "{limit} of {known}");
        }
    }

    #[test]
    fn members_are_whole_names_or_expressions() {
        let members = Members::parse(["gateway", "web-.*|edge"]).unwrap();
        for (service, expected) in [
            ("gateway", true),
            ("gateway2", false),
            ("web-", true),
            ("my-web-1", false),
            ("edge", true),
            ("edge2", false),
        ] {
            assert_eq!(members.contain(service), expected, "{service}");
        }
        for wrong in ["(", "a)|(b"] {
            let error = Members::parse([wrong]).unwrap_err();
            assert!(error.starts_with(&format!("`{wrong}`")), "{error}");
        }
    }
}
