//! What `GET /plugins` shows, in words that a person can act on.

use std::sync::PoisonError;

use serde_json::{Map, Value, json};

use super::{live::Live, roster::FileEntry};

/// The state of all plugin files, requirements and the chain.
pub(super) fn report(live: &Live) -> Value {
    let current = live.current();
    let inner = live.inner();
    let provenance = &current.generation.provenance;
    let chain: Vec<&str> = current.generation.plugins.iter().map(|plugin| &**plugin.name()).collect();
    let files: Vec<Value> = inner.files.iter().map(|(file, entry)| self::file(file, entry)).collect();
    let plugins = inner.live();
    let stops: Map<String, Value> = inner.stops().map(|(name, reason)| (name.to_string(), json!(reason))).collect();
    json!({
        "generation": provenance.generation,
        "chain_digest": provenance.chain_digest,
        "chain": chain,
        "blocked": current.blocked.as_ref().map(|blocked| &blocked.reason),
        "stopped": stops,
        "required": inner.required.names(),
        "missing": inner.required.missing(&plugins),
        "trusted_keys": live.trusted.ids().map(|id| id.to_string()).collect::<Vec<_>>(),
        "plugins": files,
    })
}

fn file(file: &str, entry: &FileEntry) -> Value {
    let refused = entry.refused.as_ref().filter(|refused| refused.said);
    let mut shown = Map::new();
    let mut put = |key: &str, value: Value| drop(shown.insert(key.to_owned(), value));
    put("file", json!(file));
    put("path", json!(entry.dir.join(file)));
    put(
        "state",
        json!(match &entry.live {
            Some(live) if live.degraded => "degraded",
            Some(_) => "live",
            None if refused.is_some() => "refused",
            None => "loading",
        }),
    );
    if let Some(live) = &entry.live {
        let plugin = &live.plugin;
        let sidecar = &plugin.sidecar;
        put("name", json!(&**plugin.name()));
        put("version", json!(plugin.manifest.version));
        put("role", json!(if plugin.is_redactor() { "redactor" } else { "standard" }));
        put("sha256", json!(plugin.sha256));
        put("pair", json!(plugin.pair));
        let seal = plugin.seal.lock().unwrap_or_else(PoisonError::into_inner);
        put("signed_by", json!(seal.signer()));
        put("trusted", json!(seal.trusted));
        drop(seal);
        put("config_hash", json!(plugin.config_hash));
        put("live_seconds", json!(live.since.elapsed().as_secs()));
        put("kinds", json!(plugin.manifest.kinds));
        put("files", json!(plugin.manifest.files));
        put("on_failure", json!(sidecar.on_failure.as_str()));
        put("isolation", json!(if plugin.reuses() { "reuse" } else { "call" }));
        put("timeout_ms", json!(u64::try_from(sidecar.limits.timeout.as_millis()).unwrap_or(u64::MAX)));
        put("memory_bytes", json!(sidecar.limits.memory));
        let meters = plugin.meters();
        put("events", Value::Object(meters.totals().map(|(verdict, n)| (verdict.to_owned(), json!(n))).collect()));
        put("failed_calls", json!(meters.failed_calls()));
    }
    if let Some(refused) = refused {
        let runs = match &entry.live {
            Some(live) if live.degraded => "the last good version runs",
            Some(_) => "the version before it runs",
            None => "nothing of this file runs",
        };
        put(
            "refused",
            json!({
                "reason": refused.reason,
                "pair": refused.pair,
                "effect": runs,
                "seconds_ago": refused.since.elapsed().as_secs(),
            }),
        );
    }
    Value::Object(shown)
}
