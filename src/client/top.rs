//! `top`: tasks as they change, drawn again in place on a terminal until `q` or Ctrl-C; else a table each time.

use std::{
    io::{self, Read as _, Write},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use rustix::termios::{self, LocalModes, OptionalActions, SpecialCodeIndex, Termios};
use serde_json::Value;

use super::{
    ClientError, Origin, PATIENCE, Screen, figures,
    logs::is_passing,
    tasks::{self, Page, Pages},
};
use crate::{cli::Top, terminal};

/// Rows without a terminal, and without `--limit`.
const ROWS: u64 = 50;
/// Lines above the table's rows, and the one below.
const AROUND: u64 = 4;

/// A terminal that is drawn on; it is as it was before when this goes.
struct Canvas {
    before: Termios,
    keys: Receiver<u8>,
}

/// Shows the tasks until it is ended.
pub(super) fn top(origin: &Origin, asked: &Top, screen: Screen, out: &mut dyn Write) -> Result<(), ClientError> {
    let pages = Pages::of(origin)?;
    let mut page = pages.page(&asked.tasks, rows(asked, screen), None)?;
    let canvas = if screen.terminal { Canvas::open(out) } else { None };
    let (mut answered, mut drawn) = (Instant::now(), 0);
    let mut note = String::new();
    let done = loop {
        let text = picture(&page, asked, screen, &note);
        let put = match &canvas {
            Some(_) => write!(out, "\u{1b}[H{}\u{1b}[J", text.replace('\n', "\u{1b}[K\r\n")),
            None => writeln!(out, "{text}"),
        };
        if let Err(error) = put.and_then(|()| out.flush()) {
            break Err(error.into());
        }
        drawn += 1;
        if asked.pictures.is_some_and(|pictures| drawn >= pictures) || waits_in_vain(canvas.as_ref(), asked.interval) {
            break Ok(());
        }
        match pages.page(&asked.tasks, rows(asked, screen), None) {
            Ok(new) => {
                (page, answered) = (new, Instant::now());
                note.clear();
            }
            Err(error) if is_passing(&error) && answered.elapsed() < PATIENCE => {
                note = format!("{error}; as of {} ago", figures::seconds(answered.elapsed().as_secs_f64()));
            }
            Err(error) => break Err(error),
        }
    };
    if let Some(canvas) = canvas {
        canvas.close(out);
    }
    done
}

/// Waits for the next look; `true` when a key ends it.
fn waits_in_vain(canvas: Option<&Canvas>, interval: Duration) -> bool {
    let Some(canvas) = canvas else {
        thread::sleep(interval);
        return false;
    };
    let until = Instant::now() + interval;
    loop {
        match canvas.keys.recv_timeout(until.saturating_duration_since(Instant::now())) {
            // q, Q, Ctrl-C, Ctrl-D, Escape.
            Ok(b'q' | b'Q' | 3 | 4 | 27) => return true,
            Ok(_) => {}
            Err(RecvTimeoutError::Timeout) => return false,
            // Nobody types any more: time goes on.
            Err(RecvTimeoutError::Disconnected) => {
                thread::sleep(until.saturating_duration_since(Instant::now()));
                return false;
            }
        }
    }
}

/// As many rows as fit.
fn rows(asked: &Top, screen: Screen) -> u64 {
    let fit = size().filter(|_| screen.terminal).map_or(ROWS, |(rows, _)| rows.saturating_sub(AROUND).max(1));
    asked.tasks.limit.map_or(fit, |limit| if screen.terminal { limit.min(fit) } else { limit })
}

fn size() -> Option<(u64, usize)> {
    let size = termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then(|| (size.ws_row.into(), size.ws_col.into()))
}

fn picture(page: &Page, asked: &Top, screen: Screen, note: &str) -> String {
    if asked.tasks.json && !screen.terminal {
        return Value::from(page.rows.clone()).to_string();
    }
    let mut table = tasks::table();
    page.rows.iter().for_each(|task| table.row(tasks::row(task)));
    let mut lines = Vec::new();
    // Writing into memory does not fail.
    drop(table.print(&mut lines));
    let lines = String::from_utf8_lossy(&lines).into_owned();
    let counts = page.status.as_object().into_iter().flatten();
    let counts =
        counts.map(|(status, count)| format!("{} {}", terminal::one_line(status, 40), count.as_u64().unwrap_or(0)));
    let total = page.total.map_or_else(|| "tasks".to_owned(), |total| format!("{total} tasks"));
    let head = std::iter::once(total).chain(counts).collect::<Vec<_>>().join(" · ");
    let now = jiff::Timestamp::now().strftime("%H:%M:%SZ");
    let keys = if screen.terminal { "  q ends" } else { "" };
    let mut text = format!("{now}  {head}{keys}\n{}\n", terminal::one_line(note, 200));
    let columns = size().filter(|_| screen.terminal).map_or(usize::MAX, |(_, columns)| columns);
    for (at, line) in lines.lines().enumerate() {
        let line = terminal::one_line(line, columns);
        let status = at.checked_sub(1).and_then(|at| page.rows.get(at)).and_then(|task| task["status"].as_str());
        let colour = match (at, status) {
            (0, _) => "1",
            (_, Some("failed")) => "31",
            (_, Some("running")) => "32",
            _ => "0",
        };
        match screen.colours {
            true => text.push_str(&format!("\u{1b}[{colour}m{line}\u{1b}[0m\n")),
            false => text.push_str(&format!("{line}\n")),
        }
    }
    text
}

// === impl Canvas ===

impl Canvas {
    /// `None` when nobody types: then it is ended by a signal alone, and the terminal stays as it is.
    fn open(out: &mut dyn Write) -> Option<Self> {
        let before = termios::tcgetattr(io::stdin()).ok()?;
        let mut raw = before.clone();
        raw.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
        raw.special_codes[SpecialCodeIndex::VMIN] = 1;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        termios::tcsetattr(io::stdin(), OptionalActions::Now, &raw).ok()?;
        let (sender, keys) = mpsc::sync_channel(64);
        // It waits for a key until the process ends.
        thread::spawn(move || {
            let mut byte = [0];
            while io::stdin().read_exact(&mut byte).is_ok() && sender.send(byte[0]).is_ok() {}
        });
        // The alternate screen, without a cursor.
        drop(out.write_all(b"\x1b[?1049h\x1b[?25l\x1b[2J"));
        Some(Self { before, keys })
    }

    fn close(self, out: &mut dyn Write) {
        drop(out.write_all(b"\x1b[?25h\x1b[?1049l").and_then(|()| out.flush()));
        // Nobody is left to type when it cannot be.
        termios::tcsetattr(io::stdin(), OptionalActions::Now, &self.before).unwrap_or_default();
    }
}
