//! A real Prometheus or Alertmanager on a free port, with files of its own.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::web::ask_at;

/// A running Prometheus or Alertmanager. Its drop ends it and removes its folder.
pub struct Daemon {
    process: Child,
    pub address: SocketAddr,
    directory: PathBuf,
}

impl Daemon {
    /// An empty folder for its configuration.
    pub fn directory(name: &str) -> PathBuf {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        directory
    }

    /// With this file of the folder. `storage` is the flag for its data.
    pub fn start(program: &Path, directory: PathBuf, config: &str, storage: &str, further: &[&str]) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let process = Command::new(program)
            .arg(format!("--config.file={}", directory.join(config).display()))
            .arg(format!("{storage}={}", directory.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .args(further)
            .stdout(Stdio::null())
            .stderr(fs::File::create(directory.join("log")).unwrap())
            .spawn()
            .unwrap();
        Self { process, address, directory }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("{}", fs::read_to_string(self.directory.join("log")).unwrap_or_default());
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A running Prometheus.
pub struct Prometheus(Daemon);

impl Prometheus {
    /// With the file prometheus.yml of this folder.
    pub fn start(program: &Path, directory: PathBuf) -> Self {
        Self(Daemon::start(program, directory, "prometheus.yml", "--storage.tsdb.path", &[]))
    }

    /// The values of an expression now; none while Prometheus does not answer.
    ///
    /// # Panics
    /// When the expression is wrong.
    pub fn values(&self, expression: &str) -> Vec<f64> {
        if TcpStream::connect(self.0.address).is_err() {
            return Vec::new();
        }
        let target = format!("/api/v1/query?query={}", percent_encoded(expression));
        let answer = ask_at(self.0.address, "GET", &target, "");
        if answer.status == 503 {
            return Vec::new();
        }
        assert_eq!(answer.status, 200, "{expression}: {}", answer.text());
        let answer = answer.json();
        let rows = answer["data"]["result"].as_array().cloned().unwrap_or_default();
        rows.iter().filter_map(|row| Value::as_str(&row["value"][1])?.parse().ok()).collect()
    }

    /// The first of the values.
    pub fn query(&self, expression: &str) -> Option<f64> {
        self.values(expression).first().copied()
    }
}

fn percent_encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
