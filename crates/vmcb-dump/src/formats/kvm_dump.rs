//! What KVM's `dump_vmcb` writes to the kernel log, in the layouts of all kernels.
//!
//! A log is hostile ground: other messages stand between the lines, mail programs break them, the user
//! cuts them. So lines are recognised by their labels and never by their position, and a field whose
//! value cannot be trusted is left unknown.

mod dump;
mod header;
mod labels;
mod merge;
mod printed;
mod scan;

use self::dump::{Dump, Others};
use self::header::Header;
use self::labels::{Index, LABELS};
use self::printed::{first_number, is_as_printed, is_unknown_field, may_show};
use crate::format::{Format, Out, Taken};
use crate::text::{Text, begins_with_cut, caller, is_row};

/// Lines of other matters after which a dump counts as ended.
const MAX_IDLE: u64 = 1000;
/// Dumps of different callers that are under way at once; the oldest counts as ended before another begins.
const MAX_OPEN: usize = 8;
/// Lines of other matters after which two dumps do not print at the same time.
const NEAR: u64 = 16;

pub(crate) struct KvmDump {
    index: Index,
    /// One for each caller that the log names, in the order in which they began.
    open: Vec<Dump>,
}

impl KvmDump {
    pub(crate) fn new() -> Self {
        Self { index: Index::new(), open: Vec::new() }
    }

    /// The dump that a line may belong to.
    fn place_of(&self, line: &Text<'_>, caller: &[u8]) -> Option<usize> {
        let of = |caller: &[u8]| self.open.iter().position(|dump| dump.caller == caller);
        if !caller.is_empty() {
            return of(caller);
        }
        // The rest of a line that a mail program broke has no columns before it.
        let next = |dump: &Dump| line.is_rest() && line.number == dump.rest_line;
        self.open.iter().position(next).or_else(|| of(caller))
    }

    /// Whether a line may be of a dump whose caller the log names or of one whose caller it does not.
    fn is_of_either(&self, at: Option<usize>, caller: &[u8]) -> bool {
        let named = at.and_then(|at| self.open.get(at)).is_some_and(|dump| !dump.caller.is_empty());
        caller.is_empty() && named && self.open.iter().any(|dump| dump.caller.is_empty())
    }

    /// Begins a dump and says where it is; that of the same caller has ended.
    fn begin(&mut self, line: &Text<'_>, caller: &[u8], out: &mut Out) -> usize {
        let mut others = Others::default();
        if let Some(at) = self.open.iter().position(|dump| dump.caller == caller) {
            let dump = self.open.remove(at);
            if dump.idle <= NEAR {
                let end = if dump.others.count == 0 { LABELS.len() } else { dump.others.rows };
                others = Others { count: dump.others.count + 1, rows: dump.order.rows_before(end) };
            }
            out.extend(dump.into_found());
        }
        if self.open.len() >= MAX_OPEN {
            out.extend(self.open.remove(0).into_found());
        }
        let (prefixed, caller) = (line.prefixed, caller.to_vec());
        self.open.push(Dump { prefixed, caller, others, ..Dump::default() });
        self.open.len() - 1
    }
}

impl Format for KvmDump {
    fn offer(&mut self, line: &Text<'_>, out: &mut Out) -> Taken {
        let message = line.message();
        let caller = caller(line.text.as_bytes().get(..line.start).unwrap_or_default());
        if let Some(header) = Header::read(message, line.prefixed) {
            let at = self.begin(line, caller, out);
            if let Some(dump) = self.open.get_mut(at) {
                dump.vm_type = header.vm_type;
                dump.vcpu = header.vcpu;
                dump.last_cpu = header.last_cpu;
                dump.pointer = header.pointer;
                dump.touch(line);
            }
            return Taken::Began;
        }
        let place = self.place_of(line, caller);
        if self.is_of_either(place, caller) {
            return self.pass(out);
        }
        let open = place.and_then(|place| self.open.get(place));
        let control = message.starts_with(b"VMCB Control Area:");
        let save = message.starts_with(b"VMCB State Save Area:");
        if control || save {
            // The header, which comes before the first of these lines, has no values.
            let ended =
                |dump: &Dump| if control { dump.control_area || dump.labels > 0 } else { dump.save_area };
            let at = match place {
                Some(at) if open.is_some_and(|dump| !ended(dump)) => at,
                _ => self.begin(line, caller, out),
            };
            let Some(dump) = self.open.get_mut(at) else {
                return Taken::No;
            };
            dump.settle();
            dump.control_area |= control;
            dump.save_area |= save;
            dump.touch(line);
            return if dump.labels == 0 { Taken::Began } else { Taken::Yes };
        }
        if let Some((row, length)) = self.index.find(message) {
            let strict = is_as_printed(row, message, length);
            let (expected, ends) = match open {
                None => (false, true),
                Some(dump) => {
                    let next = line.number == dump.rest_line;
                    (line.prefixed || !dump.prefixed || next, dump.ends_before(row))
                }
            };
            if !(strict || line.prefixed || expected && may_show(row, message, length)) {
                return self.pass(out);
            }
            let (at, taken) = match place {
                Some(at) if !ends => (at, Taken::Yes),
                _ => (self.begin(line, caller, out), Taken::Began),
            };
            if let Some(dump) = self.open.get_mut(at) {
                dump.touch(line);
                dump.scan(&self.index, line);
            }
            return taken;
        }
        if let Some(dump) = place.and_then(|at| self.open.get_mut(at)) {
            if message.is_empty() {
                // A blank line between a label and its value is no other matter, nor is a prefix that a mail program
                // put on a line of its own.
                if line.number == dump.rest_line || line.prefixed {
                    dump.rest_line = line.last + 1;
                }
                return Taken::No;
            }
            let goes_on = line.is_rest() && line.number == dump.rest_line && !is_row(message);
            if goes_on && dump.open_end && (first_number(message) || begins_with_cut(message)) {
                dump.forget_last();
            }
            if goes_on && dump.continues_with(message)
                || is_unknown_field(message, line.prefixed, dump.prefixed)
            {
                dump.touch(line);
                dump.scan(&self.index, line);
                return Taken::Yes;
            }
        }
        self.pass(out)
    }

    fn finish(&mut self, out: &mut Out) {
        out.extend(self.open.drain(..).filter_map(Dump::into_found));
    }

    fn cut(&mut self) {
        for dump in &mut self.open {
            // The mark may have stood behind the last number, before a mail program broke the line.
            if dump.open_end {
                dump.forget_last();
            }
            dump.cut();
        }
    }
}

impl KvmDump {
    /// The line is of another matter.
    fn pass(&mut self, out: &mut Out) -> Taken {
        for dump in &mut self.open {
            dump.idle += 1;
        }
        out.extend(self.open.extract_if(.., |dump| dump.idle > MAX_IDLE).filter_map(Dump::into_found));
        Taken::No
    }
}
