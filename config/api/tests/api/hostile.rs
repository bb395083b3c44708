//! Whatever bytes come, the reader answers, and an answer names a place that exists.

use portolan_api::Source;
use portolan_model::intent::Meta;
use proptest::prelude::*;

use crate::examples::examples;
use crate::support::read;

/// Reads, and checks what holds of every answer.
fn holds(text: &str) {
    let read = read(text);
    // YAML breaks lines at a carriage return alone too (YAML 1.2.2 §5.4).
    let lines = text.replace("\r\n", "\n").split(['\n', '\r']).count();
    let mut source = Source::new(text);
    for (index, told) in read.all_diagnostics().into_iter().enumerate() {
        assert!(told.line >= 1 && told.column >= 1 && told.line as usize <= lines, "{told}");
        assert!(!told.message.is_empty());
        let sentence = told.to_string();
        let shown: String = sentence.chars().take(200).collect();
        assert!(sentence.len() < 20_000, "{} bytes: {shown}…", sentence.len());
        if index < 100 {
            told.render(&source);
        }
    }
    for Meta { id, place, .. } in read.objects.iter().map(|object| &object.meta) {
        let line = place.as_ref().map_or(0, |place| place.line);
        let spot = source.locate(id, line, "spec.rules[0].backends[0].pool");
        assert!(
            spot.is_some_and(|spot| spot.line >= line && source.line(spot.line).is_some()),
            "{id} is not found again"
        );
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
    let long = "é".repeat(1_500_000);
    let ours =
        "apiVersion: portolan.dev/v1alpha1\nkind: Cluster\nmetadata: {name: paris}\nspec: {weight: 1}\n";
    let keys: String = (0..200_000).map(|n| format!("k{n}: 1\n")).collect();
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
        ours.replace("Cluster", &long),
        ours.replace("v1alpha1", &long),
        ours.replace("portolan.dev/v1alpha1", &long),
        ours.replace("portolan.dev", &long),
        ours.replace("paris", &long),
        ours.replace("weight", &long),
        ours.replace("spec", &long),
        ours.replace("kind", &long),
        ours.replace("weight: 1", &format!("allowedDomains: [{{suffix: {long}}}]")),
        ours.replace("weight: 1", &format!("drain: {long}")),
        format!("{ours}{long}: 1\n{long}: 2\n"),
        keys.clone(),
        format!("a: &a\n  b: 1\nc:\n  <<: {{{}}}\n{}", keys.replace('\n', ", "), keys.replace("k", "  l")),
    ] {
        let start = std::time::Instant::now();
        holds(&text);
        let start_of_text: String = text.chars().take(60).collect();
        assert!(start.elapsed().as_secs() < 20, "{start_of_text}…");
    }
}

#[test]
fn carriage_returns_end_lines() {
    let text = "apiVersion: portolan.dev/v1alpha1\nkind: Cluster\nmetadata: {name: paris}\nspec: {}\n";
    let text = format!("# two of them\n{text}---\n{}spec: {{}}\n", text.replace("paris", "tokyo"));
    for line_break in ["\n", "\r\n", "\r"] {
        let text = text.replace('\n', line_break);
        let read = read(&text);
        let places: Vec<_> =
            read.objects.iter().map(|object| object.meta.place.clone().unwrap().line).collect();
        let told: Vec<_> = read.all_diagnostics().into_iter().map(|told| told.line).collect();
        assert_eq!((places, told), (vec![2], vec![11]), "{line_break:?}");
        assert!(
            read.all_diagnostics()[0].render(&Source::new(&text)).contains("11 | spec: {}"),
            "{line_break:?}"
        );
    }
}
