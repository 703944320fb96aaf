//! Log lines on standard error, for people or as JSON.
//!
//! May not know what is logged. Invariant: an event is one line, no character of it can move a
//! cursor, change a colour or turn the direction of the text around it, and nobody speaks here who
//! tells messages whole.

use std::fmt::Write as _;
use std::io::{self, Write};

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;

/// What a line looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Why nothing can be logged.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter is not one.
    #[error("{filter:?} is not a log filter: {why}")]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        why: String,
    },
    /// Somebody in this process logs already.
    #[error("logging has begun already")]
    Begun,
}

/// Begins to log to standard error what `filter` lets through, such as `dormouse=debug`.
pub fn init(format: Format, filter: &str) -> Result<(), Error> {
    let subscriber = subscriber(format, filter, io::stderr)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| Error::Begun)
}

/// The same for any writer.
pub fn subscriber<W>(
    format: Format,
    filter: &str,
    writer: W,
) -> Result<Box<dyn Subscriber + Send + Sync>, Error>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let parsed = EnvFilter::builder().parse(filter);
    let filter = parsed.map_err(|e| Error::Filter { filter: filter.into(), why: e.to_string() })?;
    let plain = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false);
    let lines = plain.with_writer(Harmless(writer));
    let discreet = filter_fn(|about| !about.target().starts_with(INDISCREET));
    Ok(match format {
        Format::Text => Box::new(lines.finish().with(discreet)),
        Format::Json => Box::new(lines.json().flatten_event(true).finish().with(discreet)),
    })
}

/// Logs whole messages of servers of tools, before a secret in them is hidden.
const INDISCREET: &str = "rmcp";

/// Writes lines in which nothing acts on a terminal.
struct Harmless<W>(W);

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for Harmless<W> {
    type Writer = HarmlessLine<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        HarmlessLine(self.0.make_writer())
    }
}

/// Gets one event at a time.
struct HarmlessLine<W>(W);

impl<W: Write> Write for HarmlessLine<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let line = text.strip_suffix('\n').unwrap_or(&text);
        let mut out = String::with_capacity(line.len() + 1);
        for c in line.chars() {
            if acts(c) {
                // Valid inside JSON strings too, and outside of them nothing acts.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            } else {
                out.push(c);
            }
        }
        out.push('\n');
        self.0.write_all(out.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Whether a character does something else than being seen. All of them have four hex digits.
fn acts(c: char) -> bool {
    let direction = matches!(
        c,
        '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    c.is_control() || direction || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const EVIL: &str = "a\nINFO fake\r\u{1b}[31mred\u{202e}\u{85}\"\\";

    fn logged(format: Format) -> String {
        let page = Page::default();
        let writer = page.clone();
        let subscriber = subscriber(format, "info", move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(run = %EVIL, effect = EVIL, "message {EVIL}");
            tracing::debug!("not this");
        });
        let bytes = page.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn l2_nothing_in_a_line_acts_on_a_terminal() {
        for format in [Format::Text, Format::Json] {
            let text = logged(format);
            assert_eq!(text.matches('\n').count(), 1, "{text}");
            assert!(
                text.ends_with('\n') && !text.trim_end_matches('\n').chars().any(acts),
                "{text}"
            );
            assert!(text.contains("red"));
        }
    }

    #[test]
    fn a_json_line_gives_back_what_was_said() {
        let value: serde_json::Value = serde_json::from_str(&logged(Format::Json)).unwrap();
        assert_eq!(value["run"], EVIL);
        assert_eq!(value["effect"], EVIL);
        assert_eq!(value["level"], "INFO");
    }

    #[test]
    fn a_filter_that_is_none_is_refused() {
        assert!(matches!(init(Format::Text, "a=b=c"), Err(Error::Filter { .. })));
    }
}
