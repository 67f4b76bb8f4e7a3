//! What a query asks of a task's records. Parameters nobody knows and values that make no sense are refused: an ignored filter
//! would look like an answer.

use std::time::Duration;

use axum::http::{HeaderMap, header};
use jiff::Timestamp;

use super::problem::Problem;
use crate::{
    layout,
    reader::{Cursor, Filter, InvalidFilter, Level, Order, Pattern, time},
};

/// Records that may be asked for from the end.
const TAIL_MAX: u64 = 100_000;
/// Records of a page without `limit`, and with one.
const PAGE: (u64, u64) = (1000, 10_000);
/// Bytes of a page without `max_bytes`, and with one.
const PAGE_BYTES: (u64, u64) = (8 << 20, 64 << 20);
/// Longest time to wait for something new.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Values that a list may hold.
const LIST_MAX: usize = 100;

/// Parameters that choose records.
pub(super) const FILTERS: [&str; 8] = ["file", "type", "tool", "level", "since", "until", "q", "regex"];
/// Parameters of `/logs`, beside the filters.
pub(super) const LOGS: [&str; 8] = ["format", "tail", "limit", "after", "order", "max_bytes", "clip", "wait"];
/// Parameters of `/stream`, beside the filters.
pub(super) const STREAM: [&str; 4] = ["format", "tail", "after", "clip"];

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// A page in one object.
    Json,
    /// A record a line.
    Ndjson,
    /// Lines for people.
    Text,
    /// Headings and fences.
    Markdown,
    /// Server-sent events.
    Sse,
}

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(super) format: Option<Format>,
    pub(super) files: Vec<String>,
    pub(super) filter: Filter,
    pub(super) tail: Option<u64>,
    limit: Option<u64>,
    pub(super) after: Option<Cursor>,
    pub(super) order: Order,
    max_bytes: Option<u64>,
    pub(super) clip: Option<usize>,
    pub(super) wait: Option<Duration>,
}

// === impl Asked ===

impl Asked {
    /// Reads the parameters of a query, of which only these are known.
    pub(crate) fn read(pairs: &[(String, String)], known: &[&[&str]], now: Timestamp) -> Result<Self, Problem> {
        let mut asked = Self::default();
        let mut seen: Vec<&str> = Vec::new();
        for (name, value) in pairs {
            if !known.iter().any(|names| names.contains(&&**name)) {
                let names = known.concat().join(", ");
                return Err(refuse(format!("Known parameters are {names}.")));
            }
            if seen.contains(&&**name) && !matches!(&**name, "file" | "type" | "tool") {
                return Err(refuse(format!("`{name}` may be given once.")));
            }
            seen.push(name);
            asked.set(name, value, now)?;
        }
        match () {
            () if seen.contains(&"q") && seen.contains(&"regex") => {
                Err(refuse("`q` and `regex` exclude each other.".to_owned()))
            }
            () if asked.tail.is_some() && asked.after.is_some() => {
                Err(refuse("`tail` and `after` exclude each other.".to_owned()))
            }
            () if asked.tail.is_some() && asked.order == Order::Descending => {
                Err(refuse("`tail` ends with the last record; with `order=desc` ask for a `limit`.".to_owned()))
            }
            () => Ok(asked),
        }
    }

