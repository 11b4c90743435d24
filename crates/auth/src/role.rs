//! Roles, and what each may do: the whole policy is one `match`.

use crate::Permission;
use gristmill_kernel::{Code, Fault, Result};
use std::{fmt, str::FromStr};

/// What a token may be used as. The words are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Everything, people and tokens too.
    Admin,
    /// The project and its runs, but not people and tokens.
    Editor,
    /// Looks, changes nothing.
    Viewer,
    /// Asks endpoints for predictions and nothing else: the token of an application.
    Predictor,
}

impl Role {
    /// Every role, the mightiest first.
    pub const ALL: [Role; 4] = [Role::Admin, Role::Editor, Role::Viewer, Role::Predictor];
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Admin => "admin",
            Role::Editor => "editor",
            Role::Viewer => "viewer",
            Role::Predictor => "predictor",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = Fault;
    fn from_str(text: &str) -> Result<Role> {
        Role::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(|| {
            Fault::invalid(Code::BAD_VALUE, format!("`{text}` is not a role"))
                .fix(format!("roles are {}", Role::ALL.map(Role::as_str).join(", ")))
        })
    }
}

/// Whether a role may do something: the one place that decides.
pub fn allows(role: Role, permission: Permission) -> bool {
    match (role, permission) {
        (_, Permission::Public) => true,
        (Role::Admin, _) => true,
        (
            Role::Editor,
            Permission::ReadProject
            | Permission::Ingest
            | Permission::Predict
            | Permission::SubmitRun
            | Permission::Track
            | Permission::MoveAlias,
        ) => true,
        (Role::Editor, Permission::Administer) => false,
        (Role::Viewer, Permission::ReadProject) => true,
        (
            Role::Viewer,
            Permission::Ingest
            | Permission::Predict
            | Permission::SubmitRun
            | Permission::Track
            | Permission::MoveAlias
            | Permission::Administer,
        ) => false,
        (Role::Predictor, Permission::Predict) => true,
        (
            Role::Predictor,
            Permission::ReadProject
            | Permission::Ingest
            | Permission::SubmitRun
            | Permission::Track
            | Permission::MoveAlias
            | Permission::Administer,
        ) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_table() {
        #[rustfmt::skip]
        let table = [
            // public, read, ingest, predict, submit, track, move, administer
            (Role::Admin,     [true, true,  true,  true,  true,  true,  true,  true]),
            (Role::Editor,    [true, true,  true,  true,  true,  true,  true,  false]),
            (Role::Viewer,    [true, true,  false, false, false, false, false, false]),
            (Role::Predictor, [true, false, false, true,  false, false, false, false]),
        ];
        assert_eq!(table.map(|(role, _)| role), Role::ALL);
        for (role, row) in table {
            assert_eq!(Permission::ALL.map(|permission| allows(role, permission)), row, "{role}");
        }
    }

    #[test]
    fn words_round_trip() {
        for role in Role::ALL {
            assert_eq!(role.as_str().parse::<Role>().unwrap(), role);
        }
        let fault = "root".parse::<Role>().unwrap_err();
        assert!(fault.fix.unwrap().contains("predictor"));
    }
}
