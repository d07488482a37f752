//! The command: flags, settings, logger, start, signals and exit codes.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::{panic, process};

use lavaproxy::config::{self, Lavalink, Loaded};
use lavaproxy::demo::{Bots, Node};
use lavaproxy::healthcheck;
use lavaproxy::logfmt::{self, Quoted};
use lavaproxy::server::{DOORS, Server};
use log::{error, info, warn};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Wrong flags or settings, as opposed to a start that failed.
const EXIT_USAGE: u8 = 2;

const HELP: &str = "\
lavaproxy: one address for Discord music bots in front of Lavalink v3 and v4

Usage: lavaproxy [--env-file FILE] [--check | --demo | --healthcheck]

  --env-file FILE  read settings from FILE instead of ./lavaproxy.env or ./.env
  --check          check the settings, print them without secrets, and exit
  --demo           run with pretend Lavalink nodes and bots, to look around
  --healthcheck    ask the running lavaproxy at WEB_HOST:WEB_PORT whether it is well, and exit
  --version        print the version and exit
  --help           print this and exit

Settings are environment variables; lavaproxy.env.example lists them all.
Exit codes: 0 stopped, checked or well, 1 could not start or not well, 2 wrong flags or settings.";

enum Command {
    Run,
    Check,
    Demo,
    Healthcheck,
    Print(String),
}

fn main() -> ExitCode {
    let (command, env_file) = match parse(lexopt::Parser::from_env()) {
        Ok(parsed) => parsed,
        Err(error) => {
            eprintln!("lavaproxy: {error}; --help lists the flags");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    if let Command::Print(text) = command {
        println!("{text}");
        return ExitCode::SUCCESS;
    }
    let loaded = match config::load(env_file.as_deref()) {
        Ok(loaded) => loaded,
        Err(faults) => {
            eprintln!("{faults}");
            // Container engines know 0 and 1 only.
            let is_healthcheck = matches!(command, Command::Healthcheck);
            return if is_healthcheck { ExitCode::FAILURE } else { ExitCode::from(EXIT_USAGE) };
        }
    };
    if matches!(command, Command::Check) {
        for (name, value) in loaded.settings.describe() {
            println!("{name}={value}");
        }
        for warning in &loaded.warnings {
            eprintln!("warning: {warning}");
        }
        return ExitCode::SUCCESS;
    }
    if matches!(command, Command::Healthcheck) {
        return match healthcheck::ask(&loaded.settings.web) {
            Ok(line) => {
                println!("{line}");
                ExitCode::SUCCESS
            }
            Err(line) => {
                eprintln!("lavaproxy: {line}");
                ExitCode::FAILURE
            }
        };
    }
    match run(loaded, matches!(command, Command::Demo)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lavaproxy: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut flags: lexopt::Parser) -> Result<(Command, Option<PathBuf>), lexopt::Error> {
    let mut command = Command::Run;
    let mut env_file: Option<OsString> = None;
    while let Some(flag) = flags.next()? {
        match flag {
            lexopt::Arg::Long("env-file") => env_file = Some(flags.value()?),
            lexopt::Arg::Long("check") => command = Command::Check,
            lexopt::Arg::Long("healthcheck") => command = Command::Healthcheck,
            lexopt::Arg::Long("demo") => command = Command::Demo,
            lexopt::Arg::Long("version") | lexopt::Arg::Short('V') => {
                return Ok((Command::Print(format!("lavaproxy {}", env!("CARGO_PKG_VERSION"))), None));
            }
            lexopt::Arg::Long("help") | lexopt::Arg::Short('h') => return Ok((Command::Print(HELP.to_owned()), None)),
            other => return Err(other.unexpected()),
        }
    }
    Ok((command, env_file.map(PathBuf::from)))
}

fn run(loaded: Loaded, demo: bool) -> Result<(), Box<dyn std::error::Error>> {
    let Loaded { mut settings, file, warnings } = loaded;
    logfmt::init(&settings.log_level);
    panic::set_hook(Box::new(|panic| error!("event=panic what={}", Quoted(panic))));
    let source = file.map_or("none".to_owned(), |file| file.display().to_string());
    info!("event=start version={} pid={} env_file={}", env!("CARGO_PKG_VERSION"), process::id(), Quoted(source));
    for warning in warnings {
        warn!("event=settings warning={}", Quoted(warning));
    }
    if settings.default_password_stands() {
        warn!("event=settings warning=\"PROXY_PASSWORD is the one everybody can read in the manual: set another\"");
    }

    let nodes = if demo { start_nodes(&mut settings)? } else { Vec::new() };
    // A second signal does not wait for anybody.
    let asked_once = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&asked_once))?;
        signal_hook::flag::register(signal, Arc::clone(&asked_once))?;
    }
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let server = Server::start(&settings)?;
    let bots = if demo { Some(start_bots(&server, &settings)?) } else { None };

    let signal = signals.forever().next();
    info!("event=stopping signal={}", signal.unwrap_or_default());
    drop(bots);
    server.stop();
    drop((server, nodes));
    info!("event=stopped");
    Ok(())
}

/// Pretend nodes in the place of the configured ones.
fn start_nodes(settings: &mut config::Settings) -> Result<Vec<Node>, std::io::Error> {
    let mut nodes = Vec::new();
    for version in Lavalink::ALL {
        let node = Node::start(version, settings.proxy_password.expose())?;
        let address = config::Node {
            host: node.address().ip().to_string(),
            port: node.address().port(),
            password: settings.proxy_password.clone(),
        };
        match version {
            Lavalink::V3 => settings.v3 = Some(address),
            Lavalink::V4 => settings.v4 = Some(address),
        }
        nodes.push(node);
    }
    Ok(nodes)
}

/// How many pretend bots the demo has.
const DEMO_BOTS: usize = 8;

fn start_bots(server: &Server, settings: &config::Settings) -> Result<Bots, Box<dyn std::error::Error>> {
    let [bots, .., web] = DOORS.map(|door| server.address(door));
    let (bots, web) = (bots.ok_or("no door for bots")?, web.ok_or("no door for people")?);
    println!("Pretend bots talk to pretend Lavalink v3 and v4 nodes through lavaproxy at {bots}.");
    println!("Look at   http://{web}/   http://{web}/health   http://{web}/data-usage");
    println!("or try    curl -s http://{web}/api/stats");
    let password =
        if settings.default_password_stands() { settings.proxy_password.expose() } else { "$PROXY_PASSWORD" };
    println!("and       curl -s -H \"Authorization: {password}\" http://127.0.0.1:{}/v4/info", bots.port());
    println!("Stop it with Ctrl-C.");
    Ok(Bots::start(([127, 0, 0, 1], bots.port()).into(), settings.proxy_password.expose(), DEMO_BOTS)?)
}
