//! The rules of `FAILPOINTS`: parsed, counted, carried out.

use std::{
    collections::HashMap,
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
    time::{Duration, SystemTime},
};

use rustix::{
    io::Errno,
    process::{Signal, getpid, kill_process},
};

/// How often a paused thread looks whether its rule is gone.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What happens at a hit.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Task {
    Off,
    Return(String),
    Sleep(Duration),
    Pause,
    Panic,
    Stop,
    Abort(Duration),
}

/// A row of tasks, each with the hits that it is still good for (`None`: all).
type Rule = Vec<(Option<u64>, Task)>;

#[derive(Debug, Default)]
struct Rules {
    file: Option<PathBuf>,
    /// The file as it was when it was read last: its time and its number.
    seen: Option<(SystemTime, u64)>,
    rules: HashMap<String, Rule>,
}

static RULES: OnceLock<Option<Mutex<Rules>>> = OnceLock::new();

/// Carries out what the rule of a step says for this hit; returns what it asks to be returned.
pub(super) fn hit(name: &str) -> Option<String> {
    let task = rules()?.next(name)?;
    match task {
        Task::Off => return None,
        // Numbers and bugs are asked for at every turn.
        Task::Return(what) if name.starts_with("mutation::") || what.parse::<u64>().is_ok() => return Some(what),
        _ => tracing::warn!(name, ?task, "failpoint"),
    }
    match task {
        Task::Off => None,
        Task::Return(what) => Some(what),
        Task::Sleep(time) => {
            thread::sleep(time);
            None
        }
        Task::Pause => {
            while rules().is_some_and(|mut rules| rules.is_paused(name)) {
                thread::sleep(LOOK_EVERY);
            }
            None
        }
        #[expect(clippy::panic, reason = "that is what was asked for")]
        Task::Panic => panic!("failpoint {name}"),
        Task::Stop => {
            signalled(kill_process(getpid(), Signal::STOP));
            // This thread may run on for a moment before the stop takes hold of it: not past here.
            thread::sleep(Duration::from_millis(100));
            None
        }
        Task::Abort(after) => {
            thread::sleep(after);
            signalled(kill_process(getpid(), Signal::KILL));
            std::process::abort()
        }
    }
}

fn signalled(sent: Result<(), Errno>) {
    if let Err(error) = sent {
        tracing::error!(%error, "cannot send a signal to myself");
    }
}

/// Whether a step has a rule.
pub(super) fn exists(name: &str) -> bool {
    rules().is_some_and(|rules| rules.rules.contains_key(name))
}

/// The error that a rule asks for.
pub(super) fn error(what: Option<String>) -> io::Result<()> {
    let Some(what) = what else { return Ok(()) };
    let errno = match &*what {
        "ENOSPC" => Errno::NOSPC,
        "EDQUOT" => Errno::DQUOT,
        "EIO" => Errno::IO,
        "EROFS" => Errno::ROFS,
        "EACCES" => Errno::ACCESS,
        "EPERM" => Errno::PERM,
        "ECONNRESET" => Errno::CONNRESET,
        _ => return Err(io::Error::other(format!("failpoint: {what}"))),
    };
    Err(errno.into())
}

/// Which log a segment's file, or a file that is to become one, belongs to.
pub(super) fn log_of(file: &Path) -> &'static str {
    let name = file.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let folder = file.parent().and_then(Path::file_name);
    match () {
        () if name.ends_with(".wal") || name.contains("-spare-") => "journal",
        () if folder.is_some_and(|folder| folder == "dead") => "dead",
        () => "log",
    }
}

fn rules() -> Option<MutexGuard<'static, Rules>> {
    let rules = RULES.get_or_init(|| {
        let (text, file) = (std::env::var("FAILPOINTS").ok(), std::env::var_os("FAILPOINTS_FILE").map(PathBuf::from));
        if text.is_none() && file.is_none() {
            return None;
        }
        tracing::warn!("this build fails on request (FAILPOINTS): for tests only");
        Some(Mutex::new(Rules { rules: understood(&text.unwrap_or_default()), file, seen: None }))
    });
    let mut rules = rules.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
    rules.refresh();
    Some(rules)
}

/// Parses rules; a test that says nonsense ends at once.
fn understood(text: &str) -> HashMap<String, Rule> {
    parse(text).unwrap_or_else(|wrong| {
        tracing::error!(wrong, "FAILPOINTS is no list of rules");
        std::process::abort()
    })
}

