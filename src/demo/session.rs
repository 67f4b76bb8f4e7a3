//! The bundled session: real in shape, with secrets that are invented anew for each run, so that none stands in the
//! repository and every one of them can be searched for afterwards.

use std::{fs, io, path::Path};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};

/// Events as a producer would send them, with `{{name}}` where a secret goes, `{{name:1}}` and `{{name:2}}` for its halves.
const TEMPLATE: &str = include_str!("session.jsonl");

/// What the session ends with, or begins with: these are absorbed by a task's static files, all others leave a record.
const ABSORBED: [&str; 4] = ["task:created", "task:started", "task:completed", "task:failed"];

/// The session, ready to be published.
pub(super) struct Session {
    /// One event a line.
    pub(super) text: String,
    /// Events in it.
    pub(super) events: usize,
    /// Records that must stand in the JSONL files when all of them are through.
    pub(super) records: usize,
    /// Tasks in it; each of them ends.
    pub(super) tasks: Vec<String>,
    secrets: Vec<Secret>,
}

struct Secret {
    name: &'static str,
    text: String,
    /// Parts that must be found nowhere; what they leave out is a vendor's prefix.
    needles: Vec<String>,
}

/// The session cannot be made: its file is not what this module expects.
#[derive(Debug, thiserror::Error)]
#[error("line {line} of the bundled session is not usable")]
pub(super) struct BadSession {
    line: usize,
}

// === impl Session ===

impl Session {
    /// With fresh secrets, and its last event at `end`.
    pub(super) fn bundled(end: Timestamp) -> Result<Self, BadSession> {
        let secrets = Secret::all();
        let mut events = Vec::new();
        for (at, line) in TEMPLATE.lines().enumerate() {
            let line = secrets.iter().fold(line.to_owned(), |line, secret| secret.fill(&line));
            let event: Map<String, Value> = serde_json::from_str(&line).map_err(|_| BadSession { line: at + 1 })?;
            let time = event.get("timestamp").and_then(Value::as_str).and_then(|time| time.parse::<Timestamp>().ok());
            events.push((time.ok_or(BadSession { line: at + 1 })?, event));
        }
        let shift = events.last().map_or(SignedDuration::ZERO, |(last, _)| end.duration_since(*last));
        let text_of = |event: &Map<String, Value>, name: &str| {
            event.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let mut session = Self { text: String::new(), events: events.len(), records: 0, tasks: Vec::new(), secrets };
        for (time, mut event) in events {
            event.insert("timestamp".into(), format!("{:.3}", time.saturating_add(shift).unwrap_or(time)).into());
            let (kind, task) = (text_of(&event, "type"), text_of(&event, "task_id"));
            session.records += usize::from(!ABSORBED.contains(&kind.as_str()));
            if !task.is_empty() && !session.tasks.contains(&task) {
                session.tasks.push(task);
            }
            session.text.push_str(&Value::Object(event).to_string());
            session.text.push('\n');
        }
        Ok(session)
    }

    /// How many secrets are in it.
    pub(super) fn secrets(&self) -> usize {
        self.secrets.len()
    }

    /// Secrets found below a folder, hidden files included: their names, each with the file.
    pub(super) fn leaks(&self, folder: &Path) -> io::Result<Vec<String>> {
        let mut leaks = Vec::new();
        self.search(folder, &mut leaks)?;
        Ok(leaks)
    }

    fn search(&self, folder: &Path, leaks: &mut Vec<String>) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                self.search(&entry.path(), leaks)?;
                continue;
            }
            let bytes = match fs::read(entry.path()) {
                Ok(bytes) => bytes,
                // Staging files come and go.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let text = String::from_utf8_lossy(&bytes);
            for secret in &self.secrets {
                if secret.needles.iter().any(|needle| text.contains(needle)) {
                    leaks.push(format!("{} in {}", secret.name, entry.path().display()));
                }
            }
        }
        Ok(())
    }
}

