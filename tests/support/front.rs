//! Real fronts with the configurations of deploy/, TLS ended at them, and clients of them with addresses of their own.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::cell::Cell;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::driver;
use crate::support::{eventually, tool};

/// The program of this name, which Debian's package of the same name brings; `None` is a skip.
fn program(name: &str) -> Option<PathBuf> {
    let package = if name == "nginx" { "nginx libnginx-mod-stream" } else { name };
    tool::program(name, package)
}

/// A certificate for 127.0.0.1 that is its own authority, and its key: alone, and both in one file.
pub struct Certificate {
    certificate: PathBuf,
    key: PathBuf,
    both: PathBuf,
}

impl Certificate {
    fn new(directory: &Path) -> Self {
        let [certificate, key, both] = ["tls.crt", "tls.key", "tls.pem"].map(|name| directory.join(name));
        let status = Command::new(program("openssl").unwrap())
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
            .args(["-subj", "/CN=lavaproxy test", "-addext", "subjectAltName=IP:127.0.0.1"])
            .args(["-out", shown(&certificate), "-keyout", shown(&key)])
            .stderr(Stdio::null())
            .status();
        assert!(status.unwrap().success());
        fs::write(&both, [&certificate, &key].map(|file| fs::read_to_string(file).unwrap()).concat()).unwrap();
        Self { certificate, key, both }
    }
}

/// A snippet with its names, ports and paths replaced. Each of them must be there.
fn filled(file: &str, replaced: &[(&str, &str)]) -> String {
    let mut text = fs::read_to_string(driver::path("deploy").join(file)).unwrap();
    for (from, to) in replaced {
        assert!(text.contains(from), "{file} has no {from:?}");
        text = text.replace(from, to);
    }
    text
}

