//! `/v1/health`: whether the daemon lives, and whether it takes work.
//!
//! May not look at runs. Invariant: these answer without a token.

use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use super::Door;

pub(super) fn routes() -> Router<Door> {
    Router::new().route("/v1/health/live", get(live))
}

async fn live() -> Json<Value> {
    Json(json!({ "status": "ok", "service": "dormouse", "version": env!("CARGO_PKG_VERSION") }))
}
