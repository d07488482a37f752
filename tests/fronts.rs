//! Real fronts with the configurations of deploy/, TLS ended at them, between real bot libraries and the proxy.
//!
//! Only names, ports and paths are put in place of the ones that stand there. Clients come from addresses of their own
//! on loopback; the fronts connect from 127.0.0.1. Without HAProxy, nginx, Caddy or openssl a test says that it was
//! skipped; where CI is set that is a failure.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/driver.rs"]
mod driver;
#[path = "support/relay.rs"]
mod relay;
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use lavaproxy::config::Lavalink;
use lavaproxy::demo::Node;
use relay::Relay;
use serde_json::Value;
use support::{PASSWORD, Proxy, eventually, tool};

/// A client that lies about its address.
const LIAR: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);
/// Where the bots are.
const BOTS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 7);

/// The program of this name, which Debian's package of the same name brings; `None` is a skip.
fn program(name: &str) -> Option<PathBuf> {
    let package = if name == "nginx" { "nginx libnginx-mod-stream" } else { name };
    tool::program(name, package)
}

/// A certificate for 127.0.0.1 that is its own authority, and its key: alone, and both in one file.
struct Certificate {
    certificate: PathBuf,
    key: PathBuf,
    both: PathBuf,
}

static CERTIFICATE: LazyLock<Certificate> = LazyLock::new(|| {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fronts");
    fs::create_dir_all(&directory).unwrap();
    let [certificate, key, both] = ["tls.crt", "tls.key", "tls.pem"].map(|name| directory.join(name));
    let status = Command::new(program("openssl").unwrap())
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=lavaproxy test", "-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-out", shown(&certificate), "-keyout", shown(&key)])
        .stderr(Stdio::null())
        .status();
    assert!(status.unwrap().success());
    fs::write(&both, [&certificate, &key].map(|file| fs::read_to_string(file).unwrap()).concat()).unwrap();
    Certificate { certificate, key, both }
});

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
struct Front {
    address: SocketAddr,
    process: Child,
}

