//! Registered models in memory: notes beside the versions of a [`MemoryLedger`].

use super::ledger::{MemoryLedger, State};
use crate::registry::search::{Kind, ModelFields, VersionFields, compare_models, compare_versions};
use crate::registry::{rules, story};
use async_trait::async_trait;
use gristmill_kernel::port::{Blobs, Ids, ModelRegistry};
use gristmill_kernel::tracking::registry::{ModelStage, ModelVersion, NewModelVersion, RegisteredModel, check_model_name};
use gristmill_kernel::tracking::{Page, Search};
use gristmill_kernel::version::AliasMove;
use gristmill_kernel::{Actor, Address, Fault, Result, Run, RunId, Timestamp, Version, VersionRef};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a ledger in memory knows about registered models.
#[derive(Clone, Default)]
pub(super) struct Registered {
    models: BTreeMap<Address, Model>,
    notes: BTreeMap<VersionRef, Note>,
}

#[derive(Clone)]
struct Model {
    name: String,
    description: String,
    created_at: Timestamp,
    updated_at: Timestamp,
    tags: BTreeMap<String, String>,
}

#[derive(Clone)]
struct Note {
    source: String,
    run: Option<RunId>,
    run_link: Option<String>,
    model: Option<String>,
    description: String,
    user: Option<String>,
    stage: ModelStage,
    updated_at: Timestamp,
    tags: BTreeMap<String, String>,
    /// Made by the project and not by a client.
    own: bool,
    deleted: bool,
}

impl Registered {
    /// Whether a version that is there came from this run, or this logged model.
    pub(super) fn holds(&self, run: Option<&RunId>, model: Option<&str>) -> bool {
        let same = |note: &Note| (run.is_some() && note.run.as_ref() == run) || (model.is_some() && note.model.as_deref() == model);
        self.notes.values().any(|note| !note.deleted && same(note))
    }
    /// Registers a version that a run has just made, and its asset if nobody did.
    pub(super) fn note_made(&mut self, run: &Run, id: &VersionRef, now: Timestamp) {
        if !rules::is_own_model(run.stage, &id.asset) {
            return;
        }
        match self.models.get_mut(&id.asset) {
            Some(model) => model.updated_at = now,
            None => {
                let name = rules::names_for(&id.asset).find(|name| self.asset(name).is_none());
                let model = Model {
                    name: name.unwrap_or_default(),
                    description: String::new(),
                    created_at: now,
                    updated_at: now,
                    tags: BTreeMap::new(),
                };
                self.models.insert(id.asset.clone(), model);
            }
        }
        let note = Note {
            source: rules::own_source(id),
            run: Some(run.id.clone()),
            run_link: None,
            model: None,
            description: String::new(),
            user: None,
            stage: ModelStage::None,
            updated_at: now,
            tags: BTreeMap::new(),
            own: true,
            deleted: false,
        };
        self.notes.insert(id.clone(), note);
    }

    pub(super) fn refuse_deleted(&self, wish: &AliasMove) -> Result<()> {
        let Some(number) = wish.to else { return Ok(()) };
        let id = VersionRef { asset: wish.asset.clone(), number };
        if self.is_deleted(&id) { Err(rules::deleted_version(&id)) } else { Ok(()) }
    }

    pub(super) fn is_deleted(&self, id: &VersionRef) -> bool {
        self.notes.get(id).is_some_and(|note| note.deleted)
    }

    fn asset(&self, name: &str) -> Option<&Address> {
        self.models.iter().find(|(_, model)| model.name == name).map(|(asset, _)| asset)
    }

    fn must(&mut self, name: &str) -> Result<(Address, &mut Model)> {
        let asset = self.asset(name).cloned();
        asset.and_then(|asset| self.models.get_mut(&asset).map(|model| (asset, model))).ok_or_else(|| rules::unknown_model(name))
    }

    fn must_version(&mut self, name: &str, number: u64) -> Result<(VersionRef, &mut Note)> {
        let unknown = || rules::unknown_version(name, number);
        let id = VersionRef { asset: self.asset(name).cloned().ok_or_else(unknown)?, number };
        let note = self.notes.get_mut(&id).filter(|note| !note.deleted).ok_or_else(unknown)?;
        Ok((id, note))
    }

    fn numbers(&self, asset: &Address) -> Vec<u64> {
        self.notes.iter().filter(|(id, note)| id.asset == *asset && !note.deleted).map(|(id, _)| id.number).collect()
    }
}

