//! Whatever bytes come, the reader answers, and an answer names a place that exists.

use proptest::prelude::*;

use crate::examples::examples;
use crate::support::read;

/// Reads, and checks what holds of every answer.
fn holds(text: &str) {
    let read = read(text);
    let lines = text.lines().count().max(1) + 1;
    for (index, told) in read.all_diagnostics().into_iter().enumerate() {
        assert!(told.line >= 1 && told.column >= 1 && told.line as usize <= lines, "{told}");
        assert!(!told.message.is_empty());
        if index < 100 {
            told.render(text);
        }
    }
    for (id, told) in &read.invalid {
        assert!(!told.is_empty() && told.iter().all(|told| told.object.as_ref() == Some(id)));
    }
}

/// Pieces that manifests are made of, and pieces that they should not be made of.
const PIECES: [&str; 28] = [
    "---\n",
    "...\n",
    "\n",
    "  ",
    "\t",
    "- ",
    ": ",
    "?",
    "{",
    "}",
    "[",
    "]",
    "&a ",
    "*a",
    "<<: *a\n",
    "\"",
    "'",
    "|\n",
    "#",
    "apiVersion: portolan.dev/v1alpha1\n",
    "kind: HTTPLoadBalancer\n",
    "metadata: {name: a, namespace: tenant-b}\n",
    "spec:\n",
    "rules:\n",
    "!!binary ",
    "%YAML 1.2\n",
    "\u{feff}",
    "é😀\u{85}\u{2028}",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn random_text_is_answered(text in any::<String>()) {
        holds(&text);
    }

    #[test]
    fn random_yaml_is_answered(pieces in prop::collection::vec(0..PIECES.len(), 0..60)) {
        holds(&pieces.into_iter().map(|index| PIECES[index]).collect::<String>());
    }

    #[test]
    fn damaged_examples_are_answered(
        which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        cut in 0usize..40,
        put in prop::option::of(0..PIECES.len()),
    ) {
        let examples = examples();
        let text: Vec<char> = which.get(&examples).1.chars().collect();
        let at = at.index(text.len());
        let mut damaged: String = text[..at].iter().collect();
        damaged.extend(put.map(|index| PIECES[index]));
        damaged.extend(&text[(at + cut).min(text.len())..]);
        holds(&damaged);
    }
}

#[test]
fn bombs_and_towers_are_refused_quickly() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..20 {
        let items = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{items}]\n"));
    }
    let nested_anchors: String = (0..60).map(|n| format!("{}a{n}: &a{n}\n", "  ".repeat(n))).collect();
    for text in [
        bomb,
        nested_anchors,
        "[".repeat(1 << 20),
        "{a: ".repeat(1 << 18),
        "- ".repeat(1 << 18),
        "? ".repeat(1 << 18),
        "&a ".repeat(1 << 16),
        "!!".repeat(1 << 16),
        format!("a: \"{}", "x".repeat(1 << 20)),
        "---\n".repeat(1 << 18),
        format!("{}\n", "a: 1\n".repeat(1 << 14)),
        "k: v\n---\n".repeat(1 << 14),
    ] {
        let start = std::time::Instant::now();
        holds(&text);
        assert!(start.elapsed().as_secs() < 20, "{}…", &text[..20]);
    }
}
