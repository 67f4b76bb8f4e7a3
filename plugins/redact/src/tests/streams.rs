//! Secrets in pieces: whatever the pieces, what comes out is what would come out of the whole.

use super::*;

/// A host: brings the pieces one by one, held ones again with the next, and flushes where `flush` says so and at the end.
pub(super) fn run(redactor: &Redactor, pieces: &[&str], mut flush: impl FnMut(usize) -> bool) -> Vec<String> {
    let data: Vec<String> =
        pieces.iter().map(|piece| serde_json::json!({ "content": piece, "n": 1.50 }).to_string()).collect();
    let mut out = Vec::new();
    let mut state = String::new();
    let mut from = 0;
    for to in 1..=data.len() + 1 {
        let ends = to > data.len();
        let mut events: Vec<Event<'_>> =
            data[from..to.min(data.len())].iter().map(|data| Event { kind: "task:output", data }).collect();
        if ends {
            events.push(Event { kind: "task:completed", data: "{}" });
        }
        let flush = ends || flush(to);
        let outcome = redactor.process(&state, &events, flush);
        assert_eq!(outcome.verdicts.len(), events.len());
        let decided = outcome.verdicts.iter().take_while(|verdict| **verdict != Verdict::Hold).count();
        assert!(outcome.verdicts[decided..].iter().all(|verdict| *verdict == Verdict::Hold));
        assert!(!flush || decided == events.len(), "held though flushed");
        for (event, verdict) in
            events.iter().zip(&outcome.verdicts[..decided]).filter(|(event, _)| event.kind == "task:output")
        {
            let data = match verdict {
                Verdict::Replace(new) => new.as_str(),
                _ => event.data,
            };
            let value: serde_json::Value = serde_json::from_str(data).unwrap();
            out.push(value["content"].as_str().unwrap().to_owned());
        }
        from += decided.min(data.len() - from);
        if let Some(new) = outcome.state {
            assert!(new.len() < 300, "{new}");
            state = new;
        }
    }
    assert_eq!(out.len(), pieces.len());
    out
}

/// Texts with a secret in them, and the secret.
fn samples() -> Vec<(String, String)> {
    let mut samples = Vec::new();
    let mut add =
        |before: &str, secret: &str, after: &str| samples.push((format!("{before}{secret}{after}"), secret.to_owned()));
    let mut blocks = Vec::new();
    for (prefix, rest) in [
        ("ghp_", noise(36, 1)),
        ("glpat-", noise(20, 2)),
        ("sk-ant-api03-", noise(90, 3)),
        ("sk-proj-", noise(60, 4)),
        ("sk-", noise(48, 5)),
        ("AKIA", noise(16, 6).to_uppercase()),
        ("AIza", noise(35, 7)),
        ("npm_", noise(36, 8)),
        ("xoxb-1234567890-", noise(24, 9)),
        ("SK", hex(32, 10)),
    ] {
        add(&format!("The key is {prefix}"), &rest, " and it works.\n");
        add(&format!("A={prefix}"), &rest, "\n");
    }
    add("jwt: ", &format!("eyJ{}.eyJ{}.{}", noise(33, 31), noise(60, 32), noise(43, 33)), " end");
    add("bot 123456789:", &format!("AA{}", noise(33, 40)), " end");
    for (before, name, newline, after) in [
        ("Look:\n", "RSA PRIVATE KEY", "\n", "\nThat is all of it now.\n"),
        ("x = \"", "PRIVATE KEY", "\\n", "\"; done"),
    ] {
        let block = key_block(name, 5, newline);
        let lines = block.split(newline).collect::<Vec<_>>();
        blocks.push((format!("{before}{block}{after}"), lines[1..6].concat()));
    }
    for (before, after) in [
        ("run with DB_PASSWORD=", "\nnext line"),
        ("then password: ", "\nnext line"),
        ("and {\"password\": \"", "\", \"x\": 1}"),
        ("or {\\\"client_secret\\\": \\\"", "\\\", \\\"x\\\": 1}"),
        ("login --password ", " --user me"),
        ("GET /x?access_token=", "&page=2 HTTP"),
        ("X-Api-Key: ", "\r\nAccept: all"),
        ("Authorization: Bearer ", "\nAccept: all"),
        ("curl -H 'Authorization: Basic ", "' http://host/ x"),
        ("Cookie: sid=", "\nAccept: all"),
        ("at postgres://app:", "@db:5432/x now"),
        ("<secret>", "</secret> now"),
    ] {
        add(before, &format!("q{}", noise(23, 50)), after);
    }
    samples.extend(blocks);
    samples
}

