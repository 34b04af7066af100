//! Serde's view of the tree, without the nodes that are left out.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};

use crate::config::diagnostic::resembles;
use crate::config::yaml::{Key, Node, NodeId, Scalar, Value};

use super::fault::Fault;

pub(super) struct Context {
    pub(super) skipped: RefCell<HashSet<NodeId>>,
}

impl Context {
    fn skips(&self, id: NodeId) -> bool {
        self.skipped.borrow().contains(&id)
    }
}

/// What a plain scalar is by YAML's core schema.
enum Plain {
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text,
}

fn classify(scalar: &Scalar) -> Plain {
    // A value from the environment is what it looks like, also where quotes protect the reference.
    if !scalar.plain && !scalar.substituted {
        return Plain::Text;
    }
    let text = scalar.text.as_str();
    match text {
        "true" | "True" | "TRUE" => return Plain::Bool(true),
        "false" | "False" | "FALSE" => return Plain::Bool(false),
        _ => {}
    }
    if let Some(hex) = text.strip_prefix("0x") {
        return u64::from_str_radix(hex, 16).map_or(Plain::Text, Plain::Unsigned);
    }
    if let Ok(number) = text.parse() {
        return Plain::Unsigned(number);
    }
    if let Ok(number) = text.parse() {
        return Plain::Signed(number);
    }
    // Rust also reads `inf`, `nan` and `infinity`: not as numbers here.
    let is_number = text
        .trim_start_matches(['-', '+'])
        .starts_with(|c: char| c.is_ascii_digit() || c == '.');
    match text.parse::<f64>() {
        Ok(number) if is_number && number.is_finite() => Plain::Float(number),
        _ => Plain::Text,
    }
}

#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) node: &'a Node,
    pub(super) context: &'a Context,
}

impl<'a> Reader<'a> {
    fn visit_number<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.node.value {
            Value::Scalar(scalar) => match classify(scalar) {
                Plain::Bool(value) => visitor.visit_bool(value),
                Plain::Unsigned(value) => visitor.visit_u64(value),
                Plain::Signed(value) => visitor.visit_i64(value),
                Plain::Float(value) => visitor.visit_f64(value),
                Plain::Text => visitor.visit_str(&scalar.text),
            },
            Value::Null => visitor.visit_unit(),
            Value::List(list) => {
                let unread = Cell::new(list.as_slice());
                visitor.visit_seq(Elements {
                    unread,
                    context: self.context,
                })
            }
            Value::Map(pairs) => visitor
                .visit_map(Pairs {
                    unread: pairs,
                    value: None,
                    context: self.context,
                })
                .map_err(|fault| self.missing(fault)),
        }
    }

    fn visit_text<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.node.value {
            Value::Scalar(scalar) => visitor.visit_str(&scalar.text),
            Value::Null | Value::List(_) | Value::Map(_) => self.visit_number(visitor),
        }
    }

    /// A required key that is misspelt, or whose value is known to be bad, is not missing.
    fn missing(self, mut fault: Fault) -> Fault {
        if let (Some(key), None, Value::Map(pairs)) =
            (fault.0.missing, &fault.0.place, &self.node.value)
        {
            let is_known = |(other, value): &(Key, Node)| {
                let unreadable = other.text == key && self.context.skips(value.id);
                let misspelt = self.context.skips(other.id) && resembles(&other.text, key);
                (unreadable && !value.is_null()) || misspelt
            };
            fault.0.consequence = pairs.iter().any(is_known);
        }
        fault
    }
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.visit_number(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.node.value {
            Value::Null => visitor.visit_none(),
            Value::Scalar(_) | Value::List(_) | Value::Map(_) => visitor.visit_some(self),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match &self.node.value {
            // Serde would take a list for the fields in their order.
            Value::List(_) => Err(Fault::new("expected a mapping of settings")),
            Value::Null | Value::Scalar(_) | Value::Map(_) => self.visit_number(visitor),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.visit_text(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.visit_text(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match &self.node.value {
            Value::Scalar(scalar) => visitor.visit_enum(Name(&scalar.text)),
            Value::Null | Value::List(_) | Value::Map(_) => Err(Fault::new(format!(
                "expected one of {}",
                variants.join(", ")
            ))),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct
        seq tuple tuple_struct map identifier ignored_any
    }
}

/// The name of an enum's variant; all our enums are plain words.
struct Name<'a>(&'a str);

impl<'de> EnumAccess<'de> for Name<'_> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Fault> {
        let name: serde::de::value::StrDeserializer<'_, Fault> = self.0.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for Name<'_> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, Fault> {
        Err(Fault::new("expected a mapping"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Fault> {
        Err(Fault::new("expected a mapping"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Fault> {
        Err(Fault::new("expected a mapping"))
    }
}

struct Elements<'a> {
    unread: Cell<&'a [Node]>,
    context: &'a Context,
}

impl<'de> SeqAccess<'de> for Elements<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        while let Some((node, rest)) = self.unread.get().split_first() {
            self.unread.set(rest);
            if !self.context.skips(node.id) {
                let reader = Reader {
                    node,
                    context: self.context,
                };
                return seed
                    .deserialize(reader)
                    .map(Some)
                    .map_err(|fault| fault.or_at(node));
            }
        }
        Ok(None)
    }
}

struct Pairs<'a> {
    unread: &'a [(Key, Node)],
    value: Option<&'a Node>,
    context: &'a Context,
}

impl<'de> MapAccess<'de> for Pairs<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        while let Some(((key, value), rest)) = self.unread.split_first() {
            self.unread = rest;
            let skipped = self.context.skips(key.id) || self.context.skips(value.id);
            if skipped {
                continue;
            }
            self.value = Some(value);
            let text: serde::de::value::StrDeserializer<'_, Fault> =
                key.text.as_str().into_deserializer();
            return seed
                .deserialize(text)
                .map(Some)
                .map_err(|fault| fault.or_at_key(key));
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let Some(node) = self.value.take() else {
            return Err(Fault::custom("a value without its key"));
        };
        let reader = Reader {
            node,
            context: self.context,
        };
        seed.deserialize(reader).map_err(|fault| fault.or_at(node))
    }
}
