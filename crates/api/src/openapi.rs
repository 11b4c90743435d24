//! `/openapi.json`, put together from the routes themselves, so that it cannot name one that does not exist. What a route takes and answers is
//! declared with it.

use gristmill_web::{Content, Method, Permission, Route, Routes, json, route, schema};
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
        .gives(schema::open([("openapi", schema::text()), ("paths", schema::map(schema::any()))]))
    };
    let described = routes.clone().with(own(Arc::new(Value::Null)));
    let document = Arc::new(document(&described, version));
    routes.with(own(document))
}

fn document(routes: &Routes, version: &str) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for route in routes.iter() {
        // What a path ends with is one parameter here, with its slashes escaped.
        let path = route.path.replace("{*", "{");
        paths.entry(&path).or_insert_with(|| json!({}))[route.method.as_str().to_ascii_lowercase()] = operation(route, &path);
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Gristmill", "version": version },
        "paths": paths,
        "components": { "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } } },
    })
}

fn operation(route: &Route, path: &str) -> Value {
    let names = path.split(['/', ':']).filter_map(|part| part.strip_prefix('{').and_then(|p| p.strip_suffix('}')));
    let in_path = names.map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string", "minLength": 1 } }));
    let behind = route.asks.iter().map(|(name, schema)| json!({ "name": name, "in": "query", "required": false, "schema": schema }));
    let parameters: Vec<Value> = in_path.chain(behind).collect();
    let mut operation = json!({
        "summary": route.about,
        "operationId": format!("{} {path}", route.method.as_str().to_ascii_lowercase()),
        "parameters": parameters,
        "responses": responses(route),
        "x-permission": route.permission.as_str(),
    });
    if route.permission != Permission::Public {
        operation["security"] = json!([{ "token": [] }]);
    }
    if !route.takes.is_empty() {
        let content: Map<String, Value> =
            route.takes.iter().map(|(media_type, schema)| ((*media_type).to_owned(), of_body(schema))).collect();
        operation["requestBody"] = json!({ "required": true, "content": content });
    }
    operation
}

/// What is answered, by status.
fn responses(route: &Route) -> Value {
    let mut responses: Map<String, Value> = Map::new();
    for status in route.error_statuses() {
        let body = json!({ "application/json": { "schema": route.error_schema } });
        responses
            .insert(status.as_str().to_owned(), json!({ "description": status.canonical_reason().unwrap_or("Not done"), "content": body }));
    }
    for answer in &route.answers {
        let told = responses.entry(answer.status.as_str()).or_insert_with(|| json!({}));
        told["description"] = answer.status.canonical_reason().unwrap_or("Done").into();
        match &answer.content {
            Content::Json(schema) => told["content"]["application/json"] = json!({ "schema": schema }),
            Content::Media(media_type) => told["content"][media_type] = json!({}),
            Content::Anything => told["content"]["*/*"] = json!({}),
            Content::Nothing => {}
        }
    }
    responses.into()
}

/// Of a body that is no JSON nothing is said.
fn of_body(schema: &Value) -> Value {
    if schema.is_null() { json!({}) } else { json!({ "schema": schema }) }
}
