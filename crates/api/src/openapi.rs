//! `/openapi.json`, put together from the routes themselves, so that it cannot name one that does not exist. What a route takes and answers is
//! declared with it.

use gristmill_kernel::Result;
use gristmill_web::{Call, Content, Method, Permission, Response, Route, Routes, StatusCode, json, plain, route, schema};
use serde_json::{Map, Value, json};
use std::sync::{Arc, OnceLock};

/// The routes with `/openapi.json`, which describes all of them and itself. Call it last.
///
/// Hundreds of operations are 0.6 MB of text, and forty of memory while they are put together, so that is done when somebody asks.
pub fn with_openapi(routes: Routes, version: &'static str) -> Routes {
    let document: Arc<OnceLock<String>> = Arc::default();
    let known = routes.clone().with(described(|_| async { json(&()) }));
    routes.with(described(move |_| {
        let text = document.get_or_init(|| self::document(&known, version).to_string()).clone();
        async move { Ok(plain(StatusCode::OK, "application/json", text)) }
    }))
}

fn described<H, F>(handler: H) -> Route
where
    H: Fn(Call) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Response>> + Send + 'static,
{
    route(Method::GET, "/openapi.json", Permission::ReadProject, handler)
        .about("This description")
        .gives(schema::open([("openapi", schema::text()), ("paths", schema::map(schema::any()))]))
}

fn document(routes: &Routes, version: &str) -> Value {
    let (mut paths, mut schemas) = (Map::new(), Map::new());
    for route in routes.iter() {
        schemas.entry(route.told.error.name).or_insert_with(|| (route.told.error.schema)());
        // What a path ends with is one parameter here, with its slashes escaped.
        let path = route.path.replace("{*", "{");
        paths.entry(&path).or_insert_with(|| json!({}))[route.method.as_str().to_ascii_lowercase()] = operation(route, &path);
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Gristmill", "version": version },
        "paths": paths,
        "components": { "schemas": schemas, "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } } },
    })
}

fn operation(route: &Route, path: &str) -> Value {
    let names = path.split(['/', ':']).filter_map(|part| part.strip_prefix('{').and_then(|p| p.strip_suffix('}')));
    let in_path = names.map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string", "minLength": 1 } }));
    let behind = route.told.asks.iter().map(|(name, schema)| json!({ "name": name, "in": "query", "required": false, "schema": schema }));
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
    if !route.told.takes.is_empty() {
        let content: Map<String, Value> =
            route.told.takes.iter().map(|(media_type, schema)| ((*media_type).to_owned(), of_body(schema))).collect();
        operation["requestBody"] = json!({ "required": true, "content": content });
    }
    operation
}

/// What is answered, by status.
fn responses(route: &Route) -> Value {
    let mut responses: Map<String, Value> = Map::new();
    for status in route.error_statuses() {
        let body = json!({ "application/json": { "schema": { "$ref": format!("#/components/schemas/{}", route.told.error.name) } } });
        responses
            .insert(status.as_str().to_owned(), json!({ "description": status.canonical_reason().unwrap_or("Not done"), "content": body }));
    }
    for answer in &route.told.answers {
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