#[test]
fn every_split_gives_what_the_whole_gives() {
    let redactor = redactor();
    for (text, secret) in samples() {
        let whole = run(&redactor, &[&text], |_| false).concat();
        assert!(whole.contains("[REDACTED:") && !whole.contains(&secret), "{text:?} became {whole:?}");
        for at in text.char_indices().map(|(at, _)| at).skip(1) {
            let (head, tail) = text.split_at(at);
            assert_eq!(run(&redactor, &[head, tail], |_| false).concat(), whole, "split at {at}: {head:?}");
        }
    }
}

#[test]
fn many_splits_give_what_the_whole_gives() {
    let redactor = redactor();
    let seed = 20_260;
    let mut random = Random(seed);
    for (text, _) in samples() {
        let whole = run(&redactor, &[&text], |_| false).concat();
        for longest in [1, 2, 3, 5, 8, 40] {
            for _ in 0..4 {
                let pieces = pieces(&text, 1, longest, &mut random);
                assert_eq!(run(&redactor, &pieces, |_| false).concat(), whole, "seed {seed}: {pieces:?}");
            }
        }
    }
}

#[test]
fn flushes_let_no_part_of_a_secret_through() {
    let redactor = redactor();
    let seed = 20_261;
    let mut random = Random(seed);
    for (text, secret) in samples() {
        // Every flush is a second of silence: smaller pieces than these do not come so.
        for longest in [3, 4, 6, 9, 40] {
            for _ in 0..12 {
                let pieces = pieces(&text, 3, longest, &mut random);
                let every = 1 + random.below(4);
                let out = run(&redactor, &pieces, |_| random.below(every) == 0);
                no_part_of(&secret, &out.concat(), &format!("seed {seed}: {pieces:?} became {out:?}"));
            }
        }
    }
}

#[test]
fn flushed_at_every_split_the_text_around_stays() {
    let redactor = redactor();
    for (text, secret) in samples() {
        for at in text.char_indices().map(|(at, _)| at).skip(1) {
            let (head, tail) = text.split_at(at);
            let out = run(&redactor, &[head, tail], |_| true).concat();
            no_part_of(&secret, &out, &format!("split at {at}: {head:?} became {out:?}"));
            let last = text.rsplit(|c: char| c.is_whitespace()).next().unwrap();
            assert!(
                last.contains(&secret[secret.len() - 4..]) || out.ends_with(last),
                "split at {at}: {head:?} became {out:?}"
            );
        }
    }
}

#[test]
fn ordinary_output_is_not_held() {
    let redactor = redactor();
    for text in [
        "password",
        "X-Ap",
        "my pass",
        "DB_",
        "mysql",
        "The build is green",
        "The build is green.",
        "I will look at the file now:\n",
        "see src/main.rs and ",
        "counted 1700000000 events in 12.5 seconds",
        "a - one",
        "über",
        "# Title\n\nSome **text** with `code`",
        "see https://example.com/path",
        "the sha is 0123456789abcdef0123456789abcdef01234567",
        "max_tokens",
        "done; all tests passed",
        "{\"password\":\"hunter2\"}",
    ] {
        let data = serde_json::json!({ "content": text }).to_string();
        let outcome = redactor.process("", &[Event { kind: "task:output", data: &data }], false);
        assert_ne!(outcome.verdicts, [Verdict::Hold], "{text:?}");
    }
}

