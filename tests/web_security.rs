//! Bans by hand, the security report, and usage by bot and by account, as the API has them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;
#[path = "support/web.rs"]
mod web;

use std::time::{Duration, SystemTime};

use lavaproxy::config::{Account, Lavalink, PerVersion, Secret, Settings};
use lavaproxy::demo::Node;
use lavaproxy::error::End;
use lavaproxy::server::Server;
use serde_json::{Value, json};
use support::*;
use web::{BASIC, WEB_PASSWORD, ask, get, post};

const JSON: &str = "Content-Type: application/json\r\n";
const PAGE: &str = "Content-Type: application/json\r\nSec-Fetch-Site: same-origin\r\n";

fn ban(proxy: &Proxy, body: &Value) -> Response {
    post(proxy, "/api/bans", JSON, &body.to_string())
}

fn lift(proxy: &Proxy, named: &str) -> Response {
    ask(proxy, "DELETE", &format!("/api/bans/{named}"), "")
}

fn banned(proxy: &Proxy) -> Vec<String> {
    let bans = get(proxy, "/api/bans").json();
    bans.as_array().unwrap().iter().map(|row| row["address"].as_str().unwrap().to_owned()).collect()
}

fn message(response: &Response) -> String {
    response.json()["message"].as_str().unwrap().to_owned()
}

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

