//! Reads a value's text into its type. Each answers `None` for a text that breaks the rule of its [`Kind`](super::Kind).

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    time::Duration,
};

use tracing::Level;

use super::{Fsync, Required};

/// Shortest and longest time that logs are kept: none that ended a minute ago goes, and ten years are long.
pub(super) const AGE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(10 * 366 * 86_400));
/// Least and most bytes that logs may take.
pub(super) const ROOM: (u64, u64) = (1 << 20, 1 << 60);

pub(super) fn number(text: &str, min: u64, max: u64) -> Option<u64> {
    digits(text).filter(|n| (min..=max).contains(n))
}

pub(super) fn size(text: &str, min: u64, max: u64) -> Option<u64> {
    let (number, unit) = split_unit(text);
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "kb" => 1000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tib" => 1 << 40,
        "tb" => 1_000_000_000_000,
        _ => return None,
    };
    digits(number)?.checked_mul(factor).filter(|bytes| (min..=max).contains(bytes))
}

pub(super) fn time(text: &str, min: Duration, max: Duration) -> Option<Duration> {
    let (number, unit) = split_unit(text);
    let factor = match unit.to_ascii_lowercase().as_str() {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    let time = Duration::from_millis(digits(number)?.checked_mul(factor)?);
    (min..=max).contains(&time).then_some(time)
}

pub(super) fn text(text: &str) -> Option<String> {
    (!text.chars().any(char::is_control)).then(|| text.to_owned())
}

/// A token travels in a header: what a header cannot carry is refused here, not at the first request.
pub(super) fn token(text: &str) -> Option<String> {
    text.bytes().all(|byte| byte.is_ascii_graphic()).then(|| text.to_owned())
}

pub(super) fn redis_url(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once(':')?;
    let known = ["redis", "rediss", "unix", "redis+unix", "redis-sentinel", "rediss-sentinel"];
    let host = rest.strip_prefix("//").unwrap_or(rest);
    let unix = scheme.ends_with("unix");
    let printable = !text.chars().any(|c| c.is_control() || c.is_whitespace());
    (known.contains(&scheme)
        && printable
        && !host.is_empty()
        && (unix || (rest.starts_with("//") && !host.starts_with('/'))))
    .then(|| text.to_owned())
}

pub(super) fn http_url(text: &str) -> Option<String> {
    let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"))?;
    let printable = host.bytes().all(|byte| byte.is_ascii_graphic());
    (printable && !host.is_empty() && !host.starts_with(['/', ':'])).then(|| text.trim_end_matches('/').to_owned())
}

pub(super) fn host(text: &str) -> Option<IpAddr> {
    if text.eq_ignore_ascii_case("localhost") {
        return Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    inner.parse().ok()
}

/// Absolute, so that nothing depends on the working directory later.
pub(super) fn path(text: &str) -> Option<PathBuf> {
    std::path::absolute(text).ok()
}

pub(super) fn paths(text: &str) -> Option<Vec<PathBuf>> {
    let folders: Vec<_> = text.split(':').filter(|part| !part.is_empty()).collect();
    if folders.is_empty() { None } else { folders.into_iter().map(path).collect() }
}

/// Python's names, too: `CRITICAL` is an error here, `NOTSET` lets everything through.
pub(super) fn level(text: &str) -> Option<Level> {
    Some(match text.to_ascii_uppercase().as_str() {
        "TRACE" | "NOTSET" => Level::TRACE,
        "DEBUG" => Level::DEBUG,
        "INFO" => Level::INFO,
        "WARN" | "WARNING" => Level::WARN,
        "ERROR" | "CRITICAL" | "FATAL" => Level::ERROR,
        _ => return None,
    })
}

/// Whether the log is JSON.
pub(super) fn format(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "text" => Some(false),
        "json" => Some(true),
        _ => None,
    }
}

pub(super) fn fsync(text: &str) -> Option<Fsync> {
    match text.to_ascii_lowercase().as_str() {
        "always" => Some(Fsync::Always),
        "never" => Some(Fsync::Never),
        other => {
            let ms = other.strip_prefix("interval:")?;
            number(ms.strip_suffix("ms").unwrap_or(ms), 1, 60_000).map(|ms| Fsync::Interval(Duration::from_millis(ms)))
        }
    }
}

/// Whether only a digest is kept.
pub(super) fn payload(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "full" => Some(false),
        "digest" => Some(true),
        _ => None,
    }
}

/// How long something is kept; `Some(None)`: for ever.
pub(super) fn age(text: &str) -> Option<Option<Duration>> {
    if text.eq_ignore_ascii_case("off") {
        return Some(None);
    }
    time(text, AGE.0, AGE.1).map(Some)
}

/// How many bytes are kept; `Some(None)`: any number.
pub(super) fn room(text: &str) -> Option<Option<u64>> {
    if text.eq_ignore_ascii_case("off") {
        return Some(None);
    }
    size(text, ROOM.0, ROOM.1).map(Some)
}

pub(super) fn trim(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "off" => Some(false),
        "published" => Some(true),
        _ => None,
    }
}

pub(super) fn names(text: &str) -> Option<Required> {
    if text.eq_ignore_ascii_case("none") {
        return Some(Required::None);
    }
    let mut names = Vec::new();
    for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
        let rest = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        // `none` beside names contradicts itself.
        if !first || !rest || name.len() > 40 || name == "none" {
            return None;
        }
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    (!names.is_empty()).then_some(Required::List(names))
}

/// Host names, in lower case.
pub(super) fn hosts(text: &str) -> Option<Vec<String>> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    list(text, |host| host.bytes().all(plain).then(|| host.trim_end_matches('.').to_ascii_lowercase()))
}

/// Origins as browsers send them: scheme, host, and a port that is not the scheme's own.
pub(super) fn origins(text: &str) -> Option<Vec<String>> {
    list(text, |origin| {
        let rest = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"))?;
        let authority: axum::http::uri::Authority = rest.parse().ok()?;
        let own = if origin.starts_with("https:") { 443 } else { 80 };
        let as_sent = authority.port_u16() != Some(own) && !rest.contains('@') && rest == rest.to_ascii_lowercase();
        as_sent.then(|| origin.to_owned())
    })
}

fn list(text: &str, read: impl Fn(&str) -> Option<String>) -> Option<Vec<String>> {
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    let items: Vec<String> = items.map(read).collect::<Option<_>>()?;
    (!items.is_empty() && items.iter().all(|item| !item.is_empty())).then_some(items)
}

fn split_unit(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}