#[test]
fn what_comes_after_a_hold_has_not_happened() {
    let redactor = redactor();
    let token = format!("ghp_{}", noise(36, 1));
    let data = [
        serde_json::json!({ "content": "password=hunter22 " }).to_string(),
        serde_json::json!({ "content": format!("see {}", &token[..10]) }).to_string(),
        serde_json::json!({ "name": "Bash", "input": "secret=abc12345" }).to_string(),
        serde_json::json!({ "content": format!("{} password=hunter33 ", &token[10..]) }).to_string(),
    ];
    let kinds = ["task:output", "task:output", "task:tool_call", "task:output"];
    let events: Vec<Event<'_>> = kinds.iter().zip(&data).map(|(kind, data)| Event { kind, data }).collect();
    let held = redactor.process("", &events[..3], false);
    assert!(matches!(held.verdicts[..], [Verdict::Replace(_), Verdict::Hold, Verdict::Hold]));
    assert_eq!(held.counts, [("password", 1)]);
    // The tool call between them neither breaks the stream nor waits longer than it.
    let decided = redactor.process(&held.state.unwrap(), &events[1..], false);
    let texts: Vec<String> = decided.verdicts.iter().map(|verdict| format!("{verdict:?}")).collect();
    assert!(texts[0].contains("see [REDACTED:github_token]") && texts[1].contains("[REDACTED:secret]"), "{texts:?}");
    assert!(texts[2].contains("\\\" password=[REDACTED:password] "), "{texts:?}");
    let mut counts = decided.counts;
    counts.sort_unstable();
    assert_eq!(counts, [("github_token", 1), ("password", 1), ("secret", 1)]);
}

#[test]
fn a_state_holds_no_text_and_a_strange_one_harms_nothing() {
    let redactor = redactor();
    let data = serde_json::json!({ "content": "-----BEGIN PRIVATE KEY-----\nqQ7zZ8" }).to_string();
    let outcome = redactor.process("", &[Event { kind: "task:output", data: &data }], true);
    let state = outcome.state.unwrap();
    assert!(!state.contains("qQ7"), "{state}");
    let clean = serde_json::json!({ "content": "plain text." }).to_string();
    for state in ["x", "{}", "[]", r#"{"value":[9,9],"marked":true}"#, r#"{"open":"","marked":false}"#] {
        let outcome = redactor.process(state, &[Event { kind: "task:output", data: &clean }], false);
        assert_eq!(outcome.verdicts, [Verdict::Pass], "{state}");
    }
}

#[test]
fn configured_values_are_found_in_pieces() {
    let value = "tr0ub4dor&3xyz";
    let redactor = Redactor::new(&serde_json::json!({ "values": [value] }).to_string()).unwrap();
    let text = format!("say {value} aloud");
    for at in 1..text.len() {
        let (head, tail) = text.split_at(at);
        let out = run(&redactor, &[head, tail], |_| false).concat();
        assert_eq!(out, "say [REDACTED:value] aloud", "{at}");
        let flushed = run(&redactor, &[head, tail], |_| true).concat();
        assert_eq!(flushed, "say [REDACTED:value] aloud", "{at}");
    }
}

fn pieces<'a>(text: &'a str, shortest: usize, longest: usize, random: &mut Random) -> Vec<&'a str> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let size = rest.floor_char_boundary((shortest + random.below(longest - shortest + 1)).min(rest.len())).max(1);
        let (piece, later) = rest.split_at(size);
        pieces.push(piece);
        rest = later;
    }
    pieces
}

#[track_caller]
fn no_part_of(secret: &str, out: &str, context: &str) {
    let secret: Vec<char> = secret.chars().collect();
    for window in secret.windows(8) {
        let window: String = window.iter().collect();
        assert!(!out.contains(&window), "{window:?} got through: {context}");
    }
}

