//! The fleet of deploy/fleet: three pretend nodes, three lavaproxies with its lavaproxy.env, each a process at an address
//! of its own on loopback, and HAProxy with its haproxy.cfg before them.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fs::{self, File, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Mutex;

use lavaproxy::config::Lavalink;
use lavaproxy::demo::{Node, ReportedLoad};
use serde_json::Value;

use crate::driver;
use crate::front::{FleetFront, Workshop};
use crate::nodes::{Nodes, wait_for_state};
use crate::process::{has_ended, lavaproxy, signal, value};
use crate::support::{Client, PASSWORD, eventually};

/// How long a tunnel of the process that was upgraded lives on.
const DRAIN: (&str, &str) = ("DRAIN_TIMEOUT", "1s");
/// Health rounds get their longest time, so that a busy machine makes no node down.
const PATIENT: (&str, &str) = ("HEALTH_INTERVAL", "10s");
const NODES: [&str; 3] = ["eu1", "eu2", "eu3"];

/// The number of players that this node reports, whatever it has, so that its answers tell which one it is.
pub fn mark(node: &str) -> usize {
    1000 + NODES.iter().position(|name| *name == node).expect("no such node")
}

pub struct Fleet {
    pub front: FleetFront,
    pub members: [Member; 3],
    pub nodes: Nodes,
}

impl Fleet {
    /// `None` is a skip.
    pub fn start(test: &str) -> Option<Self> {
        let workshop = Workshop::of("haproxy", test)?;
        let nodes = Nodes::start(Lavalink::V4, &NODES);
        for node in &nodes.all {
            let players = mark(node.name());
            node.report_load(Some(ReportedLoad { players, playing_players: 0, system_load: 0.0 }));
        }
        let members =
            [1, 2, 3].map(|number| Member::start(number, workshop.directory.join(format!("{number}.log")), &nodes));
        let front = workshop.fleet(&[0, 1, 2].map(|index| [members[index].proxy, members[index].web]));
        let fleet = Self { front, members, nodes };
        fleet.members.iter().for_each(|member| fleet.wait_until_up(member));
        Some(fleet)
    }

    /// The lavaproxy that has the only tunnel from this address, and the node of that.
    pub fn way_of(&self, client: Ipv4Addr) -> (&Member, &Node) {
        let client = client.to_string();
        let mut found = None;
        eventually(&format!("{client} has one tunnel"), || {
            let of = |member| Member::tunnels(member).into_iter().map(move |tunnel| (member, tunnel));
            let mut its = self.members.iter().flat_map(of).filter(|(_, tunnel)| tunnel.client == client);
            found = its.next();
            found.is_some() && its.next().is_none()
        });
        let (member, tunnel) = found.unwrap();
        (member, self.nodes.named(&tunnel.node))
    }

    pub fn member_of(&self, client: Ipv4Addr) -> &Member {
        self.way_of(client).0
    }

    /// Starts a lavaproxy that was killed, and waits until HAProxy uses it.
    pub fn bring_back(&self, member: &Member) {
        eventually("HAProxy has seen that it is down", || self.state_of(member).starts_with("DOWN"));
        member.start_again(&self.nodes);
        self.wait_until_up(member);
    }

    pub fn wait_until_up(&self, member: &Member) {
        eventually("HAProxy uses the lavaproxy", || self.state_of(member) == "UP");
    }

    pub fn state_of(&self, member: &Member) -> String {
        self.front.state(&member.name())
    }

    /// The node starts again, and every lavaproxy knows it.
    pub fn revive(&self, node: &str) {
        self.nodes.named(node).revive().unwrap();
        for member in &self.members {
            wait_for_state(member.web, node, "up");
        }
    }
}

/// One lavaproxy.
pub struct Member {
    number: u8,
    log: PathBuf,
    pub proxy: SocketAddr,
    pub web: SocketAddr,
    life: Mutex<Life>,
}

/// Its processes. A successor is no child of this one.
struct Life {
    serving: Option<u32>,
    children: Vec<Child>,
}

