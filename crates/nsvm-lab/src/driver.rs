//! Runs a set of cases on one machine, whatever becomes of the machine.
//!
//! The payload's lines come over a pipe. A case after which nothing more comes is noted, the machine is started
//! again, and the run goes on behind it.

use crate::case::Set;
use crate::image::{Image, ImageError};
use crate::observe::Exit;
use crate::outcome::{Outcome, Seen};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};
use vmcb::CpuidEntry;

/// Something that boots an image.
pub trait Machine {
    /// Writes what the machine boots into the folder, which is the run's own, and says what to start. The payload's
    /// lines come on the standard output; lines of other programs among them are passed over.
    ///
    /// # Errors
    /// Where a file cannot be written or what the machine needs is missing.
    fn prepare(&self, image: &Image, folder: &Path) -> Result<Command, Error>;

    /// The [console](crate::protocol::console) that the payload is to use.
    fn console(&self) -> u32 {
        crate::protocol::console::E9
    }

    /// How long the machine may take until the first case is run.
    fn boot_limit(&self) -> Duration {
        Duration::from_secs(60)
    }

    /// How long one case may take; it takes far less than a millisecond.
    fn case_limit(&self) -> Duration {
        Duration::from_secs(4)
    }

    /// Why it died: by the lines on its standard error, or by what it left in the folder.
    fn reason(&self, _folder: &Path, complaints: &[String]) -> Option<String> {
        complaints.last().cloned()
    }
}

/// Why there are no results.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no image to boot.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A file of the run.
    #[error("{path}: {error}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        error: std::io::Error,
    },
    /// The program that is the machine does not start.
    #[error("{program} cannot be started: {error}")]
    Start {
        /// The program.
        program: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// The machine did not come to its first case.
    #[error("the payload did not start: {0}")]
    Boot(String),
    /// What the machine needs is missing.
    #[error("{0}")]
    Missing(String),
    /// Somebody pressed Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// A file that could not be read or written.
    pub fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        |error| Self::File { path, error }
    }
}

/// What a machine said of itself and of each case.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// CPUID as the payload saw it.
    pub cpuid: Vec<CpuidEntry>,
    /// MSRs that the payload read.
    pub msrs: Vec<(u32, u64)>,
    /// What else it said: release of a kernel, a tracepoint that is missing.
    pub notes: Vec<String>,
    /// One for each case of the set, in order.
    pub outcomes: Vec<Outcome>,
    /// How often the machine was started.
    pub starts: usize,
}

/// What a run goes on telling.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Cases done.
    pub done: usize,
    /// Of so many.
    pub all: usize,
    /// Of the done ones, those that killed or hung the machine.
    pub broken: usize,
}

/// After so many cases that broke the machine the rest is not run.
const MOST_BROKEN: usize = 400;
/// How long a wait may be before the interruption is looked for.
const TICK: Duration = Duration::from_millis(100);

/// Of the cases that are known to break the machine for one reason so many are run; the others are skipped.
const MOST_FOR_ONE_REASON: usize = 3;

