//! The file `state.json` in STATE_DIR. It is replaced as a whole: a temporary file is written, brought to the disk and
//! renamed, so that the file is never half written. A file that cannot be read is renamed and never overwritten.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use log::{error, info, warn};

use super::{MAX_SIZE, ParseError, State};
use crate::logfmt::Quoted;
use crate::unix_time::unix_millis;

/// The file's name.
pub const NAME: &str = "state.json";
const TEMPORARY: &str = "state.json.new";
/// The name of a file that could not be read begins with this; the time follows.
const UNREADABLE: &str = "state.json.unreadable-";
/// The file is the business of lavaproxy's user alone.
const MODE: u32 = 0o600;

/// Where the state is kept.
pub struct StateFile {
    folder: PathBuf,
    path: PathBuf,
    temporary: PathBuf,
    /// True while a file that could not be read is in its place.
    is_blocked: bool,
}

/// Why the file could not be read.
#[derive(Debug)]
pub enum ReadError {
    /// The system's reason.
    Io(io::Error),
    /// It is a folder, a device or the like.
    NoFile,
    /// It is larger than any state.
    TooLarge,
    /// Its text is no state.
    Parse(ParseError),
}

impl fmt::Display for ReadError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(out),
            Self::NoFile => out.write_str("it is not a regular file"),
            Self::TooLarge => write!(out, "it is larger than {} MiB", MAX_SIZE >> 20),
            Self::Parse(error) => error.fmt(out),
        }
    }
}

impl std::error::Error for ReadError {}

impl StateFile {
    /// The file in this folder. Nothing is read yet.
    pub fn new(folder: &Path) -> Self {
        let (path, temporary) = (folder.join(NAME), folder.join(TEMPORARY));
        Self { folder: folder.to_owned(), path, temporary, is_blocked: false }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The state that it holds. `None` when there is no file, or when it cannot be read and was set aside.
    pub fn read(&mut self) -> Option<State> {
        let state = self.check()?;
        let (file, age) = (Quoted(self.path.display()), unix_millis().saturating_sub(state.saved_at) / 1000);
        info!("event=state-read file={file} age={age}s");
        if state.history.is_none() {
            self.keep_copy();
        }
        Some(state)
    }

    /// The damaged history is lost with the next save.
    fn keep_copy(&self) {
        let aside = self.aside();
        let (file, to) = (Quoted(self.path.display()), Quoted(aside.display()));
        match fs::copy(&self.path, &aside) {
            Ok(_) => warn!("event=state-copied file={file} to={to} hint=\"the damaged history is kept there\""),
            Err(error) => {
                warn!("event=state-not-copied file={file} to={to} error={} hint=\"{}\"", Quoted(&error), hint(&error));
            }
        }
    }

    /// A name that no file has.
    fn aside(&self) -> PathBuf {
        self.folder.join(format!("{UNREADABLE}{}", unix_millis()))
    }

    /// The same for a successor, which has its state from its predecessor.
    pub fn check(&mut self) -> Option<State> {
        self.try_read().unwrap_or_else(|reason| {
            self.is_blocked = true;
            if let Err(error) = self.set_aside(&reason) {
                let (file, reason, error) = (Quoted(self.path.display()), Quoted(reason), Quoted(error));
                let hint = "correct the rights and restart, or move this file away; no state is saved until then";
                error!("event=state-unreadable file={file} reason={reason} error={error} hint=\"{hint}\"");
            }
            None
        })
    }

    fn try_read(&self) -> Result<Option<State>, ReadError> {
        let about = match fs::metadata(&self.path) {
            Ok(about) => about,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(ReadError::Io(error)),
        };
        // To open a pipe would block.
        if !about.is_file() {
            return Err(ReadError::NoFile);
        }
        let mut text = Vec::new();
        let file = File::open(&self.path).map_err(ReadError::Io)?;
        file.take(MAX_SIZE + 1).read_to_end(&mut text).map_err(ReadError::Io)?;
        if text.len() as u64 > MAX_SIZE {
            return Err(ReadError::TooLarge);
        }
        State::parse(&text).map(Some).map_err(ReadError::Parse)
    }

    /// Gives the file that could not be read another name, so that it is not overwritten.
    fn set_aside(&mut self, reason: &dyn fmt::Display) -> io::Result<()> {
        let aside = self.aside();
        match fs::rename(&self.path, &aside) {
            // It was moved by hand.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
            Ok(()) => {
                let (file, to, reason) = (Quoted(self.path.display()), Quoted(aside.display()), Quoted(reason));
                let hint = "the figures begin again; the file is kept";
                error!("event=state-set-aside file={file} to={to} reason={reason} hint=\"{hint}\"");
            }
        }
        self.is_blocked = false;
        Ok(())
    }

    /// Replaces the file by one with this text.
    ///
    /// # Errors
    /// When the folder or the disk does not take it. The file is as it was before then, unless only the last step
    /// failed.
    pub fn write(&mut self, json: &[u8]) -> io::Result<()> {
        if self.is_blocked {
            self.set_aside(&"it could not be read at the start")?;
        }
        let written = self.write_temporary(json).and_then(|()| fs::rename(&self.temporary, &self.path));
        if written.is_err() {
            // A part of the file must not fill the disk. It fails where the folder is read-only.
            let _ = fs::remove_file(&self.temporary);
        }
        written.and_then(|()| sync_folder(&self.folder))
    }

    fn write_temporary(&self, json: &[u8]) -> io::Result<()> {
        // Left by a process that was killed. It may have other rights, or be a link.
        match fs::remove_file(&self.temporary) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&self.temporary)?;
        file.write_all(json)?;
        file.sync_all()
    }
}

/// Brings a rename in this folder to the disk.
fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
        // Some file systems have no such call for folders.
        Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(()),
        synced => synced,
    }
}

/// What the operator can do about a failed write.
pub fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "free some space",
        ErrorKind::ReadOnlyFilesystem => "make the disk writable, or set STATE_DIR to another folder",
        ErrorKind::PermissionDenied => "let the user of lavaproxy write to STATE_DIR",
        ErrorKind::NotFound | ErrorKind::NotADirectory => "set STATE_DIR to a folder that exists",
        _ => "look at the disk of STATE_DIR",
    }
}
