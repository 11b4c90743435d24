//! The ledger in memory. A write works on a copy of the state, which replaces it only if all went well: one transaction.

use crate::rules;
use crate::story::{self, Line};
use async_trait::async_trait;
use gristmill_kernel::port::{AuditEntry, AuditFilter, Clock, Ledger, RunFilter, Token, Tokens};
use gristmill_kernel::run::{Annotation, Finish, Metric, NewRun, RunError};
use gristmill_kernel::version::{AliasMove, AliasState, Which};
use gristmill_kernel::{
    Actor, Address, AliasName, Code, Digest, Fault, Result, Run, RunId, RunStatus, Timestamp, Version, VersionRef, limits,
};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Runs or lines a list returns when its filter does not say.
const LISTED: usize = 1_000;

/// The ledger in memory.
pub struct MemoryLedger {
    state: Mutex<State>,
    clock: Arc<dyn Clock>,
}

#[derive(Clone)]
pub(super) struct Entry {
    pub(super) run: Run,
    idempotency: Option<String>,
    pub(super) lease: Option<(String, Timestamp)>,
    history: BTreeMap<(String, i64), (f64, Timestamp)>,
}

#[derive(Clone, Default)]
pub(super) struct State {
    /// In the order of submission.
    runs: Vec<Entry>,
    at: HashMap<RunId, usize>,
    pub(super) versions: BTreeMap<Address, Vec<Version>>,
    pub(super) aliases: BTreeMap<(Address, AliasName), AliasState>,
    pub(super) registry: super::registry::Registered,
    moves: Vec<AliasState>,
    tokens: BTreeMap<String, Token>,
    audit: Vec<(AuditEntry, Option<RunId>)>,
}

impl MemoryLedger {
    /// An empty ledger. The clock dates annotations and requeues; every other write brings its own moment.
    pub fn new(clock: Arc<dyn Clock>) -> MemoryLedger {
        MemoryLedger { state: Mutex::default(), clock }
    }

    pub(super) fn read(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write<T>(&self, work: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        let mut state = self.read();
        let mut next = state.clone();
        let answer = work(&mut next)?;
        *state = next;
        Ok(answer)
    }
}

impl State {
    pub(super) fn append(&mut self, at: Timestamp, line: Line) {
        let previous = self.audit.last().map_or([0; 32], |(line, _)| *line.hash.bytes());
        let seq = self.audit.len() as u64 + 1;
        let hash = story::chain_hash(&previous, seq, at, &line.actor.0, line.action, &line.subject, &line.detail.to_string());
        let entry =
            AuditEntry { seq, at, actor: line.actor, action: line.action.to_owned(), subject: line.subject, detail: line.detail, hash };
        self.audit.push((entry, line.run));
    }

    pub(super) fn entry(&mut self, id: &RunId) -> Result<&mut Entry> {
        match self.at.get(id) {
            Some(at) => Ok(&mut self.runs[*at]),
            None => Err(rules::unknown_run(id)),
        }
    }

    fn open_entry(&mut self, id: &RunId) -> Result<&mut Entry> {
        let entry = self.entry(id)?;
        if entry.run.status.is_final() {
            return Err(rules::ended(&entry.run));
        }
        Ok(entry)
    }

    fn known(&self, token: Option<&str>) -> Option<Run> {
        let token = token?;
        self.runs.iter().find(|entry| entry.idempotency.as_deref() == Some(token)).map(|entry| entry.run.clone())
    }

    pub(super) fn insert(&mut self, new: NewRun, lease: Option<(&str, Timestamp)>, now: Timestamp) -> Result<Run> {
        if self.at.contains_key(&new.id) {
            return Err(Fault::conflict(Code::BAD_VALUE, format!("run {} exists already", new.id)).fix("take a new id"));
        }
        let line = lease.map_or_else(|| story::submitted(&new), |(worker, _)| story::begun(&new, worker));
        self.append(now, line);
        let run = Run {
            id: new.id,
            stage: new.stage,
            address: new.address,
            spec: new.spec,
            key: new.key,
            parent: new.parent,
            actor: new.actor,
            reason: new.reason,
            status: if lease.is_some() { RunStatus::Running } else { RunStatus::Queued },
            verdict: None,
            checks: Vec::new(),
            inputs: new.inputs,
            outputs: Vec::new(),
            skipped_for: None,
            params: BTreeMap::new(),
            metrics: BTreeMap::new(),
            tags: BTreeMap::new(),
            summary: String::new(),
            error: None,
            attempt: u32::from(lease.is_some()),
            cancel_asked: false,
            submitted_at: now,
            due_at: new.due_at,
            started_at: lease.map(|_| now),
            ended_at: None,
        };
        self.at.insert(run.id.clone(), self.runs.len());
        let lease = lease.map(|(worker, until)| (worker.to_owned(), until));
        self.runs.push(Entry { run: run.clone(), idempotency: new.idempotency, lease, history: BTreeMap::new() });
        Ok(run)
    }

