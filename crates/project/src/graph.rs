//! The project as the kernel's graph: one node per asset, its spec, and the assets it reads.
//!
//! `raw.S -> sources.S -> features.V, labels.L -> training_sets.M -> models.M -> gates.M -> endpoints.E -> monitors.E`.
//! An endpoint of a registered model stands alone: its versions come from clients, not from nodes.
//! Which sources a query reads comes from parsing its SQL. Invariant: specs hold the normalised SQL and no file position, so comments,
//! formatting and moved lines leave every fingerprint as it was.

use crate::project::Project;
use crate::resolve;
use crate::text::did_you_mean;
use gristmill_deploy::spec::DeploySpec;
use gristmill_features::spec::{FeaturesSpec, TrainingSetSpec};
use gristmill_kernel::graph::{Graph, Node};
use gristmill_kernel::port::{Analysis, Engine};

use gristmill_kernel::view::{REQUEST, ViewAt};
use gristmill_kernel::{Address, AssetKind, Code, Fault, Name, StageKind};
use gristmill_retrain::spec::RetrainSpec;
use std::collections::{BTreeMap, BTreeSet};

/// A query of the project and what it reads.
pub(crate) struct Reads {
    pub(crate) analysis: Analysis,
    /// Source -> event time column.
    pub(crate) tables: BTreeMap<String, Option<String>>,
}

impl Project {
    /// The graph of the project. On failure: everything that is wrong with its queries.
    pub fn graph(&self, engine: &dyn Engine) -> Result<Graph, Vec<Fault>> {
        let mut faults = Vec::new();
        let mut nodes = Vec::new();
        for name in self.file.sources.keys() {
            push(&mut nodes, StageKind::Ingest, (AssetKind::Raw, name), resolve::source(self, name), vec![]);
            let parents = vec![Address::new(AssetKind::Raw, name.clone())];
            push(&mut nodes, StageKind::Validate, (AssetKind::Sources, name), resolve::validate(self, name), parents);
        }
        for (name, view) in &self.views {
            match self.reads(engine, &view.sql, &view.file, view.line_offset, view.at == ViewAt::Request) {
                Ok(reads) => {
                    let mut view = view.clone();
                    view.sql = reads.analysis.normalised.clone();
                    view.line_offset = 0;
                    let parents = sources(&reads);
                    let spec = FeaturesSpec::View { view, tables: reads.tables };
                    push(&mut nodes, StageKind::Features, (AssetKind::Features, name), Some(spec), parents);
                }
                Err(mut more) => faults.append(&mut more),
            }
        }
        for (name, labels) in &self.labels {
            match self.reads(engine, &labels.sql, &labels.file, labels.line_offset, false) {
                Ok(reads) => {
                    let mut labels = labels.clone();
                    labels.sql = reads.analysis.normalised.clone();
                    labels.line_offset = 0;
                    let parents = sources(&reads);
                    let spec = FeaturesSpec::Labels { labels, tables: reads.tables };
                    push(&mut nodes, StageKind::Features, (AssetKind::Labels, name), Some(spec), parents);
                }
                Err(mut more) => faults.append(&mut more),
            }
        }
        self.model_nodes(&mut nodes);
        self.endpoint_nodes(&mut nodes);
        if !faults.is_empty() {
            return Err(faults);
        }
        Graph::new(nodes).map_err(|f| vec![f])
    }

    /// When models are trained again.
    pub fn retrain(&self) -> Vec<RetrainSpec> {
        resolve::retrain(self)
    }

    fn model_nodes(&self, nodes: &mut Vec<Node>) {
        for (name, model) in &self.file.models {
            let Some(labels) = model.labels.as_ref().and_then(|l| self.label_set(l)) else { continue };
            let mut parents = vec![Address::new(AssetKind::Labels, labels.name.clone())];
            parents.extend(model.features.iter().map(|v| Address::new(AssetKind::Features, v.clone())));
            let spec = FeaturesSpec::TrainingSet(TrainingSetSpec {
                name: name.clone(),
                labels: labels.name.clone(),
                views: model.features.clone(),
                split: resolve::split(model),
                group: model.group.clone(),
                known: model.known.into(),
            });
            push(nodes, StageKind::Features, (AssetKind::TrainingSets, name), Some(spec), parents);
            let parents = vec![Address::new(AssetKind::TrainingSets, name.clone())];
            push(nodes, StageKind::Train, (AssetKind::Models, name), resolve::train(self, name), parents);
            let parents = vec![Address::new(AssetKind::Models, name.clone())];
            push(nodes, StageKind::Gate, (AssetKind::Gates, name), resolve::gate(self, name), parents);
        }
    }

