//! `plugin test`: golden cases. A case is a folder with `events.jsonl`, optionally `sidecar.toml`, and `expected.json`, which is
//! what `plugin run --json` prints. Each case runs again with the other isolation and with its events cut into other calls:
//! the service may do either at any time, so what comes out in the end must not depend on it.

use std::{
    fs, io,
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde_json::{Map, Value};

use super::{
    AuthorError,
    diff::{Change, changes},
    events,
    paint::{Ink, Painter},
    run::{pretty, report},
    settings,
};
use crate::{
    config::Config,
    plugin::workbench::{Pair, Step, Workbench},
    terminal,
};

const CASES: &str = "cases";
const EVENTS: &str = "events.jsonl";
const SIDECAR: &str = "sidecar.toml";
const EXPECTED: &str = "expected.json";
/// Differences shown of one case.
const SHOWN_MAX: usize = 20;

pub(super) fn test(
    config: &Config,
    file: &Path,
    cases: Option<&Path>,
    bless: bool,
    out: &mut dyn Write,
) -> Result<ExitCode, AuthorError> {
    // Beside the component, wherever one stands.
    let beside = file.with_file_name(CASES);
    let cases = cases.unwrap_or(&beside);
    let pair = Pair::read(file, None)?;
    let bench = Workbench::open(&settings(config))?;
    let mut painter = Painter::new(out);
    let folders = folders(cases)?;
    if folders.is_empty() {
        let text =
            format!("no cases in {}: make a folder CASE with {EVENTS} in it, then run with BLESS=1", cases.display());
        painter.line(0, &[(Ink::Red, &text)])?;
        return Ok(ExitCode::FAILURE);
    }
    let mut bad = 0;
    for folder in &folders {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let case = Case { config, bench: &bench, pair: &pair, folder, bless };
        match case.run()? {
            Found::Fine => painter.line(0, &[(Ink::Green, "ok       "), (Ink::Plain, &name)])?,
            Found::Blessed => painter.line(0, &[(Ink::Yellow, "blessed  "), (Ink::Plain, &name)])?,
            Found::Wrong(complaints) => {
                bad += 1;
                painter.line(0, &[(Ink::Red, "FAILED   "), (Ink::Plain, &name)])?;
                for (what, differences) in complaints {
                    complain(&mut painter, &what, &differences)?;
                }
            }
        }
    }
    let summary = format!("{} case{}, {bad} failed", folders.len(), if folders.len() == 1 { "" } else { "s" });
    painter.line(0, &[(if bad > 0 { Ink::Red } else { Ink::Green }, &summary)])?;
    Ok(if bad > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

struct Case<'a> {
    config: &'a Config,
    bench: &'a Workbench,
    pair: &'a Pair,
    folder: &'a Path,
    bless: bool,
}

enum Found {
    Fine,
    Blessed,
    /// What is wrong, and where.
    Wrong(Vec<(String, Vec<Change>)>),
}

impl Case<'_> {
    fn run(&self) -> Result<Found, AuthorError> {
        let sidecar = self.folder.join(SIDECAR);
        let own = match fs::exists(&sidecar) {
            Ok(true) => Some(self.pair.with_sidecar(&sidecar)?),
            Ok(false) => None,
            Err(source) => return Err(AuthorError::Case { path: sidecar, source }),
        };
        let pair = own.as_ref().unwrap_or(self.pair);
        let steps = events::read(&self.folder.join(EVENTS), self.config.event_max)?;
        let found = self.outcome(pair, &steps, false)?;
        let mut complaints = Vec::new();
        let blessed = self.compare(&found, &mut complaints)?;
        self.vary(pair, &steps, &found, &mut complaints)?;
        Ok(match (complaints.is_empty(), blessed) {
            (false, _) => Found::Wrong(complaints),
            (true, true) => Found::Blessed,
            (true, false) => Found::Fine,
        })
    }

    fn outcome(&self, pair: &Pair, steps: &[Step], flipped: bool) -> Result<Value, AuthorError> {
        let on_desk = self.bench.prove(pair, flipped)?;
        Ok(report(&on_desk, &self.bench.trial(&on_desk, steps, self.config.event_max)))
    }

    /// Compares with what is expected, or writes that. True if it wrote something new.
    fn compare(&self, found: &Value, complaints: &mut Vec<(String, Vec<Change>)>) -> Result<bool, AuthorError> {
        let path = self.folder.join(EXPECTED);
        let failed = |source| AuthorError::Case { path: path.clone(), source };
        let expected = match fs::read(&path) {
            Ok(text) => match serde_json::from_slice::<Value>(&text) {
                Ok(expected) => Some(expected),
                Err(_) if self.bless => None,
                Err(error) => {
                    complaints.push((format!("{EXPECTED} is not JSON: {error}"), Vec::new()));
                    return Ok(false);
                }
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error)),
        };
        let differences = expected.as_ref().map(|expected| changes(&unversioned(expected), &unversioned(found)));
        match differences {
            Some(differences) if differences.is_empty() => return Ok(false),
            _ if self.bless => {
                fs::write(&path, format!("{}\n", terminal::json(&pretty(found)))).map_err(failed)?;
                return Ok(true);
            }
            Some(differences) => {
                let text = format!("differs from {EXPECTED} (-: expected, +: found; if that is meant: BLESS=1)");
                complaints.push((text, differences));
            }
            None => {
                let text = format!("there is no {EXPECTED}: look at `plugin run`, then run this with BLESS=1");
                complaints.push((text, Vec::new()));
            }
        }
        Ok(false)
    }

    /// Runs the case otherwise than written, and complains of what comes out otherwise.
    fn vary(
        &self,
        pair: &Pair,
        steps: &[Step],
        found: &Value,
        complaints: &mut Vec<(String, Vec<Change>)>,
    ) -> Result<(), AuthorError> {
        let expected = last_word(found);
        let cuts = [("one event a call", Some(1)), ("three events a call", Some(3)), ("all events in a call", None)];
        let mut runs = vec![("with the other `isolation`", steps.to_vec(), true)];
        runs.extend(
            cuts.map(|(how, size)| (how, events::cut(steps, size), false))
                .into_iter()
                .filter(|(_, cut, _)| cut != steps),
        );
        for (how, steps, flipped) in runs {
            let differences = changes(&expected, &last_word(&self.outcome(pair, &steps, flipped)?));
            if !differences.is_empty() {
                let text =
                    format!("comes out otherwise {how}, which the service may do at any time (-: as written, +: so)");
                complaints.push((text, differences));
            }
        }
        Ok(())
    }
}

