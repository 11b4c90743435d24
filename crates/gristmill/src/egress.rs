//! The one client that calls out: alerts, and the webhooks of the registry.
//!
//! Allowed schemes, no redirects, time and size caps; a name is resolved once, its addresses are checked, and the connection goes to
//! exactly those: private, loopback, link-local and metadata addresses are refused unless the project allows them.

use async_trait::async_trait;
use bytes::BytesMut;
use gristmill_kernel::port::{Outward, Post, Posted};
use gristmill_kernel::{Code, Fault, Kind, Result, Span, limits};
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
        if let Some(private) = self.first_private(&found) {
            return Err(refused(format!("{host} is {}, which is not a public address", private.ip())));
        }
        Ok(found)
    }

    fn first_private<'a>(&self, found: &'a [SocketAddr]) -> Option<&'a SocketAddr> {
        found.iter().find(|a| !self.allow_private && !is_public(a.ip()))
    }

    /// A client that calls these addresses of the host and no others.
    fn client(&self, host: &str, addresses: &[SocketAddr]) -> reqwest::Result<reqwest::Client> {
        reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_millis(limits::WEBHOOK_TIMEOUT_MS))
            .resolve_to_addrs(host, addresses)
            .no_proxy()
            .build()
    }

    /// The address of a webhook that a client of the registry named, and where its host is now. The words are those that tracking clients
    /// know; none of them holds more of the address than its host.
    async fn webhook(&self, url: &SecretString) -> Result<(reqwest::Url, String, Vec<SocketAddr>)> {
        let refused = |why: String| {
            Fault::invalid(Code::BAD_VALUE, why).fix("use a public https address, or allow private ones: [alerts] allow_private = true")
        };
        // Without encryption only where the project allows its own network.
        let schemes: &[&str] = if self.allow_private { &["https", "http"] } else { &["https"] };
        let scheme = |scheme: &str| match schemes.contains(&scheme) {
            true => Ok(()),
            false => Err(refused(format!("Invalid webhook URL scheme: '{scheme}'. Allowed schemes are: {}.", schemes.join(", ")))),
        };
        if !url.expose_secret().contains(':') {
            scheme("")?;
        }
        // A parser of web addresses takes the first name it finds for the host, however many slashes there are.
        if let Some((given, rest)) = url.expose_secret().split_once("://") {
            scheme(&given.to_ascii_lowercase())?;
            if rest.is_empty() || rest.starts_with(['/', '?', '#', '\\']) {
                return Err(refused("Webhook URL must include a hostname".to_owned()));
            }
        }
        let url = reqwest::Url::parse(url.expose_secret()).map_err(|_| refused("Invalid webhook URL".to_owned()))?;
        scheme(url.scheme())?;
        let host = url.host_str().ok_or_else(|| refused("Webhook URL must include a hostname".to_owned()))?.to_owned();
        let port = url.port_or_known_default().unwrap_or(443);
        let found = tokio::net::lookup_host((host.trim_matches(['[', ']']), port)).await;
        let found: Vec<SocketAddr> = found
            .map_err(|e| {
                Fault::new(Kind::Unavailable, Code::PART_UNAVAILABLE, format!("Cannot resolve Webhook URL hostname '{host}'")).because(e)
            })?
            .collect();
        if let Some(private) = self.first_private(&found) {
            let ip = private.ip();
            return Err(refused(format!("Webhook URL must not resolve to a non-public IP address. '{host}' resolves to {ip}.")));
        }
        Ok((url, host, found))
    }
}

#[async_trait]
impl Outward for WebEgress {
    async fn check(&self, url: &SecretString) -> Result<()> {
        match self.webhook(url).await {
            Ok(_) => Ok(()),
            // A name that is nowhere is the caller's mistake, as long as nothing was sent there yet.
            Err(fault) if fault.kind == Kind::Unavailable => Err(Fault::invalid(Code::BAD_VALUE, fault.message)),
            Err(fault) => Err(fault),
        }
    }

