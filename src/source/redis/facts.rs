//! What a server says of itself and of our keys, for `doctor`. Sends nothing that changes anything, and takes a refusal for an
//! answer: a managed server hides its configuration.

use std::{
    collections::BTreeMap,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use redis::{Value, cmd};

use super::{RedisStream, reply};
use crate::source::{SourceError, Stream as _};

/// Parameters that are asked for by CONFIG GET, one by one: baseline is 6.2.
const PARAMETERS: [&str; 4] = ["appendonly", "appendfsync", "save", "maxmemory-policy"];

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// INFO: `redis_version`, `role`, `maxmemory`, ...
    pub info: BTreeMap<String, String>,
    /// CONFIG GET of persistence and eviction; a parameter that the server does not tell is missing.
    pub config: BTreeMap<String, String>,
    /// The server's clock minus this machine's, in seconds, and how long the answer took.
    pub clock: Option<(f64, f64)>,
    /// The stream's key: its type (`none`: not there).
    pub kind: String,
    /// Entries in the stream.
    pub length: u64,
    /// The group, if it is there.
    pub group: Option<Group>,
    /// The lease, if somebody has it.
    pub lease: Option<Holder>,
    /// Epoch of the last ownership.
    pub epoch: Option<u64>,
}

/// The consumer group.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// The published position.
    pub position: String,
    /// Entries after it.
    pub behind: u64,
    /// Entries pending at consumers: not ours, we have none.
    pub pending: u64,
}

/// Who holds the lease.
#[derive(Clone, Debug, Default)]
pub struct Holder {
    /// Its host.
    pub host: String,
    /// Since when.
    pub since: String,
    /// Milliseconds until it expires; negative: never.
    pub expires: i64,
}

impl RedisStream {
    /// Asks the server. An error: it cannot be reached, or refuses what the service needs.
    pub fn facts(&self) -> Result<Facts, SourceError> {
        let shared = &self.shared;
        let mut control = shared.control();
        let mut facts = Facts::default();
        // The first command of a connection pays for connecting.
        control.one(&cmd("PING"))?;
        facts.info = pairs(reply::text(&control.one(&cmd("INFO"))?).unwrap_or(""));

        let (before, asked) = (now(), Instant::now());
        if let Value::Array(time) = control.one(&cmd("TIME"))?
            && let (Some(seconds), Some(micros)) =
                (time.first().and_then(reply::integer), time.get(1).and_then(reply::integer))
        {
            let took = asked.elapsed().as_secs_f64();
            #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit")]
            let server = seconds as f64 + micros as f64 / 1e6;
            facts.clock = Some((server - (before + took / 2.0), took));
        }
        for parameter in PARAMETERS {
            let mut ask = cmd("CONFIG");
            ask.arg("GET").arg(parameter);
            if let Some(Value::Array(pair)) = control.all(&[ask])?.pop()
                && let Some(value) = pair.get(1).and_then(reply::text)
            {
                facts.config.insert(parameter.to_owned(), value.to_owned());
            }
        }

        let mut kind = cmd("TYPE");
        kind.arg(&shared.stream);
        facts.kind = reply::text(&control.one(&kind)?).unwrap_or("none").to_owned();
        if facts.kind == "stream" {
            let stream = shared.stream_info(&mut control)?;
            facts.length = stream.and_then(|info| info.count("length")).unwrap_or(0);
            if let Some(group) = shared.group_info(&mut control)? {
                facts.group = Some(Group {
                    position: group.id("last-delivered-id").map(|id| id.to_string()).unwrap_or_default(),
                    behind: self.backlog()?.entries,
                    pending: group.count("pending").unwrap_or(0),
                });
            }
        }
        let (mut note, mut expires, mut epoch) = (cmd("GET"), cmd("PTTL"), cmd("GET"));
        note.arg(&shared.lease_key);
        expires.arg(&shared.lease_key);
        epoch.arg(&shared.epoch_key);
        if let Some(note) = reply::text(&control.one(&note)?) {
            let note: serde_json::Value = serde_json::from_str(note).unwrap_or_default();
            let text = |name: &str| note[name].as_str().unwrap_or("?").to_owned();
            let expires = reply::integer(&control.one(&expires)?).unwrap_or(0);
            facts.lease = Some(Holder { host: text("host"), since: text("since"), expires });
        }
        facts.epoch = reply::integer(&control.one(&epoch)?).and_then(|epoch| u64::try_from(epoch).ok());
        Ok(facts)
    }
}

/// INFO's lines `name:value`.
fn pairs(info: &str) -> BTreeMap<String, String> {
    let lines = info.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once(':')).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
