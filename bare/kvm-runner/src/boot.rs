//! Process 1: makes the machine, runs the cases, switches it off.

use crate::run::{LIMIT, run, seconds};
use crate::system::{self, Port};
use std::fs::File;
use std::io::ErrorKind;
use std::process::ExitCode;
use std::time::Duration;

/// Where QEMU's debug console listens.
const CONSOLE: u16 = 0xE9;
/// QEMU's `isa-debug-exit`.
const EXIT: u16 = 0xF4;
/// QEMU ends with twice this and one: 33.
const EXIT_VALUE: u8 = 0x10;

pub(crate) fn main() -> ExitCode {
    if let Ok(console) = Port::open(CONSOLE) {
        let say = move |line: &str| {
            let mut bytes = Vec::with_capacity(line.len() + 1);
            bytes.extend_from_slice(line.as_bytes());
            bytes.push(b'\n');
            console.write(&bytes);
        };
        // By default the message would go to the console, which is not captured.
        std::panic::set_hook(Box::new(move |panic| {
            say(&format!("e the runner failed: {panic}").replace('\n', " "));
            end();
        }));
        let outcome = prepare().and_then(|()| {
            let image = std::fs::read("/payload.img").map_err(|error| format!("/payload.img: {error}"))?;
            run(image, limit(), &mut |line| {
                say(line);
                Ok(())
            })
        });
        if let Err(error) = outcome {
            say(&format!("e {error}").replace('\n', " "));
        }
    }
    end();
    ExitCode::FAILURE
}

fn end() {
    if let Ok(port) = Port::open(EXIT) {
        port.write(&[EXIT_VALUE]);
    }
    system::power_off();
}

/// Mounts and modules.
fn prepare() -> Result<(), String> {
    for (kind, target) in [(c"devtmpfs", c"/dev"), (c"proc", c"/proc"), (c"sysfs", c"/sys")] {
        system::mount_at(kind, target).map_err(|error| format!("mounting {target:?}: {error}"))?;
    }
    // Without it there are no conditions: said when they are looked for.
    let _ = system::mount_at(c"tracefs", c"/sys/kernel/tracing");
    let list = std::fs::read_to_string("/modules").map_err(|error| format!("/modules: {error}"))?;
    for path in list.lines() {
        let loaded = File::open(path).and_then(|module| system::load(&module));
        match loaded {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(format!("loading {path}: {error}"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// `nsvm.limit=SECONDS` of the kernel's command line.
fn limit() -> Duration {
    let line = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    line.split_whitespace()
        .filter_map(|word| seconds(word.strip_prefix("nsvm.limit=")?))
        .next_back()
        .unwrap_or(Duration::from_secs(LIMIT))
}
