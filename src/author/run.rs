//! `plugin run`: events through one plugin, and everything that comes of it, for people or as stable JSON.

use std::{collections::BTreeMap, io::Write, process::ExitCode};

use serde_json::{Map, Value, json};

use super::{
    AuthorError,
    diff::changes,
    events,
    paint::{Ink, Painter},
    replay, settings,
};
use crate::{
    cli::{Events, Trial as Ask},
    config::Config,
    plugin::workbench::{Judged, Judgement, Line, OnDesk, Pair, Step, Trial, Workbench},
};

/// Lines of an extra file shown to people.
const FILE_LINES_MAX: usize = 20;

pub(super) fn run(config: &Config, ask: &Ask, out: &mut dyn Write) -> Result<ExitCode, AuthorError> {
    let pair = Pair::read(&ask.file, ask.config.as_deref())?;
    let steps = match &ask.events {
        Events::File(path) => events::read(path, config.event_max)?,
        Events::Task(dir) => vec![Step::Entries(replay::entries_of(dir)?)],
    };
    let bench = Workbench::open(&settings(config))?;
    let mut painter = Painter::new(out);
    let on_desk = bench.prove(&pair, false)?;
    let trial = bench.trial(&on_desk, &steps, config.event_max);
    if ask.json {
        painter.json(&pretty(&report(&on_desk, &trial)))?;
    } else {
        show(&mut painter, &on_desk, &trial)?;
    }
    Ok(ExitCode::SUCCESS)
}

// === JSON ===

/// Everything that is the same each time the same plugin meets the same events; keys sorted but for the outermost.
pub(super) fn report(on_desk: &OnDesk, trial: &Trial) -> Value {
    let by_place = |pick: &dyn Fn(&crate::plugin::workbench::Left) -> Option<Value>| -> Value {
        trial.left.iter().filter_map(|(place, left)| Some((place.clone(), pick(left)?))).collect::<Map<_, _>>().into()
    };
    json!({
        "plugin": { "name": on_desk.name(), "role": on_desk.role(), "version": on_desk.version() },
        "events": trial.events.iter().map(event).collect::<Vec<_>>(),
        "files": by_place(&|left| {
            let files: Map<_, _> = left.files.iter().map(|(name, extra)| (name.clone(), lines(&extra.text))).collect();
            (!files.is_empty()).then(|| files.into())
        }),
        "annotations": by_place(&|left| {
            (!left.annotations.is_empty()).then(|| sorted(Value::Object(left.annotations.clone())))
        }),
        "state": by_place(&|left| (!left.state.is_empty()).then(|| left.state.clone().into())),
        "counts": trial.counts,
        "logs": trial.logs.iter().map(|line| json!({ "level": line.level, "text": line.text })).collect::<Vec<_>>(),
        "failures": trial.failures.iter().map(|failure| {
            let mut object = Map::new();
            object.insert("class".to_owned(), failure.class.into());
            object.insert("id".to_owned(), failure.id.to_string().into());
            if let Some(message) = said(failure.message.as_deref(), failure.reason.as_deref()) {
                object.insert("message".to_owned(), message.into());
            }
            if let Some(reason) = &failure.reason {
                object.insert("reason".to_owned(), reason.clone().into());
            }
            Value::Object(object)
        }).collect::<Vec<_>>(),
    })
}

fn event(judged: &Judged) -> Value {
    let mut object = Map::new();
    let (verdict, code) = verdict(&judged.judgement);
    if let Some(code) = code {
        object.insert("code".to_owned(), code.into());
    }
    if let Judgement::Replace(data) = &judged.judgement {
        // The host parsed it before.
        object.insert("data".to_owned(), sorted(serde_json::from_str(data).unwrap_or_default()));
    }
    if judged.held > 0 {
        object.insert("held".to_owned(), judged.held.into());
    }
    object.insert("id".to_owned(), judged.id.to_string().into());
    object.insert("kind".to_owned(), judged.kind.clone().into());
    if !judged.place.is_empty() {
        object.insert("task".to_owned(), judged.place.clone().into());
    }
    object.insert("verdict".to_owned(), verdict.into());
    Value::Object(object)
}

/// A file's text by lines, each with its end, so that a difference is seen where it is.
fn lines(text: &str) -> Value {
    text.split_inclusive('\n').map(Value::from).collect()
}

fn verdict(judgement: &Judgement) -> (&'static str, Option<&str>) {
    match judgement {
        Judgement::Waiting => ("waiting", None),
        Judgement::Pass => ("pass", None),
        Judgement::Replace(_) => ("replace", None),
        Judgement::Drop(code) => ("drop", Some(code)),
        Judgement::Quarantine(code) => ("quarantine", Some(code)),
        Judgement::Failed(class) => ("failed", Some(class)),
        Judgement::Refused(reason) => ("refused", Some(reason)),
    }
}

/// The same value with all objects' keys sorted.
pub(super) fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            map.into_iter().map(|(key, value)| (key, sorted(value))).collect::<BTreeMap<_, _>>().into_iter().collect()
        }
        Value::Array(items) => items.into_iter().map(sorted).collect(),
        other => other,
    }
}

pub(super) fn pretty(value: &Value) -> String {
    // A value of texts and numbers always serialises.
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// The guest's words, unless the host's say the same.
fn said<'a>(message: Option<&'a str>, reason: Option<&str>) -> Option<&'a str> {
    message.filter(|message| reason != Some(*message) && !message.is_empty())
}

// === people ===

