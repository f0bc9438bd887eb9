//! The program behind `nsvm l0`: runs L0 in QEMU, with L1's serial port and L0's log.

use nsvm::cli::{L0, L0_MEMORY, L0Run, Verb};
use nsvm::{Error, parse_cpu};
use nsvm_l0::Setup;
use nsvm_l0::bundle::ended;
use nsvm_lab::run;
use nsvm_lab::store::Store;
use nsvm_lab::subject::{Finder, Spec};
use std::ffi::OsString;
use std::fmt::Display;
use std::io::{BufRead as _, BufReader, Write};
use std::path::Path;
use std::process::{ChildStderr, Command, ExitCode, Stdio};
use vmcb::Limits;

fn failed(error: impl Display) -> Error {
    Error::usage(error.to_string(), None)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path)
        .map_err(|error| Error::Input { file: path.display().to_string(), message: error.to_string() })
}

/// A module as people give it: its file, and its command line behind the first blank.
fn module(text: &str) -> Result<(Vec<u8>, String), Error> {
    let (file, line) = text.split_once(' ').unwrap_or((text, ""));
    Ok((read(Path::new(file))?, line.to_owned()))
}

/// `qemu-system-x86_64`: the installed or fetched one, one that is named as the lab names it, or a path.
fn qemu(which: Option<&str>) -> Result<Command, Error> {
    let spec = match which {
        None => "qemu".to_owned(),
        Some(name) if name.starts_with("qemu@") => name.to_owned(),
        Some(path) => format!("qemu={path}"),
    };
    let spec: Spec = spec.parse().map_err(failed)?;
    let store = Store::open(&Store::default_root().map_err(failed)?).map_err(failed)?;
    let mut tell = |line: &str| eprintln!("{line}");
    let mut finder = Finder { store: &store, may_fetch: true, progress: &mut tell, fetcher: None };
    finder.qemu(&spec).map(|qemu| qemu.command()).map_err(failed)
}

// The help shows the default that the library has.
const _: () = assert!(L0_MEMORY == nsvm_l0::MEMORY.0);

fn main() -> ExitCode {
    // The arguments are those of `nsvm l0`, and so are the messages about them.
    let mut arguments: Vec<OsString> = vec!["nsvm".into(), "l0".into()];
    arguments.extend(std::env::args_os().skip(1));
    nsvm::run_with(arguments, |verb, out| match verb {
        Verb::L0(L0::Run(arguments)) => run(&arguments, out),
        _ => Err(Error::usage("this program runs `nsvm l0` only", None)),
    })
}

/// Runs L0 and returns the exit status.
fn run(arguments: &L0Run, out: &mut dyn Write) -> Result<u8, Error> {
    let cpu = arguments.cpu.as_deref().map(parse_cpu).transpose()?;
    let mut modules: Vec<_> = arguments.modules.iter().map(|text| module(text)).collect::<Result<_, _>>()?;
    if let Some(initrd) = &arguments.initrd {
        modules.push((read(initrd)?, String::new()));
    }
    let setup = Setup {
        memory: arguments.memory,
        limits: cpu.map(|cpu| Limits::compile(&cpu, vmcb::Policy::VirtualCpu)),
        command_line: arguments.append.clone(),
        modules,
        verdict_only: arguments.verdict_only,
        quiet: false,
        dumps: arguments.dumps,
        reload: arguments.reload,
    };
    let kernel = nsvm_l0::kernel(&read(&arguments.l1)?, &setup).map_err(failed)?;
    let mut command = qemu(arguments.qemu.as_deref())?;
    nsvm_l0::machine(&mut command, setup.memory);
    command.args(["-M", &arguments.machine]);
    let folder = run::folder().map_err(failed)?;
    let path = folder.path().join("l0.elf");
    std::fs::write(&path, kernel).map_err(failed)?;
    let log = match &arguments.log {
        Some(path) => {
            // QEMU's own error would name its option instead of ours.
            std::fs::write(path, "").map_err(|error| Error::Input {
                file: path.display().to_string(),
                message: error.to_string(),
            })?;
            // A comma in a path is written twice.
            path.to_string_lossy().replace(',', ",,")
        }
        None => "/dev/stderr".to_owned(),
    };
    command.args(["-serial", "stdio", "-chardev"]).arg(format!("file,id=log,append=on,path={log}"));
    command.args(["-serial", "chardev:log", "-kernel"]).arg(&path);
    out.flush()?;
    let program = command.get_program().to_string_lossy().into_owned();
    let start = |error| failed(format!("{program}: {error}"));
    let mut child = command.stderr(Stdio::piped()).spawn().map_err(start)?;
    let complaint = child.stderr.take().map(pass_on).transpose()?.flatten();
    let status = child.wait().map_err(start)?;
    match (status.code(), complaint) {
        // QEMU's own mistakes have the status of a debug exit with 0.
        (Some(1), Some(complaint)) => Err(failed(complaint)),
        (Some(0), _) => Ok(0),
        (Some(code), _) if code & 1 == 1 => match (code / 2) as u8 {
            ended::FAILED => Err(failed("L0 could not go on: its log has the reason")),
            value => Ok(value),
        },
        _ => Err(failed(format!("QEMU ended with {status}"))),
    }
}

/// Passes the log on, and what QEMU says of itself: its last words.
fn pass_on(from: ChildStderr) -> Result<Option<String>, Error> {
    let mut last = None;
    let mut stderr = std::io::stderr().lock();
    for line in BufReader::new(from).split(b'\n') {
        let line = line?;
        stderr.write_all(&line)?;
        stderr.write_all(b"\n")?;
        if line.starts_with(b"qemu-system") {
            last = Some(String::from_utf8_lossy(&line).into_owned());
        }
    }
    Ok(last)
}
