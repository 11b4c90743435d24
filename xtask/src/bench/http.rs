//! A small HTTP/1.1 client over one connection that stays open: what a load generator needs and no more.
//!
//! It knows lengths and chunks, opens again when the server closed between two requests, and never pipelines. Requests are prepared bytes, so
//! that a measured loop does nothing but write, read and look at the clock.

use anyhow::{Context, Result, bail};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longest wait for a part of an answer.
const PATIENCE: Duration = Duration::from_secs(300);

/// Where a server is and how it is spoken to.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Address {
    /// Its address.
    pub at: SocketAddr,
    /// The value of `Authorization`.
    pub auth: Option<String>,
}

impl Address {
    /// A request with a JSON body.
    pub fn post(&self, path: &str, body: &serde_json::Value) -> Vec<u8> {
        self.with_body("POST", path, "application/json", body.to_string().as_bytes())
    }
    /// A request without a body.
    pub fn get(&self, path: &str) -> Vec<u8> {
        format!("GET {path} HTTP/1.1\r\n{}\r\n", self.fields()).into_bytes()
    }
    /// A request with any body.
    pub fn with_body(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> Vec<u8> {
        let mut request = self.head(method, path, kind, body.len());
        request.extend_from_slice(body);
        request
    }
    /// The head of a request whose body follows.
    pub fn head(&self, method: &str, path: &str, kind: &str, length: usize) -> Vec<u8> {
        format!("{method} {path} HTTP/1.1\r\n{}Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n", self.fields()).into_bytes()
    }
    fn fields(&self) -> String {
        let auth = self.auth.as_ref().map(|a| format!("Authorization: {a}\r\n")).unwrap_or_default();
        format!("Host: {}\r\n{auth}", self.at)
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The JSON of a success; anything else is an error that shows the beginning of the body.
    pub fn json(&self) -> Result<serde_json::Value> {
        if self.status != 200 {
            bail!("status {}: {}", self.status, String::from_utf8_lossy(&self.body).chars().take(400).collect::<String>());
        }
        serde_json::from_slice(&self.body).context("the answer is no JSON")
    }
}

/// One connection.
pub struct Connection {
    at: SocketAddr,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
    /// How much of the buffer was read from the server and not yet used.
    filled: usize,
}

impl Connection {
    /// Not yet open; the first request opens it.
    pub fn new(address: &Address) -> Connection {
        Connection { at: address.at, stream: None, buffer: vec![0; 64 << 10], filled: 0 }
    }

    fn open(&mut self) -> Result<&mut TcpStream> {
        if self.stream.is_none() {
            let stream = TcpStream::connect_timeout(&self.at, PATIENCE).with_context(|| format!("connect to {}", self.at))?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            self.filled = 0;
            self.stream = Some(stream);
        }
        self.stream.as_mut().context("just opened")
    }

    /// Sends a prepared request and reads the answer. A connection that the server closed while it was idle is opened again, once.
    pub fn call(&mut self, request: &[u8]) -> Result<Answer> {
        let fresh = self.stream.is_none();
        let sent = self.open()?.write_all(request);
        let begun = sent.is_ok() && self.fill().is_ok_and(|read| read > 0);
        if !begun {
            self.stream = None;
            if fresh {
                bail!("the server closed a new connection");
            }
            self.open()?.write_all(request)?;
        }
        self.answer(|_| Ok(()))
    }

    /// Sends a head and a body piece by piece.
    pub fn send(&mut self, head: &[u8], mut pieces: impl FnMut() -> Option<Vec<u8>>) -> Result<Answer> {
        self.stream = None;
        let stream = self.open()?;
        stream.write_all(head)?;
        while let Some(piece) = pieces() {
            stream.write_all(&piece)?;
        }
        self.answer(|_| Ok(()))
    }

    /// Sends a request and gives the body of its answer away piece by piece.
    pub fn receive(&mut self, request: &[u8], pieces: impl FnMut(&[u8]) -> Result<()>) -> Result<u16> {
        self.stream = None;
        self.open()?.write_all(request)?;
        let mut pieces = pieces;
        Ok(self.read_answer(&mut pieces, false)?.status)
    }

    /// Reads more into the buffer; how much.
    fn fill(&mut self) -> Result<usize> {
        if self.filled == self.buffer.len() {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        let filled = self.filled;
        let stream = self.stream.as_mut().context("the connection is closed")?;
        let read = stream.read(&mut self.buffer[filled..])?;
        self.filled += read;
        Ok(read)
    }

    fn must_fill(&mut self) -> Result<()> {
        if self.fill()? == 0 {
            bail!("the server closed the connection in the middle of an answer");
        }
        Ok(())
    }

    fn take(&mut self, count: usize) {
        self.buffer.copy_within(count..self.filled, 0);
        self.filled -= count;
    }

    fn answer(&mut self, mut pieces: impl FnMut(&[u8]) -> Result<()>) -> Result<Answer> {
        self.read_answer(&mut pieces, true)
    }

    fn read_answer(&mut self, pieces: &mut dyn FnMut(&[u8]) -> Result<()>, keep: bool) -> Result<Answer> {
        let end = loop {
            if let Some(at) = find(&self.buffer[..self.filled], b"\r\n\r\n") {
                break at;
            }
            self.must_fill()?;
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        self.take(end + 4);
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).context("the answer has no status")?;
        let field = |name: &str| {
            head.lines().skip(1).find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            })
        };
        let mut body = Vec::new();
        let mut give = |piece: &[u8], body: &mut Vec<u8>| {
            if !keep {
                return pieces(piece);
            }
            body.extend_from_slice(piece);
            Ok(())
        };
        let closes = field("connection").is_some_and(|c| c.eq_ignore_ascii_case("close"));
        if field("transfer-encoding").is_some_and(|t| t.eq_ignore_ascii_case("chunked")) {
            loop {
                let line = loop {
                    if let Some(at) = find(&self.buffer[..self.filled], b"\r\n") {
                        break at;
                    }
                    self.must_fill()?;
                };
                let size = String::from_utf8_lossy(&self.buffer[..line]).into_owned();
                let size = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16).context("a chunk has no size")?;
                self.take(line + 2);
                self.exactly(size, &mut |piece| give(piece, &mut body))?;
                self.exactly(2, &mut |_| Ok(()))?;
                if size == 0 {
                    break;
                }
            }
        } else if let Some(length) = field("content-length").and_then(|l| l.parse().ok()) {
            self.exactly(length, &mut |piece| give(piece, &mut body))?;
        } else if status != 204 && status != 304 {
            // Without a length the body ends with the connection.
            loop {
                give(&self.buffer[..self.filled], &mut body)?;
                self.filled = 0;
                if self.fill()? == 0 {
                    break;
                }
            }
            self.stream = None;
        }
        if closes {
            self.stream = None;
        }
        Ok(Answer { status, body })
    }

