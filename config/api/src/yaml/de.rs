//! A [`Node`] as serde's input.
//!
//! Types are strict as an API server is: a number is no string and a string no number. Fields that a struct does not
//! have are skipped, since [`crate::shape`] has spoken of them. An error says where the value stands that it is about.

use std::borrow::Cow;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::node::{Entry, Node, Position, Scalar, Value};
use crate::field::{FieldPath, Step};

/// Why a node is not what a type wants.
#[derive(Debug)]
pub(crate) struct DeError {
    pub(crate) message: String,
    pub(crate) at: Option<Position>,
    /// From the innermost field outwards, until [`from_node`] turns it round.
    pub(crate) path: FieldPath,
}

impl fmt::Display for DeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for DeError {}

impl de::Error for DeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { message: message.to_string(), at: None, path: FieldPath::default() }
    }
}

impl DeError {
    fn within(mut self, at: Position, step: impl FnOnce() -> Step) -> Self {
        self.at.get_or_insert(at);
        self.path.0.push(step());
        self
    }
}

/// Makes a `T` of a node.
pub(crate) fn from_node<'de, T: Deserialize<'de>>(node: &'de Node<'de>) -> Result<T, DeError> {
    T::deserialize(node).map_err(|mut error| {
        error.at.get_or_insert(node.at);
        error.path.0.reverse();
        error
    })
}

impl<'de> Deserializer<'de> for &'de Node<'de> {
    type Error = DeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        match &self.value {
            Value::Sequence(items) => visitor.visit_seq(Items(items.iter().enumerate())),
            Value::Mapping(entries) => {
                visitor.visit_map(Fields { entries: entries.iter(), value: None, only: None })
            }
            Value::Scalar(text, _) => match self.scalar() {
                None | Some(Scalar::Null) => visitor.visit_unit(),
                Some(Scalar::Bool(value)) => visitor.visit_bool(value),
                Some(Scalar::Int(value)) => match (u64::try_from(value), i64::try_from(value)) {
                    (Ok(value), _) => visitor.visit_u64(value),
                    (_, Ok(value)) => visitor.visit_i64(value),
                    _ => Err(de::Error::invalid_value(Unexpected::Other(text), &visitor)),
                },
                Some(Scalar::Float(value)) => visitor.visit_f64(value),
                Some(Scalar::Text(_)) => match text {
                    Cow::Borrowed(text) => visitor.visit_borrowed_str(text),
                    Cow::Owned(text) => visitor.visit_str(text),
                },
            },
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        if self.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, DeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DeError> {
        match &self.value {
            Value::Mapping(entries) => {
                visitor.visit_map(Fields { entries: entries.iter(), value: None, only: Some(fields) })
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DeError> {
        match self.scalar() {
            Some(Scalar::Text(text)) => visitor.visit_enum(Variant(text)),
            _ => Err(de::Error::invalid_type(Unexpected::Other(self.describe()), &"a string")),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map identifier
    }
}

struct Items<'de>(std::iter::Enumerate<std::slice::Iter<'de, Node<'de>>>);

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = DeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, DeError> {
        let Some((index, node)) = self.0.next() else { return Ok(None) };
        seed.deserialize(node).map(Some).map_err(|error| error.within(node.at, || Step::Index(index)))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

struct Fields<'de> {
    entries: std::slice::Iter<'de, Entry<'de>>,
    value: Option<&'de Entry<'de>>,
    /// What a struct has.
    only: Option<&'static [&'static str]>,
}

impl<'de> MapAccess<'de> for Fields<'de> {
    type Error = DeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DeError> {
        let only = self.only;
        let wanted = |entry: &&Entry<'_>| only.is_none_or(|fields| fields.contains(&&*entry.key));
        let Some(entry) = self.entries.find(wanted) else { return Ok(None) };
        self.value = Some(entry);
        let key: StrDeserializer<'_, DeError> = (*entry.key).into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, DeError> {
        let Some(entry) = self.value.take() else { return Err(de::Error::custom("a value without its key")) };
        seed.deserialize(&entry.value)
            .map_err(|error| error.within(entry.value.at, || Step::field(entry.key.to_string())))
    }
}

struct Variant<'de>(&'de str);

impl<'de> EnumAccess<'de> for Variant<'de> {
    type Error = DeError;
    type Variant = Unit;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Unit), DeError> {
        let name: StrDeserializer<'_, DeError> = self.0.into_deserializer();
        Ok((seed.deserialize(name)?, Unit))
    }
}

/// A variant that is a name and no more.
struct Unit;

impl<'de> VariantAccess<'de> for Unit {
    type Error = DeError;

    fn unit_variant(self) -> Result<(), DeError> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, DeError> {
        Err(de::Error::custom("a name was expected"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, DeError> {
        Err(de::Error::custom("a name was expected"))
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], _: V) -> Result<V::Value, DeError> {
        Err(de::Error::custom("a name was expected"))
    }
}
