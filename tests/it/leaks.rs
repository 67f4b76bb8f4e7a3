//! Planted secrets and the search for them: in every file the service wrote, in what it logged, in every HTTP answer.

use std::{fs, path::Path};

use fastrand::Rng;
use memchr::memmem;

use crate::{
    checker::files_below,
    rig::{Node, Rig},
};

/// A secret in every form in which it could get out, each long enough to be no chance.
pub(crate) struct Secret {
    plain: String,
    forms: Vec<Vec<u8>>,
}

/// Where something was found that should be nowhere.
pub(crate) type Finds = Vec<String>;

// === impl Secret ===

impl Secret {
    /// Random; with characters that URLs, JSON and both at once write in another way.
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let noise = |rng: &mut Rng| std::iter::repeat_with(|| rng.alphanumeric()).take(14).collect::<String>();
        let plain = format!("{}\"\\/+é {}", noise(rng), noise(rng));
        let json = |text: &str| serde_json::Value::from(text).to_string().trim_matches('"').to_owned();
        let url: String = plain
            .bytes()
            .map(
                |byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") },
            )
            .collect();
        let hex: String = plain.bytes().map(|byte| format!("{byte:02x}")).collect();
        let ascii = json(&plain).replace('é', "\\u00e9");
        let mut texts = vec![plain.clone(), json(&plain), json(&json(&plain)), ascii, url, hex];
        // Either half alone would be half a leak.
        texts.extend([
            plain.chars().take(14).collect(),
            plain.chars().rev().take(14).collect::<String>().chars().rev().collect(),
        ]);
        let mut forms: Vec<Vec<u8>> = texts.into_iter().map(String::into_bytes).collect();
        // Wherever it stands in what is encoded: without the characters that its neighbours have a part in.
        for shift in 0..3 {
            let encoded = base64(&[&b"\0\0"[..shift], plain.as_bytes()].concat());
            forms.push(encoded[4..encoded.len() - 4].to_vec());
        }
        Self { plain, forms }
    }

    /// A text that holds it plainly and encoded.
    pub(crate) fn text(&self) -> String {
        let encoded = String::from_utf8(base64(format!("password={}", self.plain).as_bytes())).unwrap();
        format!("it is {} and in base64 {encoded}, in hex {}", self.plain, String::from_utf8_lossy(&self.forms[5]))
    }

    fn stands_in(&self, bytes: &[u8]) -> bool {
        self.forms.iter().any(|form| memmem::find(bytes, form).is_some())
    }
}

/// The usual base64 with padding.
fn base64(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = Vec::new();
    for three in bytes.chunks(3) {
        let number = three.iter().chain([&0, &0]).take(3).fold(0, |number, byte| number << 8 | usize::from(*byte));
        let digit = |n: usize| DIGITS[number >> (18 - 6 * n) & 63];
        let digits = [0, 1, 2, 3].map(|n| if n <= three.len() { digit(n) } else { b'=' });
        out.extend(digits);
    }
    out
}

/// Every file that the service has written: `LOGS_DIR`, `STATE_DIR` with the journal, `CACHE_DIR`. Not `STREAM_DIR`: the
/// embedded stream is the source, what Redis is otherwise, and keeps what producers sent, dead letters with it.
pub(crate) fn in_files(rig: &Rig, secrets: &[Secret]) -> Finds {
    let dirs =
        [("LOGS_DIR", rig.logs()), ("STATE_DIR", rig.root().join("state")), ("CACHE_DIR", rig.root().join("cache"))];
    let mut finds = Finds::new();
    for (name, dir) in dirs {
        for path in files_below(&dir) {
            let bytes = fs::read(&path).unwrap_or_default();
            let at = path.strip_prefix(&dir).unwrap_or(Path::new("")).display().to_string();
            // Names count, too.
            if secrets.iter().any(|secret| secret.stands_in(&bytes) || secret.stands_in(at.as_bytes())) {
                finds.push(format!("{name}/{at}"));
            }
        }
    }
    finds
}

/// What it logged.
pub(crate) fn in_log(node: &Node, secrets: &[Secret]) -> Finds {
    let log = node.log();
    let lines = log.lines().filter(|line| secrets.iter().any(|secret| secret.stands_in(line.as_bytes())));
    lines.map(|line| format!("log: {line}")).collect()
}

/// Every answer that it gives, errors too, and what it answers to what it does not take.
pub(crate) fn in_answers(node: &Node, secrets: &[Secret]) -> Finds {
    let mut paths: Vec<String> = [
        "/health",
        "/ready?write",
        "/metrics",
        "/metrics?format=prometheus",
        "/plugins",
        "/tasks",
        "/webhooks",
        "/nosuch",
        "/tasks/no/logs",
    ]
    .map(str::to_owned)
    .to_vec();
    for (list, key) in [("/tasks", "tasks"), ("/webhooks", "webhooks")] {
        let listed = node.json(list);
        let ids = listed[key].as_array().cloned().unwrap_or_default();
        for id in ids.iter().filter_map(|entry| entry["task_id"].as_str().or(entry["webhook_event_id"].as_str())) {
            paths.push(format!("{list}/{id}/files"));
            if key == "tasks" {
                paths.push(format!("{list}/{id}"));
                paths.push(format!("{list}/{id}/logs"));
            }
            for file in node.json(&format!("{list}/{id}/files"))["files"].as_array().into_iter().flatten() {
                paths.push(format!("{list}/{id}/files/{}", file["name"].as_str().unwrap_or_default()));
            }
        }
    }
    let mut finds = Finds::new();
    let mut look = |what: String, body: &str| {
        if secrets.iter().any(|secret| secret.stands_in(body.as_bytes())) {
            finds.push(what);
        }
    };
    assert!(paths.len() > 12, "there are tasks to look at: {paths:?}");
    for path in paths {
        look(format!("GET {path}"), &node.get(&path).1);
    }
    for secret in secrets.iter().take(3) {
        let text = serde_json::Value::from(secret.text()).to_string();
        for body in
            [text.clone(), format!("[{text}]"), format!("{{\"type\": {text}"), format!("{{{text}: [1]}}\n{{{text}}}")]
        {
            let (status, answer) = node.post_answer("/events", &body);
            // What is an object is taken, as a dead letter; all else is refused.
            assert!(status == 400 || status == 200, "{status}: {answer}");
            look(format!("POST {body:.40}"), &answer);
        }
    }
    finds
}
