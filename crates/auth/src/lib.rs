//! Tokens, roles, permissions and who asks. No HTTP framework here.

pub mod permission;

pub use permission::Permission;
