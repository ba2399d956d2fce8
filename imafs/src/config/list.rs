//! List-valued profile keys, which may be written as one value or as a list.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, IntoDeserializer, SeqAccess, Visitor, value::StrDeserializer};

/// Reads `key: value`, `key: [a, b]` or an empty `key:`.
///
/// # Errors
/// The deserializer's, with its position, for any other shape or for an element that is refused.
pub(super) fn one_or_many<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    deserializer.deserialize_any(OneOrMany(PhantomData))
}

struct OneOrMany<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for OneOrMany<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value or a list of values")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vec<T>, E> {
        let element: StrDeserializer<'_, E> = text.into_deserializer();
        Ok(vec![T::deserialize(element)?])
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Vec<T>, E> {
        Ok(Vec::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Vec<T>, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = elements.next_element()? {
            list.push(element);
        }
        Ok(list)
    }
}
