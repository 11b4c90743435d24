//! The one client that calls out: alerts to webhooks.
//!
//! Allowed schemes, no redirects, time and size caps; a name is resolved once, its addresses are checked, and the connection goes to
//! exactly those: private, loopback, link-local and metadata addresses are refused unless the project allows them.

use async_trait::async_trait;
use gristmill_kernel::{Code, Fault, Kind, Result, limits};
use secrecy::{ExposeSecret as _, SecretString};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Calls webhooks.
pub struct WebEgress {
    allow_private: bool,
}

impl WebEgress {
    /// `allow_private` lets private and loopback addresses through (`[alerts] allow_private = true`).
    pub fn new(allow_private: bool) -> Result<WebEgress> {
        Ok(WebEgress { allow_private })
    }

    async fn addresses(&self, url: &reqwest::Url) -> Result<Vec<SocketAddr>> {
        let refused = |why: String| {
            Fault::invalid(Code::BAD_VALUE, why).fix("use a public https address, or allow private ones: [alerts] allow_private = true")
        };
        if !matches!(url.scheme(), "https" | "http") {
            return Err(refused(format!("alerts do not go to {} addresses", url.scheme())));
        }
        let host = url.host_str().ok_or_else(|| refused("the alert address has no host".to_owned()))?;
        let port = url.port_or_known_default().unwrap_or(443);
        let found: Vec<SocketAddr> = tokio::net::lookup_host((host.trim_matches(['[', ']']), port))
            .await
            .map_err(|e| Fault::new(Kind::Unavailable, Code::PART_UNAVAILABLE, format!("the host {host} cannot be found")).because(e))?
            .collect();
        if !self.allow_private
            && let Some(private) = found.iter().find(|a| !is_public(a.ip()))
        {
            return Err(refused(format!("{host} is {}, which is not a public address", private.ip())));
        }
        Ok(found)
    }
}

/// Whether an address belongs to the public network.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            !(v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_broadcast()
                || v4.is_documentation()
                || v4.is_unspecified()
                || v4.is_multicast()
                || a == 0
                || (a == 100 && (64..128).contains(&b))
                || (a == 192 && b == 0)
                || (a == 198 && (18..20).contains(&b))
                || a >= 240)
        }
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => is_public(IpAddr::V4(v4)),
            None => {
                let first = v6.segments()[0];
                !(v6.is_loopback() || v6.is_unspecified() || v6.is_multicast() || (first & 0xfe00) == 0xfc00 || (first & 0xffc0) == 0xfe80)
                    && first != 0x64
                    && first != 0x2002
                    && !(first == 0x2001 && v6.segments()[1] == 0)
            }
        },
    }
}

#[async_trait]
impl gristmill_monitor::Egress for WebEgress {
    async fn post_json(&self, url: &SecretString, body: &serde_json::Value) -> Result<()> {
        let url = reqwest::Url::parse(url.expose_secret())
            .map_err(|_| Fault::invalid(Code::BAD_VALUE, "the alert address is not a URL").fix("write https://HOST/PATH"))?;
        let addresses = self.addresses(&url).await?;
        let host = url.host_str().unwrap_or_default().to_owned();
        let failed = |e: reqwest::Error| {
            Fault::new(Kind::Unavailable, Code::PART_UNAVAILABLE, format!("the webhook at {host} did not take the alert"))
                .because(e.without_url())
        };
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_millis(limits::WEBHOOK_TIMEOUT_MS))
            .resolve_to_addrs(&host, &addresses)
            .no_proxy()
            .build()
            .map_err(failed)?;
        let answer = client.post(url).json(body).send().await.map_err(failed)?;
        if !answer.status().is_success() {
            return Err(Fault::new(
                Kind::Unavailable,
                Code::PART_UNAVAILABLE,
                format!("the webhook at {host} answered {}", answer.status()),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_public() {
        for private in [
            "127.0.0.1",
            "10.1.2.3",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "::1",
            "fe80::1",
            "fd00::1",
            "::ffff:127.0.0.1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
        for public in ["1.1.1.1", "2606:4700:4700::1111"] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }

    #[tokio::test]
    async fn a_loopback_webhook_is_refused_unless_allowed() {
        let url = reqwest::Url::parse("http://127.0.0.1:9/hook").unwrap();
        assert!(WebEgress::new(false).unwrap().addresses(&url).await.is_err());
        assert!(WebEgress::new(true).unwrap().addresses(&url).await.is_ok());
    }
}