    fn next_to_lease(&self, now: Timestamp) -> Option<RunId> {
        let flows = || self.runs.iter().enumerate().filter(|(_, e)| e.run.parent.is_none());
        let oldest = |e: &(usize, &Entry)| (e.1.run.due_at, e.0);
        let expired = flows().filter(|(_, e)| e.run.status == RunStatus::Running && e.lease.as_ref().is_some_and(|l| l.1 <= now));
        let queued = flows().filter(|(_, e)| e.run.status == RunStatus::Queued && e.run.due_at <= now);
        expired.min_by_key(oldest).or_else(|| queued.min_by_key(oldest)).map(|(_, e)| e.run.id.clone())
    }

    fn interrupt_steps(&mut self, flow: &RunId, now: Timestamp) {
        let open = |e: &&Entry| e.run.parent.as_ref() == Some(flow) && e.run.status == RunStatus::Running;
        let steps: Vec<RunId> = self.runs.iter().filter(open).map(|e| e.run.id.clone()).collect();
        steps.iter().for_each(|step| self.fail_interrupted(step, now));
    }

    fn fail_interrupted(&mut self, step: &RunId, now: Timestamp) {
        let Ok(entry) = self.entry(step) else { return };
        let worker = entry.lease.take().map(|(worker, _)| worker);
        let line = story::interrupted(&entry.run, worker.as_deref(), false);
        entry.run.status = RunStatus::Failed;
        entry.run.error = Some(story::interruption());
        entry.run.ended_at = Some(now);
        self.append(now, line);
    }

    fn put_metrics(&mut self, id: &RunId, metrics: &[Metric], now: Timestamp) -> Result<()> {
        let entry = self.entry(id)?;
        for metric in metrics {
            entry.history.insert((metric.key.clone(), metric.step), (metric.value, now));
            let last = entry.history.range((metric.key.clone(), i64::MIN)..=(metric.key.clone(), i64::MAX)).next_back();
            let value = last.map_or(metric.value, |(_, (value, _))| *value);
            entry.run.metrics.insert(metric.key.clone(), value);
        }
        Ok(())
    }

    fn newest(&self, asset: &Address) -> Option<&Version> {
        self.versions.get(asset).and_then(|versions| versions.last())
    }

    fn version(&self, asset: &Address, which: &Which) -> Option<&Version> {
        let number = match which {
            Which::Latest => return self.newest(asset),
            Which::Number(number) => *number,
            Which::Alias(alias) => self.aliases.get(&(asset.clone(), alias.clone()))?.number?,
        };
        self.versions.get(asset)?.iter().find(|v| v.id.number == number)
    }

    pub(super) fn apply_move(&mut self, wish: AliasMove, now: Timestamp) -> Result<AliasState> {
        self.registry.refuse_deleted(&wish)?;
        let key = (wish.asset.clone(), wish.alias.clone());
        let current = self.aliases.get(&key).and_then(|state| state.number);
        let newest = self.newest(&wish.asset).map_or(0, |v| v.id.number);
        let state = rules::moved(wish, current, newest, now)?;
        self.append(now, story::alias_moved(&state));
        self.moves.push(state.clone());
        match state.number {
            Some(_) => self.aliases.insert(key, state.clone()),
            None => self.aliases.remove(&key),
        };
        Ok(state)
    }