fn put_tag(tags: &mut BTreeMap<String, String>, key: &str, value: Option<&str>) {
    match value {
        Some(value) => tags.insert(key.to_owned(), value.to_owned()),
        None => tags.remove(key),
    };
}

impl State {
    fn model(&self, asset: &Address) -> Option<RegisteredModel> {
        let model = self.registry.models.get(asset)?;
        let aliases = self.aliases.values().filter(|state| state.asset == *asset);
        Some(RegisteredModel {
            name: model.name.clone(),
            asset: asset.clone(),
            description: model.description.clone(),
            created_at: model.created_at,
            updated_at: model.updated_at,
            tags: model.tags.clone(),
            aliases: aliases.filter_map(|state| Some((state.alias.to_string(), state.number?))).collect(),
        })
    }

    fn must_model(&self, asset: &Address) -> Result<RegisteredModel> {
        self.model(asset).ok_or_else(|| Fault::internal(format!("registered model of {asset} vanished while it was written")))
    }

    fn model_version(&self, id: &VersionRef) -> Option<ModelVersion> {
        let note = self.registry.notes.get(id).filter(|note| !note.deleted)?;
        let made = self.versions.get(&id.asset)?.iter().find(|version| version.id == *id)?;
        let aliases = self.aliases.values().filter(|state| state.asset == id.asset && state.number == Some(id.number));
        Some(ModelVersion {
            name: self.registry.models.get(&id.asset)?.name.clone(),
            id: id.clone(),
            source: note.source.clone(),
            run: note.run.clone(),
            run_link: note.run_link.clone(),
            model: note.model.clone(),
            description: note.description.clone(),
            user: note.user.clone(),
            stage: note.stage,
            created_at: made.made_at,
            updated_at: note.updated_at,
            tags: note.tags.clone(),
            aliases: aliases.map(|state| state.alias.to_string()).collect(),
        })
    }

    fn must_model_version(&self, id: &VersionRef) -> Result<ModelVersion> {
        self.model_version(id).ok_or_else(|| Fault::internal(format!("{id} vanished while it was written")))
    }

    fn all_versions(&self) -> impl Iterator<Item = ModelVersion> {
        self.registry.notes.keys().filter_map(|id| self.model_version(id))
    }

    fn take_aliases(&mut self, id: &VersionRef, actor: &Actor, now: Timestamp) -> Result<()> {
        let named = self.aliases.values().filter(|state| state.asset == id.asset && state.number == Some(id.number));
        let named: Vec<_> = named.map(|state| state.alias.clone()).collect();
        for alias in named {
            self.apply_move(rules::alias_gone(id, alias, actor), now)?;
        }
        Ok(())
    }

