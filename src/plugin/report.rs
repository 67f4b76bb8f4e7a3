//! What `GET /plugins` shows, in words that a person can act on.

use std::{
    sync::{Arc, PoisonError, atomic::Ordering::Relaxed},
    time::{Duration, Instant, SystemTime},
};

use serde_json::{Map, Value, json};

use super::{
    budget::{ROW_MAX, WINDOW, WINDOW_MAX},
    live::Live,
    loader::Plugin,
    roster::FileEntry,
};

/// The state of all plugin files, requirements and the chain.
pub(super) fn report(live: &Live) -> Value {
    let current = live.current();
    let inner = live.inner();
    let provenance = &current.generation.provenance;
    let names = |plugins: Vec<&Arc<Plugin>>| plugins.iter().map(|plugin| plugin.name().to_string()).collect::<Vec<_>>();
    let files: Vec<Value> = inner.files.iter().map(|(file, entry)| self::file(file, entry)).collect();
    let plugins = inner.live();
    let stops: Map<String, Value> = inner.stops().map(|(name, reason)| (name.to_string(), json!(reason))).collect();
    json!({
        "generation": provenance.generation,
        "generations_alive": live.alive.get(),
        "chain_digest": provenance.chain_digest,
        "chain": names(current.generation.plugins.iter().collect()),
        "shadows": names(current.generation.shadows.iter().map(|shadow| &shadow.plugin).collect()),
        "blocked": current.blocked.as_ref().map(|blocked| &blocked.reason),
        "stopped": stops,
        "required": inner.required.names(),
        "missing": inner.required.missing(&plugins),
        "swaps": {
            "taken_over_by_lanes": live.swaps.count.load(Relaxed),
            "slowest_us": live.swaps.slowest.load(Relaxed) as f64 / 1000.0,
        },
        "trusted_keys": live.trusted.ids().map(|id| id.to_string()).collect::<Vec<_>>(),
        "plugins": files,
    })
}

fn file(file: &str, entry: &FileEntry) -> Value {
    let refused = entry.refused.as_ref().filter(|refused| refused.said);
    let waits = entry.shadow.as_ref().and_then(|shadow| shadow.waits.as_ref());
    let mut shown = Map::new();
    let mut put = |key: &str, value: Value| drop(shown.insert(key.to_owned(), value));
    put("file", json!(file));
    put("path", json!(entry.dir.join(file)));
    put(
        "state",
        json!(match (&entry.live, &entry.shadow) {
            (Some(live), _) if live.degraded => "degraded",
            (Some(_), _) => "live",
            (None, Some(_)) if waits.is_some() => "refused",
            (None, Some(_)) => "shadow",
            (None, None) if refused.is_some() => "refused",
            (None, None) => "loading",
        }),
    );
    let since = entry.live.as_ref().map(|live| live.since).or(entry.shadow.as_ref().map(|shadow| shadow.since));
    if let (Some(plugin), Some(since)) = (entry.plugins().next(), since) {
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
        put("live_seconds", json!(since.elapsed().as_secs()));
        put("live_since", json!(moment(since)));
        if let Some(live) = &entry.live {
            put("generation", json!(live.generation));
        }
        put("kinds", json!(plugin.manifest.kinds));
        put("files", json!(plugin.manifest.files));
        put("on_failure", json!(sidecar.on_failure.as_str()));
        put("isolation", json!(if plugin.reuses() { "reuse" } else { "call" }));
        put("timeout_ms", json!(millis(sidecar.limits.timeout)));
        put("memory_bytes", json!(sidecar.limits.memory));
        plugin.meters().report().into_iter().for_each(|(key, value)| put(&key, value));
        match entry.shadow {
            None => put("budget", budget(plugin)),
            Some(_) => put("shadow", plugin.record.report(Instant::now())),
        }
    }
    if let Some(previous) = entry.live.as_ref().and_then(|live| live.previous.as_ref()) {
        let Plugin { sha256, config_hash, .. } = &**previous;
        let version = &previous.manifest.version;
        put("previous", json!({ "version": version, "sha256": sha256, "config_hash": config_hash }));
    }
    let runs = match (&entry.live, &entry.shadow) {
        (Some(live), _) if live.degraded => "the last good version runs",
        (None, None) => "nothing of this file runs",
        _ => "the version before it runs",
    };
    match (waits, refused) {
        (Some(reason), _) => {
            let effect = "nothing of this file runs; it begins when that changes";
            put("refused", json!({ "reason": reason, "effect": effect }));
        }
        (None, Some(refused)) => {
            let (ago, at) = (refused.since.elapsed().as_secs(), moment(refused.since));
            put(
                "refused",
                json!({ "reason": refused.reason, "pair": refused.pair, "effect": runs, "seconds_ago": ago, "since": at }),
            );
        }
        (None, None) => {}
    }
    Value::Object(shown)
}

/// How near a plugin is to what its failures may lead to.
fn budget(plugin: &Plugin) -> Value {
    let limits = json!({ "in_a_row": ROW_MAX, "of_the_last": WINDOW_MAX, "last": WINDOW });
    if plugin.is_redactor() {
        let budget = plugin.budget.lock().unwrap_or_else(PoisonError::into_inner);
        let (row, window) = budget.failures();
        return json!({
            "counts": "failed events", "in_a_row": row, "of_the_last": window, "limits": limits,
            "when_spent": "the version before it returns if this one is young, else nothing is read",
        });
    }
    let circuit = plugin.circuit.lock().unwrap_or_else(PoisonError::into_inner);
    let (row, window) = circuit.budget().failures();
    json!({
        "counts": "timeouts", "in_a_row": row, "of_the_last": window, "limits": limits,
        "when_spent": "it gets less time for a while",
        "throttled_seconds_left": circuit.left(Instant::now()).map(|left| left.as_secs()),
    })
}

fn moment(at: Instant) -> Option<String> {
    let time = SystemTime::now().checked_sub(at.elapsed())?;
    let time = jiff::Timestamp::try_from(time).ok()?;
    Some(jiff::Timestamp::from_second(time.as_second()).ok()?.to_string())
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