/// Without the version: a new one alone changes no behaviour.
fn unversioned(report: &Value) -> Value {
    let mut report = report.clone();
    if let Some(plugin) = report.get_mut("plugin").and_then(Value::as_object_mut) {
        plugin.shift_remove("version");
    }
    report
}

/// What ends up in the files: not how often an event was held, nor what was logged or counted on the way.
fn last_word(report: &Value) -> Value {
    let mut kept = Map::new();
    for key in ["files", "annotations", "state"] {
        kept.insert(key.to_owned(), report.get(key).cloned().unwrap_or_default());
    }
    let events = report.get("events").and_then(Value::as_array).into_iter().flatten().cloned().map(|mut event| {
        if let Some(event) = event.as_object_mut() {
            event.shift_remove("held");
        }
        event
    });
    kept.insert("events".to_owned(), events.collect());
    Value::Object(kept)
}

fn folders(cases: &Path) -> Result<Vec<PathBuf>, AuthorError> {
    let failed = |source| AuthorError::Case { path: cases.to_owned(), source };
    let mut folders = Vec::new();
    match fs::read_dir(cases) {
        Ok(entries) => {
            for entry in entries {
                let path = entry.map_err(failed)?.path();
                if path.is_dir() && !path.file_name().unwrap_or_default().to_string_lossy().starts_with('.') {
                    folders.push(path);
                }
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    folders.sort();
    Ok(folders)
}

fn complain(painter: &mut Painter<'_>, what: &str, differences: &[Change]) -> io::Result<()> {
    painter.line(2, &[(Ink::Yellow, what)])?;
    for change in differences.iter().take(SHOWN_MAX) {
        painter.line(4, &[(Ink::Plain, &change.pointer)])?;
        if let Some(before) = &change.before {
            painter.line(6, &[(Ink::Red, &format!("- {before}"))])?;
        }
        if let Some(after) = &change.after {
            painter.line(6, &[(Ink::Green, &format!("+ {after}"))])?;
        }
    }
    if differences.len() > SHOWN_MAX {
        painter.line(4, &[(Ink::Dim, &format!("… {} more", differences.len() - SHOWN_MAX))])?;
    }
    Ok(())
}
