//! Which port is free, and stays so?
//!
//! Ports come from below the range that the kernel takes for outgoing connections, in blocks that a process holds by a locked
//! file: neither tests beside each other nor a second run of them get the same port.

use std::fs::File;
use std::net::TcpListener;
use std::sync::Mutex;

const FIRST: u16 = 10_000;
const SIZE: u16 = 2_000;
const BLOCKS: u16 = 11;

struct Block {
    start: u16,
    next: u16,
    /// Locked as long as it is open.
    _lock: File,
}

static BLOCK: Mutex<Option<Block>> = Mutex::new(None);

/// A port that nobody listens on, and that no other test is given.
pub fn free_port() -> u16 {
    let mut block = BLOCK.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let block = block.get_or_insert_with(take);
    for _ in 0..SIZE {
        let port = block.start + block.next;
        block.next = (block.next + 1) % SIZE;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() && TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port from {} on", block.start)
}

fn take() -> Block {
    for number in 0..BLOCKS {
        let path = std::env::temp_dir().join(format!("portolan-e2e-ports-{number}.lock"));
        let Ok(lock) = File::options().create(true).append(true).open(path) else { continue };
        if lock.try_lock().is_ok() {
            return Block { start: FIRST + number * SIZE, next: 0, _lock: lock };
        }
    }
    panic!("{BLOCKS} other runs of these tests hold all ports")
}
