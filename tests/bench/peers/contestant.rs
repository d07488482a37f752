//! Those that are compared, and how each is started before the pretend Lavalink.

use std::env;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use socket2::{Domain, Socket, Type};

use crate::attacker;
use crate::process::Process;
use crate::switches::{self, Switches};
use crate::usage;
use crate::wire;

/// A start under valgrind takes four seconds, on a busy machine a minute.
const PATIENCE: Duration = Duration::from_secs(120);
/// Where the first request comes from.
const ASKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Contestant {
    Lavaproxy,
    /// With `SESSION_TAKEOVER=off`.
    Unwatching,
    Haproxy,
    Nginx,
    Pipe,
    /// The client speaks to the node: the floor.
    Direct,
    /// Three lavaproxies behind HAProxy, as deploy/fleet has them. It takes part in the load of its name alone.
    Fleet,
}

impl Contestant {
    /// Those that take part in most loads.
    pub const ALL: [Self; 5] = [Self::Lavaproxy, Self::Haproxy, Self::Nginx, Self::Pipe, Self::Direct];

    pub fn name(self) -> &'static str {
        match self {
            Self::Lavaproxy => "lavaproxy",
            Self::Unwatching => "lavaproxy-off",
            Self::Haproxy => "HAProxy",
            Self::Nginx => "nginx",
            Self::Pipe => "toy",
            Self::Direct => "direct",
            Self::Fleet => "fleet",
        }
    }

    /// The Debian package that brings it, where one does; both are called as their programs.
    pub fn package(self) -> Option<&'static str> {
        match self {
            Self::Haproxy => Some("haproxy"),
            Self::Nginx => Some("nginx"),
            _ => None,
        }
    }

    /// Where that package has put it; none while it is not installed.
    pub fn program(self) -> Option<PathBuf> {
        let file = Path::new("/usr/sbin").join(self.package()?);
        file.exists().then_some(file)
    }
}

/// The programs and where they may write.
pub struct Stage {
    pub lavaproxy: PathBuf,
    pub directory: PathBuf,
    /// The pretend Lavalink.
    pub node: Node,
    /// True when lavaproxy and HAProxy limit what an address can do; the others cannot.
    pub has_limits: bool,
}

/// The pretend Lavalink while it runs.
pub struct Node {
    _process: Process,
    v3: u16,
    v4: u16,
}

/// A contestant that takes connections.
pub struct Running {
    pub address: SocketAddr,
    /// Of lavaproxy's pages.
    pub web: SocketAddr,
    processes: Vec<Process>,
    family: Vec<Pid>,
}

impl Node {
    pub fn start(directory: &Path) -> io::Result<Self> {
        Self::start_by(&["0"], directory)
    }

    /// One whose v4 has this port. The `ready` of a session comes at once if it `greets`.
    pub fn start_at(port: u16, greets: bool, directory: &Path) -> io::Result<Self> {
        let port = port.to_string();
        let arguments = [port.as_str(), "greets"];
        Self::start_by(if greets { &arguments } else { &arguments[..1] }, directory)
    }

    fn start_by(arguments: &[&str], directory: &Path) -> io::Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.arg("node").args(arguments);
        let mut process = Process::start(&command, &directory.join("node.log"))?;
        let ports = process.first_line()?;
        let (v3, v4) = ports.split_once(' ').ok_or_else(|| io::Error::other("the pretend Lavalink did not start"))?;
        let port = |text: &str| text.parse().map_err(io::Error::other);
        Ok(Self { _process: process, v3: port(v3)?, v4: port(v4)? })
    }

    /// The port of its v4.
    pub fn v4(&self) -> u16 {
        self.v4
    }

    /// Its v3, and beside it the v4 of another process.
    pub fn beside(self, v4: u16) -> Self {
        Self { v4, ..self }
    }
}

impl Stage {
    /// Starts a contestant; once more if it fails, since another program may have taken the port.
    pub fn start(&self, contestant: Contestant) -> io::Result<Running> {
        self.start_under(&[], contestant)
    }

