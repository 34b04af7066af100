//! What a level means to those who are told it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::config::units::Share;
use crate::model::{Instruction, Priority};

/// The least important requests that are still served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PriorityFloor {
    /// Everything is served.
    Low,
    /// What can wait is refused.
    Normal,
    /// Only what is missed at once is served.
    High,
    /// Only what must not fail is served.
    Critical,
}

impl From<PriorityFloor> for Priority {
    fn from(floor: PriorityFloor) -> Self {
        match floor {
            PriorityFloor::Low => Self::Low,
            PriorityFloor::Normal => Self::Normal,
            PriorityFloor::High => Self::High,
            PriorityFloor::Critical => Self::Critical,
        }
    }
}

/// What a level, a policy or a step of a plan says of an instruction: what is set replaces what stood
/// before, and features are added one by one.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Parts {
    /// Flags and values.
    pub features: BTreeMap<String, serde_json::Value>,
    /// The least important requests that are still served.
    pub priority_floor: Option<PriorityFloor>,
    /// The tier of quality to serve.
    pub quality: Option<String>,
    /// Share of the load to refuse.
    pub shed: Option<Share>,
}

impl Parts {
    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// With nothing before them.
    pub fn instruction(&self) -> Instruction {
        Instruction {
            features: self.features.clone(),
            priority_floor: self
                .priority_floor
                .map_or_else(Priority::default, Into::into),
            quality: self.quality.clone(),
            shed: self.shed.map_or(0.0, |share| share.0),
        }
    }
}

/// A level: its name, and what services are told with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Level {
    /// Its name.
    pub name: String,
    /// What it means.
    pub parts: Parts,
}

impl Level {
    /// A level of which services are told no more than the name.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            parts: Parts::default(),
        }
    }
}

/// A level written out.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Written {
    /// The name of the level.
    name: String,
    /// Flags and values that services are told in this level.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    features: BTreeMap<String, serde_json::Value>,
    /// The least important requests that are still served. Unset: all are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    priority_floor: Option<PriorityFloor>,
    /// The tier of quality to serve, such as `reduced`; what it means is the service's own. Unset: as usual.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quality: Option<String>,
    /// Share of the load to refuse. Unset: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shed: Option<Share>,
}

impl<'de> Deserialize<'de> for Level {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LevelVisitor;

        impl<'de> Visitor<'de> for LevelVisitor {
            type Value = Level;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name or {name: …, features: …, shed: …}")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Level, E> {
                Ok(Level::named(name))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Level, A::Error> {
                let written = Written::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Level {
                    name: written.name,
                    parts: Parts {
                        features: written.features,
                        priority_floor: written.priority_floor,
                        quality: written.quality,
                        shed: written.shed,
                    },
                })
            }
        }
        deserializer.deserialize_str(LevelVisitor)
    }
}

impl Serialize for Level {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.parts.is_empty() {
            return serializer.serialize_str(&self.name);
        }
        let parts = self.parts.clone();
        Written {
            name: self.name.clone(),
            features: parts.features,
            priority_floor: parts.priority_floor,
            quality: parts.quality,
            shed: parts.shed,
        }
        .serialize(serializer)
    }
}

impl JsonSchema for Level {
    fn schema_name() -> Cow<'static, str> {
        "Level".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let written = generator.subschema_for::<Written>();
        json_schema!({
            "description": "A level: its name, or its name with what services are told in it.",
            "anyOf": [{"type": ["string", "number", "boolean"]}, written],
        })
    }
}
