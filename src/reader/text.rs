//! The texts of a record, decoded one after another without a tree.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Members of a record that are no text of anybody's.
const OWN: [&str; 2] = ["id", "timestamp"];

/// Gives `take` each string and number of a record, but for keys and the record's own `id` and `timestamp`, until it returns
/// `false`.
pub(super) fn each(line: &[u8], take: &mut dyn FnMut(&str) -> bool) {
    let mut walk = Walk { take, goes_on: true };
    let mut reader = serde_json::Deserializer::from_slice(line);
    // What is no JSON is no record; a walk that was ended early ends with an error of its own.
    drop(Texts { walk: &mut walk, top: true }.deserialize(&mut reader));
}

struct Walk<'w> {
    take: &'w mut dyn FnMut(&str) -> bool,
    goes_on: bool,
}

struct Texts<'a, 'w> {
    walk: &'a mut Walk<'w>,
    /// Whether this is the record itself.
    top: bool,
}

/// A key, told apart from the record's own.
struct IsOwn;

// === impl Texts ===

impl Texts<'_, '_> {
    fn show<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        self.walk.goes_on &= (self.walk.take)(text);
        if self.walk.goes_on { Ok(()) } else { Err(E::custom("ended")) }
    }
}

impl<'de> DeserializeSeed<'de> for Texts<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Texts<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        self.show(text)
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<(), E> {
        self.show(itoa::Buffer::new().format(number))
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<(), E> {
        self.show(itoa::Buffer::new().format(number))
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<(), E> {
        self.show(&number.to_string())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Texts { walk: &mut *self.walk, top: false })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(own) = members.next_key_seed(IsOwn)? {
            match own && self.top {
                true => drop(members.next_value::<IgnoredAny>()?),
                false => members.next_value_seed(Texts { walk: &mut *self.walk, top: false })?,
            }
        }
        Ok(())
    }
}

// === impl IsOwn ===

impl<'de> DeserializeSeed<'de> for IsOwn {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<bool, D::Error> {
        reader.deserialize_str(self)
    }
}

impl Visitor<'_> for IsOwn {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<bool, E> {
        Ok(OWN.contains(&key))
    }
}
