//! Who calls, and what they may do. No HTTP here: `web` hands in a header and gets a [`Caller`].
//!
//! Promises: deny by default; one pure function, [`allows`], decides every permission; a token is shown once, when it is made,
//! and only its SHA-256 is stored; comparing takes the same time whatever differs; a revoked token stops working within seconds.
//! There is no default password, and open mode is only for loopback.
//!
//! To add a permission: a variant of [`Permission`], an arm in [`allows`], a column in its table test. To add a way to log
//! in: a file here that ends in a [`Caller`].

mod authenticate;
pub mod permission;
mod role;
mod token;

pub use authenticate::{Authenticator, Caller};
pub use permission::Permission;
pub use role::{Role, allows};
pub use token::{NewToken, expose, hash_of, make_token};
