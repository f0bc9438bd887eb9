//! Running the command on files of the repository.

pub(crate) use crate::shared::{file, plain, root, status, stderr, stdout};
use snapbox::cmd::{Command, OutputAssert, cargo_bin};

/// The command, started at the root of the repository.
pub(crate) fn nsvm(arguments: &[&str]) -> Command {
    plain(Command::new(cargo_bin!("nsvm"))).current_dir(root()).args(arguments)
}

pub(crate) fn run(arguments: &[&str]) -> OutputAssert {
    nsvm(arguments).assert()
}

/// Lines of verdict: those that begin with a place.
pub(crate) fn verdicts(text: &str) -> Vec<&str> {
    text.lines()
        .filter(|line| [": accepted", ": refused", ": undecided"].iter().any(|word| line.contains(word)))
        .filter(|line| {
            !line.starts_with([' ', '=']) && !line.starts_with("error") && !line.starts_with("note")
        })
        .collect()
}

/// The minimal legal VMCB of a 64-bit guest.
pub(crate) fn legal() -> [u8; 4096] {
    let mut page = [0; 4096];
    for (offset, value) in [
        (0x010, 1_u64),
        (0x040, 0x10000),
        (0x048, 0x20000),
        (0x058, 1),
        (0x4D0, 0x1500),
        (0x548, 0x20),
        (0x550, 0x3000),
        (0x558, 0x8000_0011),
        (0x560, 0x400),
        (0x568, 0xFFFF_0FF0),
        (0x570, 2),
        (0x668, 0x0007_0406_0007_0406),
    ] {
        put(&mut page, offset, value);
    }
    page[0x412] = 0x9B;
    page[0x413] = 2;
    page
}

pub(crate) fn put(page: &mut [u8; 4096], offset: usize, value: u64) {
    page[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
}

/// What decides everything for a guest without SEV.
pub(crate) const MILAN: &str = "EPYC-Milan,phys-bits=48,lmsle-unsupported=off";
