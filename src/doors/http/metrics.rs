//! `/metrics`: the numbers; and what is counted about requests.
//!
//! May not know what a route does. Invariant: a request counts under its route, never under its
//! path, so that no id becomes a label.

use std::sync::Arc;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::Door;
use super::body::gave_up;
use super::problem::Answer;
use crate::daemon::metrics;
use crate::ground::clock::Stopwatch;
use crate::ports::telemetry::Metrics;

pub(super) fn routes() -> Router<Door> {
    Router::new().route("/metrics", get(show))
}

async fn show(State(door): State<Door>) -> Answer<impl IntoResponse> {
    let exposition = Arc::clone(&door.exposition);
    // The index is asked for its counts.
    let text = tokio::task::spawn_blocking(move || exposition.render()).await;
    Ok(([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text.map_err(|_| gave_up())?))
}

/// Counts a request and its answer.
pub(super) async fn observe(
    State(metrics): State<Arc<Metrics>>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.extensions().get::<MatchedPath>().cloned();
    let route = path.as_ref().map_or("unmatched", MatchedPath::as_str);
    let watch = Stopwatch::start();
    let response = next.run(request).await;
    metrics.http_request.with([route]).observe(watch.seconds());
    metrics.http_requests.with([route, response.status().as_str()]).one();
    response
}
