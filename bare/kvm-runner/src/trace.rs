//! What KVM prints as the reason of a refusal: the tracepoint `kvm:kvm_nested_vmenter_failed`.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const EVENT: &str = "kvm_nested_vmenter_failed";

/// A separate tracing instance, so that other tracing on this machine is not changed.
pub(crate) struct Trace {
    folder: PathBuf,
    pipe: File,
    text: Vec<u8>,
}

impl Trace {
    /// Opens the tracepoint. The error is the reason why there will be no conditions.
    pub(crate) fn open() -> Result<Self, String> {
        let places = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"].map(Path::new);
        let root = places
            .into_iter()
            .find(|place| place.join("instances").is_dir())
            .ok_or("no conditions: tracefs is not mounted, or only root may read it")?;
        if !root.join("events/kvm").join(EVENT).is_dir() {
            return Err("no tracepoint: this kernel's KVM does not print its reasons".to_owned());
        }
        let process = std::process::id();
        let folder = root.join("instances").join(format!("nsvm-{process}"));
        let failed = |error| format!("no conditions: {}: {error}", folder.display());
        std::fs::create_dir(&folder).map_err(failed)?;
        let set = |file: &str, value: &str| std::fs::write(folder.join(file), value);
        // Other virtual machines of this host are none of our business.
        let opened = set("set_event_pid", &process.to_string())
            .and_then(|()| set(&format!("events/kvm/{EVENT}/enable"), "1"))
            .and_then(|()| {
                OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(folder.join("trace_pipe"))
            });
        match opened {
            Ok(pipe) => Ok(Self { folder, pipe, text: Vec::new() }),
            Err(error) => {
                let reason = failed(error);
                let _ = std::fs::remove_dir(&folder);
                Err(reason)
            }
        }
    }

    /// The conditions printed since the last time, white space folded. Where none was, this is one system call.
    pub(crate) fn take(&mut self) -> Result<Vec<String>, String> {
        self.text.clear();
        let mut chunk = [0; 1024];
        loop {
            match self.pipe.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => self.text.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(format!("{}/trace_pipe: {error}", self.folder.display())),
            }
        }
        let text = String::from_utf8_lossy(&self.text);
        Ok(text
            .lines()
            .filter_map(|line| line.split_once(EVENT)?.1.strip_prefix(':'))
            .map(|condition| condition.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect())
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        // The folder cannot go while its pipe is open.
        if let Ok(null) = File::open("/dev/null") {
            self.pipe = null;
        }
        let _ = std::fs::remove_dir(&self.folder);
    }
}