    /// A run of stage `register` from its beginning to its end, with the version it makes.
    fn register_version(
        &mut self,
        new: NewModelVersion,
        version: gristmill_kernel::NewVersion,
        run: RunId,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<VersionRef> {
        let run = self.insert(rules::register_run(&new, &version, run, actor, now), Some((rules::WORKER, now)), now)?;
        let number = self.versions.get(&version.asset).and_then(|versions| versions.last()).map_or(0, |v| v.id.number) + 1;
        let id = VersionRef { asset: version.asset, number };
        let made = Version {
            id: id.clone(),
            digest: version.digest,
            place: version.place,
            rows: version.rows,
            meta: version.meta,
            run: run.id.clone(),
            made_at: now,
        };
        self.append(now, crate::story::version_made(&made, actor));
        self.versions.entry(id.asset.clone()).or_default().push(made);
        let end = rules::register_end(&id, new.files.len());
        self.append(now, crate::story::finished(&run, &end, std::slice::from_ref(&id)));
        let entry = self.entry(&run.id)?;
        entry.lease = None;
        entry.run.outputs = vec![id.clone()];
        entry.run.status = end.status;
        entry.run.summary = end.summary;
        entry.run.ended_at = Some(now);
        let note = Note {
            source: new.source,
            run: new.run,
            run_link: new.run_link,
            model: new.model,
            description: new.description,
            user: new.user,
            stage: ModelStage::None,
            updated_at: now,
            tags: new.tags,
            own: false,
            deleted: false,
        };
        self.registry.notes.insert(id.clone(), note);
        Ok(id)
    }
}

/// Registered models on a ledger in memory.
pub struct MemoryRegistry {
    ledger: Arc<MemoryLedger>,
    blobs: Arc<dyn Blobs>,
    ids: Arc<dyn Ids>,
}

impl MemoryRegistry {
    /// The registry of a ledger. Manifests of versions go to `blobs`, ids of the runs that register come from `ids`.
    pub fn new(ledger: Arc<MemoryLedger>, blobs: Arc<dyn Blobs>, ids: Arc<dyn Ids>) -> MemoryRegistry {
        MemoryRegistry { ledger, blobs, ids }
    }
}

/// One page of what was found and ordered.
fn page<T>(found: impl Iterator<Item = T>, search: &Search) -> Page<T> {
    let mut items: Vec<T> = found.skip(search.offset).take(search.limit.saturating_add(1)).collect();
    let more = items.len() > search.limit;
    items.truncate(search.limit);
    Page { items, more }
}

#[async_trait]
impl ModelRegistry for MemoryRegistry {
    async fn create_model(
        &self,
        name: &str,
        description: &str,
        tags: BTreeMap<String, String>,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<RegisteredModel> {
        check_model_name(name)?;
        self.ledger.write(|state| {
            if let Ok((_, known)) = state.registry.must(name) {
                return Err(rules::name_taken(name, &known.tags, &tags));
            }
            let mut assets = rules::assets_for(name);
            let asset = assets.find(|asset| asset.as_ref().is_ok_and(|asset| !state.registry.models.contains_key(asset)));
            let asset = asset.ok_or_else(|| Fault::internal("there is always another asset"))??;
            let model = Model { name: name.to_owned(), description: description.to_owned(), created_at: now, updated_at: now, tags };
            state.registry.models.insert(asset.clone(), model);
            state.append(now, story::registered(&asset, name, actor));
            state.must_model(&asset)
        })
    }
    async fn registered_model(&self, name: &str) -> Result<Option<RegisteredModel>> {
        let state = self.ledger.read();
        Ok(state.registry.asset(name).and_then(|asset| state.model(asset)))
    }
    async fn model_of_asset(&self, asset: &Address) -> Result<Option<RegisteredModel>> {
        Ok(self.ledger.read().model(asset))
    }
    async fn rename_model(&self, name: &str, to: &str, actor: &Actor, now: Timestamp) -> Result<RegisteredModel> {
        check_model_name(to)?;
        self.ledger.write(|state| {
            let asset = state.registry.must(name)?.0;
            if state.registry.asset(to).is_some_and(|other| *other != asset) {
                return Err(rules::rename_taken(to));
            }
            let model = state.registry.must(name)?.1;
            model.name = to.to_owned();
            model.updated_at = now;
            let notes = state.registry.notes.iter_mut().filter(|(id, note)| id.asset == asset && !note.deleted);
            notes.for_each(|(_, note)| note.updated_at = now);
            state.append(now, story::renamed(&asset, name, to, actor));
            state.must_model(&asset)
        })
    }
    async fn describe_model(&self, name: &str, description: &str, now: Timestamp) -> Result<RegisteredModel> {
        self.ledger.write(|state| {
            let (asset, model) = state.registry.must(name)?;
            model.description = description.to_owned();
            model.updated_at = now;
            state.must_model(&asset)
        })
    }
    async fn delete_model(&self, name: &str, actor: &Actor, now: Timestamp) -> Result<()> {
        self.ledger.write(|state| {
            let asset = state.registry.must(name)?.0;
            let numbers = state.registry.numbers(&asset);
            let id = |number| VersionRef { asset: asset.clone(), number };
            if numbers.iter().any(|number| state.registry.notes.get(&id(*number)).is_some_and(|note| note.own)) {
                return Err(rules::made_by_project(name, &asset));
            }
            for number in &numbers {
                state.take_aliases(&id(*number), actor, now)?;
            }
            for number in &numbers {
                if let Some(note) = state.registry.notes.get_mut(&id(*number)) {
                    note.deleted = true;
                    note.updated_at = now;
                }
            }
            state.registry.models.remove(&asset);
            state.append(now, story::deleted(&asset, name, numbers.len() as u64, actor));
            Ok(())
        })
    }
    async fn set_registered_model_tag(&self, name: &str, key: &str, value: Option<&str>, _now: Timestamp) -> Result<()> {
        self.ledger.write(|state| {
            put_tag(&mut state.registry.must(name)?.1.tags, key, value);
            Ok(())
        })
    }
    async fn search_models(&self, search: &Search) -> Result<Page<RegisteredModel>> {
        Kind::Models.check(&search.filter, &search.order)?;
        let order = Kind::Models.order(&search.order)?;
        let state = self.ledger.read();
        let mut found: Vec<RegisteredModel> = state.registry.models.keys().filter_map(|asset| state.model(asset)).collect();
        found.retain(|model| search.filter.holds(&ModelFields(model)));
        found.sort_by(|a, b| compare_models(a, b, &order));
        Ok(page(found.into_iter(), search))
    }

    async fn create_model_version(&self, version: NewModelVersion, actor: &Actor, now: Timestamp) -> Result<ModelVersion> {
        let asset = self.ledger.write(|state| Ok(state.registry.must(&version.name)?.0))?;
        let registration = rules::registration(&version, asset)?;
        self.blobs.put(registration.content.into()).await?;
        let run = self.ids.run();
        self.ledger.write(|state| {
            let (asset, model) = state.registry.must(&version.name)?;
            model.updated_at = now;
            let made = gristmill_kernel::NewVersion { asset, ..registration.version };
            let id = state.register_version(version, made, run, actor, now)?;
            state.must_model_version(&id)
        })
    }
    async fn model_version(&self, name: &str, number: u64) -> Result<Option<ModelVersion>> {
        let state = self.ledger.read();
        let asset = state.registry.asset(name).cloned();
        Ok(asset.and_then(|asset| state.model_version(&VersionRef { asset, number })))
    }
    async fn describe_model_version(&self, name: &str, number: u64, description: &str, now: Timestamp) -> Result<ModelVersion> {
        self.ledger.write(|state| {
            let (id, note) = state.registry.must_version(name, number)?;
            note.description = description.to_owned();
            note.updated_at = now;
            state.must_model_version(&id)
        })
    }
    async fn set_stage(
        &self,
        name: &str,
        number: u64,
        stage: ModelStage,
        archive_others: bool,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<ModelVersion> {
        rules::archiving_fits(stage, archive_others)?;
        self.ledger.write(|state| {
            let (id, note) = state.registry.must_version(name, number)?;
            let before = std::mem::replace(&mut note.stage, stage);
            note.updated_at = now;
            let mut archived = Vec::new();
            for (other, note) in &mut state.registry.notes {
                if archive_others && other.asset == id.asset && *other != id && note.stage == stage && !note.deleted {
                    note.stage = ModelStage::Archived;
                    note.updated_at = now;
                    archived.push(other.number);
                }
            }
            state.registry.must(name)?.1.updated_at = now;
            state.append(now, story::staged(&id, before, stage, &archived, actor));
            state.must_model_version(&id)
        })
    }
    async fn delete_model_version(&self, name: &str, number: u64, actor: &Actor, now: Timestamp) -> Result<()> {
        self.ledger.write(|state| {
            let id = state.registry.must_version(name, number)?.0;
            state.take_aliases(&id, actor, now)?;
            let note = state.registry.must_version(name, number)?.1;
            note.deleted = true;
            note.updated_at = now;
            state.registry.must(name)?.1.updated_at = now;
            state.append(now, story::hidden(&id, name, actor));
            Ok(())
        })
    }
    async fn set_model_version_tag(&self, name: &str, number: u64, key: &str, value: Option<&str>, _now: Timestamp) -> Result<()> {
        self.ledger.write(|state| {
            put_tag(&mut state.registry.must_version(name, number)?.1.tags, key, value);
            Ok(())
        })
    }
    async fn search_model_versions(&self, search: &Search) -> Result<Page<ModelVersion>> {
        Kind::Versions.check(&search.filter, &search.order)?;
        let order = Kind::Versions.order(&search.order)?;
        let state = self.ledger.read();
        let mut found: Vec<ModelVersion> = state.all_versions().filter(|version| search.filter.holds(&VersionFields(version))).collect();
        found.sort_by(|a, b| compare_versions(a, b, &order));
        Ok(page(found.into_iter(), search))
    }
    async fn latest_versions(&self, names: &[String]) -> Result<Vec<ModelVersion>> {
        let state = self.ledger.read();
        let mut newest = Vec::new();
        for (i, name) in names.iter().enumerate().filter(|(i, name)| !names[..*i].contains(name)) {
            for stage in ModelStage::ALL {
                let of_stage = state.all_versions().filter(|version| version.name == *name && version.stage == stage);
                newest.extend(of_stage.max_by_key(|version| version.id.number).map(|version| (i, version)));
            }
        }
        Ok(newest.into_iter().map(|(_, version)| version).collect())
    }
}
