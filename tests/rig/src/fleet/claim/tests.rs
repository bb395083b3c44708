use std::sync::Arc;

use super::*;
use crate::process::{Process, Program};

/// A claim with processes that are found in several ways, and the host's link.
fn busy(parent: &Path) -> (Claim, Vec<Process>) {
    let claim = Claim::first_free(parent).expect("a number is free");
    let number = claim.number();
    let namespace = Arc::new(Namespace::create(&format!("rig{number}-paris-1")).expect("a namespace"));
    net::ip(None, &format!("link add rig{number} type veth peer name host netns {}", namespace.name()))
        .expect("a link");
    let sleep = |name| Program::new(name, Path::new("sleep"), ["600"]);
    let recorded = Process::start(&namespace, claim.dir(), sleep("recorded")).expect("it starts");
    let found = Process::start(&namespace, claim.dir(), sleep("found")).expect("it starts");
    fs::remove_file(claim.dir().join("found.process.json")).expect("it was recorded");
    // In a namespace that has lost its name.
    let nameless = Arc::new(Namespace::create(&format!("rig{number}-paris-1-pod")).expect("a namespace"));
    let lost = Process::start(&nameless, claim.dir(), sleep("lost")).expect("it starts");
    Namespace::open(nameless.name()).expect("there").delete().expect("deleted");
    fs::remove_file(claim.dir().join("lost.process.json")).expect("it was recorded");
    (claim, vec![recorded, found, lost])
}

fn nothing_is_left(number: u8, dir: &Path, processes: &[Process]) {
    assert!(processes.iter().all(|process| !process.is_running()));
    assert_eq!(Namespace::list(&prefix(number)), Vec::<String>::new());
    assert!(nix::net::if_::if_nametoindex(format!("rig{number}").as_str()).is_err());
    assert!(!dir.exists());
}

/// As a crash does: the lock goes, everything else stays.
fn crash(mut claim: Claim) {
    claim.done = true;
}

#[test]
fn nothing_is_left_of_a_fleet() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: network namespaces need root");
        return;
    }
    let parent = tempfile::tempdir().expect("a folder");
    let in_use = |number: u8| kept().expect("a list").iter().any(|(kept, _)| *kept == number);

    // Dropped.
    let (claim, processes) = busy(parent.path());
    let (number, dir) = (claim.number(), claim.dir().to_owned());
    assert!(lock(number).expect("no error").is_none(), "a number is claimed once");
    drop(claim);
    nothing_is_left(number, &dir, &processes);

    // Crashed: the next holder of its number cleans up.
    let (claim, processes) = busy(parent.path());
    let (number, dir) = (claim.number(), claim.dir().to_owned());
    crash(claim);
    assert!(processes.iter().all(Process::is_running) && !in_use(number));
    let elsewhere = tempfile::tempdir().expect("a folder");
    let mut next = Claim::take(number, elsewhere.path()).expect("no error").expect("its number is free");
    nothing_is_left(number, &dir, &processes);
    next.clear().expect("cleared");

    // Kept: it has its number until its processes are gone.
    let (claim, processes) = busy(parent.path());
    let (number, dir) = (claim.number(), claim.dir().to_owned());
    claim.keep().expect("kept");
    assert!(in_use(number));
    assert!(Claim::take(number, parent.path()).expect("no error").is_none());
    processes[0].kill().expect("killed");
    assert!(!in_use(number));
    drop(Claim::take(number, parent.path()).expect("no error").expect("its number is free"));
    nothing_is_left(number, &dir, &processes);
}
