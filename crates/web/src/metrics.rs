//! The page that Prometheus reads: each part of the system contributes its own lines.

use crate::answer::plain;
use crate::route::{Routes, route};
use gristmill_auth::Permission;
use http::{Method, StatusCode};
use std::sync::{Arc, RwLock};

type Contributor = Arc<dyn Fn() -> String + Send + Sync>;

/// `/metrics`, put together from contributors. Each returns whole lines in the Prometheus text format, with `# HELP` and `# TYPE`.
#[derive(Clone, Default)]
pub struct MetricsPage(Arc<RwLock<Vec<Contributor>>>);

impl MetricsPage {
    /// Without contributors.
    pub fn new() -> MetricsPage {
        MetricsPage::default()
    }
    /// Adds a contributor. It must be quick and must not block: it runs on each scrape.
    pub fn add(&self, contributor: impl Fn() -> String + Send + Sync + 'static) {
        self.0.write().unwrap_or_else(|e| e.into_inner()).push(Arc::new(contributor));
    }
    /// The page as it stands.
    pub fn render(&self) -> String {
        let contributors: Vec<Contributor> = self.0.read().unwrap_or_else(|e| e.into_inner()).clone();
        contributors
            .iter()
            .map(|lines| {
                let mut lines = lines();
                if !lines.is_empty() && !lines.ends_with('\n') {
                    lines.push('\n');
                }
                lines
            })
            .collect()
    }
    /// `GET /metrics`.
    pub fn routes(&self) -> Routes {
        let page = self.clone();
        Routes::new().with(
            route(Method::GET, "/metrics", Permission::ReadProject, move |_| {
                let text = page.render();
                async move { Ok(plain(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)) }
            })
            .about("Figures in the Prometheus text format")
            .gives_media("text/plain"),
        )
    }
}

/// A label's value, escaped for the Prometheus text format.
pub fn label(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
