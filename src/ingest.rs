//! Events from producers as fields of a stream entry.

use serde_json::{Map, Value};

use crate::source::Fields;

/// Why a value cannot be an event.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The field's value cannot be a field of a stream.
    #[error("field {0:?} cannot be null, true, false, a number or a list")]
    Field(String),
}

/// The fields of an event: texts as they are, objects as JSON text.
pub fn fields(event: Map<String, Value>) -> Result<Fields, IngestError> {
    event
        .into_iter()
        .map(|(name, value)| match value {
            Value::String(text) => Ok((name.into(), text.into())),
            Value::Object(object) => Ok((name.into(), Value::Object(object).to_string().into())),
            _ => Err(IngestError::Field(name)),
        })
        .collect()
}
