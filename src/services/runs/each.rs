//! A look at each of many runs, on all processors.
//!
//! May not know what is looked for. Invariant: each run is looked at once, and what was found is
//! taken by one thread at a time.

use std::sync::{Mutex, PoisonError};

use crate::ground::id::RunId;

/// `looker` makes, for each thread, what looks at one run; `take` gets what it found. `progress`
/// hears of runs looked at and runs in all.
pub(in crate::services) fn each<T: Send, L: FnMut(RunId) -> T>(
    ids: Vec<RunId>,
    looker: impl Fn() -> L + Sync,
    take: impl FnMut(T) + Send,
    progress: &(dyn Fn(usize, usize) + Sync),
) {
    let all = ids.len();
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(all.max(1));
    let todo = Mutex::new(ids.into_iter());
    let done = Mutex::new((0, take));
    let work = || {
        let mut look = looker();
        loop {
            let next = todo.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(id) = next else { break };
            let found = look(id);
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            let (count, take) = &mut *done;
            take(found);
            *count += 1;
            progress(*count, all);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
}
