//! One binary for all end-to-end tests, so that it links once.

mod apply;
mod bad_input;
mod dataset;
mod demo;
mod examples;
mod feast;
mod hot_swap;
mod inference;
mod kill9;
mod kill_parity;
mod lost_store;
mod mlflow;
mod mlflow_import;
mod mlflow_kill9;
mod mlflow_opens;
mod mlflow_own;
mod mlflow_purge;
mod mlflow_serve;
mod overload;
mod parity;
mod readme;
mod releases;
mod replay;
mod request_views;
mod serving;
mod written_tests;
