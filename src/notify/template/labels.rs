//! Labels and annotations as templates see them.

use std::sync::Arc;

use minijinja::Value;
use minijinja::value::{Enumerator, Object};

use crate::model::Labels;

/// A set of labels in which one that is not there is empty, as everywhere in Prometheus.
#[derive(Debug)]
pub(super) struct LabelSet(Labels);

impl LabelSet {
    pub(super) fn value(labels: &Labels) -> Value {
        Value::from_object(Self(labels.clone()))
    }
}

impl Object for LabelSet {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        Some(self.0.get(key.as_str()?).unwrap_or_default().into())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let names = self.0.iter().map(|(name, _)| Value::from(name));
        Enumerator::Values(names.collect())
    }
}
