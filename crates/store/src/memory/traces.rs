//! Traces and evaluation datasets in memory. A write that fails changes nothing: everything is checked before anything is changed.

use crate::trace_rules::{self, Gather, Looked, Question};
use async_trait::async_trait;
use gristmill_kernel::port::{EvaluationDatasets, RecordCursor, Traces};
use gristmill_kernel::tracking::assessment::{Assessment, AssessmentUpdate};
use gristmill_kernel::tracking::evaluation::{EvaluationDataset, EvaluationRecord, GivenRecord, grown_schema};
use gristmill_kernel::tracking::trace::{Span, SpanBatch, TraceEnd, TraceId, TraceInfo, TracesToDelete, key, moment_of_ms};
use gristmill_kernel::tracking::{ExperimentId, Page, Search, usage};
use gristmill_kernel::{Actor, Result, RunId, Timestamp};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Traces and evaluation datasets in memory.
#[derive(Default)]
pub struct MemoryTraces(Mutex<State>);

#[derive(Default)]
struct State {
    traces: BTreeMap<TraceId, Entry>,
    /// Runs that traces were linked to before they were told.
    early: BTreeMap<TraceId, Vec<String>>,
    datasets: BTreeMap<String, Kept>,
}

struct Entry {
    info: TraceInfo,
    spans: BTreeMap<String, Span>,
    runs: Vec<String>,
    prompts: Vec<String>,
}

struct Kept {
    dataset: EvaluationDataset,
    /// By the identity of their inputs.
    records: BTreeMap<String, EvaluationRecord>,
}

impl MemoryTraces {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn entry(&mut self, id: &TraceId) -> Result<&mut Entry> {
        self.traces.get_mut(id).ok_or_else(|| trace_rules::unknown_trace(id))
    }

    fn put(&mut self, mut info: TraceInfo) -> &mut Entry {
        info.requested_at = moment_of_ms(info.requested_at.millis());
        info.assessments.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        let id = info.id.clone();
        let early = self.early.remove(&id).unwrap_or_default();
        let fresh = || Entry { info: info.clone(), spans: BTreeMap::new(), runs: early, prompts: Vec::new() };
        let entry = self.traces.entry(id).or_insert_with(fresh);
        entry.info = info;
        entry
    }

    fn kept(&mut self, id: &str) -> Result<&mut Kept> {
        self.datasets.get_mut(id).ok_or_else(|| trace_rules::unknown_dataset(id))
    }

    /// Asks every trace of the search's experiments, in its order.
    fn ask(&self, search: &Search, mut take: impl FnMut(&TraceInfo)) -> Result<Gather> {
        let question = Question::new(vec![&search.filter])?;
        let spans: BTreeMap<&TraceId, Vec<Span>> = self.traces.iter().map(|(id, entry)| (id, entry.spans())).collect();
        let mut looked: Vec<Looked<'_>> = self
            .traces
            .values()
            .filter(|entry| search.experiments.contains(&entry.info.experiment))
            .map(|entry| Looked {
                info: &entry.info,
                runs: &entry.runs,
                prompts: &entry.prompts,
                spans: spans.get(&entry.info.id).map_or(&[], Vec::as_slice),
            })
            .collect();
        looked.sort_by(|a, b| {
            trace_rules::compare(&search.order, a, b)
                .then(b.info.requested_at.cmp(&a.info.requested_at))
                .then_with(|| a.info.id.cmp(&b.info.id))
        });
        let mut gather = Gather::new(search);
        for one in &looked {
            if gather.takes(question.holds(one))? {
                take(one.info);
            }
        }
        Ok(gather)
    }
}

impl Entry {
    /// Roots first, then by start.
    fn spans(&self) -> Vec<Span> {
        let mut spans: Vec<Span> = self.spans.values().cloned().collect();
        spans.sort_by(|a, b| (a.parent.is_some(), a.started_ns, &a.id).cmp(&(b.parent.is_some(), b.started_ns, &b.id)));
        spans
    }

    /// Adds up figures over the whole tree, if these spans bring any.
    fn add_up(&mut self, arrived: &[Span]) {
        type Sum = fn(&[usage::Spent]) -> Option<String>;
        let sums: [(&str, &str, Sum); 2] = [(key::SPAN_USAGE, key::USAGE, usage::tokens), (key::SPAN_COST, key::COST, usage::costs)];
        for (attribute, name, sum) in sums {
            let brought = arrived.iter().any(|span| span.attribute(attribute).is_some());
            if !brought || !trace_rules::is_added_up(&self.info, name) {
                continue;
            }
            let spent = |span: &Span| usage::Spent {
                id: span.id.clone(),
                parent: span.parent.clone(),
                figures: span.attribute(attribute).map(str::to_owned),
            };
            if let Some(text) = sum(&self.spans.values().map(spent).collect::<Vec<_>>()) {
                self.info.metadata.insert(name.to_owned(), text);
            }
        }
    }
}