/// Runs all cases of the set that can be run.
///
/// `killer` says why a case is known to break this machine: the first few for each reason are run, to see whether it
/// still holds.
///
/// # Errors
/// Where the machine cannot be started or does not reach its first case, or `interrupted` becomes true.
pub fn run(
    machine: &dyn Machine,
    set: &Set,
    killer: &dyn Fn(&str) -> Option<&'static str>,
    folder: &Path,
    interrupted: &AtomicBool,
    progress: &mut dyn FnMut(Progress),
) -> Result<Run, Error> {
    let mut run = Run::default();
    let mut found: Vec<Option<Outcome>> = set
        .cases
        .iter()
        .map(|case| case.cannot_run.clone().map(|why| Outcome::of(Seen::Skipped(why))))
        .collect();
    let mut broken = 0;
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    loop {
        // What is left goes into the image; `numbers` leads back.
        let numbers: Vec<_> = (0..set.cases.len()).filter(|&number| found[number].is_none()).collect();
        if numbers.is_empty() || broken >= MOST_BROKEN {
            break;
        }
        let left = Set {
            name: set.name.clone(),
            bases: set.bases.clone(),
            cases: numbers.iter().map(|&number| set.cases[number].clone()).collect(),
        };
        let image = Image::new(&left, machine.console())?;
        let mut outcomes = vec![None; numbers.len()];
        let mut listener =
            Listener { set: &left, found: &mut outcomes, next: 0, run: &mut run, began: false, ended: false };
        let before = set.cases.len() - numbers.len();
        let why = one_boot(machine, &image, folder, interrupted, &mut listener, &mut |done| {
            progress(Progress { done: before + done, all: set.cases.len(), broken });
        })?;
        let Listener { next, began, ended, .. } = listener;
        if !began && !ended {
            return Err(Error::Boot(why.unwrap_or_else(|| "nothing came".to_owned())));
        }
        if !ended && let Some(outcome) = outcomes.get_mut(next) {
            *outcome = Some(Outcome::of(why.map_or(Seen::Hung, Seen::Killed)));
        } else if !ended {
            // It died behind the last case.
            break;
        }
        for (&number, outcome) in numbers.iter().zip(outcomes) {
            if let Some(Outcome { seen: Seen::Killed(_) | Seen::Hung, .. }) = outcome {
                broken += 1;
                if let Some(reason) = killer(&set.cases[number].id) {
                    *reasons.entry(reason).or_default() += 1;
                }
            }
            found[number] = outcome;
        }
        for (case, outcome) in set.cases.iter().zip(&mut found).filter(|(_, outcome)| outcome.is_none()) {
            if let Some(reason) =
                killer(&case.id).filter(|reason| reasons.get(reason) >= Some(&MOST_FOR_ONE_REASON))
            {
                *outcome =
                    Some(Outcome::of(Seen::Skipped(format!("others like it broke the machine: {reason}"))));
            }
        }
        if ended {
            break;
        }
    }
    progress(Progress { done: set.cases.len(), all: set.cases.len(), broken });
    let rest = || Outcome::of(Seen::Skipped(format!("{broken} cases before it broke the machine")));
    run.outcomes = found.into_iter().map(|outcome| outcome.unwrap_or_else(rest)).collect();
    Ok(run)
}

/// What a text of the payload's lines says, wherever it was captured.
///
/// # Errors
/// Where the payload gave up, or never began.
pub fn listen<'a>(set: &Set, lines: impl IntoIterator<Item = &'a str>) -> Result<Run, Error> {
    let mut run = Run { starts: 1, ..Run::default() };
    let mut found = vec![None; set.cases.len()];
    let mut listener =
        Listener { set, found: &mut found, next: 0, run: &mut run, began: false, ended: false };
    for line in lines {
        listener.line(line.trim_end()).map_err(Error::Boot)?;
    }
    if !listener.began {
        return Err(Error::Boot("no line of it says that cases begin".to_owned()));
    }
    let missing = || Outcome::of(Seen::Skipped("the text has no line of it".to_owned()));
    run.outcomes = found.into_iter().map(|outcome| outcome.unwrap_or_else(missing)).collect();
    Ok(run)
}

/// Takes the payload's lines.
struct Listener<'a> {
    set: &'a Set,
    found: &'a mut [Option<Outcome>],
    /// The case that is being run.
    next: usize,
    run: &'a mut Run,
    began: bool,
    ended: bool,
}

impl Listener<'_> {
    /// What a line says; an error text where the payload gives up.
    fn line(&mut self, line: &str) -> Result<(), String> {
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        let first = self.run.starts <= 1;
        match kind {
            "c" if first => self.run.cpuid.extend(cpuid_entry(rest)),
            "m" if first => {
                let pair = rest.split_once(' ').and_then(|(msr, value)| {
                    Some((u32::from_str_radix(msr, 16).ok()?, u64::from_str_radix(value, 16).ok()?))
                });
                self.run.msrs.extend(pair);
            }
            "v" if first => self.run.notes.push(format!("kernel {rest}")),
            "n" if first => self.run.notes.push(rest.to_owned()),
            "b" => self.began = true,
            "x" => {
                self.case(rest, |fields, set, case| Some(Exit::parse(fields)?.outcome(set, &set.cases[case])))
            }
            "f" => self.case(rest, |fields, _, _| {
                let (vector, error) = fields.split_once(' ')?;
                let vector = u8::from_str_radix(vector, 16).ok()?;
                Some(Outcome::of(Seen::Fault { vector, error: u64::from_str_radix(error, 16).ok()? }))
            }),
            "k" => self.case(rest, |why, _, _| Some(Outcome::of(Seen::Killed(why.to_owned())))),
            "h" => self.case(rest, |_, _, _| Some(Outcome::of(Seen::Hung))),
            "t" => {
                if let Some((number, condition)) = rest.split_once(' ')
                    && let Ok(number) = usize::from_str_radix(number, 16)
                    && let Some(Some(outcome)) = self.found.get_mut(number)
                {
                    outcome.by = Some(condition.to_owned());
                }
            }
            "e" => return Err(rest.to_owned()),
            "end" if self.began => self.ended = true,
            _ => {}
        }
        Ok(())
    }

    fn case(&mut self, rest: &str, outcome: impl FnOnce(&str, &Set, usize) -> Option<Outcome>) {
        let (number, fields) = rest.split_once(' ').unwrap_or((rest, ""));
        let Ok(number) = usize::from_str_radix(number, 16) else { return };
        // Cases come in order: anything else is noise.
        if number == self.next
            && number < self.found.len()
            && let Some(outcome) = outcome(fields, self.set, number)
        {
            self.found[number] = Some(outcome);
            self.next = number + 1;
        }
    }
}