    async fn post(&self, post: Post) -> Result<Posted> {
        let (url, host, addresses) = self.webhook(&post.url).await?;
        let failed = |e: reqwest::Error| {
            let why = if e.is_timeout() { "did not answer in time" } else { "did not answer" };
            Fault::new(Kind::Unavailable, Code::PART_UNAVAILABLE, format!("the webhook at {host} {why}")).because(e.without_url())
        };
        let mut request = self.client(&host, &addresses).map_err(failed)?.post(url).body(post.body);
        for (name, value) in post.headers {
            request = request.header(name, value);
        }
        let mut answer = request.send().await.map_err(failed)?;
        let retry_after = answer.headers().get("retry-after").and_then(|v| v.to_str().ok()).and_then(|v| v.trim().parse().ok());
        let mut body = BytesMut::new();
        while body.len() < limits::WEBHOOK_ANSWER_BYTES_MAX {
            match answer.chunk().await {
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                // It answered; that its text breaks off changes nothing.
                Ok(None) | Err(_) => break,
            }
        }
        body.truncate(limits::WEBHOOK_ANSWER_BYTES_MAX);
        let body = String::from_utf8_lossy(&body).into_owned();
        Ok(Posted { status: answer.status().as_u16(), body, retry_after: retry_after.map(Span::from_secs) })
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
        let answer = self.client(&host, &addresses).map_err(failed)?.post(url).json(body).send().await.map_err(failed)?;
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

    fn secret(url: String) -> SecretString {
        SecretString::from(url)
    }

    #[tokio::test]
    async fn webhooks_are_https_and_public_unless_the_project_allows_more() {
        let strict = WebEgress::new(false).unwrap();
        for (url, words) in [
            ("http://1.1.1.1/x", "Invalid webhook URL scheme: 'http'. Allowed schemes are: https."),
            ("ftp://1.1.1.1/x", "Invalid webhook URL scheme: 'ftp'."),
            ("file:///etc/passwd", "Invalid webhook URL scheme: 'file'."),
            ("https://127.0.0.1/token", "'127.0.0.1' resolves to 127.0.0.1."),
            ("https://127.1/token", "resolves to 127.0.0.1."),
            ("https://0x7f000001/token", "resolves to 127.0.0.1."),
            ("https://169.254.169.254/latest/meta-data", "must not resolve to a non-public IP address."),
            ("https://[::1]/x", "must not resolve to a non-public IP address."),
            ("https://[::ffff:10.0.0.1]/x", "must not resolve to a non-public IP address."),
            ("https://user:pass@127.0.0.1/x", "must not resolve to a non-public IP address."),
            ("https://no-such-host.invalid/x", "Cannot resolve Webhook URL hostname 'no-such-host.invalid'"),
            ("nonsense", "Invalid webhook URL scheme: ''. Allowed schemes are: https."),
            ("https://", "Webhook URL must include a hostname"),
            ("https:///127.0.0.1/x", "Webhook URL must include a hostname"),
            ("https://\\127.0.0.1/x", "Webhook URL must include a hostname"),
        ] {
            let fault = strict.check(&secret(url.into())).await.unwrap_err();
            assert_eq!(fault.kind, Kind::Invalid, "{url}");
            assert!(fault.message.contains(words) && !fault.message.contains("token") && !fault.message.contains("pass"), "{url}: {fault}");
        }
        assert!(strict.check(&secret("https://1.1.1.1/x".into())).await.is_ok());
        assert!(WebEgress::new(true).unwrap().check(&secret("http://127.0.0.1/x".into())).await.is_ok());
    }

    /// A server that answers each connection with a text, and gives back what it was sent.
    async fn answering(text: &'static str) -> (String, tokio::task::JoinHandle<String>) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook?token=abc", listener.local_addr().unwrap());
        let task = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut came = vec![0; 4096];
            let n = stream.read(&mut came).await.unwrap();
            stream.write_all(text.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            String::from_utf8_lossy(&came[..n]).into_owned()
        });
        (url, task)
    }

    #[tokio::test]
    async fn a_message_arrives_with_its_headers_and_the_answer_comes_back() {
        let egress = WebEgress::new(true).unwrap();
        let (url, came) = answering("HTTP/1.1 503 Busy\r\nretry-after: 7\r\ncontent-length: 4\r\n\r\nlate").await;
        let post = Post { url: secret(url), headers: vec![("x-mlflow-timestamp", "17".into())], body: bytes::Bytes::from_static(b"{}") };
        let answer = egress.post(post.clone()).await.unwrap();
        assert_eq!(answer, Posted { status: 503, body: "late".into(), retry_after: Some(Span::from_secs(7)) });
        let came = came.await.unwrap().to_lowercase();
        assert!(came.starts_with("post /hook?token=abc") && came.contains("x-mlflow-timestamp: 17") && came.ends_with("{}"), "{came}");
        // Nobody is there any more: no answer, and the fault does not hold the address.
        let fault = egress.post(post).await.unwrap_err();
        assert!(fault.kind == Kind::Unavailable && !fault.to_string().contains("token"), "{fault}");
        // A redirect is an answer, never followed.
        let (url, _came) = answering("HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n").await;
        let post = Post { url: secret(url), headers: Vec::new(), body: bytes::Bytes::new() };
        assert_eq!(egress.post(post).await.unwrap().status, 302);
    }
}
