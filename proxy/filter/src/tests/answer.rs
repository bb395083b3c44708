//! What the proxy says itself.

use http::StatusCode;
use proptest::prelude::*;

use super::*;
use crate::{Format, negotiate, own_answer};

#[test]
fn accept_chooses_the_format() {
    use Format::{Html, Json, Plain};
    for (accept, expected) in [
        (&[][..], Plain),
        (&["*/*"], Plain),
        (&[""], Plain),
        // Browsers, axios, API clients.
        (&["text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"], Html),
        (&["application/json, text/plain, */*"], Json),
        (&["application/json"], Json),
        (&["Application/JSON; charset=utf-8"], Json),
        (&["application/*"], Json),
        (&["text/*"], Plain),
        (&["text/plain"], Plain),
        (&["image/png"], Plain),
        // Quality decides first, then the place.
        (&["text/html;q=0.5, application/json;q=0.9"], Json),
        (&["text/html;q=0.5", "application/json;q=0.4"], Html),
        (&["text/html, application/json"], Html),
        (&["application/json, text/html"], Json),
        (&["text/plain;q=0.9, */*"], Json),
        // The most specific range counts: not this one at all.
        (&["text/html;q=0, */*"], Plain),
        (&["text/plain;q=0, */*"], Json),
        (&["text/html;level=1;q=0.3, text/*;q=0.2"], Html),
        (&["*/*;q=0"], Plain),
        (&["application/json;q=0"], Plain),
        (&["text/html;q=nonsense"], Html),
        (&["text/html;q=NaN, application/json"], Html),
        (&["garbage, ;;q=, /, text/html"], Html),
    ] {
        let accept: Vec<_> = accept.iter().map(|value| ("accept", *value)).collect();
        assert_eq!(negotiate(&fields(&accept)), expected, "{accept:?}");
    }
}

#[test]
fn an_answer_tells_status_flag_and_id() {
    let answer =
        |format| own_answer("NR", StatusCode::NOT_FOUND, "id-1", "no route for <this> & \"that\"", format);
    assert_eq!(
        answer(Format::Plain),
        (
            "text/plain; charset=utf-8",
            "404 Not Found\n\nno route for <this> & \"that\"\n\nflag: NR\nrequest id: id-1\n".to_owned()
        )
    );
    let (content_type, body) = answer(Format::Json);
    assert_eq!(content_type, "application/json");
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    let expected = serde_json::json!({
        "status": 404, "reason": "Not Found", "flag": "NR", "requestId": "id-1", "message": "no route for <this> & \"that\"",
    });
    assert_eq!(body, expected);
    let (content_type, body) = answer(Format::Html);
    assert_eq!(content_type, "text/html; charset=utf-8");
    assert!(
        body.contains("<h1>404 Not Found</h1>\n<p>no route for &lt;this&gt; &amp; &quot;that&quot;</p>"),
        "{body}"
    );
    assert!(body.contains("NR &middot; id-1"), "{body}");
}

proptest! {
    #[test]
    fn any_accept_is_survived(accept in "(text|application|\\*|/|html|json|;|,|q=|0|1|\\.| |[!-~]){0,20}") {
        negotiate(&fields(&[("accept", accept)]));
    }

    #[test]
    fn nothing_breaks_out_of_html(text in "\\PC{0,20}", id in "[!-~]{0,20}") {
        let (_, plain) = own_answer("NR", StatusCode::NOT_FOUND, "", "", Format::Html);
        let (_, body) = own_answer("NR", StatusCode::NOT_FOUND, &id, &text, Format::Html);
        let tags = |text: &str| text.chars().filter(|character| matches!(character, '<' | '>')).count();
        prop_assert_eq!(tags(&body), tags(&plain));
    }
}
