//! The command: flags, settings, logger, start and exit codes.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::{panic, process};

use lavaproxy::config::{self, Loaded};
use lavaproxy::demo::{Bots, Node};
use lavaproxy::error::StartError;
use lavaproxy::healthcheck;
use lavaproxy::logfmt::{self, Quoted};
use lavaproxy::process::notify::{Notify, State, Watchdog};
use lavaproxy::process::sockets::{Inherited, LISTENERS};
use lavaproxy::process::upgrade::{Binary, Follower, Predecessor};
use lavaproxy::server::Server;
use lavaproxy::signals::{FURTHER, Running, Signals, log_warnings};
use lavaproxy::state::file::StateFile;
use lavaproxy::state::saver::{self, Saver};
use log::{error, info};

/// The exit code for wrong flags or settings.
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
    let predecessor = if matches!(command, Command::Run) { Predecessor::from_environment() } else { None };
    let load = if matches!(command, Command::Healthcheck) { config::load_without_accounts } else { config::load };
    let loaded = match load(env_file.as_deref()) {
        Ok(loaded) => loaded,
        Err(faults) => {
            eprintln!("{faults}");
            if let Some(predecessor) = predecessor {
                predecessor.tell_failure(&faults);
            }
            // Container engines accept only 0 and 1 from a health check.
            let is_healthcheck = matches!(command, Command::Healthcheck);
            return if is_healthcheck { ExitCode::FAILURE } else { ExitCode::from(EXIT_USAGE) };
        }
    };
    let done = match command {
        Command::Check => return check(&loaded),
        Command::Healthcheck => healthcheck::ask(&loaded.settings.web).map(|line| println!("{line}")),
        Command::Demo => demo(loaded).map_err(|error| error.to_string()),
        Command::Run | Command::Print(_) => run(loaded, env_file, predecessor).map_err(|error| error.to_string()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lavaproxy: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints the settings. Fails when a node's name resolves to this lavaproxy.
fn check(loaded: &Loaded) -> ExitCode {
    let warnings = match config::check_names(&loaded.settings) {
        Ok(warnings) => warnings,
        Err(faults) => {
            eprintln!("{faults}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    for (name, value) in loaded.settings.describe() {
        println!("{name}={value}");
    }
    for warning in loaded.warnings.iter().chain(&warnings) {
        eprintln!("warning: {warning}");
    }
    ExitCode::SUCCESS
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

/// Starts the logger, and logs the version, the env file and the warnings.
fn begin(loaded: &Loaded) {
    let Loaded { settings, file, .. } = loaded;
    logfmt::init(&settings.log_level);
    panic::set_hook(Box::new(|panic| error!("event=panic what={}", Quoted(panic))));
    let source = file.as_ref().map_or("none".to_owned(), |file| file.display().to_string());
    info!("event=start version={} pid={} env_file={}", env!("CARGO_PKG_VERSION"), process::id(), Quoted(source));
    log_warnings(loaded);
}

/// What a start leads to.
struct Started {
    signals: Signals,
    server: Server,
    saver: Option<Saver>,
    predecessor: Option<Follower>,
}

/// Starts the server on the state that another process has left: a predecessor, or the last one by its file.
fn start(
    settings: &config::Settings,
    predecessor: Option<&Predecessor>,
    watchdog: Option<Watchdog>,
) -> Result<Started, Box<dyn std::error::Error>> {
    let inherited = Inherited::from_environment(predecessor.is_some())?;
    let signals = Signals::register(&FURTHER)?;
    let mut file = settings.state_dir.as_deref().map(StateFile::new);
    let state = match (predecessor, &mut file) {
        (Some(predecessor), file) => {
            file.iter_mut().for_each(|file| drop(file.check()));
            Some(predecessor.state()?)
        }
        (None, Some(file)) => file.read(),
        (None, None) => None,
    };
    let server = Server::start_on(settings, inherited, state, watchdog)?;
    let lasting = server.lasting();
    let saver = file.map(|file| Saver::start(file, saver::INTERVAL, move || lasting.state())).transpose()?;
    let predecessor = predecessor.map(|predecessor| follow(predecessor, &server)).transpose()?;
    Ok(Started { signals, server, saver, predecessor })
}

/// Follows what the last connections of the predecessor do.
fn follow(predecessor: &Predecessor, server: &Server) -> Result<Follower, StartError> {
    let lasting = server.lasting();
    predecessor.follow(move |report| lasting.note_predecessor(report))
}

fn run(
    loaded: Loaded,
    env_file: Option<PathBuf>,
    predecessor: Option<Predecessor>,
) -> Result<(), Box<dyn std::error::Error>> {
    begin(&loaded);
    let binary = Binary::of_this_process();
    let notify = Notify::from_environment()?;
    let started = match (start(&loaded.settings, predecessor.as_ref(), notify.watchdog()), predecessor) {
        (Ok(started), Some(predecessor)) => {
            predecessor.tell_ready();
            started
        }
        (Ok(started), None) => {
            notify.say(State::Ready);
            started
        }
        (Err(error), predecessor) => {
            if let Some(predecessor) = predecessor {
                predecessor.tell_failure(&error);
            }
            return Err(error);
        }
    };
    let Started { mut signals, server, saver, predecessor } = started;
    let Loaded { settings, file: read_file, .. } = loaded;
    Running { server: &server, settings, env_file, read_file, binary, notify: &notify, saver, predecessor }
        .run(&mut signals);
    drop(server);
    info!("event=stopped");
    Ok(())
}

fn demo(mut loaded: Loaded) -> Result<(), Box<dyn std::error::Error>> {
    begin(&loaded);
    let nodes = Arc::new(start_nodes(&mut loaded.settings)?);
    let mut signals = Signals::register(&[])?;
    let server = Server::start(&loaded.settings)?;
    server.show_demo(&nodes);
    let bots = start_bots(&server, &loaded.settings)?;
    signals.wait_for_stop();
    drop(bots);
    server.stop();
    drop((server, nodes));
    info!("event=stopped");
    Ok(())
}

/// Starts pretend nodes, which take the place of the configured ones.
fn start_nodes(settings: &mut config::Settings) -> Result<Vec<Node>, std::io::Error> {
    let nodes = Node::start_demo(settings.proxy_password.expose())?;
    settings.nodes = config::PerVersion::new(|version| {
        let of_version = nodes.iter().filter(|node| node.version() == version);
        of_version.map(|node| address(node, settings.proxy_password.clone())).collect()
    });
    Ok(nodes)
}

fn address(node: &Node, password: config::Secret) -> config::Node {
    let (host, port) = (node.address().ip().to_string(), node.address().port());
    config::Node { name: node.name().into(), host, port, password, has_own_password: false }
}

/// How many pretend bots the demo has.
const DEMO_BOTS: usize = 8;

fn start_bots(server: &Server, settings: &config::Settings) -> Result<Bots, Box<dyn std::error::Error>> {
    let [proxy, .., web] = LISTENERS.map(|name| server.address(name));
    let (proxy, web) = (proxy.ok_or("no proxy listener")?, web.ok_or("no web listener")?);
    println!("Pretend bots talk to one pretend Lavalink v3 node and two v4 nodes through lavaproxy at {proxy}.");
    println!("Look at   http://{web}/   http://{web}/health   http://{web}/data-usage");
    println!("or try    curl -s http://{web}/api/stats");
    let password =
        if settings.default_password_stands() { settings.proxy_password.expose() } else { "$PROXY_PASSWORD" };
    println!("and       curl -s -H \"Authorization: {password}\" http://127.0.0.1:{}/v4/info", proxy.port());
    println!("Kill a node and watch its bots stay: curl -X POST http://{web}/api/demo/eu1/kill  (and /revive)");
    println!("The hour before the start in the charts is made up. Stop it with Ctrl-C.");
    Ok(Bots::start(([127, 0, 0, 1], proxy.port()).into(), settings.proxy_password.expose(), DEMO_BOTS)?)
}