fn shown(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A running front.
pub struct Front {
    pub address: SocketAddr,
    process: Child,
    /// The one that it shows.
    pub certificate: PathBuf,
}

impl Drop for Front {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// HAProxy before a fleet.
pub struct FleetFront {
    pub front: Front,
    /// Where it takes connections without TLS.
    pub plain: SocketAddr,
    commands: PathBuf,
}

impl FleetFront {
    /// What the health checks found, such as `UP` or `DOWN 1/2`; empty while HAProxy starts.
    pub fn state(&self, server: &str) -> String {
        let row = format!("fleet,{server},");
        let answer = self.command("show stat");
        let found = answer.lines().find_map(|line| line.strip_prefix(&row)?.split(',').nth(15));
        found.unwrap_or_default().to_owned()
    }

    /// Starts a new HAProxy with the same configuration, and waits until it takes the connections.
    pub fn reload(&self) {
        let worker = || {
            let answer = self.command("show info");
            answer.lines().find_map(|line| line.strip_prefix("Pid: ")).map(str::to_owned)
        };
        let before = worker();
        kill(Pid::from_raw(self.front.process.id() as i32), Signal::SIGUSR2).unwrap();
        eventually("HAProxy has reloaded", || worker().is_some_and(|now| Some(now) != before));
    }

    fn command(&self, command: &str) -> String {
        let mut answer = String::new();
        // While it reloads nobody may be there.
        if let Ok(mut socket) = UnixStream::connect(&self.commands) {
            let _ = socket.write_all(format!("{command}\n").as_bytes());
            let _ = socket.read_to_string(&mut answer);
        }
        answer
    }
}

/// A front's program and certificate, and a directory for what it writes.
pub struct Workshop {
    program: PathBuf,
    pub directory: PathBuf,
    certificate: Certificate,
}

impl Workshop {
    pub fn of(name: &str, test: &str) -> Option<Self> {
        let (program, _openssl) = (program(name)?, program("openssl")?);
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fronts").join(test);
        fs::create_dir_all(&directory).unwrap();
        let certificate = Certificate::new(&directory);
        Some(Self { program, directory, certificate })
    }

    /// Starts the front with the configuration that `configure` writes for a port, until one port is free.
    fn open(&self, configure: impl Fn(u16) -> String, arguments: impl Fn(&Path) -> Vec<String>) -> Front {
        for _ in 0..5 {
            let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let file = self.directory.join("configuration");
            fs::write(&file, configure(address.port())).unwrap();
            let log = fs::File::create(self.directory.join("log")).unwrap();
            let mut process = Command::new(&self.program)
                .args(arguments(&file))
                .env("HOME", &self.directory)
                .stdin(Stdio::null())
                .stdout(log.try_clone().unwrap())
                .stderr(log)
                .spawn()
                .unwrap();
            let mut ended = false;
            eventually("the front listens", || {
                ended = process.try_wait().unwrap().is_some();
                ended || TcpStream::connect(address).is_ok()
            });
            if !ended {
                return Front { address, process, certificate: self.certificate.certificate.clone() };
            }
        }
        panic!("{}", fs::read_to_string(self.directory.join("log")).unwrap());
    }

    pub fn haproxy(&self, file: &str, backend: SocketAddr, more: &[(&str, &str)]) -> Front {
        let (backend, pem) = (backend.to_string(), shown(&self.certificate.both));
        self.open(
            |port| {
                let bind = format!("bind 127.0.0.1:{port} ");
                let own = [
                    ("bind :443 ", bind.as_str()),
                    ("/etc/haproxy/lava.example.pem", pem),
                    ("127.0.0.1:6923", &backend),
                ];
                filled(file, &[&own, more].concat()).replace("PROXY_HOST=127.0.0.1", "")
            },
            |file| vec!["-db".to_owned(), "-f".to_owned(), shown(file).to_owned()],
        )
    }

    /// HAProxy before a fleet, each lavaproxy with the address of its bots and that of its pages. It has a second port,
    /// without TLS, and a socket that takes commands.
    pub fn fleet(&self, lavaproxies: &[[SocketAddr; 2]; 3]) -> FleetFront {
        let commands = self.directory.join("commands");
        let plain = Cell::new(0);
        let front = self.open(
            |port| {
                let [first, second] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
                let [peer, without] = [first, second].map(|listener| listener.local_addr().unwrap());
                plain.set(without.port());
                let bind = format!("bind {without}\n    bind 127.0.0.1:{port} ssl");
                let socket = format!("localpeer haproxy\n    stats socket {} level admin", shown(&commands));
                let mut replaced = vec![
                    ("bind :443 ssl".to_owned(), bind),
                    ("/etc/haproxy/lava.example.pem".to_owned(), shown(&self.certificate.both).to_owned()),
                    ("localpeer haproxy".to_owned(), socket),
                    ("peer haproxy 127.0.0.1:6924".to_owned(), format!("peer haproxy {peer}")),
                ];
                for (number, [proxy, web]) in (1..).zip(lavaproxies) {
                    let server = format!("server lavaproxy{number} ");
                    replaced.push((
                        format!("{server}127.0.0.1{number}:6923"),
                        format!("{server}{proxy} port {}", web.port()),
                    ));
                }
                let replaced: Vec<_> = replaced.iter().map(|(from, to)| (from.as_str(), to.as_str())).collect();
                filled("fleet/haproxy.cfg", &replaced)
            },
            |file| ["-W", "-f", shown(file)].map(str::to_owned).to_vec(),
        );
        FleetFront { plain: SocketAddr::from(([127, 0, 0, 1], plain.get())), front, commands }
    }

    pub fn nginx(&self, file: &str, backend: SocketAddr) -> Front {
        let directory = shown(&self.directory);
        let backend = backend.to_string();
        self.open(
            |port| {
                let listen = format!("listen 127.0.0.1:{port} ");
                let snippet = filled(
                    file,
                    &[
                        ("listen 443 ", &listen),
                        ("/etc/ssl/lava.example.crt", shown(&self.certificate.certificate)),
                        ("/etc/ssl/lava.example.key", shown(&self.certificate.key)),
                        ("127.0.0.1:6923", &backend),
                    ],
                );
                let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                    .map(|kind| format!("{kind}_temp_path {directory}/{kind};\n"))
                    .concat();
                // In a user namespace there is no other user.
                let around =
                    format!("user root;\ndaemon off;\nmaster_process off;\npid {directory}/pid;\nevents {{}}\n");
                match snippet.contains("stream {") {
                    true => format!("load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n{around}{snippet}"),
                    false => format!("{around}http {{\naccess_log off;\n{temporary}{snippet}}}\n"),
                }
            },
            |file| ["-e", "stderr", "-p", directory, "-c", shown(file)].map(str::to_owned).to_vec(),
        )
    }

    pub fn caddy(&self, backend: SocketAddr) -> Front {
        let backend = backend.to_string();
        let Certificate { certificate, key, .. } = &self.certificate;
        self.open(
            |port| {
                let site = format!(
                    "{{\n\tadmin off\n\tauto_https disable_redirects\n}}\n\nhttps://127.0.0.1:{port} {{\n\tbind 127.0.0.1\n\ttls {} {}",
                    shown(certificate),
                    shown(key)
                );
                filled("Caddyfile", &[("\nlava.example {", &format!("\n{site}")), ("127.0.0.1:6923", &backend)])
            },
            |file| ["run", "--adapter", "caddyfile", "--config", shown(file)].map(str::to_owned).to_vec(),
        )
    }
}

/// A client's connection to a front over TLS.
pub struct Tls {
    process: Child,
    answer: ChildStdout,
}

impl Tls {
    /// All that comes until the end.
    fn rest(&mut self) -> String {
        let mut answer = Vec::new();
        self.answer.read_to_end(&mut answer).unwrap();
        if answer.is_empty() {
            let mut why = String::new();
            self.process.stderr.as_mut().unwrap().read_to_string(&mut why).unwrap();
            eprintln!("no answer, and openssl says: {why}");
        }
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// The head of an answer.
    pub fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.answer.read_exact(&mut byte).unwrap_or_else(|error| panic!("{error} after {}", head.escape_ascii()));
            head.push(byte[0]);
        }
        String::from_utf8(head).unwrap()
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Front {
    /// Connects over TLS from this address and sends a request.
    pub fn send(&self, from: Ipv4Addr, request: &str) -> Tls {
        let mut process = Command::new(program("openssl").unwrap())
            .args(["s_client", "-quiet", "-verify_return_error", "-CAfile", shown(&self.certificate)])
            .args(["-bind", &from.to_string(), "-connect", &self.address.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        process.stdin.as_mut().unwrap().write_all(request.as_bytes()).unwrap();
        let answer = process.stdout.take().unwrap();
        Tls { process, answer }
    }

    /// Lets the driver of a bot library connect over TLS and trust this front's certificate.
    pub fn secure(&self, library: &mut Command) {
        let certificates = ["NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE"].map(|name| (name, &self.certificate));
        library.envs(certificates).env("LAVALINK_SECURE", "1");
    }

    /// Sends a request over TLS from this address and returns all of the answer.
    pub fn ask(&self, from: Ipv4Addr, request: &str) -> String {
        self.send(from, request).rest()
    }

    /// The status of the only request of a connection, and whatever lavaproxy says about it.
    pub fn get(&self, from: Ipv4Addr, password: &str) -> (u16, String) {
        let request = format!(
            "GET /v4/info HTTP/1.1\r\nHost: {}\r\nAuthorization: {password}\r\nConnection: close\r\n\r\n",
            self.address
        );
        let answer = self.ask(from, &request);
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.unwrap_or_else(|| panic!("no answer: {answer:?}")), answer)
    }
}