    fn endpoint_nodes(&self, nodes: &mut Vec<Node>) {
        for (name, endpoint) in &self.file.endpoints {
            let gates = endpoint.model.own().map(|model| Address::new(AssetKind::Gates, model.clone()));
            if gates.as_ref().is_some_and(|gates| !nodes.iter().any(|n| n.address == *gates)) {
                continue;
            }
            let spec = resolve::serve(self, name).and_then(|s| serde_json::to_value(s).ok()).map(|serve| DeploySpec {
                endpoint: name.clone(),
                model: endpoint.model.clone(),
                rollout: resolve::rollout(self, endpoint),
                freeze: endpoint.freeze.clone(),
                serve,
            });
            push(nodes, StageKind::Deploy, (AssetKind::Endpoints, name), spec, gates.into_iter().collect());
            let mut parents = vec![Address::new(AssetKind::Endpoints, name.clone())];
            // Made by serving, not by a node: a monitor run is due again when there are new predictions.
            parents.push(Address::new(AssetKind::Predictions, name.clone()));
            let decides = resolve::decide(self, endpoint).map(|decide| decide.labels);
            let labels: BTreeSet<Name> = resolve::outcomes(self, endpoint).into_iter().chain(decides).collect();
            parents.extend(labels.into_iter().map(|l| Address::new(AssetKind::Labels, l)));
            push(nodes, StageKind::Monitor, (AssetKind::Monitors, name), resolve::monitor(self, name), parents);
        }
    }

    /// Parses a query and finds the sources it reads.
    pub(crate) fn reads(&self, engine: &dyn Engine, sql: &str, file: &str, line_offset: usize, request: bool) -> Result<Reads, Vec<Fault>> {
        let analysis = engine.analyse(sql, file, line_offset).map_err(|f| vec![f])?;
        let mut tables = BTreeMap::new();
        let mut faults = Vec::new();
        for table in &analysis.tables {
            if let Some((_, source)) = self.file.sources.iter().find(|(name, _)| name.as_str() == table) {
                tables.insert(table.clone(), source.time.clone());
            } else if table != REQUEST || !request {
                faults.push(self.unknown_table(table, file, line_offset, request));
            }
        }
        if faults.is_empty() { Ok(Reads { analysis, tables }) } else { Err(faults) }
    }

    fn unknown_table(&self, table: &str, file: &str, line_offset: usize, request: bool) -> Fault {
        let is = |names: Vec<&Name>| names.into_iter().any(|n| n.as_str() == table);
        let fault = if table == REQUEST {
            Fault::invalid(Code::UNKNOWN_TABLE, "`request` is known only to a view that is computed in the call")
                .fix("add at = \"request\" to the header, or read a source")
        } else if is(self.views.keys().collect()) || is(self.labels.keys().collect()) {
            Fault::invalid(Code::UNKNOWN_TABLE, format!("`{table}` is a view or label set; reading it from another query is not built yet"))
                .fix("read the source itself: copy the part of its query that you need")
        } else {
            let mut known: Vec<&str> = self.file.sources.keys().map(Name::as_str).collect();
            if request {
                known.push(REQUEST);
            }
            Fault::not_found(Code::UNKNOWN_TABLE, format!("`{table}` is no table")).fix(did_you_mean(table, "sources", known))
        };
        let spot = self.sql.get(file).and_then(|text| {
            let from = text.text.lines().take(line_offset).map(|l| l.len() + 1).sum();
            text.word(table, from).map(|span| text.spot(span))
        });
        match spot {
            Some(spot) => fault.at(spot),
            None => fault,
        }
    }
}

fn sources(reads: &Reads) -> Vec<Address> {
    reads.tables.keys().filter_map(|t| Name::new(t).ok()).map(|n| Address::new(AssetKind::Sources, n)).collect()
}

fn push<T: serde::Serialize>(
    nodes: &mut Vec<Node>,
    stage: StageKind,
    (kind, name): (AssetKind, &Name),
    spec: Option<T>,
    parents: Vec<Address>,
) {
    // A spec of ours always serialises: its maps have text keys.
    if let Some(spec) = spec.and_then(|s| serde_json::to_value(s).ok()) {
        nodes.push(Node { address: Address::new(kind, name.clone()), stage, spec, parents });
    }
}
