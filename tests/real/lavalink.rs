//! The Lavalink behind the proxy: a node of the demo, or a real server from a jar that the environment names.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::env;
use std::ffi::OsString;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use lavaproxy::config::Lavalink;
use lavaproxy::demo::{Close, Node};

use crate::support::{Backend, Client, PASSWORD};

/// How long a real Lavalink may take to start, with another one beside it.
const START: Duration = Duration::from_secs(180);

/// Runs its arguments until its input ends, which is when this process does, however that comes about.
const UNTIL_WE_END: &str = r#"
exec 3<&0
{ read -r end <&3; kill -9 0; } &
"$@" </dev/null
kill -9 0
"#;

/// What would need the internet.
const REMOTE_SOURCES: [&str; 6] = ["youtube", "bandcamp", "soundcloud", "twitch", "vimeo", "nico"];

pub enum Server {
    Demo(Node),
    Jar(&'static Jar),
}

/// A real server. It takes long to start, so all tests share one of each version; their sessions keep them apart.
pub struct Jar {
    address: SocketAddr,
    tone: Backend,
    /// With the input that keeps it running.
    _process: Child,
}

static V3: LazyLock<Jar> = LazyLock::new(|| Jar::start(Lavalink::V3));
static V4: LazyLock<Jar> = LazyLock::new(|| Jar::start(Lavalink::V4));

impl Server {
    pub fn start(version: Lavalink) -> Self {
        match (jar(version), version) {
            (None, _) => Self::Demo(Node::start(version, PASSWORD).unwrap()),
            (Some(_), Lavalink::V3) => Self::Jar(&V3),
            (Some(_), Lavalink::V4) => Self::Jar(&V4),
        }
    }

    /// A node of the demo, by its name beside others.
    pub fn demo(name: &str, version: Lavalink) -> Self {
        Self::Demo(Node::start_named(name, version, PASSWORD).unwrap())
    }

    /// A real one has none.
    pub fn name(&self) -> &str {
        match self {
            Self::Demo(node) => node.name(),
            Self::Jar(_) => "",
        }
    }

    /// It is killed. A real one is not, as other tests use it too.
    pub fn die(&self) {
        if let Self::Demo(node) = self {
            node.die(Close::Fin);
        }
    }

    /// It is killed and starts again, without sessions. A real one is not.
    pub fn restart(&self) {
        self.die();
        if let Self::Demo(node) = self {
            node.revive().unwrap();
        }
    }

    pub fn address(&self) -> SocketAddr {
        match self {
            Self::Demo(node) => node.address(),
            Self::Jar(jar) => jar.address,
        }
    }

    /// Something that this server can load.
    pub fn identifier(&self) -> String {
        match self {
            Self::Demo(_) => "http://127.0.0.1/tone.mp3?a=b&c=d e".to_owned(),
            Self::Jar(jar) => format!("http://{}/tone.wav", jar.tone.address),
        }
    }

    /// Whether it connects to the voice servers that a bot names. A real one would look for Discord's.
    pub fn has_voice(&self) -> bool {
        matches!(self, Self::Demo(_))
    }
}

fn jar(version: Lavalink) -> Option<OsString> {
    let variable = format!("LAVALINK_{}_JAR", version.name().to_ascii_uppercase());
    env::var_os(variable).filter(|jar| !jar.is_empty())
}

impl Jar {
    fn start(version: Lavalink) -> Self {
        let jar = PathBuf::from(jar(version).unwrap());
        let jar = fs::canonicalize(&jar).unwrap_or_else(|error| panic!("{}: {error}", jar.display()));
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{version}-{}", address.port()));
        fs::create_dir_all(&directory).unwrap();
        let log = directory.join("output.log");
        let output = fs::File::create(&log).unwrap();
        let mut process = Command::new("sh")
            .args(["-c", UNTIL_WE_END, "sh", "java", "-jar"])
            .arg(jar)
            .args(["--server.address=127.0.0.1", "--lavalink.server.sources.http=true"])
            .args(REMOTE_SOURCES.map(|source| format!("--lavalink.server.sources.{source}=false")))
            .arg(format!("--server.port={}", address.port()))
            .arg(format!("--lavalink.server.password={PASSWORD}"))
            .current_dir(&directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::from(output.try_clone().unwrap()))
            .stderr(output)
            // `kill 0` ends its own group; a Ctrl-C must not end the shell before that.
            .process_group(0)
            .spawn()
            .unwrap();
        let deadline = Instant::now() + START;
        while !answers(address) {
            let ended = process.try_wait().unwrap().is_some();
            assert!(!ended && Instant::now() < deadline, "Lavalink {version} did not start, see {}", log.display());
            thread::sleep(Duration::from_millis(200));
        }
        Self { address, tone: Backend::answering(tone()), _process: process }
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
    let head = format!(
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: audio/wav\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.into_bytes(), body].concat()
}