impl Drop for Life {
    fn drop(&mut self) {
        if let Some(pid) = self.serving {
            signal(pid, "KILL");
        }
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Member {
    /// At free ports, which it keeps.
    fn start(number: u8, log: PathBuf, nodes: &Nodes) -> Self {
        File::create(&log).unwrap();
        let child = spawn(number, &log, nodes, [0, 0]);
        let life = Mutex::new(Life { serving: Some(child.id()), children: vec![child] });
        let [proxy, web] = ["proxy", "web"].map(|listener| {
            let line = await_line(&log, 0, &format!("event=listening listener={listener} "));
            value(&line, "address").parse().unwrap()
        });
        Self { number, log, proxy, web, life }
    }

    fn start_again(&self, nodes: &Nodes) {
        let child = spawn(self.number, &self.log, nodes, [self.proxy.port(), self.web.port()]);
        let mut life = self.life.lock().unwrap();
        life.serving = Some(child.id());
        life.children.push(child);
    }

    pub fn name(&self) -> String {
        format!("lavaproxy{}", self.number)
    }

    /// SIGKILL or SIGTERM. It has ended, with all of its threads, when this returns.
    pub fn end(&self, by: &str) {
        let pid = self.life.lock().unwrap().serving.take().expect("it is not running");
        signal(pid, by);
        let is_closed = |address: SocketAddr| TcpStream::connect(address).is_err();
        eventually("it has ended", || has_ended(pid) && is_closed(self.proxy) && is_closed(self.web));
    }

    /// SIGUSR2; the successor serves when this returns, and the tunnels of its predecessor end soon.
    pub fn upgrade(&self) {
        let mut life = self.life.lock().unwrap();
        let before = fs::read_to_string(&self.log).unwrap().len();
        signal(life.serving.unwrap(), "USR2");
        let line = await_line(&self.log, before, " event=upgraded ");
        life.serving = Some(value(&line, "successor").parse().unwrap());
    }

    /// SIGSTOP.
    pub fn hang(&self) {
        signal(self.life.lock().unwrap().serving.unwrap(), "STOP");
    }

    /// SIGCONT.
    pub fn go_on(&self) {
        signal(self.life.lock().unwrap().serving.unwrap(), "CONT");
    }

    /// None while the process is away.
    pub fn tunnels(&self) -> Vec<Tunnel> {
        let Ok(stream) = TcpStream::connect(self.web) else { return Vec::new() };
        let mut client = Client::over(stream);
        client.send(b"GET /api/connections HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let answer = client.response().json();
        let tunnels = answer.as_array().unwrap().iter().filter(|row| row["kind"] == "websocket");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        tunnels.map(|row| Tunnel { client: text(&row["address"]), node: text(&row["node"]) }).collect()
    }
}

/// A tunnel, as lavaproxy's API has it.
pub struct Tunnel {
    /// The address of its client.
    pub client: String,
    pub node: String,
}

fn spawn(number: u8, log: &Path, nodes: &Nodes, ports: [u16; 2]) -> Child {
    let (host, list) = (format!("127.0.0.1{number}"), nodes.list());
    let [proxy_port, web_port] = ports.map(|port| port.to_string());
    let set = [
        ("PROXY_HOST", host.as_str()),
        ("WEB_HOST", &host),
        ("PROXY_PORT", &proxy_port),
        ("WEB_PORT", &web_port),
        ("PROXY_PASSWORD", PASSWORD),
        ("LAVALINK_V4_NODES", &list),
        ("LAVALINK_V4_PASSWORD", PASSWORD),
        DRAIN,
        PATIENT,
    ];
    let log = OpenOptions::new().append(true).open(log).unwrap();
    let mut command = lavaproxy(&set);
    command.arg("--env-file").arg(driver::path("deploy/fleet/lavaproxy.env"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

/// The first line with these words that is in the log after so many bytes.
fn await_line(log: &Path, start: usize, words: &str) -> String {
    let mut found = None;
    eventually(words, || {
        let text = fs::read_to_string(log).unwrap();
        let (whole, _) = text[start..].rsplit_once('\n').unwrap_or_default();
        found = whole.lines().find(|line| line.contains(words)).map(str::to_owned);
        found.is_some()
    });
    found.unwrap()
}
