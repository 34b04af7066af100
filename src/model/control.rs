//! What is kept of the loop between modes and their effect: reports of services, proposals, episodes and
//! plans.

use serde::{Deserialize, Serialize};

use super::{Instruction, Level, ModeReason, ModeStep, Timestamp};

/// A service that reports does not do what it was told: the name of that alert.
pub const MODE_NOT_APPLIED: &str = "ModeNotApplied";
/// A step did harm or had no effect: the name of that alert.
pub const DEGRADATION_HARMFUL: &str = "DegradationHarmful";
/// A plan was taken back: the name of that alert.
pub const PLAN_UNDONE: &str = "PlanUndone";
/// The alerts about modes themselves, which no policy acts on.
pub const MODE_ALERTS: [&str; 3] = [MODE_NOT_APPLIED, DEGRADATION_HARMFUL, PLAN_UNDONE];

/// What one instance of a service says about its mode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// Which instance (`service.instance.id`); empty where a service reports as a whole.
    #[serde(default)]
    pub instance: String,
    /// Name of the level that it runs in.
    pub mode: String,
    /// The newest instruction that it has heard, by its `sequence`; 0: it does not say.
    #[serde(default)]
    pub sequence: u64,
    /// Why it runs in another mode than it was told, or what else people should know; may be empty.
    #[serde(default)]
    pub detail: String,
}

/// How far what a service was told, has heard and does agree.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ServiceReport {
    /// Whether every instance that reports has heard the newest instruction.
    pub acknowledged: bool,
    /// The oldest of the newest instructions that its instances have heard.
    pub sequence: u64,
    /// How many instances report at present.
    pub instances: u32,
    /// In which modes they run: name of the level and how many instances, the most first.
    pub actual: Vec<(String, u32)>,
    /// Since when what it does or has heard differs from what it was told; `None`: they agree.
    pub differs_since: Option<Timestamp>,
    /// When it was heard last.
    pub heard_at: Option<Timestamp>,
}

/// Why automation proposes a step to people instead of taking it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Restraint {
    /// As many services are away from normal as may be.
    Limit,
    /// As many services of a group are away from normal as may be.
    GroupLimit {
        /// Name of the group.
        group: String,
    },
    /// The policy only tries what it would do.
    DryRun,
    /// No automatic change while the kill switch is set.
    Frozen,
}

/// A step that automation would take, and leaves to people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Proposal {
    /// Names it while it stands, and is never used for another one at the same time.
    pub id: String,
    /// The service that would be told.
    pub service: String,
    /// Name of the level.
    pub mode: String,
    /// Rank of the level.
    pub level: Level,
    /// What it would be told besides.
    pub instruction: Instruction,
    /// The policy.
    pub policy: String,
    /// Why it is not done.
    pub restraint: Restraint,
    /// The alerts behind it.
    pub why: Vec<ModeReason>,
    /// Since when it stands.
    pub since: Timestamp,
}

/// What became of a proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProposalAction {
    /// It was made.
    Made,
    /// A person said yes.
    Approved,
    /// A person said no.
    Rejected,
    /// There is no need for it any more.
    Withdrawn,
}

/// Whether a step helped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EffectVerdict {
    /// It is too early to say.
    #[default]
    Watching,
    /// The signals behind it are better.
    Improved,
    /// They are as before.
    NoEffect,
    /// They are worse.
    Worse,
    /// They fell silent, or are not ours to read.
    Unknown,
}

impl EffectVerdict {
    /// `watching`, `improved`, `no_effect`, `worse` or `unknown`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Watching => "watching",
            Self::Improved => "improved",
            Self::NoEffect => "no_effect",
            Self::Worse => "worse",
            Self::Unknown => "unknown",
        }
    }
}

/// What a step did to the signals behind it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Effect {
    /// Whether it helped.
    pub verdict: EffectVerdict,
    /// How far the signals were from what was expected when the step was taken, 1 being as far as then;
    /// `None` where nothing can be read.
    pub before: Option<f64>,
    /// How far they were when it was judged, in the same measure.
    pub after: Option<f64>,
    /// When it was judged; `None` while it is watched.
    pub judged_at: Option<Timestamp>,
    /// In one sentence.
    pub sentence: String,
}

/// One step of an episode.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Action {
    /// When.
    pub at: Timestamp,
    /// What kind of step.
    pub step: ModeStep,
    /// Name of the level before.
    pub from: String,
    /// Name of the level after.
    pub to: String,
    /// The policy; empty where none asked for it.
    pub policy: String,
    /// Why, in words.
    pub cause: String,
    /// What it did; `None` for steps whose effect is not watched.
    pub effect: Option<Effect>,
}

/// One departure of a service from normal by automation: cause, actions, effects, duration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Episode {
    /// Names it for good.
    pub id: String,
    /// The service.
    pub service: String,
    /// When it left normal.
    pub opened_at: Timestamp,
    /// When it was back; `None` while it is away.
    pub ended_at: Option<Timestamp>,
    /// The alerts that led to it.
    pub why: Vec<ModeReason>,
    /// What was done, the first first.
    pub actions: Vec<Action>,
    /// How it ended, in words; empty while it goes on.
    pub outcome: String,
}

/// What happened in an episode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EpisodeAction {
    /// It began.
    Opened,
    /// A further step was taken.
    Stepped,
    /// The effect of a step was judged.
    Judged,
    /// The service is normal again.
    Ended,
}

/// Where one step of a plan stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// Its turn has not come.
    Waiting,
    /// The service was told, and has not acknowledged it.
    Told,
    /// The service has acknowledged it.
    Acknowledged,
    /// The service did not acknowledge it in time, or could not be told.
    Failed,
    /// It is being taken back.
    Undoing,
    /// It was taken back.
    Undone,
    /// It came back by recovery.
    Recovered,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanStep {
    /// The service.
    pub service: String,
    /// Name of the level that it is told.
    pub mode: String,
    /// Where the step stands.
    pub state: StepState,
    /// When it came to stand there.
    pub at: Timestamp,
    /// What happened, in words.
    pub detail: String,
}

/// Where a plan stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlanState {
    /// Its steps are taken, one after the other.
    Running,
    /// All steps are acknowledged.
    Standing,
    /// Its steps are taken back, the last first.
    Undoing,
    /// All that was done is taken back.
    Undone,
    /// What it was for is over; its services come back, the last first.
    Recovering,
    /// It is over and all of its services are back.
    Done,
}

/// A change of several services in order, as one: if a step fails, those before it are undone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanRun {
    /// Names it for good.
    pub id: String,
    /// The policy.
    pub policy: String,
    /// The alerts that led to it.
    pub why: Vec<ModeReason>,
    /// When it began.
    pub started_at: Timestamp,
    /// When it was over; `None` while it goes on.
    pub ended_at: Option<Timestamp>,
    /// Where it stands.
    pub state: PlanState,
    /// Its steps in order.
    pub steps: Vec<PlanStep>,
    /// How it ended or why it is undone, in words; may be empty.
    pub outcome: String,
}
