//! The `Range` header of RFC 9110, for one range of bytes, and its use for what still grows (RFC 8673). What it lets a server ignore (other units, several ranges,
//! malformed ones) is ignored: the client gets the whole file.

/// What a range asks for of a file of known length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Everything: no range, or one to be ignored.
    All,
    /// From the first byte to before the second; never empty.
    Part(u64, u64),
    /// Nothing that the file has.
    Unsatisfiable,
}

/// Reads a `Range` header's value.
pub(crate) fn wanted(value: &str, len: u64) -> Wanted {
    let Some((unit, range)) = value.split_once('=') else { return Wanted::All };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Wanted::All;
    }
    let Some((first, last)) = range.trim().split_once('-') else { return Wanted::All };
    match (number(first), number(last)) {
        (Some(Some(first)), Some(last)) => match last {
            Some(last) if last < first => Wanted::All,
            _ if first >= len => Wanted::Unsatisfiable,
            last => Wanted::Part(first, last.map_or(len, |last| len.min(last.saturating_add(1)))),
        },
        (Some(None), Some(Some(suffix))) => match suffix == 0 || len == 0 {
            true => Wanted::Unsatisfiable,
            false => Wanted::Part(len.saturating_sub(suffix), len),
        },
        _ => Wanted::All,
    }
}

/// Last positions from here on are far beyond every file: a client that names one wants what is still to come (RFC 8673). It is the
/// value of that document's examples; 9007199254740991 is another that clients name.
const FAR: u64 = 999_999_999_999;

/// The first and the last position of a live range.
pub(crate) fn live(value: &str) -> Option<(u64, u64)> {
    let (first, last) = positions(value)?;
    last.filter(|last| *last >= FAR).map(|last| (first, last))
}

/// Whether a range has no end.
pub(crate) fn is_open_ended(value: &str) -> bool {
    positions(value).is_some_and(|(_, last)| last.is_none())
}

fn positions(value: &str) -> Option<(u64, Option<u64>)> {
    let (unit, range) = value.split_once('=')?;
    let (first, last) = range.trim().split_once('-')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") || first.is_empty() {
        return None;
    }
    // Of numbers beyond `u64` none is a place in a file, and none can be said back to the client.
    let exact = |text: &str| number(text).filter(|number| number.is_none_or(|number| number < u64::MAX));
    Some((exact(first)??, exact(last)?))
}

/// `None`: no number. `Some(None)`: empty. A number beyond `u64` is beyond every file.
fn number(text: &str) -> Option<Option<u64>> {
    match text {
        "" => Some(None),
        _ if !text.bytes().all(|byte| byte.is_ascii_digit()) => None,
        _ => Some(Some(text.parse().unwrap_or(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::{Wanted::*, *};

    #[test]
    fn ranges_of_ten_bytes() {
        for (value, expected) in [
            ("bytes=0-", Part(0, 10)),
            ("bytes=3-5", Part(3, 6)),
            ("bytes=9-9", Part(9, 10)),
            ("Bytes=3-99", Part(3, 10)),
            ("bytes=3-99999999999999999999", Part(3, 10)),
            ("bytes=-4", Part(6, 10)),
            ("bytes=-99", Part(0, 10)),
            ("bytes=10-", Unsatisfiable),
            ("bytes=99999999999999999999-", Unsatisfiable),
            ("bytes=-0", Unsatisfiable),
            ("bytes=5-3", All),
            ("bytes=", All),
            ("bytes=-", All),
            ("bytes=a-b", All),
            ("bytes=+1-2", All),
            ("bytes=0-1,3-4", All),
            ("lines=0-1", All),
            ("garbage", All),
        ] {
            assert_eq!(wanted(value, 10), expected, "{value}");
        }
        assert_eq!(live("bytes=5-9007199254740991"), Some((5, 9_007_199_254_740_991)));
        assert_eq!(live("Bytes=0-999999999999"), Some((0, FAR)));
        for bounded in [
            "bytes=5-",
            "bytes=5-10",
            "bytes=-9007199254740991",
            "bytes=0-99999999999999999999",
            "x=0-9007199254740991",
        ] {
            assert_eq!(live(bounded), None, "{bounded}");
        }
        assert!(is_open_ended("bytes=5-"));
        assert!(!is_open_ended("bytes=5-6") && !is_open_ended("bytes=-5") && !is_open_ended("bytes=-"));
        assert_eq!(wanted("bytes=0-", 0), Unsatisfiable);
        assert_eq!(wanted("bytes=-5", 0), Unsatisfiable);
    }
}
