//! Inputs that are broken or made to break the readers.

use crate::common;
use crate::common::{READ, all, check, error, fixture, one, sample};
use std::io::{BufReader, Read};
use vmcb_dump::{Error, Kind, Reader, RemarkKind, read_all};

#[test]
fn sizes() {
    assert!(matches!(error([]), Error::Empty));
    for size in [1, 3, 4095] {
        let message = error(vec![0; size]).to_string();
        assert!(message.contains(&format!("has {size}, ")), "{message}");
        assert!(message.contains(&format!("lacks {}", 4096 - size)), "{message}");
    }
    let (found, error) = read_all(&[0; 4097]);
    assert_eq!(found.len(), 1);
    let message = error.expect("an error").to_string();
    assert!(message.contains("page 2 has 1 and lacks 4095"), "{message}");
    assert_eq!(all([0; 8192]).len(), 2);
    let gzip = [&[0x1F, 0x8B, 0x08, 0][..], &[0x99; 100]].concat();
    assert!(common::error(gzip).to_string().contains("gzip"));
}

#[test]
fn texts_without_a_vmcb() {
    match error("abc") {
        Error::NothingFound { lines: 1, bytes: 3 } => {}
        other => panic!("{other:?}"),
    }
    assert!(error("abc").to_string().contains("4096 bytes"));
    assert!(error("\n\n \n").to_string().contains("3 lines (4 bytes"));
    for text in [
        "VMCB",
        "kvm_nested_vmenter",
        "kvm_nested_vmenter:",
        "kvm_nested_",
        "*",
        "0",
        "00000000: ",
        "00000000",
        "[",
        "<3",
        "\u{1b}[",
        "SVM:",
        "SVM: \n:\n::\n",
        "kernel: ",
        "asid:",
        "es:   s:",
    ] {
        let (found, error) = read_all(text.as_bytes());
        assert!(found.is_empty() && error.is_some(), "{text:?}: {found:?}");
    }
}

#[test]
fn encodings() {
    let text = "VMCB Control Area:\nasid:               15\n";
    let low: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let high: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
    for bytes in [low.clone(), high, [&[0xFF, 0xFE][..], &low].concat()] {
        assert!(matches!(error(bytes), Error::Utf16));
    }
    // Some NUL and broken bytes do not make a log binary.
    let mut log = sample(READ[1]).into_bytes();
    log.splice(5..5, [0, 0xFF, 0xC3, 0x28, 0]);
    let last = log.len() - 3000;
    log.insert(last, 0xFF);
    assert_eq!(one(&log).kind, Kind::KvmDump);
    // A page that begins like a byte order mark is a page.
    let mut page = [0; 4096];
    page[..2].copy_from_slice(&[0xFF, 0xFE]);
    assert_eq!(one(page).kind, Kind::RawPage);
    // A random page, as encrypted memory is.
    let mut random = Random(5);
    let page: Vec<u8> = (0..4096).map(|_| random.next() as u8).collect();
    assert_eq!(one(page).kind, Kind::RawPage);
}

/// xorshift64*: the same inputs in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next()).unwrap_or(0) % end
    }
}

/// Every prefix of a dump gives what was readable, and no field another value than the whole gives.
#[test]
fn cut_anywhere() {
    for name in &READ[..4] {
        let whole = sample(name);
        let reference = one(&whole);
        for end in 0..whole.len() {
            if !whole.is_char_boundary(end) {
                continue;
            }
            let (found, error) = read_all(&whole.as_bytes()[..end]);
            check(&found);
            assert_eq!(found.is_empty(), error.is_some(), "{name} cut at {end}");
            assert!(found.len() <= 1);
            let Some(found) = found.first() else {
                continue;
            };
            for seen in &found.fields {
                // Until the labels of a VMSA come, the header says that it is one; so pages agree.
                let page = if seen.page == vmcb::layout::Page::Vmcb {
                    &reference.vmcb
                } else {
                    reference.vmsa.as_ref().unwrap()
                };
                let bits = page.read(seen.offset, seen.size);
                assert_eq!(bits.known_mask() & seen.mask, seen.mask, "{name} cut at {end}: {}", seen.name);
                assert_eq!(bits.value() & seen.mask, seen.value, "{name} cut at {end}: {}", seen.name);
            }
            // Whole lines before the cut are all there.
            assert!(found.remarks.len() <= 4, "{name} cut at {end}: {:?}", found.remarks);
        }
    }
}

