//! compose.yaml as compose reads it, and its settings as lavaproxy reads them. Without a container engine: tests/image.rs
//! brings it up.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::tool::{self, said};

/// Whether compose accepts compose.yaml, and what it says. `None` is a skip: there is no compose.
fn compose(set: &[(&str, &str)]) -> Option<(bool, String)> {
    let compose = tool::compose()?;
    // A file .env that lies in deploy/ is not for the test.
    let no_settings = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("empty.env");
    fs::write(&no_settings, "").unwrap();
    let mut command = tool::command(compose);
    command.arg("--env-file").arg(no_settings).args(["--file", "deploy/compose.yaml", "config"]);
    for name in ["PROXY_PASSWORD", "WEB_PASSWORD"] {
        command.env_remove(name);
    }
    let output = command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR"))).envs(set.iter().copied()).output().unwrap();
    Some((output.status.success(), said(&output)))
}

/// The folder in the image that its user may write to.
fn state_folder() -> String {
    let dockerfile = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/Dockerfile")).unwrap();
    let line = dockerfile.lines().find(|line| line.contains("--chown=")).unwrap();
    line.rsplit(' ').next().unwrap().to_owned()
}

#[test]
fn compose_reads_its_file_and_lavaproxy_accepts_the_settings_in_it() {
    let set = [("PROXY_PASSWORD", "for bots"), ("WEB_PASSWORD", "for the pages")];
    let Some((accepted, text)) = compose(&set) else { return };
    assert!(accepted, "{text}");
    for line in
        ["read_only: true", "- ALL", "- no-new-privileges:true", "- /tmp", "image: ghcr.io/lavalink-devs/lavalink:4"]
    {
        assert!(text.lines().any(|own| own.trim() == line), "{line} in {text}");
    }
    let (_, lavaproxy) = text.split_once("\n  lavaproxy:\n").unwrap();
    let (_, environment) = lavaproxy.split_once("\n    environment:\n").unwrap();
    let settings = environment.lines().take_while(|line| line.starts_with("      ")).map(|line| {
        let (name, value) = line.trim().split_once(':').unwrap();
        (name, value.trim().trim_matches(['\'', '"']))
    });
    let mut check = Command::new(env!("CARGO_BIN_EXE_lavaproxy"));
    let output =
        check.arg("--check").env_clear().envs(settings).current_dir(env!("CARGO_TARGET_TMPDIR")).output().unwrap();
    let checked = said(&output);
    assert!(output.status.success(), "{checked}");
    let state = format!("STATE_DIR={}", state_folder());
    for line in ["WEB_HOST=0.0.0.0", "LAVALINK_V3_HOST=", "LAVALINK_V4_HOST=lavalink", "LAVALINK_V4_PORT=2333", &state]
    {
        assert!(checked.lines().any(|own| own == line), "{line} in {checked}");
    }
    let volumes: String = text.split_once("\n    volumes:\n").unwrap().1.lines().take(5).collect();
    assert!(volumes.contains(&state_folder()), "{text}");
    let (_, named) = text.split_once("\nvolumes:\n").unwrap();
    assert!(named.trim_start().starts_with("state:"), "{text}");

    let (accepted, text) = compose(&set[..1]).unwrap();
    assert!(!accepted && text.contains("WEB_PASSWORD"), "{text}");
}
