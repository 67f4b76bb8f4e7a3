//! `logs TASK [-f]`: the agent's output as a person reads it. Following reads on from the last byte until the task has ended.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{Client, ClientError, Target, in_url, unless_closed};
use crate::{layout, reader::render, terminal};

/// Bytes of a record that are looked at.
const RECORD_BYTES_MAX: u64 = 64 << 20;
/// Between two looks while something comes.
const POLL: Duration = Duration::from_millis(250);
/// Between two looks when nothing has come for a while.
const POLL_IDLE: Duration = Duration::from_secs(2);
/// How long a task that is not there is asked for: what was published a moment ago is on its way.
const ON_ITS_WAY: Duration = Duration::from_secs(1);
const ASK_AGAIN: Duration = Duration::from_millis(50);
/// How long following goes on without an answer, for instance while the service restarts.
const PATIENCE: Duration = Duration::from_secs(60);

/// Prints what the agent put out, and how the task ended. With `follow` until it has ended, otherwise what is there.
pub fn logs(target: &Target, task: &str, follow: bool, out: &mut dyn Write) -> Result<ExitCode, ClientError> {
    let mut tail = Tail::new(target, task);
    let since = Instant::now();
    while matches!(tail.result(), Err(ClientError::NoSuchTask)) && since.elapsed() < ON_ITS_WAY {
        thread::sleep(ASK_AGAIN);
    }
    unless_closed(if follow { tail.follow(out) } else { tail.once(out) }.map(|()| ExitCode::SUCCESS))
}

/// A place in a task's output.
struct Tail<'a> {
    client: Client<'a>,
    task: String,
    at: u64,
}

// === impl Tail ===

impl<'a> Tail<'a> {
    fn new(target: &'a Target, task: &str) -> Self {
        Self { client: Client::new(target), task: in_url(task), at: 0 }
    }

    fn once(&mut self, out: &mut dyn Write) -> Result<(), ClientError> {
        self.print_new(out)?;
        if let Some(result) = self.result()? {
            print_end(&result, out)?;
        }
        Ok(())
    }

    fn follow(&mut self, out: &mut dyn Write) -> Result<(), ClientError> {
        let mut pause = POLL;
        let mut answered = None;
        loop {
            match self.look(out) {
                Ok((_, true)) => return Ok(()),
                Ok((new, false)) => {
                    answered = Some(Instant::now());
                    pause = if new { POLL } else { (pause * 5 / 4).min(POLL_IDLE) };
                }
                // Only who has been there before may be away for a moment.
                Err(error) if is_passing(&error) && answered.is_some_and(|last| last.elapsed() < PATIENCE) => {
                    pause = POLL_IDLE;
                }
                Err(error) => return Err(error),
            }
            thread::sleep(pause);
        }
    }

    /// Prints what is new. Tells whether there was something, and whether the task has ended.
    fn look(&mut self, out: &mut dyn Write) -> Result<(bool, bool), ClientError> {
        // First the end, then the output: what came before the end is then printed before it.
        let result = self.result()?;
        let new = self.print_new(out)?;
        if let Some(result) = &result {
            print_end(result, out)?;
        }
        out.flush()?;
        Ok((new, result.is_some()))
    }

    fn print_new(&mut self, out: &mut dyn Write) -> Result<bool, ClientError> {
        let path = format!("/tasks/{}/files/{}", self.task, layout::AGENT_OUTPUT);
        let range = (self.at > 0).then(|| format!("bytes={}-", self.at));
        let answer = self.client.get(&path, range.as_deref())?;
        match answer.status().as_u16() {
            404 => return self.absent(answer).map(|()| false),
            416 => {
                let len = answer.headers().get("content-range").and_then(|range| range.to_str().ok());
                let len = len.and_then(|range| range.strip_prefix("bytes */")).and_then(|len| len.parse().ok());
                // A file that got shorter is another one: from its start.
                if len.is_some_and(|len: u64| len < self.at) {
                    self.at = 0;
                }
                return Ok(false);
            }
            _ => {}
        }
        let answer = self.client.ok(answer)?;
        if answer.status().as_u16() == 200 {
            self.at = 0;
        }
        let mut body = BufReader::new(answer.into_body().into_reader());
        let mut new = false;
        let mut line = Vec::new();
        loop {
            line.clear();
            let got = (&mut body).take(RECORD_BYTES_MAX).read_until(b'\n', &mut line).map_err(ClientError::Broken)?;
            if got == 0 {
                return Ok(new);
            }
            if line.last() != Some(&b'\n') {
                // Longer than any record, or cut: passed over up to its end.
                let rest = body.skip_until(b'\n').map_err(ClientError::Broken)?;
                self.at += rest as u64;
            }
            let mut shown = String::new();
            render::push_text(&mut shown, &line);
            out.write_all(shown.as_bytes())?;
            self.at += got as u64;
            new = true;
        }
    }

    /// The task's final result, if it has ended.
    fn result(&self) -> Result<Option<Value>, ClientError> {
        let answer = self.client.get(&format!("/tasks/{}/files/{}", self.task, layout::FINAL_RESULT), None)?;
        match answer.status().as_u16() {
            404 => self.absent(answer).map(|()| None),
            _ => self.client.json(self.client.ok(answer)?).map(Some),
        }
    }

    /// Tells a file that is not there yet from a task that is not there.
    fn absent(&self, answer: ureq::http::Response<ureq::Body>) -> Result<(), ClientError> {
        match self.client.json(answer)?["code"].as_str() {
            Some("file_not_found") => Ok(()),
            Some("task_not_found") => Err(ClientError::NoSuchTask),
            _ => Err(self.client.foreign()),
        }
    }
}

fn is_passing(error: &ClientError) -> bool {
    matches!(error, ClientError::Unreachable { .. } | ClientError::Broken(_) | ClientError::Refused { status: 503, .. })
}

fn print_end(result: &Value, out: &mut dyn Write) -> Result<(), ClientError> {
    let time = terminal::one_line(result["completed_at"].as_str().unwrap_or("-"), 40);
    let success = result["success"] == true;
    let status = result["status"].as_str().unwrap_or(if success { "completed" } else { "failed" });
    let status = terminal::one_line(status, 40);
    let why = match result["error"].as_str() {
        Some(error) => format!(": {}", terminal::one_line(error, 400)),
        None => String::new(),
    };
    writeln!(out, "{time}  {status}{why}")?;
    Ok(())
}
