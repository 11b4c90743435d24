//! `/openapi.json`, put together from the routes themselves, so that it cannot name one that does not exist.

use gristmill_web::{Method, Permission, Route, Routes, json, route};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// The routes with `/openapi.json`, which describes all of them and itself. Call it last.
pub fn with_openapi(routes: Routes, version: &str) -> Routes {
    let own = |document: Arc<Value>| {
        route(Method::GET, "/openapi.json", Permission::ReadProject, move |_| {
            let document = document.clone();
            async move { json(&*document) }
        })
        .about("This description")
    };
    let described = routes.clone().with(own(Arc::new(Value::Null)));
    let document = Arc::new(document(&described, version));
    routes.with(own(document))
}

fn document(routes: &Routes, version: &str) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for route in routes.iter() {
        paths.entry(&route.path).or_insert_with(|| json!({}))[route.method.as_str().to_ascii_lowercase()] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Gristmill", "version": version },
        "paths": paths,
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            "schemas": { "Error": {
                "type": "object",
                "required": ["code", "message", "id"],
                "properties": {
                    "code": { "type": "string", "description": "stable; `gristmill explain CODE` shows its page" },
                    "message": { "type": "string" },
                    "fix": { "type": ["string", "null"] },
                    "id": { "type": "string", "description": "stands in the server's log" },
                },
            }},
        },
    })
}

fn operation(route: &Route) -> Value {
    let names = route.path.split('/').filter_map(|part| part.strip_prefix('{').and_then(|p| p.strip_suffix('}')));
    let parameters: Vec<Value> =
        names.map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } })).collect();
    let error =
        json!({ "description": "Not done", "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } } });
    let mut operation = json!({
        "summary": route.about,
        "operationId": format!("{} {}", route.method.as_str().to_ascii_lowercase(), route.path),
        "parameters": parameters,
        "responses": { "200": { "description": "Done" }, "default": error },
        "x-permission": route.permission.as_str(),
    });
    if route.permission != Permission::Public {
        operation["security"] = json!([{ "token": [] }]);
    }
    if route.method == Method::POST {
        operation["requestBody"] = json!({ "content": { "application/json": { "schema": {} } } });
    }
    operation
}
