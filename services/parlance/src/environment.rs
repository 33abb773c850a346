//! Settings in the environment: what is empty says nothing, and a line end behind a value, as
//! files and templates leave it, does not belong to it.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use clap::{Args as _, Command};

use crate::settings::Settings;

/// What the names of all settings begin with.
const OURS: &str = "PARLANCE_";

/// The command line `command`, which takes settings from the environment as they are meant.
pub(crate) fn cleaned(command: Command) -> Command {
    let arguments = command.mut_args(|argument| {
        let Some(value) = argument.get_env().and_then(std::env::var_os) else { return argument };
        match trimmed(value.clone()) {
            meant if meant == value && !meant.is_empty() => argument,
            meant if meant.is_empty() => argument.env(None::<&str>),
            meant => argument.env(None::<&str>).default_value(meant).hide_default_value(true),
        }
    });
    arguments.mut_subcommands(cleaned)
}

/// A value without the line ends behind it.
pub(crate) fn trimmed(value: OsString) -> OsString {
    let mut bytes = value.into_vec();
    while bytes.last().is_some_and(|last| matches!(last, b'\n' | b'\r')) {
        bytes.pop();
    }
    OsString::from_vec(bytes)
}

/// The variables of the environment that look like settings and are none: misspelt, most
/// likely. Those that Kubernetes sets for a service whose name begins so are left out.
pub(crate) fn unknown() -> Vec<String> {
    let known = known();
    let ours = std::env::vars_os().map(|(name, _)| name);
    let ours = ours.filter(|name| name.as_bytes().starts_with(OURS.as_bytes()));
    let ours = ours.map(|name| name.to_string_lossy().into_owned());
    ours.filter(|name| !known.contains(name) && !is_of_kubernetes(name)).collect()
}

/// `X_SERVICE_HOST`, `X_SERVICE_PORT`, `X_SERVICE_PORT_NAME`, `X_PORT`, `X_PORT_7070_TCP_ADDR`.
fn is_of_kubernetes(name: &str) -> bool {
    let of_port = |(_, rest): (&str, &str)| rest.starts_with(|first: char| first.is_ascii_digit());
    ["_SERVICE_HOST", "_SERVICE_PORT", "_PORT"].iter().any(|end| name.ends_with(end))
        || name.contains("_SERVICE_PORT_")
        || name.split_once("_PORT_").is_some_and(of_port)
}

fn known() -> Vec<String> {
    let settings = Settings::augment_args(Command::new("settings"));
    let names = settings.get_arguments().filter_map(clap::Arg::get_env);
    names.map(|name| name.to_string_lossy().into_owned()).collect()
}

/// What the environment says of how S3 is reached, as its other clients are told.
pub(crate) fn of_aws() -> Vec<(String, String)> {
    let named = std::env::vars_os().filter(|(name, _)| name.as_bytes().starts_with(b"AWS_"));
    let texts = named.map(|(name, value)| (name.into_string(), trimmed(value).into_string()));
    texts.filter_map(|(name, value)| Some((name.ok()?, value.ok()?))).collect()
}

/// Where a setting comes from: `--drain or PARLANCE_DRAIN`.
pub(crate) fn sources(setting: &str) -> String {
    format!("--{setting} or {}", variable(setting))
}

/// The variable of a setting, if there is such a setting.
pub(crate) fn variable_of(flag: &str) -> Option<String> {
    let variable = variable(flag);
    known().contains(&variable).then_some(variable)
}

fn variable(setting: &str) -> String {
    format!("{OURS}{}", setting.to_uppercase().replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_line_ends_behind_a_value_are_cut_off() {
        for (value, meant) in [("a\n", "a"), ("a\r\n", "a"), ("a b \n\n", "a b "), ("\na", "\na")] {
            assert_eq!(trimmed(value.into()), OsString::from(meant));
        }
        assert!(trimmed("\n".into()).is_empty());
    }

    #[test]
    fn a_misspelt_setting_is_not_taken_for_a_variable_of_kubernetes() {
        for name in ["HOST", "PORT", "PORT_GRPC"] {
            assert!(is_of_kubernetes(&format!("PARLANCE_ROOM_SERVICE_{name}")));
        }
        assert!(
            is_of_kubernetes("PARLANCE_PORT") && is_of_kubernetes("PARLANCE_PORT_7070_TCP_ADDR")
        );
        assert!(!is_of_kubernetes("PARLANCE_SERVICE_RATTE"));
        assert!(!is_of_kubernetes("PARLANCE_PORT_RULE"));
    }

    #[test]
    fn every_setting_has_the_variable_that_its_flag_says() {
        let settings = Settings::augment_args(Command::new("settings"));
        for argument in settings.get_arguments() {
            let flag = argument.get_long().expect("a flag");
            let env = argument.get_env().expect("a variable").to_string_lossy();
            assert_eq!(variable_of(flag).as_deref(), Some(&*env));
        }
        assert_eq!(variable_of("user"), None);
    }
}
