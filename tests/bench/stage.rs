//! What a benchmark sets up and looks at outside of the service: its plugins, and the position that it has published.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use redis::{Connection, Value};

/// The stream's key.
pub(crate) const STREAM: &str = "task_events";

/// The published position and the entries read up to it.
pub(crate) fn position(control: &mut Connection) -> (String, u64) {
    let groups: redis::RedisResult<Vec<HashMap<String, Value>>> =
        redis::cmd("XINFO").arg("GROUPS").arg(STREAM).query(control);
    let ours = |group: &HashMap<String, Value>| group.get("name") == Some(&Value::BulkString(b"task-logger".to_vec()));
    let Some(group) = groups.ok().and_then(|groups| groups.into_iter().find(ours)) else { return Default::default() };
    let read = |name: &str| group.get(name).cloned().unwrap_or(Value::Nil);
    let id = redis::from_redis_value::<String>(read("last-delivered-id")).unwrap_or_default();
    (id, redis::from_redis_value::<u64>(read("entries-read")).unwrap_or(0))
}

/// A folder with these plugins and their sidecars.
pub(crate) fn plugins_dir(dir: &Path, names: &[&str]) -> PathBuf {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/plugins");
    let plugins = dir.join("plugins");
    std::fs::create_dir(&plugins).unwrap();
    for name in names {
        for suffix in ["wasm", "toml"] {
            let file = format!("{name}.{suffix}");
            match std::fs::copy(built.join(&file), plugins.join(&file)) {
                Ok(_) => {}
                Err(error) if suffix == "wasm" => panic!("{file}: {error}; `make plugins` builds it"),
                Err(_) => {}
            }
        }
    }
    plugins
}
