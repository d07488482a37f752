//! Every setting: its name, default, unit and parser.
//!
//! It reads the process environment, one env file and the accounts file, and changes none. Only [`check_names()`], for
//! `--check`, resolves names and opens sockets. All faults of all settings and of the files are reported together.

mod accounts;
mod check;
mod check_names;
mod describe;
mod fault;
mod file;
mod lavalink;
mod limits;
mod names;
mod networks;
mod nodes;
mod reader;
mod secret;
mod settings;
mod value;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

pub use accounts::{Account, DEFAULT_ACCOUNT};
pub use check_names::check_names;
pub use fault::{Fault, Faults};
pub use lavalink::{Lavalink, PerVersion};
pub use limits::{LimitSettings, PerAddress, Rate, ban_duration};
pub use names::{SETTINGS, Setting};
pub use networks::{LOOPBACK, Networks, network, network_text};
pub use nodes::Node;
pub use secret::Secret;
pub use settings::{Listen, Settings, TakeoverSettings, Timeouts};

/// What [`load`] or [`reload`] found.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// The env file that was read, if there was one.
    pub file: Option<PathBuf>,
    /// What is probably a mistake but makes no setting wrong, such as a misspelt name.
    pub warnings: Vec<String>,
    /// Settings that have changed and take effect only after a restart.
    pub need_restart: Vec<&'static str>,
}

const DEFAULT_FILES: [&str; 2] = ["lavaproxy.env", ".env"];

/// The settings from the process environment, which wins, and from `env_file`, else `./lavaproxy.env`, else `./.env`.
///
/// # Errors
/// All faults at once: of the settings, and of the env file and the accounts file when they cannot be read or parsed. It
/// is no fault when neither of the two default files exists.
pub fn load(env_file: Option<&Path>) -> Result<Loaded, Faults> {
    load_from(|name| std::env::var_os(name), env_file, &DEFAULT_FILES.map(Path::new), None)
}

/// The same as [`load`] for a command that serves no client: `ACCOUNTS_FILE` counts as unset, so that a file that is
/// just being changed does no harm.
///
/// # Errors
/// As there, without the faults of the accounts file.
pub fn load_without_accounts(env_file: Option<&Path>) -> Result<Loaded, Faults> {
    let environment = |name: &str| match name == names::ACCOUNTS_FILE.name {
        true => Some(OsString::new()),
        false => std::env::var_os(name),
    };
    load_from(environment, env_file, &DEFAULT_FILES.map(Path::new), None)
}

/// The same as [`load`] for a running process: the listeners keep the addresses that `present` has, and the file that was
/// `read` last must still be there. Without it every setting would have its default, the password too.
///
/// # Errors
/// All faults at once, including those that the new settings have only together with the present listeners.
pub fn reload(env_file: Option<&Path>, read: Option<&Path>, present: &Settings) -> Result<Loaded, Faults> {
    let wanted = env_file.or(read.filter(|file| !file.exists()));
    load_from(|name| std::env::var_os(name), wanted, &DEFAULT_FILES.map(Path::new), Some(present))
}

fn load_from(
    environment: impl Fn(&str) -> Option<OsString>,
    env_file: Option<&Path>,
    default_files: &[&Path],
    present: Option<&Settings>,
) -> Result<Loaded, Faults> {
    let file = file::find(env_file, default_files).map_err(|fault| Faults(vec![fault]))?;
    let lookup =
        |name: &str| environment(name).or_else(|| file.values.get(name).map(|value| OsString::from(value.as_str())));
    let mut warnings = [&*file.warnings, &file.useless_passwords(&nodes::password_names(lookup))].concat();
    let (accounts, of_accounts) = match accounts::load(lookup) {
        Ok(found) => {
            warnings.extend(found.warnings);
            (found.accounts, Vec::new())
        }
        Err(faults) => (Vec::new(), faults),
    };
    let outcome = Settings::from_lookup(lookup).and_then(|settings| match present {
        None => Ok((settings, Vec::new())),
        Some(present) => settings.with_fixed_of(present, lookup),
    });
    match outcome {
        Ok((settings, need_restart)) if file.faults.is_empty() && of_accounts.is_empty() => {
            let settings = Settings { accounts, ..settings };
            let warnings = warnings.iter().map(Fault::to_string).collect();
            Ok(Loaded { settings, file: file.path, warnings, need_restart })
        }
        // A misspelt name is often the cause of the other faults.
        outcome => {
            let of_settings = outcome.err().map_or_else(Vec::new, |faults| faults.0);
            Err(Faults([file.faults, of_settings, of_accounts, warnings].concat()))
        }
    }
}
