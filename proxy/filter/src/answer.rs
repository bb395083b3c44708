//! What does the proxy say when it answers itself? A short body in plain text, JSON or HTML, whichever `Accept` likes best.

use http::{HeaderMap, StatusCode, header};

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people at a terminal, and for whoever did not ask.
    Plain,
    /// For programs.
    Json,
    /// For browsers.
    Html,
}

/// How the client likes an answer best (RFC 9110 §12.5.1): by quality, then as it names the type itself rather than by a wildcard, then
/// as it names it first. What it does not like at all is sent as plain text.
pub fn negotiate(headers: &HeaderMap) -> Format {
    let fields = headers.get_all(header::ACCEPT).iter().filter_map(|field| field.to_str().ok());
    let mut liked = [
        (Format::Plain, "text", "plain"),
        (Format::Json, "application", "json"),
        (Format::Html, "text", "html"),
    ]
    .map(|(format, kind, subtype)| (format, kind, subtype, Liking::default()));
    for (range, place) in fields.flat_map(|field| field.split(',')).zip((0..u16::MAX).rev()) {
        let mut parts = range.split(';').map(str::trim);
        let Some((range_kind, range_subtype)) = parts.next().and_then(|range| range.split_once('/')) else {
            continue;
        };
        let quality = parts
            .find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")))
            .map_or(1000, quality);
        for (_, kind, subtype, liking) in &mut liked {
            let specific = match (range_kind, range_subtype) {
                ("*", "*") => 1,
                (range, "*") if range.eq_ignore_ascii_case(kind) => 2,
                (range, under) if range.eq_ignore_ascii_case(kind) && under.eq_ignore_ascii_case(subtype) => {
                    3
                }
                _ => continue,
            };
            // The most specific range decides a type's quality.
            if specific > liking.specific {
                *liking = Liking { quality, specific, place };
            }
        }
    }
    // The first of equals, so plain text first.
    liked.into_iter().rev().max_by_key(|(.., liking)| *liking).map_or(
        Format::Plain,
        |(format, _, _, liking)| {
            if liking.quality > 0 { format } else { Format::Plain }
        },
    )
}

#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Liking {
    /// In thousandths.
    quality: u16,
    specific: u8,
    /// The earlier, the higher.
    place: u16,
}

fn quality(text: &str) -> u16 {
    match text.parse::<f32>() {
        Ok(quality) if (0.0..=1.0).contains(&quality) => (quality * 1000.0) as u16,
        _ => 1000,
    }
}

/// An answer's content type and body: the status, what it is about in a sentence, the flag and the id to ask with.
pub fn own_answer(
    flag: &str,
    status: StatusCode,
    request_id: &str,
    text: &str,
    format: Format,
) -> (&'static str, String) {
    let (code, reason) = (status.as_u16(), status.canonical_reason().unwrap_or("Unknown"));
    match format {
        Format::Plain => (
            "text/plain; charset=utf-8",
            format!("{code} {reason}\n\n{text}\n\nflag: {flag}\nrequest id: {request_id}\n"),
        ),
        Format::Json => {
            let body = serde_json::json!({
                "status": code, "reason": reason, "message": text, "flag": flag, "requestId": request_id,
            });
            ("application/json", format!("{body}\n"))
        }
        Format::Html => {
            let (reason, text, flag, id) = (escape(reason), escape(text), escape(flag), escape(request_id));
            let body = format!(
                "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{code} {reason}</title></head>\n\
                 <body><h1>{code} {reason}</h1>\n<p>{text}</p>\n<p><small>{flag} &middot; {id}</small></p></body></html>\n"
            );
            ("text/html; charset=utf-8", body)
        }
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}
