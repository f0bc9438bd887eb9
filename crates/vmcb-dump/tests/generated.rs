//! Every format: a dump is written at random and read back.

mod common;
mod generate;

use generate::{Random, WRITERS};
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
