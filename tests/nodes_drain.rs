//! Nodes that an operator drains, and nodes that come and go with a reload, all under load.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/load.rs"]
mod load;
#[path = "support/nodes.rs"]
mod nodes;
#[path = "support/process.rs"]
mod process;
mod support;

use std::fs;
use std::net::SocketAddr;

use lavaproxy::config::Lavalink::V4;
use lavaproxy::demo::Node;
use load::Load;
use nodes::{Bot, Nodes, UNASKED, act, health, list, of, row, settings, state, wait_for_state};
use process::{FREE, Running, SECRET, Stray, directory, has_ended, lavaproxy, value};
use support::{Client, PASSWORD, Proxy, eventually};

/// Requests that belong to no session, one connection each.
fn requests(proxy: SocketAddr, password: &str) -> Load {
    let head = format!(
        "GET /version HTTP/1.1\r\nHost: bot\r\nAuthorization: {password}\r\nLavalink-Version: 4\r\nConnection: close\r\n\r\n"
    );
    let load = Load::start(3, &[(proxy, head, "4.2.2")]);
    goes_on(&load);
    load
}

fn goes_on(load: &Load) {
    let before = load.answered();
    eventually("the load goes on", || load.answered() >= before + 30);
}

fn loses_nothing(load: Load) {
    let (answered, lost) = load.end();
    println!("{answered} requests under load, {} lost", lost.len());
    assert!(lost.is_empty(), "{} of {answered} were lost: {:?}", lost.len(), &lost[..lost.len().min(5)]);
}

/// REST about its session reaches the bot's node.
fn is_served(proxy: SocketAddr, password: &str, bot: &mut Bot) {
    let head = format!("GET /v4/sessions/{}/players HTTP/1.1\r\nHost: x\r\nAuthorization: {password}\r\n\r\n", bot.id);
    let answer = Client::connect(proxy).send(head.as_bytes()).response();
    assert_eq!((answer.status, &*answer.text()), (200, "[]"), "{}", bot.id);
    assert!(bot.is_alive(), "{}", bot.id);
}

/// The address of a listener, from the log.
fn listening(running: &mut Running, name: &str) -> SocketAddr {
    value(&running.line(&["event=listening ", &format!("listener={name} ")]), "address").parse().unwrap()
}

#[test]
fn a_node_that_drains_keeps_its_sessions_and_gets_nothing_new() {
    let nodes = Nodes::start(V4, &["eu1", "eu2"]);
    // Health rounds would be requests too.
    let proxy = nodes.proxy(&[UNASKED]);
    let web = nodes::web(&proxy);
    health(web);
    let load = requests(proxy.address(), PASSWORD);
    let mut bots: Vec<Bot> = (0..10).map(|_| Bot::open(proxy.address(), V4)).collect();
    let answer = act(web, "eu1", "drain", "");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["nodes"][0]["state"], "draining");
    assert_eq!(act(web, "eu1", "drain", "").status, 200, "twice is as good as once");
    // What was under way is done.
    eventually("nothing is under way there", || row(web, "eu1")["requests"] == 0);
    let before = nodes.named("eu1").counts();
    goes_on(&load);
    let more: Vec<Bot> = (0..10).map(|_| Bot::open(proxy.address(), V4)).collect();
    assert!(more.iter().all(|bot| bot.node() == "eu2"));
    assert_eq!(nodes.named("eu1").counts(), before);
    bots.iter_mut().for_each(|bot| is_served(proxy.address(), PASSWORD, bot));
    assert_eq!(row(web, "eu1")["sessions"], 5);
    let resumable = &bots.iter().find(|bot| bot.node() == "eu1").unwrap().id;
    assert_eq!(nodes.named("eu1").counts().sessions, 5, "{resumable}");

    assert_eq!(act(web, "eu1", "activate", "").json()["nodes"][0]["state"], "up");
    eventually("it gets requests again", || nodes.named("eu1").counts().requests > before.requests + 10);
    assert_eq!(Bot::open(proxy.address(), V4).node(), "eu1", "it has fewer sessions than the other");
    loses_nothing(load);
}

#[test]
fn a_version_whose_nodes_all_drain_is_served() {
    let nodes = Nodes::start(V4, &["eu1", "eu2"]);
    let proxy = nodes.proxy(&[]);
    for name in ["eu1", "eu2"] {
        assert_eq!(act(nodes::web(&proxy), name, "drain", "").status, 200);
    }
    let bots: Vec<Bot> = (0..4).map(|_| Bot::open(proxy.address(), V4)).collect();
    assert_eq!(nodes.sessions_opened(), [2, 2]);
    assert_eq!(proxy.connect().get("/v4/info", "").status, 200);
    drop(bots);
}

