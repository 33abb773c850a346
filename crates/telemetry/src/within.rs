//! What a line of the log belongs to: a request, or a task beside the calls.
//!
//! Whoever runs a request or a task keeps its name where it runs, and is asked for it when a line
//! is written. A span would be entered at each step of the work, of which most write no line.

use std::fmt::{self, Write as _};

use opentelemetry::trace::TraceId;
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::Format;

/// What work belongs to that writes a line.
#[derive(Clone, Copy, Debug)]
pub enum Within<'a> {
    /// A task, by its name.
    Task(&'a str),
    /// A request, by its ids; the one that a caller may choose has neither spaces nor other
    /// characters that are not printed.
    Request { method: &'a str, request_id: &'a str, trace_id: TraceId },
}

/// Tells what the present work belongs to, from the outside in: nothing, a task, a request, or a
/// request that a task works on.
pub type Ask = fn(&mut dyn FnMut(Within<'_>));

/// Writes lines as `line` does, and at the end of each what it belongs to.
pub(crate) struct Belonging<F> {
    pub(crate) line: F,
    pub(crate) format: Format,
    pub(crate) ask: Ask,
}

impl<S, N, F> FormatEvent<S, N> for Belonging<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = String::new();
        self.line.format_event(context, Writer::new(&mut line), event)?;
        match self.format {
            Format::Text => {
                line.truncate(line.trim_end_matches('\n').len());
                (self.ask)(&mut |within| line.push_str(&text(within)));
            }
            Format::Json => {
                line.truncate(line.trim_end_matches('\n').trim_end_matches('}').len());
                let mut all = Vec::new();
                (self.ask)(&mut |within| all.push(json(within)));
                if let Some(last) = all.last() {
                    write!(line, ",\"span\":{last},\"spans\":[{}]", all.join(","))?;
                }
                line.push('}');
            }
        }
        writeln!(writer, "{line}")
    }
}

fn text(within: Within<'_>) -> String {
    match within {
        Within::Task(task) => format!(" task{{{task}}}"),
        Within::Request { method, request_id, trace_id } => {
            format!(" rpc{{method={method:?} request_id={request_id:?} trace_id={trace_id}}}")
        }
    }
}

/// What is printed of ASCII alone is quoted in JSON as it is in Rust.
fn json(within: Within<'_>) -> String {
    match within {
        Within::Task(task) => format!("{{\"task\":{task:?},\"name\":\"task\"}}"),
        Within::Request { method, request_id, trace_id } => format!(
            "{{\"method\":{method:?},\"request_id\":{request_id:?},\"trace_id\":\"{trace_id}\",\
             \"name\":\"rpc\"}}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, PoisonError};

    use tracing::subscriber::with_default;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(line);
            Ok(line.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn said(format: Format, ask: Ask) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = crate::layer(format, false, move || writer.clone(), ask);
        with_default(tracing_subscriber::registry().with(layer), || {
            tracing::info!(code = 5, list = "[{}]", "done");
        });
        String::from_utf8(lines.0.lock().expect("no panic").clone()).expect("text")
    }

    fn both(tell: &mut dyn FnMut(Within<'_>)) {
        tell(Within::Task("relay"));
        let trace_id = TraceId::from(10);
        tell(Within::Request { method: "/a.B/C", request_id: r#"x"\y"#, trace_id });
    }

    #[test]
    fn a_line_ends_with_what_it_belongs_to() {
        let line = said(Format::Text, both);
        let end = "done code=5 list=\"[{}]\" task{relay} \
                   rpc{method=\"/a.B/C\" request_id=\"x\\\"\\\\y\" \
                   trace_id=0000000000000000000000000000000a}\n";
        assert!(line.ends_with(end), "{line}");
        assert!(said(Format::Text, |_| {}).ends_with("done code=5 list=\"[{}]\"\n"));
    }

    #[test]
    fn a_json_line_has_a_list_of_what_it_belongs_to() {
        let line = said(Format::Json, both);
        let request = "{\"method\":\"/a.B/C\",\"request_id\":\"x\\\"\\\\y\",\
                       \"trace_id\":\"0000000000000000000000000000000a\",\"name\":\"rpc\"}";
        let task = "{\"task\":\"relay\",\"name\":\"task\"}";
        let end = format!(",\"span\":{request},\"spans\":[{task},{request}]}}\n");
        assert!(line.starts_with('{') && line.ends_with(&end), "{line}");
        let line = said(Format::Json, |_| {});
        assert!(line.ends_with("}\n") && !line.contains("span"), "{line}");
    }
}
