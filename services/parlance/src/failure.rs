//! Why the program stops, in one line.

use std::error::Error;
use std::fmt;
use std::io::Write as _;
use std::process::ExitCode;

use crate::environment::sources;

/// Why the program stops.
#[derive(Debug)]
pub enum Failure {
    /// A setting or an argument is wrong. Exit code 2.
    Usage(String),
    /// It could not do what it was asked for. Exit code 1.
    Fatal(String),
}

impl Failure {
    /// A setting that is not what it must be.
    pub fn setting(name: &str, rule: &str) -> Self {
        Self::Usage(format!("{name} {rule} ({})", sources(name)))
    }

    /// A setting that says what cannot be used.
    pub fn unusable(name: &str, error: &(dyn Error + 'static)) -> Self {
        Self::setting(name, &format!("cannot be used: {}", chain(error)))
    }

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

/// How a program ends: with a line if it failed.
pub(crate) fn exit(program: &str, done: Result<(), Failure>) -> ExitCode {
    match done {
        Ok(()) => {
            parlance_telemetry::flush();
            ExitCode::SUCCESS
        }
        Err(failure) => {
            parlance_telemetry::last_line(&format!("{program}: {failure}"));
            failure.exit_code()
        }
    }
}

/// Prints what a command was asked for.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    writeln!(std::io::stdout(), "{text}").map_err(|error| Failure::fatal("cannot print", &error))
}

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