    fn exactly(&mut self, mut count: usize, give: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        while count > 0 {
            if self.filled == 0 {
                self.must_fill()?;
            }
            let part = count.min(self.filled);
            give(&self.buffer[..part])?;
            self.take(part);
            count -= part;
        }
        Ok(())
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|part| part == what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// A server that gives each connection one answer in two pieces.
    fn server(answers: Vec<&'static str>) -> Address {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut read = [0; 4096];
                assert!(stream.read(&mut read).unwrap() > 0);
                let (first, rest) = answer.split_at(answer.len() / 2);
                stream.write_all(first.as_bytes()).unwrap();
                std::thread::sleep(Duration::from_millis(20));
                stream.write_all(rest.as_bytes()).unwrap();
            }
        });
        Address { at, auth: None }
    }

    #[test]
    fn answers_come_whole_whatever_their_framing() {
        let address = server(vec![
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
            "HTTP/1.0 404 Not Found\r\n\r\nhello",
        ]);
        let mut connection = Connection::new(&address);
        for status in [200, 200, 404] {
            // Each answer ends its connection: the next request opens another.
            let answer = connection.call(&address.get("/")).unwrap();
            assert_eq!((answer.status, answer.body.as_slice()), (status, b"hello".as_slice()));
        }
    }
}
