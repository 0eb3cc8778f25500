//! A client that speaks just enough HTTP/2 to be rude.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

pub struct Raw {
    pub socket: TcpStream,
    /// Read and not yet looked at.
    bytes: Vec<u8>,
}

impl Raw {
    /// Over a connection on which hands were shaken, or not.
    pub fn over(socket: TcpStream) -> Raw {
        Raw {
            socket,
            bytes: Vec::new(),
        }
    }

    /// Shakes hands.
    pub fn connect(address: SocketAddr) -> Raw {
        Raw::with_settings(address, &[])
    }

    /// Shakes hands and allows the server to send this many bytes on each stream.
    pub fn with_window(address: SocketAddr, bytes: u32) -> Raw {
        let mut setting = vec![0, 4];
        setting.extend(bytes.to_be_bytes());
        Raw::with_settings(address, &setting)
    }

    fn with_settings(address: SocketAddr, settings: &[u8]) -> Raw {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        socket
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .unwrap();
        let mut raw = Raw::over(socket);
        raw.frame(SETTINGS, 0, 0, settings);
        raw
    }

    pub fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        // The server may have closed already; tests look at what it says, not at this.
        let _ = self.socket.write_all(&frame);
    }

    /// The headers of a gRPC call, and nothing more.
    pub fn open(&mut self, stream: u32, path: &str) {
        let mut block = Vec::new();
        for (name, value) in [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "localhost"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
        ] {
            block.push(0); // a literal, not to be remembered
            for text in [name, value] {
                assert!(text.len() < 127);
                block.push(text.len() as u8);
                block.extend(text.as_bytes());
            }
        }
        self.frame(HEADERS, END_HEADERS, stream, &block);
    }

    /// An empty gRPC message, and the end of the client's half.
    pub fn empty_message(&mut self, stream: u32) {
        self.frame(DATA, END_STREAM, stream, &[0, 0, 0, 0, 0]);
    }

    /// A whole call of the capacity stream.
    pub fn capacity(&mut self, stream: u32) {
        self.open(stream, "/solpipe.WorkerStatus/OnStatus");
        self.empty_message(stream);
    }

    /// Takes a call back.
    pub fn cancel(&mut self, stream: u32) {
        self.frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]);
    }

    pub fn ping(&mut self) {
        self.frame(PING, 0, 0, b"pingpong");
    }

    /// Allows the server to send more on this stream (and 0 stands for the connection).
    pub fn allow(&mut self, stream: u32, bytes: u32) {
        self.frame(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes());
    }

    /// The next frame, as kind, flags and payload; `Err(true)` when the connection has ended,
    /// `Err(false)` when nothing came until then.
    fn read(&mut self, until: Instant) -> Result<(u8, u8, Vec<u8>), bool> {
        loop {
            if let Some(&[a, b, c, kind, flags, ..]) = self.bytes.first_chunk::<9>() {
                let end = 9 + u32::from_be_bytes([0, a, b, c]) as usize;
                if self.bytes.len() >= end {
                    let payload = self.bytes[9..end].to_vec();
                    self.bytes.drain(..end);
                    return Ok((kind, flags, payload));
                }
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(false);
            }
            self.socket.set_read_timeout(Some(left)).unwrap();
            let mut piece = [0; 4096];
            match self.socket.read(&mut piece) {
                Ok(0) => return Err(true),
                Ok(read) => self.bytes.extend(&piece[..read]),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => return Err(false),
                    _ => return Err(true),
                },
            }
        }
    }

    /// The most streams that the server allows this connection, as its first frame says.
    pub fn allowed_streams(&mut self, patience: Duration) -> Option<u32> {
        const MAX_CONCURRENT_STREAMS: [u8; 2] = [0, 3];
        let until = Instant::now() + patience;
        let (kind, _, payload) = self.read(until).expect("a frame in time");
        assert_eq!(kind, SETTINGS);
        let mut settings = payload.chunks_exact(6);
        let setting = settings.find(|setting| setting.starts_with(&MAX_CONCURRENT_STREAMS))?;
        Some(u32::from_be_bytes([
            setting[2], setting[3], setting[4], setting[5],
        ]))
    }

    /// The next gRPC message on the only stream there is.
    pub fn message(&mut self, patience: Duration) -> Vec<u8> {
        let until = Instant::now() + patience;
        let mut data = Vec::new();
        loop {
            let (kind, _, payload) = self.read(until).expect("a message in time");
            if kind == DATA {
                data.extend(payload);
            }
            if let Some(&[0, a, b, c, d]) = data.first_chunk::<5>() {
                let length = u32::from_be_bytes([a, b, c, d]) as usize;
                assert!(data.len() <= 5 + length, "two messages in one frame");
                if data.len() == 5 + length {
                    return data.split_off(5);
                }
            }
        }
    }

    /// Reads (and answers nothing) until the connection ends or this time has passed; true if the
    /// server said goodbye or hung up.
    pub fn dismissed_within(&mut self, span: Duration) -> bool {
        let until = Instant::now() + span;
        loop {
            match self.read(until) {
                Ok((GOAWAY, ..)) => return true,
                Ok(_) => {}
                Err(ended) => return ended,
            }
        }
    }

    /// True if the server ends a stream, with trailers or a reset, before this time has passed.
    pub fn stream_ended_within(&mut self, span: Duration) -> bool {
        let until = Instant::now() + span;
        loop {
            match self.read(until) {
                Ok((HEADERS, flags, _)) if flags & END_STREAM != 0 => return true,
                Ok((RST_STREAM, ..)) => return true,
                Ok(_) => {}
                Err(_) => return false,
            }
        }
    }
}
