//! Asks programs for their versions.

use super::error::{Error, PATIENCE};
use super::kind::Kind;
use super::subject::{INSTALLED, Subject};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Instant;

impl Subject {
    /// The program of a QEMU or Bochs that the machine has, having asked it for its version.
    ///
    /// # Errors
    /// If it cannot be executed, or answers like something else.
    pub fn of_program(kind: Kind, path: &Path) -> Result<Self, Error> {
        let path = std::path::absolute(path).map_err(|error| Error::io(path, error))?;
        let mut subject = Self {
            kind,
            version: String::new(),
            suite: INSTALLED.to_owned(),
            root: PathBuf::from("/"),
            package: String::new(),
            fetched: String::new(),
            size: 0,
            packages: Vec::new(),
            program: Some(path),
        };
        subject.version = subject.ask()?;
        Ok(subject)
    }

    /// Starts the program and returns the version that it tells, such as `10.0.2`.
    ///
    /// # Errors
    /// If it cannot be executed, is silent, or is something else. A kernel is never executed: [`Error::NotOne`].
    pub fn ask(&self) -> Result<String, Error> {
        let path = self.program().unwrap_or_else(|| self.root.clone());
        let (argument, mark) = match self.kind {
            Kind::Qemu => ("--version", "QEMU emulator version "),
            // Bochs knows no --version, and prints its banner before anything else.
            Kind::Bochs => ("--help", "Bochs x86 Emulator "),
            Kind::Kernel | Kind::Xen => {
                return Err(Error::NotOne { path, kind: self.kind, said: String::new() });
            }
        };
        let mut command = self.command();
        command.arg(argument);
        let said = output_in_time(&mut command, &path)?;
        let version = said.lines().find_map(|line| line.trim().strip_prefix(mark));
        match version.and_then(|rest| rest.split([' ', '(', ',']).next()).filter(|word| !word.is_empty()) {
            Some(version) => Ok(version.to_owned()),
            None => {
                let line = said.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
                Err(Error::NotOne { path, kind: self.kind, said: line.chars().take(200).collect() })
            }
        }
    }
}

/// Returns what the program prints first, to either stream. The program is killed if it takes too long or prints without
/// end.
fn output_in_time(command: &mut Command, path: &Path) -> Result<String, Error> {
    const ENOUGH: u64 = 1 << 16;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| Error::CannotRun { path: path.to_owned(), error })?;
    let mut streams: Vec<Box<dyn Read + Send>> = Vec::new();
    streams.extend(child.stdout.take().map(|stream| Box::new(stream) as _));
    streams.extend(child.stderr.take().map(|stream| Box::new(stream) as _));
    let mut said = vec![String::new(); streams.len()];
    let (sender, receiver) = mpsc::channel();
    for (index, stream) in streams.into_iter().enumerate() {
        let sender = sender.clone();
        // Not joined: what the program started itself may hold the stream open for ever.
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            // What was read before an error counts; nobody listens any more if it took too long.
            let _ = stream.take(ENOUGH).read_to_end(&mut bytes);
            let _ = sender.send((index, bytes));
        });
    }
    let end = Instant::now() + PATIENCE;
    let mut in_time = true;
    for _ in 0..said.len() {
        match receiver.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok((index, bytes)) => said[index] = String::from_utf8_lossy(&bytes).into_owned(),
            Err(_) => in_time = false,
        }
    }
    // It has ended, or there is nothing more to learn from it.
    let _ = child.kill();
    let _ = child.wait();
    if in_time { Ok(said.concat()) } else { Err(Error::Silent { path: path.to_owned() }) }
}

/// Programs of the machine itself that PATH leads to, each asked for its version.
#[must_use]
pub fn installed() -> Vec<Result<Subject, Error>> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let programs = Kind::ALL.into_iter().filter_map(|kind| {
        let name = kind.program()?;
        let program = folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file())?;
        Some((kind, program))
    });
    programs.map(|(kind, program)| Subject::of_program(kind, &program)).collect()
}
