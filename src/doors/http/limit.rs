//! `/v1/limits`: how many effects may be at work, and how many may start.
//!
//! May not judge a limit. Invariant: what was set counts when the answer is given, and is durable.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Door;
use super::body::{Named, Strict};
use super::problem::{Answer, Problem};
use crate::doors::limits::{LimitShown, LimitWanted, LimitsShown};
use crate::machines::limits::{Bucket, Scope};
use crate::services::limits::Written;

pub(super) fn routes() -> OpenApiRouter<Door> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(show, set))
}

/// List the limits that are set
#[utoipa::path(
    get, path = "/v1/limits", operation_id = "listLimits",
    tag = "limits", security(("token" = ["run.read"])),
    responses((status = 200, description = "The limits", body = LimitsShown)),
)]
async fn list(State(door): State<Door>) -> Answer<Json<LimitsShown>> {
    let limits = door.handle.limits().await?;
    Ok(Json(LimitsShown { limits: limits.into_iter().map(LimitShown::from).collect() }))
}

/// Show a limit, who has its slots and who waits
#[utoipa::path(
    get, path = "/v1/limits/{scope}/{name}", operation_id = "showLimit",
    tag = "limits", security(("token" = ["run.read"])),
    params(
        ("scope" = String, Path, description = "`kind` or `key`"),
        ("name" = String, Path, description = "The kind, the key, or `NAME:*`; `/` as `%2F`"),
    ),
    responses((status = 200, description = "The limit", body = LimitShown)),
)]
async fn show(
    State(door): State<Door>,
    Named((scope, name)): Named<(String, String)>,
) -> Answer<Json<LimitShown>> {
    let place = place(&scope, &name)?;
    Ok(Json(door.handle.limit(&place).await?.into()))
}

/// Set a limit while the daemon runs
///
/// It is kept over restarts. What waits is started at once if there is room now; what is at work
/// goes on.
#[utoipa::path(
    put, path = "/v1/limits/{scope}/{name}", operation_id = "setLimit",
    tag = "limits", security(("token" = ["run.operate"])),
    params(
        ("scope" = String, Path, description = "`kind` or `key`"),
        ("name" = String, Path, description = "The kind, the key, or `NAME:*`; `/` as `%2F`"),
    ),
    request_body = LimitWanted,
    responses((status = 200, description = "What counts now", body = LimitShown)),
)]
async fn set(
    State(door): State<Door>,
    Named((scope, name)): Named<(String, String)>,
    Strict(wanted): Strict<LimitWanted>,
) -> Answer<Json<LimitShown>> {
    let place = place(&scope, &name)?;
    let limit = Written::from(wanted).read().map_err(invalid)?;
    door.handle.set_limit(&place, limit).await?;
    Ok(Json(door.handle.limit(&place).await?.into()))
}

fn place(scope: &str, name: &str) -> Answer<Bucket> {
    let Some(scope) = Scope::named(scope) else {
        return Err(invalid(format!("a limit is of a kind or of a key, not of a {scope:?}")));
    };
    Bucket::limited(scope, name).map_err(invalid)
}

fn invalid(what: String) -> Problem {
    Problem::new("limit_invalid", StatusCode::BAD_REQUEST, what).next("dormouse limits set --help")
}