fn unix_millis() -> u64 {
    u64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// Sends a request of this client with this password, as a trusted front does.
fn through_a_front(front: &mut Client, client: &str, password: &str) -> Response {
    front.send(
        format!("GET /v4/info HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {client}\r\nAuthorization: {password}\r\n\r\n")
            .as_bytes(),
    );
    front.response()
}

#[test]
fn a_ban_is_added_listed_and_lifted() {
    let proxy = Proxy::start(&[]);
    assert_eq!(get(&proxy, "/api/bans").json(), json!([]));
    for (address, written, names) in [
        ("203.0.113.7", "203.0.113.7", vec!["203.0.113.7", "203.0.113.7/32", "::ffff:203.0.113.7", "203%2E0.113.7"]),
        ("203.0.113.0/24", "203.0.113.0/24", vec!["203.0.113.0/24", "203.0.113.0%2F24", "203.0.113.0%2f24"]),
        ("2001:DB8:0:0:0:0:0:7", "2001:db8::7", vec!["2001:db8::7", "2001%3Adb8%3a%3A7", "2001:DB8::7/128"]),
        ("2001:db8:1:2::/64", "2001:db8:1:2::/64", vec!["2001:db8:1:2::/64", "2001%3Adb8%3A1%3A2%3A%3A%2F64"]),
    ] {
        for name in names {
            let before = unix_millis();
            let answer = ban(&proxy, &json!({"address": address, "reason": "it floods", "duration": "10m"}));
            assert_eq!(answer.status, 201, "{}", answer.text());
            let row = answer.json();
            assert_eq!(keys(&row), ["address", "by", "reason", "since", "until"]);
            assert_eq!(
                (&row["address"], &row["reason"], &row["by"]),
                (&json!(written), &json!("it floods"), &json!("api"))
            );
            let (since, until) = (row["since"].as_u64().unwrap(), row["until"].as_u64().unwrap());
            assert!((before..=unix_millis()).contains(&since) && until == since + 600_000, "{row}");
            assert_eq!(get(&proxy, "/api/bans").json(), json!([row]));
            let lifted = lift(&proxy, name);
            assert_eq!((lifted.status, lifted.json()), (200, json!({"address": written})), "{name}");
            assert_eq!(banned(&proxy), [""; 0]);
        }
    }
    let forever = ban(&proxy, &json!({"address": "203.0.113.7"})).json();
    assert_eq!((&forever["until"], &forever["reason"]), (&Value::Null, &json!("")));
    let again = ban(&proxy, &json!({"address": "203.0.113.7", "duration": "1h"}));
    assert_eq!(again.status, 201);
    assert_eq!(get(&proxy, "/api/bans").json(), json!([again.json()]), "the later ban replaces the earlier one");
}

#[test]
fn a_ban_names_whether_a_page_or_a_program_made_it() {
    let proxy = Proxy::start(&[]);
    let body = r#"{"address":"203.0.113.7"}"#;
    let own = format!("{JSON}Origin: http://{}\r\n", proxy.listener("web"));
    for (fields, by) in [(JSON, "api"), (PAGE, "page"), (own.as_str(), "page")] {
        assert_eq!(post(&proxy, "/api/bans", fields, body).json()["by"], by, "{fields}");
    }
}

#[test]
fn a_ban_that_cannot_be_made_says_what_to_write() {
    let proxy = Proxy::start(&[("TRUSTED_PROXIES", "192.0.2.0/24,2001:db8:f::1")]);
    for (body, status, says) in [
        ("", 400, "must be a JSON object such as"),
        ("address=203.0.113.7", 400, "must be a JSON object such as"),
        (r#"{"address":"bot.example"}"#, 400, "names are not looked up"),
        (r#"{"address":"203.0.113.7/24"}"#, 400, "write 203.0.113.0/24"),
        (r#"{"address":"203.0.113.7","duration":"10"}"#, 400, "duration: it has no unit"),
        (r#"{"address":"203.0.113.7","end":"10m"}"#, 400, "unknown field `end`"),
        (r#"{"address":"127.0.0.1"}"#, 409, "loopback"),
        (r#"{"address":"127.1.2.3"}"#, 409, "loopback"),
        (r#"{"address":"::1"}"#, 409, "loopback"),
        (r#"{"address":"::ffff:127.0.0.1"}"#, 409, "loopback"),
        (r#"{"address":"0.0.0.0/0"}"#, 409, "loopback"),
        (r#"{"address":"::/0"}"#, 409, "loopback"),
        (r#"{"address":"192.0.2.7"}"#, 409, "TRUSTED_PROXIES"),
        (r#"{"address":"192.0.0.0/16"}"#, 409, "TRUSTED_PROXIES"),
        (r#"{"address":"2001:db8:f::/64"}"#, 409, "TRUSTED_PROXIES"),
    ] {
        let refusal = post(&proxy, "/api/bans", JSON, body);
        assert_eq!((refusal.status, refusal.json()["status"].as_u64()), (status, Some(u64::from(status))), "{body}");
        assert!(message(&refusal).contains(says), "{body}: {}", refusal.text());
    }
    let long = json!({"address": "203.0.113.7", "reason": "x".repeat(201)});
    assert_eq!(ban(&proxy, &long).status, 409);
    assert_eq!(banned(&proxy), [""; 0]);
}

#[test]
fn a_body_is_json_of_four_kibibytes_at_most() {
    let proxy = Proxy::start(&[]);
    let body = r#"{"address":"203.0.113.7"}"#;
    for kind in ["", "Content-Type: application/x-www-form-urlencoded\r\n", JSON] {
        assert_eq!(post(&proxy, "/api/bans", kind, body).status, 201, "curl -d says that it is a form: {kind}");
    }
    let padded = |length: usize| format!("{body}{}", " ".repeat(length - body.len()));
    assert_eq!(post(&proxy, "/api/bans", JSON, &padded(4096)).status, 201);
    let refusal = post(&proxy, "/api/bans", JSON, &padded(4097));
    assert_eq!(refusal.status, 413);
    assert!(message(&refusal).contains("4096 bytes"), "{}", refusal.text());

    for (chunks, status) in [(2, 201), (5, 413)] {
        let mut client = Client::connect(proxy.listener("web"));
        client.send(
            format!("POST /api/bans HTTP/1.1\r\nHost: localhost\r\n{JSON}Transfer-Encoding: chunked\r\n\r\n")
                .as_bytes(),
        );
        client.send(format!("{:x}\r\n{body}\r\n", body.len()).as_bytes());
        for _ in 1..chunks {
            // A refused client may find its connection closed.
            let _ = client.try_send(format!("400\r\n{}\r\n", " ".repeat(1024)).as_bytes());
        }
        let _ = client.try_send(b"0\r\n\r\n");
        assert_eq!(client.response_to("POST").status, status, "{chunks} chunks");
    }
}

#[test]
fn what_is_not_banned_cannot_be_lifted() {
    let proxy = Proxy::start(&[]);
    ban(&proxy, &json!({"address": "203.0.113.0/24"}));
    for (named, status, says) in [
        ("198.51.100.1", 404, "there is no ban of 198.51.100.1; GET /api/bans lists all"),
        ("203.0.113.7", 404, "lift the ban of 203.0.113.0/24"),
        ("203.0.113.0%2F25", 404, "lift the ban of 203.0.113.0/24"),
        ("203.0.112.0/23", 404, "there is no ban of"),
        ("bot.example", 400, "neither an address nor a network"),
        ("203.0.113.7/24", 400, "write 203.0.113.0/24"),
        ("%zz", 400, "hexadecimal"),
    ] {
        let refusal = lift(&proxy, named);
        assert_eq!(refusal.status, status, "{named}");
        assert!(message(&refusal).contains(says), "{named}: {}", refusal.text());
    }
    assert_eq!(lift(&proxy, "").status, 404);
    assert_eq!(banned(&proxy), ["203.0.113.0/24"]);
}

#[test]
fn bans_have_their_methods_and_no_other_site_may_use_them() {
    let proxy = Proxy::start(&[]);
    for (path, allow, others) in [
        ("/api/bans", "GET, HEAD, POST", ["PUT", "DELETE", "PATCH", "OPTIONS"]),
        ("/api/bans/203.0.113.7", "DELETE", ["GET", "POST", "PUT", "HEAD"]),
    ] {
        for method in others {
            let refusal = ask(&proxy, method, path, "");
            assert_eq!((refusal.status, refusal.field("allow")), (405, Some(allow)), "{method} {path}");
        }
    }
    assert_eq!(ask(&proxy, "HEAD", "/api/bans", "").status, 200);
    assert_eq!(ask(&proxy, "TRACE", "/api/bans", "").field("allow"), Some("GET, HEAD, POST, DELETE"));

    let body = r#"{"address":"203.0.113.7"}"#;
    for foreign in [
        "Origin: http://evil.example\r\n",
        "Origin: null\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\n",
    ] {
        assert_eq!(post(&proxy, "/api/bans", &format!("{JSON}{foreign}"), body).status, 403, "{foreign}");
    }
    assert_eq!(banned(&proxy), [""; 0]);
    assert_eq!(post(&proxy, "/api/bans", JSON, body).status, 201);
    let foreign = "Origin: http://evil.example\r\n";
    assert_eq!(ask(&proxy, "DELETE", "/api/bans/203.0.113.7", foreign).status, 403);
    assert_eq!(banned(&proxy), ["203.0.113.7"]);
}

#[test]
fn bans_need_the_password_of_the_pages() {
    let proxy = Proxy::start(&[("WEB_PASSWORD", WEB_PASSWORD)]);
    let body = r#"{"address":"203.0.113.7"}"#;
    assert_eq!(post(&proxy, "/api/bans", JSON, body).status, 401);
    assert_eq!(lift(&proxy, "203.0.113.7").status, 401);
    assert_eq!(post(&proxy, "/api/bans", &format!("{BASIC}{JSON}"), body).status, 201);
    assert_eq!(ask(&proxy, "DELETE", "/api/bans/203.0.113.7", BASIC).status, 200);
}

#[test]
fn a_ban_by_hand_refuses_its_client_and_ends_its_tunnel() {
    let node = Node::start(Lavalink::V4, PASSWORD).unwrap();
    let proxy = Proxy::before(node.address(), node.address(), &[("TRUSTED_PROXIES", "127.0.0.1")]);
    let status = |client: &str| proxy.connect().get("/v4/info", &format!("X-Forwarded-For: {client}\r\n")).status;
    assert_eq!(status("203.0.113.7"), 200);
    let mut tunnel = proxy.connect();
    let fields = format!("{HANDSHAKE}X-Forwarded-For: 203.0.113.7\r\n");
    assert_eq!(tunnel.get("/v4/websocket", &fields).status, 101);
    let answer = ban(&proxy, &json!({"address": "203.0.113.0/24", "reason": "it floods"}));
    assert_eq!(answer.status, 201);
    // Its last frame is a close with 1008, policy violation (RFC 6455 section 7.4.1).
    assert!(tunnel.rest().ends_with(&[0x88, 2, 0x03, 0xF0]));
    drop(tunnel);
    eventually("the tunnel is ended", || proxy.stats()["totals"]["websockets"] == 0);
    assert_eq!(proxy.ended("kicked"), 1);
    assert_eq!(status("203.0.113.9"), 403);
    assert_eq!(status("198.51.100.1"), 200, "the front's other clients are served");
    assert_eq!(lift(&proxy, "203.0.113.0/24").status, 200);
    assert_eq!(status("203.0.113.7"), 200);
}

#[test]
fn the_report_has_exactly_these_fields() {
    let proxy =
        Proxy::start(&[("TRUSTED_PROXIES", "127.0.0.1"), ("REQUEST_RATE", "5/s burst=9"), ("WEB_PASSWORD", "")]);
    let mut front = proxy.connect();
    for client in ["203.0.113.9", "203.0.113.9", "2001:db8::7"] {
        assert_eq!(through_a_front(&mut front, client, "wrong").status, 403);
    }
    ban(&proxy, &json!({"address": "198.51.100.0/24"}));
    let report = get(&proxy, "/api/security").json();
    assert_eq!(keys(&report), ["accounts", "accountsFile", "bans", "dropped", "limits", "now", "refusals", "stateDir"]);
    assert_eq!((&report["accountsFile"], &report["stateDir"]), (&Value::Null, &Value::Null));
    assert_eq!(report["dropped"], 0);
    assert_eq!(report["bans"], get(&proxy, "/api/bans").json());

    let refusals = &report["refusals"];
    assert_eq!(keys(refusals), ["addresses", "reasons"]);
    let [reason] = &refusals["reasons"].as_array().unwrap()[..] else { panic!("{refusals}") };
    assert_eq!((keys(reason), &reason["reason"]), (vec!["lastHour", "minutes", "reason"], &json!("rejected-password")));
    assert_eq!((&reason["lastHour"], reason["minutes"].as_array().unwrap().len()), (&json!(3), 60));
    let addresses = refusals["addresses"].as_array().unwrap();
    let shown: Vec<_> =
        addresses.iter().map(|row| (row["address"].as_str().unwrap(), row["lastHour"].as_u64().unwrap())).collect();
    assert_eq!(shown, [("203.0.113.9", 2), ("2001:db8::/64", 1)]);
    assert_eq!(keys(&addresses[0]), ["address", "bannable", "lastHour", "lastSeen", "reason"]);

    let limit = |name: &str| {
        let limits = report["limits"].as_array().unwrap();
        limits.iter().find(|limit| limit["name"] == name).unwrap_or_else(|| panic!("no {name}")).clone()
    };
    let total: usize = limit("MAX_CONNECTIONS")["value"].as_str().unwrap().parse().unwrap();
    assert_eq!(get(&proxy, "/api/health").json()["limit"]["connections"], total);
    let per_address = limit("MAX_CONNECTIONS_PER_ADDRESS");
    assert_eq!(
        per_address,
        json!({"name": "MAX_CONNECTIONS_PER_ADDRESS", "value": (total / 8).max(1).to_string(), "why": "an eighth of all"})
    );
    for (name, value) in [
        ("CONNECTION_RATE", "50/s"),
        ("REQUEST_RATE", "5/s burst=9"),
        ("BAN_AFTER", "20"),
        ("ALLOWED_ADDRESSES", "all"),
        ("BLOCKED_ADDRESSES", "none"),
        ("TRUSTED_PROXIES", "127.0.0.1"),
    ] {
        assert_eq!(limit(name), json!({"name": name, "value": value, "why": null}));
    }
    for reason in refusals["reasons"].as_array().unwrap() {
        assert!(End::ALL.iter().any(|end| end.name() == reason["reason"]), "{reason}");
    }
}

#[test]
fn an_address_is_bannable_when_the_api_bans_it() {
    let proxy = Proxy::start(&[("TRUSTED_PROXIES", "127.0.0.1,10.1.2.0/24,2001:db8:f::1"), ("WEB_PASSWORD", "")]);
    let mut front = proxy.connect();
    for client in ["203.0.113.9", "10.1.2.3", "2001:db8:f::2", "2001:db8::7", "127.0.0.5"] {
        assert_eq!(through_a_front(&mut front, client, "wrong").status, 403, "{client}");
    }
    let report = get(&proxy, "/api/security").json();
    let rows = report["refusals"]["addresses"].as_array().unwrap();
    assert_eq!(rows.iter().filter(|row| row["bannable"] == true).count(), 2, "{report}");
    for row in rows {
        let status = ban(&proxy, &json!({"address": row["address"]})).status;
        assert_eq!(status, if row["bannable"] == true { 201 } else { 409 }, "{row}");
    }
}

/// With two accounts beside `default`.
fn with_accounts(v4: &Node) -> (Proxy, Settings) {
    let mut settings = settings(&[("LAVALINK_V3_HOST", ""), ("LAVALINK_V4_PORT", &v4.address().port().to_string())]);
    let account = |name: &str, password: &str| Account {
        name: name.into(),
        password: Secret::new(password.to_owned()),
        versions: PerVersion { v3: true, v4: true },
        connections: None,
        requests_per_second: None,
        expires: None,
        enabled: true,
    };
    settings.accounts = vec![
        Account {
            versions: PerVersion { v3: false, v4: true },
            connections: Some(20),
            requests_per_second: Some(10),
            expires: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(4_102_444_800)),
            ..account("ann", "ann's own password")
        },
        Account {
            expires: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000)),
            ..account("bob", "bob's own password")
        },
        Account { enabled: false, ..account("eve", "eve's own password") },
    ];
    (Proxy { server: Server::start(&settings).unwrap() }, settings)
}

fn get_as(client: &mut Client, password: &str, fields: &str) -> Response {
    client.send(format!("GET /v4/info HTTP/1.1\r\nHost: x\r\nAuthorization: {password}\r\n{fields}\r\n").as_bytes());
    client.response()
}

#[test]
fn accounts_are_listed_with_what_they_used_and_without_passwords() {
    let node = Node::start(Lavalink::V4, PASSWORD).unwrap();
    let (proxy, settings) = with_accounts(&node);
    let mut bot = proxy.connect();
    for _ in 0..3 {
        assert_eq!(get_as(&mut bot, "ann's own password", "").status, 200);
    }
    let accounts = get(&proxy, "/api/accounts").json();
    let row = |index: usize| &accounts[index];
    for account in accounts.as_array().unwrap() {
        let fields = [
            "account",
            "active",
            "bytesIn",
            "bytesOut",
            "connections",
            "enabled",
            "expires",
            "lastSeen",
            "limits",
            "rateIn",
            "rateOut",
            "requests",
            "state",
            "versions",
        ];
        assert_eq!(keys(account), fields);
        assert_eq!(keys(&account["limits"]), ["connections", "requestsPerSecond"]);
    }
    let states =
        [0, 1, 2, 3].map(|index| (row(index)["account"].as_str().unwrap(), row(index)["state"].as_str().unwrap()));
    assert_eq!(states, [("default", "active"), ("ann", "active"), ("bob", "expired"), ("eve", "disabled")]);
    let ann = row(1);
    assert_eq!(ann["limits"], json!({"connections": 20, "requestsPerSecond": 10}));
    assert_eq!((&ann["versions"], &ann["expires"]), (&json!(["v4"]), &json!(4_102_444_800_000_u64)));
    assert_eq!((&ann["active"], &ann["connections"], &ann["requests"]), (&json!(1), &json!(1), &json!(3)));
    assert_eq!(ann["bytesIn"].as_u64(), Some(bot.sent));
    assert_eq!((&row(0)["limits"]["connections"], &row(0)["lastSeen"]), (&Value::Null, &json!(0)));
    assert_eq!(row(3)["enabled"], false);
    let metrics = get(&proxy, "/metrics").text();
    for (account, open) in [("default", 0), ("ann", 1), ("bob", 0)] {
        assert!(
            metrics.contains(&format!("lavaproxy_account_connections{{account=\"{account}\"}} {open}\n")),
            "{metrics}"
        );
    }

    // An account that is taken out of the file keeps its figures, and is no longer among those of the report.
    let mut fewer = settings;
    fewer.accounts.remove(0);
    proxy.server.reload(&fewer).unwrap();
    let accounts = get(&proxy, "/api/accounts").json();
    let gone = accounts.as_array().unwrap().last().unwrap().clone();
    assert_eq!((&gone["account"], &gone["state"], &gone["requests"]), (&json!("ann"), &json!("removed"), &json!(3)));
    let report = get(&proxy, "/api/security").json();
    let names: Vec<_> = report["accounts"].as_array().unwrap().iter().map(|account| &account["account"]).collect();
    assert_eq!(names, ["default", "bob", "eve"]);

    for path in ["/api/accounts", "/api/security", "/api/health", "/metrics", "/security", "/data-usage", "/api/stats"]
    {
        let text = get(&proxy, path).text();
        assert!(!text.contains("own password") && !text.contains(PASSWORD), "{path}");
    }
}

#[test]
fn many_accounts_have_no_samples_of_their_own() {
    let mut settings = settings(&[]);
    settings.accounts = (0..100)
        .map(|number| Account {
            name: format!("account-{number}").as_str().into(),
            password: Secret::new(format!("password-{number}")),
            versions: PerVersion { v3: true, v4: true },
            connections: None,
            requests_per_second: None,
            expires: None,
            enabled: true,
        })
        .collect();
    let proxy = Proxy { server: Server::start(&settings).unwrap() };
    assert!(!get(&proxy, "/metrics").text().contains("lavaproxy_account_connections"));
    settings.accounts.pop();
    proxy.server.reload(&settings).unwrap();
    assert_eq!(get(&proxy, "/metrics").text().matches("\nlavaproxy_account_connections{").count(), 100);
    assert_eq!(get(&proxy, "/api/accounts").json().as_array().unwrap().len(), 100);
}

#[test]
fn bots_are_listed_by_their_user_id() {
    let node = Node::start(Lavalink::V4, PASSWORD).unwrap();
    let proxy = Proxy::before(node.address(), node.address(), &[]);
    assert_eq!(get(&proxy, "/api/bots").json(), json!([]));
    let mut bot = proxy.connect();
    assert_eq!(bot.get("/v4/info", "User-Id: 80351110224678912\r\nClient-Name: one/1.0\r\n").status, 200);
    assert_eq!(bot.get("/v4/info", "User-Id: 80351110224678912\r\nClient-Name: two/2.0\r\n").status, 200);
    let mut nameless = proxy.connect();
    assert_eq!(nameless.get("/v4/info", "").status, 200);
    let bots = get(&proxy, "/api/bots").json();
    let [row] = &bots.as_array().unwrap()[..] else { panic!("{bots}") };
    let fields = [
        "active",
        "bytesIn",
        "bytesOut",
        "clientName",
        "connections",
        "lastSeen",
        "rateIn",
        "rateOut",
        "requests",
        "userId",
    ];
    assert_eq!(keys(row), fields);
    assert_eq!((&row["userId"], &row["clientName"]), (&json!("80351110224678912"), &json!("two/2.0")));
    assert_eq!((&row["requests"], row["bytesIn"].as_u64()), (&json!(2), Some(bot.sent)));
}

#[test]
fn bans_and_dropped_connections_have_metrics() {
    let proxy = Proxy::start(&[]);
    let value = |name: &str| {
        let text = get(&proxy, "/metrics").text();
        let line =
            text.lines().find(|line| line.split(' ').next() == Some(name)).unwrap_or_else(|| panic!("no {name}"));
        line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    assert_eq!((value("lavaproxy_bans"), value("lavaproxy_dropped_connections_total")), (0, 0));
    for address in ["203.0.113.7", "198.51.100.0/24"] {
        ban(&proxy, &json!({"address": address}));
    }
    assert_eq!(value("lavaproxy_bans"), 2);
    lift(&proxy, "203.0.113.7");
    assert_eq!(value("lavaproxy_bans"), 1);
}
