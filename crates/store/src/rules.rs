//! The laws of the ledger that every implementation shares, as pure functions, and the words of their refusals.

use gristmill_kernel::run::Finish;
use gristmill_kernel::version::{AliasMove, AliasState, NEW_OUTPUT};
use gristmill_kernel::{Address, Code, Digest, Fault, Kind, Result, Run, RunId, Timestamp, VersionRef, limits};

pub(crate) fn unknown_run(id: &RunId) -> Fault {
    Fault::not_found(Code::UNKNOWN_RUN, format!("there is no run `{id}`")).fix("list runs with: gristmill status")
}

pub(crate) fn ended(run: &Run) -> Fault {
    Fault::conflict(Code::UNKNOWN_RUN, format!("run {} of {} has ended: {}", run.id.short(), run.address, run.status))
        .fix("an ended run does not change; submit a new one")
}

pub(crate) fn not_running(run: &Run) -> Fault {
    Fault::conflict(Code::UNKNOWN_RUN, format!("run {} of {} is {}, not running", run.id.short(), run.address, run.status))
}

pub(crate) fn lease_lost(run: &Run, worker: &str) -> Fault {
    Fault::conflict(
        Code::INTERRUPTED,
        format!("worker {worker} no longer holds run {} of {} ({})", run.id.short(), run.address, run.status),
    )
    .fix("stop working on it; whoever holds it now goes on")
}

pub(crate) fn queue_full() -> Fault {
    Fault::new(Kind::Busy, Code::OVERLOADED, format!("{} runs are waiting already", limits::QUEUE_RUNS_MAX))
        .fix("wait until some have run, or cancel some")
}

/// A parameter keeps its value.
pub(crate) fn param_fits(run: &RunId, name: &str, stored: Option<&str>, value: &str) -> Result<()> {
    match stored {
        Some(stored) if stored != value => Err(Fault::conflict(
            Code::BAD_VALUE,
            format!("parameter `{name}` of run {} is `{stored}` and cannot become `{value}`", run.short()),
        )
        .fix("parameters do not change; use a tag, or another run")),
        _ => Ok(()),
    }
}

/// A run ends with a final status.
pub(crate) fn finish_fits(finish: &Finish) -> Result<()> {
    if finish.status.is_final() {
        return Ok(());
    }
    Err(Fault::internal(format!("a run cannot end as `{}`", finish.status)))
}

pub(crate) fn unknown_version(asset: &Address, number: u64, newest: u64) -> Fault {
    let fix = match newest {
        0 => format!("{asset} has no version yet; run it first: gristmill run {asset}"),
        1 => format!("its only version is {asset}@1"),
        _ => format!("its versions are {asset}@1 to {asset}@{newest}"),
    };
    Fault::not_found(Code::UNKNOWN_MODEL, format!("{asset} has no version {number}")).fix(fix)
}

/// Decides a move of an alias that stands at `current`, on an asset whose newest version is `newest` (0: none).
pub(crate) fn moved(wish: AliasMove, current: Option<u64>, newest: u64, now: Timestamp) -> Result<AliasState> {
    let AliasMove { asset, alias, to, expect, actor, reason, run } = wish;
    let told = |number: Option<u64>| number.map_or("nothing".to_owned(), |n| format!("{asset}@{n}"));
    if let Some(expected) = expect
        && expected != current
    {
        return Err(Fault::conflict(
            Code::ALIAS_CONFLICT,
            format!("alias `{alias}` of {asset} names {}, not {}", told(current), told(expected)),
        )
        .fix("somebody moved it meanwhile; look again and decide again"));
    }
    match to {
        Some(number) if number == 0 || number > newest => return Err(unknown_version(&asset, number, newest)),
        None if current.is_none() => {
            return Err(
                Fault::not_found(Code::ALIAS_CONFLICT, format!("{asset} has no alias `{alias}`")).fix("there is nothing to take away")
            );
        }
        _ => {}
    }
    Ok(AliasState { asset, alias, number: to, previous: current, actor, reason, run, moved_at: now })
}

/// A move to [`NEW_OUTPUT`] names the version that the run made (or found unchanged) of that asset.
pub(crate) fn name_output(mut wish: AliasMove, outputs: &[VersionRef]) -> Result<AliasMove> {
    if wish.to == Some(NEW_OUTPUT) {
        let made = outputs.iter().rev().find(|v| v.asset == wish.asset);
        wish.to = Some(
            made.ok_or_else(|| {
                Fault::internal(format!("alias `{}` shall name an output of {}, which the run did not make", wish.alias, wish.asset))
            })?
            .number,
        );
    }
    Ok(wish)
}

/// Adds a version to a run's outputs once.
pub(crate) fn add_output(outputs: &mut Vec<VersionRef>, version: VersionRef) {
    if !outputs.contains(&version) {
        outputs.push(version);
    }
}

pub(crate) fn token_exists(name: &str) -> Fault {
    Fault::conflict(Code::BAD_VALUE, format!("there is a token `{name}` already")).fix("choose another name, or revoke that one")
}

pub(crate) fn unknown_token(name: &str) -> Fault {
    Fault::not_found(Code::UNKNOWN_NAME, format!("there is no token `{name}`")).fix("list tokens with: gristmill token list")
}

pub(crate) fn artifact_is_file(key: &str) -> Fault {
    Fault::conflict(Code::ALREADY_EXISTS, format!("artifact `{key}` is a file, so nothing can be beneath it"))
        .fix("choose another name, or delete that file")
}

pub(crate) fn artifact_is_folder(key: &str) -> Fault {
    Fault::conflict(Code::ALREADY_EXISTS, format!("artifact `{key}` is a folder, so it cannot be a file"))
        .fix("choose another name, or delete that folder")
}

pub(crate) fn unknown_content(digest: &Digest) -> Fault {
    Fault::not_found(Code::UNKNOWN_ARTIFACT, format!("there is no content with the digest {digest}"))
}
