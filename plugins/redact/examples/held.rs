//! Prints how many events of recorded sessions are held back, fed as outputs of whole texts, words and single characters:
//! `cargo run --release -p redact --example held FILE...`. Each line of a file is a message of a stream.
#![allow(clippy::print_stdout, reason = "it prints")]

use redact::{Event, Redactor, Verdict};
use serde_json::Value;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let redactor = Redactor::new("{}").map_err(|failure| format!("{failure:?}"))?;
    let mut texts = Vec::new();
    for path in std::env::args().skip(1) {
        for line in std::fs::read_to_string(&path)?.lines() {
            said(&serde_json::from_str(line)?, &mut texts);
        }
    }
    println!("{} texts, {} bytes", texts.len(), texts.iter().map(String::len).sum::<usize>());
    measure(&redactor, "texts", texts.iter().map(String::as_str));
    measure(&redactor, "lines", texts.iter().flat_map(|text| text.split_inclusive('\n')));
    measure(&redactor, "words", texts.iter().flat_map(|text| words(text)));
    measure(&redactor, "characters", texts.iter().flat_map(|text| text.split_inclusive(|_: char| true)));
    Ok(())
}

/// What the agent says in a message: texts and thoughts.
fn said(value: &Value, texts: &mut Vec<String>) {
    let blocks = value["message"]["content"].as_array();
    for block in blocks.into_iter().flatten() {
        for key in ["text", "thinking"] {
            texts.extend(block[key].as_str().filter(|text| !text.is_empty()).map(str::to_owned));
        }
    }
}

/// Words with the blank before them and marks by themselves, as language models put them out.
fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let from = first.len_utf8();
        let word = rest.get(from..).unwrap_or_default();
        let letters = word.find(|c: char| !c.is_alphanumeric()).unwrap_or(word.len());
        let end = if first.is_alphanumeric() || first == ' ' { from + letters } else { from };
        words.push(rest.get(..end).unwrap_or_default());
        rest = rest.get(end..).unwrap_or_default();
    }
    words
}

/// Each event comes alone, held ones again with the next, as they do when a host has nothing else to do.
fn measure<'a>(redactor: &Redactor, name: &str, pieces: impl Iterator<Item = &'a str>) {
    let (mut events, mut held_at_all, mut waits, mut states, mut most) = (0_u32, 0_u32, 0_u32, 0_u32, 0_usize);
    let (mut state, mut held) = (String::new(), Vec::<String>::new());
    for piece in pieces {
        events += 1;
        held.push(serde_json::json!({ "content": piece }).to_string());
        let views: Vec<Event<'_>> = held.iter().map(|data| Event { kind: "task:output", data }).collect();
        let outcome = redactor.process(&state, &views, held.len() >= 64);
        let decided = outcome.verdicts.iter().take_while(|verdict| **verdict != Verdict::Hold).count();
        held_at_all += u32::from(outcome.verdicts.last() == Some(&Verdict::Hold));
        held.drain(..decided);
        waits += u32::try_from(held.len()).unwrap_or(u32::MAX);
        most = most.max(held.len());
        states += u32::from(outcome.state.is_some());
        state = outcome.state.unwrap_or(state);
    }
    let share = |part: u32| f64::from(part) / f64::from(events.max(1)) * 100.0;
    println!(
        "{name:10} {events:7} events, held {:5.2} %, waits for {:.3} later events on average, at most {most}; state set {:5.2} %",
        share(held_at_all),
        f64::from(waits) / f64::from(events.max(1)),
        share(states)
    );
}