fn cpuid_entry(fields: &str) -> Option<CpuidEntry> {
    let numbers: Vec<_> =
        fields.split(' ').map(|field| u32::from_str_radix(field, 16)).collect::<Result<_, _>>().ok()?;
    let [leaf, subleaf, eax, ebx, ecx, edx] = numbers[..] else { return None };
    Some(CpuidEntry { leaf, subleaf, eax, ebx, ecx, edx })
}

/// Starts the machine and listens until it ends. Returns why it died, or nothing where it hung or ended well.
fn one_boot(
    machine: &dyn Machine,
    image: &Image,
    folder: &Path,
    interrupted: &AtomicBool,
    listener: &mut Listener<'_>,
    progress: &mut dyn FnMut(usize),
) -> Result<Option<String>, Error> {
    listener.run.starts += 1;
    let command = machine.prepare(image, folder)?;
    let program = command.get_program().to_string_lossy().into_owned();
    let mut command = dies_with_us(command);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Reaped(command.spawn().map_err(|error| Error::Start { program, error })?);
    let output = lines(child.0.stdout.take());
    let complaints = lines(child.0.stderr.take());
    let mut last = Instant::now();
    loop {
        if interrupted.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        match output.recv_timeout(TICK) {
            Ok(line) => {
                last = Instant::now();
                if let Err(why) = listener.line(&line) {
                    return if listener.began { Ok(Some(why)) } else { Err(Error::Boot(why)) };
                }
                if listener.ended {
                    return Ok(None);
                }
                if listener.next.is_multiple_of(64) {
                    progress(listener.next);
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                let limit = if listener.began { machine.case_limit() } else { machine.boot_limit() };
                if last.elapsed() > limit {
                    return Ok(if listener.began {
                        None
                    } else {
                        Some(format!(
                            "no case within {} s; {}",
                            limit.as_secs(),
                            complaint(machine, folder, &mut child, &complaints)
                        ))
                    });
                }
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Ok(Some(complaint(machine, folder, &mut child, &complaints)));
            }
        }
    }
}

/// The same command, ended by the kernel should we be killed: a machine that hangs would else run for ever.
///
/// `setpriv` (util-linux) asks for that, since doing it in a child of ours would need unsafe code. Where there is none
/// the command stays as it is. The kernel looks at the thread that started the child: it must live as long as the run.
fn dies_with_us(command: Command) -> Command {
    static SETPRIV: OnceLock<bool> = OnceLock::new();
    let can = || {
        let mut probe = Command::new("setpriv");
        probe.args(["--pdeathsig", "KILL", "true"]);
        probe.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        probe.status().is_ok_and(|status| status.success())
    };
    let mut command = if *SETPRIV.get_or_init(can) {
        let mut bound = Command::new("setpriv");
        bound.args(["--pdeathsig", "KILL"]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => bound.env(name, value),
                None => bound.env_remove(name),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            bound.current_dir(folder);
        }
        bound
    } else {
        command
    };
    // Ctrl-C is for us: a machine that it ended would look like one that a case killed.
    command.process_group(0);
    command
}

/// A child that does not outlive us.
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        // It may be gone already; there is nothing else to be done where it cannot be killed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Lines of a program's complaints that are kept.
const MOST_COMPLAINTS: usize = 4096;

/// What the program said on its standard error, or how it ended.
fn complaint(
    machine: &dyn Machine,
    folder: &Path,
    child: &mut Reaped,
    complaints: &Receiver<String>,
) -> String {
    // A program that has closed its output is about to end.
    let status = (0..20).find_map(|_| {
        let status = child.0.try_wait().ok().flatten();
        if status.is_none() {
            std::thread::sleep(TICK / 2);
        }
        status
    });
    // The thread that reads may be later than the end of the program. It closes the channel after the last line.
    let until = Instant::now() + TICK * 5;
    let mut said = Vec::new();
    while let Ok(line) = complaints.recv_timeout(until.saturating_duration_since(Instant::now())) {
        if !line.trim().is_empty() && said.len() < MOST_COMPLAINTS {
            said.push(line);
        }
    }
    match (machine.reason(folder, &said), status) {
        (Some(said), _) => said.chars().filter(|c| !c.is_control()).take(160).collect(),
        (None, Some(status)) => format!("ended with {status}"),
        (None, None) => "closed its output".to_owned(),
    }
}

/// Lines as they come. A line without an end is cut at 4 KiB and few are kept waiting, so that a program gone mad
/// fills no memory.
fn lines(from: Option<impl Read + Send + 'static>) -> Receiver<String> {
    const LONGEST: u64 = 4096;
    let (sender, receiver) = sync_channel(4096);
    if let Some(from) = from {
        std::thread::spawn(move || {
            let mut from = BufReader::with_capacity(1 << 16, from);
            let mut line = Vec::new();
            loop {
                line.clear();
                match from.by_ref().take(LONGEST).read_until(b'\n', &mut line) {
                    Ok(1..) if sender.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_ok() => {}
                    _ => return,
                }
            }
        });
    }
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::memory;
    use crate::sets;

    /// A shell that plays the payload; it knows how often it was started.
    struct Shell(&'static str);

    impl Machine for Shell {
        fn prepare(&self, _: &Image, folder: &Path) -> Result<Command, Error> {
            let mut command = Command::new("sh");
            command
                .arg("-c")
                .arg(format!("echo >>starts; n=$(wc -l <starts); {}", self.0))
                .current_dir(folder);
            Ok(command)
        }

        fn case_limit(&self) -> Duration {
            Duration::from_secs(1)
        }
    }

    fn play(name: &str, script: &'static str) -> Result<Run, Error> {
        let mut set = sets::set("commit").expect("the set");
        set.cases.retain(|case| case.rax == memory::VMCB && case.cannot_run.is_none());
        set.cases.truncate(6);
        let killer = set.cases[5].id.clone();
        let folder = std::env::temp_dir().join(format!("nsvm-lab-driver-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let known = |id: &str| (id == killer).then_some("it is known for it");
        let run = run(&Shell(script), &set, &known, &folder, &AtomicBool::new(false), &mut |_| ());
        let _ = std::fs::remove_dir_all(folder);
        run
    }

    #[test]
    #[cfg_attr(not(has_payload), ignore = "needs `rustup target add x86_64-unknown-none`")]
    fn a_run_goes_on_behind_what_breaks_the_machine() {
        // Each start counts the cases that are left from 0; the last line of the first comes twice.
        let run = play(
            "goes-on",
            "echo noise; echo 'b 6 0'; x='ffffffffffffffff 0 0 0 0 0 0 0 0 0 0'
             case $n in
             1) echo \"x 0 $x\"; echo 't 0 because'; echo \"x 0 $x\"; echo 'dead of it' >&2 ;;
             2) echo 'f 0 6 0'; exec sleep 100 ;;
             *) echo 'k 0 internal error'; echo \"x 1 $x\"; echo 'end 2' ;;
             esac",
        )
        .expect("results");
        let tokens: Vec<_> = run.outcomes.iter().map(ToString::to_string).collect();
        assert_eq!(
            tokens,
            [
                "invalid by: because",
                "killed dead of it",
                "fault 06 0",
                "hung",
                "killed internal error",
                "invalid"
            ]
        );
        assert_eq!(run.starts, 3);
    }

    #[test]
    #[cfg_attr(not(has_payload), ignore = "needs `rustup target add x86_64-unknown-none`")]
    fn a_machine_that_never_begins_is_an_error_with_its_words() {
        let error = play("never", "echo 'no such machine' >&2; exit 1").expect_err("nothing began");
        assert!(error.to_string().contains("no such machine"), "{error}");
        let error = play("no-svm", "echo 'e this CPU has no SVM'").expect_err("nothing began");
        assert!(error.to_string().contains("no SVM"), "{error}");
    }
}