    fn outputs(&mut self, run: &Run, finish: &Finish, now: Timestamp) -> Result<Vec<VersionRef>> {
        let mut outputs = Vec::new();
        for output in &finish.outputs {
            let newest = self.newest(&output.asset).map(|v| (v.id.clone(), v.digest));
            if let Some((id, digest)) = &newest
                && *digest == output.digest
                && !self.registry.is_deleted(id)
            {
                rules::add_output(&mut outputs, id.clone());
                continue;
            }
            let id = VersionRef { asset: output.asset.clone(), number: newest.map_or(0, |(id, _)| id.number) + 1 };
            let version = Version {
                id: id.clone(),
                digest: output.digest,
                place: output.place.clone(),
                rows: output.rows,
                meta: output.meta.clone(),
                run: run.id.clone(),
                made_at: now,
            };
            self.append(now, story::version_made(&version, &run.actor));
            self.versions.entry(output.asset.clone()).or_default().push(version);
            self.registry.note_made(run, &id, now);
            rules::add_output(&mut outputs, id);
        }
        for reused in &finish.reused {
            if self.version(&reused.asset, &Which::Number(reused.number)).is_none() {
                let newest = self.newest(&reused.asset).map_or(0, |v| v.id.number);
                return Err(rules::unknown_version(&reused.asset, reused.number, newest));
            }
            rules::add_output(&mut outputs, reused.clone());
        }
        Ok(outputs)
    }

    fn finish(&mut self, id: &RunId, finish: Finish, now: Timestamp) -> Result<Run> {
        let run = self.open_entry(id)?.run.clone();
        let outputs = self.outputs(&run, &finish, now)?;
        self.put_metrics(id, &finish.metrics, now)?;
        self.append(now, story::finished(&run, &finish, &outputs));
        let entry = self.entry(id)?;
        entry.lease = None;
        let ended = &mut entry.run;
        ended.params.extend(finish.params);
        ended.outputs = outputs;
        ended.status = finish.status;
        ended.verdict = finish.verdict;
        ended.checks = finish.checks;
        ended.skipped_for = finish.skipped_for;
        ended.summary = finish.summary;
        ended.error = finish.error;
        ended.ended_at = Some(now);
        let ended = ended.clone();
        for wish in finish.aliases {
            self.apply_move(rules::name_output(wish, &ended.outputs)?, now)?;
        }
        for next in finish.follow_ups {
            if self.known(next.idempotency.as_deref()).is_none() {
                self.insert(next, None, now)?;
            }
        }
        Ok(ended)
    }
}

#[async_trait]
impl Ledger for MemoryLedger {
    async fn submit(&self, run: NewRun, now: Timestamp) -> Result<Run> {
        self.write(|state| {
            if let Some(known) = state.known(run.idempotency.as_deref()) {
                return Ok(known);
            }
            let waiting = state.runs.iter().filter(|e| e.run.status == RunStatus::Queued).count();
            if waiting as u64 >= limits::QUEUE_RUNS_MAX {
                return Err(rules::queue_full());
            }
            state.insert(run, None, now)
        })
    }

    async fn begin(&self, run: NewRun, worker: &str, now: Timestamp, lease_until: Timestamp) -> Result<Run> {
        self.write(|state| match state.known(run.idempotency.as_deref()) {
            Some(known) => Ok(known),
            None => state.insert(run, Some((worker, lease_until)), now),
        })
    }

    async fn lease(&self, worker: &str, now: Timestamp, lease_until: Timestamp) -> Result<Option<Run>> {
        self.write(|state| {
            let Some(id) = state.next_to_lease(now) else { return Ok(None) };
            if state.entry(&id)?.run.status == RunStatus::Running {
                state.interrupt_steps(&id, now);
            }
            let entry = state.entry(&id)?;
            let lost = entry.lease.replace((worker.to_owned(), lease_until)).map(|(worker, _)| worker);
            entry.run.status = RunStatus::Running;
            entry.run.attempt += 1;
            entry.run.started_at = Some(now);
            let run = entry.run.clone();
            state.append(now, story::started(&run, worker, lost.as_deref()));
            Ok(Some(run))
        })
    }

    async fn renew(&self, run: &RunId, worker: &str, lease_until: Timestamp) -> Result<Run> {
        self.write(|state| {
            let entry = state.entry(run)?;
            let held = entry.lease.as_mut().filter(|(holder, _)| holder == worker);
            match held {
                Some(lease) if entry.run.status == RunStatus::Running => lease.1 = lease_until,
                _ => return Err(rules::lease_lost(&entry.run, worker)),
            }
            Ok(entry.run.clone())
        })
    }

