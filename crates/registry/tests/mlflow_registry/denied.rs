//! No route without its permission: every one of this side of the protocol is tried without a token and with another permission's.

use crate::server::Server;
use gristmill_web::Permission;

/// Whether a route is of this side.
fn is_ours(path: &str) -> bool {
    ["registered-models", "model-versions", "mlflow-artifacts", "/artifacts/", "artifact", "webhooks"]
        .iter()
        .any(|part| path.contains(part))
}

#[tokio::test]
async fn every_route_refuses_strangers_and_the_wrong_permission() {
    let server = Server::new().await;
    let mut tried = 0;
    for route in server.routes.iter().filter(|route| is_ours(&route.path)) {
        let path = route.path.replace("{*path}", "0/r/x").replace("{*rest}", "x");
        let path = path.replace(['{', '}'], "");
        let (status, answer) = server.asked(None, route.method.as_str(), &path, None).await;
        if route.permission == Permission::Public {
            assert!(status == 400 || status == 403, "{} {path} without a signature: {status} {answer}", route.method);
        } else {
            assert_eq!((status, answer["error_code"].as_str()), (401, Some("UNAUTHENTICATED")), "{} {path}", route.method);
            let other = if route.permission == Permission::Predict { Permission::Ingest } else { Permission::Predict };
            let (status, answer) = server.asked(Some(other.as_str()), route.method.as_str(), &path, None).await;
            assert_eq!((status, answer["error_code"].as_str()), (403, Some("PERMISSION_DENIED")), "{} {path}", route.method);
        }
        tried += 1;
    }
    assert!(tried >= 80, "only {tried} routes were found");
}

#[tokio::test]
async fn writes_need_more_than_reading() {
    let server = Server::new().await;
    for route in server.routes.iter().filter(|route| is_ours(&route.path) && route.permission == Permission::ReadProject) {
        let reads = route.method == gristmill_web::Method::GET
            || route.path.ends_with("get-latest-versions")
            || route.path.ends_with("presigned-download-url")
            || route.path.ends_with("/search")
            || route.path.ends_with("{*rest}");
        assert!(reads, "{} {} needs only to read", route.method, route.path);
    }
    for (path, permission) in [
        ("/api/2.0/mlflow/registered-models/alias", Permission::MoveAlias),
        ("/api/2.0/mlflow/model-versions/transition-stage", Permission::MoveAlias),
        ("/api/2.0/mlflow/webhooks", Permission::Administer),
        ("/api/2.0/mlflow/registered-models/create", Permission::Track),
    ] {
        let found = server.routes.iter().find(|r| r.path == path && r.method == gristmill_web::Method::POST).expect(path);
        assert_eq!(found.permission, permission, "{path}");
    }
}