#[test]
fn no_text_breaks_it() {
    const PARTS: &[&str] = &[
        "password",
        "=",
        ":",
        " ",
        "\"",
        "\\",
        "'",
        "\n",
        "\\n",
        "-----BEGIN",
        " RSA PRIVATE KEY",
        "-----",
        "-----END",
        "://",
        "@",
        "u:p",
        "é",
        "→",
        "\u{10FFFF}",
        "ghp_",
        "0123456789abcdefABCDEF",
        "eyJ",
        ".",
        ":AA",
        "12345678",
        "Authorization",
        "Bearer ",
        "Cookie",
        "<",
        ">",
        "--",
        "-",
        "token",
        "mysql",
        " -p",
        "curl",
        " -u ",
        "${X}",
        "[REDACTED:",
        "]",
        "{",
        "}",
        "(",
        "sk-",
        "api",
        "key",
        "_",
        "tr0ub",
        "4dor&3",
        "\u{0}",
        "\t",
        "`",
        "secret",
        "pass",
        "p",
        "/",
        "//",
        "sshpass",
        "%41",
        "\u{1b}[32m",
    ];
    let redactor = Redactor::new(r#"{"values":["tr0ub4dor&3","éé→éé→"],"keys":["my-key"],"allow":["a+"]}"#).unwrap();
    let seed = 31;
    let mut random = Random(seed);
    for round in 0..3000 {
        let texts: Vec<String> = (0..1 + random.below(5))
            .map(|_| (0..random.below(9)).map(|_| PARTS[random.below(PARTS.len())]).collect())
            .collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let every = 1 + random.below(5);
        let out = run(&redactor, &texts, |_| random.below(every) == 0);
        // What an event that is not streamed becomes is final, too.
        let whole = text(&redactor, &texts.concat());
        assert_eq!(text(&redactor, &whole), whole, "seed {seed}, round {round}: {texts:?}");
        assert_eq!(out.len(), texts.len());
    }
}

#[test]
fn no_text_takes_more_than_its_length() {
    let redactor = redactor();
    for part in [
        "ghp_",
        "eyJ",
        "password=\"",
        "password=\"$",
        "-----BEGIN PRIVATE KEY-----",
        "://u:",
        "--token ",
        "mysql -p",
        "api_key",
        "[{\"a\":",
        "\\\"",
        "password: \\'",
    ] {
        let time = |size: usize| {
            let data = serde_json::json!({ "content": part.repeat(size / part.len()) }).to_string();
            let started = std::time::Instant::now();
            for kind in ["task:output", "task:tool_result"] {
                redactor.process("", &[Event { kind, data: &data }], true);
            }
            started.elapsed().as_secs_f64()
        };
        let best = |size: usize| (0..3).map(|_| time(size)).fold(f64::MAX, f64::min);
        let (small, large) = (best(1 << 16), best(1 << 20));
        // Sixteen times the text; quadratic would be 256 times the time.
        assert!(large < 0.5 || large / small < 160.0, "{part:?}: {small} s, then {large} s");
    }
}

#[test]
fn of_a_clean_text_its_last_line_says_what_it_leaves() {
    const PARTS: &[&str] = &[
        "mysql ", "export ", "a", "n", "api key", "DB_", "7", " ", ":", "/", "|", "[32", "%4", "\\", "\n", "\n", "é",
        "\u{1}",
    ];
    let redactor = redactor();
    let mut random = Random(11);
    for round in 0..20_000 {
        let parts = random.below(if round % 20 == 0 { 400 } else { 20 });
        let text: String = (0..parts).map(|_| PARTS[random.below(PARTS.len())]).collect();
        let quoted = serde_json::to_string(&text).unwrap();
        let mut stream = Stream::new(&redactor.scanner, Carry::default());
        stream.pass(&quoted[1..quoted.len() - 1]).unwrap();
        // The same from all of the text; where its beginning is cut off stands a mark for it.
        let bytes = text.as_bytes();
        let cut = bytes.len().checked_sub(crate::left::REACH);
        let end = cut.map_or(bytes.to_vec(), |cut| [b"!", &bytes[cut..]].concat());
        let left = crate::left::left(redactor.scanner.names(), &end, 0);
        let state = if left.is_empty() { String::new() } else { serde_json::json!({ "left": left }).to_string() };
        assert_eq!(stream.into_carry().state(), state, "{text:?}");
    }
}
