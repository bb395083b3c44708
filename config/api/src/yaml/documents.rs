//! Where do the documents of a stream begin and end?
//!
//! At lines that start with `---` or `...` and a blank: YAML forbids these inside any scalar (YAML 1.2.2 §9.1.2), so
//! that the cut needs no parser, and an error in one document cannot reach the next. Cost: one pass over line starts.

/// One document of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Document<'a> {
    /// Its text, from its `---` if it has one.
    pub(crate) text: &'a str,
    /// How many lines precede it.
    pub(crate) lines_before: u32,
}

/// The documents of a stream that hold more than blanks, comments and directives.
pub(crate) fn documents(stream: &str) -> impl Iterator<Item = Document<'_>> {
    let mut rest = stream;
    let mut line = 0;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let (text, lines) = cut(rest);
            let document = Document { text, lines_before: line };
            rest = &rest[text.len()..];
            line = line.saturating_add(lines);
            if !is_empty(text) {
                return Some(document);
            }
        }
        None
    })
}

/// The text up to the next border, and the number of its lines.
fn cut(rest: &str) -> (&str, u32) {
    let mut lines = 0;
    let mut at = 0;
    loop {
        let Some(length) = line_length(&rest[at..]) else {
            return (rest, lines + 1);
        };
        lines += 1;
        at += length;
        if is_border(&rest[at..]) {
            return (&rest[..at], lines);
        }
    }
}

/// How long the first line is with its break: a line feed, a carriage return, or both (YAML 1.2.2 §5.4).
fn line_length(text: &str) -> Option<usize> {
    let end = text.bytes().position(|byte| matches!(byte, b'\n' | b'\r'))?;
    Some(if text[end..].starts_with("\r\n") { end + 2 } else { end + 1 })
}

/// The lines of a text as YAML breaks them.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let (line, behind) = match line_length(text) {
            Some(length) => (&text[..length], Some(&text[length..])),
            None => (text, None),
        };
        rest = behind;
        Some(line.trim_end_matches(['\r', '\n']))
    })
}

fn is_border(line: &str) -> bool {
    (line.starts_with("---") || line.starts_with("..."))
        && matches!(line.as_bytes().get(3), None | Some(b' ' | b'\t' | b'\r' | b'\n'))
}

fn is_empty(text: &str) -> bool {
    lines(text).all(|line| {
        let line = if is_border(line) { &line[3..] } else { line };
        let plain = line.trim_start();
        plain.is_empty() || plain.starts_with('#') || line.starts_with('%')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_cut_at_markers_only() {
        for (stream, expected) in [
            ("", vec![]),
            ("# only a comment\n\n---\n---\n# and another\n", vec![]),
            ("a: 1", vec![("a: 1", 0)]),
            ("a: 1\n---\nb: 2\n", vec![("a: 1\n", 0), ("---\nb: 2\n", 1)]),
            ("---\na: 1\n...\n---\nb: 2", vec![("---\na: 1\n", 0), ("---\nb: 2", 3)]),
            ("%YAML 1.2\n---\na: 1\n", vec![("---\na: 1\n", 1)]),
            ("--- {a: 1}\n--- {b: 2}\r\n", vec![("--- {a: 1}\n", 0), ("--- {b: 2}\r\n", 1)]),
            ("a: |\n  ---\n  x\n ---\n----\n---x\n", vec![("a: |\n  ---\n  x\n ---\n----\n---x\n", 0)]),
            ("a: 1\r---\rb: 2\r", vec![("a: 1\r", 0), ("---\rb: 2\r", 1)]),
            (
                "# one\ra: 1\r\n\r---\r\n# two\rb: 2",
                vec![("# one\ra: 1\r\n\r", 0), ("---\r\n# two\rb: 2", 3)],
            ),
            ("a: \"open\n---\nb: 2\n", vec![("a: \"open\n", 0), ("---\nb: 2\n", 1)]),
        ] {
            let found: Vec<_> = documents(stream).map(|d| (d.text, d.lines_before)).collect();
            assert_eq!(found, expected, "{stream:?}");
        }
    }
}
