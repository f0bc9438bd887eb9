//! Every format: a dump is written at random and read back.

use crate::common;
use crate::generate::check;
use crate::generate::{Random, WRITERS};
use vmcb_dump::read_all;

/// An undamaged dump gives every field that it shows, with its value.
#[test]
fn reads_what_was_written() {
    for (name, write) in WRITERS {
        let mut random = Random(1);
        for round in 0..200 {
            let written = write(&mut random);
            let (found, error) = read_all(written.text.as_bytes());
            common::check(&found);
            assert!(error.is_none(), "{name} {round}: {error:?}\n{}", written.text);
            assert_eq!(found.len(), 1, "{name} {round}\n{}", written.text);
            for shown in &written.shows {
                if shown.mask == 0 {
                    continue;
                }
                let page = match shown.page {
                    vmcb::layout::Page::Vmcb => Some(&found[0].vmcb),
                    vmcb::layout::Page::Vmsa => found[0].vmsa.as_ref(),
                };
                let bits = page.expect("a VMSA").read(shown.offset, shown.size);
                let at = format!("{name} {round} at {:#x}\n{}", shown.offset, written.text);
                assert_eq!(bits.known_mask() & shown.mask, shown.mask, "{at}");
                assert_eq!(bits.value() & shown.mask, shown.value & shown.mask, "{at}");
            }
        }
    }
}

/// Whatever happens to a dump on its way, nothing is read from it but what was written.
#[test]
fn damage_never_gives_a_wrong_value() {
    for (name, write) in WRITERS {
        let (mut told, mut read) = (0, 0);
        for seed in 0..2000 {
            match check::round(name, *write, seed) {
                Ok(round) if round.reflowed => (told, read) = (told + round.told, read + round.read),
                Ok(_) => {}
                Err(what) => panic!("{name}, seed {seed}: {what}"),
            }
        }
        // Who reads nothing reads nothing wrong.
        let least = if *name == "xen-checks" { 90 } else { 99 };
        assert!(read * 100 >= told * least, "{name}: {read} of {told} bits read where nothing was lost");
    }
}

/// Rounds of which a reader once gave a wrong value, found by the example `damaged`.
const ONCE_WRONG: [(&str, u64); 10] = [
    ("hex-dump", 100_010_426),
    ("xen-dump", 100_773_327),
    ("xen-dump", 101_086_116),
    ("hex-dump", 100_455_841),
    ("kvm-dump", 300_388_335),
    ("hex-dump", 300_054_179),
    ("kvm-trace-exit", 300_202_336),
    ("hex-dump", 200_542_866),
    ("hex-dump", 200_548_614),
    ("hex-dump", 600_539_855),
];

#[test]
fn damage_that_once_gave_a_wrong_value() {
    for (name, seed) in ONCE_WRONG {
        let (_, write) = WRITERS.iter().find(|(known, _)| *known == name).expect("a format");
        if let Err(what) = check::round(name, *write, seed) {
            panic!("{name}, seed {seed}: {what}");
        }
    }
}

/// Two dumps in one text, of the same kind or not: what is found is of one of them.
#[test]
fn two_dumps_do_not_mix() {
    // The last one once gave fields of both.
    for seed in (0..2000).chain([100_562_583]) {
        if let Err(what) = check::two(seed) {
            panic!("seed {seed}: {what}");
        }
    }
}
