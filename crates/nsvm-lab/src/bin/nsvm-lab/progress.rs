//! Progress of several subjects on stderr.

use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};
use nsvm_lab::driver::Progress;
use std::fmt::Write;
use std::time::Duration;

/// A progress bar for each subject. Without a terminal, or if it cannot be redrawn, one line per subject when it ends.
pub(crate) struct ProgressBars {
    bars: Vec<ProgressBar>,
}

impl ProgressBars {
    pub(crate) fn new(labels: Vec<String>) -> Self {
        let all = MultiProgress::new();
        let bar = |label: String| {
            let bar = all.add(ProgressBar::no_length().with_prefix(label));
            bar.set_style(style("{prefix}: waiting"));
            bar.tick();
            bar
        };
        Self { bars: labels.into_iter().map(bar).collect() }
    }

    pub(crate) fn update(&self, number: usize, Progress { done, all, broken }: Progress) {
        let Some(bar) = self.bars.get(number) else { return };
        if bar.length().is_none() {
            bar.reset_elapsed();
            bar.set_length(all as u64);
            bar.set_style(style("{prefix}: {pos} of {len} cases{msg}, {seconds} s"));
            bar.enable_steady_tick(Duration::from_secs(1));
        }
        if broken > 0 {
            bar.set_message(format!(", {broken} broke it"));
        }
        bar.set_position(done as u64);
        if done >= all && !bar.is_finished() {
            bar.finish();
            if bar.is_hidden() {
                let (label, broken, seconds) = (bar.prefix(), bar.message(), bar.elapsed().as_secs());
                eprintln!("{label}: {done} of {all} cases{broken}, {seconds} s");
            }
        }
    }

    /// Stops the bars of subjects that did not finish. They stay on the terminal.
    pub(crate) fn end(&self) {
        self.bars.iter().filter(|bar| !bar.is_finished()).for_each(ProgressBar::abandon);
    }
}

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).expect("the template is valid");
    let seconds = |state: &ProgressState, out: &mut dyn Write| {
        let _ = write!(out, "{}", state.elapsed().as_secs());
    };
    style.with_key("seconds", seconds)
}