    async fn take_over(&self, worker: &str, now: Timestamp) -> Result<u64> {
        self.write(|state| {
            let foreign = |e: &&Entry| e.run.status == RunStatus::Running && e.lease.as_ref().is_none_or(|(holder, _)| holder != worker);
            let runs: Vec<RunId> = state.runs.iter().filter(foreign).map(|e| e.run.id.clone()).collect();
            for id in &runs {
                let entry = state.entry(id)?;
                if entry.run.parent.is_some() {
                    state.fail_interrupted(id, now);
                    continue;
                }
                let holder = entry.lease.take().map(|(holder, _)| holder);
                let line = story::interrupted(&entry.run, holder.as_deref(), true);
                entry.run.status = RunStatus::Queued;
                state.append(now, line);
            }
            Ok(runs.len() as u64)
        })
    }

    async fn requeue(&self, run: &RunId, due_at: Timestamp, error: RunError) -> Result<()> {
        let now = self.clock.now();
        self.write(|state| {
            let entry = state.open_entry(run)?;
            if entry.run.status != RunStatus::Running {
                return Err(rules::not_running(&entry.run));
            }
            state.interrupt_steps(run, now);
            let entry = state.entry(run)?;
            let line = story::requeued(&entry.run, due_at, &error);
            entry.lease = None;
            entry.run.status = RunStatus::Queued;
            entry.run.due_at = due_at;
            entry.run.error = Some(error);
            state.append(now, line);
            Ok(())
        })
    }

    async fn annotate(&self, run: &RunId, note: Annotation) -> Result<()> {
        let now = self.clock.now();
        self.write(|state| {
            let entry = state.open_entry(run)?;
            for (name, value) in &note.params {
                rules::param_fits(run, name, entry.run.params.get(name).map(String::as_str), value)?;
            }
            let line = story::annotated(&entry.run, &note);
            entry.run.params.extend(note.params);
            entry.run.tags.extend(note.tags);
            if let Some(summary) = note.summary {
                entry.run.summary = summary;
            }
            state.put_metrics(run, &note.metrics, now)?;
            if let Some(line) = line {
                state.append(now, line);
            }
            Ok(())
        })
    }

    async fn finish(&self, run: &RunId, finish: Finish, now: Timestamp) -> Result<Run> {
        rules::finish_fits(&finish)?;
        self.write(|state| state.finish(run, finish, now))
    }

    async fn ask_cancel(&self, run: &RunId, actor: &Actor, now: Timestamp) -> Result<()> {
        self.write(|state| {
            let run = &mut state.open_entry(run)?.run;
            let line = if run.status == RunStatus::Queued {
                let line = story::cancelled(run, actor);
                run.status = RunStatus::Cancelled;
                run.ended_at = Some(now);
                run.summary = "cancelled before it began".into();
                line
            } else if run.cancel_asked {
                return Ok(());
            } else {
                story::cancel_asked(run, actor)
            };
            run.cancel_asked = true;
            state.append(now, line);
            Ok(())
        })
    }

    async fn move_alias(&self, wish: AliasMove, now: Timestamp) -> Result<AliasState> {
        self.write(|state| state.apply_move(wish, now))
    }

    async fn run(&self, id: &RunId) -> Result<Option<Run>> {
        let state = self.read();
        Ok(state.at.get(id).map(|at| state.runs[*at].run.clone()))
    }

    async fn runs(&self, filter: &RunFilter) -> Result<Vec<Run>> {
        let fits = |run: &&Run| {
            (filter.stages.is_empty() || filter.stages.contains(&run.stage))
                && (filter.statuses.is_empty() || filter.statuses.contains(&run.status))
                && filter.address.as_ref().is_none_or(|address| *address == run.address)
                && filter.parent.as_ref().is_none_or(|parent| Some(parent) == run.parent.as_ref())
        };
        let limit = if filter.limit == 0 { LISTED } else { filter.limit };
        Ok(self.read().runs.iter().rev().map(|e| &e.run).filter(fits).take(limit).cloned().collect())
    }

    async fn run_by_key(&self, key: &Digest) -> Result<Option<Run>> {
        let state = self.read();
        Ok(state.runs.iter().rev().map(|e| &e.run).find(|run| run.key == *key && run.status == RunStatus::Succeeded).cloned())
    }

