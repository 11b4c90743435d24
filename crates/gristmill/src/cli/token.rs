//! `gristmill token`: make, list and revoke tokens.

use super::{Cx, Ended, Exit};
use crate::output::table;
use crate::wiring::State;
use clap::{Args, Subcommand};
use gristmill_auth::Role;
use gristmill_kernel::Span;

/// Make, list and revoke tokens.
#[derive(Debug, Args)]
pub struct Token {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make a token and print it once.
    New {
        /// Its name.
        name: String,
        /// What it may do: admin, editor, viewer, predictor.
        #[arg(long, default_value = "viewer")]
        role: Role,
        /// How long it works: 30d.
        #[arg(long)]
        expires: Option<Span>,
    },
    /// List tokens; the tokens themselves are not kept.
    List,
    /// Take a token back.
    Revoke {
        /// Its name.
        name: String,
    },
}

impl Token {
    pub async fn run(self, cx: &Cx) -> Ended {
        let state = State::open(cx).await?;
        let now = state.ports.clock.now();
        match self.what {
            What::New { name, role, expires } => {
                let token = gristmill_auth::make_token(
                    state.tokens.as_ref(),
                    state.ports.ids.as_ref(),
                    gristmill_auth::NewToken { name, role, expires_at: expires.map(|e| now.plus(e)) },
                    &cx.actor(),
                    now,
                )
                .await?;
                cx.out.data(gristmill_auth::expose(&token));
                cx.out.hint("this is the only time it is shown; send it as Authorization: Bearer TOKEN");
            }
            What::List => {
                let tokens = state.tokens.tokens().await?;
                if cx.out.is_json() {
                    cx.out.data_json(&tokens);
                } else {
                    let rows = tokens
                        .into_iter()
                        .map(|t| {
                            let until = t.revoked_at.map(|r| format!("revoked {r}")).or(t.expires_at.map(|e| format!("until {e}")));
                            vec![t.name, t.role, t.made_at.to_string(), until.unwrap_or_default()]
                        })
                        .collect();
                    cx.out.data(table(&["name", "role", "made", ""], rows));
                }
            }
            What::Revoke { name } => {
                state.tokens.revoke_token(&name, &cx.actor(), now).await?;
                cx.out.say(format!("token {name} no longer works"));
            }
        }
        Ok(Exit::Done)
    }
}
