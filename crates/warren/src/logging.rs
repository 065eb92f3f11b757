//! Log lines on stderr, as text or JSON. stdout is left for data.

use std::io::IsTerminal;

use tracing::Level;
use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, ServerConfig};

/// Installs the subscriber for the whole process. The level was checked with the configuration; should it not parse
/// after all, `info` is used.
pub(crate) fn start(config: &ServerConfig) {
    let filter = EnvFilter::try_new(directives(&config.log_level)).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A line that cannot be written, as on a full disk, is lost: complaining about that on stderr would end the thread
    // that wrote it, the log writer first of all.
    let lines = lines.log_internal_errors(false);
    match config.log_format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => {
            lines.json().flatten_event(true).with_current_span(true).with_span_list(false).init()
        }
    }
}

/// A single level is Warren's own: libraries speak only when something is wrong, and openraft calls what happens at
/// every election a warning. A list says itself what it wants of whom.
fn directives(level: &str) -> String {
    match level.parse::<Level>() {
        Ok(Level::ERROR) => "error".to_owned(),
        Ok(own) => format!("warn,openraft=error,warren={own}"),
        Err(_) => level.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_level_is_for_our_own_targets_and_a_list_is_taken_as_it_is() {
        assert_eq!(directives("info"), "warn,openraft=error,warren=INFO");
        assert_eq!(directives("error"), "error");
        assert_eq!(directives("info,openraft=debug"), "info,openraft=debug");
        for level in ["error", "warn", "info", "debug", "trace"] {
            assert!(EnvFilter::try_new(directives(level)).is_ok(), "{level}");
        }
    }
}
