//! The sidecar's `[config]` as a type: what is wrong with it is said with the key that it stands under.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::plugin::Failure;

/// Reads a configuration, given as JSON. Keys that the type does not use are refused, whether or not the type says so itself.
///
/// # Errors
/// It is no object, or has an unknown key, a missing one or a wrong type. The message names the key, never the value, which
/// may be a secret.
pub fn read<T: DeserializeOwned>(json: &str) -> Result<T, Failure> {
    // By way of an object: a list would pass for the fields in their order.
    let object: Map<String, Value> = serde_json::from_str(json)
        .map_err(|error| Failure::new(format!("config: {}", without_value(&error.to_string()))))?;
    let mut unknown: Vec<String> = Vec::new();
    let mut note = |path: serde_ignored::Path<'_>| unknown.push(path.to_string());
    let value = Value::Object(object);
    let config = serde_path_to_error::deserialize(serde_ignored::Deserializer::new(&value, &mut note));
    let config = config.map_err(|error: serde_path_to_error::Error<serde_json::Error>| {
        let path = error.path().to_string();
        let reason = without_value(&error.into_inner().to_string());
        Failure::new(if path == "." { format!("config: {reason}") } else { format!("config: {path}: {reason}") })
    })?;
    match unknown.first() {
        None => Ok(config),
        Some(key) => Err(Failure::new(format!("config: {key}: unknown key"))),
    }
}

/// serde's words without the value that it quotes.
fn without_value(message: &str) -> String {
    let quotes =
        ["invalid type: ", "invalid value: ", "unknown variant "].iter().any(|start| message.starts_with(start));
    match message.rfind(", expected ").filter(|_| quotes).and_then(|at| message.get(at + 2..)) {
        Some(expected) => expected.to_owned(),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::read;
    use crate::plugin::NoConfig;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Config {
        words: Vec<String>,
        #[serde(default)]
        inner: Inner,
    }

    #[derive(Debug, Default, PartialEq, serde::Deserialize)]
    #[serde(default)]
    struct Inner {
        depth: u8,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only its shape counts")]
    struct Strict {
        words: Vec<String>,
    }

    #[test]
    fn what_fits_is_read() {
        let config: Config = read(r#"{"words":["a"],"inner":{"depth":3}}"#).unwrap();
        assert_eq!(config, Config { words: vec!["a".to_owned()], inner: Inner { depth: 3 } });
        read::<NoConfig>("{}").unwrap();
        assert_eq!(read::<BTreeMap<String, u8>>(r#"{"any":1}"#).unwrap()["any"], 1);
    }

    #[test]
    fn what_does_not_is_refused_by_its_key() {
        for (json, key) in [
            (r#"{"words":[],"worsd":1}"#, "worsd"),
            (r#"{"words":"a"}"#, "words"),
            (r#"{"words":["a",1]}"#, "words[1]"),
            (r#"{"words":[],"inner":{"deep":1}}"#, "inner.deep"),
            (r#"{"words":[],"inner":{"depth":300}}"#, "inner.depth"),
            ("{}", "words"),
            ("[[]]", "map"),
            ("nonsense", "expected"),
        ] {
            let failure = read::<Config>(json).unwrap_err();
            assert!(failure.message().contains(key), "{json}: {failure}");
        }
        let failure = read::<Config>(r#"{"words":"hunter2, expected"}"#).unwrap_err();
        assert!(!failure.message().contains("hunter2"), "{failure}");
        assert!(read::<Strict>(r#"{"words":[],"other":1}"#).unwrap_err().message().contains("other"));
        assert!(read::<NoConfig>(r#"{"surprise":1}"#).unwrap_err().message().contains("surprise"));
    }
}
