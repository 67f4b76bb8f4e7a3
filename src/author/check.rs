//! `plugin check`: what the service would do with a file before it goes live, in words that a person can act on.

use std::{io::Write, path::Path, process::ExitCode};

use serde_json::{Value, json};

use super::{
    AuthorError,
    paint::{Ink, Painter},
    run::pretty,
    settings,
};
use crate::{
    config::Config,
    plugin::workbench::{Grade, Inspection, Pair, Settings, Workbench},
};

pub(super) fn check(config: &Config, file: &Path, json: bool, out: &mut dyn Write) -> Result<ExitCode, AuthorError> {
    let pair = Pair::read(file, None)?;
    let desk = Settings { trusted_keys: config.trusted_keys.clone(), ..settings(config) };
    let inspection = Workbench::open(&desk)?.inspect(&pair);
    let mut painter = Painter::new(out);
    if json {
        painter.json(&pretty(&report(&inspection)))?;
    } else {
        show(&mut painter, &inspection)?;
    }
    Ok(if inspection.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn report(inspection: &Inspection) -> Value {
    let facts = &inspection.facts;
    let us = |time: Option<std::time::Duration>| time.map(|time| (time.as_secs_f64() * 1e6).round());
    json!({
        "good": inspection.is_good(),
        "findings": inspection.findings.iter().map(|finding| json!({
            "topic": finding.topic,
            "grade": finding.grade.as_str(),
            "text": finding.text,
        })).collect::<Vec<_>>(),
        "bytes": facts.bytes,
        "sha256": facts.sha256,
        "imports": facts.imports,
        "compile_us": us(facts.compile),
        "cached": facts.cached,
        "memory_bytes": facts.memory,
        "instantiate_us": us(facts.instantiate),
    })
}

fn show(painter: &mut Painter<'_>, inspection: &Inspection) -> Result<(), AuthorError> {
    for finding in &inspection.findings {
        let (mark, ink) = match finding.grade {
            Grade::Good => ("ok       ", Ink::Green),
            Grade::Warning => ("warning  ", Ink::Yellow),
            Grade::Wrong => ("WRONG    ", Ink::Red),
        };
        let topic = format!("{:<10}", finding.topic);
        painter.line(0, &[(ink, mark), (Ink::Bold, &topic), (Ink::Plain, &finding.text)])?;
    }
    match inspection.is_good() {
        true => painter.line(0, &[(Ink::Green, "the service would take it")])?,
        false => painter.line(0, &[(Ink::Red, "the service would refuse it; what runs would go on")])?,
    }
    Ok(())
}
