//! `plugin bench`: what a plugin costs, on the path that the service uses.

use std::{io::Write, process::ExitCode, sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::{
    AuthorError, events,
    paint::{Ink, Painter},
    run::pretty,
    settings,
};
use crate::{
    cli::Bench as Ask,
    config::Config,
    decode::Decoder,
    event::{Event, Id, InvalidId, Key, StreamId},
    plugin::workbench::{Figures, Load, Pair, Spread, Step, measure, size, time},
};

/// Calls in a round of made-up events.
const CALLS: usize = 64;
/// Data of made-up events, in bytes, if more than one call's.
const MADE_UP_BYTES_MAX: usize = 256 << 20;
/// The made-up events are the same every time.
const SEED: u64 = 1_700_000_000;
/// Ends each text.
const END: &str = " so.";
const WORDS: [&str; 16] = [
    "the", "function", "returns", "an", "error", "when", "file", "is", "missing", "so", "tests", "fail", "in",
    "module", "parser", "again",
];

pub(super) fn bench(config: &Config, ask: &Ask, out: &mut dyn Write) -> Result<ExitCode, AuthorError> {
    let pair = Pair::read(&ask.file, ask.config.as_deref())?;
    let batch = ask.batch.max(1);
    let slices = match &ask.events {
        Some(path) => recorded(&events::read(path, config.event_max)?, batch, config.event_max),
        None => made_up(batch, ask.bytes)?,
    };
    let figures = measure(&settings(config), &pair, &Load { slices })?;
    let mut painter = Painter::new(out);
    match ask.json {
        true => painter.json(&pretty(&report(&figures)))?,
        false => show(&mut painter, &figures)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Agent output without anything that a redactor looks for, of so many bytes of data each.
fn made_up(batch: usize, bytes: usize) -> Result<Vec<Vec<Event>>, InvalidId> {
    let mut random = fastrand::Rng::with_seed(SEED);
    let (kind, timestamp): (Arc<str>, Arc<str>) = ("task:output".into(), "2023-11-14T22:13:20Z".into());
    let id = Id::parse("bench")?;
    let frame = "{\"content\":\"\"}".len();
    let mut seq = 0;
    let mut event = || {
        seq += 1;
        let mut text = String::with_capacity(bytes);
        while text.len() + frame + END.len() < bytes {
            let word = random.choice(WORDS).unwrap_or("word");
            text.push_str(word);
            text.push(' ');
        }
        // Whole to its end: a redactor that waits for the rest of a word would hold it.
        text.truncate(bytes.saturating_sub(frame + END.len()));
        text.push_str(END);
        let data = format!("{{\"content\":\"{text}\"}}");
        Event {
            id: StreamId { ms: 1_700_000_000_000, seq },
            kind: Arc::clone(&kind),
            key: Key::Task(id.clone()),
            task: Some(id.clone()),
            timestamp: Arc::clone(&timestamp),
            timestamp_ms: 1_700_000_000_000,
            size: data.len(),
            data,
            says_failed: false,
        }
    };
    // Large ones in fewer calls, so that they stay within the machine's memory.
    let calls = (MADE_UP_BYTES_MAX / batch.saturating_mul(bytes).max(1)).clamp(1, CALLS);
    Ok((0..calls).map(|_| (0..batch).map(|_| event()).collect()).collect())
}

/// Events of a file, by key in stream order, so many in a call; what the service cannot decode is left out.
fn recorded(steps: &[Step], batch: usize, event_max: usize) -> Vec<Vec<Event>> {
    let mut decoder = Decoder::new(event_max);
    let mut keys: Vec<(Key, Vec<Event>)> = Vec::new();
    for step in steps {
        let Step::Entries(entries) = step else { continue };
        for entry in entries {
            let Ok(decoded) = decoder.decode(entry.clone()) else { continue };
            let event = decoded.event;
            match keys.iter_mut().find(|(key, _)| *key == event.key) {
                Some((_, events)) => events.push(event),
                None => keys.push((event.key.clone(), vec![event])),
            }
        }
    }
    keys.iter().flat_map(|(_, events)| events.chunks(batch)).map(<[Event]>::to_vec).collect()
}

fn report(figures: &Figures) -> Value {
    let us = |time: Duration| (time.as_secs_f64() * 1e7).round() / 10.0;
    let spread = |spread: &Spread| {
        let round = |n: f64| (n * 1000.0).round() / 1000.0;
        json!({
            "events_per_second": spread.per_second.round(),
            "us_per_event_p50": round(spread.p50_us),
            "us_per_event_p99": round(spread.p99_us),
        })
    };
    json!({
        "plugin": { "name": figures.name, "version": figures.version, "isolation": figures.isolation },
        "load": { "events": figures.events, "calls": figures.calls, "bytes": figures.bytes,
                  "held": figures.held, "failed": figures.failed },
        "reuse": spread(&figures.reuse),
        "call": spread(&figures.call),
        "crossing": spread(&figures.crossing),
        "instantiate_us": us(figures.instantiate),
        "compile_us": us(figures.compile),
        "cached_us": figures.cached.map(us),
        "component_bytes": figures.component_bytes,
        "memory_bytes": figures.memory,
        "rss_bytes": figures.rss.map(|(now, _)| now),
        "rss_peak_bytes": figures.rss.map(|(_, peak)| peak),
        "fuel_init": figures.fuel_init,
        "fuel_round": figures.fuel_round,
        "fuel_per_event": per_event(figures),
    })
}

/// Fuel for an event, rounded down: a whole number, so that it is the same everywhere.
fn per_event(figures: &Figures) -> u64 {
    figures.fuel_round / u64::try_from(figures.events.max(1)).unwrap_or(u64::MAX)
}

fn show(painter: &mut Painter<'_>, figures: &Figures) -> Result<(), AuthorError> {
    let Figures { events, calls, bytes, .. } = figures;
    painter.line(
        0,
        &[
            (Ink::Bold, &figures.name),
            (Ink::Plain, &format!(" {}, {}", figures.version, size(figures.component_bytes))),
            (Ink::Dim, &format!("; {events} events in {calls} calls, {} each", size(bytes / events))),
        ],
    )?;
    if figures.failed + figures.held > 0 {
        let text =
            format!("of these it failed on {} and left {} held: look at `plugin run`", figures.failed, figures.held);
        painter.line(0, &[(Ink::Red, &text)])?;
    }
    let rows = [
        ("isolation reuse", &figures.reuse, "reuse"),
        ("isolation call", &figures.call, "call"),
        ("guest call alone", &figures.crossing, ""),
    ];
    for (what, spread, isolation) in rows {
        let own = if isolation == figures.isolation { "  (its sidecar's)" } else { "" };
        let text = format!(
            "{:>10.0} events/s   {:>8.3} µs/event p50   {:>8.3} p99",
            spread.per_second, spread.p50_us, spread.p99_us
        );
        painter.line(0, &[(Ink::Plain, &format!("{what:<18}{text}")), (Ink::Dim, own)])?;
    }
    let rss = figures
        .rss
        .map_or_else(|| "not known here".to_owned(), |(now, peak)| format!("{}, at most {}", size(now), size(peak)));
    let rows = [
        ("instance + init", time(figures.instantiate)),
        ("cold compile", format!("{} (in a child process)", time(figures.compile))),
        ("from the cache", figures.cached.map_or_else(|| "no cache".to_owned(), time)),
        ("linear memory", format!("{} at most", size(figures.memory))),
        ("this process", rss),
        ("fuel", format!("{} per event, {} for init", per_event(figures), figures.fuel_init)),
    ];
    for (what, text) in rows {
        painter.line(0, &[(Ink::Plain, &format!("{what:<18}{text}"))])?;
    }
    Ok(())
}
