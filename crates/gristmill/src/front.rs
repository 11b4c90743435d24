//! Containers of managed platforms. Such a platform knows its callers and stands in front of the container; it says in the environment where it
//! will ask.

use clap::ValueEnum;
use gristmill_kernel::{Code, Fault, Result};
use gristmill_serve::VertexPaths;
use std::collections::BTreeMap;

/// The platform in front.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Front {
    /// Vertex AI: <https://cloud.google.com/vertex-ai/docs/predictions/custom-container-requirements>.
    Vertex,
    /// SageMaker: <https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-inference-code.html>.
    #[value(name = "sagemaker")]
    SageMaker,
}

/// Where a platform asks.
#[derive(Debug, PartialEq, Eq)]
pub struct Seat {
    /// The port.
    pub port: u16,
    /// The paths that Vertex AI chose; SageMaker's are always the same.
    pub vertex: Option<VertexPaths>,
}

/// What both platforms ask if nothing else is said.
const PORT: u16 = 8080;

impl Front {
    /// The platform by its word: what an image says in `GRISTMILL_FRONT`.
    pub fn named(word: &str) -> Result<Front> {
        Front::from_str(word, false).map_err(|_| {
            Fault::invalid(Code::BAD_VALUE, format!("GRISTMILL_FRONT is `{word}`, which is no platform"))
                .fix("set it to vertex or sagemaker")
        })
    }

    /// Where it asks, as the environment says. Vertex AI always says so; where it does not, nobody stands in front.
    pub fn seat(self, vars: &BTreeMap<String, String>) -> Result<Seat> {
        let said = |name: &str| vars.get(name).filter(|value| !value.is_empty());
        let port = |name: &str| match said(name) {
            None => Ok(PORT),
            Some(text) => text.parse().map_err(|_| {
                Fault::invalid(Code::BAD_VALUE, format!("{name} is `{text}`, which is no port")).fix("set it to a number from 1 to 65535")
            }),
        };
        match self {
            Front::SageMaker => Ok(Seat { port: port("SAGEMAKER_BIND_TO_PORT")?, vertex: None }),
            Front::Vertex => {
                let path = |name: &str| {
                    said(name).cloned().ok_or_else(|| {
                        Fault::invalid(Code::MISSING_INPUT, format!("{name} is not set: this is no container of Vertex AI"))
                            .fix("start it without `vertex`; callers bring a token then")
                    })
                };
                let vertex = VertexPaths { health: path("AIP_HEALTH_ROUTE")?, predict: path("AIP_PREDICT_ROUTE")? };
                Ok(Seat { port: port("AIP_HTTP_PORT")?, vertex: Some(vertex) })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vars(of: &[(&str, &str)]) -> BTreeMap<String, String> {
        of.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_environment_says_where_a_platform_asks() {
        let paths =
            [("AIP_HEALTH_ROUTE", "/v1/endpoints/7/deployedModels/8"), ("AIP_PREDICT_ROUTE", "/v1/endpoints/7/deployedModels/8:predict")];
        let vertex = VertexPaths { health: paths[0].1.to_owned(), predict: paths[1].1.to_owned() };
        assert_eq!(Front::Vertex.seat(&vars(&paths)).expect("a seat"), Seat { port: 8080, vertex: Some(vertex.clone()) });
        let elsewhere = [paths[0], paths[1], ("AIP_HTTP_PORT", "9000")];
        assert_eq!(Front::Vertex.seat(&vars(&elsewhere)).expect("a seat"), Seat { port: 9000, vertex: Some(vertex) });
        assert_eq!(Front::SageMaker.seat(&vars(&[])).expect("a seat"), Seat { port: 8080, vertex: None });
        assert_eq!(Front::SageMaker.seat(&vars(&[("SAGEMAKER_BIND_TO_PORT", "8123")])).expect("a seat").port, 8123);
    }

    #[test]
    fn a_wrong_environment_says_what_is_wrong() {
        let fault = Front::Vertex.seat(&vars(&[("AIP_HTTP_PORT", "8080")])).expect_err("nobody is in front");
        assert!(fault.message.contains("AIP_HEALTH_ROUTE is not set") && fault.fix.is_some(), "{fault}");
        let fault = Front::SageMaker.seat(&vars(&[("SAGEMAKER_BIND_TO_PORT", "x")])).expect_err("no port");
        assert!(fault.message.contains("`x`, which is no port") && fault.fix.is_some(), "{fault}");
        assert!(Front::named("azure").expect_err("no platform").message.contains("`azure`"));
        assert_eq!(Front::named("sagemaker").expect("a platform"), Front::SageMaker);
    }
}
