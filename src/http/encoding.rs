//! Compression of answers, as the client accepts it: text, JSON and its like; never ranges, event streams and what is packed
//! already. A stream is not held back: when its source has nothing more at the moment, what is in the compressor goes out.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    middleware::Next,
    response::Response,
};
use http_body::Frame;

use crate::compress::{Coding, Compressor};

/// Shorter answers gain nothing.
const LEAST: u64 = 1024;
/// Bytes of a compressed piece, about.
const PIECE: usize = 64 << 10;
/// Bytes that are compressed before others get their turn.
const TURN: usize = 512 << 10;

/// Codings in the order in which they are preferred.
const CODINGS: [(Coding, &[&str]); 3] =
    [(Coding::Zstd, &["zstd"]), (Coding::Brotli, &["br"]), (Coding::Gzip, &["gzip", "x-gzip"])];

/// A body that is compressed as it comes.
struct Encoded {
    from: Body,
    /// A part of a piece that was not compressed yet.
    left: Bytes,
    compressor: Compressor,
    /// Whether something went in since the last flush.
    held: bool,
    ended: bool,
}

/// Compresses an answer if that is good for it and the client takes it.
pub(super) async fn encoded(request: Request, next: Next) -> Response {
    let coding = accepted(request.headers());
    let known = request.headers().get(header::IF_NONE_MATCH).cloned();
    let mut response = next.run(request).await;
    if response.status() == StatusCode::NOT_MODIFIED {
        // What the client has is the compressed form: it is that which is still good.
        if coding.is_some() && known.is_some_and(|known| known.as_bytes().starts_with(b"W/")) {
            weaken(response.headers_mut());
        }
        return response;
    }
    let Some((coding, name)) = coding.filter(|_| gains(&response)) else { return response };
    let Ok(compressor) = Compressor::new(coding) else { return response };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(name));
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::ACCEPT_RANGES);
    weaken(headers);
    // Of a `HEAD` the body is thrown away further out.
    response.map(|from| Body::new(Encoded { from, left: Bytes::new(), compressor, held: false, ended: false }))
}

/// The form that is sent depends on the compressor: only what it says is the same.
fn weaken(headers: &mut HeaderMap) {
    let Some(etag) = headers.get(header::ETAG).filter(|etag| etag.as_bytes().starts_with(b"\"")) else { return };
    if let Ok(weak) = HeaderValue::from_bytes(&[b"W/", etag.as_bytes()].concat()) {
        headers.insert(header::ETAG, weak);
    }
}

fn gains(response: &Response) -> bool {
    let headers = response.headers();
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let length = text(header::CONTENT_LENGTH).parse().ok().or(response.body().size_hint().exact());
    response.status().is_success()
        && response.status() != StatusCode::PARTIAL_CONTENT
        && response.status() != StatusCode::NO_CONTENT
        && !headers.contains_key(header::CONTENT_ENCODING)
        && !headers.contains_key(header::CONTENT_RANGE)
        && length.is_none_or(|length| length >= LEAST)
        && is_text(text(header::CONTENT_TYPE))
}

fn is_text(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    match kind {
        "text/event-stream" => false,
        "application/json"
        | "application/x-ndjson"
        | "application/ndjson"
        | "application/javascript"
        | "image/svg+xml" => true,
        _ => kind.starts_with("text/") || kind.ends_with("+json"),
    }
}

/// The coding that the client likes best, of those the one that we like best.
fn accepted(headers: &HeaderMap) -> Option<(Coding, &'static str)> {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let offers: Vec<(&str, u32)> = values.flat_map(|value| value.split(',')).map(offer).collect();
    let quality = |names: &[&str]| {
        let is = |offer: &&(&str, u32), name: &str| offer.0.eq_ignore_ascii_case(name);
        let named = offers.iter().find(|offer| names.iter().any(|name| is(offer, name)));
        named.or_else(|| offers.iter().find(|offer| is(offer, "*"))).map_or(0, |(_, quality)| *quality)
    };
    let mut best = None;
    for (coding, names) in CODINGS {
        let quality = quality(names);
        if quality > best.map_or(0, |(_, quality)| quality) {
            best = Some(((coding, names[0]), quality));
        }
    }
    let plain =
        offers.iter().find(|(name, _)| name.eq_ignore_ascii_case("identity")).map_or(0, |(_, quality)| *quality);
    best.filter(|(_, quality)| *quality >= plain).map(|(coding, _)| coding)
}

