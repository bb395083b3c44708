use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use serde_json::value::RawValue;

use super::*;

const SERVER: &str = "https://lb.example.net:6443/";

fn item(name: &str, version: u64) -> (ObjectRef, Item) {
    let text = format!(
        r#"{{"metadata":{{"namespace":"tenant-paris","name":"{name}","uid":"u","resourceVersion":"{version}"}},"spec":"{}"}}"#,
        "x".repeat(1000)
    );
    let raw = serde_json::from_str::<&RawValue>(&text).unwrap();
    (ObjectRef::new(Kind::UpstreamPool, "tenant-paris", name), Item::of(raw).unwrap().0)
}

/// What is in a journal: names and versions, in the order of the file.
fn content(folder: &Path) -> io::Result<(Vec<(String, u64)>, Summary)> {
    let mut found = Vec::new();
    let summary = read(folder, SERVER, |Kept { kind, item }| {
        assert_eq!(kind, Kind::UpstreamPool);
        found.push((item.name, item.version.number));
    })?;
    Ok((found, summary))
}

fn names(folder: &Path) -> Vec<(String, u64)> {
    content(folder).unwrap().0
}

/// Waits for the thread that writes.
fn until<T>(what: &str, found: impl Fn() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match found() {
            Some(found) => return found,
            None => assert!(Instant::now() < deadline, "{what}"),
        }
        thread::yield_now();
    }
}

fn has(folder: &Path, expected: &[(&str, u64)]) {
    let expected: Vec<_> = expected.iter().map(|(name, version)| ((*name).to_owned(), *version)).collect();
    until(&format!("{expected:?} are written"), || (content(folder).ok()?.0 == expected).then_some(()));
}

fn keep(journal: &Journal, name: &str, version: u64) {
    let (id, item) = item(name, version);
    journal.keep(&id, &item);
}

/// A journal that was just begun, and counts.
fn begun(folder: &Path) -> Journal {
    let journal = Journal::start(folder, SERVER, None).unwrap();
    journal.whole();
    journal
}

/// Once the thread that writes has ended, another may begin.
fn resumed(folder: &Path) -> Journal {
    until("the file is free", || {
        let journal = Journal::start(folder, SERVER, Some(content(folder).ok()?.1.worth)).unwrap();
        keep(&journal, "probe", 1);
        until("it is written or broken", || {
            let written = names(folder).iter().any(|(name, _)| name == "probe");
            (written || journal.broken().is_some()).then_some(())
        });
        journal.gone(&item("probe", 1).0);
        journal.broken().is_none().then_some(journal)
    })
}

#[test]
fn the_last_version_of_each_object_is_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let journal = begun(&path);
    keep(&journal, "a", 1);
    keep(&journal, "b", 2);
    keep(&journal, "a", 3);
    keep(&journal, "c", 4);
    journal.gone(&item("b", 0).0);
    has(&path, &[("a", 3), ("c", 4)]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path.join(FILE)), mode(&path)), (0o600, 0o700), "private keys are in it");

    drop(journal);
    let journal = resumed(&path);
    keep(&journal, "c", 5);
    has(&path, &[("a", 3), ("c", 5)]);
}

/// What is written anew counts from the moment on at which it is whole.
#[test]
fn a_journal_that_is_written_anew_takes_the_place_of_the_old() {
    let folder = tempfile::tempdir().unwrap();
    let journal = begun(folder.path());
    keep(&journal, "old", 1);
    has(folder.path(), &[("old", 1)]);
    journal.anew();
    keep(&journal, "new", 2);
    until("it is written beside", || {
        let beside = fs::read_to_string(beside(folder.path())).ok()?;
        beside.contains("\"new\"").then_some(())
    });
    assert_eq!(names(folder.path()), [("old".to_owned(), 1)]);
    journal.whole();
    has(folder.path(), &[("new", 2)]);
}

#[test]
fn a_file_does_not_grow_with_changes() {
    let folder = tempfile::tempdir().unwrap();
    let journal = begun(folder.path());
    let size = || fs::metadata(folder.path().join(FILE)).map_or(0, |metadata| metadata.len());
    keep(&journal, "stays", 1);
    let mut largest = 0;
    for version in 0..10_000 {
        keep(&journal, "changes", version);
        largest = largest.max(size());
    }
    has(folder.path(), &[("stays", 1), ("changes", 9_999)]);
    // 12 MB were written.
    assert!(largest.max(size()) < 4 << 20, "{largest}");
    assert!(journal.broken().is_none());
}

