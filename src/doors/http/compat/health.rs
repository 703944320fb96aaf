//! `/api/health`: whether messages would be taken.
//!
//! May not say anything about jobs. Invariant: it is `ok` only when the commit log says so itself.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::super::Door;
use super::super::health::must_be_ready;

/// Says whether messages would be taken.
pub(super) async fn show(State(door): State<Door>) -> Response {
    let (code, status) = match must_be_ready(&door).await {
        Ok(()) => (StatusCode::OK, "ok"),
        Err(problem) if problem.code() == "shutting_down" => {
            (StatusCode::SERVICE_UNAVAILABLE, "stopping")
        }
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "storage_failed"),
    };
    let body = json!({
        "status": status, "service": "dormouse", "version": env!("CARGO_PKG_VERSION"),
        "timestamp": door.handle.runs().clock.now().millis() / 1000,
        "ready": code == StatusCode::OK,
    });
    (code, Json(body)).into_response()
}
