//! A real Prometheus on a free port, with files of its own.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::web::ask_at;

/// A running Prometheus. Its drop ends it and removes its folder.
pub struct Prometheus {
    process: Child,
    address: SocketAddr,
    directory: PathBuf,
}

impl Prometheus {
    /// An empty folder for its configuration.
    pub fn directory(name: &str) -> PathBuf {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        directory
    }

    /// With the file prometheus.yml of this folder.
    pub fn start(program: &Path, directory: PathBuf) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let process = Command::new(program)
            .arg(format!("--config.file={}", directory.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", directory.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(fs::File::create(directory.join("log")).unwrap())
            .spawn()
            .unwrap();
        Self { process, address, directory }
    }

    /// The values of an expression now; none while Prometheus does not answer.
    ///
    /// # Panics
    /// When the expression is wrong.
    pub fn values(&self, expression: &str) -> Vec<f64> {
        if TcpStream::connect(self.address).is_err() {
            return Vec::new();
        }
        let target = format!("/api/v1/query?query={}", percent_encoded(expression));
        let answer = ask_at(self.address, "GET", &target, "");
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

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("{}", fs::read_to_string(self.directory.join("log")).unwrap_or_default());
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn percent_encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
