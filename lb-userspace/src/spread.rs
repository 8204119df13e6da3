//! One function of many items, computed on several CPUs. The result is that of computing them one after another: what is pure
//! stays pure (`state`, which must not know threads, uses it).

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// How many CPUs there are for this process.
pub(crate) fn cpus() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// `work` of each item, in their order, on up to `threads` threads, this one among them. Items may differ in what they cost, so
/// each thread takes the next one that nobody has.
pub(crate) fn over<T: Sync, R: Send>(threads: usize, items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let some = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else {
                return done;
            };
            done.push((at, work(item)));
        }
    };
    let mut done = thread::scope(|scope| {
        // Where the system gives no more threads, those that run do the work of the others.
        let spawn = |_| {
            thread::Builder::new()
                .name("xlb-spread".to_owned())
                .spawn_scoped(scope, some)
                .ok()
        };
        let others: Vec<_> = (1..threads).map_while(spawn).collect();
        let mut done = some();
        for other in others {
            match other.join() {
                Ok(more) => done.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        done
    });
    done.sort_unstable_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_threads_gives_the_same_results_in_the_same_order() {
        let items: Vec<u64> = (0..500).collect();
        // Every seventh costs far more than the others.
        let work =
            |item: &u64| (0..if item.is_multiple_of(7) { 20_000 } else { 10 }).fold(*item, |sum, n| sum ^ (n * 31));
        let one_by_one: Vec<u64> = items.iter().map(work).collect();
        for threads in [0, 1, 2, 7] {
            assert_eq!(over(threads, &items, work), one_by_one, "{threads} threads");
        }
        assert_eq!(over(4, &[], work), Vec::<u64>::new());
    }
}
