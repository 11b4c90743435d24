//! What MLflow has and this server has not: each path beneath MLflow's is answered, in its shape.
//!
//! A part that is left out on purpose answers 501, with the reason; any other path is unknown, 404. Both ask for a login like the rest.

use super::Mlflow;
use super::error::not_supported;
use gristmill_kernel::{Code, Fault, Result};
use gristmill_web::{Call, Method, Permission, Response, Routes};
use std::sync::Arc;

/// Parts that are left out: how their paths begin behind `/mlflow/`, and what they are.
const LEFT_OUT: &[(&str, &str)] = &[
    ("gateway", "the AI gateway"),
    ("workspaces", "workspaces"),
    ("scorers", "scorers"),
    ("scorer", "scorers"),
    ("prompt-optimization", "prompt optimization"),
    ("prompt_optimization", "prompt optimization"),
    ("review-queues", "review queues"),
    ("label-schemas", "label schemas"),
    ("issues", "issues"),
    ("jobs", "jobs"),
    ("genai", "evaluation on the server"),
    ("demo", "demo data"),
    ("mcp-servers", "MCP servers"),
    ("skills", "skills"),
    ("assistant", "the assistant"),
    ("runs/create-promptlab-run", "the prompt lab"),
    ("users", "MLflow's own users; this server has its own"),
    ("roles", "MLflow's own roles; this server has its own"),
];

pub(super) fn routes(m: &Arc<Mlflow>) -> Routes {
    let methods = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    let bases = ["/api/2.0/mlflow", "/ajax-api/2.0/mlflow", "/api/3.0/mlflow", "/ajax-api/3.0/mlflow"];
    let mut routes = Vec::new();
    for method in &methods {
        for base in bases {
            routes.push(super::at(m, method, &format!("{base}/{{*rest}}"), Permission::ReadProject, refuse));
        }
    }
    for path in ["/graphql", "/ajax-api/2.0/mlflow/graphql"] {
        for method in [Method::GET, Method::POST] {
            routes.push(super::at(m, &method, path, Permission::ReadProject, refuse_graphql));
        }
    }
    routes.into()
}

async fn refuse_graphql(_: Arc<Mlflow>, _: Call) -> Result<Response> {
    Err(not_supported("GraphQL is not supported by this server").fix("use the REST API; it answers the same questions"))
}

async fn refuse(_: Arc<Mlflow>, call: Call) -> Result<Response> {
    Err(refusal(call.param("rest")?, &format!("{} {}", call.method(), call.path())))
}

fn refusal(rest: &str, asked: &str) -> Fault {
    let is = |begins: &str| rest.strip_prefix(begins).is_some_and(|tail| tail.is_empty() || tail.starts_with('/'));
    match LEFT_OUT.iter().find(|(begins, _)| is(begins)) {
        Some((_, what)) => not_supported(format!("not supported by this server: {what}")),
        None => Fault::not_found(Code::NO_ROUTE, format!("there is no {asked}")).fix("GET /openapi.json lists the routes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::mlflow::error::{Word, word};

    #[test]
    fn parts_left_out_say_so_and_the_rest_is_unknown() {
        for rest in ["gateway/endpoints/list", "workspaces", "workspaces/team-a", "runs/create-promptlab-run"] {
            assert_eq!(word(&refusal(rest, "GET x")), Word::NotImplemented, "{rest}");
        }
        for rest in ["", "runs/destroy", "gatewayx", "runs"] {
            assert_eq!(word(&refusal(rest, "GET x")), Word::EndpointNotFound, "{rest}");
        }
    }
}
