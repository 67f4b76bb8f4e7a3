//! The conditions of RFC 9110, section 13, in its order: whether a client has what it asks for, or what it believes to have.

use std::time::{Duration, SystemTime};

use axum::http::{HeaderMap, HeaderName, header};

/// What a request's conditions come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Answered as if there were none.
    Holds,
    /// The client has it: 304.
    Known,
    /// It is not what the client believes: 412.
    Fails,
}

/// Judges a `GET` or `HEAD` of what has this strong entity tag and was changed at this time.
pub(super) fn judge(headers: &HeaderMap, etag: &str, modified: SystemTime) -> Verdict {
    match is_listed(headers, &header::IF_MATCH, etag, Comparison::Strong) {
        Some(false) => return Verdict::Fails,
        Some(true) => {}
        None if date(headers, &header::IF_UNMODIFIED_SINCE).is_some_and(|since| whole(modified) > since) => {
            return Verdict::Fails;
        }
        None => {}
    }
    match is_listed(headers, &header::IF_NONE_MATCH, etag, Comparison::Weak) {
        Some(true) => Verdict::Known,
        Some(false) => Verdict::Holds,
        None => match date(headers, &header::IF_MODIFIED_SINCE) {
            Some(since) if whole(modified) <= since => Verdict::Known,
            _ => Verdict::Holds,
        },
    }
}

/// Whether a range is of the version that the client has. A date never says so: two versions may share a second, and a client
/// that was given an entity tag has to send that.
pub(super) fn range_fits(headers: &HeaderMap, etag: &str) -> bool {
    !headers.contains_key(header::IF_RANGE)
        || headers.get(header::IF_RANGE).and_then(|value| value.to_str().ok()).is_some_and(|known| known.trim() == etag)
}

/// How two entity tags are compared.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    /// Byte for byte the same: a weak tag never is.
    Strong,
    /// The same for a reader.
    Weak,
}

/// Whether a header, if there is one, names this entity tag.
pub(super) fn is_listed(headers: &HeaderMap, name: &HeaderName, etag: &str, comparison: Comparison) -> Option<bool> {
    let mut values = headers.get_all(name).iter().peekable();
    values.peek()?;
    let named = values.filter_map(|value| value.to_str().ok()).any(|value| {
        value.trim() == "*" || tags(value).any(|(weak, tag)| tag == etag && !(weak && comparison == Comparison::Strong))
    });
    Some(named)
}

/// The entity tags of a list, quotes included, and whether each is weak; up to the first that is malformed.
fn tags(list: &str) -> impl Iterator<Item = (bool, &str)> {
    let mut rest = list;
    std::iter::from_fn(move || {
        let start = rest.trim_start_matches([' ', '\t', ',']);
        let (weak, tag) = match start.strip_prefix("W/") {
            Some(tag) => (true, tag),
            None => (false, start),
        };
        let end = tag.strip_prefix('"')?.find('"')? + 2;
        let (tag, after) = tag.split_at_checked(end)?;
        rest = after;
        Some((weak, tag))
    })
}

/// A date in any of the three forms; what is none is as good as absent.
fn date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(name)?.to_str().ok()?.trim()).ok()
}

/// To the second, as dates in headers are.
fn whole(time: SystemTime) -> SystemTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::{Verdict::*, *};

    const TAG: &str = "\"a-1\"";

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn conditions_are_judged_in_the_order_of_the_rfc() {
        // 1994-11-06 08:49:37, and some of its second.
        let modified = SystemTime::UNIX_EPOCH + Duration::from_millis(784_111_777_500);
        const AT: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
        const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
        for (pairs, expected) in [
            (&[][..], Holds),
            (&[("if-match", "\"a-1\"")], Holds),
            (&[("if-match", "*")], Holds),
            (&[("if-match", "\"x\", \"a-1\"")], Holds),
            (&[("if-match", "\"x\"")], Fails),
            (&[("if-match", "W/\"a-1\"")], Fails),
            (&[("if-match", "")], Fails),
            (&[("if-match", "a-1")], Fails),
            (&[("if-unmodified-since", AT)], Holds),
            (&[("if-unmodified-since", BEFORE)], Fails),
            (&[("if-unmodified-since", "yesterday")], Holds),
            (&[("if-match", "\"a-1\""), ("if-unmodified-since", BEFORE)], Holds),
            (&[("if-none-match", "\"a-1\"")], Known),
            (&[("if-none-match", "W/\"a-1\"")], Known),
            (&[("if-none-match", "\"x\",,W/\"y, z\" , \"a-1\"")], Known),
            (&[("if-none-match", "*")], Known),
            (&[("if-none-match", "\"x\"")], Holds),
            (&[("if-none-match", "\"x\" \"")], Holds),
            (&[("if-modified-since", AT)], Known),
            (&[("if-modified-since", "Sunday, 06-Nov-94 08:49:37 GMT")], Known),
            (&[("if-modified-since", "Sun Nov  6 08:49:37 1994")], Known),
            (&[("if-modified-since", BEFORE)], Holds),
            (&[("if-modified-since", "never")], Holds),
            (&[("if-none-match", "\"x\""), ("if-modified-since", AT)], Holds),
            (&[("if-match", "\"x\""), ("if-none-match", "\"a-1\"")], Fails),
            (&[("if-match", "\"a-1\""), ("if-none-match", "\"a-1\"")], Known),
        ] {
            assert_eq!(judge(&headers(pairs), TAG, modified), expected, "{pairs:?}");
        }
    }

    #[test]
    fn several_header_lines_are_one_list() {
        let mut two = headers(&[("if-none-match", "\"x\"")]);
        two.append(header::IF_NONE_MATCH, HeaderValue::from_static("\"a-1\""));
        assert_eq!(judge(&two, TAG, SystemTime::now()), Known);
    }

    #[test]
    fn a_range_fits_the_version_that_its_tag_names() {
        assert!(range_fits(&headers(&[]), TAG));
        assert!(range_fits(&headers(&[("if-range", "\"a-1\"")]), TAG));
        for other in ["\"x\"", "W/\"a-1\"", "*", "Sun, 06 Nov 1994 08:49:37 GMT"] {
            assert!(!range_fits(&headers(&[("if-range", other)]), TAG), "{other}");
        }
    }
}
