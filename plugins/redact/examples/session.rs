//! Shows what would be redacted in a file: `cargo run --release -p redact --example session FILE...`. Each line is an event.
#![allow(clippy::print_stdout, reason = "it prints")]

use redact::{Event, Redactor, Verdict};

fn main() -> Result<(), task_logger_plugin::Failure> {
    let redactor = Redactor::new("{}")?;
    for path in std::env::args().skip(1) {
        let text = std::fs::read_to_string(&path)?;
        let started = std::time::Instant::now();
        let mut found = Vec::new();
        for (line, data) in text.lines().enumerate() {
            let outcome = redactor.process("", &[Event { kind: "task:tool_result", data }], true);
            if let Some(Verdict::Replace(new)) = outcome.verdicts.first() {
                for (at, _) in new.match_indices("[REDACTED:") {
                    let from = new.floor_char_boundary(at.saturating_sub(60));
                    let to = new.floor_char_boundary((at + 60).min(new.len()));
                    found.push(format!("{}: {}", line + 1, new.get(from..to).unwrap_or_default()));
                }
            }
        }
        let elapsed = started.elapsed();
        println!("{path}: {} bytes in {elapsed:?}, {} secrets", text.len(), found.len());
        found.iter().for_each(|found| println!("  {found}"));
    }
    Ok(())
}