    fn set(&mut self, name: &str, value: &str, now: Timestamp) -> Result<(), Problem> {
        let of_filter = |why: InvalidFilter| refuse(format!("`{name}` {why}."));
        match name {
            "format" => self.format = Some(Format::named(value).ok_or_else(refuse_format)?),
            "file" => {
                add_list(&mut self.files, name, value)?;
                if !self.files.iter().all(|file| layout::is_record_file(file)) {
                    return Err(refuse("`file` names files of records: NAME.jsonl.".to_owned()));
                }
            }
            "type" => add_list(&mut self.filter.kinds, name, value)?,
            "tool" => add_list(&mut self.filter.tools, name, value)?,
            "level" => self.filter.level = Some(Level::parse(value).map_err(of_filter)?),
            "since" => self.filter.since = Some(time(value, now).map_err(of_filter)?),
            "until" => self.filter.until = Some(time(value, now).map_err(of_filter)?),
            "q" if value.is_empty() => {}
            "q" => self.filter.text = Some(Pattern::literal(value).map_err(of_filter)?),
            "regex" => self.filter.text = Some(Pattern::regex(value).map_err(of_filter)?),
            "tail" => self.tail = Some(number(name, value, 0..=TAIL_MAX)?),
            "limit" => self.limit = Some(number(name, value, 1..=u64::MAX)?),
            "max_bytes" => self.max_bytes = Some(number(name, value, 1..=u64::MAX)?),
            "clip" => self.clip = Some(usize::try_from(number(name, value, 1..=1 << 30)?).unwrap_or(usize::MAX)),
            "after" => {
                self.after = Some(value.parse().map_err(|why| refuse(format!("`after` is {why}.")))?);
            }
            "order" => {
                self.order = match value {
                    "asc" => Order::Ascending,
                    "desc" => Order::Descending,
                    _ => return Err(refuse("`order` is asc or desc.".to_owned())),
                }
            }
            "wait" => {
                let wait = value.parse::<jiff::SignedDuration>().ok().and_then(|wait| Duration::try_from(wait).ok());
                let wait = wait.filter(|wait| *wait <= WAIT_MAX);
                self.wait =
                    Some(wait.ok_or_else(|| refuse(format!("`wait` is a duration like 30s, at most {WAIT_MAX:?}.")))?);
            }
            _ => {}
        }
        Ok(())
    }

    /// The `limit` among these: without one, and the largest.
    pub(super) fn limited(&self, (usual, most): (u64, u64)) -> Result<u64, Problem> {
        match self.limit {
            Some(limit) if limit > most => Err(refuse(format!("`limit` is at most {most} here."))),
            limit => Ok(limit.unwrap_or(usual)),
        }
    }

    /// Most records of a page, and most of its bytes.
    pub(super) fn page(&self) -> Result<(u64, u64), Problem> {
        let bounded = |name: &str, value: Option<u64>, (usual, most): (u64, u64)| match value {
            Some(value) if value > most => {
                Err(refuse(format!("`{name}` of a page is at most {most}; `format=ndjson` has no bound.")))
            }
            value => Ok(value.unwrap_or(usual)),
        };
        Ok((bounded("limit", self.limit, PAGE)?, bounded("max_bytes", self.max_bytes, PAGE_BYTES)?))
    }

    /// Most records of a body that is streamed, and most of its bytes.
    pub(super) fn bounds(&self) -> (u64, u64) {
        (self.limit.unwrap_or(u64::MAX), self.max_bytes.unwrap_or(u64::MAX))
    }

    /// The form that the query asks for, else the one that `Accept` prefers among these.
    pub(super) fn format(&self, headers: &HeaderMap) -> Option<Format> {
        self.format.or_else(|| accepted(headers))
    }
}

// === impl Format ===

impl Format {
    fn named(name: &str) -> Option<Self> {
        match name {
            "json" => Some(Self::Json),
            "ndjson" | "jsonl" => Some(Self::Ndjson),
            "text" => Some(Self::Text),
            "markdown" => Some(Self::Markdown),
            "sse" => Some(Self::Sse),
            _ => None,
        }
    }

    /// Its media type.
    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::Text => "text/plain; charset=utf-8",
            Self::Markdown => "text/markdown; charset=utf-8",
            Self::Sse => "text/event-stream",
        }
    }
}

