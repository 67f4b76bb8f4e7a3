//! Reads series from a scrape, and names and labels from PromQL expressions, as far as rules and dashboards of this project go.

use std::collections::{BTreeMap, BTreeSet};

/// Labels that Prometheus gives to what it scrapes.
const OF_TARGETS: [&str; 3] = ["namespace", "job", "instance"];

/// Series by name, and of each the labels with their values.
pub(crate) struct Exported(BTreeMap<String, BTreeMap<String, BTreeSet<String>>>);

/// A matcher's label, operator and value.
type Matcher = (String, String, String);

impl Exported {
    /// From the text format.
    pub(crate) fn read(metrics: &str) -> Self {
        let mut all: BTreeMap<String, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
        for line in metrics.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let series = line.rsplit_once(' ').unwrap().0;
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let known = all.entry(name.to_owned()).or_default();
            for (label, _, value) in matchers(labels.strip_suffix('}').unwrap_or(labels)) {
                known.entry(label).or_default().insert(value);
            }
        }
        Self(all)
    }

    /// What an expression asks for and is not there.
    pub(crate) fn missing(&self, expr: &str) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut labels: BTreeSet<&str> = OF_TARGETS.into();
        let used = selectors(expr);
        if used.is_empty() {
            wrong.push("no series".to_owned());
        }
        for (name, matchers) in used {
            let Some(known) = self.0.get(&name) else {
                wrong.push(format!("{name} is not exported"));
                continue;
            };
            labels.extend(known.keys().map(String::as_str));
            for (label, operator, value) in matchers.iter().filter(|(label, ..)| !OF_TARGETS.contains(&label.as_str()))
            {
                match known.get(label) {
                    None => wrong.push(format!("{name} has no label {label}")),
                    Some(values) if !operator.contains('~') && !values.contains(value) => {
                        wrong.push(format!("{name} has no {label} {value:?}"));
                    }
                    Some(_) => {}
                }
            }
        }
        for label in grouped(expr) {
            if !labels.contains(label.as_str()) {
                wrong.push(format!("nothing has a label {label}"));
            }
        }
        wrong
    }
}

/// `a="b", c=~"d"`; quotes may hold anything but quotes.
fn matchers(text: &str) -> Vec<Matcher> {
    let mut all = Vec::new();
    let mut rest = text;
    while let Some((head, tail)) = rest.split_once('"') {
        let (value, after) = tail.split_once('"').expect("a closed quote");
        let head = head.trim().trim_start_matches(',').trim();
        let label = head.trim_end_matches(['=', '!', '~']);
        let operator = head.strip_prefix(label).expect("an operator");
        all.push((label.trim().to_owned(), operator.to_owned(), value.to_owned()));
        rest = after;
    }
    all
}

/// Names of series with their matchers.
fn selectors(expr: &str) -> Vec<(String, Vec<Matcher>)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut all = Vec::new();
    let mut rest = expr;
    while !rest.is_empty() {
        let after = rest.trim_start_matches(is_name);
        let name = rest.strip_suffix(after).unwrap_or(rest);
        rest = after.strip_prefix(|c| !is_name(c)).unwrap_or(after);
        if !name.starts_with("task_logger_") && !name.starts_with("process_") {
            continue;
        }
        let mut found = Vec::new();
        if let Some(inside) = after.strip_prefix('{') {
            let mut quoted = false;
            let is_end = |c| {
                quoted ^= c == '"';
                c == '}' && !quoted
            };
            let (inside, after) = inside.split_once(is_end).expect("a closed brace");
            (found, rest) = (matchers(inside), after);
        }
        all.push((name.to_owned(), found));
    }
    all
}

/// Labels in `by (...)`, `on (...)`.
fn grouped(expr: &str) -> Vec<String> {
    let lists = ["by (", "on ("].into_iter().flat_map(|word| expr.split(word).skip(1));
    let lists = lists.filter_map(|rest| rest.split_once(')')).map(|(list, _)| list);
    lists
        .flat_map(|list| list.split(','))
        .map(|label| label.trim().to_owned())
        .filter(|label| !label.is_empty())
        .collect()
}
