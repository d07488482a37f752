//! The Lavalink behind the proxy: a node of the demo, or a real server from a jar that the environment names.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::env;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use lavaproxy::config::Lavalink;
use lavaproxy::demo::Node;

use crate::support::{Backend, Client, PASSWORD};

/// How long a real Lavalink may take to start.
const START: Duration = Duration::from_secs(90);

/// What would need the internet.
const REMOTE_SOURCES: [&str; 6] = ["youtube", "bandcamp", "soundcloud", "twitch", "vimeo", "nico"];

pub enum Server {
    Demo(Node),
    Jar { process: Child, address: SocketAddr, tone: Backend },
}

impl Server {
    pub fn start(version: Lavalink) -> Self {
        let variable = format!("LAVALINK_{}_JAR", version.name().to_ascii_uppercase());
        match env::var_os(&variable).filter(|jar| !jar.is_empty()) {
            Some(jar) => Self::start_jar(version, Path::new(&jar)),
            None => Self::Demo(Node::start(version, PASSWORD).unwrap()),
        }
    }

    fn start_jar(version: Lavalink, jar: &Path) -> Self {
        let jar = fs::canonicalize(jar).unwrap_or_else(|error| panic!("{}: {error}", jar.display()));
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{version}-{}", address.port()));
        fs::create_dir_all(&directory).unwrap();
        let log = fs::File::create(directory.join("output.log")).unwrap();
        let process = Command::new("java")
            .arg("-jar")
            .arg(jar)
            .args(["--server.address=127.0.0.1", "--lavalink.server.sources.http=true"])
            .args(REMOTE_SOURCES.map(|source| format!("--lavalink.server.sources.{source}=false")))
            .arg(format!("--server.port={}", address.port()))
            .arg(format!("--lavalink.server.password={PASSWORD}"))
            .current_dir(&directory)
            .stdout(Stdio::from(log.try_clone().unwrap()))
            .stderr(log)
            .spawn()
            .expect("java is needed for the jars (Debian: apt-get install default-jre-headless)");
        let this = Self::Jar { process, address, tone: Backend::answering(tone()) };
        let deadline = Instant::now() + START;
        while !answers(address) {
            assert!(Instant::now() < deadline, "Lavalink did not start, see {}", directory.display());
            thread::sleep(Duration::from_millis(200));
        }
        this
    }

    pub fn address(&self) -> SocketAddr {
        match self {
            Self::Demo(node) => node.address(),
            Self::Jar { address, .. } => *address,
        }
    }

    /// Something that this server can load.
    pub fn identifier(&self) -> String {
        match self {
            Self::Demo(_) => "http://127.0.0.1/tone.mp3?a=b&c=d e".to_owned(),
            Self::Jar { tone, .. } => format!("http://{}/tone.wav", tone.address),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Self::Jar { process, .. } = self {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn answers(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_ok_and(|stream| Client::over(stream).get("/version", "").status == 200)
}

/// An HTTP answer with twenty seconds of silence as a WAV file: 8 kHz, 16 bits, mono.
fn tone() -> Vec<u8> {
    let samples = 8000 * 20 * 2u32;
    let mut body = Vec::new();
    body.extend(b"RIFF");
    body.extend((36 + samples).to_le_bytes());
    body.extend(b"WAVEfmt ");
    body.extend(16u32.to_le_bytes());
    body.extend(1u16.to_le_bytes());
    body.extend(1u16.to_le_bytes());
    body.extend(8000u32.to_le_bytes());
    body.extend(16000u32.to_le_bytes());
    body.extend(2u16.to_le_bytes());
    body.extend(16u16.to_le_bytes());
    body.extend(b"data");
    body.extend(samples.to_le_bytes());
    body.resize(body.len() + samples as usize, 0);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: audio/wav\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.into_bytes(), body].concat()
}
