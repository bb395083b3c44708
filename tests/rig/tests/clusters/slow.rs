//! What takes minutes.

use std::path::Path;

use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, waitpid};
use portolan_rig::net::Namespace;
use portolan_rig::{Fleet, Options, wait};

use crate::objects::{LONG, deploy};

#[tokio::test]
#[ignore = "needs clusters, for minutes: make test-slow"]
async fn twenty_fleets_leave_nothing() {
    let before = open_files();
    for _ in 0..20 {
        let fleet = Fleet::up(Options::new(["lb", "paris"])).await.expect("a fleet");
        let dir = fleet.dir().to_owned();
        let number = dir.file_name().expect("a number").to_string_lossy().into_owned();
        let client = fleet.cluster("paris").expect("there").client().await.expect("a client");
        deploy(&client, 3).await;
        println!("{}", fleet.report());
        fleet.down().expect("nothing stays");
        assert!(!dir.exists());
        assert!(!Path::new(&format!("/sys/class/net/rig{number}")).exists());
        assert_eq!(Namespace::list(&format!("rig{number}-")), Vec::<String>::new());
        assert_eq!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Err(Errno::ECHILD), "a child is left");
    }
    // The clients' connections are closed by tasks in the background.
    let closed = || async { (open_files() <= before).then_some(()) };
    wait::until("files to be closed", LONG, closed).await.expect("no file stays open");
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("our own").count()
}
