//! Runs the cases of an image, on a fresh machine after each one that kills its machine.

use crate::image::Image;
use crate::machine::{Kvm, Stop};
use crate::system;
use crate::trace::Trace;
use std::time::Duration;

/// Default time limit of a case, in seconds.
pub(crate) const LIMIT: u64 = 5;

/// A time limit above zero.
pub(crate) fn seconds(text: &str) -> Option<Duration> {
    text.parse().ok().filter(|&seconds: &u32| seconds > 0).map(|seconds| Duration::from_secs(seconds.into()))
}

/// Prints one line for the lab.
pub(crate) type Say<'a> = &'a mut dyn FnMut(&str) -> Result<(), String>;

/// Runs all cases of the image.
pub(crate) fn run(image: Vec<u8>, limit: Duration, say: Say<'_>) -> Result<(), String> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_err(|error| format!("/proc/sys/kernel/osrelease: {error}"))?;
    say(&format!("v {}", release.trim()))?;
    let mut image = Image::new(image)?;
    image.ring();
    let kvm = Kvm::open()?;
    system::tick(limit)?;
    let mut trace = match Trace::open() {
        Ok(trace) => Some(trace),
        Err(reason) => {
            say(&format!("n {reason}"))?;
            None
        }
    };
    // The case that comes next.
    let mut next = image.first();
    let mut introduced = false;
    loop {
        image.set_first(next);
        let mut machine = kvm.machine(&image.bytes)?;
        let mut began = false;
        let stop = machine.run(&mut |line| {
            let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
            match kind {
                "nsvm-lab" | "c" | "m" | "b" => {
                    if !introduced {
                        say(line)?;
                    }
                    if kind == "b" {
                        introduced = true;
                        began = true;
                    }
                }
                "x" | "f" => {
                    let number = rest.split(' ').next().unwrap_or_default();
                    let case = u32::from_str_radix(number, 16)
                        .map_err(|_| format!("the payload wrote a line without a case: {line}"))?;
                    say(line)?;
                    next = case.saturating_add(1);
                    if let Some(trace) = &mut trace {
                        let texts = trace.take()?;
                        if !texts.is_empty() {
                            say(&format!("t {case:x} {}", texts.join("; ")))?;
                        }
                    }
                }
                "end" | "e" => {
                    say(line)?;
                    return Ok(true);
                }
                _ => say(line)?,
            }
            Ok(false)
        })?;
        let line = match stop {
            Stop::Finished => return Ok(()),
            Stop::Died(reason) if !began => {
                return Err(format!("the machine died before the payload's first case: {reason}"));
            }
            Stop::Silent if !began => {
                return Err("nothing came from the payload before its first case".to_owned());
            }
            Stop::Died(reason) => format!("k {next:x} {reason}"),
            Stop::Silent => format!("h {next:x}"),
        };
        say(&line)?;
        if let Some(trace) = &mut trace {
            trace.take()?;
        }
        next = next.saturating_add(1);
        if next >= image.cases() {
            return say(&format!("end {:x}", image.cases()));
        }
    }
}
