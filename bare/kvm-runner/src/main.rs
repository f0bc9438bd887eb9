//! Runs the payload as L1 on this kernel's KVM and hands on what it says.
//!
//! As process 1 of an initramfs it first makes the machine: mounts, modules, ports; lines go to port E9h and the
//! end is a power-off. As any other process it uses the `/dev/kvm` that is there, and lines go to standard output.
//!
//! The payload's lines come first to last as they are. These are added, numbers in hexadecimal:
//!
//! | line | says |
//! | --- | --- |
//! | `v RELEASE` | the kernel, before all else |
//! | `n TEXT` | why no conditions will come; the run goes on without them |
//! | `t CASE CONDITION` | what KVM printed as the reason of its refusal, right behind the case's own line |
//! | `k CASE REASON` | the virtual machine died of this case; a fresh one goes on behind it |
//! | `h CASE` | nothing came within the time limit; a fresh one goes on behind it |
//! | `e TEXT` | it cannot go on |
//!
//! A fresh machine's first lines (`nsvm-lab`, `c`, `m`, `b`) are dropped: the first machine has said them.

// UNSAFETY: KVM is spoken to by ioctl and shared memory, ports by instructions.
#![deny(unsafe_op_in_unsafe_fn)]

mod boot;
mod machine;
mod system;
mod trace;

use bare_interface::payload::{
    self as protocol, BASE, BLOB_FIRST, BLOB_HEAD, BLOB_MAGIC, HEADER, HEADER_MAGIC, IMAGE_LIMIT, console,
};
use machine::{Kvm, Stop};
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;
use trace::Trace;

/// Seconds that one case may take, where nobody says otherwise.
const LIMIT: u64 = 5;

fn main() -> ExitCode {
    if std::process::id() == 1 {
        return boot::main();
    }
    let mut arguments = std::env::args_os().skip(1);
    let usage = "usage: kvm-init IMAGE [SECONDS-FOR-A-CASE]";
    let (Some(path), limit, None) = (arguments.next(), arguments.next(), arguments.next()) else {
        eprintln!("{usage}");
        return ExitCode::from(2);
    };
    let limit = match limit.map(|text| text.to_str().and_then(seconds)) {
        None => Duration::from_secs(LIMIT),
        Some(Some(limit)) => limit,
        Some(None) => {
            eprintln!("{usage}: seconds are a number above zero");
            return ExitCode::from(2);
        }
    };
    let mut say = |line: &str| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{line}")
            .and_then(|()| out.flush())
            .map_err(|error| format!("standard output: {error}"))
    };
    let outcome = std::fs::read(&path)
        .map_err(|error| format!("{}: {error}", path.display()))
        .and_then(|image| run(image, limit, &mut say));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Whoever reads the lines must learn of it; if nobody reads them any more, standard error remains.
            if say(&format!("e {error}")).is_err() {
                eprintln!("kvm-init: {error}");
            }
            ExitCode::FAILURE
        }
    }
}

/// A time limit above zero.
fn seconds(text: &str) -> Option<Duration> {
    text.parse().ok().filter(|&seconds: &u32| seconds > 0).map(|seconds| Duration::from_secs(seconds.into()))
}

/// Takes one line to whoever reads.
type Say<'a> = &'a mut dyn FnMut(&str) -> Result<(), String>;

/// Runs all cases of the image.
fn run(image: Vec<u8>, limit: Duration, say: Say<'_>) -> Result<(), String> {
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

/// The payload with its blob of cases.
struct Image {
    bytes: Vec<u8>,
    /// Offset of the blob, whose head lies within `bytes`.
    blob: usize,
}

impl Image {
    fn new(bytes: Vec<u8>) -> Result<Self, String> {
        let quad = |at: usize| {
            let bytes = bytes.get(at..at.checked_add(8)?)?;
            Some(u64::from_le_bytes(bytes.try_into().ok()?))
        };
        if bytes.len() as u64 > IMAGE_LIMIT - BASE {
            return Err(format!("the image has {} bytes: too many", bytes.len()));
        }
        if quad(HEADER) != Some(HEADER_MAGIC) {
            return Err("the image has no header of the lab".to_owned());
        }
        let blob = quad(HEADER + 8)
            .and_then(|end| usize::try_from(end.checked_sub(BASE)?).ok())
            .filter(|&blob| blob.checked_add(BLOB_HEAD).is_some_and(|end| end <= bytes.len()))
            .ok_or("the image ends before its cases")?;
        if quad(blob) != Some(BLOB_MAGIC) {
            return Err("no cases stand behind the image".to_owned());
        }
        Ok(Self { bytes, blob })
    }

    fn word(&self, offset: usize) -> u32 {
        let at = self.blob + offset;
        u32::from_le_bytes([self.bytes[at], self.bytes[at + 1], self.bytes[at + 2], self.bytes[at + 3]])
    }

    /// Lines by the bell, if the payload knows it.
    fn ring(&mut self) {
        let at = self.blob + BLOB_FIRST + 4;
        let flags = self.word(BLOB_FIRST + 4) | console::BELL;
        self.bytes[at..at + 4].copy_from_slice(&flags.to_le_bytes());
    }

    /// Number of cases.
    fn cases(&self) -> u32 {
        self.word(BLOB_FIRST - 4)
    }

    /// The first case that is not passed over.
    fn first(&self) -> u32 {
        self.word(BLOB_FIRST)
    }

    fn set_first(&mut self, first: u32) {
        let at = self.blob + BLOB_FIRST;
        self.bytes[at..at + 4].copy_from_slice(&first.to_le_bytes());
    }
}
