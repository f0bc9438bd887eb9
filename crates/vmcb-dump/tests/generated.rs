//! Every format: a dump is written at random and read back.

mod common;
mod generate;

use generate::check::{self, Truth};
use generate::{Random, WRITERS, Written};
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
        for seed in 0..2000 {
            if let Err(what) = check::round(*write, seed) {
                panic!("{name}, seed {seed}: {what}");
            }
        }
    }
}

/// Two dumps in one text, of the same kind or not: what is found is of one of them.
#[test]
fn two_dumps_do_not_mix() {
    for round in 0..2000 {
        let mut random = Random::seeded(round);
        let [first, second] = [(); 2].map(|()| WRITERS[random.below(WRITERS.len() as u64) as usize]);
        let written = [first.1(&mut random), second.1(&mut random)];
        // A part of a hex dump behind another one is the rest of it, as far as anyone can see.
        let same = first.0 == second.0;
        let text = if same && first.0 != "kvm-dump" || random.one_in(2) {
            written[0].text.clone() + "\nand the other one\n" + &written[1].text
        } else {
            interleaved(&written, &mut random)
        };
        let (found, _) = read_all(text.as_bytes());
        common::check(&found);
        let truths = written.each_ref().map(Truth::new);
        for found in &found {
            let wrong: Vec<_> = truths.iter().filter_map(|truth| truth.holds(found).err()).collect();
            assert!(wrong.len() < 2 || same && first.0 != "kvm-dump", "{round}: {wrong:?}\n{text}");
        }
    }
}

/// The lines of two dumps, each in its order; now and then one is lost.
fn interleaved(written: &[Written; 2], random: &mut Random) -> String {
    let mut lines = written.each_ref().map(|written| written.text.lines());
    // What a `*` stands for shows only the line after it.
    let stars = written.iter().any(|written| written.text.contains("*\n"));
    let loses = if !stars && random.one_in(2) { 12 } else { 1_000_000 };
    // How many lines one prints before the other comes.
    let longest = 1 + random.below(6);
    let mut text = String::new();
    let mut ended = [false; 2];
    while ended != [true; 2] {
        let which = random.below(2) as usize;
        for _ in 0..1 + random.below(longest) {
            match lines[which].next() {
                Some(line) if !random.one_in(loses) => {
                    text.push_str(line);
                    text.push('\n');
                }
                Some(_) => {}
                None => ended[which] = true,
            }
        }
    }
    text
}
