//! What is wrong with the settings, and how it is written.

use std::fmt;

/// What is wrong with one setting, or with the env file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The setting's name, or the file's.
    pub name: String,
    /// The value, never a secret's.
    pub value: Option<String>,
    /// What is wrong, and in brackets how to correct it.
    pub reason: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(out, "{}={value}: {}", self.name, self.reason),
            None => write!(out, "{}: {}", self.name, self.reason),
        }
    }
}

/// Everything that is wrong with the settings, never empty. It displays as one line for each fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(pub(super) Vec<Fault>);

impl Faults {
    /// Each fault, in the order of the manual.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.0.iter()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            if index > 0 {
                out.write_str("\n")?;
            }
            fault.fmt(out)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}
