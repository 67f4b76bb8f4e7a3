//! Pages as a reader sees them, and that no slicing of the events changes a byte.

use super::*;

const EVENTS: &[(&str, &str)] = &[
    ("task:created", r#"{"source":"github","assigned_agent":"brain","input_message":"Fix\n<b>it</b>"}"#),
    ("task:started", "{}"),
    ("task:thinking", r#"{"content":"Look </details> first"}"#),
    ("task:output", r#"{"content":"I will run:\n```sh\nls"}"#),
    ("task:tool_call", r#"{"name":"Bash","input":{"command":"ls","script":"a\n```\nb"},"_tool_use_id":"toolu_1"}"#),
    (
        "task:tool_result",
        r#"{"tool_use_id":"toolu_1","content":[{"type":"text","text":"1\n2\n3"},{"type":"image"}],"is_error":true}"#,
    ),
    ("knowledge:query", "{}"),
    ("task:raw_output", r#"{"raw":"x"}"#),
    ("task:user_input", r#"{"content":"yes","question_type":"approval"}"#),
    ("task:output", r#"{"content":"Done"}"#),
    (
        "task:completed",
        r#"{"result":"Fixed","cost_usd":0.7,"num_turns":2,"duration_seconds":12.34,"usage":{"input_tokens":77,"output_tokens":13}}"#,
    ),
    ("task:failed", r#"{"error":"late"}"#),
];

fn page(slices: impl Iterator<Item = usize>) -> String {
    let config = Config { result_lines: 2, ..Config::default() };
    let mut state = String::new();
    let mut out = String::new();
    let mut rest = EVENTS;
    for size in slices {
        let (now, later) = rest.split_at(size.min(rest.len()));
        rest = later;
        let mut page = Page::resume(&config, "task-1", &state);
        for (kind, data) in now {
            page.add(kind, 1_770_714_001_000.0, data, &mut out);
        }
        state = page.into_state();
        if rest.is_empty() {
            break;
        }
    }
    out
}

#[test]
fn a_task_reads_as_a_conversation() {
    let expected = "# Task `task-1`

- Created: 2026-02-10 09:00:01 UTC
- Source: `github`
- Agent: `brain`

## Input · 2026-02-10 09:00:01

> Fix
> &lt;b>it&lt;/b>

## Agent · 2026-02-10 09:00:01

<details><summary>Thinking</summary>

> Look &lt;/details> first

</details>

I will run:
```sh
ls
```

**Tool** `Bash`

- `command`: `ls`
- `script`:

````
a
```
b
````


**❌ Error** `Bash`

```
1
2
```

… 2 more lines

## User · 2026-02-10 09:00:01

Answers a question of type `approval`.

> yes

## Agent · 2026-02-10 09:00:01

Done

## Result · 2026-02-10 09:00:01

Fixed

*$0.7000 · 2 turns · 12.3 s · 77 input tokens · 13 output tokens*

## ❌ Failed · 2026-02-10 09:00:01

```
late
```
";
    assert_eq!(page(std::iter::once(EVENTS.len())), expected);
}

#[test]
fn slicing_changes_nothing() {
    let whole = page(std::iter::once(EVENTS.len()));
    for size in 1..EVENTS.len() {
        assert_eq!(page(std::iter::repeat(size)), whole, "slices of {size}");
    }
}

#[test]
fn nothing_odd_breaks_it() {
    let config = Config::default();
    for state in ["", "{}", "nonsense", r#"{"begun":3}"#] {
        for kind in [
            "task:created",
            "task:output",
            "task:tool_call",
            "task:tool_result",
            "task:completed",
            "task:failed",
            "task:",
            "x",
        ] {
            for data in [
                "",
                "[]",
                "{}",
                r#"{"content":{"a":1},"input":[1],"name":3,"usage":[],"result":7,"cost_usd":"x","content":[{"type":3}]}"#,
            ] {
                let mut page = Page::resume(&config, "", state);
                let mut out = String::new();
                page.add(kind, f64::NAN, data, &mut out);
                page.into_state();
            }
        }
    }
}

#[test]
fn the_state_is_bounded() {
    let config = Config::default();
    let mut page = Page::resume(&config, "t", "");
    let mut out = String::new();
    for n in 0..1000 {
        let data = format!(r#"{{"name":"{}","id":"{n}{}"}}"#, "n".repeat(n), "i".repeat(90));
        page.add("task:tool_call", 0.0, &data, &mut out);
    }
    assert!(page.into_state().len() < 16 * 1024);
}

#[test]
fn a_bad_configuration_is_refused() {
    let read = |json: &str| task_logger_plugin::config::read::<Config>(json);
    assert!(read("{}").is_ok());
    assert!(read(r#"{"result_lines":5}"#).is_ok());
    let error = read(r#"{"result_line":5}"#).unwrap_err().to_string();
    assert!(error.contains("result_line"), "{error}");
}
