//! The index as lists ask it.
//!
//! May not know what is asked. Invariant: an index that is being made anew answers nothing, rather
//! than too little.

use axum::http::StatusCode;

use super::problem::{Answer, Problem};
use crate::services::indexer::Unavailable;
use crate::services::manager::Handle;
use crate::shells::store::{self, Index};

/// Asks the index something short.
pub(super) async fn ask<T: Send + 'static>(
    handle: &Handle,
    ask: impl FnOnce(&Index) -> store::Result<T> + Send + 'static,
) -> Answer<T> {
    let answer = handle.indexer().query(ask).await;
    answer.unwrap_or(Err(Unavailable::Stopped)).map_err(unavailable)
}

/// Why the index does not answer.
pub(super) fn unavailable(why: Unavailable) -> Problem {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    match why {
        Unavailable::Rebuilding | Unavailable::Busy => {
            Problem::new("index_rebuilding", status, why.to_string()).next("ask again in a second")
        }
        Unavailable::Stopped => Problem::new("shutting_down", status, "the daemon is stopping"),
    }
}
