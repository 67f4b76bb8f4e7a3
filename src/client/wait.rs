//! `wait TASK`: until a task has ended, told by a stream that carries nothing but its end.

use std::{
    io::{BufReader, Write},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    AGAIN, Asking, Client, ClientError, Origin, PATIENCE, folder, in_url,
    logs::{SILENCE, is_passing, next_line, on_its_way},
};

/// Status when the time ran out.
pub(super) const TIMEOUT: u8 = 75;

/// Waits, and says how the task ended.
pub(super) fn wait(
    origin: &Origin,
    task: &str,
    timeout: Option<Duration>,
    out: &mut dyn Write,
) -> Result<ExitCode, ClientError> {
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let ended = match origin {
        Origin::Service(target) => on_service(&Client::new(target), &in_url(task), deadline)?,
        Origin::Folder(dir) => folder::wait(dir, task, deadline)?,
    };
    let (text, code) = match ended {
        Some(true) => ("completed", ExitCode::SUCCESS),
        Some(false) => ("failed", ExitCode::FAILURE),
        None => ("still running", ExitCode::from(TIMEOUT)),
    };
    writeln!(out, "{text}")?;
    Ok(code)
}

fn on_service(client: &Client<'_>, task: &str, deadline: Option<Instant>) -> Result<Option<bool>, ClientError> {
    let mut answered: Option<Instant> = None;
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let came = match answered {
            None => on_its_way(|| attempt(client, task, left)),
            Some(_) => attempt(client, task, left),
        };
        let is_over = deadline.is_some_and(|deadline| Instant::now() >= deadline);
        match came {
            Ok(Some(success)) => return Ok(Some(success)),
            Ok(None) => answered = Some(Instant::now()),
            Err(ClientError::Broken(_)) if is_over => {}
            Err(ClientError::Broken(_)) => answered = Some(Instant::now()),
            Err(error) if is_passing(&error) && answered.is_some_and(|last| last.elapsed() < PATIENCE) => {}
            Err(error) => return Err(error),
        }
        if is_over {
            return Ok(None);
        }
        thread::sleep(left.map_or(AGAIN, |left| left.min(AGAIN)));
    }
}

/// One stream; `None`: it was cut.
fn attempt(client: &Client<'_>, task: &str, left: Option<Duration>) -> Result<Option<bool>, ClientError> {
    // No record is that old: what comes is signs of life, and the end.
    let path = format!("/tasks/{task}/stream?format=ndjson&tail=0&until=1970-01-01T00:00:00Z");
    // Not at all is no time: a task that has ended is told from one that has not.
    let whole = left.map(|left| left.max(Duration::from_secs(1)));
    let answer = client.ok(client.ask(&path, &Asking { silence: Some(SILENCE), whole, ..Asking::default() })?)?;
    let mut body = BufReader::new(answer.into_body().into_reader());
    let mut line = Vec::new();
    while next_line(client, &mut body, &mut line)? {
        let line: Value = serde_json::from_slice(&line).map_err(|_| client.foreign())?;
        if let Some(status) = line["end"]["status"].as_str() {
            return Ok(Some(status == "completed"));
        }
    }
    Ok(None)
}
