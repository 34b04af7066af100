//! The words of Tidewatch and their laws: plain values without I/O, time or randomness. Every other
//! module may use them; this one knows none of the others.

mod alert;
mod attributes;
mod control;
mod delivery;
mod detector;
mod event;
mod grounds;
mod labels;
mod matchers;
mod mode;
mod packed;
mod point;
mod point_view;
pub(crate) mod raw;
mod rule;
mod selector;
mod sentence;
mod series;
mod signal;
mod span;
mod timestamp;
mod verdict;
mod view;

pub use alert::{Alert, AlertState, Fingerprint, PostedAlert, Transition};
pub use attributes::{AttributeKeys, AttributeRef, AttributeValue, Attributes, AttributesIter};
pub use control::{
    Acknowledgement, Action, DEGRADATION_HARMFUL, Effect, EffectVerdict, Episode, EpisodeAction,
    MODE_ALERTS, MODE_NOT_APPLIED, PLAN_UNDONE, PlanRun, PlanState, PlanStep, Proposal,
    ProposalAction, Restraint, ServiceReport, StepState,
};
pub use delivery::{BreakerView, DeliveryStatistics, IntegrationView, ReceiverView, TroubleView};
pub use detector::{
    AbsenceSpec, Burn, DetectorSpec, Dimension, ForecastSpec, OwnSettings, SloSpec,
};
pub use event::{Event, EventBody, SilenceAction};
pub use grounds::{
    Appeared, Carrier, Dismissal, Grounds, Incident, IncidentAlert, IncidentState, LikelyOrigin,
    Moved, MovedQuestion, Movement, Reported, Subject,
};
pub use labels::Labels;
pub use mode::{
    Instruction, Level, Levels, ModeChange, ModeReason, ModeState, ModeStep, Override, Priority,
};
pub use point::{
    Batch, Exemplar, ExponentialHistogramPoint, HistogramPoint, Identity, MetricPoint, Names,
    Place, PointData, Reject, Rejections, SummaryPoint,
};
pub use point_view::{DataView, HistogramView, PointView};
pub use rule::{Direction, For, Rule, RuleId, SeverityLabel, SigmaThresholds, WindowSpec};
pub use selector::{LabelSource, MatchOp, Matcher, Selector, SelectorError};
pub use series::{Instrument, MetricKind, Resource, Scope, SeriesId, SeriesIdentity, Temporality};
pub use signal::{Sample, SignalId, SignalKind, SignalMeta, SignalRef};
pub use span::{Operation, SpanKind, SpanRecord};
pub use timestamp::Timestamp;
pub use verdict::{Evidence, Judged, Measure, Observation, Verdict, severity};
pub use view::{
    BaselineView, BoxFuture, EdgeView, Examined, Page, Query, SampleView, ServiceView, SignalView,
    Trend, VersionView, WindowView,
};
