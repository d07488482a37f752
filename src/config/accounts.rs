//! The accounts file: its bounds, its form and its faults. Only [`load`] opens it; the rest is pure.
//!
//! A fault names an entry by its number and its name. It never repeats a password or another value.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use jiff::civil::{Time, datetime};
use jiff::fmt::temporal::Pieces;
use jiff::tz::Offset;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use serde_json::error::Category;

use super::names::{ACCOUNTS_FILE, DEFAULT_PASSWORD, PROXY_PASSWORD};
use super::{Fault, Lavalink, PerVersion, Secret, value};

/// Larger than any accounts file, in bytes.
const MAX_FILE: u64 = 4 << 20;
/// The most accounts.
const MAX_ACCOUNTS: usize = 10_000;
/// Of an account's name, in characters.
const MAX_NAME: usize = 64;
/// The account whose password is `PROXY_PASSWORD`.
pub const DEFAULT_ACCOUNT: &str = "default";
/// The name of the row that stands for all rows that usage has no room for.
const OTHERS: &str = "others";
/// What clients may send before a password.
const SCHEME: &str = "Bearer ";

/// One entry of the accounts file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its name in logs, on the pages and in the API. Unique, and neither `default` nor `others`.
    pub name: Arc<str>,
    /// What its clients send as `Authorization`. No other account has it, and it is not `PROXY_PASSWORD`.
    pub password: Secret,
    /// The versions of Lavalink that it may use; at least one.
    pub versions: PerVersion<bool>,
    /// How many connections it may have open; never 0.
    pub connections: Option<usize>,
    /// How many requests it may send in a second; never 0.
    pub requests_per_second: Option<u32>,
    /// From this moment on it is refused.
    pub expires: Option<SystemTime>,
    /// False for an account that is refused but kept in the file.
    pub enabled: bool,
}

/// What the accounts file holds.
#[derive(Debug, Default)]
pub struct AccountsFile {
    /// In the order of the file.
    pub accounts: Vec<Account>,
    /// What is probably a mistake.
    pub warnings: Vec<Fault>,
}

/// Reads the file that `ACCOUNTS_FILE` names. No file is read when it is unset or not a path.
///
/// # Errors
/// All faults at once.
pub fn load(lookup: impl Fn(&str) -> Option<OsString>) -> Result<AccountsFile, Vec<Fault>> {
    let path = lookup(ACCOUNTS_FILE.name).filter(|path| !path.is_empty());
    let Some(path) = path.filter(|path| path.to_str().is_some_and(|text| value::file(text).is_ok())) else {
        return Ok(AccountsFile::default());
    };
    let fault = |reason| Fault {
        name: ACCOUNTS_FILE.name.to_owned(),
        value: Some(path.to_string_lossy().escape_debug().to_string()),
        reason,
    };
    let (bytes, is_private) = read(Path::new(&path)).map_err(|reason| vec![fault(reason)])?;
    let proxy_password = lookup(PROXY_PASSWORD.name).unwrap_or_else(|| DEFAULT_PASSWORD.into());
    let accounts = parse(&bytes, &proxy_password.to_string_lossy())
        .map_err(|reasons| reasons.into_iter().map(fault).collect::<Vec<_>>())?;
    let warnings = match is_private {
        true => Vec::new(),
        false => vec![fault(
            "other users of this machine can read or change it (run chmod 600 on it; 640 is enough when it belongs to root)"
                .to_owned(),
        )],
    };
    Ok(AccountsFile { accounts, warnings })
}

/// The content of the file, and whether it is kept from other users.
fn read(path: &Path) -> Result<(Vec<u8>, bool), String> {
    let unreadable = |error| format!("it cannot be read: {error} (correct the path or the file's permissions)");
    // Without this flag the opening of a pipe would wait for its writer.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err("it is not a file (name a file with a list of accounts)".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err("it is larger than 4 MiB (remove accounts that are not used any more)".to_owned());
    }
    Ok((bytes, is_private(metadata.mode(), metadata.uid())))
}

/// A file of root's may be readable by a group, which is then that of the service.
fn is_private(mode: u32, owner: u32) -> bool {
    mode & if owner == 0 { 0o037 } else { 0o077 } == 0
}