fn show(painter: &mut Painter<'_>, on_desk: &OnDesk, trial: &Trial) -> Result<(), AuthorError> {
    painter.line(
        0,
        &[
            (Ink::Bold, on_desk.name()),
            (Ink::Plain, &format!(" {}, {}", on_desk.version(), on_desk.role())),
            (Ink::Dim, &format!(", isolation {}, on failure {}", on_desk.isolation(), on_desk.on_failure())),
        ],
    )?;
    logged(painter, 2, "init logged", &on_desk.init_logs)?;
    for judged in &trial.events {
        painter.gap()?;
        show_event(painter, trial, judged)?;
    }
    painter.gap()?;
    logged(painter, 0, "log", &trial.logs)?;
    for text in trial.printed.iter().filter(|text| !text.trim().is_empty()) {
        painter.line(0, &[(Ink::Dim, "printed  "), (Ink::Plain, text)])?;
    }
    for (place, left) in &trial.left {
        for (name, extra) in &left.files {
            let how = if extra.replaced { "replaced" } else { "appended" };
            painter.line(0, &[(Ink::Bold, &format!("{place}/{name}")), (Ink::Dim, &format!("  {how}"))])?;
            let lines = extra.text.lines().count();
            for line in extra.text.lines().take(FILE_LINES_MAX) {
                painter.line(2, &[(Ink::Green, line)])?;
            }
            if lines > FILE_LINES_MAX {
                painter.line(2, &[(Ink::Dim, &format!("… {} more lines", lines - FILE_LINES_MAX))])?;
            }
        }
        if !left.annotations.is_empty() {
            painter.line(0, &[(Ink::Bold, &format!("{place}/metadata.json")), (Ink::Dim, "  annotations")])?;
            painter.line(2, &[(Ink::Green, &pretty(&Value::Object(left.annotations.clone())))])?;
        }
        if !left.state.is_empty() {
            painter.line(0, &[(Ink::Bold, place), (Ink::Dim, "  state  "), (Ink::Plain, &left.state)])?;
        }
    }
    let mut verdicts: BTreeMap<&str, usize> = BTreeMap::new();
    for judged in &trial.events {
        *verdicts.entry(verdict(&judged.judgement).0).or_default() += 1;
    }
    let counted = |counts: Vec<String>| if counts.is_empty() { "none".to_owned() } else { counts.join(", ") };
    let events = counted(verdicts.iter().map(|(verdict, n)| format!("{n} {verdict}")).collect());
    let held = trial.events.iter().filter(|judged| judged.held > 0).count();
    painter.line(0, &[(Ink::Bold, "events  "), (Ink::Plain, &format!("{events}; {held} of them held at first"))])?;
    let counts = counted(trial.counts.iter().map(|(code, n)| format!("{n} {code}")).collect());
    painter.line(0, &[(Ink::Bold, "counts  "), (Ink::Plain, &counts)])?;
    if let Some((id, reason)) = &trial.stop {
        painter.line(0, &[(Ink::Red, &format!("the service would stop reading at {id}: {reason}"))])?;
    }
    Ok(())
}

fn show_event(painter: &mut Painter<'_>, trial: &Trial, judged: &Judged) -> Result<(), AuthorError> {
    let (verdict, code) = verdict(&judged.judgement);
    let ink = match judged.judgement {
        Judgement::Pass => Ink::Dim,
        Judgement::Replace(_) => Ink::Green,
        Judgement::Drop(_) | Judgement::Quarantine(_) => Ink::Yellow,
        _ => Ink::Red,
    };
    let code = code.map(|code| format!(" {code}")).unwrap_or_default();
    let held = match judged.held {
        0 => String::new(),
        1 => "  held once".to_owned(),
        n => format!("  held {n} times"),
    };
    painter.line(
        0,
        &[
            (Ink::Bold, &judged.kind),
            (Ink::Plain, &format!("  {}  ", judged.place)),
            (Ink::Dim, &format!("{}  ", judged.id)),
            (ink, &format!("{verdict}{code}")),
            (Ink::Dim, &held),
        ],
    )?;
    if let Judgement::Replace(data) = &judged.judgement {
        let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
        let found = changes(&parse(&judged.before), &parse(data));
        if found.is_empty() {
            painter.line(2, &[(Ink::Dim, "the same values, written otherwise")])?;
        }
        for change in found {
            painter.line(2, &[(Ink::Plain, &change.pointer)])?;
            if let Some(before) = &change.before {
                painter.line(4, &[(Ink::Red, &format!("- {before}"))])?;
            }
            if let Some(after) = &change.after {
                painter.line(4, &[(Ink::Green, &format!("+ {after}"))])?;
            }
        }
    }
    for failure in trial.failures.iter().filter(|failure| failure.id == judged.id) {
        if let Some(reason) = &failure.reason {
            painter.line(4, &[(Ink::Red, reason)])?;
        }
        if let Some(message) = said(failure.message.as_deref(), failure.reason.as_deref()) {
            painter.line(4, &[(Ink::Dim, "it said  "), (Ink::Plain, message)])?;
        }
        if !failure.printed.trim().is_empty() {
            painter.line(4, &[(Ink::Dim, "printed  "), (Ink::Plain, &failure.printed)])?;
        }
        logged(painter, 4, "log", &failure.logs)?;
        if !failure.frames.is_empty() {
            painter.line(4, &[(Ink::Dim, "at  "), (Ink::Plain, &failure.frames)])?;
        }
    }
    Ok(())
}

fn logged(painter: &mut Painter<'_>, indent: usize, title: &str, lines: &[Line]) -> Result<(), AuthorError> {
    for line in lines {
        let title = format!("{title}  ");
        painter.line(
            indent,
            &[(Ink::Dim, &title), (Ink::Yellow, line.level), (Ink::Plain, &format!("  {}", line.text))],
        )?;
    }
    Ok(())
}
