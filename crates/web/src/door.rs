//! Who may come in: Host and Origin first, then the credentials, before a byte of the body is read.
//!
//! Browser-borne attacks end here. A page of another site can make a browser call us (cross-site requests) or can make its own name
//! point to us (DNS rebinding). The first always carries its own Origin, the second its own Host. Both are compared for all
//! methods, on loopback too. A Host that is an IP address cannot have been rebound, so those are let through.

use crate::call::Caller;
use async_trait::async_trait;
use gristmill_auth::Permission;
use gristmill_kernel::port::Ids;
use gristmill_kernel::{Code, Fault, Kind, Result};
use http::{HeaderMap, Uri, header};
use std::net::IpAddr;
use std::sync::Arc;

/// What a request brings to prove who it is.
pub struct Credentials<'a> {
    /// The `Authorization` header, whole: `Bearer ...` or `Basic ...`.
    pub authorization: Option<&'a str>,
    /// The `Cookie` header, whole.
    pub cookie: Option<&'a str>,
}

/// Decides about callers. The binary builds one from `auth`.
#[async_trait]
pub trait Doorkeeper: Send + Sync {
    /// The caller, if the credentials are good and allow it. Kinds: `Unauthenticated` without good credentials, `Denied` without the right.
    /// Never asked for [`Permission::Public`].
    async fn admit(&self, credentials: Credentials<'_>, permission: Permission) -> Result<Caller>;
}

/// Everything about coming in.
#[derive(Clone)]
pub struct Door {
    /// Decides about callers.
    pub keeper: Arc<dyn Doorkeeper>,
    /// The names this server answers to.
    pub hosts: Hosts,
    /// Makes the ids of failed requests.
    pub ids: Arc<dyn Ids>,
}

impl Door {
    /// A new id for the log and the caller.
    pub(crate) fn request_id(&self) -> String {
        let mut bytes = [0; 8];
        self.ids.random(&mut bytes);
        hex::encode(bytes)
    }

    /// The caller, for a permission.
    pub(crate) async fn admit(&self, headers: &HeaderMap, permission: Permission) -> Result<Caller> {
        if permission == Permission::Public {
            return Ok(Caller { actor: gristmill_kernel::Actor("anonymous".into()), role: "anonymous".into() });
        }
        let text = |name| headers.get(name).and_then(|v: &http::HeaderValue| v.to_str().ok());
        self.keeper.admit(Credentials { authorization: text(header::AUTHORIZATION), cookie: text(header::COOKIE) }, permission).await
    }
}

/// The names a server answers to: loopback names, IP addresses, and those configured.
#[derive(Debug, Clone, Default)]
pub struct Hosts {
    names: Vec<String>,
}

impl Hosts {
    /// Loopback and these names (without port).
    pub fn new(names: impl IntoIterator<Item = String>) -> Hosts {
        Hosts { names: names.into_iter().map(|n| n.trim_end_matches('.').to_ascii_lowercase()).collect() }
    }

    /// Checks Host and Origin.
    pub(crate) fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<()> {
        let mut given = headers.get_all(header::HOST).iter();
        let host = given.next().and_then(|v| v.to_str().ok()).or_else(|| uri.authority().map(|a| a.as_str()));
        let host = host.filter(|_| given.next().is_none()).ok_or_else(|| refuse("the request does not name exactly one host"))?;
        // A host with a user in front of it would read as one name to us and as another to a careless client.
        let authority = host.parse::<http::uri::Authority>().ok().filter(|_| !host.contains('@'));
        let authority = authority.ok_or_else(|| refuse(format!("`{host}` is not a host")))?;
        if uri.authority().is_some_and(|asked| !asked.as_str().eq_ignore_ascii_case(authority.as_str())) {
            return Err(refuse("the request line and the Host header name different hosts"));
        }
        let name = authority.host().trim_end_matches('.').to_ascii_lowercase();
        let is_address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
        if !is_address && name != "localhost" && !name.ends_with(".localhost") && !self.names.contains(&name) {
            return Err(refuse(format!("this server does not answer to the host `{name}`"))
                .fix("call it by localhost or its address, or add the name to the server's hosts"));
        }
        match headers.get(header::ORIGIN) {
            None => Ok(()),
            Some(origin) => same_origin(origin.to_str().unwrap_or("null"), &authority),
        }
    }
}

fn same_origin(origin: &str, host: &http::uri::Authority) -> Result<()> {
    let theirs = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    if theirs.is_some_and(|theirs| theirs.eq_ignore_ascii_case(host.as_str())) {
        return Ok(());
    }
    Err(refuse(format!("pages of `{origin}` may not call this server")).fix("open this server's own pages, or call it from a program"))
}

fn refuse(message: impl Into<String>) -> Fault {
    Fault::new(Kind::Denied, Code::NOT_ALLOWED, message)
}
