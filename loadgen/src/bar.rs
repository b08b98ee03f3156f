//! A progress bar for a run.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

use crate::{Phase, Progress};

/// A bar for people; nothing when standard error goes to a file.
pub struct Bar(Option<ProgressBar>);

impl Bar {
    /// A bar on standard error.
    pub fn new() -> Self {
        if !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let bar = ProgressBar::new(1000);
        if let Ok(style) = ProgressStyle::with_template("{prefix:>10} [{bar:40}] {msg}") {
            bar.set_style(style.progress_chars("=> "));
        }
        Self(Some(bar))
    }

    /// Shows how far the run is.
    pub fn show(&self, progress: &Progress) {
        let Some(bar) = &self.0 else { return };
        bar.set_prefix(match progress.phase {
            Phase::Connect => "connecting",
            Phase::Preload => "preloading",
            Phase::WarmUp => "warming up",
            Phase::Measure => "measuring",
            Phase::Drain => "ending",
        });
        bar.set_position((progress.done * 1000.0) as u64);
        bar.set_message(format!(
            "{} replies, {} errors",
            progress.replies, progress.errors
        ));
    }

    /// Takes the bar away.
    pub fn clear(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

impl Default for Bar {
    fn default() -> Self {
        Self::new()
    }
}
