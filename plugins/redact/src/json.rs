//! Finds the text of an agent's output in an event's data. Walking all strings of one is the SDK's.

use std::ops::Range;

use task_logger_plugin::json::{NotJson, string_end};

/// The string under the key `content` of the outermost object: where it stands, undecoded. Of several the last counts.
pub(crate) fn content(text: &str) -> Result<Option<Range<usize>>, NotJson> {
    let bytes = text.as_bytes();
    let (mut at, mut depth, mut last, mut is_content) = (0, 0_usize, None, false);
    let mut expects_key = false;
    // Leaner than the walker: this runs for every event of a stream.
    while let Some(byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'"' => {
                let raw = string_end(bytes, at)?;
                at = raw.end + 1;
                if depth == 1 {
                    if expects_key {
                        is_content = &bytes[raw] == b"content";
                    } else if is_content {
                        last = Some(raw);
                    }
                }
            }
            b'{' => {
                depth += 1;
                expects_key = depth == 1;
            }
            b'[' => depth += 1,
            b'}' | b']' => depth = depth.checked_sub(1).ok_or(NotJson)?,
            b',' if depth == 1 => expects_key = true,
            b':' if depth == 1 => expects_key = false,
            _ => {}
        }
    }
    if depth == 0 { Ok(last) } else { Err(NotJson) }
}