#[test]
fn lines_that_are_torn_or_changed_are_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    let journal = begun(folder.path());
    for (name, version) in [("a", 1), ("b", 2), ("c", 3), ("a", 4)] {
        keep(&journal, name, version);
    }
    has(folder.path(), &[("b", 2), ("c", 3), ("a", 4)]);
    drop(journal);
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<_> = text.lines().collect();
    let changed = |at: usize, line: &str| {
        let mut lines = lines.clone();
        lines[at] = line;
        lines.join("\n") + "\n"
    };
    let version_5 = lines[4].replace("\"4\"", "\"5\"");
    let all = [("b", 2), ("c", 3), ("a", 4)];
    for (say, text, expected, first_skipped) in [
        (
            "torn at its end",
            text[..text.len() - 20].to_owned(),
            &[("a", 1), ("b", 2), ("c", 3)][..],
            &[5][..],
        ),
        ("a digit changed", changed(4, &version_5), &[("a", 1), ("b", 2), ("c", 3)], &[5]),
        ("rubbish", changed(2, "{\"sum\":\"é"), &[("c", 3), ("a", 4)], &[3]),
        ("a blank line", format!("{text}\n"), &all, &[6]),
        (
            "half a line with another behind it",
            text.replacen(lines[2], &lines[2][..30], 1),
            &[("c", 3), ("a", 4)],
            &[3],
        ),
    ] {
        fs::write(&path, &text).unwrap();
        let (found, summary) = content(folder.path()).unwrap();
        let expected: Vec<_> = expected.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect();
        assert_eq!(found, expected, "{say}");
        assert_eq!((summary.objects, &*summary.first_skipped), (expected.len(), first_skipped), "{say}");
    }

    // What comes after a torn line is whole.
    fs::write(&path, &text[..text.len() - 20]).unwrap();
    let journal = resumed(folder.path());
    keep(&journal, "d", 6);
    has(folder.path(), &[("a", 1), ("b", 2), ("c", 3), ("d", 6)]);
}

#[test]
fn another_servers_journal_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    let header = |server| String::from_utf8(line::header(server)).unwrap();
    let (id, item) = item("a", 1);
    let object = String::from_utf8(line::object(&id, &item.text)).unwrap();
    let other = "it is of the API server https://other/, not of https://lb.example.net:6443/";
    for (text, expected) in [
        (header(SERVER) + &object, Ok(1)),
        (header("https://other/") + &object, Err(other)),
        (object.clone(), Err("its first line does not say whose it is")),
        ("rubbish".to_owned(), Err("its first line does not say whose it is")),
        (String::new(), Err("entity not found")),
    ] {
        fs::write(&path, &text).unwrap();
        let found = content(folder.path()).map(|(_, summary)| summary.objects);
        assert_eq!(found.map_err(|error| error.to_string()), expected.map_err(str::to_owned), "{text}");
    }
}

/// Two processes on a machine, of which one takes over from the other.
#[test]
fn one_process_writes() {
    let folder = tempfile::tempdir().unwrap();
    let first = begun(folder.path());
    keep(&first, "a", 1);
    has(folder.path(), &[("a", 1)]);
    let second = Journal::start(folder.path(), SERVER, Some(0)).unwrap();
    let why = until("it gives up", || second.broken());
    assert_eq!(why, "another process writes it");
    keep(&second, "b", 2);

    drop(first);
    until("the first one has ended, and the second one writes", || {
        second.anew();
        keep(&second, "c", 3);
        second.whole();
        until("it is written or broken", || {
            let written = names(folder.path()) == [("c".to_owned(), 3)];
            (written || second.broken().is_some()).then_some(())
        });
        second.broken().is_none().then_some(())
    });
}

#[test]
fn a_disk_that_takes_nothing_breaks_it_until_it_does() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    fs::write(&path, "a file in the place of the folder").unwrap();
    let journal = Journal::start(&path, SERVER, None).unwrap();
    until("it gives up", || journal.broken());
    keep(&journal, "a", 1);
    fs::remove_file(&path).unwrap();
    journal.anew();
    keep(&journal, "b", 2);
    journal.whole();
    has(&path, &[("b", 2)]);
}