impl Drop for Front {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A front's program, and a directory for what it writes.
struct Workshop {
    program: PathBuf,
    directory: PathBuf,
}

impl Workshop {
    fn of(name: &str, test: &str) -> Option<Self> {
        let (program, _openssl) = (program(name)?, program("openssl")?);
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fronts").join(test);
        fs::create_dir_all(&directory).unwrap();
        Some(Self { program, directory })
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
                return Front { address, process };
            }
        }
        panic!("{}", fs::read_to_string(self.directory.join("log")).unwrap());
    }

    fn haproxy(&self, file: &str, backend: SocketAddr, more: &[(&str, &str)]) -> Front {
        let (backend, pem) = (backend.to_string(), shown(&CERTIFICATE.both));
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

    fn nginx(&self, file: &str, backend: SocketAddr) -> Front {
        let directory = shown(&self.directory);
        let backend = backend.to_string();
        self.open(
            |port| {
                let listen = format!("listen 127.0.0.1:{port} ");
                let snippet = filled(
                    file,
                    &[
                        ("listen 443 ", &listen),
                        ("/etc/ssl/lava.example.crt", shown(&CERTIFICATE.certificate)),
                        ("/etc/ssl/lava.example.key", shown(&CERTIFICATE.key)),
                        ("127.0.0.1:6923", &backend),
                    ],
                );
                let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                    .map(|kind| format!("{kind}_temp_path {directory}/{kind};\n"))
                    .concat();
                let around = format!("daemon off;\nmaster_process off;\npid {directory}/pid;\nevents {{}}\n");
                match snippet.contains("stream {") {
                    true => format!("load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n{around}{snippet}"),
                    false => format!("{around}http {{\naccess_log off;\n{temporary}{snippet}}}\n"),
                }
            },
            |file| ["-e", "stderr", "-p", directory, "-c", shown(file)].map(str::to_owned).to_vec(),
        )
    }

    fn caddy(&self, backend: SocketAddr) -> Front {
        let backend = backend.to_string();
        let Certificate { certificate, key, .. } = &*CERTIFICATE;
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

impl Front {
    /// Sends a request over TLS from this address and returns all of the answer.
    fn ask(&self, from: Ipv4Addr, request: &str) -> String {
        let mut tls = Command::new(program("openssl").unwrap())
            .args(["s_client", "-quiet", "-verify_return_error", "-CAfile", shown(&CERTIFICATE.certificate)])
            .args(["-bind", &from.to_string(), "-connect", &self.address.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        tls.stdin.as_mut().unwrap().write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        tls.stdout.as_mut().unwrap().read_to_end(&mut answer).unwrap();
        tls.wait().unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Everything that the liar can think of, with the right password and with a wrong one.
    fn lie(&self) {
        for (password, status) in [(PASSWORD, "200"), ("wrong", "403")] {
            let answer = self.ask(
                LIAR,
                &format!(
                    "GET /v4/info HTTP/1.1\r\nHost: {}\r\nAuthorization: {password}\r\nConnection: close\r\n\
                     X-Forwarded-For: 192.0.2.66\r\nForwarded: for=192.0.2.66\r\nX-Real-IP: 192.0.2.66\r\n\
                     X-Forwarded-For: 127.0.0.1, 192.0.2.67, 127.0.0.1\r\nForwarded: for=127.0.0.1, for=192.0.2.66\r\n\r\n",
                    self.address
                ),
            );
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        }
    }

    /// A bot's whole life over https:// and wss://, by way of a relay that cuts its connections.
    fn drive(&self, environment: &str, bot: &str) {
        if !driver::is_installed(environment) {
            return;
        }
        let own = driver::path("target/real").join(environment).join("bin/python");
        let runtime = if environment == "node" { PathBuf::from("node") } else { own };
        let relay = Relay::from(BOTS, self.address, Duration::ZERO);
        let mut command = Command::new(runtime);
        command
            .arg(driver::path("tests/real").join(bot))
            .env("LAVALINK_HOST", "127.0.0.1")
            .env("LAVALINK_PORT", relay.address.port().to_string())
            .env("LAVALINK_PASSWORD", PASSWORD)
            .env("LAVALINK_IDENTIFIER", "http://127.0.0.1/tone.mp3")
            .env("LAVALINK_SECURE", "1")
            .env("NODE_EXTRA_CA_CERTS", &CERTIFICATE.certificate)
            .env("SSL_CERT_FILE", &CERTIFICATE.certificate)
            .env("PYTHONDONTWRITEBYTECODE", "1");
        let driven = driver::drive(&mut command, |command| {
            // To the bot a node that is killed is one more cut.
            if matches!(command, "CUT" | "KILL") {
                relay.cut();
            }
        });
        let driver::Driven { status, steps, complaints } = driven;
        let last = steps.last().map(String::as_str);
        assert!(status.success() && last == Some("play-on"), "{bot}: {status}, steps {steps:?}\n{complaints}");
    }
}

/// Both nodes and the proxy before them, as the head of each snippet says.
struct Site {
    _nodes: [Node; 2],
    proxy: Proxy,
}

impl Site {
    fn new(proxy_protocol: &str) -> Self {
        let nodes = Lavalink::ALL.map(|version| Node::start(version, PASSWORD).unwrap());
        let set = [("TRUSTED_PROXIES", "127.0.0.1"), ("PROXY_PROTOCOL", proxy_protocol)];
        let proxy = Proxy::before(nodes[0].address(), nodes[1].address(), &set);
        Self { _nodes: nodes, proxy }
    }

    /// What each address used, after the check that it adds up.
    fn usage(&self) -> BTreeMap<String, Value> {
        let stats = self.proxy.stats();
        let rows = stats["usage"].as_array().unwrap();
        for name in ["active", "connections", "requests", "bytesIn", "bytesOut"] {
            let sum: u64 = rows.iter().map(|row| row[name].as_u64().unwrap()).sum();
            assert_eq!(stats["totals"][name], sum, "{name} in {stats}");
        }
        rows.iter().map(|row| (row["address"].as_str().unwrap().to_owned(), row.clone())).collect()
    }

    /// Runs a bot and the liar through a front, and checks the addresses in the ledger.
    fn goes_through(&self, front: &Front, bots: &[(&str, &str)]) {
        front.lie();
        for (environment, bot) in bots {
            front.drive(environment, bot);
        }
        front.lie();
        eventually("the tunnels are closed", || self.proxy.stats()["totals"]["websockets"] == 0);
        let usage = self.usage();
        let addresses: Vec<_> = usage.keys().map(String::as_str).collect();
        assert_eq!(addresses, [LIAR.to_string(), BOTS.to_string()].as_slice(), "{usage:?}");
        assert_eq!(usage[&LIAR.to_string()]["requests"], 4);
        let bots = &usage[&BOTS.to_string()];
        assert!(bots["requests"].as_u64() >= Some(10) && bots["bytesOut"].as_u64() > Some(1000), "{bots}");
        assert_eq!(self.proxy.ended("bad-request"), 0);
    }
}

const SHOUKAKU: (&str, &str) = ("node", "node/shoukaku.mjs");
const LAVALINK_PY: (&str, &str) = ("python/v4", "python/lavalink_bot.py");

#[test]
fn haproxy_with_a_proxy_header_of_version_2() {
    let Some(workshop) = Workshop::of("haproxy", "haproxy-v2") else { return };
    let site = Site::new("on");
    // Its own checks come as LOCAL. They leave only the front's row, which has no requests.
    let checked = [("send-proxy-v2", "send-proxy-v2 check inter 100ms")];
    let front = workshop.haproxy("haproxy.cfg", site.proxy.address(), &checked);
    eventually("HAProxy has checked three times", || site.proxy.stats()["totals"]["connections"].as_u64() > Some(2));
    assert_eq!(site.proxy.ended("bad-request"), 0);
    drop(front);
    site.proxy.wait_until_empty();
    let site = Site::new("on");
    let front = workshop.haproxy("haproxy.cfg", site.proxy.address(), &[]);
    site.goes_through(&front, &[SHOUKAKU, LAVALINK_PY]);
}

#[test]
fn haproxy_with_a_proxy_header_of_version_1() {
    let Some(workshop) = Workshop::of("haproxy", "haproxy-v1") else { return };
    let site = Site::new("on");
    let front = workshop.haproxy("haproxy.cfg", site.proxy.address(), &[("send-proxy-v2", "send-proxy")]);
    site.goes_through(&front, &[SHOUKAKU]);
}

#[test]
fn haproxy_with_a_checksum_and_more_in_its_header() {
    let Some(workshop) = Workshop::of("haproxy", "haproxy-options") else { return };
    let site = Site::new("on");
    let more = "send-proxy-v2 proxy-v2-options ssl,cert-cn,ssl-cipher,authority,crc32c,unique-id";
    let front = workshop.haproxy("haproxy.cfg", site.proxy.address(), &[("send-proxy-v2", more)]);
    front.lie();
    assert_eq!(site.usage()[&LIAR.to_string()]["requests"], 2);
}

#[test]
fn haproxy_in_http_mode() {
    let Some(workshop) = Workshop::of("haproxy", "haproxy-http") else { return };
    let site = Site::new("off");
    let front = workshop.haproxy("haproxy-http.cfg", site.proxy.address(), &[]);
    site.goes_through(&front, &[SHOUKAKU, LAVALINK_PY]);
}

#[test]
fn nginx_in_http_mode() {
    let Some(workshop) = Workshop::of("nginx", "nginx") else { return };
    let site = Site::new("off");
    let front = workshop.nginx("nginx.conf", site.proxy.address());
    site.goes_through(&front, &[SHOUKAKU, LAVALINK_PY]);
}

#[test]
fn nginx_shares_its_connections_among_clients() {
    let Some(workshop) = Workshop::of("nginx", "nginx-shared") else { return };
    let site = Site::new("off");
    let front = workshop.nginx("nginx.conf", site.proxy.address());
    let clients = [Ipv4Addr::new(127, 0, 0, 10), Ipv4Addr::new(127, 0, 0, 11)];
    let request = format!(
        "GET /v4/info HTTP/1.1\r\nHost: lava.example\r\nAuthorization: {PASSWORD}\r\nConnection: close\r\n\r\n"
    );
    for _ in 0..3 {
        for client in clients {
            assert!(front.ask(client, &request).starts_with("HTTP/1.1 200 "));
        }
    }
    let stats = site.proxy.stats();
    assert_eq!((&stats["totals"]["connections"], &stats["totals"]["active"]), (&1.into(), &1.into()), "{stats}");
    let usage = site.usage();
    let figures = clients
        .map(|client| ["requests", "active", "bytesIn"].map(|name| usage[&client.to_string()][name].as_u64().unwrap()));
    assert_eq!(figures[0][2], figures[1][2], "{figures:?}");
    assert_eq!(figures.map(|[requests, active, _]| [requests, active]), [[3, 0], [3, 1]]);
    assert_eq!(usage.len(), 2, "{usage:?}");
}

#[test]
fn nginx_with_a_proxy_header() {
    let Some(workshop) = Workshop::of("nginx", "nginx-stream") else { return };
    let site = Site::new("on");
    let front = workshop.nginx("nginx-stream.conf", site.proxy.address());
    site.goes_through(&front, &[SHOUKAKU]);
}

#[test]
fn caddy() {
    let Some(workshop) = Workshop::of("caddy", "caddy") else { return };
    let site = Site::new("off");
    let front = workshop.caddy(site.proxy.address());
    site.goes_through(&front, &[SHOUKAKU, LAVALINK_PY]);
}