/// Every account, or the reason of every fault.
fn parse(bytes: &[u8], proxy_password: &str) -> Result<Vec<Account>, Vec<String>> {
    const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
    let text = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    let entries: Vec<Entry> = serde_json::from_slice(text).map_err(|error| {
        vec![match error.classify() {
            // The error's own text could hold a value.
            Category::Data => r#"it is not a list (write such as [{"name":"alice","password":"..."}])"#.to_owned(),
            _ => format!("it is not JSON: {error} (correct it there)"),
        }]
    })?;
    if entries.len() > MAX_ACCOUNTS {
        return Err(vec![format!("it has {} accounts (write {MAX_ACCOUNTS} at most)", entries.len())]);
    }
    let (mut accounts, mut faults) = (Vec::new(), Vec::new());
    let mut seen = Seen { proxy_password, names: HashMap::new(), passwords: HashMap::new() };
    for (index, entry) in entries.iter().enumerate() {
        let number = index + 1;
        let Entry::Object(Fields(fields)) = entry else {
            faults.push(format!(
                r#"entry {number}: it is not an object (write such as {{"name":"alice","password":"..."}})"#
            ));
            continue;
        };
        let mut reader = EntryReader { number, fields, faults: Vec::new() };
        let account = reader.account(&mut seen);
        let title = reader.title();
        faults.extend(reader.faults.iter().map(|fault| format!("{title}: {fault}")));
        accounts.extend(account);
    }
    if faults.is_empty() { Ok(accounts) } else { Err(faults) }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Object(Fields),
    Other(IgnoredAny),
}

/// The fields of an entry as they are written. A map would hide that one is there twice.
struct Fields(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Fields;

            fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// What must be unique, with the number of the entry that has it.
struct Seen<'e> {
    proxy_password: &'e str,
    names: HashMap<&'e str, usize>,
    passwords: HashMap<&'e str, usize>,
}

impl<'e> Seen<'e> {
    fn name(&mut self, name: &'e str, number: usize) -> Result<(), String> {
        match *self.names.entry(name).or_insert(number) {
            first if first == number => Ok(()),
            first => Err(format!("entry {first} has this name as well (give each account its own)")),
        }
    }

    fn password(&mut self, password: &'e str, number: usize) -> Result<(), String> {
        // A client may send `Bearer ` before any password, so these two would be the same on the wire.
        let bare = self.proxy_password.strip_prefix(SCHEME).map_or(self.proxy_password, str::trim_start);
        if password == self.proxy_password || password == bare {
            return Err(format!(
                "it is PROXY_PASSWORD, which belongs to the account {DEFAULT_ACCOUNT} (write another password)"
            ));
        }
        match *self.passwords.entry(password).or_insert(number) {
            first if first == number => Ok(()),
            first => Err(format!("entry {first} has this password as well (give each account its own)")),
        }
    }
}

/// The fields that an entry can have.
const FIELDS: [&str; 7] = ["name", "password", "versions", "connections", "requestsPerSecond", "expires", "enabled"];

/// Reads one entry and collects its faults.
struct EntryReader<'e> {
    number: usize,
    fields: &'e [(String, Value)],
    faults: Vec<String>,
}

impl<'e> EntryReader<'e> {
    /// Reads every field before the first fault makes it return, so that all faults are found.
    fn account(&mut self, seen: &mut Seen<'e>) -> Option<Account> {
        self.check_fields();
        let number = self.number;
        let new_name = |value: &'e Value| name(value).and_then(|name| seen.name(name, number).map(|()| name));
        let name = self.required("name", new_name);
        let new_password =
            |value: &'e Value| password(value).and_then(|text| seen.password(text, number).map(|()| text));
        let password = self.required("password", new_password);
        let versions = self.optional("versions", versions);
        let connections = self.optional("connections", limit);
        let requests_per_second = self.optional("requestsPerSecond", limit);
        let expires = self.optional("expires", expires);
        let enabled = self.optional("enabled", |value| {
            value.as_bool().ok_or_else(|| "it is neither true nor false (write one of them, without quotes)".to_owned())
        });
        Some(Account {
            name: name?.into(),
            password: Secret::new(password?.to_owned()),
            versions: versions.unwrap_or(PerVersion { v3: true, v4: true }),
            connections: connections.and_then(|limit| usize::try_from(limit).ok()),
            requests_per_second,
            expires,
            enabled: enabled.unwrap_or(true),
        })
    }

    /// Every field is known and there once.
    fn check_fields(&mut self) {
        const MAX_SHOWN: usize = 40;
        for (index, (name, _)) in self.fields.iter().enumerate() {
            let shown: String = name.chars().take(MAX_SHOWN).collect();
            let shown = shown.escape_debug();
            if !FIELDS.contains(&name.as_str()) {
                self.faults.push(format!("there is no field \"{shown}\" (the fields are {})", FIELDS.join(", ")));
            } else if self.fields[..index].iter().any(|(known, _)| known == name) {
                self.faults.push(format!("the field {shown} is there twice (remove one of the two)"));
            }
        }
    }

