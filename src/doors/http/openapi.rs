//! The contract (`OpenAPI` 3.1), made of the routes themselves, served at `/v1/openapi.json`.
//!
//! May not say what no route does. Invariant: every answer that a route can give stands in it.

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{
    Components, Content, InfoBuilder, OpenApi, OpenApiBuilder, PathItem, Ref, ResponseBuilder,
};
use utoipa::{PartialSchema as _, ToSchema as _};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Door;
use super::problem::Details;

/// Why a request can fail, by status: of every route, of those with a right, of those with a body.
const OPEN: &[(&str, &str)] = &[
    ("400", "The request makes no sense"),
    ("403", "Refused by Host, Origin or right"),
    ("415", "Not JSON, or encoded"),
    ("500", "A bug"),
    ("503", "Not now, or the outcome is unknown"),
];
const SECURED: &[(&str, &str)] = &[
    ("401", "No token, or one that is not known"),
    ("404", "There is no such thing"),
    ("409", "Something else stands, or the run is damaged"),
    ("422", "Unknown members, or refused by a rule"),
    ("429", "Too much at once"),
];
const WITH_BODY: &[(&str, &str)] =
    &[("408", "The body did not come in time"), ("413", "Too large"), ("507", "The disk is full")];

pub(super) fn routes() -> OpenApiRouter<Door> {
    OpenApiRouter::new().routes(routes!(openapi))
}

/// This contract
#[utoipa::path(
    get, path = "/v1/openapi.json", operation_id = "openapi",
    tag = "daemon", security(("token" = ["run.read"])),
    responses((status = 200, description = "OpenAPI 3.1", body = Object)),
)]
async fn openapi(State(door): State<Door>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], door.contract.clone())
}

/// What stands in the contract before any route.
pub(super) fn frame() -> OpenApi {
    let mut components = Components::new();
    let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    components.add_security_scheme("token", scheme);
    components.schemas.insert(Details::name().into_owned(), Details::schema());
    for (status, why) in [OPEN, SECURED, WITH_BODY].into_iter().flatten() {
        let content = Content::new(Some(Ref::from_schema_name("Problem")));
        let response = ResponseBuilder::new().description(*why);
        let response = response.content("application/problem+json", content).build();
        components.responses.insert(name_of(status), response.into());
    }
    let info = InfoBuilder::new()
        .title("dormouse")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some("Durable execution: runs, their tasks, their journals."));
    OpenApiBuilder::new().info(info.build()).components(Some(components)).build()
}

/// Adds to each route how it can fail, and prints the contract.
pub(super) fn finish(mut api: OpenApi) -> String {
    for item in api.paths.paths.values_mut() {
        for operation in operations(item) {
            let open = operation.security.as_ref().is_some_and(|s| {
                serde_json::to_value(s).is_ok_and(|s| s == serde_json::json!([{}]))
            });
            let mut tables = vec![OPEN];
            tables.extend((!open).then_some(SECURED));
            tables.extend(operation.request_body.is_some().then_some(WITH_BODY));
            for (status, _) in tables.into_iter().flatten() {
                let problem = Ref::from_response_name(name_of(status));
                operation.responses.responses.insert((*status).to_owned(), problem.into());
            }
        }
    }
    let mut text = api.to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

/// The name of the answer that a failing request gets.
fn name_of(status: &str) -> String {
    format!("Problem{status}")
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.post, &mut item.put].into_iter().flatten()
}
