//! Reads a server that the person at the command line named: the client of `gristmill import`.
//!
//! The address is that person's own word, so private ones are fine; what the server answers is not trusted: no redirects, no proxy, answers
//! bounded in size and time. A busy or unreachable server is asked a few times. Credentials go to this one address and into no message.

use async_trait::async_trait;
use bytes::BytesMut;
use futures::{StreamExt as _, TryStreamExt as _};
use gristmill_kernel::{Code, Fault, Kind, Result, limits};
use gristmill_registry::import::mlflow::rest::{Ask, Fetch};
use gristmill_registry::import::mlflow::source::Content;
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use std::time::Duration;

/// How often a request is made.
const TRIES: u32 = 5;
/// The first wait between two tries; doubles each time.
const WAIT: Duration = Duration::from_millis(500);
/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for the next piece of an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(120);

/// How to log in.
#[derive(Clone, Default)]
pub struct Login {
    /// Sent as `Bearer`.
    pub token: Option<String>,
    /// Sent as `Basic`, unless there is a token.
    pub password: Option<(String, String)>,
}

/// Reads one server.
pub struct WebFetch {
    client: Client,
    base: Url,
    login: Login,
}

impl WebFetch {
    /// A server at an address; a name and password in it win over the login.
    pub fn new(address: &str, mut login: Login) -> Result<WebFetch> {
        let bad = |why: &str| Fault::invalid(Code::BAD_VALUE, format!("the address of the server {why}")).fix("write http://HOST:PORT");
        let mut base = Url::parse(address).map_err(|_| bad("is not a URL"))?;
        if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
            return Err(bad("is not one of a web server"));
        }
        if !base.username().is_empty() {
            let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
            login.password = Some((decoded(base.username()), decoded(base.password().unwrap_or_default())));
            login.token = None;
            let _always = base.set_username("").and_then(|()| base.set_password(None));
        }
        base.set_query(None);
        base.set_fragment(None);
        let client = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .no_proxy()
            .build()
            .map_err(|e| Fault::internal("the client of the import cannot be made").because(e))?;
        Ok(WebFetch { client, base, login })
    }

    /// A path of ours beneath the server's own.
    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base.as_str().trim_end_matches('/'))
    }

    fn request(&self, ask: &Ask) -> RequestBuilder {
        let request = match ask {
            Ask::Get(path) => self.client.get(self.url(path)),
            Ask::Post(path, body) => self.client.post(self.url(path)).json(body),
        };
        match (&self.login.token, &self.login.password) {
            (Some(token), _) => request.bearer_auth(token),
            (None, Some((name, password))) => request.basic_auth(name, Some(password)),
            (None, None) => request,
        }
    }

    fn failed(&self, error: reqwest::Error) -> Fault {
        let why = match () {
            () if error.is_timeout() => "does not answer in time",
            () if error.is_connect() => "cannot be reached",
            () => "breaks off",
        };
        Fault::new(Kind::Unavailable, Code::SOURCE_UNREADABLE, format!("the server {} {why}", self.about()))
            .fix("check the address; run the import again, it goes on where it stopped")
            .because(error.without_url())
    }

    /// The beginning of an answer. Everything that is asked only reads, so asking again is safe.
    async fn answer(&self, ask: &Ask) -> Result<Response> {
        let mut wait = WAIT;
        for _ in 1..TRIES {
            match self.request(ask).send().await {
                Ok(answer) if !is_busy(answer.status()) => return self.no_redirect(answer),
                Ok(_) | Err(_) => tokio::time::sleep(wait).await,
            }
            wait *= 2;
        }
        let answer = self.request(ask).send().await.map_err(|e| self.failed(e))?;
        self.no_redirect(answer)
    }

    fn no_redirect(&self, answer: Response) -> Result<Response> {
        if !answer.status().is_redirection() {
            return Ok(answer);
        }
        Err(Fault::invalid(Code::SOURCE_UNREADABLE, format!("the server {} sends us to another address", self.about()))
            .fix("name the address that a browser ends at"))
    }
}

fn is_busy(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 502 | 503 | 504)
}

#[async_trait]
impl Fetch for WebFetch {
    fn about(&self) -> String {
        self.base.as_str().trim_end_matches('/').to_owned()
    }

    async fn json(&self, ask: &Ask) -> Result<(u16, serde_json::Value)> {
        let answer = self.answer(ask).await?;
        let status = answer.status().as_u16();
        let mut body = BytesMut::new();
        let mut pieces = answer.bytes_stream();
        while let Some(piece) = pieces.try_next().await.map_err(|e| self.failed(e))? {
            if body.len() + piece.len() > limits::FOREIGN_ANSWER_BYTES_MAX {
                let told = format!("an answer of {} is longer than {} bytes", self.about(), limits::FOREIGN_ANSWER_BYTES_MAX);
                return Err(Fault::new(Kind::TooLarge, Code::SOURCE_UNREADABLE, told));
            }
            body.extend_from_slice(&piece);
        }
        Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
    }

    async fn stream(&self, path: &str) -> Result<(u16, Content)> {
        let answer = self.answer(&Ask::Get(path.to_owned())).await?;
        let status = answer.status().as_u16();
        let about = self.about();
        let broken = move |e: reqwest::Error| {
            Fault::new(Kind::Unavailable, Code::SOURCE_UNREADABLE, format!("a file from {about} breaks off")).because(e.without_url())
        };
        Ok((status, answer.bytes_stream().map_err(broken).boxed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_in_no_message() {
        let fetch = WebFetch::new("http://ada:s%40cret@host:5000/mlflow/?x=1#y", Login::default()).unwrap();
        assert_eq!(fetch.about(), "http://host:5000/mlflow");
        assert_eq!(fetch.login.password, Some(("ada".into(), "s@cret".into())));
        assert_eq!(fetch.url("/api/2.0/x?a=b"), "http://host:5000/mlflow/api/2.0/x?a=b");
        for bad in ["", "host:5000", "ftp://host", "http://"] {
            assert!(WebFetch::new(bad, Login::default()).is_err(), "{bad}");
        }
    }
}
