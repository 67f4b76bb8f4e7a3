//! Prints what redaction costs natively: `cargo run --release -p redact --example speed`.
#![allow(clippy::print_stdout, reason = "it prints")]

use std::{hint::black_box, time::Instant};

use redact::{Event, Redactor};

const PROSE: &str =
    "The build passes now; I changed the parser so that it keeps the order of keys, and added a test for it. ";
const CODE: &str = "fn main() { let tokens = lex(&input)?; for token in &tokens { println!(\\\"{token:?}\\\"); } }\\n";

fn main() -> Result<(), task_logger_plugin::Failure> {
    let redactor = Redactor::new("{}")?;
    let secret = format!("ghp_{}", "a1B2c3D4e5F6".repeat(3));
    for (kind, text, name) in [
        ("task:output", PROSE, "clean output"),
        ("task:tool_result", PROSE, "clean result"),
        ("task:tool_result", CODE, "code"),
        ("task:output", "see https://example.com/a/b?c=d and config.password, ", "words of rules"),
    ] {
        for size in [500, 4096] {
            let content: String = text.chars().cycle().take(size - 40).collect();
            let content = content.trim_end_matches('\\');
            measure(&redactor, kind, &format!(r#"{{"content":"{content}\n","message_id":"msg_1"}}"#), name);
        }
    }
    for size in [500, 4096] {
        let content: String = PROSE.chars().cycle().take(size - 90).collect();
        measure(&redactor, "task:output", &format!(r#"{{"content":"{content} {secret} end.\n"}}"#), "one secret");
    }
    let started = Instant::now();
    black_box(Redactor::new("{}")?);
    println!("compiling the rules: {:?}", started.elapsed());
    Ok(())
}

fn measure(redactor: &Redactor, kind: &str, data: &str, name: &str) {
    let events = [Event { kind, data }; 32];
    let mut rounds = 0_u32;
    let started = Instant::now();
    while started.elapsed().as_millis() < 200 {
        black_box(redactor.process("", black_box(&events), false));
        rounds += 32;
    }
    let each = started.elapsed().as_secs_f64() / f64::from(rounds);
    let bytes = u32::try_from(data.len()).map_or(0.0, f64::from);
    println!("{name:16} {:5} B {:8.0} ns/event {:7.0} MB/s", data.len(), each * 1e9, bytes / each / 1e6);
}