    async fn metric_history(&self, run: &RunId, key: &str) -> Result<Vec<(Metric, Timestamp)>> {
        let state = self.read();
        let Some(at) = state.at.get(run) else { return Ok(Vec::new()) };
        let of_key = state.runs[*at].history.range((key.to_owned(), i64::MIN)..=(key.to_owned(), i64::MAX));
        Ok(of_key.map(|((key, step), (value, at))| (Metric { key: key.clone(), value: *value, step: *step }, *at)).collect())
    }

    async fn version(&self, asset: &Address, which: &Which) -> Result<Option<Version>> {
        Ok(self.read().version(asset, which).cloned())
    }

    async fn versions(&self, asset: &Address) -> Result<Vec<Version>> {
        Ok(self.read().versions.get(asset).into_iter().flatten().rev().cloned().collect())
    }

    async fn assets(&self) -> Result<Vec<Address>> {
        let mut assets: Vec<Address> = self.read().versions.keys().cloned().collect();
        assets.sort_by_key(ToString::to_string);
        Ok(assets)
    }

    async fn readers(&self, version: &VersionRef) -> Result<Vec<RunId>> {
        let state = self.read();
        Ok(state.runs.iter().rev().filter(|e| e.run.inputs.contains(version)).map(|e| e.run.id.clone()).collect())
    }

    async fn alias(&self, asset: &Address, alias: &AliasName) -> Result<Option<AliasState>> {
        Ok(self.read().aliases.get(&(asset.clone(), alias.clone())).cloned())
    }

    async fn aliases(&self, asset: &Address) -> Result<Vec<AliasState>> {
        Ok(self.read().aliases.values().filter(|state| state.asset == *asset).cloned().collect())
    }

    async fn alias_history(&self, asset: &Address, alias: &AliasName) -> Result<Vec<AliasState>> {
        Ok(self.read().moves.iter().rev().filter(|m| m.asset == *asset && m.alias == *alias).cloned().collect())
    }

    async fn audit(&self, filter: &AuditFilter) -> Result<Vec<AuditEntry>> {
        let limit = if filter.limit == 0 { LISTED } else { filter.limit };
        let about = |subject: &str, run: Option<&str>| filter.subject.as_ref().is_none_or(|wanted| story::is_about(wanted, subject, run));
        let state = self.read();
        let lines =
            state.audit.iter().filter(|(line, run)| line.seq > filter.after && about(&line.subject, run.as_ref().map(|id| id.0.as_str())));
        Ok(lines.take(limit).map(|(line, _)| line.clone()).collect())
    }

    async fn verify_audit(&self) -> Result<u64> {
        let state = self.read();
        let mut previous = [0; 32];
        for (line, _) in &state.audit {
            let hash =
                story::chain_hash(&previous, line.seq, line.at, &line.actor.0, &line.action, &line.subject, &line.detail.to_string());
            if hash != line.hash {
                return Err(Fault::damaged(format!(
                    "audit line {} does not have the hash of its content and the line before it",
                    line.seq
                )));
            }
            previous = *line.hash.bytes();
        }
        Ok(state.audit.len() as u64)
    }

    async fn head(&self) -> Result<u64> {
        Ok(self.read().audit.len() as u64)
    }
}

#[async_trait]
impl Tokens for MemoryLedger {
    async fn put_token(&self, token: Token, actor: &Actor, now: Timestamp) -> Result<()> {
        self.write(|state| {
            if state.tokens.values().any(|known| known.name == token.name || known.hash == token.hash) {
                return Err(rules::token_exists(&token.name));
            }
            state.append(now, story::token_made(&token, actor));
            state.tokens.insert(token.name.clone(), token);
            Ok(())
        })
    }
    async fn token_by_hash(&self, hash: &Digest) -> Result<Option<Token>> {
        Ok(self.read().tokens.values().find(|token| token.hash == *hash).cloned())
    }
    async fn tokens(&self) -> Result<Vec<Token>> {
        Ok(self.read().tokens.values().cloned().collect())
    }
    async fn revoke_token(&self, name: &str, actor: &Actor, now: Timestamp) -> Result<()> {
        self.write(|state| {
            let token = state.tokens.get_mut(name).ok_or_else(|| rules::unknown_token(name))?;
            if token.revoked_at.is_some() {
                return Ok(());
            }
            token.revoked_at = Some(now);
            state.append(now, story::token_revoked(name, actor));
            Ok(())
        })
    }
}
