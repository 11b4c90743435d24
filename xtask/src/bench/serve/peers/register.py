"""Registers a saved model with an unmodified client and points `champion` at it: register.py FOLDER NAME. The server is MLFLOW_TRACKING_URI."""

import sys

import mlflow


def main(folder, name):
    with mlflow.start_run():
        mlflow.log_artifacts(folder, artifact_path="model")
        uri = mlflow.get_artifact_uri("model")
        run = mlflow.active_run().info.run_id
    client = mlflow.MlflowClient()
    client.create_registered_model(name)
    version = client.create_model_version(name, uri, run_id=run)
    client.set_registered_model_alias(name, "champion", version.version)


if __name__ == "__main__":
    main(*sys.argv[1:])
