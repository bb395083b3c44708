//! Counters that are written by many workers and read by scrapes.
//!
//! What is counted for one thing (a listener, a cluster) is a block of cells, once per shard; a thread always writes the
//! same shard, so that workers do not share cache lines. A read sums the shards. Invariant: nothing counted is lost.
//! Cost: a write is a thread-local look-up and an uncontended atomic addition; a shard is allocated when
//! its first thread writes.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use prometheus::proto;

thread_local! {
    static THREAD: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// A number of this thread's own.
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    THREAD.with(|thread| {
        if thread.get() == usize::MAX {
            thread.set(NEXT.fetch_add(1, Relaxed));
        }
        thread.get()
    })
}

/// `N` counters, sharded.
pub(crate) struct Cells<const N: usize> {
    shards: Box<[OnceLock<Box<Shard<N>>>]>,
}

#[repr(align(128))]
struct Shard<const N: usize>([AtomicU64; N]);

impl<const N: usize> Cells<N> {
    pub(crate) fn new(shards: usize) -> Self {
        Self { shards: (0..shards.max(1)).map(|_| OnceLock::new()).collect() }
    }

    /// This thread's cells.
    pub(crate) fn mine(&self) -> &[AtomicU64; N] {
        let shard = &self.shards[thread_number() % self.shards.len()];
        &shard.get_or_init(|| Box::new(Shard([const { AtomicU64::new(0) }; N]))).0
    }

    /// The sums over all shards.
    pub(crate) fn sums(&self) -> [u64; N] {
        let mut sums = [0u64; N];
        for shard in self.shards.iter().filter_map(OnceLock::get) {
            for (sum, cell) in sums.iter_mut().zip(&shard.0) {
                *sum = sum.wrapping_add(cell.load(Relaxed));
            }
        }
        sums
    }
}

/// Upper bounds of durations, in microseconds.
const BOUNDS: [u32; 15] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 60_000_000,
];

/// The cells that a histogram of durations needs: one per bound, one above all, the sum in nanoseconds.
pub(crate) const DURATION_CELLS: usize = BOUNDS.len() + 2;

/// Counts a duration in such cells.
pub(crate) fn observe(cells: &[AtomicU64], duration: Duration) {
    let micros = duration.as_micros();
    let bucket = BOUNDS.iter().position(|&bound| micros <= u128::from(bound)).unwrap_or(BOUNDS.len());
    cells[bucket].fetch_add(1, Relaxed);
    cells[DURATION_CELLS - 1].fetch_add(duration.as_nanos() as u64, Relaxed);
}

/// The bounds in seconds.
pub(crate) fn bounds() -> Vec<f64> {
    BOUNDS.iter().map(|&micros| f64::from(micros) / 1e6).collect()
}

/// What a scrape says of the sums of such cells.
pub(crate) fn histogram(sums: &[u64]) -> proto::Histogram {
    let mut count = 0;
    let mut buckets = Vec::with_capacity(BOUNDS.len());
    for (bound, seen) in bounds().into_iter().zip(sums) {
        count += seen;
        let mut bucket = proto::Bucket::default();
        bucket.set_upper_bound(bound);
        bucket.set_cumulative_count(count);
        buckets.push(bucket);
    }
    let mut histogram = proto::Histogram::default();
    histogram.set_bucket(buckets);
    histogram.set_sample_count(count + sums[BOUNDS.len()]);
    histogram.set_sample_sum(sums[DURATION_CELLS - 1] as f64 / 1e9);
    histogram
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_counted_by_any_thread_is_lost() {
        let cells = Cells::<3>::new(2);
        std::thread::scope(|scope| {
            for _ in 0..5 {
                scope.spawn(|| (0..1000).for_each(|_| _ = cells.mine()[1].fetch_add(1, Relaxed)));
            }
        });
        assert_eq!(cells.sums(), [0, 5000, 0]);
    }

    #[test]
    fn durations_fall_into_their_buckets() {
        let cells = Cells::<DURATION_CELLS>::new(1);
        for micros in [0, 500, 501, 60_000_000, 60_000_001] {
            observe(cells.mine(), Duration::from_micros(micros));
        }
        let sums = cells.sums();
        assert_eq!((sums[0], sums[1], sums[14], sums[15]), (2, 1, 1, 1));
        let histogram = histogram(&sums);
        assert_eq!(histogram.get_sample_count(), 5);
        assert!((histogram.get_sample_sum() - 120.001_002).abs() < 1e-9);
        assert_eq!(histogram.get_bucket()[14].cumulative_count(), 4);
    }
}