fn parse(text: &str) -> Result<HashMap<String, Rule>, String> {
    let parts = text.split(';').map(str::trim).filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (name, rule) = part.split_once('=').ok_or_else(|| part.to_owned())?;
            let tasks = rule.split("->").map(|task| parse_task(task.trim()).ok_or_else(|| part.to_owned()));
            Ok((name.trim().to_owned(), tasks.collect::<Result<Rule, _>>()?))
        })
        .collect()
}

fn parse_task(text: &str) -> Option<(Option<u64>, Task)> {
    let (hits, task) = match text.split_once('*') {
        Some((hits, task)) => (Some(hits.parse().ok()?), task),
        None => (None, text),
    };
    let (verb, argument) = match task.split_once('(') {
        Some((verb, rest)) => (verb, rest.strip_suffix(')')?),
        None => (task, ""),
    };
    let time = || argument.parse().ok().map(Duration::from_millis);
    let task = match verb {
        "off" => Task::Off,
        "return" => Task::Return(argument.to_owned()),
        "sleep" => Task::Sleep(time()?),
        "pause" => Task::Pause,
        "panic" => Task::Panic,
        "stop" => Task::Stop,
        "abort" => Task::Abort(if argument.is_empty() { Duration::ZERO } else { time()? }),
        _ => return None,
    };
    Some((hits, task))
}

// === impl Rules ===

impl Rules {
    fn refresh(&mut self) {
        let Some(file) = &self.file else { return };
        // Tests put the file in place by a rename: it is whole whenever it is there.
        let seen = std::fs::metadata(file).and_then(|file| Ok((file.modified()?, file.ino()))).ok();
        if seen != self.seen {
            self.seen = seen;
            self.rules = understood(&std::fs::read_to_string(file).unwrap_or_default());
        }
    }

    fn next(&mut self, name: &str) -> Option<Task> {
        let (hits, task) = self.rules.get_mut(name)?.iter_mut().find(|(hits, _)| *hits != Some(0))?;
        if let Some(hits) = hits {
            *hits -= 1;
        }
        Some(task.clone())
    }

    fn is_paused(&mut self, name: &str) -> bool {
        self.refresh();
        self.rules.get(name).is_some_and(|rule| rule.iter().any(|(_, task)| *task == Task::Pause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_a_row_of_tasks_that_are_used_up() {
        let rules = parse("a::b=2*off->1*return(EIO) -> sleep(5); c=abort(30);").unwrap();
        let mut rules = Rules { rules, ..Rules::default() };
        let next = |rules: &mut Rules, name| rules.next(name);
        assert_eq!(next(&mut rules, "a::b"), Some(Task::Off));
        assert_eq!(next(&mut rules, "a::b"), Some(Task::Off));
        assert_eq!(next(&mut rules, "a::b"), Some(Task::Return("EIO".into())));
        for _ in 0..3 {
            assert_eq!(next(&mut rules, "a::b"), Some(Task::Sleep(Duration::from_millis(5))));
        }
        assert_eq!(next(&mut rules, "c"), Some(Task::Abort(Duration::from_millis(30))));
        assert_eq!(next(&mut rules, "d"), None);
        for wrong in ["a", "a=", "a=b", "a=x*off", "a=sleep", "a=return(x"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_asked_for_is_returned() {
        let kind = |what: &str| error(Some(what.to_owned())).unwrap_err().kind();
        assert_eq!(kind("ENOSPC"), io::ErrorKind::StorageFull);
        assert_eq!(kind("EDQUOT"), io::ErrorKind::QuotaExceeded);
        assert_eq!(kind("EROFS"), io::ErrorKind::ReadOnlyFilesystem);
        assert_eq!(kind("EACCES"), io::ErrorKind::PermissionDenied);
        assert_eq!(error(Some("EIO".into())).unwrap_err().raw_os_error(), Some(Errno::IO.raw_os_error()));
        assert!(error(None).is_ok());
        assert_eq!(log_of(Path::new("s/3-00000001.wal")), "journal");
        assert_eq!(log_of(Path::new("s/3-spare-0.new")), "journal");
        assert_eq!(log_of(Path::new("s/dead/000.log")), "dead");
        assert_eq!(log_of(Path::new("s/000.log.new")), "log");
    }
}