#[async_trait]
impl Traces for MemoryTraces {
    async fn put_trace(&self, info: TraceInfo) -> Result<TraceInfo> {
        let mut state = self.state();
        let before = state.traces.get(&info.id).map(|entry| entry.info.clone());
        let info = match before {
            Some(before) => info.settled_over(before),
            None => info,
        };
        Ok(state.put(info).info.clone())
    }

    async fn log_spans(&self, batches: Vec<SpanBatch>) -> Result<()> {
        let mut state = self.state();
        for batch in batches {
            let before = state.traces.get(&batch.trace).map(|entry| entry.info.clone());
            let entry = state.put(TraceInfo::grown(before, &batch));
            entry.spans.extend(batch.spans.iter().map(|span| (span.id.clone(), span.clone())));
            entry.add_up(&batch.spans);
        }
        Ok(())
    }

    async fn end_trace(&self, id: &TraceId, end: TraceEnd) -> Result<TraceInfo> {
        let mut state = self.state();
        let entry = state.entry(id)?;
        entry.info = entry.info.clone().ended(end);
        Ok(entry.info.clone())
    }

    async fn traces(&self, ids: &[TraceId], experiments: Option<&[ExperimentId]>) -> Result<Vec<TraceInfo>> {
        let state = self.state();
        let mut found: Vec<TraceInfo> = Vec::new();
        for id in ids {
            let info = state.traces.get(id).map(|entry| &entry.info);
            let fits = |info: &&TraceInfo| experiments.is_none_or(|wanted| wanted.contains(&info.experiment));
            if let Some(info) = info.filter(fits)
                && found.iter().all(|known| known.id != *id)
            {
                found.push(info.clone());
            }
        }
        Ok(found)
    }

    async fn spans(&self, ids: &[TraceId]) -> Result<BTreeMap<TraceId, Vec<Span>>> {
        let state = self.state();
        let found = ids.iter().filter_map(|id| state.traces.get(id).map(|entry| (id.clone(), entry.spans())));
        Ok(found.filter(|(_, spans)| !spans.is_empty()).collect())
    }

    async fn set_trace_tag(&self, id: &TraceId, key: &str, value: Option<&str>) -> Result<()> {
        let mut state = self.state();
        let tags = &mut state.entry(id)?.info.tags;
        match value {
            Some(value) => drop(tags.insert(key.to_owned(), value.to_owned())),
            None => drop(tags.remove(key).ok_or_else(|| trace_rules::unknown_trace_tag(id, key))?),
        }
        Ok(())
    }

    async fn search_traces(&self, search: &Search) -> Result<Page<TraceInfo>> {
        let mut items = Vec::new();
        let gather = self.state().ask(search, |info| items.push(info.clone()))?;
        Ok(Page { items, more: gather.is_done() })
    }

    async fn count_traces(&self, search: &Search) -> Result<u64> {
        Ok(self.state().ask(search, |_| ())?.held as u64)
    }

    async fn delete_traces(&self, which: &TracesToDelete, _: &Actor, _: Timestamp) -> Result<u64> {
        let mut state = self.state();
        let fits = |info: &&TraceInfo| {
            info.experiment == which.experiment
                && (which.ids.is_empty() || which.ids.contains(&info.id))
                && which.until.is_none_or(|until| info.requested_at <= until)
        };
        let mut found: Vec<_> =
            state.traces.values().map(|entry| &entry.info).filter(fits).map(|info| (info.requested_at, info.id.clone())).collect();
        found.sort();
        found.truncate(which.at_most.unwrap_or(usize::MAX));
        for (_, id) in &found {
            state.traces.remove(id);
        }
        Ok(found.len() as u64)
    }

    async fn link_traces(&self, ids: &[TraceId], run: &RunId) -> Result<()> {
        let mut state = self.state();
        let State { traces, early, .. } = &mut *state;
        for id in ids {
            let runs = match traces.get_mut(id) {
                Some(entry) => &mut entry.runs,
                None => early.entry(id.clone()).or_default(),
            };
            if !runs.contains(&run.0) {
                runs.push(run.0.clone());
            }
        }
        Ok(())
    }

    async fn link_prompts(&self, id: &TraceId, prompts: &[String]) -> Result<()> {
        let mut state = self.state();
        let known = &mut state.entry(id)?.prompts;
        for prompt in prompts {
            if !known.contains(prompt) {
                known.push(prompt.clone());
            }
        }
        Ok(())
    }

    async fn put_assessment(&self, assessment: Assessment) -> Result<Assessment> {
        let mut state = self.state();
        let info = &mut state.entry(&assessment.trace)?.info;
        if let Some(known) = info.assessments.iter().find(|known| known.id == assessment.id) {
            return Ok(known.clone());
        }
        if let Some(overridden) = &assessment.overrides {
            let known = info.assessments.iter_mut().find(|known| known.id == *overridden);
            known.ok_or_else(|| trace_rules::unknown_assessment(&assessment.trace, overridden))?.valid = false;
        }
        info.assessments.push(assessment.clone());
        info.assessments.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        Ok(assessment)
    }

