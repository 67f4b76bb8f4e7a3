//! The same commands on a `LOGS_DIR`, without a service: what it would answer is read from the files.

use std::{
    io::{self, Read, Write},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde_json::Value;

use super::{ClientError, Screen, logs::anew, print::Printer};
use crate::{
    cli,
    event::Id,
    layout,
    reader::{Folder, Index, Logs, Order, ReadError, Records, Shelf, TaskPage},
};

/// First and longest time between two looks.
const POLL: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// Records of what is there when what was read is no more.
const HISTORY: u64 = 1000;

/// A `LOGS_DIR` that is there.
pub(super) fn open(dir: &Path) -> Result<Logs, ClientError> {
    let logs = Logs::new(dir.to_owned());
    logs.check().map_err(|source| ClientError::NoFolder { dir: dir.to_owned(), source })?;
    Ok(logs)
}

/// A task's folder, with its id.
pub(super) fn task(logs: &Logs, task: &str) -> Result<(Id, Folder), ClientError> {
    let id = Id::parse(task).map_err(|_| ClientError::NoSuchTask)?;
    let folder = logs.folder(Shelf::Tasks, &id)?.ok_or(ClientError::NoSuchTask)?;
    Ok((id, folder))
}

/// Prints what is asked for.
pub(super) fn logs(dir: &Path, asked: &cli::Logs, screen: Screen, out: &mut dyn Write) -> Result<(), ClientError> {
    let logs = open(dir)?;
    let (id, mut folder) = task(&logs, &asked.task)?;
    let filter = asked.choice.filter(Timestamp::now())?;
    let files = &asked.choice.files;
    let mut printer = Printer::new(out, asked.form, screen, asked.limit);
    let after = match (asked.tail, &asked.after) {
        (Some(tail), _) => Records::last(&folder, files, &filter, tail)?,
        (None, after) => after.clone().unwrap_or_default(),
    };
    let mut records = Records::open(&folder, files, asked.order, &after)?;
    let mut pause = POLL.0;
    let result = loop {
        // First the end, then the records: it is written behind all that came before it.
        let result = result(&folder)?;
        let before = printer.left();
        let read = read(&mut records, &mut printer, |line| filter.wants(line)).and_then(|()| {
            if asked.order == Order::Descending {
                return Ok(());
            }
            records.refresh(&folder)?;
            read(&mut records, &mut printer, |line| filter.wants(line))
        });
        match read {
            Ok(()) if !asked.follow || printer.left() == 0 || result.is_some() => break result,
            Ok(()) => {}
            Err(ClientError::Files(ReadError::Gone)) if asked.follow => {
                anew();
                printer.begin_anew();
                folder = logs.folder(Shelf::Tasks, &id)?.ok_or(ClientError::NoSuchTask)?;
                let after = Records::last(&folder, files, &filter, HISTORY)?;
                records = Records::open(&folder, files, asked.order, &after)?;
            }
            Err(error) => return Err(error),
        }
        printer.flush()?;
        pause = if printer.left() < before { POLL.0 } else { (pause * 5 / 4).min(POLL.1) };
        thread::sleep(pause);
    };
    let to_the_end = printer.left() > 0 && asked.order == Order::Ascending;
    printer.end(result.as_ref().filter(|_| to_the_end), asked.follow)?;
    Ok(())
}

fn read(records: &mut Records, printer: &mut Printer<'_>, wants: impl Fn(&[u8]) -> bool) -> Result<(), ClientError> {
    while printer.left() > 0 && records.step()? {
        if let Some(record) = records.record().filter(|record| wants(record.line)) {
            printer.record(&record, records.cursor())?;
        }
    }
    Ok(())
}

/// The task's final result, if it has ended.
pub(super) fn result(folder: &Folder) -> Result<Option<Value>, ClientError> {
    let Some(file) = folder.open(layout::FINAL_RESULT)? else { return Ok(None) };
    let len = file.len();
    let mut text = Vec::new();
    file.section(0, len).read_to_end(&mut text).map_err(ClientError::Broken)?;
    // What is there and cannot be read is an end all the same.
    Ok(Some(serde_json::from_slice(&text).unwrap_or_default()))
}

/// Waits until the task has ended, and tells how; `None`: the time ran out.
pub(super) fn wait(dir: &Path, task: &str, deadline: Option<Instant>) -> Result<Option<bool>, ClientError> {
    let (_, folder) = self::task(&open(dir)?, task)?;
    let mut pause = POLL.0;
    loop {
        if let Some(success) = folder.ended()? {
            return Ok(Some(success));
        }
        let left = deadline.map_or(POLL.1, |deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_zero() {
            return Ok(None);
        }
        thread::sleep(pause.min(left));
        pause = (pause * 5 / 4).min(POLL.1);
    }
}

/// An index of all tasks, complete.
pub(super) fn index(dir: &Path) -> Result<Index, ClientError> {
    open(dir)?;
    let index = Index::start(dir.to_owned());
    loop {
        index.catch_up();
        if index.is_complete() {
            return Ok(index);
        }
        // It says so when it cannot.
        index.tasks(&Default::default())?;
    }
}

/// A page of tasks.
pub(super) fn page(
    index: &Index,
    asked: &cli::Tasks,
    limit: usize,
    after: Option<&str>,
) -> Result<TaskPage, ClientError> {
    let mut query = asked.of_index(Timestamp::now())?;
    query.limit = limit;
    query.after = after.and_then(|after| crate::reader::Place::parse(after, query.by));
    index.catch_up();
    Ok(index.tasks(&query)?)
}

/// What `GET /tasks/{id}` answers.
pub(super) fn overview(dir: &Path, task: &str) -> Result<Value, ClientError> {
    let logs = open(dir)?;
    let (id, _) = self::task(&logs, task)?;
    let overview = logs.overview(&id)?.ok_or(ClientError::NoSuchTask)?;
    serde_json::from_reader(io::BufReader::new(overview.into_reader()))
        .map_err(|error| ClientError::Broken(error.into()))
}
