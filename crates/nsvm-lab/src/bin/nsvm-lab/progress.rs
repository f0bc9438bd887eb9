//! Progress of several subjects on stderr.

use nsvm_lab::driver::Progress;
use std::io::IsTerminal as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// A line of progress for each subject: redrawn on a terminal, else one when it ends.
pub(crate) struct ProgressBars {
    state: Mutex<State>,
    terminal: bool,
}

struct State {
    labels: Vec<String>,
    last: Vec<Option<Bar>>,
    drawn: usize,
    when: Instant,
}

/// How far a subject is, since when, and when it was told.
#[derive(Clone, Copy)]
struct Bar {
    progress: Progress,
    began: Instant,
    told: Instant,
}

impl ProgressBars {
    pub(crate) fn new(labels: Vec<String>) -> Self {
        let now = Instant::now();
        let last = vec![None; labels.len()];
        // Lines are redrawn where the cursor can be moved.
        let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        let terminal = std::io::stderr().is_terminal() && !dumb;
        let state = Mutex::new(State { labels, last, drawn: 0, when: now });
        Self { state, terminal }
    }

    fn line(label: &str, bar: Option<Bar>) -> String {
        let Some(Bar { progress: Progress { done, all, broken }, began, told }) = bar else {
            return format!("{label}: waiting");
        };
        let until = if done >= all { told } else { Instant::now() };
        let seconds = until.duration_since(began).as_secs();
        let broken = if broken > 0 { format!(", {broken} broke it") } else { String::new() };
        format!("{label}: {done} of {all} cases{broken}, {seconds} s")
    }

    pub(crate) fn update(&self, number: usize, progress: Progress) {
        let Ok(mut state) = self.state.lock() else { return };
        let State { labels, last, when, .. } = &mut *state;
        let (Some(label), Some(place)) = (labels.get(number), last.get_mut(number)) else { return };
        let told = Instant::now();
        let began = place.map_or(told, |bar| bar.began);
        *place = Some(Bar { progress, began, told });
        let finished = progress.done >= progress.all;
        if !self.terminal {
            if finished {
                eprintln!("{}", Self::line(label, *place));
            }
        } else if finished || when.elapsed() > Duration::from_millis(100) {
            Self::draw(&mut state);
        }
    }

    fn draw(state: &mut State) {
        // A line wider than the terminal must be cut: one that goes on in the next would spoil what is redrawn.
        let mut text = "\x1b[?7l".to_owned();
        if state.drawn > 0 {
            text.push_str(&format!("\x1b[{}A", state.drawn));
        }
        for (label, bar) in state.labels.iter().zip(&state.last) {
            text.push_str("\r\x1b[K");
            text.push_str(&Self::line(label, *bar));
            text.push('\n');
        }
        text.push_str("\x1b[?7h");
        state.drawn = state.labels.len();
        state.when = Instant::now();
        eprint!("{text}");
    }

    pub(crate) fn end(&self) {
        if self.terminal
            && let Ok(mut state) = self.state.lock()
        {
            Self::draw(&mut state);
        }
    }
}
