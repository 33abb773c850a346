//! Why the program stops, in one line.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

/// Why the program stops.
#[derive(Debug)]
pub enum Failure {
    /// A setting or an argument is wrong. Exit code 2.
    Usage(String),
    /// It could not do what it was asked for. Exit code 1.
    Fatal(String),
}

impl Failure {
    /// What was tried, and what came in its way: the error with all of its causes.
    pub fn fatal(tried: impl fmt::Display, error: &(dyn Error + 'static)) -> Self {
        Self::Fatal(format!("{tried}: {}", chain(error)))
    }

    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) => ExitCode::from(2),
            Self::Fatal(_) => ExitCode::from(1),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Usage(text) | Self::Fatal(text)) = self;
        f.write_str(&text.replace('\n', " "))
    }
}

impl Error for Failure {}

/// An error with its causes, each said once.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        if texts.last().is_none_or(|last| !last.contains(&text)) {
            texts.push(text);
        }
        next = error.source();
    }
    texts.join(": ")
}
