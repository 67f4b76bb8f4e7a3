//! What tasks write, on a terminal: in every field, in every form, of every command.

use super::*;

const TERMINAL: Screen = Screen { terminal: true, colours: false, progress: false };

/// Moves the cursor, sets the title, links, answers the terminal's questions, turns the reading direction, ends lines, and is long.
fn hostile() -> String {
    let short = "\u{1b}[2J\u{1b}[31m\u{1b}]0;title\u{7}\u{1b}]8;;http://x\u{1b}\\l\u{1b}[6n\u{9b}5n\u{9d}0;t\u{9c}\u{90}q\u{9c}\
                 \u{202e}\u{2066}\u{200f}\u{61c}\r\u{8}\u{7f}\u{85}\0 end";
    format!("{short}{}", "\u{1b}[1mlong \u{202d}".repeat(200))
}

#[track_caller]
fn inert(text: &str, what: &str) {
    let moves = |char: char| {
        char.is_control() && char != '\n' && char != '\t'
            || matches!(char, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{61c}')
    };
    assert_eq!(text.chars().find(|char| moves(*char)), None, "{what}");
}

/// A task with it wherever a producer may put something; the file of records holds C1 and direction characters as they are.
fn a_task(service: &Service) -> Vec<Value> {
    let text = hostile();
    let mut records = Vec::new();
    for (n, kind) in
        ["output", "tool_call", "tool_result", "thinking", "gap", "user_input", &text].into_iter().enumerate()
    {
        for time in ["2026-01-01T00:00:00Z", &text] {
            records.push(serde_json::json!({
                "timestamp": time, "type": kind, "content": text, "name": text, "tool_name": text, "kind": text, "reason": text,
                "input": {&text: text}, "level": text, "is_error": true, "more": [text], "id": format!("{n}-0"),
            }));
        }
    }
    let flow = serde_json::json!({"timestamp": text, "stage": text, "data": {&text: [text]}, "id": "9-0"});
    let lines: String = records.iter().map(|record| format!("{record}\n")).collect();
    service.write("t/03-agent-output.jsonl", lines);
    service.write("t/02-webhook-flow.jsonl", format!("{flow}\n"));
    let metadata = serde_json::json!({
        "task_id": "t", "status": text, "source": text, "assigned_agent": text, "model": text, "input_message": text,
        "created_at": text, "started_at": text, "plugins": [{"name": text, "version": text}], "annotations": {&text: {&text: text}},
    });
    service.write("t/metadata.json", metadata.to_string());
    service.write("t/transcript.md", &text);
    service.write(
        "t/04-final-result.json",
        serde_json::json!({"success": false, "status": text, "error": text, "completed_at": text, "result": text})
            .to_string(),
    );
    records
}

#[test]
fn nothing_that_a_task_wrote_moves_a_terminal() {
    let service = Service::start();
    let records = a_task(&service);
    for origin in origins(&service) {
        for line in [
            "logs t",
            "logs t -f",
            "logs t -o json",
            "logs t -o ndjson",
            "logs t -o ndjson -f",
            "logs t -o raw",
            "logs t -o md",
            "ls",
            "ls -o json",
            "show t",
            "show t --json",
            "get t transcript.md",
            "get t metadata.json",
            "get t 03-agent-output.jsonl",
            "search end",
            "search end --json",
            "top --count 1",
        ] {
            let (_, text) = run(|out| read_from(&origin, line, TERMINAL, out));
            // What `top` adds itself.
            inert(&text, line);
            assert!(text.contains("end") || line.starts_with("ls") || line.starts_with("top"), "{line}: {text:?}");
        }
        // JSON is the same JSON.
        let (_, text) = run(|out| read_from(&origin, "logs t -o raw --file 03-agent-output.jsonl", TERMINAL, out));
        let shown: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(shown, records);
    }
}

#[test]
fn what_is_no_terminal_gets_every_byte() {
    let service = Service::start();
    a_task(&service);
    let path = service.logs.path().join("tasks/t");
    for name in ["03-agent-output.jsonl", "transcript.md", "metadata.json"] {
        let (_, text) = both(&service, &format!("get t {name}"));
        assert_eq!(text, std::fs::read_to_string(path.join(name)).unwrap());
    }
    let (_, text) = both(&service, "logs t -o raw --file 03-agent-output.jsonl");
    assert_eq!(text, std::fs::read_to_string(path.join("03-agent-output.jsonl")).unwrap());
}

#[test]
fn a_line_of_ten_megabytes_is_cut_for_people_and_whole_for_machines() {
    let service = Service::start();
    let text = "\u{1b}[2J\u{202e}x".repeat(10_000_000 / 8);
    let record = serde_json::json!({"timestamp": "T", "type": "output", "content": text, "id": "1-0"});
    service.write("t/03-agent-output.jsonl", format!("{record}\n"));
    for origin in origins(&service) {
        let (_, shown) = run(|out| read_from(&origin, "logs t", TERMINAL, out));
        assert!(shown.len() < 20_000 && shown.ends_with("more characters\n"));
        inert(&shown, "for people");
        for form in ["ndjson", "raw", "json", "md"] {
            let (_, shown) = run(|out| read_from(&origin, &format!("logs t -o {form}"), TERMINAL, out));
            inert(&shown, form);
        }
        let (_, raw) = run(|out| read_from(&origin, "logs t -o raw", TERMINAL, out));
        assert!(serde_json::from_str::<Value>(&raw).unwrap() == record);
        let (_, raw) = run(|out| read_from(&origin, "logs t -o raw", Screen::default(), out));
        assert!(raw == format!("{record}\n"));
    }
}
