//! Dumps of VMCBs among the lines of a log, handed to the readers of `vmcb-dump`.

use crate::judge::Judge;
use crate::report::{Report, Standing};
use vmcb::layout::vmcb_field;
use vmcb::{Decision, ExitCode, Phase};
use vmcb_dump::{Place, read_all};

/// Lines of one dump stand no further apart.
const MOST_BETWEEN: u64 = 1000;
/// Bytes of lines that are read together; more than any dump has.
const MOST_BYTES: usize = 1 << 18;

#[derive(Debug)]
pub(crate) struct Dumps {
    judge: Judge,
    text: Vec<u8>,
    /// The number in the input of each line of `text`.
    numbers: Vec<u64>,
}

impl Dumps {
    pub(crate) fn new(judge: Judge) -> Self {
        Self { judge, text: Vec::new(), numbers: Vec::new() }
    }

    /// A line that may belong to a dump.
    pub(crate) fn take(&mut self, number: u64, line: &[u8], report: &mut Report) {
        let far = self.numbers.last().is_some_and(|last| number - last > MOST_BETWEEN);
        if far || self.text.len() + line.len() >= MOST_BYTES {
            self.flush(report);
        }
        self.text.extend_from_slice(line);
        self.text.push(b'\n');
        self.numbers.push(number);
    }

    pub(crate) fn flush(&mut self, report: &mut Report) {
        // An error says that there is no dump in these lines, which is no news.
        let (found, _) = if self.text.is_empty() { Default::default() } else { read_all(&self.text) };
        for found in found {
            let line = match found.place {
                Place::Text { line, .. } => line,
                Place::Byte { .. } => continue,
            };
            let index = usize::try_from(line).unwrap_or(usize::MAX).saturating_sub(1);
            let number = self.numbers.get(index).copied().unwrap_or(0);
            let text = found.lines.first().map_or(&b""[..], |line| line.text.as_bytes());
            let (decision, broken) = self.judge.dump(&found);
            report.dumps += 1;
            report.broken(broken, number, text);
            let code = found.vmcb.read(vmcb_field::exitcode.offset, 4);
            let known = found.phase == Phase::After && code.known_mask() & 0xFFFF_FFFF == 0xFFFF_FFFF;
            let failed = known && ExitCode::from_low_half(code.value() as u32).is_failure();
            for refusal in &found.refusals {
                report.condition(&refusal.condition, refusal.rules, number, text);
            }
            if failed && broken.refusing.is_empty() {
                report.finding(Standing::Exit, None, number, text);
            }
            if decision == Decision::Undecided && (failed || !known) {
                report.undecided += 1;
            }
        }
        self.text.clear();
        self.numbers.clear();
    }
}
