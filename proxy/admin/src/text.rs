//! A JSON value for people: one line a scalar, indented by depth; what is short stands before what is long.
//!
//! ```text
//!  host: shop.example
//!  considered:
//!    - rule: 0
//!      verdict: Matches
//! ```

use std::fmt::Write;

use serde_json::Value;

/// The value, in lines. Control characters in its texts are escaped.
pub fn to_text(value: &Value) -> String {
    let mut out = String::new();
    block(value, 0, &mut out);
    out
}

/// Writes a value from the current place of the line on; ends the line.
fn block(value: &Value, depth: usize, out: &mut String) {
    let mut indent = false;
    let mut start = |out: &mut String| {
        if std::mem::replace(&mut indent, true) {
            out.extend(std::iter::repeat_n("  ", depth));
        }
    };
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            let (long, short): (Vec<_>, Vec<_>) = fields.iter().partition(|(_, value)| has_lines(value));
            for (name, value) in short.into_iter().chain(long) {
                start(out);
                escaped(name, out);
                out.push(':');
                nested(value, depth + 1, out);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                start(out);
                out.push_str("- ");
                block(item, depth + 1, out);
            }
        }
        scalar => {
            inline(scalar, out);
            out.push('\n');
        }
    }
}

/// Writes a value behind its name.
fn nested(value: &Value, depth: usize, out: &mut String) {
    if has_lines(value) {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    } else {
        out.push(' ');
    }
    block(value, depth, out);
}

/// Whether a value takes lines of its own.
fn has_lines(value: &Value) -> bool {
    match value {
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    }
}

fn inline(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("none"),
        Value::Bool(true) => out.push_str("yes"),
        Value::Bool(false) => out.push_str("no"),
        Value::Number(number) => {
            let _ = write!(out, "{number}");
        }
        Value::String(text) => escaped(text, out),
        Value::Array(_) | Value::Object(_) => out.push_str("(empty)"),
    }
}

fn escaped(text: &str, out: &mut String) {
    for c in text.chars() {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_become_lines() {
        for (value, expected) in [
            (json!("a\u{1b}[31m\nb"), "a\\u{1b}[31m\\nb\n"),
            (json!([]), "(empty)\n"),
            (json!({"a": 1, "b": null, "c": true, "d": {}}), "a: 1\nb: none\nc: yes\nd: (empty)\n"),
            (json!({"a": [1, "x"]}), "a:\n  - 1\n  - x\n"),
            (
                json!({"a": [{"b": 1, "c": {"d": 2, "e": 3}}, {"b": 4}]}),
                "a:\n  - b: 1\n    c:\n      d: 2\n      e: 3\n  - b: 4\n",
            ),
            (json!({"a": {"b": 1}, "c": 2, "d": [3], "e": 4}), "c: 2\ne: 4\na:\n  b: 1\nd:\n  - 3\n"),
            (json!([[1, 2], [3]]), "- - 1\n  - 2\n- - 3\n"),
        ] {
            assert_eq!(to_text(&value), expected, "{value}");
        }
    }
}