    /// The entry in messages: its number, and its name if that is valid.
    fn title(&self) -> String {
        let name = self.value("name").and_then(|value| name(value).ok());
        name.map_or_else(|| format!("entry {}", self.number), |name| format!("entry {} ({name})", self.number))
    }

    fn value(&self, name: &str) -> Option<&'e Value> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    fn required<T>(&mut self, name: &str, parse: impl FnOnce(&'e Value) -> Result<T, String>) -> Option<T> {
        if self.value(name).is_none() {
            self.faults.push(format!("it has no {name} (add the field {name})"));
        }
        self.optional(name, parse)
    }

    fn optional<T>(&mut self, name: &str, parse: impl FnOnce(&'e Value) -> Result<T, String>) -> Option<T> {
        match parse(self.value(name)?) {
            Ok(value) => Some(value),
            Err(reason) => {
                self.faults.push(format!("{name}: {reason}"));
                None
            }
        }
    }
}

fn name(value: &Value) -> Result<&str, String> {
    let is_letter_or_digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let fits = |name: &&str| {
        is_letter_or_digit(name.as_bytes().first())
            && name.len() <= MAX_NAME
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
    };
    let name = value.as_str().filter(fits).ok_or_else(|| {
        format!("it is not a name (write {MAX_NAME} characters at most: A-Z, a-z, 0-9, _, . and -, the first a letter or digit)")
    })?;
    if name == DEFAULT_ACCOUNT {
        return Err("the account of PROXY_PASSWORD has this name (write another name)".to_owned());
    }
    if name == OTHERS {
        return Err("the sum of forgotten accounts has this name (write another name)".to_owned());
    }
    Ok(name)
}

fn password(value: &Value) -> Result<&str, String> {
    let text = value.as_str().ok_or("it is not text (write it in quotes)")?;
    if text.is_empty() {
        return Err("it is empty (write a password)".to_owned());
    }
    if text.starts_with(SCHEME) {
        return Err(format!("it begins with \"{SCHEME}\", which a client may send before any password (remove that)"));
    }
    value::password(text).map(|_| text)
}

fn versions(value: &Value) -> Result<PerVersion<bool>, String> {
    const FORM: &str = r#"write such as ["v4"] or ["v3","v4"]"#;
    let list = value.as_array().ok_or_else(|| format!("it is not a list ({FORM})"))?;
    if list.is_empty() {
        return Err(format!("it is empty, so the account could not be used ({FORM}, or remove the field for both)"));
    }
    let list: Vec<Lavalink> = list
        .iter()
        .map(|item| item.as_str().and_then(|text| value::version(text).ok()))
        .collect::<Option<_>>()
        .ok_or_else(|| format!("it has an item that is not a version of Lavalink ({FORM})"))?;
    Ok(PerVersion::new(|version| list.contains(&version)))
}

fn limit(value: &Value) -> Result<u32, String> {
    match value.as_u64().map(u32::try_from) {
        Some(Ok(0)) => {
            Err("it is 0, so the account could not be used (write 1 or more, or set enabled to false)".to_owned())
        }
        Some(Ok(limit)) => Ok(limit),
        Some(Err(_)) => Err(format!("it is too large (the largest is {}; remove the field for no limit)", u32::MAX)),
        None => {
            Err("it is not a whole number (write 1 or more without quotes, or remove the field for no limit)"
                .to_owned())
        }
    }
}

fn expires(value: &Value) -> Result<SystemTime, String> {
    value.as_str().and_then(moment).ok_or_else(|| {
        "it is not a date or time of ISO 8601 (write such as 2027-01-31, 2027-01-31T18:00:00Z or 2027-01-31T18:00+02:00)"
            .to_owned()
    })
}

/// A date, or a date and a time. A date alone is its first moment, and UTC is the offset of a time that has none.
fn moment(text: &str) -> Option<SystemTime> {
    let pieces = Pieces::parse(text).ok().filter(|pieces| pieces.time_zone_annotation().is_none())?;
    let time = pieces.date().to_datetime(pieces.time().unwrap_or(Time::midnight()));
    let offset = pieces.to_numeric_offset().unwrap_or(Offset::UTC);
    // By way of jiff's timestamp, the end of the year 9999 would be out of range.
    let since_epoch = time.duration_since(datetime(1970, 1, 1, 0, 0, 0, 0)) - offset.duration_since(Offset::UTC);
    match since_epoch.is_negative() {
        true => SystemTime::UNIX_EPOCH.checked_sub(since_epoch.unsigned_abs()),
        false => SystemTime::UNIX_EPOCH.checked_add(since_epoch.unsigned_abs()),
    }
}

#[cfg(test)]
mod tests;
