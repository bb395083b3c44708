use super::*;

/// The tree in one line, scalars as they resolve.
fn show(node: &Node<'_>) -> String {
    match &node.value {
        Value::Scalar(..) => format!("{:?}", node.scalar().unwrap()),
        Value::Sequence(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(", ")),
        Value::Mapping(entries) => {
            let entries: Vec<_> = entries.iter().map(|e| format!("{}: {}", e.key, show(&e.value))).collect();
            format!("{{{}}}", entries.join(", "))
        }
    }
}

#[test]
fn documents_become_trees() {
    for (text, expected) in [
        (
            "a: 1\nb: [x, 'y', \"1\", 1.5, -2, 0x1f, yes]",
            "{a: Int(1), b: [Text(\"x\"), Text(\"y\"), Text(\"1\"), Float(1.5), Int(-2), Int(31), Text(\"yes\")]}",
        ),
        ("a:\nb: ~\nc: null\nd: ''", "{a: Null, b: Null, c: Null, d: Text(\"\")}"),
        (
            "a: true\nb: False\nc: 1.2.3\nd: 10s\ne: 1e3",
            "{a: Bool(true), b: Bool(false), c: Text(\"1.2.3\"), d: Text(\"10s\"), e: Float(1000.0)}",
        ),
        ("a: !!str 5", "{a: Text(\"5\")}"),
        ("a: &x {p: 1, q: 2}\nb: *x", "{a: {p: Int(1), q: Int(2)}, b: {p: Int(1), q: Int(2)}}"),
        (
            "a: &x {p: 1, q: 2}\nb:\n  <<: *x\n  q: 3",
            "{a: {p: Int(1), q: Int(2)}, b: {q: Int(3), p: Int(1)}}",
        ),
        (
            "{\n\t\"a\": [1,\n\t\t2],\n\t\"b\": \"\\u00e9\\/\\ud83d\\ude00\"\n}",
            "{a: [Int(1), Int(2)], b: Text(\"é/😀\")}",
        ),
        ("a: |\n  one\n  two\nb: >-\n  one\n  two", "{a: Text(\"one\\ntwo\\n\"), b: Text(\"one two\")}"),
    ] {
        let (node, problems) = parse(text, 0);
        assert_eq!((show(&node.unwrap()).as_str(), problems), (expected, vec![]), "{text}");
    }
}

#[test]
fn nodes_know_where_they_stand() {
    let (node, _) = parse("---\na:\n  - x\n  - é: {z: w}\n", 10);
    let node = node.unwrap();
    let list = node.entry("a").unwrap();
    let Value::Sequence(items) = &list.value.value else { panic!() };
    let inner = items[1].entry("é").unwrap();
    let places = [list.at, items[0].at, inner.at, inner.value.at, inner.value.entry("z").unwrap().value.at];
    assert_eq!(places.map(|at| (at.line, at.column)), [(12, 1), (13, 5), (14, 5), (14, 8), (14, 12)]);
}

#[test]
fn what_is_wrong_has_a_place_and_keeps_what_precedes_it() {
    let deep = format!("a: 1\nb: {}", "[".repeat(200));
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..9 {
        let items = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{items}]\n"));
    }
    for (text, line, message) in [
        ("a: 1\na: 2", 2, "twice"),
        ("a: [1, 2\nb: 3\n", 2, ""),
        ("a: \"x\n", 2, ""),
        ("a: 1\n\tb: 2\n", 1, "tab"),
        ("a: 1\nb: *missing\n", 2, ""),
        ("a: 1\n? [x]\n: 2\n", 2, "key"),
        (&deep, 2, ""),
        (&bomb, 5, "too much"),
        ("a: &x [*x]", 1, "inside"),
    ] {
        let (node, problems) = parse(text, 0);
        assert_eq!(problems.len(), 1, "{text}: {problems:?}");
        assert!(problems[0].at.line == line && problems[0].message.contains(message), "{text}: {problems:?}");
        assert!(node.is_some(), "{text}");
    }
}
