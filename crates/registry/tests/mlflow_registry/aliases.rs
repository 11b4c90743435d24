//! Aliases: free where nobody judges, behind their gates where the project does.

use crate::server::Server;
use gristmill_kernel::{AliasName, Name};
use gristmill_registry::{GateSpec, GateStage};
use serde_json::json;

const INVALID: &str = "INVALID_PARAMETER_VALUE";

#[tokio::test]
async fn an_alias_is_given_looked_at_moved_and_taken_away() {
    let server = Server::new().await;
    let run = server.registered("m").await;
    let source = server.ok("GET", "model-versions/get?name=m&version=1", json!(null)).await["model_version"]["source"].clone();
    server.ok("POST", "model-versions/create", json!({ "name": "m", "source": source, "run_id": run })).await;
    let give = |version: &str| json!({ "name": "m", "alias": "champion", "version": version });
    for version in ["1", "1", "2"] {
        assert_eq!(server.ok("POST", "registered-models/alias", give(version)).await, json!({}), "twice is fine");
    }
    let found = server.ok("GET", "registered-models/alias?name=m&alias=champion", json!(null)).await;
    assert_eq!((found["model_version"]["version"].as_str(), found["model_version"]["aliases"].clone()), (Some("2"), json!(["champion"])));
    assert_eq!(server.world.alias("models.m", "champion").await, Some(2), "it is the ledger's own alias");
    let history =
        server.world.ports.ledger.alias_history(&"models.m".parse().expect("an address"), &AliasName::champion()).await.expect("read");
    let told: Vec<_> = history.iter().map(|move_| (move_.number, move_.actor.0.as_str(), move_.reason.as_str())).collect();
    assert_eq!(told, [(Some(2), "user:ada", "set by a tracking client"), (Some(1), "user:ada", "set by a tracking client")]);
    for _ in 0..2 {
        assert_eq!(
            server.ok("DELETE", "registered-models/alias", json!({ "name": "m", "alias": "champion" })).await,
            json!({}),
            "twice is fine"
        );
    }
    server
        .refused(
            "GET",
            "registered-models/alias?name=m&alias=champion",
            json!(null),
            (400, INVALID, "Registered model alias champion not found."),
        )
        .await;
    let latest = server.ok("GET", "registered-models/alias?name=m&alias=Latest", json!(null)).await;
    assert_eq!(latest["model_version"]["version"], "2");
}

#[tokio::test]
async fn what_is_reserved_unknown_or_wrong_is_said_in_mlflows_words() {
    let server = Server::new().await;
    server.registered("m").await;
    server.ok("POST", "registered-models/create", json!({ "name": "empty" })).await;
    let give = |name: &str, alias: &str, version: &str| json!({ "name": name, "alias": alias, "version": version });
    for (body, wanted) in [
        (give("m", "latest", "1"), (400, INVALID, "'latest' alias name (case insensitive) is reserved.")),
        (give("m", "V7", "1"), (400, INVALID, "Version alias name 'V7' is reserved.")),
        (give("m", "a b", "1"), (400, INVALID, "Invalid alias name: 'a b'.")),
        (give("m", "", "1"), (400, INVALID, "Missing value for required parameter 'alias'.")),
        (give("m", "best", "9"), (404, "RESOURCE_DOES_NOT_EXIST", "Model Version (name=m, version=9) not found")),
        (give("m", "best", "x"), (400, INVALID, "Parameter 'version' must be an integer, got 'x'.")),
        (give("nobody", "best", "1"), (404, "RESOURCE_DOES_NOT_EXIST", "Model Version (name=nobody, version=1) not found")),
    ] {
        server.refused("POST", "registered-models/alias", body, wanted).await;
    }
    let nobody = (404, "RESOURCE_DOES_NOT_EXIST", "Registered Model with name=nobody not found");
    server.refused("GET", "registered-models/alias?name=nobody&alias=x", json!(null), nobody).await;
    server.refused("DELETE", "registered-models/alias", json!({ "name": "nobody", "alias": "x" }), nobody).await;
    server
        .refused(
            "GET",
            "registered-models/alias?name=empty&alias=latest",
            json!(null),
            (404, "RESOURCE_DOES_NOT_EXIST", "Latest version not found for model empty."),
        )
        .await;
}

async fn judge(server: &Server, gates: &[&str]) {
    let spec = GateSpec {
        model: Name::new("churn").expect("a name"),
        gates: gates.iter().map(|g| (*g).to_owned()).collect(),
        measure: "auc".into(),
        promote_to: AliasName::challenger(),
    };
    server.world.step(&GateStage, "gates.churn", &spec, &["models.churn"]).await.expect("judged");
}

#[tokio::test]
async fn no_client_goes_around_a_gate() {
    let server = Server::new().await;
    server.world.trained("models.churn", &[("auc", 0.6)], &[]).await;
    let give = |alias: &str, version: &str| json!({ "name": "churn", "alias": alias, "version": version });
    let conflict = |words| (409, "RESOURCE_CONFLICT", words);
    // What the project trains is a registered model, and waits for a verdict even before its gates were asked for the first time.
    assert_eq!(server.ok("GET", "registered-models/get?name=churn", json!(null)).await["registered_model"]["name"], "churn");
    server.refused("POST", "registered-models/alias", give("champion", "1"), conflict("its gates have not been asked")).await;
    judge(&server, &["auc >= 0.7"]).await;
    for alias in ["champion", "challenger"] {
        server.refused("POST", "registered-models/alias", give(alias, "1"), conflict("auc >= 0.7 is fail")).await;
        assert_eq!(server.world.alias("models.churn", alias).await, None);
    }
    // A version that a client registers beside it has no verdict either.
    let (run, key) = server.run_with_model().await;
    server
        .ok("POST", "model-versions/create", json!({ "name": "churn", "source": format!("mlflow-artifacts:/{key}"), "run_id": run }))
        .await;
    server.refused("POST", "registered-models/alias", give("champion", "2"), conflict("its gates have not been asked")).await;
    // Other aliases are nobody's business, and stages move none.
    server.ok("POST", "registered-models/alias", give("candidate", "2")).await;
    server.ok("POST", "model-versions/transition-stage", json!({ "name": "churn", "version": "2", "stage": "Production" })).await;
    assert_eq!(server.world.alias("models.churn", "champion").await, None);

    server.world.trained("models.churn", &[("auc", 0.8)], &[]).await;
    judge(&server, &["auc >= 0.7"]).await;
    server.ok("POST", "registered-models/alias", give("champion", "3")).await;
    assert_eq!(server.world.alias("models.churn", "champion").await, Some(3));
    let taken = json!({ "name": "churn", "alias": "champion" });
    server.refused("DELETE", "registered-models/alias", taken, conflict("is not taken away by a client")).await;
    let version = json!({ "name": "churn", "version": "3" });
    server.refused("DELETE", "model-versions/delete", version, conflict("is the cha")).await;
    server.ok("DELETE", "registered-models/alias", json!({ "name": "churn", "alias": "candidate" })).await;
    assert_eq!(server.world.alias("models.churn", "champion").await, Some(3), "it stands where the verdict put it");
}
