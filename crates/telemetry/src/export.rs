//! Who is told of traces and metrics, by the standard variables of the environment.

use std::ffi::OsString;

/// What a collector is sent, over OTLP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Export {
    pub(crate) traces: bool,
    pub(crate) metrics: bool,
}

/// A variable that says what cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable} must be {rule}, not {value}")]
pub struct WrongVariable {
    variable: String,
    rule: &'static str,
    value: String,
}

const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
const SHARE: &str = "OTEL_TRACES_SAMPLER_ARG";
const SAMPLERS: [&str; 6] = [
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
];

impl Export {
    /// As the environment has it. What the library would pass over in silence is an error here:
    /// a misspelt sampler would send every trace.
    pub(crate) fn of(
        environment: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, WrongVariable> {
        let said = |name: &str| {
            let value = environment(name)?.to_string_lossy().trim().to_owned();
            (!value.is_empty()).then_some(value)
        };
        if said("OTEL_SDK_DISABLED").is_some_and(|it| it.eq_ignore_ascii_case("true")) {
            return Ok(Self::default());
        }
        let signal = |signal: &str| {
            let named = |what: &str| format!("OTEL_EXPORTER_OTLP_{signal}_{what}");
            let exporter = format!("OTEL_{signal}_EXPORTER");
            let is_on = match said(&exporter).as_deref() {
                Some("otlp") => true,
                Some("none") => false,
                Some(other) => return Err(wrong(&exporter, "otlp or none", other)),
                None => {
                    let everywhere = said("OTEL_EXPORTER_OTLP_ENDPOINT");
                    everywhere.or_else(|| said(&named("ENDPOINT"))).is_some()
                }
            };
            let protocols = [named("PROTOCOL"), "OTEL_EXPORTER_OTLP_PROTOCOL".to_owned()];
            for variable in protocols.iter().filter(|_| is_on) {
                match said(variable).as_deref() {
                    None | Some("grpc") => {}
                    Some(other) => return Err(wrong(variable, "grpc", other)),
                }
            }
            Ok(is_on)
        };
        let export = Self { traces: signal("TRACES")?, metrics: signal("METRICS")? };
        if export.traces {
            check_sampler(said(SAMPLER), said(SHARE))?;
        }
        Ok(export)
    }
}

fn check_sampler(sampler: Option<String>, share: Option<String>) -> Result<(), WrongVariable> {
    let Some(sampler) = sampler else { return Ok(()) };
    if !SAMPLERS.contains(&sampler.as_str()) {
        let rule = "always_on, always_off or traceidratio, alone or after parentbased_";
        return Err(wrong(SAMPLER, rule, &sampler));
    }
    let Some(share) = share.filter(|_| sampler.ends_with("ratio")) else { return Ok(()) };
    match share.parse::<f64>() {
        Ok(part) if (0.0..=1.0).contains(&part) => Ok(()),
        _ => Err(wrong(SHARE, "a number from 0 to 1", &share)),
    }
}

fn wrong(variable: &str, rule: &'static str, value: &str) -> WrongVariable {
    WrongVariable { variable: variable.to_owned(), rule, value: value.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(said: &[(&str, &str)]) -> Result<Export, String> {
        let found = |name: &str| said.iter().find(|(it, _)| *it == name).map(|(_, it)| it.into());
        Export::of(found).map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_is_sent_unless_somebody_says_where_or_what() {
        let (none, both) = (Export::default(), Export { traces: true, metrics: true });
        assert_eq!(of(&[]), Ok(none));
        assert_eq!(of(&[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")]), Ok(none));
        let everywhere = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://here:4317");
        assert_eq!(of(&[everywhere]), Ok(both));
        assert_eq!(of(&[everywhere, ("OTEL_SDK_DISABLED", "true")]), Ok(none));
        let traces = Export { traces: true, metrics: false };
        assert_eq!(of(&[everywhere, ("OTEL_METRICS_EXPORTER", "none")]), Ok(traces));
        assert_eq!(of(&[("OTEL_TRACES_EXPORTER", "otlp")]), Ok(traces));
        assert_eq!(of(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://here:4317")]), Ok(traces));
    }

    #[test]
    fn what_the_library_would_pass_over_is_named() {
        let traces = ("OTEL_TRACES_EXPORTER", "otlp");
        for (said, error) in [
            (
                &[("OTEL_TRACES_EXPORTER", "zipkin")][..],
                "OTEL_TRACES_EXPORTER must be otlp or none",
            ),
            (&[traces, ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")], "PROTOCOL must be grpc"),
            (&[traces, (SAMPLER, "sometimes")], "OTEL_TRACES_SAMPLER must be always_on"),
            (&[traces, (SAMPLER, "traceidratio"), (SHARE, "1%")], "a number from 0 to 1, not 1%"),
        ] {
            let said = of(said).expect_err("wrong");
            assert!(said.contains(error), "{said}");
        }
        assert!(of(&[traces, (SAMPLER, "parentbased_traceidratio"), (SHARE, "0.01")]).is_ok());
        assert!(of(&[traces, (SAMPLER, "parentbased_always_on"), (SHARE, "unused")]).is_ok());
    }
}
