//! A server that answers at once and keeps nothing: what is left of a client's time is the client's own. With a file it syncs a few bytes there
//! before each answer: what no server can go below that promises to keep what it acknowledges.

use anyhow::{Context, Result};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;

/// Bytes of the file: written before, so that a sync has nothing else to write than what is new.
const FILE_BYTES: u64 = 1 << 20;
/// What is synced before each answer: as much as a point in a journal.
const POINT_BYTES: usize = 55;

/// Serves on a port until the process is ended; syncs a file before each answer if one is given.
pub fn main(port: &str, file: Option<&str>) -> Result<bool> {
    let file = file.map(File::create).transpose().context("make the file")?;
    if let Some(file) = &file {
        file.write_all_at(&vec![0; FILE_BYTES as usize], 0)?;
        file.sync_all()?;
    }
    let port: u16 = port.parse().context("the port is no number")?;
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    for stream in listener.incoming() {
        let stream = stream?;
        let file = file.as_ref().map(File::try_clone).transpose()?;
        std::thread::spawn(move || {
            let _closed = serve(stream, file);
        });
    }
    Ok(true)
}

/// Answers `{}` to every request of one connection.
fn serve(mut stream: TcpStream, file: Option<File>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut place = 0;
    let mut buffer = Vec::new();
    let mut part = [0; 16 << 10];
    loop {
        let end = loop {
            if let Some(at) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            let read = stream.read(&mut part)?;
            if read == 0 {
                return Ok(());
            }
            buffer.extend_from_slice(&part[..read]);
        };
        let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
        let length: usize = head.lines().find_map(|l| l.strip_prefix("content-length:")).and_then(|v| v.trim().parse().ok()).unwrap_or(0);
        while buffer.len() < end + length {
            let read = stream.read(&mut part)?;
            if read == 0 {
                return Ok(());
            }
            buffer.extend_from_slice(&part[..read]);
        }
        buffer.drain(..end + length);
        if let Some(file) = &file {
            file.write_all_at(&[7; POINT_BYTES], place)?;
            file.sync_data()?;
            place = (place + POINT_BYTES as u64) % (FILE_BYTES - POINT_BYTES as u64);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")?;
    }
}