    /// The same with these words before the program's own.
    pub fn start_under(&self, launcher: &[String], contestant: Contestant) -> io::Result<Running> {
        let try_to_start = || self.start_at(launcher, contestant, free_port()?, free_port()?);
        try_to_start().or_else(|_| try_to_start())
    }

    /// Kills a contestant and starts it anew at the same ports.
    pub fn restart(&self, running: &mut Running, contestant: Contestant) -> io::Result<()> {
        running.processes.clear();
        *running = self.start_at(&[], contestant, running.address.port(), running.web.port())?;
        Ok(())
    }

    fn start_at(&self, launcher: &[String], contestant: Contestant, port: u16, web: u16) -> io::Result<Running> {
        let command = match contestant {
            Contestant::Lavaproxy => Some(self.lavaproxy(port, web, "on")),
            Contestant::Unwatching => Some(self.lavaproxy(port, web, "off")),
            Contestant::Haproxy => Some(self.haproxy(port)?),
            Contestant::Nginx => Some(self.nginx(port)?),
            Contestant::Pipe => Some(self.pipe(port)?),
            Contestant::Direct => None,
            Contestant::Fleet => return self.fleet(port),
        };
        let Some(command) = command else {
            let address = local(self.node.v4);
            return Ok(Running { address, web: local(web), processes: Vec::new(), family: Vec::new() });
        };
        let process = self.launch(contestant.name(), &under(launcher, command), local(port))?;
        let family = usage::family(process.pid())?;
        Ok(Running { address: local(port), web: local(web), processes: vec![process], family })
    }

    /// Starts a program, and waits until it answers at this address.
    fn launch(&self, name: &str, command: &Command, address: SocketAddr) -> io::Result<Process> {
        let log = self.directory.join(format!("{name}.log"));
        let mut process = Process::start(command, &log)?;
        let failed = |error| io::Error::other(format!("{name} did not start ({}): {error}", log.display()));
        wait_until_ready(&mut process, address).map_err(failed)?;
        Ok(process)
    }

    /// The files of deploy/fleet with ports of this machine, and without TLS.
    fn fleet(&self, port: u16) -> io::Result<Running> {
        let mut text = include_str!("../../../deploy/fleet/haproxy.cfg")
            .replace("127.0.0.1:6924", &local(free_port()?).to_string());
        let bind = text.lines().find(|line| line.contains("bind :443")).unwrap_or_default().to_owned();
        text = text.replace(&bind, &format!("    bind {}", local(port)));
        let (mut processes, mut family, mut page) = (Vec::new(), Vec::new(), 0);
        for number in 1..=3 {
            let (own, web) = (free_port()?, free_port()?);
            let mut command = self.lavaproxy(own, web, "on");
            command.envs([("PROXY_PROTOCOL", "on"), ("TRUSTED_PROXIES", "127.0.0.1")]);
            let process = self.launch(&format!("fleet-{number}"), &command, local(own))?;
            family.extend(usage::family(process.pid())?);
            processes.push(process);
            let server = format!("server lavaproxy{number} ");
            text =
                text.replace(&format!("{server}127.0.0.1{number}:6923"), &format!("{server}{} port {web}", local(own)));
            page = web;
        }
        let file = self.directory.join("fleet.cfg");
        fs::write(&file, text)?;
        let mut command = Command::new("/usr/sbin/haproxy");
        command.args([Path::new("-db"), Path::new("-f"), &file]);
        let process = self.launch("fleet-haproxy", &command, local(port))?;
        family.extend(usage::family(process.pid())?);
        processes.push(process);
        Ok(Running { address: local(port), web: local(page), processes, family })
    }

    fn lavaproxy(&self, port: u16, web: u16, takeover: &str) -> Command {
        let mut command = Command::new(&self.lavaproxy);
        command.args([Path::new("--env-file"), Path::new("/dev/null")]);
        command.envs([("PROXY_HOST", "127.0.0.1"), ("PROXY_PASSWORD", wire::PASSWORD), ("LOG_LEVEL", "info")]);
        command.env("SESSION_TAKEOVER", takeover);
        command.envs([("LAVALINK_V3_HOST", "127.0.0.1"), ("LAVALINK_V4_HOST", "127.0.0.1")]);
        let ports = [
            ("PROXY_PORT", port),
            ("WEB_PORT", web),
            ("LAVALINK_V3_PORT", self.node.v3),
            ("LAVALINK_V4_PORT", self.node.v4),
        ];
        command.envs(ports.map(|(name, port)| (name, port.to_string())));
        if self.has_limits {
            command.envs([("MAX_CONNECTIONS_PER_ADDRESS", "500"), ("CONNECTION_RATE", "50/s burst=200")]);
            command.env("BAN_AFTER", attacker::BAN_AFTER.to_string());
        }
        command
    }

