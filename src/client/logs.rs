//! `logs TASK [-f]`: a task's records as they come from the service, and on from the last one when the connection was cut.

use std::{
    borrow::Cow,
    io::{self, BufRead, BufReader, Read, Write},
    thread,
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::{AGAIN, Asking, Client, ClientError, PATIENCE, Screen, in_url, print::Printer};
use crate::{
    cli::Logs,
    layout,
    reader::{Cursor, Order, Record},
};

/// Longest line of an answer, in bytes.
const LINE_BYTES_MAX: u64 = 256 << 20;
/// How long a task that is not there is asked for: what was published a moment ago is on its way.
const ON_ITS_WAY: Duration = Duration::from_secs(1);
const ASK_AGAIN: Duration = Duration::from_millis(50);
/// A stream gives a sign of life every 15 seconds; one that is silent for longer is cut.
pub(super) const SILENCE: Duration = Duration::from_secs(45);

/// A line of a stream.
#[derive(Deserialize)]
struct Line<'l> {
    #[serde(borrow)]
    cursor: Option<Cow<'l, str>>,
    #[serde(borrow)]
    file: Option<Cow<'l, str>>,
    bytes: Option<u64>,
    #[serde(borrow)]
    record: Option<&'l RawValue>,
    end: Option<&'l RawValue>,
    resync: Option<&'l RawValue>,
}

/// How an answer ended.
enum Came {
    /// Everything that was asked for has come.
    All,
    /// The task has ended, says the stream.
    End,
    /// Without a word: there may be more.
    Cut,
}

/// Prints what is asked for.
pub(super) fn logs(client: &Client<'_>, asked: &Logs, screen: Screen, out: &mut dyn Write) -> Result<(), ClientError> {
    let mut printer = Printer::new(out, asked.form, screen, asked.limit);
    let task = in_url(&asked.task);
    // First the end, then the records: what came before the end is then printed before it.
    let mut result = on_its_way(|| result(client, &task))?;
    let mut answered = None;
    loop {
        match attempt(client, &task, asked, &mut printer, &mut answered) {
            Ok(Came::All) => break,
            Ok(Came::End) => {
                result = self::result(client, &task)?;
                break;
            }
            Ok(Came::Cut) if answered.is_some_and(|last: Instant| last.elapsed() < PATIENCE) => {}
            Ok(Came::Cut) => return Err(ClientError::Broken(io::ErrorKind::UnexpectedEof.into())),
            // Only who has been there before may be away for a moment.
            Err(error) if is_passing(&error) && answered.is_some_and(|last| last.elapsed() < PATIENCE) => {}
            Err(error) => return Err(error),
        }
        printer.flush()?;
        thread::sleep(AGAIN);
    }
    let to_the_end = printer.left() > 0 && asked.order == Order::Ascending;
    printer.end(result.as_ref().filter(|_| to_the_end), asked.follow)?;
    Ok(())
}

/// One answer, from behind what was printed.
fn attempt(
    client: &Client<'_>,
    task: &str,
    asked: &Logs,
    printer: &mut Printer<'_>,
    answered: &mut Option<Instant>,
) -> Result<Came, ClientError> {
    if printer.left() == 0 {
        return Ok(Came::All);
    }
    let mut query = asked.choice.query();
    query.push(("format", "ndjson".to_owned()));
    match (printer.cursor(), &asked.after, asked.tail) {
        (Some(cursor), ..) | (None, Some(cursor), _) => query.push(("after", cursor.to_string())),
        (None, None, Some(tail)) => query.push(("tail", tail.to_string())),
        (None, None, None) if asked.follow => query.push(("after", "0".to_owned())),
        (None, None, None) => {}
    }
    if !asked.follow {
        if asked.order == Order::Descending {
            query.push(("order", "desc".to_owned()));
        }
        if printer.left() < u64::MAX {
            query.push(("limit", printer.left().to_string()));
        }
    }
    let route = if asked.follow { "stream" } else { "logs" };
    // An answer that ends may take as long as it takes to look through a large task for what is rare.
    let silence = asked.follow.then_some(SILENCE);
    let path = format!("/tasks/{task}/{route}?{}", in_query(&query));
    let answer = client.ask(&path, &Asking { silence, ..Asking::default() })?;
    let answer = client.ok(answer)?;
    *answered = Some(Instant::now());
    let mut body = BufReader::with_capacity(64 << 10, answer.into_body().into_reader());
    let mut line = Vec::new();
    loop {
        if body.buffer().is_empty() {
            printer.flush()?;
        }
        if !next_line(client, &mut body, &mut line)? {
            return Ok(if asked.follow { Came::Cut } else { Came::All });
        }
        *answered = Some(Instant::now());
        match serde_json::from_slice(&line).map_err(|_| client.foreign())? {
            Line { cursor: Some(cursor), file: Some(file), bytes: Some(bytes), record: Some(record), .. } => {
                let cursor: Cursor = cursor.parse().map_err(|_| client.foreign())?;
                if !layout::is_record_file(&file) {
                    return Err(client.foreign());
                }
                printer.record(&Record { file: &file, line: record.get().as_bytes(), bytes }, cursor)?;
                if printer.left() == 0 {
                    return Ok(Came::All);
                }
            }
            Line { end: Some(_), .. } => return Ok(Came::End),
            Line { resync: Some(_), .. } => {
                anew();
                printer.begin_anew();
            }
            _ => {}
        }
    }
}

/// The next line without its end; `false` when there is none. A line that was cut is an error.
pub(super) fn next_line(client: &Client<'_>, body: &mut impl BufRead, line: &mut Vec<u8>) -> Result<bool, ClientError> {
    line.clear();
    let got = body.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', line).map_err(ClientError::Broken)?;
    match line.pop() {
        None => Ok(false),
        Some(b'\n') => Ok(true),
        Some(_) if got as u64 == LINE_BYTES_MAX => Err(client.foreign()),
        Some(_) => Err(ClientError::Broken(io::ErrorKind::UnexpectedEof.into())),
    }
}

/// Says that what was read is no more.
pub(super) fn anew() {
    let note = "the task's files are not the ones that were read any more; from here on those that are there now";
    // Nobody is left to tell when standard error is gone.
    drop(writeln!(io::stderr(), "{note}"));
}

/// Asks again for a short while when there is no such task.
pub(super) fn on_its_way<T>(mut ask: impl FnMut() -> Result<T, ClientError>) -> Result<T, ClientError> {
    let since = Instant::now();
    loop {
        match ask() {
            Err(ClientError::NoSuchTask) if since.elapsed() < ON_ITS_WAY => thread::sleep(ASK_AGAIN),
            other => return other,
        }
    }
}

/// The task's final result, if it has ended.
pub(super) fn result(client: &Client<'_>, task: &str) -> Result<Option<Value>, ClientError> {
    let answer = client.get(&format!("/tasks/{task}/files/{}", layout::FINAL_RESULT), None)?;
    match client.ok(answer) {
        Ok(answer) => client.json(answer).map(Some),
        Err(ClientError::NoSuchFile) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether it may be otherwise in a moment.
pub(super) fn is_passing(error: &ClientError) -> bool {
    matches!(error, ClientError::Unreachable { .. } | ClientError::Broken(_) | ClientError::Refused { status: 503, .. })
}

pub(super) fn in_query(pairs: &[(&str, String)]) -> String {
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}={}", in_url(value))).collect();
    pairs.join("&")
}
