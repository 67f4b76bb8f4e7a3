//! The conformance guest in Rust: what `tests/conformance/README.md` says, by the SDK.

use serde::Deserialize;
use serde_json::{Value, json};
use task_logger_plugin::{Call, Event, Failure, Host, Level, Manifest, Plugin, Role, Verdict};

/// Extra files.
const JSONL: &str = "conformance.jsonl";
const TXT: &str = "conformance.txt";

/// The sidecar's `[config]`.
#[derive(Debug, Deserialize)]
#[serde(default)]
pub struct Config {
    name: String,
    role: String,
    version: String,
    fail: Option<String>,
}

/// The guest.
#[derive(Debug)]
pub struct Conformance {
    manifest: Manifest,
}

/// What an event's data says under the keys that matter. Which of them do depends on the action: the others may hold anything.
#[derive(Debug, Deserialize)]
struct Order {
    #[serde(default = "pass")]
    r#do: Value,
    #[serde(default)]
    text: Value,
    #[serde(default)]
    level: Value,
    #[serde(default)]
    n: Value,
}

fn pass() -> Value {
    "pass".into()
}

task_logger_plugin::export!(Conformance);

// === impl Config ===

impl Default for Config {
    fn default() -> Self {
        Self { name: "conformance".to_owned(), role: "redactor".to_owned(), version: "1".to_owned(), fail: None }
    }
}

// === impl Conformance ===

impl Plugin for Conformance {
    type Config = Config;

    fn new(config: Config, host: &Host) -> Result<Self, Failure> {
        if let Some(message) = config.fail {
            return Err(Failure::new(message));
        }
        let role = match config.role.as_str() {
            "redactor" => Role::Redactor,
            "standard" => Role::Standard,
            other => return Err(Failure::new(format!("config: role: {other:?} is neither redactor nor standard"))),
        };
        host.log(Level::Info, "ready");
        host.count("init", 1);
        let manifest = Manifest {
            role,
            ..Manifest::standard(config.name, config.version)
                .files([JSONL, TXT])
                .codes(["init", "counted", "dropped", "refused"])
        };
        Ok(Self { manifest })
    }

    fn manifest(&self) -> Manifest {
        self.manifest.clone()
    }

    fn process(&self, call: &Call<'_>) -> Result<Vec<Verdict>, Failure> {
        let orders = call.events.iter().map(Event::parse::<Order>).collect::<Result<Vec<_>, _>>()?;
        let mut verdicts = Vec::with_capacity(orders.len());
        for (index, (event, order)) in call.events.iter().zip(&orders).enumerate() {
            let released = || orders.iter().skip(index + 1).any(|later| later.r#do == "release");
            if order.r#do == "hold" && !call.flush && !released() {
                verdicts.resize(orders.len(), Verdict::Hold);
                break;
            }
            verdicts.push(decide(event, order, call)?);
        }
        Ok(verdicts)
    }
}

fn decide(event: &Event<'_>, order: &Order, call: &Call<'_>) -> Result<Verdict, Failure> {
    let host = call.host;
    let text = || order.text.as_str().ok_or_else(|| Failure::new("text is no text"));
    let n = || order.n.as_u64().and_then(|n| u32::try_from(n).ok()).ok_or_else(|| Failure::new("n is no number"));
    match order.r#do.as_str().ok_or_else(|| Failure::new("do is no text"))? {
        "pass" | "release" => {}
        "replace" => {
            return Verdict::replace(&json!({
                "id": event.id,
                "kind": event.kind,
                "timestamp_ms": event.timestamp_ms,
                "task": call.task,
                "flush": call.flush,
                "text": text()?,
            }));
        }
        "drop" => return Ok(Verdict::drop("dropped")),
        "quarantine" => return Ok(Verdict::quarantine("refused")),
        "hold" => return Verdict::replace(&json!({ "released": true })),
        "state" => {
            let state = host.state();
            let count = if state.is_empty() { 1 } else { state.parse::<u64>()? + 1 };
            host.set_state(&count.to_string());
            return Verdict::replace(&json!({ "count": count }));
        }
        "append" => host.append_file(JSONL, text()?),
        "write" => host.replace_file(TXT, text()?),
        "annotate" => host.annotate(&Value::from_iter([("last", event.id)]).to_string()),
        "log" => host.log(level(&order.level)?, text()?),
        "count" => host.count("counted", n()?),
        "count-other" => host.count("not-in-the-manifest", n()?),
        "undeclared" => host.append_file("undeclared.txt", text()?),
        "fail" => return Err(Failure::new(format!("told to fail: {}", text()?))),
        "trap" => std::process::abort(),
        other => return Err(Failure::new(format!("told to do {other:?}"))),
    }
    Ok(Verdict::Pass)
}

fn level(name: &Value) -> Result<Level, Failure> {
    Ok(match name.as_str() {
        Some("debug") => Level::Debug,
        Some("info") => Level::Info,
        Some("warn") => Level::Warn,
        Some("error") => Level::Error,
        other => return Err(Failure::new(format!("no level {other:?}"))),
    })
}
