//! What of a case is counted?

use std::hint::black_box;

/// The function within which callgrind collects, as its symbol names it.
pub(crate) const COUNTED: &str = "portolan_bench_micro_counted";

/// Counts calls, while callgrind counts their instructions.
#[derive(Default)]
pub(crate) struct Meter {
    calls: u64,
}

impl Meter {
    /// Makes one call that is counted, with the disposal of nothing: what it gives back is the caller's.
    pub(crate) fn count<T>(&mut self, call: impl FnOnce() -> T) -> T {
        self.calls += 1;
        let (mut call, mut result) = (Some(call), None);
        portolan_bench_micro_counted(&mut || result = call.take().map(|call| black_box(call())));
        match result {
            Some(result) => result,
            None => unreachable!("the call has been made"),
        }
    }

    /// How many calls were made.
    pub(crate) fn calls(&self) -> u64 {
        self.calls
    }
}

#[inline(never)]
fn portolan_bench_micro_counted(call: &mut dyn FnMut()) {
    call();
}
