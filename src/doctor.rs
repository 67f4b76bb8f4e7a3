//! `task-logger doctor`: looks at what the service stands on and says what to do about each thing that is not right. Takes the
//! variables of `serve`, needs no running service, and changes nothing but a file without a name that it measures syncs with.

use std::{
    fmt,
    io::{self, Write},
    process::ExitCode,
};

use serde::Serialize;

use crate::config::{self, Config, Input, Problem};

mod file_system;
mod folders;
mod limits;
mod plugins;
mod redis;
mod syncs;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Works; costs something, or will one day.
    Warn,
    /// The service does not work so, or does not keep what it promises.
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at, a word that stays the same over versions.
    pub check: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// What to do; empty when nothing is.
    pub advice: String,
}

/// All findings, in the order of the checks.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// In the order of the checks.
    pub findings: Vec<Finding>,
    /// Whether the settings were usable, so that everything was looked at.
    pub complete: bool,
}

/// Looks at everything, prints it, and answers with the status: 0 nothing fails, 1 something does, 2 it could not look.
pub fn run(input: Input, json: bool, out: &mut impl Write) -> io::Result<ExitCode> {
    let report = examine(input);
    if json {
        let level = report.worst();
        let text = serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "level": level,
            "complete": report.complete,
            "findings": report.findings,
        });
        writeln!(out, "{text:#}")?;
    } else {
        write!(out, "{report}")?;
    }
    out.flush()?;
    Ok(ExitCode::from(match (report.complete, report.worst()) {
        (false, _) => 2,
        (true, Level::Fail) => 1,
        (true, _) => 0,
    }))
}

/// Looks at everything that these settings name.
pub fn examine(mut input: Input) -> Report {
    let mut report = Report::default();
    let config = match config::resolve(&input) {
        Ok(config) => Some(config),
        Err(invalid) => {
            for problem in &invalid.0 {
                let advice = "put it right: the service does not start so".to_owned();
                report.fail("settings", problem.to_string(), advice);
                // A misspelt name says nothing of the others, and without it they can be looked at.
                if let Problem::NearMiss { name, .. } = problem {
                    input.env.remove(std::ffi::OsStr::new(name));
                }
            }
            config::resolve(&input).ok()
        }
    };
    let Some(config) = config else { return report };
    report.complete = true;
    settings(&mut report, &config);
    redis::look(&mut report, &config);
    folders::look(&mut report, &config);
    syncs::look(&mut report, &config);
    plugins::look(&mut report, &config);
    limits::look(&mut report);
    report
}

fn settings(report: &mut Report, config: &Config) {
    for warning in config.warnings() {
        report.warn("settings", warning, "change it unless it is meant so");
    }
    if report.findings.is_empty() {
        report.ok("settings", "valid");
    }
}

// === impl Report ===

impl Report {
    /// The worst level found.
    pub fn worst(&self) -> Level {
        self.findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok)
    }

    fn add(&mut self, check: &'static str, level: Level, found: impl Into<String>, advice: impl Into<String>) {
        self.findings.push(Finding { check, level, found: found.into(), advice: advice.into() });
    }

    fn ok(&mut self, check: &'static str, found: impl Into<String>) {
        self.add(check, Level::Ok, found, "");
    }

    fn warn(&mut self, check: &'static str, found: impl Into<String>, advice: impl Into<String>) {
        self.add(check, Level::Warn, found, advice);
    }

    fn fail(&mut self, check: &'static str, found: impl Into<String>, advice: impl Into<String>) {
        self.add(check, Level::Fail, found, advice);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
        for Finding { check, level, found, advice } in &self.findings {
            // What stands in a file's name or in a server's answer must not paint the terminal.
            let shown: String = found.chars().map(|c| if c.is_control() && c != '\n' { '?' } else { c }).collect();
            writeln!(f, "{:4}  {check:width$}  {}", level.word(), shown.replace('\n', "; "))?;
            if !advice.is_empty() {
                writeln!(f, "{:4}  {:width$}  -> {advice}", "", "")?;
            }
        }
        let count = |level| self.findings.iter().filter(|finding| finding.level == level).count();
        let (warn, fail) = (count(Level::Warn), count(Level::Fail));
        let rest = if self.complete { "" } else { "; nothing else was looked at" };
        writeln!(f, "\n{} ok, {warn} to know of, {fail} to put right{rest}", count(Level::Ok))
    }
}

// === impl Level ===

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        }
    }
}

/// Bytes for people.
fn bytes(n: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    #[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
    let (mut size, mut at) = (n as f64, 0);
    while size >= 1024.0 && at + 1 < units.len() {
        (size, at) = (size / 1024.0, at + 1);
    }
    if at == 0 { format!("{n} B") } else { format!("{size:.1} {}", units[at]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_aligned_and_shows_no_control_characters() {
        let mut report = Report { complete: true, ..Report::default() };
        report.ok("a", "fine");
        report.fail("longer", "bad\u{1b}[31m\nname", "mend it");
        let text = report.to_string();
        let expected = "ok    a       fine\nFAIL  longer  bad?[31m; name\n              -> mend it\n\n1 ok, 0 to know of, 1 to put right\n";
        assert_eq!(text, expected);
        assert_eq!(report.worst(), Level::Fail);
    }

    #[test]
    fn sizes_are_for_people() {
        assert_eq!([0, 1023, 1024, 3 << 29].map(bytes), ["0 B", "1023 B", "1.0 KiB", "1.5 GiB"]);
    }
}
