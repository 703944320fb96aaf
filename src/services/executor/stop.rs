//! Asking an attempt to stop.
//!
//! May not know what the attempt does. Invariant: what was asked stays asked, and the first reason
//! counts.

use tokio::sync::watch;

/// Why an attempt is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopWhy {
    /// Its run or its process gave it up.
    Cancelled,
    /// It took as long as it may.
    TimedOut,
    /// The daemon ends.
    Draining,
}

/// The side that asks.
#[derive(Debug)]
pub struct Stopper(watch::Sender<Option<StopWhy>>);

/// The side that is asked.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<Option<StopWhy>>);

impl Stopper {
    /// Both sides, before anything was asked.
    #[must_use]
    pub fn new() -> (Self, Stop) {
        let (sender, receiver) = watch::channel(None);
        (Self(sender), Stop(receiver))
    }

    /// Asks the attempt to stop.
    pub fn stop(&self, why: StopWhy) {
        self.0.send_if_modified(|asked| {
            let first = asked.is_none();
            asked.get_or_insert(why);
            first
        });
    }
}

impl Stop {
    /// Comes when the attempt is to stop; at once when it was asked before.
    pub async fn asked(&mut self) -> StopWhy {
        match self.0.wait_for(Option::is_some).await.map(|asked| *asked) {
            Ok(Some(why)) => why,
            // Nobody is left who could ask.
            _ => std::future::pending().await,
        }
    }

    /// Whether it was asked.
    #[must_use]
    pub fn why(&self) -> Option<StopWhy> {
        *self.0.borrow()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_reason_counts_and_stays() {
        let (stopper, stop) = Stopper::new();
        assert_eq!(stop.why(), None);
        stopper.stop(StopWhy::Cancelled);
        stopper.stop(StopWhy::Draining);
        assert_eq!(stop.clone().asked().await, StopWhy::Cancelled);
        drop(stopper);
        assert_eq!(stop.clone().asked().await, StopWhy::Cancelled, "it stays asked");
    }
}
