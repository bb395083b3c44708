use super::*;

#[test]
fn stat_is_read_past_odd_names() {
    let rest = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21";
    let rows = [
        (format!("12 (etcd) S {rest}"), Some(Stat { dead: false, started: 4711 })),
        (format!("12 (a) b (c)) Z {rest}"), Some(Stat { dead: true, started: 4711 })),
        (format!("12 (gone) X {rest}"), Some(Stat { dead: true, started: 4711 })),
        ("12 (short) S 1 2".to_owned(), None),
        (String::new(), None),
    ];
    for (text, wanted) in rows {
        assert_eq!(Stat::parse(&text), wanted, "{text}");
    }
}

#[test]
fn a_process_is_known_by_its_start_too() {
    let mut child = Command::new("sleep").arg("60").spawn().expect("a process");
    let record = Record::of(child.id() as i32).expect("it runs");
    assert!(record.is_alive());
    assert!(!Record { started: record.started + 1, ..record }.is_alive());
    assert!(!Record { started: record.started + 1, ..record }.signal(Signal::SIGKILL).expect("no error"));
    assert!(record.signal(Signal::SIGKILL).expect("sent"));
    child.wait().expect("it ends");
    assert!(!record.is_alive());
    assert!(memory(&[Record::of(std::process::id() as i32).expect("ourselves")]) > 100_000);
}

#[test]
fn records_are_found_in_all_folders() {
    let folder = tempfile::tempdir().expect("a folder");
    let deep = folder.path().join("paris/paris-1");
    std::fs::create_dir_all(&deep).expect("folders");
    std::fs::write(folder.path().join("paris/etcd.process.json"), r#"{"pid":7,"started":8}"#)
        .expect("a file");
    std::fs::write(deep.join("kubelet.process.json"), r#"{"pid":9,"started":10}"#).expect("a file");
    std::fs::write(deep.join("torn.process.json"), r#"{"pid":"#).expect("a file");
    let mut found = Record::below(folder.path());
    found.sort_by(|a, b| a.0.cmp(&b.0));
    let wanted = [
        ("etcd".to_owned(), Record { pid: 7, started: 8 }),
        ("kubelet".to_owned(), Record { pid: 9, started: 10 }),
    ];
    assert_eq!(found, wanted);
}

#[tokio::test]
async fn pauses_resumes_restarts_and_ends() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: network namespaces need root");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let name = format!("rigtest-{}-process", std::process::id());
    let namespace = Arc::new(Namespace::create(&name).expect("a namespace"));
    let program = Program::new("shell", Path::new("sh"), ["-c", "echo begun; while :; do sleep 1; done"]);
    let process = Process::start(&namespace, folder.path(), program).expect("it starts");
    let begun = || async { process.last_words().contains("begun").then_some(()) };
    wait::until("its first word", Duration::from_secs(5), begun).await.expect("begun");
    let state = || std::fs::read_to_string(format!("/proc/{}/stat", process.pid())).expect("it is there");
    process.pause().expect("paused");
    let stopped = || async { state().contains(") T ").then_some(()) };
    wait::until("it to stand still", Duration::from_secs(5), stopped).await.expect("stopped");
    process.resume().expect("resumed");
    let moves = || async { (!state().contains(") T ")).then_some(()) };
    wait::until("it to go on", Duration::from_secs(5), moves).await.expect("going on");
    let before = process.pid();
    process.restart().expect("restarted");
    assert_ne!(process.pid(), before);
    assert!(
        inside(&[Namespace::open(&name).expect("there")])
            .iter()
            .any(|found| found.pid as u32 == process.pid())
    );
    process.stop(Duration::from_secs(5)).await.expect("stopped");
    assert!(!process.is_running());
    assert!(process.pause().is_err());
    assert!(process.must_run().unwrap_err().to_string().contains("begun"));
    kill_all(|| inside(&[Namespace::open(&name).expect("there")])).expect("its children are gone");
    Namespace::open(&name).expect("there").delete().expect("deleted");
}