/// The first form that `Accept` names; `*/*` names none.
fn accepted(headers: &HeaderMap) -> Option<Format> {
    let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).find_map(|range| {
        match range.split(';').next()?.trim().to_ascii_lowercase().as_str() {
            "application/json" => Some(Format::Json),
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Some(Format::Ndjson),
            "text/plain" => Some(Format::Text),
            "text/markdown" => Some(Format::Markdown),
            "text/event-stream" => Some(Format::Sse),
            _ => None,
        }
    })
}

fn add_list(list: &mut Vec<String>, name: &str, value: &str) -> Result<(), Problem> {
    for item in value.split(',').filter(|item| !item.is_empty()) {
        if !list.iter().any(|known| known == item) {
            list.push(item.to_owned());
        }
    }
    if list.len() > LIST_MAX { Err(refuse(format!("`{name}` takes {LIST_MAX} values."))) } else { Ok(()) }
}

fn number(name: &str, value: &str, among: std::ops::RangeInclusive<u64>) -> Result<u64, Problem> {
    let plain = value.bytes().all(|byte| byte.is_ascii_digit());
    match value.parse() {
        Ok(number) if plain && among.contains(&number) => Ok(number),
        _ if *among.end() == u64::MAX => Err(refuse(format!("`{name}` is a number from {}.", among.start()))),
        _ => Err(refuse(format!("`{name}` is a number from {} to {}.", among.start(), among.end()))),
    }
}

pub(super) fn refuse_format() -> Problem {
    refuse("`format` is json, ndjson, text, markdown or sse; `/stream` takes sse and ndjson.".to_owned())
}

fn refuse(detail: String) -> Problem {
    Problem::bad_request("bad_query", detail)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn read(query: &str) -> Result<Asked, Problem> {
        let pairs: Vec<(String, String)> = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Asked::read(&pairs, &[&FILTERS, &LOGS], Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_hours(1))
    }

    #[test]
    fn every_parameter_is_read() {
        let asked = read("file=a.jsonl,b.jsonl&file=c.jsonl&type=output&tool=Bash&level=warn&since=15m&until=1970-01-01T00:50:00Z&q=x&tail=5&format=ndjson&clip=9&wait=30s&max_bytes=7").unwrap();
        assert_eq!(asked.files, ["a.jsonl", "b.jsonl", "c.jsonl"]);
        assert_eq!((asked.tail, asked.clip, asked.wait), (Some(5), Some(9), Some(Duration::from_secs(30))));
        assert_eq!(asked.filter.since.unwrap().to_string(), "1970-01-01T00:45:00Z");
        assert_eq!(asked.bounds(), (u64::MAX, 7));
        let asked = read("after=a.jsonl:5&order=desc&limit=3&regex=x%2B").unwrap();
        assert_eq!((asked.after.unwrap().offset("a.jsonl"), asked.order), (5, Order::Descending));
        assert_eq!(asked.limit, Some(3));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for query in [
            "tial=5",
            "tail=-1",
            "tail=100001",
            "tail=5&tail=5",
            "limit=0",
            "limit=+1",
            "limit=",
            "after=x",
            "order=up",
            "format=xml",
            "level=loud",
            "since=soon",
            "regex=(",
            "q=a&regex=b",
            "tail=1&after=0",
            "tail=1&order=desc",
            "file=metadata.json",
            "file=../x.jsonl",
            "wait=5m",
            "wait=-1s",
            "clip=0",
            "max_bytes=0",
        ] {
            assert!(read(query).is_err(), "{query}");
        }
        assert!(read("limit=10001").unwrap().page().is_err());
    }

    #[test]
    fn accept_chooses_the_form() {
        let of = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            Asked::default().format(&headers)
        };
        assert_eq!(of("*/*"), None);
        assert_eq!(of("text/html, application/xhtml+xml, */*;q=0.8"), None);
        assert_eq!(of("application/x-ndjson"), Some(Format::Ndjson));
        assert_eq!(of("text/markdown;q=1, text/plain"), Some(Format::Markdown));
        assert_eq!(of("text/event-stream"), Some(Format::Sse));
    }
}