    fn haproxy(&self, port: u16) -> io::Result<Command> {
        let file = match self.has_limits {
            true => self.write_settings("haproxy-limits.cfg", include_str!("haproxy-limits.cfg"), port)?,
            false => self.write_settings("haproxy.cfg", include_str!("haproxy.cfg"), port)?,
        };
        let mut command = Command::new("/usr/sbin/haproxy");
        command.args([Path::new("-db"), Path::new("-q"), Path::new("-f"), &file]);
        Ok(command)
    }

    fn nginx(&self, port: u16) -> io::Result<Command> {
        let file = self.write_settings("nginx.conf", include_str!("nginx.conf"), port)?;
        let mut command = Command::new("/usr/sbin/nginx");
        command.args([Path::new("-p"), &self.directory, Path::new("-e"), Path::new("stderr"), Path::new("-c"), &file]);
        Ok(command)
    }

    fn pipe(&self, port: u16) -> io::Result<Command> {
        let mut command = Command::new(env::current_exe()?);
        command.args(["pipe", &port.to_string(), &self.node.v4.to_string()]);
        Ok(command)
    }

    fn write_settings(&self, name: &str, template: &str, port: u16) -> io::Result<PathBuf> {
        let text = template
            .replace("@PORT@", &port.to_string())
            .replace("@PASSWORD@", wire::PASSWORD)
            .replace("@V3@", &self.node.v3.to_string())
            .replace("@V4@", &self.node.v4.to_string())
            .replace("@DIRECTORY@", &self.directory.display().to_string());
        let file = self.directory.join(name);
        fs::write(&file, text)?;
        Ok(file)
    }
}

impl Running {
    pub fn family(&self) -> &[Pid] {
        &self.family
    }

    pub fn cpu(&self) -> io::Result<Duration> {
        usage::cpu(&self.family)
    }

    /// Kills it. The context switches of all the threads that it ever had, but for those of its processes' children
    /// (nginx's workers) that ended before.
    pub fn end(&mut self) -> io::Result<u64> {
        let roots: Vec<_> = self.processes.iter().map(Process::pid).collect();
        let children: Vec<_> = self.family.iter().copied().filter(|pid| !roots.contains(pid)).collect();
        let of_children = Switches::of(&children)?.total();
        let before = switches::of_the_dead()?;
        self.processes.clear();
        Ok(switches::of_the_dead()? - before + of_children)
    }

    pub fn is_running(&mut self) -> bool {
        self.processes.iter_mut().all(Process::is_running)
    }
}

fn under(launcher: &[String], command: Command) -> Command {
    let Some((program, arguments)) = launcher.split_first() else { return command };
    let mut launched = Command::new(program);
    launched.args(arguments).arg(command.get_program()).args(command.get_args());
    launched.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    launched
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Waits for the answer to a request through it.
fn wait_until_ready(process: &mut Process, address: SocketAddr) -> io::Result<()> {
    let since = Instant::now();
    loop {
        match ask(address) {
            Ok(answer) if answer.starts_with(b"HTTP/1.1 200 ") => return Ok(()),
            Ok(answer) => return Err(io::Error::other(format!("it answers {}", answer.escape_ascii()))),
            Err(error) if !process.is_running() || since.elapsed() > PATIENCE => return Err(error),
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Asks from an address that no lavaproxy takes for a front's.
fn ask(address: SocketAddr) -> io::Result<Vec<u8>> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((ASKER, 0)).into())?;
    socket.connect(&address.into())?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&wire::get(wire::SMALL, "close"))?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}
