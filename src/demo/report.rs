//! What a person wants to see of the demonstration: read from the files and from the service's own metrics.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::layout;

/// Longest example of a redacted text, in characters.
const EXAMPLE_CHARS: usize = 110;
/// Examples shown.
const EXAMPLES_MAX: usize = 4;

/// Records in the JSONL files of the layout, flows that joined no task included.
pub(super) fn records(logs: &Path) -> io::Result<usize> {
    let mut count = 0;
    for_each_record(logs, &mut |_, _| count += 1)?;
    Ok(count)
}

/// Tasks of these that have their result.
pub(super) fn ended(logs: &Path, tasks: &[String]) -> io::Result<usize> {
    let mut count = 0;
    for task in tasks {
        count += usize::from(logs.join(task).join(layout::FINAL_RESULT).try_exists()?);
    }
    Ok(count)
}

/// The folder as a tree, with sizes; what begins with a dot is the service's own and left out.
pub(super) fn tree(logs: &Path) -> io::Result<String> {
    let mut text = format!("{}\n", logs.display());
    branch(logs, "", &mut text)?;
    Ok(text)
}

fn branch(folder: &Path, indent: &str, text: &mut String) -> io::Result<()> {
    let entries = entries(folder)?;
    for (at, path) in entries.iter().enumerate() {
        let (arm, below) = if at + 1 == entries.len() { ("└── ", "    ") } else { ("├── ", "│   ") };
        let name = name(path);
        let meta = fs::metadata(path)?;
        if meta.is_dir() {
            text.push_str(&format!("{indent}{arm}{name}/\n"));
            branch(path, &format!("{indent}{below}"), text)?;
        } else {
            let width = 44_usize.saturating_sub(indent.chars().count() + 4);
            let lines =
                if name.ends_with(".jsonl") { format!("{} records", lines(path)?.len()) } else { String::new() };
            let line = format!("{indent}{arm}{name:width$} {:>6} B  {lines}", meta.len());
            text.push_str(&format!("{}\n", line.trim_end()));
        }
    }
    Ok(())
}

/// Counters of one plugin, by name, from the Prometheus text of `GET /metrics`.
pub(super) fn plugin_counts(metrics: &str, plugin: &str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for line in metrics.lines() {
        let Some((labels, value)) =
            line.strip_prefix("task_logger_plugin_count_total{").and_then(|rest| rest.rsplit_once("} "))
        else {
            continue;
        };
        let label = |name: &str| {
            labels.split(',').find_map(|label| label.strip_prefix(name)?.strip_prefix("=\"")?.strip_suffix('"'))
        };
        if label("plugin") == Some(plugin)
            && let (Some(name), Ok(count)) = (label("name"), value.trim().parse::<f64>())
        {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a counter is whole and not negative"
            )]
            counts.insert(name.to_owned(), count as u64);
        }
    }
    counts
}

/// What `usage` wrote, a line a task.
pub(super) fn usage(logs: &Path, tasks: &[String]) -> String {
    let mut text = String::new();
    for task in tasks {
        let file = fs::read(logs.join(task).join("usage.json")).unwrap_or_default();
        let Ok(usage) = serde_json::from_slice::<Value>(&file) else {
            text.push_str(&format!("  {task}  no usage.json\n"));
            continue;
        };
        let shown =
            |at: &str| usage.pointer(at).filter(|value| !value.is_null()).map_or("-".to_owned(), Value::to_string);
        let tools: Vec<_> = usage["tools"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, tool)| format!("{name} {}", tool["calls"]))
            .collect();
        text.push_str(&format!(
            "  {task}  {:10} {:>7} in {:>5} out  ${:<7} {:>6} s  {}\n",
            usage["status"].as_str().unwrap_or("-"),
            shown("/tokens/input_tokens"),
            shown("/tokens/output_tokens"),
            shown("/cost_usd"),
            shown("/duration_seconds"),
            tools.join(", ")
        ));
    }
    text
}

/// Where a record says that an event could not be written, with the code.
pub(super) fn gaps(logs: &Path) -> io::Result<Vec<String>> {
    let mut gaps = Vec::new();
    for_each_record(logs, &mut |place, record| {
        if record["type"] == "gap" {
            let (kind, reason) = (record["kind"].as_str().unwrap_or("?"), record["reason"].as_str().unwrap_or("?"));
            gaps.push(format!("{place}: {kind}, {reason}, id {}", record["id"].as_str().unwrap_or("?")));
        }
    })?;
    Ok(gaps)
}