#[test]
fn a_session_is_resumed_at_a_node_that_drains() {
    let nodes = Nodes::start(V4, &["eu1", "eu2"]);
    let proxy = nodes.proxy(&[]);
    let bot = Bot::open_with(proxy.address(), V4, "Lavalink-Node: eu2\r\n");
    let id = bot.id.clone();
    let body = r#"{"resuming":true,"timeout":60}"#;
    let fields = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    let answer = proxy.connect().request("PATCH", &format!("/v4/sessions/{id}"), &fields, body.as_bytes());
    assert_eq!(answer.status, 200);
    assert_eq!(act(nodes::web(&proxy), "eu2", "drain", "").status, 200);
    bot.leave();
    proxy.wait_until_empty();
    let again = Bot::open_with(proxy.address(), V4, &format!("Session-Id: {id}\r\n"));
    assert_eq!((again.resumed, again.id), (true, id));
}

#[test]
fn only_a_post_of_lavaproxys_own_pages_drains() {
    let nodes = Nodes::start(V4, &["eu1", "eu2"]);
    let proxy = nodes.proxy(&[]);
    let web = nodes::web(&proxy);
    for fields in [
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\n",
        "Origin: http://evil.example\r\n",
        "Origin: null\r\n",
    ] {
        let answer = act(web, "eu1", "drain", fields);
        assert_eq!((answer.status, &answer.json()["status"]), (403, &403.into()), "{fields}");
    }
    let mut client = Client::connect(web);
    client.send(b"GET /api/nodes/eu1/drain HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let answer = client.response();
    assert_eq!((answer.status, answer.field("allow")), (405, Some("POST")));
    for name in ["us1", "EU1", "", "v4", "%65u1"] {
        let answer = act(web, name, "drain", "");
        assert_eq!(answer.status, 404, "{name}");
        let error = answer.json();
        assert_eq!(error["status"], 404, "{name}");
        assert!(error["message"].as_str().unwrap().contains("eu1, eu2"), "{error}");
    }
    assert_eq!(act(web, "eu1", "stop", "").status, 404);
    wait_for_state(web, "eu1", "up");
    assert_eq!(act(web, "eu1", "drain", "Origin: http://localhost\r\nSec-Fetch-Site: same-origin\r\n").status, 200);
    assert_eq!(state(web, "eu1"), "draining");
}

fn reload(proxy: &Proxy, list: &str, set: &[(&str, &str)]) {
    proxy.server.reload(&settings(&of(V4, list, set))).unwrap();
}

#[test]
fn a_drained_node_stays_drained_over_a_reload() {
    let nodes = Nodes::start(V4, &["eu1", "eu2"]);
    let proxy = nodes.proxy(&[]);
    let web = nodes::web(&proxy);
    assert_eq!(act(web, "eu1", "drain", "").status, 200);
    for set in
        [&[][..], &[("RESPONSE_TIMEOUT", "7s")], &[("LAVALINK_V4_PASSWORD", "other")], &[("HEALTH_INTERVAL", "9s")]]
    {
        reload(&proxy, &nodes.list(), set);
        // A wrong password makes it down, and what drains still drains when it is up again.
        reload(&proxy, &nodes.list(), &[]);
        wait_for_state(web, "eu1", "draining");
        assert!((0..6).all(|_| Bot::open(proxy.address(), V4).node() == "eu2"));
    }
}

#[test]
fn a_reload_under_load_adds_a_node_and_removes_one() {
    let nodes = Nodes::start(V4, &["eu1", "eu2", "eu3"]);
    let address = |name: &str| nodes.named(name).address();
    let two = list(&[("eu1", address("eu1")), ("eu2", address("eu2"))]);
    let proxy = nodes::proxy(V4, &two, &[UNASKED]);
    let web = nodes::web(&proxy);
    wait_for_state(web, "eu1", "up");
    let load = requests(proxy.address(), PASSWORD);
    let mut bots: Vec<Bot> = (0..10).map(|_| Bot::open(proxy.address(), V4)).collect();
    reload(&proxy, &nodes.list(), &[UNASKED]);
    goes_on(&load);
    let more: Vec<Bot> = (0..5).map(|_| Bot::open(proxy.address(), V4)).collect();
    assert!(more.iter().all(|bot| bot.node() == "eu3"), "the new node was given none yet");
    eventually("it gets requests too", || nodes.named("eu3").counts().requests > 10);
    bots.extend(more);

    // eu1 goes.
    reload(&proxy, &list(&[("eu2", address("eu2")), ("eu3", address("eu3"))]), &[UNASKED]);
    goes_on(&load);
    assert_eq!((state(web, "eu1"), row(web, "eu1")["sessions"].clone()), ("draining".to_owned(), 5.into()));
    let before = nodes.named("eu1").counts();
    goes_on(&load);
    let more: Vec<Bot> = (0..10).map(|_| Bot::open(proxy.address(), V4)).collect();
    assert!(more.iter().all(|bot| bot.node() != "eu1"));
    assert_eq!(nodes.named("eu1").counts(), before, "no session and no request");
    // Not even for a bot that names it, whose old session is served.
    let field = "Lavalink-Node: eu1\r\n";
    let answer = proxy.connect().get("/v4/websocket", &format!("{}{field}", support::HANDSHAKE));
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert!(answer.text().contains("are eu2, eu3"), "{}", answer.text());
    let old = bots.iter().find(|bot| bot.node() == "eu1").unwrap();
    assert_eq!(proxy.connect().get(&format!("/v4/sessions/{}/players", old.id), field).text(), "[]");
    bots.iter_mut().for_each(|bot| is_served(proxy.address(), PASSWORD, bot));

    // It is back before its sessions have ended, and goes again with them.
    reload(&proxy, &nodes.list(), &[UNASKED]);
    bots.iter_mut().for_each(|bot| is_served(proxy.address(), PASSWORD, bot));
    assert!((0..20).any(|_| Bot::open(proxy.address(), V4).node() == "eu1"));
    reload(&proxy, &list(&[("eu2", address("eu2")), ("eu3", address("eu3"))]), &[UNASKED]);
    assert_eq!(state(web, "eu1"), "draining");
    bots.retain(|bot| bot.node() != "eu1");
    eventually("the removed node is gone with its last session", || {
        health(web)["nodes"].as_array().unwrap().iter().all(|row| row["name"] != "eu1")
    });
    bots.iter_mut().for_each(|bot| is_served(proxy.address(), PASSWORD, bot));
    loses_nothing(load);
}

#[test]
fn a_node_that_moves_to_another_address_is_a_new_one() {
    let nodes = Nodes::start(V4, &["eu1", "eu2"]);
    let moved = Node::start_named("eu1", V4, PASSWORD).unwrap();
    let proxy = nodes.proxy(&[]);
    let web = nodes::web(&proxy);
    assert_eq!(act(web, "eu1", "drain", "").status, 200);
    let load = requests(proxy.address(), PASSWORD);
    let mut old = Bot::open_with(proxy.address(), V4, "Lavalink-Node: eu1\r\n");
    reload(&proxy, &list(&[("eu1", moved.address()), ("eu2", nodes.named("eu2").address())]), &[]);
    wait_for_state(web, "eu1", "up");
    let mut new = Bot::open_with(proxy.address(), V4, "Lavalink-Node: eu1\r\n");
    assert_eq!((moved.counts().sessions, nodes.named("eu1").counts().sessions), (1, 1));
    assert_eq!((old.node(), new.node()), ("eu1", "eu1"));
    for bot in [&mut old, &mut new] {
        is_served(proxy.address(), PASSWORD, bot);
    }
    assert_eq!(row(web, "eu1")["sessions"], 1);

    // Both have gone, and both have a session: still no name comes twice.
    reload(&proxy, &list(&[("eu2", nodes.named("eu2").address())]), &[]);
    for bot in [&mut old, &mut new] {
        is_served(proxy.address(), PASSWORD, bot);
    }
    let rows = health(web)["nodes"].as_array().unwrap().iter().filter(|row| row["name"] == "eu1").count();
    let metrics = nodes::metrics(web);
    let samples = metrics.lines().filter(|line| line.starts_with("lavaproxy_node_sessions{node=\"eu1\"}")).count();
    assert_eq!((rows, samples), (1, 1), "{metrics}");
    loses_nothing(load);
}

#[test]
fn a_password_changes_under_living_sessions() {
    let nodes = Nodes::start(V4, &["eu1", "eu2"]);
    let proxy = nodes.proxy(&[("LAVALINK_V4_PASSWORD_EU1", "wrong")]);
    let web = nodes::web(&proxy);
    wait_for_state(web, "eu1", "down");
    wait_for_state(web, "eu2", "up");
    let mut bot = Bot::open(proxy.address(), V4);
    assert_eq!(bot.node(), "eu2");
    let since = row(web, "eu2")["since"].clone();
    reload(&proxy, &nodes.list(), &[("LAVALINK_V4_PASSWORD_EU1", PASSWORD)]);
    wait_for_state(web, "eu1", "up");
    is_served(proxy.address(), PASSWORD, &mut bot);
    let mut other = Bot::open_with(proxy.address(), V4, "Lavalink-Node: eu1\r\n");
    // Its own password and that of its version are the same one now.
    reload(&proxy, &nodes.list(), &[("LAVALINK_V4_PASSWORD", PASSWORD)]);
    for bot in [&mut bot, &mut other] {
        is_served(proxy.address(), PASSWORD, bot);
    }
    assert_eq!((&row(web, "eu2")["since"], &row(web, "eu2")["sessions"]), (&since, &1.into()));
    assert_eq!(row(web, "eu1")["sessions"], 1);
    // A wrong one: the session stays, REST about it says what is wrong.
    reload(&proxy, &nodes.list(), &[("LAVALINK_V4_PASSWORD_EU2", "wrong")]);
    assert!(bot.is_alive());
    assert_eq!(proxy.connect().get(&format!("/v4/sessions/{}/players", bot.id), "").status, 502);
    wait_for_state(web, "eu2", "down");
    assert!(bot.is_alive(), "a node that answers with a refusal does not hang");
}

#[test]
fn one_node_becomes_two_and_one_again() {
    let nodes = Nodes::start(V4, &["eu1", "eu2"]);
    let one = list(&[("eu1", nodes.named("eu1").address())]);
    let proxy = nodes::proxy(V4, &one, &[]);
    let mut first = Bot::open(proxy.address(), V4);
    assert!(!first.id.contains('.'), "{}", first.id);
    reload(&proxy, &nodes.list(), &[]);
    let mut second = Bot::open_with(proxy.address(), V4, "Lavalink-Node: eu2\r\n");
    let mut third = Bot::open_with(proxy.address(), V4, "Lavalink-Node: eu1\r\n");
    for bot in [&mut first, &mut second, &mut third] {
        is_served(proxy.address(), PASSWORD, bot);
    }
    reload(&proxy, &one, &[]);
    for bot in [&mut first, &mut second, &mut third] {
        is_served(proxy.address(), PASSWORD, bot);
    }
    let mut fourth = Bot::open(proxy.address(), V4);
    assert!(!fourth.id.contains('.'));
    is_served(proxy.address(), PASSWORD, &mut fourth);
}

/// Two nodes behind a lavaproxy of its own, whose settings are a file.
struct Lavaproxy {
    running: Running,
    file: std::path::PathBuf,
    proxy: SocketAddr,
    web: SocketAddr,
}

impl Lavaproxy {
    fn start(name: &str, nodes: &str) -> Self {
        let home = directory(name);
        let file = home.join("lavaproxy.env");
        write(&file, nodes);
        let mut command = lavaproxy(&[]);
        command
            .env_clear()
            .envs(FREE)
            .env("LOG_LEVEL", "warn,lavaproxy::signals=info,lavaproxy::server=info,lavaproxy::nodes=info");
        command.env("DRAIN_TIMEOUT", "1h").current_dir(&home);
        let mut running = Running::spawn(command);
        let (proxy, web) = (listening(&mut running, "proxy"), listening(&mut running, "web"));
        Self { running, file, proxy, web }
    }
}

fn write(file: &std::path::Path, nodes: &str) {
    let text = format!(
        "LAVALINK_V3_HOST=\nLAVALINK_V4_PASSWORD={PASSWORD}\nHEALTH_INTERVAL=10s\nLAVALINK_V4_NODES='{nodes}'\n"
    );
    fs::write(file, text).unwrap();
}

fn open(proxy: SocketAddr) -> Bot {
    Bot::try_open(proxy, V4, SECRET, "").unwrap_or_else(|why| panic!("{why}"))
}

#[test]
fn a_drained_node_stays_drained_over_a_hangup_and_a_successor() {
    let nodes = Nodes::start(V4, &["eu1", "eu2"]);
    let mut own = Lavaproxy::start("nodes-drain", &nodes.list());
    let load = requests(own.proxy, SECRET);
    let mut old = (0..2).map(|_| open(own.proxy)).find(|bot| bot.node() == "eu1").unwrap();
    assert_eq!(act(own.web, "eu1", "drain", "").status, 200);
    let line = own.running.line(&["event=node-draining"]);
    assert!(line.contains("node=eu1 ") && line.contains("reason="), "{line}");
    own.running.signal("HUP");
    own.running.line(&["event=reload"]);
    assert_eq!(state(own.web, "eu1"), "draining");

    let mut serving = vec![Stray(own.running.child.id())];
    for number in 0..2 {
        process::signal(serving[number].0, "USR2");
        let next: u32 = value(&own.running.line(&["event=upgraded "]), "successor").parse().unwrap();
        let pid = u64::from(next);
        serving.push(Stray(next));
        eventually("the successor answers", || health(own.web)["process"]["pid"] == pid);
        wait_for_state(own.web, "eu1", "draining");
        assert!((0..6).all(|_| open(own.proxy).node() == "eu2"), "successor {number}");
        // A session of the first one, whose tunnel lives on there; the successor has never seen it.
        is_served(own.proxy, SECRET, &mut old);
        goes_on(&load);
    }
    assert_eq!(nodes::act_in_an_upgrade(own.web, "eu1", "activate").status, 200);
    assert!((0..6).any(|_| open(own.proxy).node() == "eu1"));
    loses_nothing(load);
    old.leave();
    eventually("the first one has ended", || has_ended(own.running.child.id()));
}

#[test]
fn what_the_next_process_would_not_know_is_refused_in_an_upgrade() {
    let nodes = Nodes::start(V4, &["eu1", "eu2"]);
    let proxy = nodes.proxy(&[]);
    let web = nodes::web(&proxy);
    let ask = |line: &str, body: &str| {
        let mut client = Client::connect(web);
        let fields =
            format!("Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n", body.len());
        client.send(format!("{line} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n{body}").as_bytes());
        client.response()
    };
    let changes = [
        ("POST /api/nodes/eu1/drain", ""),
        ("POST /api/nodes/eu1/activate", ""),
        ("POST /api/bans", r#"{"address":"203.0.113.7"}"#),
        ("DELETE /api/bans/203.0.113.7", ""),
    ];
    let statuses = || changes.map(|(line, body)| ask(line, body).status);
    let lasting = proxy.server.lasting();
    lasting.hand_over();
    assert_eq!(statuses(), [503; 4]);
    let answer = ask(changes[0].0, "").text();
    assert!(answer.contains("send it again"), "{answer}");
    assert_eq!(ask("GET /api/bans", "").status, 200);
    assert_eq!(ask("POST /api/health/check", "").status, 200);
    // The next process has not started.
    lasting.keep();
    assert!(statuses().iter().all(|status| (200..300).contains(status)));
}

#[test]
fn a_hangup_under_load_adds_and_removes_nodes() {
    let nodes = Nodes::start(V4, &["eu1", "eu2", "eu3"]);
    let mut own = Lavaproxy::start("nodes-reload", &nodes.list());
    let load = requests(own.proxy, SECRET);
    let mut bots: Vec<Bot> = (0..6).map(|_| open(own.proxy)).collect();
    for left in [&["eu1", "eu2"][..], &["eu2", "eu3"], &["eu1"], &["eu1", "eu2", "eu3"], &["eu3"]] {
        let list = list(&left.iter().map(|name| (*name, nodes.named(name).address())).collect::<Vec<_>>());
        write(&own.file, &list);
        own.running.signal("HUP");
        let line = own.running.line(&["event=reload"]);
        assert!(line.contains("changed=LAVALINK_V4_NODES"), "{line}");
        goes_on(&load);
        bots.iter_mut().for_each(|bot| is_served(own.proxy, SECRET, bot));
        let bot = open(own.proxy);
        assert!(left.len() == 1 || left.contains(&bot.node()), "{}", bot.id);
    }
    write(&own.file, "eu1=127.0.0.1:1, eu1=127.0.0.1:2, x=nowhere");
    own.running.signal("HUP");
    for words in ["eu1=127.0.0.1:2", "x=nowhere"] {
        own.running.line(&["event=reload-refused", words]);
    }
    bots.iter_mut().for_each(|bot| is_served(own.proxy, SECRET, bot));
    loses_nothing(load);
}
