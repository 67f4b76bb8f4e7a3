//! Events as people and programs write them, JSON objects, become fields of a stream entry. Only the shape is looked at: what
//! an event means, and whether it is any good, is decided where the stream is read.

use std::fmt;

use bytes::Bytes;
use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value, value::RawValue};

use crate::source::Fields;

/// Fields that mean something by themselves: `null` in one of them says that it is absent.
const ENVELOPE: [&str; 6] = ["type", "event_type", "timestamp", "task_id", "webhook_event_id", "data"];

/// Fields that an event may have.
const FIELDS_MAX: usize = 1024;
/// Fields that events which come together may have on average.
const FIELDS_MEAN: usize = 10;

/// Why texts are no events. The index counts from 0; nothing of the text is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IngestError {
    /// Not JSON, or cut off.
    #[error("event {index} is not valid JSON")]
    NotJson {
        /// Which one.
        index: usize,
    },
    /// JSON, but no object, or one without a field, or with too many.
    #[error("event {index} is not a JSON object of 1 to {FIELDS_MAX} fields")]
    NotAnObject {
        /// Which one.
        index: usize,
    },
    /// More than may come at once.
    #[error("more than {limit} events, or than ten times as many fields")]
    TooMany {
        /// How many may come.
        limit: usize,
    },
    /// A body without any event.
    #[error("no event")]
    Empty,
}

/// The fields of one event: strings as they are, other values as JSON text, `timestamp` added when there is none.
pub fn fields(event: Map<String, Value>) -> Result<Fields, IngestError> {
    let mut fields = Fields::with_capacity(event.len() + 1);
    for (name, value) in event {
        match value {
            Value::Null if is_envelope(&name) => {}
            Value::String(text) => fields.push((name.into(), text.into())),
            other => fields.push((name.into(), other.to_string().into())),
        }
    }
    checked(fields).map(stamped)
}

/// The same from JSON text, which is kept as written: numbers of any length, doubled names, `data` byte for byte.
pub fn fields_of_text(event: &str) -> Result<Fields, IngestError> {
    fields_as_written(event).map(stamped)
}

/// The same without a `timestamp` where the text has none: what must come out the same tomorrow.
pub fn fields_as_written(event: &str) -> Result<Fields, IngestError> {
    let raw: &RawValue = serde_json::from_str(event).map_err(|_| IngestError::NotJson { index: 0 })?;
    fields_of_raw(raw)
}

/// The events of a text: one object, an array of objects, or objects one after the other, as NDJSON has them. At most `limit`
/// of them, with ten fields each on average.
pub fn events(text: &[u8], limit: usize) -> Result<Vec<Fields>, IngestError> {
    let mut taken = Taken { events: Vec::new(), fields: 0, limit };
    if text.trim_ascii_start().first() == Some(&b'[') {
        let mut json = serde_json::Deserializer::from_slice(text);
        let mut wrong = None;
        let elements = Elements { taken: &mut taken, wrong: &mut wrong };
        let done = elements.deserialize(&mut json).and_then(|()| json.end());
        return match (wrong, done) {
            (Some(wrong), _) => Err(wrong),
            (None, Err(_)) => Err(IngestError::NotJson { index: taken.events.len() }),
            (None, Ok(())) => Ok(taken.events),
        };
    }
    let raws = serde_json::Deserializer::from_slice(text).into_iter::<&RawValue>();
    for (index, raw) in raws.enumerate() {
        taken.add(raw.map_err(|_| IngestError::NotJson { index })?)?;
    }
    match taken.events.is_empty() {
        true => Err(IngestError::Empty),
        false => Ok(taken.events),
    }
}

fn fields_of_raw(raw: &RawValue) -> Result<Fields, IngestError> {
    let not_an_object = || IngestError::NotAnObject { index: 0 };
    let Object(pairs) = serde_json::from_str(raw.get()).map_err(|_| not_an_object())?;
    let mut fields = Fields::with_capacity(pairs.len() + 1);
    for (name, value) in pairs {
        match value.get() {
            "null" if is_envelope(&name) => {}
            text if text.starts_with('"') => {
                let Text(text) = serde_json::from_str(text).map_err(|_| not_an_object())?;
                fields.push((name.into(), text.into()));
            }
            text => fields.push((name.into(), Bytes::copy_from_slice(text.as_bytes()))),
        }
    }
    checked(fields)
}

fn checked(fields: Fields) -> Result<Fields, IngestError> {
    match (1..=FIELDS_MAX).contains(&fields.len()) {
        true => Ok(fields),
        false => Err(IngestError::NotAnObject { index: 0 }),
    }
}

fn stamped(mut fields: Fields) -> Fields {
    if !fields.iter().any(|(name, _)| name == "timestamp") {
        fields.push(("timestamp".into(), now().into()));
    }
    fields
}

fn is_envelope(name: &str) -> bool {
    ENVELOPE.contains(&name)
}

/// Now in RFC 3339, UTC, to the millisecond.
pub fn now() -> String {
    let now = jiff::Timestamp::now();
    format!("{:.3}", now)
}

/// Events taken so far: what a small text can blow up to is bounded as it is read.
struct Taken {
    events: Vec<Fields>,
    fields: usize,
    limit: usize,
}

/// Takes an array's elements one by one; says what was wrong with one beside serde's own error.
struct Elements<'t> {
    taken: &'t mut Taken,
    wrong: &'t mut Option<IngestError>,
}

/// An object's pairs as they stand, in order, doubles included.
struct Object<'a>(Vec<(String, &'a RawValue)>);

/// A JSON string as UTF-8; a lone surrogate, which has no UTF-8, becomes U+FFFD.
struct Text(String);

// === impl Taken ===

impl Taken {
    fn add(&mut self, raw: &RawValue) -> Result<(), IngestError> {
        let (index, limit) = (self.events.len(), self.limit);
        if index >= limit {
            return Err(IngestError::TooMany { limit });
        }
        let fields = fields_of_raw(raw).map(stamped).map_err(|_| IngestError::NotAnObject { index })?;
        self.fields += fields.len();
        if self.fields > limit.saturating_mul(FIELDS_MEAN) {
            return Err(IngestError::TooMany { limit });
        }
        self.events.push(fields);
        Ok(())
    }
}

// === impl Elements ===

impl<'de> DeserializeSeed<'de> for Elements<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Elements<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        while let Some(raw) = array.next_element::<&RawValue>()? {
            if let Err(wrong) = self.taken.add(raw) {
                *self.wrong = Some(wrong);
                return Err(A::Error::custom("refused"));
            }
        }
        Ok(())
    }
}

// === impl Object ===

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some((Text(name), value)) = map.next_entry::<Text, &RawValue>()? {
                    if pairs.len() == FIELDS_MAX {
                        return Err(A::Error::custom("too many fields"));
                    }
                    pairs.push((name, value));
                }
                Ok(Object(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

// === impl Text ===

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl Visitor<'_> for Any {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.to_owned()))
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Text, E> {
                Ok(Text(without_surrogates(bytes)))
            }
        }
        // As bytes serde_json lets lone surrogates through, each as three bytes.
        deserializer.deserialize_bytes(Any)
    }
}

fn without_surrogates(bytes: &[u8]) -> String {
    let mut fixed = bytes.to_vec();
    for at in 0..fixed.len().saturating_sub(2) {
        if fixed[at] == 0xED && fixed[at + 1] >= 0xA0 {
            fixed[at..at + 3].copy_from_slice("\u{FFFD}".as_bytes());
        }
    }
    String::from_utf8(fixed).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests;