/// Some redacted texts as they stand in the files.
pub(super) fn examples(logs: &Path) -> io::Result<Vec<String>> {
    let mut examples = Vec::new();
    for_each_record(logs, &mut |place, record| {
        let content = record["content"].as_str().unwrap_or_default();
        if let Some(line) = content.lines().find(|line| line.contains("[REDACTED:"))
            && examples.len() < EXAMPLES_MAX
        {
            examples.push(format!("{place}: {}", line.chars().take(EXAMPLE_CHARS).collect::<String>()));
        }
    })?;
    Ok(examples)
}

fn for_each_record(folder: &Path, each: &mut dyn FnMut(&str, &Value)) -> io::Result<()> {
    for path in entries(folder)? {
        if fs::metadata(&path)?.is_dir() {
            for_each_record(&path, each)?;
        } else if layout::STANDARD_FILES.contains(&name(&path).as_str())
            && path.extension().is_some_and(|e| e == "jsonl")
        {
            for (at, line) in lines(&path)?.iter().enumerate() {
                let place = format!("{}/{}:{}", path.parent().map(name).unwrap_or_default(), name(&path), at + 1);
                each(&place, &serde_json::from_str(line).map_err(io::Error::other)?);
            }
        }
    }
    Ok(())
}

/// Complete lines; one that is being written is not one yet.
fn lines(path: &Path) -> io::Result<Vec<String>> {
    let text = fs::read_to_string(path)?;
    Ok(text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).map(str::to_owned).collect())
}

fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if !name(&path).starts_with('.') {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logs() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["t-1", "_webhooks/w-1", ".task-logger"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        let output = concat!(
            r#"{"timestamp":"x","type":"output","content":"key\nis [REDACTED:github_token] now","id":"1-0"}"#,
            "\n",
            r#"{"timestamp":"x","type":"gap","kind":"task:output","reason":"bad_json","id":"2-0"}"#,
            "\n",
            r#"{"torn"#
        );
        fs::write(dir.path().join("t-1/03-agent-output.jsonl"), output).unwrap();
        fs::write(dir.path().join("t-1/04-final-result.json"), "{}").unwrap();
        fs::write(dir.path().join("t-1/extra.jsonl"), "not ours\n").unwrap();
        fs::write(dir.path().join("_webhooks/w-1/02-webhook-flow.jsonl"), "{\"id\":\"3-0\"}\n").unwrap();
        fs::write(dir.path().join(".task-logger/x.jsonl"), "{}\n").unwrap();
        dir
    }

    #[test]
    fn the_files_are_told() {
        let dir = logs();
        assert_eq!(records(dir.path()).unwrap(), 3);
        assert_eq!(ended(dir.path(), &["t-1".into(), "t-2".into()]).unwrap(), 1);
        assert_eq!(gaps(dir.path()).unwrap(), ["t-1/03-agent-output.jsonl:2: task:output, bad_json, id 2-0"]);
        assert_eq!(examples(dir.path()).unwrap(), ["t-1/03-agent-output.jsonl:1: is [REDACTED:github_token] now"]);
        let tree = tree(dir.path()).unwrap();
        assert!(tree.contains("├── _webhooks/\n│   └── w-1/\n│       └── 02-webhook-flow.jsonl"), "{tree}");
        assert!(tree.contains("2 records") && !tree.contains(".task-logger"), "{tree}");
    }

    #[test]
    fn counts_are_read_whatever_the_labels_order() {
        let metrics = "# TYPE task_logger_plugin_count_total counter\n\
            task_logger_plugin_count_total{plugin=\"redact\",name=\"jwt\"} 2\n\
            task_logger_plugin_count_total{name=\"url_password\",plugin=\"redact\"} 1\n\
            task_logger_plugin_count_total{plugin=\"usage\",name=\"other\"} 9\n\
            task_logger_events_total{kind=\"other\"} 4\n";
        let counts: Vec<_> = plugin_counts(metrics, "redact").into_iter().collect();
        assert_eq!(counts, [("jwt".to_owned(), 2), ("url_password".to_owned(), 1)]);
    }

    #[test]
    fn usage_is_a_line_a_task() {
        let dir = logs();
        let usage_json = r#"{"status":"completed","cost_usd":0.5,"duration_seconds":1.5,"tokens":{"input_tokens":7,"output_tokens":3},"tools":{"Bash":{"calls":2}}}"#;
        fs::write(dir.path().join("t-1/usage.json"), usage_json).unwrap();
        let text = usage(dir.path(), &["t-1".into(), "t-2".into()]);
        assert!(text.contains("completed") && text.contains("Bash 2") && text.contains("t-2  no usage.json"), "{text}");
    }
}
