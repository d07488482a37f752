//! The env file: finds it, reads it, and reports unreadable lines by their number. It opens that one file only.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::{Fault, SETTINGS};

/// What an env file holds.
#[derive(Debug, Default)]
pub struct EnvFile {
    /// The file, when there is one.
    pub path: Option<PathBuf>,
    /// The assignments; the last one of a name counts, as for a shell and for systemd.
    pub values: HashMap<String, String>,
    /// Lines that cannot be read.
    pub faults: Vec<Fault>,
    /// Lines that can be read but are probably a mistake.
    pub warnings: Vec<Fault>,
}

/// A name that begins like this is meant to be a setting of ours.
const PREFIXES: [&str; 3] = ["PROXY_", "WEB_", "LAVALINK_"];

/// The passwords of single nodes begin like this.
const NODE_PASSWORDS: [&str; 2] = ["LAVALINK_V3_PASSWORD_", "LAVALINK_V4_PASSWORD_"];

/// Larger than any env file, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Reads `wanted`, else the first of `defaults` that exists.
///
/// # Errors
/// A fault when `wanted` cannot be read, or when a default file exists and cannot be read.
pub fn find(wanted: Option<&Path>, defaults: &[&Path]) -> Result<EnvFile, Fault> {
    let candidates = wanted.as_ref().map_or(defaults, std::slice::from_ref);
    for path in candidates {
        match read(path) {
            Ok(bytes) => return Ok(parse(path, bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound && wanted.is_none() => {}
            Err(error) => {
                return Err(fault(
                    path,
                    format!("the env file cannot be read: {error} (correct its path or its permissions)"),
                ));
            }
        }
    }
    Ok(EnvFile::default())
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    Ok(bytes)
}

/// Reads every line that can be read. A faulty line may hold a secret, so only its number is reported.
fn parse(path: &Path, mut bytes: Vec<u8>) -> EnvFile {
    const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
    // dotenvy takes a blank before the end of the file for an unfinished line.
    bytes.push(b'\n');
    let text = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&bytes);
    let lines = Cell::new(0);
    let mut found = EnvFile { path: Some(path.to_owned()), ..EnvFile::default() };
    for item in dotenvy::from_read_iter(LineByLine { rest: text, lines: &lines }) {
        let reason = match item {
            Ok((name, value)) => {
                found.insert(path, name, value);
                continue;
            }
            Err(dotenvy::Error::LineParse(content, _)) => {
                let line = (lines.get() + 1).saturating_sub(content.lines().count().max(1));
                format!(
                    "line {line} cannot be read (write NAME=value; put a value with spaces, $, # or quotes into single quotes)"
                )
            }
            Err(_) => format!("line {} is not UTF-8 (write it again, in plain ASCII)", lines.get()),
        };
        found.faults.push(fault(path, reason));
    }
    found
}

impl EnvFile {
    /// A warning for each node password that is not one of `known`.
    pub fn useless_passwords(&self, known: &HashSet<String>) -> Vec<Fault> {
        let mut names: Vec<&String> =
            self.values.keys().filter(|name| is_node_password(name) && !known.contains(*name)).collect();
        names.sort();
        let warning = |name: &String| {
            let reason = format!("{name} belongs to no node and has no effect (is it misspelt?)");
            Fault { name: self.path.as_deref().unwrap_or(Path::new("")).display().to_string(), value: None, reason }
        };
        names.into_iter().map(warning).collect()
    }

    fn insert(&mut self, path: &Path, name: String, value: String) {
        let ours = SETTINGS.iter().any(|setting| setting.name == name) || is_node_password(&name);
        if !ours && PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
            self.warnings.push(fault(path, format!("{name} is not a setting and has no effect (is it misspelt?)")));
        } else if ours && self.values.contains_key(&name) {
            self.warnings
                .push(fault(path, format!("{name} is set twice, and the last one counts (remove one of them)")));
        }
        self.values.insert(name, value);
    }
}

fn is_node_password(name: &str) -> bool {
    NODE_PASSWORDS.iter().any(|prefix| name.starts_with(prefix))
}

fn fault(path: &Path, reason: String) -> Fault {
    Fault { name: path.display().to_string(), value: None, reason }
}

/// Returns one line per read. dotenvy does not count lines, and so it is never ahead of this count.
struct LineByLine<'a> {
    rest: &'a [u8],
    lines: &'a Cell<usize>,
}

impl Read for LineByLine<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let end = self.rest.iter().position(|byte| *byte == b'\n').map_or(self.rest.len(), |position| position + 1);
        let count = end.min(buffer.len());
        let (line, rest) = self.rest.split_at(count);
        buffer[..count].copy_from_slice(line);
        self.rest = rest;
        if line.ends_with(b"\n") {
            self.lines.set(self.lines.get() + 1);
        }
        Ok(count)
    }
}