// === impl Secret ===

impl Secret {
    fn all() -> Vec<Self> {
        let plain = |name, prefix: &str, length| {
            let random = random(length);
            Self { name, text: format!("{prefix}{random}"), needles: vec![random] }
        };
        let upper = random(16).to_ascii_uppercase();
        // With the prefix of 13 letters the two halves are equally long, so that each needle stands in one of them.
        let halves = [random(20), random(33)];
        let lines: Vec<_> = (0..4).map(|_| random(64)).collect();
        let label = ["PRIVATE", "KEY"].join(" ");
        let pem = format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"));
        vec![
            plain("github_token", "ghp_", 36),
            Self { name: "aws_access_key", text: format!("AKIA{upper}"), needles: vec![upper] },
            plain("url_password", "", 20),
            plain("password", "", 20),
            plain("bearer", "", 40),
            plain("client_secret", "", 32),
            plain("user_password", "", 18),
            plain("slack_token", "xoxb-", 40),
            Self {
                name: "anthropic_key",
                text: format!("sk-ant-api03-{}{}", halves[0], halves[1]),
                needles: halves.to_vec(),
            },
            Self { name: "private_key", text: pem, needles: lines },
        ]
    }

    fn fill(&self, line: &str) -> String {
        let halves = self.text.split_at(self.text.len() / 2);
        [("", self.text.as_str()), (":1", halves.0), (":2", halves.1)].into_iter().fold(
            line.to_owned(),
            |line, (part, text)| {
                let json = Value::from(text).to_string();
                line.replace(&format!("{{{{{}{part}}}}}", self.name), json.trim_matches('"'))
            },
        )
    }
}

/// Letters and digits, of both kinds.
fn random(length: usize) -> String {
    (0..length)
        .map(|at| match at % 4 {
            // A digit in every four, as tokens have them, so that no run of letters looks like a word.
            3 => fastrand::digit(10),
            _ => fastrand::alphabetic(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_session_is_filled_and_ends_when_asked() {
        let end: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let session = Session::bundled(end).unwrap();
        assert!(!session.text.contains("{{"), "a name that no secret has");
        assert_eq!(session.text.lines().count(), session.events);
        assert!(session.text.lines().last().unwrap().contains("2026-03-01T12:00:00.000Z"));
        for secret in &session.secrets {
            for needle in &secret.needles {
                assert!(needle.len() >= 16 && session.text.contains(needle.as_str()), "{}", secret.name);
            }
        }
        for task in &session.tasks {
            let ends = session.text.lines().filter(|line| {
                line.contains(task.as_str())
                    && (line.contains("\"task:completed\"") || line.contains("\"task:failed\""))
            });
            assert_eq!(ends.count(), 1, "{task}");
        }
        assert!(session.tasks.len() >= 4 && session.records < session.events);
    }

    #[test]
    fn the_halves_of_a_secret_are_in_two_events() {
        let session = Session::bundled(Timestamp::UNIX_EPOCH).unwrap();
        let split = session.secrets.iter().find(|secret| secret.name == "anthropic_key").unwrap();
        assert!(!session.text.contains(&split.text));
    }

    #[test]
    fn leaks_are_found_wherever_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let session = Session::bundled(Timestamp::UNIX_EPOCH).unwrap();
        fs::create_dir_all(dir.path().join("a/.hidden")).unwrap();
        fs::write(dir.path().join("a/clean"), "nothing").unwrap();
        assert!(session.leaks(dir.path()).unwrap().is_empty());
        fs::write(
            dir.path().join("a/.hidden/journal"),
            [b"\xff\x00", session.secrets[9].needles[2].as_bytes()].concat(),
        )
        .unwrap();
        let leaks = session.leaks(dir.path()).unwrap();
        assert!(leaks.len() == 1 && leaks[0].starts_with("private_key in "), "{leaks:?}");
    }
}
