//! What holds of whatever is read from a dump that was damaged.

use super::damage::damage;
use super::{Random, Shown, WRITERS, Writer, Written};
use vmcb::layout::{PAGE_SIZE, Page};
use vmcb_dump::{Found, read_all};

/// What one round read.
pub(crate) struct Round {
    /// Bits that the text told, and how many of them were read.
    pub(crate) told: u64,
    pub(crate) read: u64,
    /// The text was only put into another form.
    pub(crate) reflowed: bool,
}

/// Formats of which every field must still be read after damages that only put the text into another form. Of a hex
/// dump the message of another program may look like what was cut out before a `*`, and a reason of Xen's check that
/// was broken is not told from other text, so there a loss is no error; a wrong value always is.
const WHOLE: &[&str] =
    &["kvm-dump", "qemu-registers", "qemu-log", "xen-dump", "kvm-trace-enter", "kvm-trace-exit"];

/// Writes a dump of the format `name` from `seed`, damages it, reads it and holds it against what was written.
///
/// # Errors
/// What is wrong, with the text.
pub(crate) fn round(name: &str, write: Writer, seed: u64) -> Result<Round, String> {
    let mut random = Random::seeded(seed);
    let written = write(&mut random);
    let (text, names, reflowed) = damage(&written, &mut random);
    let truth = Truth::new(&written);
    let (found, error) = read_all(text.as_bytes());
    let wrong = |what: String| Err(format!("{what}\ndamages: {names:?}, error: {error:?}\n{text}"));
    for found in &found {
        if let Err(what) = truth.holds(found) {
            return wrong(what);
        }
    }
    let told: u64 = written.shows.iter().map(|shown| u64::from(shown.mask.count_ones())).sum();
    let read = written.shows.iter().map(|shown| read_bits(&found, shown)).sum();
    if reflowed && WHOLE.contains(&name) && read < told {
        let missing =
            written.shows.iter().find(|shown| read_bits(&found, shown) < shown.mask.count_ones().into());
        return wrong(format!("{read} of {told} bits read, not {missing:x?}"));
    }
    Ok(Round { told, read, reflowed })
}

/// How many bits of a field some VMCB that was found tells.
pub(crate) fn read_bits(found: &[Found], shown: &Shown) -> u64 {
    let known = |found: &Found| {
        let page = page(found, shown.page)?;
        Some(page.read(shown.offset, shown.size).known_mask() & shown.mask)
    };
    let known = found.iter().filter_map(known).fold(0, |all, known| all | known);
    known.count_ones().into()
}

fn page(found: &Found, page: Page) -> Option<&vmcb::KnownPage> {
    match page {
        Page::Vmcb => Some(&found.vmcb),
        Page::Vmsa => found.vmsa.as_deref(),
    }
}

/// What was written, as two pages: of each byte its value, where the dump told anything of it.
pub(crate) struct Truth {
    pages: [Box<[Option<u8>; PAGE_SIZE]>; 2],
}

impl Truth {
    pub(crate) fn new(written: &Written) -> Self {
        let mut pages = [(); 2].map(|()| Box::new([None; PAGE_SIZE]));
        for shown in &written.shows {
            let page = &mut pages[usize::from(shown.page == Page::Vmsa)];
            let bytes = shown.value.to_le_bytes();
            let from = usize::from(shown.offset);
            for (place, byte) in page[from..].iter_mut().zip(bytes).take(shown.size.into()) {
                *place = Some(byte);
            }
        }
        Self { pages }
    }

    /// Every bit that is known is as it was written.
    ///
    /// # Errors
    /// Where it is not.
    pub(crate) fn holds(&self, found: &Found) -> Result<(), String> {
        for (which, truth) in [Page::Vmcb, Page::Vmsa].into_iter().zip(&self.pages) {
            let Some(page) = page(found, which) else { continue };
            for (offset, truth) in (0u16..).step_by(8).zip(truth.chunks(8)) {
                let bits = page.read(offset, 8);
                let (known, value) = (bits.known_mask().to_le_bytes(), bits.value().to_le_bytes());
                for (at, ((known, value), truth)) in known.into_iter().zip(value).zip(truth).enumerate() {
                    let same = truth.is_some_and(|truth| truth & known == value & known);
                    if known != 0 && !same {
                        let offset = usize::from(offset) + at;
                        let field = found.seen_at(which, offset as u16);
                        let wrong = format!("{which:?} {offset:#x}: read {value:#x}, written {truth:x?}");
                        return Err(format!("{wrong}; {} at {field:x?}", found.kind));
                    }
                }
            }
        }
        Ok(())
    }
}

/// Writes two dumps into one text, one behind the other or their lines mixed; what is found must be of one of them.
///
/// # Errors
/// What is wrong, with the text.
pub(crate) fn two(seed: u64) -> Result<(), String> {
    let mut random = Random::seeded(seed);
    let [first, second] = [(); 2].map(|()| random.pick(WRITERS));
    let written = [first.1(&mut random), second.1(&mut random)];
    // A part of a hex dump behind another one is the rest of it, as far as anyone can see.
    let same = first.0 == second.0;
    let text = if same && first.0 != "kvm-dump" || random.one_in(2) {
        written[0].text.clone() + "\nand the other one\n" + &written[1].text
    } else {
        interleaved(&written, &mut random)
    };
    let (found, _) = read_all(text.as_bytes());
    let truths = written.each_ref().map(Truth::new);
    for found in &found {
        let wrong: Vec<_> = truths.iter().filter_map(|truth| truth.holds(found).err()).collect();
        if wrong.len() == 2 && (!same || first.0 == "kvm-dump") {
            return Err(format!("{wrong:?}\n{}, {}\n{text}", first.0, second.0));
        }
    }
    Ok(())
}

/// The lines of two dumps, each in its order; now and then one is lost.
fn interleaved(written: &[Written; 2], random: &mut Random) -> String {
    let mut lines = written.each_ref().map(|written| written.text.lines());
    // What a `*` stands for shows only the line after it.
    let stars = written.iter().any(|written| written.text.contains("*\n"));
    let loses = !stars && random.one_in(2);
    // How many lines one prints before the other comes.
    let longest = 1 + random.below(6);
    let mut text = String::new();
    let mut ended = [false; 2];
    while ended != [true; 2] {
        let which = random.below(2) as usize;
        for _ in 0..1 + random.below(longest) {
            match lines[which].next() {
                Some(line) if !(loses && random.one_in(12)) => {
                    // See the list in `damage`.
                    let end =
                        line.rsplit(' ').next().is_some_and(|word| u64::from_str_radix(word, 16).is_ok());
                    if end && text.lines().next_back().is_some_and(|last| last.contains("intercepts:")) {
                        text.push_str("something else\n");
                    }
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
