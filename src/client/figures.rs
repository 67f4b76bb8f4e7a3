//! Numbers as people read them.

use serde_json::Value;

/// `1.5 MiB`.
pub(super) fn bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"].iter();
    let mut unit = "B";
    while value >= 1024.0
        && let Some(next) = units.next()
    {
        (value, unit) = (value / 1024.0, next);
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") }
}

/// `12.5s`, `3m05s`, `2h07m`.
pub(super) fn seconds(seconds: f64) -> String {
    // Beyond it nobody counts seconds.
    let whole = seconds.clamp(0.0, 1e12) as u64;
    match whole {
        0..60 => format!("{:.1}s", seconds.max(0.0)),
        60..3600 => format!("{}m{:02}s", whole / 60, whole % 60),
        _ => format!("{}h{:02}m", whole / 3600, whole / 60 % 60),
    }
}

/// `950`, `12.3k`, `4.5M`.
pub(super) fn count(count: u64) -> String {
    match count {
        0..1000 => count.to_string(),
        1000..1_000_000 => format!("{:.1}k", count as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1}M", count as f64 / 1e6),
        _ => format!("{:.1}G", count as f64 / 1e9),
    }
}

/// A member as text, or `-`.
pub(super) fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or("-").to_owned()
}

/// A number that is there by `show`, or `-`.
pub(super) fn number(value: &Value, name: &str, show: impl Fn(f64) -> String) -> String {
    value[name].as_f64().map_or_else(|| "-".to_owned(), show)
}

/// Dollars with as many digits as tell small sums apart.
pub(super) fn dollars(sum: f64) -> String {
    if sum.abs() < 1.0 { format!("${sum:.4}") } else { format!("${sum:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!([bytes(0), bytes(1023), bytes(1536), bytes(u64::MAX)], ["0 B", "1023 B", "1.5 KiB", "16.0 EiB"]);
        assert_eq!(
            [seconds(0.04), seconds(59.9), seconds(185.0), seconds(7620.0)],
            ["0.0s", "59.9s", "3m05s", "2h07m"]
        );
        assert_eq!([count(999), count(12_345), count(4_500_000)], ["999", "12.3k", "4.5M"]);
        assert_eq!([dollars(0.01234), dollars(12.345)], ["$0.0123", "$12.35"]);
    }
}