#[test]
fn cut_at_the_head() {
    for name in READ {
        let whole = sample(name);
        let reference: Vec<_> = all(&whole);
        for start in (0..whole.len()).filter(|&start| whole.is_char_boundary(start)).step_by(7) {
            let (found, _) = read_all(&whole.as_bytes()[start..]);
            check(&found);
            assert!(found.len() <= reference.len(), "{name} from {start}");
        }
    }
}

#[test]
fn traces_cut_anywhere() {
    for name in &READ[4..] {
        let whole = sample(name);
        let reference = all(&whole);
        for end in (0..whole.len()).step_by(5) {
            let (found, _) = read_all(&whole.as_bytes()[..end]);
            check(&found);
            assert!(found.len() <= reference.len());
            for (found, reference) in found.iter().zip(&reference) {
                for seen in &found.fields {
                    assert!(
                        reference.fields.iter().any(|other| (other.name, other.value, other.mask)
                            == (seen.name, seen.value, seen.mask)),
                        "{name} cut at {end}: {seen:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn hex_dumps_cut_anywhere() {
    let page = fixture("page.bin");
    for name in ["hexdump-C.txt", "od-tx8.txt", "od-x.txt", "xxd-e.txt", "xxd.txt"] {
        let whole = fixture(name);
        for end in (0..whole.len()).step_by(whole.len() / 600) {
            let (found, error) = read_all(&whole[..end]);
            check(&found);
            assert!(found.len() <= 1 && found.is_empty() == error.is_some(), "{name} cut at {end}");
            for seen in found.iter().flat_map(|found| &found.fields) {
                // In a row that is cut a group may be short: such rows are left out, so all agrees, but
                // for a row that ends exactly after a group.
                let from = usize::from(seen.offset);
                let mut bytes = [0; 8];
                bytes[..usize::from(seen.size)].copy_from_slice(&page[from..from + usize::from(seen.size)]);
                assert_eq!(
                    u64::from_le_bytes(bytes) & seen.mask,
                    seen.value,
                    "{name} cut at {end}: {seen:?}"
                );
            }
        }
    }
}

#[test]
fn mutated() {
    let mut random = Random(0x5EED);
    let mut inputs: Vec<Vec<u8>> = READ.iter().map(|name| sample(name).into_bytes()).collect();
    inputs.extend(["hexdump-C.txt", "od-tx4.txt", "xxd-c24.txt", "xxd-e.txt", "od.txt"].map(fixture));
    inputs.push(sample("qemu-register-dump-prot32.txt").into_bytes());
    let pieces: [&[u8]; 13] = [
        b"\n",
        b":",
        b"kvm_amd: ",
        b"00000000: ",
        b"*\n",
        b"\xFF",
        b"\0",
        b"=\n",
        b"b: ",
        b"0x",
        b"cr_read:",
        b"kvm_nested_vmenter: ",
        b" = 0x",
    ];
    for round in 0..1500 {
        let mut input = inputs[round % inputs.len()].clone();
        for _ in 0..1 + random.below(20) {
            let at = random.below(input.len());
            match random.below(6) {
                0 => input[at] = random.next() as u8,
                1 => input[at] ^= 1 << random.below(8),
                2 => drop(input.remove(at)),
                3 => {
                    let piece = pieces[random.below(pieces.len())];
                    input.splice(at..at, piece.iter().copied());
                }
                4 => {
                    let end = (at + random.below(200)).min(input.len());
                    drop(input.drain(at..end));
                }
                _ => {
                    let end = (at + random.below(300)).min(input.len());
                    let copy = input[at..end].to_vec();
                    let to = random.below(input.len());
                    input.splice(to..to, copy);
                }
            }
            if input.is_empty() {
                break;
            }
        }
        let (found, error) = read_all(&input);
        check(&found);
        if let Some(error) = error {
            assert!(!error.to_string().is_empty());
        }
    }
}

/// Repeats a block until so many bytes were read.
struct Repeat {
    block: Vec<u8>,
    at: usize,
    left: u64,
}

impl Repeat {
    fn new(block: &[u8], bytes: u64) -> BufReader<Self> {
        BufReader::new(Self { block: block.to_vec(), at: 0, left: bytes })
    }
}

impl Read for Repeat {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let rest = &self.block[self.at..];
        let count = rest.len().min(buffer.len()).min(usize::try_from(self.left).unwrap_or(usize::MAX));
        buffer[..count].copy_from_slice(&rest[..count]);
        self.at = (self.at + count) % self.block.len();
        self.left -= count as u64;
        Ok(count)
    }
}

#[test]
fn one_endless_line() {
    let line = b"kvm_amd: asid:               15 and so on 00 11 22 ";
    let mut found = Vec::new();
    for item in Reader::new(Repeat::new(line, 50_000_000)) {
        found.push(item.expect("it is one field"));
    }
    assert_eq!(found.len(), 1);
    assert!(found[0].remarks.iter().any(|remark| remark.kind == RemarkKind::LineTooLong));
    assert!(found[0].lines[0].text.len() <= 64 * 1024);
}

#[test]
fn much_junk() {
    let junk =
        b"Nov 22 10:00:00 host kernel: [   12.3] usb 1-1: rip: 0x12 deadbeef cafe\n0 1 2 3\n\xFF\xFE\n";
    match Reader::new(Repeat::new(junk, 20_000_000)).next() {
        Some(Err(Error::NothingFound { bytes: 20_000_000, .. })) => {}
        other => panic!("{other:?}"),
    }
}

/// What is kept of one VMCB is bounded, however many lines belong to it.
#[test]
fn floods() {
    for block in [
        &b"kvm_amd: asid:               15\n"[..],
        b"kvm_amd: asid:               x\n",
        b"kvm_amd: new_label:          15\n",
        b"kvm_amd: cr_read:            0010\n",
        b"kvm_amd: es:   s: 0010 a: 0c93 l: ffffffff b: 0000000000000000 s: 1\n",
        b"00000000: 00 11 22 33 44 55 66 77 88 99 aa bb cc dd ee ff\n",
        b"kvm_nested_vmenter: int_ctl: 0x00000001 int_ctl: 0x00000002 int_ctl: 0x00000002\n",
        b"kvm_nested_intercepts: cr_read: 0010\n",
        b"VMCB Control Area:\n",
        b"VMCB State Save Area:\n",
        b"*\n",
        b"cr_intercepts = 0x1\n",
        b"cr_intercepts = 0x1 dr_intercepts =\n",
        b"np_ctrl = 0x1: NP NP NP SEV\n",
        b"(XEN)   CS: 0010 029b\n",
        b"(XEN) VCPU 0\n(XEN) cr_intercepts = 0x1\n",
        b"(XEN) d1v0[f]: EFER: SVME bit not set (0x1)\n",
        b"(XEN) d1v0[f]: CR0: CD bit is zero and NW bit set (0x1)\n(XEN) n2vmcb invalid\n",
    ] {
        let mut reader =
            Reader::new(Repeat::new(&[b"kvm_amd: asid:               15\n", block].concat(), 200_000));
        for found in reader.by_ref().take(20_000).flatten() {
            check(std::slice::from_ref(&found));
            assert!(found.fields.len() <= 1024 && found.lines.len() <= 4200 && found.remarks.len() <= 66);
            let text: usize = found.lines.iter().map(|line| line.text.len()).sum();
            assert!(text <= 1 << 20);
        }
    }
    let mut block = b"kvm_amd: asid:               15\n".to_vec();
    block.extend(b"kvm_amd: unknown_one:        15\n".repeat(5000));
    let found = one(&block);
    assert!(
        found
            .remarks
            .iter()
            .any(|remark| matches!(remark.kind, RemarkKind::RemarksNotKept { count } if count > 4900))
    );
    assert!(
        found.remarks.iter().any(|remark| matches!(remark.kind, RemarkKind::LinesNotKept { count: 801 }))
    );
}

#[test]
fn an_error_of_the_input_ends_it() {
    struct Broken(usize);
    impl Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0 += 1;
            if self.0 > 5 {
                return Err(std::io::Error::other("gone"));
            }
            let text = b"kvm_amd: asid:               15\n".repeat(100);
            buffer[..text.len()].copy_from_slice(&text);
            Ok(text.len())
        }
    }
    let mut reader = Reader::new(BufReader::new(Broken(0)));
    let items: Vec<_> = reader.by_ref().collect();
    let (last, before) = items.split_last().expect("an error at least");
    assert!(matches!(last, Err(Error::Io(_))));
    assert!(!before.is_empty() && before.iter().all(Result::is_ok), "what was read before");
    assert!(reader.next().is_none());
    let directory = std::fs::File::open(env!("CARGO_MANIFEST_DIR")).expect("it opens");
    assert!(matches!(Reader::new(BufReader::new(directory)).next(), Some(Err(Error::Io(_)))));
}