/// A coding and how much it is liked, in thousandths.
fn offer(text: &str) -> (&str, u32) {
    let mut parts = text.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default();
    let quality = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
    let quality = quality.map_or(1.0, |quality| quality.parse::<f32>().unwrap_or(0.0)).clamp(0.0, 1.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it lies between 0 and 1000")]
    (name, (quality * 1000.0).round() as u32)
}

// === impl Encoded ===

impl Encoded {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Vec<u8>>>> {
        let mut turn = TURN;
        loop {
            while !self.left.is_empty() && self.compressor.ready() < PIECE {
                if turn == 0 {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                let part = self.left.split_to(self.left.len().min(PIECE));
                self.compressor.write(&part)?;
                self.held = true;
                turn = turn.saturating_sub(part.len());
            }
            if self.compressor.ready() >= PIECE || self.ended {
                let piece = self.compressor.take();
                return Poll::Ready(Ok(Some(piece).filter(|piece| !piece.is_empty())));
            }
            match Pin::new(&mut self.from).poll_frame(cx) {
                Poll::Ready(Some(frame)) => {
                    self.left = frame.map_err(io::Error::other)?.into_data().unwrap_or_default()
                }
                Poll::Ready(None) => {
                    self.compressor.finish()?;
                    self.ended = true;
                }
                Poll::Pending => {
                    if !std::mem::take(&mut self.held) {
                        return Poll::Pending;
                    }
                    self.compressor.flush()?;
                    if self.compressor.ready() > 0 {
                        return Poll::Ready(Ok(Some(self.compressor.take())));
                    }
                    return Poll::Pending;
                }
            }
        }
    }
}

impl HttpBody for Encoded {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let piece = std::task::ready!(self.poll(cx));
        Poll::Ready(piece.map(|piece| piece.map(|piece| Frame::data(Bytes::from(piece)))).transpose())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_of_what_a_client_accepts_is_taken() {
        for (accept, expected) in [
            ("", None),
            ("gzip, deflate, br, zstd", Some("zstd")),
            ("gzip, deflate, br", Some("br")),
            ("deflate", None),
            ("gzip", Some("gzip")),
            ("X-GZIP", Some("gzip")),
            ("gzip;q=1.0, zstd;q=0.5", Some("gzip")),
            ("gzip;q=0", None),
            ("*", Some("zstd")),
            ("*;q=0.1, zstd;q=0", Some("br")),
            ("identity", None),
            ("identity;q=1, gzip;q=0.5", None),
            ("identity;q=0.5, gzip", Some("gzip")),
            ("zstd;q=garbage, gzip", Some("gzip")),
            ("br ; q=0.9 , gzip ;q=0.95", Some("gzip")),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(accept));
            assert_eq!(accepted(&headers).map(|(_, name)| name), expected, "{accept}");
        }
        let mut two = HeaderMap::new();
        two.append(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        two.append(header::ACCEPT_ENCODING, HeaderValue::from_static("br"));
        assert_eq!(accepted(&two).map(|(_, name)| name), Some("br"));
        assert_eq!(accepted(&HeaderMap::new()).map(|(_, name)| name), None);
    }

    #[test]
    fn text_gains_and_what_is_packed_does_not() {
        for text in ["application/json", "application/problem+json", "application/x-ndjson", "text/html; charset=utf-8"]
        {
            assert!(is_text(text), "{text}");
        }
        for other in ["text/event-stream", "application/gzip", "application/octet-stream", "image/png", ""] {
            assert!(!is_text(other), "{other}");
        }
    }
}
