//! Registered models with their versions and aliases.

use super::super::source::{Owner, SourceRegistered, SourceVersion};
use super::super::{check, uri};
use super::{Outcome, Pair, Work, name_of, onward};
use gristmill_kernel::port::{ArtifactKey, ImportedVersion, Taken};
use gristmill_kernel::tracking::ViewType;
use gristmill_kernel::version::AliasMove;
use gristmill_kernel::{AliasName, Digest, Result};

impl Work<'_> {
    pub(super) async fn registered(&self, experiments: &[Pair]) -> Result<()> {
        let mut from: Option<String> = None;
        let mut done = 0;
        loop {
            let part = self.source.registered(from.as_deref()).await?;
            part.skipped.into_iter().for_each(|s| self.skip(s));
            for there in part.items {
                self.registered_model(there, experiments).await?;
                done += 1;
                self.watch.at("registered models", done, self.note(|report| Some(report.found.models).filter(|n| *n >= done)));
            }
            match onward(from, part.next)? {
                Some(next) => from = Some(next),
                None => return Ok(()),
            }
        }
    }

    async fn registered_model(&self, there: SourceRegistered, experiments: &[Pair]) -> Result<()> {
        let name = there.model.name.clone();
        let what = || format!("registered model `{}`", check::shown(&name));
        let here = self.target.models.registered_model(&name).await?;
        let outcome = if self.options.dry_run {
            Ok(match &here {
                None => Taken::New,
                Some(h) if there.model.tags.keys().any(|k| !h.tags.contains_key(k)) => Taken::Added,
                Some(_) => Taken::Same,
            })
        } else {
            self.target.registry_import.import_model(there.model, &self.options.actor, self.target.clock.now()).await
        };
        let taken = outcome.is_ok();
        self.settle(what, outcome, |report| &mut report.models)?;
        if !taken {
            return Ok(());
        }
        let mut versions = there.versions;
        versions.sort_by_key(|v| v.version.number);
        for version in versions {
            let what = format!("version {} of `{}`", version.version.number, check::shown(&name));
            let outcome = self.version(version, experiments).await;
            self.settle(|| what, outcome, |report| &mut report.versions)?;
        }
        for (alias, number) in there.aliases {
            let what = format!("alias `{}` of `{}`", check::shown(&alias), check::shown(&name));
            let outcome = self.alias(&name, &alias, number).await;
            self.settle(|| what, outcome, |report| &mut report.aliases)?;
        }
        Ok(())
    }

    async fn version(&self, there: SourceVersion, experiments: &[Pair]) -> Outcome {
        let SourceVersion { mut version, location } = there;
        let here = self.target.models.model_version(&version.name, version.number).await?;
        if self.options.dry_run {
            return Ok(match here {
                None => Taken::New,
                Some(h) if version.tags.keys().any(|k| !h.tags.contains_key(k)) => Taken::Added,
                Some(_) => Taken::Same,
            });
        }
        let meant = [location.as_deref(), Some(version.source.as_str())].into_iter().flatten().find_map(uri::meant);
        match meant {
            Some(meant) => self.content(&mut version, meant, experiments).await?,
            None if is_prompt(&version) => {}
            None => self.say(format!(
                "version {} of `{}` keeps its source `{}`: its files are not here",
                version.number,
                check::shown(&version.name),
                check::shown(&version.source)
            )),
        }
        if let Some(here) = here {
            // Its source was rewritten when it was taken; only what it lacks matters now.
            version.source = here.source;
        }
        self.target.registry_import.import_model_version(version, &self.options.actor, self.target.clock.now()).await
    }

    /// Fills in a version's files and where they are here.
    async fn content(&self, version: &mut ImportedVersion, meant: uri::Meant, experiments: &[Pair]) -> Result<()> {
        let experiment = match &meant.owner {
            Owner::Run(run) => self.target.tracking.tracked_run(run).await?.map(|r| r.experiment),
            Owner::Model(model) => self.target.tracking.logged_model(model, ViewType::All).await?.map(|m| m.experiment),
        };
        let location = match experiment {
            Some(id) => match experiments.iter().filter_map(|p| p.here.as_ref()).find(|e| e.id == id) {
                Some(known) => Some(known.artifact_location.clone()),
                None => self.target.tracking.experiment(id).await?.map(|e| e.artifact_location),
            },
            None => None,
        };
        let Some(location) = location else {
            self.say(format!("version {} of `{}`: {} is not here", version.number, check::shown(&version.name), name_of(&meant.owner)));
            return Ok(());
        };
        let mut key = uri::root_key(&location, &meant.owner);
        if !meant.rest.is_empty() {
            key = format!("{key}/{}", meant.rest);
        }
        let prefix = ArtifactKey::new(&key)?;
        let files: Vec<(String, Digest)> =
            self.target.artifacts.walk_artifacts(&prefix).await?.into_iter().map(|a| (a.key, a.digest)).collect();
        // `models:/m-...` and `runs:/...` mean the same thing here.
        if !version.source.starts_with("models:/") && !version.source.starts_with("runs:/") {
            version.source = format!("mlflow-artifacts:/{key}");
        }
        version.files = files;
        Ok(())
    }

    async fn alias(&self, model: &str, alias: &str, number: u64) -> Outcome {
        let Some(here) = self.target.models.registered_model(model).await? else { return Ok(Taken::New) };
        match here.aliases.get(alias) {
            Some(ours) if *ours == number => return Ok(Taken::Same),
            Some(ours) => {
                self.say(format!("alias `{alias}` of `{}` names version {ours} here, {number} there, and stays", check::shown(model)));
                return Ok(Taken::Same);
            }
            None if self.options.dry_run => return Ok(Taken::New),
            None => {}
        }
        let wish = AliasMove {
            asset: here.asset,
            alias: AliasName::new(alias)?,
            to: Some(number),
            expect: Some(None),
            actor: self.options.actor.clone(),
            reason: format!("imported from {}", self.source.about()),
            run: None,
        };
        self.target.ledger.move_alias(wish, self.target.clock.now()).await?;
        Ok(Taken::New)
    }
}

fn is_prompt(version: &ImportedVersion) -> bool {
    version.tags.contains_key("mlflow.prompt.is_prompt")
}
