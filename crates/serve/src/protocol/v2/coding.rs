//! Compressed bodies, both ways: gzip and deflate, which Triton's clients offer.

use bytes::Bytes;
use flate2::Compression;
use flate2::read::{GzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};
use gristmill_kernel::limits::BODY_BYTES_MAX;
use gristmill_kernel::{Code, Fault, Kind, Result};
use gristmill_web::{Body, Call, HeaderValue, Response, header};
use std::io::{Read, Write};

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    Plain,
    Gzip,
    /// With zlib's frame, as HTTP means it (<https://www.rfc-editor.org/rfc/rfc9110#section-8.4.1.2>).
    Deflate,
}

impl Coding {
    fn of(word: &str) -> Option<Coding> {
        match word.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Some(Coding::Plain),
            "gzip" => Some(Coding::Gzip),
            "deflate" => Some(Coding::Deflate),
            _ => None,
        }
    }

    /// Of the request's body.
    pub fn of_body(call: &Call) -> Result<Coding> {
        let word = call.header("content-encoding").unwrap_or_default();
        Coding::of(word).ok_or_else(|| {
            Fault::invalid(Code::BAD_BODY, format!("bodies in the coding `{word}` are not read")).fix("send gzip, deflate or plain bytes")
        })
    }

    /// Of the answer: what a client asks for that names exactly one coding. Most HTTP libraries offer several with every request and want none:
    /// a small answer only gets slower by it.
    pub fn of_answer(call: &Call) -> Coding {
        call.header("accept-encoding").and_then(Coding::of).unwrap_or(Coding::Plain)
    }

    /// The plain bytes, at most as many as a plain body may have.
    pub fn read(self, body: Bytes) -> Result<Bytes> {
        let mut plain = Vec::new();
        let limit = BODY_BYTES_MAX as u64 + 1;
        let read = match self {
            Coding::Plain => return Ok(body),
            Coding::Gzip => GzDecoder::new(body.as_ref()).take(limit).read_to_end(&mut plain),
            Coding::Deflate => ZlibDecoder::new(body.as_ref()).take(limit).read_to_end(&mut plain),
        };
        read.map_err(|e| Fault::invalid(Code::BAD_BODY, "the body cannot be decompressed").fix("compress it again").because(e))?;
        if plain.len() > BODY_BYTES_MAX {
            let what = format!("the body is larger than {BODY_BYTES_MAX} bytes when it is decompressed");
            return Err(Fault::new(Kind::TooLarge, Code::BODY_TOO_LARGE, what).fix("send it in several requests"));
        }
        Ok(plain.into())
    }

    /// The answer in this coding.
    pub async fn written(self, response: Response) -> Result<Response> {
        let word = match self {
            Coding::Plain => return Ok(response),
            Coding::Gzip => "gzip",
            Coding::Deflate => "deflate",
        };
        let failed = |e: std::io::Error| Fault::internal("an answer cannot be compressed").because(e);
        let (mut parts, body) = response.into_parts();
        let plain = gristmill_web::body_bytes(body).await?;
        let written = match self {
            Coding::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(&plain).and_then(|()| encoder.finish())
            }
            _ => {
                let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(&plain).and_then(|()| encoder.finish())
            }
        };
        parts.headers.remove(header::CONTENT_LENGTH);
        parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(word));
        Ok(Response::from_parts(parts, Body::from(written.map_err(failed)?)))
    }
}