    async fn assessment(&self, trace: &TraceId, id: &str) -> Result<Option<Assessment>> {
        Ok(self.state().entry(trace)?.info.assessments.iter().find(|known| known.id == id).cloned())
    }

    async fn update_assessment(&self, trace: &TraceId, id: &str, update: AssessmentUpdate, now: Timestamp) -> Result<Assessment> {
        let mut state = self.state();
        let known = state.entry(trace)?.info.assessments.iter_mut().find(|known| known.id == id);
        let known = known.ok_or_else(|| trace_rules::unknown_assessment(trace, id))?;
        *known = known.clone().updated(update, now)?;
        Ok(known.clone())
    }

    async fn delete_assessment(&self, trace: &TraceId, id: &str) -> Result<()> {
        let mut state = self.state();
        let assessments = &mut state.entry(trace)?.info.assessments;
        let Some(at) = assessments.iter().position(|known| known.id == id) else { return Ok(()) };
        let gone = assessments.remove(at);
        for known in assessments.iter_mut().filter(|known| Some(&known.id) == gone.overrides.as_ref()) {
            known.valid = true;
        }
        Ok(())
    }
}

#[async_trait]
impl EvaluationDatasets for MemoryTraces {
    async fn create_dataset(&self, dataset: EvaluationDataset, _: &Actor) -> Result<EvaluationDataset> {
        let kept = Kept { dataset: dataset.clone(), records: BTreeMap::new() };
        self.state().datasets.insert(dataset.id.clone(), kept);
        Ok(dataset)
    }

    async fn dataset(&self, id: &str) -> Result<Option<EvaluationDataset>> {
        Ok(self.state().datasets.get(id).map(|kept| kept.dataset.clone()))
    }

    async fn delete_dataset(&self, id: &str, _: &Actor, _: Timestamp) -> Result<bool> {
        Ok(self.state().datasets.remove(id).is_some())
    }

    async fn search_datasets(&self, search: &Search) -> Result<Page<EvaluationDataset>> {
        let all = self.state().datasets.values().map(|kept| kept.dataset.clone()).collect();
        Ok(trace_rules::page_of_datasets(all, search))
    }

    async fn set_dataset_tags(&self, id: &str, tags: &[(String, Option<String>)]) -> Result<()> {
        let mut state = self.state();
        let known = &mut state.kept(id)?.dataset.tags;
        for (name, value) in tags {
            match value {
                Some(value) => known.insert(name.clone(), value.clone()),
                None => known.remove(name),
            };
        }
        Ok(())
    }

    async fn set_dataset_experiments(
        &self,
        id: &str,
        add: &[ExperimentId],
        remove: &[ExperimentId],
        now: Timestamp,
    ) -> Result<EvaluationDataset> {
        let mut state = self.state();
        let dataset = &mut state.kept(id)?.dataset;
        for experiment in add {
            if !dataset.experiments.contains(experiment) {
                dataset.experiments.push(*experiment);
            }
        }
        dataset.experiments.retain(|experiment| !remove.contains(experiment));
        dataset.updated_at = now;
        Ok(dataset.clone())
    }

    async fn put_records(&self, id: &str, records: Vec<GivenRecord>, now: Timestamp) -> Result<(u64, u64)> {
        let mut state = self.state();
        let Kept { dataset, records: known } = state.kept(id)?;
        dataset.schema = grown_schema(dataset.schema.as_deref(), &records);
        dataset.updated_by = records.iter().rev().find_map(|record| record.user.clone());
        dataset.updated_at = now;
        dataset.digest = EvaluationDataset::digest_of(&dataset.name, now);
        let (mut new, mut old) = (0, 0);
        for given in records {
            let identity = given.identity();
            let record = match known.remove(&identity) {
                Some(before) => {
                    old += 1;
                    given.merged(before, now)
                }
                None => {
                    new += 1;
                    given.made(now)
                }
            };
            known.insert(identity, record);
        }
        dataset.records = known.len() as u64;
        Ok((new, old))
    }

    async fn records(&self, id: &str, after: Option<&RecordCursor>, limit: usize) -> Result<Page<EvaluationRecord>> {
        let mut state = self.state();
        let mut items: Vec<EvaluationRecord> = state.kept(id)?.records.values().cloned().collect();
        items.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        items.retain(|record| after.is_none_or(|(at, last)| (record.created_at, &record.id) > (*at, last)));
        let more = items.len() > limit;
        items.truncate(limit);
        Ok(Page { items, more })
    }

    async fn delete_records(&self, id: &str, records: &[String]) -> Result<u64> {
        let mut state = self.state();
        let kept = state.kept(id)?;
        let before = kept.records.len();
        kept.records.retain(|_, record| !records.contains(&record.id));
        kept.dataset.records = kept.records.len() as u64;
        Ok((before - kept.records.len()) as u64)
    }
}
