//! `/v1/agents`: which agents effects may name, and how each is reached.
//!
//! May not ask an agent. Invariant: what is listed is what the next effect meets.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Door;
use super::body;
use super::problem::Answer;
use crate::services::executor::agents::agent::{Agent, AgentKind};
use crate::services::executor::guard::{self, Origin};

pub(super) fn routes() -> OpenApiRouter<Door> {
    OpenApiRouter::new().routes(routes!(agents))
}

/// The agents of `agents.yaml`
#[derive(Debug, Serialize, ToSchema)]
struct Agents {
    /// By id
    agents: Vec<AgentShown>,
}

/// An agent
#[derive(Debug, Serialize, ToSchema)]
struct AgentShown {
    /// What effects call it
    id: String,
    /// `external_http`, `command`, `process`, `workflow`, `echo`, `external`, `unsupported`
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    kind: &'static str,
    /// What it is for
    #[schema(required)]
    description: Option<String>,
    /// Where it is: the origin of its URL, its program, its process or document; null if it is
    /// here, or nowhere
    #[schema(required)]
    origin: Option<String>,
    /// What is wrong with it
    problems: Vec<String>,
}

impl From<(&String, &Agent)> for AgentShown {
    fn from((id, agent): (&String, &Agent)) -> Self {
        let mut problems = agent.problems.clone();
        let origin = match &agent.kind {
            AgentKind::Http(endpoint) => {
                guard::read(&endpoint.url).ok().map(|url| Origin::of(&url).to_string())
            }
            AgentKind::Command(line) => line.argv.first().cloned(),
            AgentKind::Process { entry: place } | AgentKind::Workflow { document: place } => {
                Some(place.clone())
            }
            AgentKind::Unsupported { why } => {
                problems.insert(0, why.clone());
                None
            }
            AgentKind::Echo | AgentKind::External => None,
        };
        let (kind, description) = (agent.kind.name(), agent.description.clone());
        Self { id: id.clone(), kind, description, origin, problems }
    }
}

/// List agents
#[utoipa::path(
    get, path = "/v1/agents", operation_id = "listAgents",
    tag = "work", security(("token" = ["run.read"])),
    responses((status = 200, description = "By id", body = Agents)),
)]
async fn agents(State(door): State<Door>) -> Answer<Json<Agents>> {
    let book = std::sync::Arc::clone(&door.compat.agents);
    // The file may have changed: it is read where nobody waits for it.
    let listed = tokio::task::spawn_blocking(move || book.agents()).await;
    let listed = listed.map_err(|_| body::gave_up())?;
    Ok(Json(Agents { agents: listed.agents.iter().map(Into::into).collect() }))
}
