//! Hex dumps: the output of the real tools, and what people do to it.

use crate::common::{all, error, fixture, marked, one, remarks, seen, value};
use std::fmt::Write;
use vmcb::layout::vmcb_field as f;
use vmcb_dump::{Error, Found, Kind, RemarkKind};

const FIXTURES: [&str; 22] = [
    "hexdump-C.txt",
    "hexdump-Cv.txt",
    "hexdump-x.txt",
    "hexdump.txt",
    "od-Ad-tx1.txt",
    "od-Ax-tx1.txt",
    "od-Ax-tx1z.txt",
    "od-tx1.txt",
    "od-tx2.txt",
    "od-tx4.txt",
    "od-tx8.txt",
    "od-v-Ax-tx4.txt",
    "od-w32-tx1.txt",
    "od-x.txt",
    "od.txt",
    "xxd-a.txt",
    "xxd-c24.txt",
    "xxd-e.txt",
    "xxd-g1.txt",
    "xxd-g8.txt",
    "xxd-u-c10.txt",
    "xxd.txt",
];

fn page() -> [u8; 4096] {
    fixture("page.bin").try_into().expect("4096 bytes")
}

#[test]
fn every_tool() {
    let page = page();
    let raw = one(page);
    assert_eq!(raw.kind, Kind::RawPage);
    for name in FIXTURES {
        let found = one(fixture(name));
        assert_eq!(found.kind, Kind::HexDump, "{name}");
        assert_eq!(found.remarks, [], "{name}");
        assert!(found.vmcb.complete() == Some(&page), "{name}");
        assert_eq!(found.printed_offset, Some(0), "{name}");
        assert_eq!(found.fields.len(), raw.fields.len(), "{name}");
        for (seen, raw) in found.fields.iter().zip(&raw.fields) {
            assert_eq!((seen.name, seen.offset, seen.value), (raw.name, raw.offset, raw.value), "{name}");
        }
    }
}

/// The bytes that the columns of a field show, in the order of the page.
fn shown(found: &Found, name: &str, turned: bool) -> Vec<u8> {
    let digits: String = marked(found, &seen(found, name).place).chars().filter(|c| *c != ' ').collect();
    let mut bytes: Vec<u8> = digits
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect();
    if turned {
        bytes.reverse();
    }
    bytes
}

#[test]
fn places_cover_the_bytes() {
    for (name, turned) in [
        ("hexdump-C.txt", false),
        ("xxd.txt", false),
        ("xxd-g1.txt", false),
        ("xxd-g8.txt", false),
        ("xxd-e.txt", true),
        ("od-tx1.txt", false),
        ("od-tx4.txt", true),
        ("od-tx8.txt", true),
    ] {
        let found = one(fixture(name));
        for field in ["intercept_misc1", "intercept_cr", "guest_asid", "pause_filter_count", "cs.limit"] {
            let seen = seen(&found, field);
            let bytes = seen.value.to_le_bytes();
            assert_eq!(shown(&found, field, turned), bytes[..usize::from(seen.size)], "{name} {field}");
        }
    }
    // A field that goes over the end of its row is shown by its first bytes: rows of 10, one from 078h on.
    let found = one(fixture("xxd-u-c10.txt"));
    let exit = seen(&found, "exitinfo2");
    assert_eq!(exit.offset, 0x80);
    assert_eq!(marked(&found, &exit.place), "0000");
    let octal = one(fixture("od.txt"));
    assert_eq!(marked(&octal, &seen(&octal, "intercept_cr").place), "000020 000420");
}

#[test]
fn raw_pages_have_byte_offsets() {
    let mut two = page().to_vec();
    two.extend(page());
    let found = all(&two);
    assert_eq!(found.len(), 2);
    assert_eq!(seen(&found[1], "guest_asid").place.to_string(), "0x1058");
    assert_eq!(found[1].place.to_string(), "0x1000");
    let reserved = found[0].fields.iter().filter(|seen| seen.name == "reserved").count();
    assert!(reserved > 0, "what is not zero in a reserved range is shown");
    assert!(all([0; 4096])[0].fields.iter().all(|seen| seen.name != "reserved"));
}

/// Rows as `xxd -g1` prints them.
fn xxd(bytes: &[u8], base: u64) -> String {
    let mut out = String::new();
    for (index, row) in bytes.chunks(16).enumerate() {
        let _ = write!(out, "{:08x}:", base + index as u64 * 16);
        for byte in row {
            let _ = write!(out, " {byte:02x}");
        }
        let text: String =
            row.iter().map(|&b| if (0x20..0x7F).contains(&b) { char::from(b) } else { '.' }).collect();
        let _ = writeln!(out, "  {text}");
    }
    out
}

#[test]
fn a_page_at_its_address() {
    let found = one(xxd(&page(), 0x10A000));
    assert_eq!(found.printed_offset, Some(0x10A000));
    assert!(found.vmcb.complete() == Some(&page()));
    let found = one(xxd(&page(), 0x1_0359_4000));
    assert!(found.vmcb.complete() == Some(&page()));
}

#[test]
fn several_pages_and_several_dumps() {
    let mut pages = page().to_vec();
    pages.extend([0xAB; 4096]);
    pages.extend(page());
    let found = all(xxd(&pages, 0));
    assert_eq!(found.len(), 3);
    assert_eq!(found[1].vmcb.complete(), Some(&[0xAB; 4096]));
    assert_eq!(found[2].printed_offset, Some(0x2000));
    assert_eq!(found[2].lines.first().map(|line| line.number), Some(513));

    let twice = xxd(&page(), 0) + "\nand the other one\n\n" + &xxd(&[7; 4096], 0);
    let found = all(twice);
    assert_eq!(found.len(), 2);
    assert!(found[0].vmcb.complete() == Some(&page()) && found[1].vmcb.complete() == Some(&[7; 4096]));

    let mut mixed = fixture("hexdump-C.txt");
    mixed.extend(fixture("od-tx1.txt"));
    mixed.extend(fixture("hexdump.txt"));
    mixed.extend(fixture("od-x.txt"));
    let found = all(mixed);
    assert_eq!(found.len(), 4);
    assert!(found.iter().all(|found| found.vmcb.complete() == Some(&page())));
}

#[test]
fn a_repeated_row_over_several_pages() {
    let text =
        "00000000  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|\n*\n00003000\n";
    let found = all(text);
    assert_eq!(found.len(), 3);
    assert!(found.iter().all(|found| found.vmcb.complete() == Some(&[0; 4096])));
    // One page of zeros by od: octal, since only so it is one page.
    let found = one("0000000 0000 0000 0000 0000 0000 0000 0000 0000\n*\n0010000\n");
    assert!(found.vmcb.complete() == Some(&[0; 4096]));
    let found = one("0000000 0000 0000 0000 0000 0000 0000 0000 0000\n*\n0001000\n");
    assert!(found.vmcb.complete() == Some(&[0; 4096]));
}

#[test]
fn a_hostile_repeat_ends() {
    let text = "00000000: 00\n*\nfffffffffffff000: 00\n";
    let found = all(text);
    assert!(found.len() <= 300, "{}", found.len());
    let last = found.last().unwrap();
    assert!(last.remarks.iter().any(|remark| matches!(remark.kind, RemarkKind::RepeatTooLong { .. })));
    let (found, _) = vmcb_dump::read_all(text.repeat(50).as_bytes());
    assert!(found.len() <= 400, "the pages of all repeats together are limited: {}", found.len());
    let (_, _) = vmcb_dump::read_all(
        b"fffffffffffffff0: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00\nffffffffffffffff: 00 01\n",
    );
}

#[test]
fn what_is_missing_is_unknown() {
    let whole = xxd(&page(), 0);
    let cut: String = whole.lines().take(100).map(|line| format!("{line}\n")).collect();
    let found = one(&cut);
    assert_eq!(remarks(&found), [&RemarkKind::BytesMissing { first: 0x640, count: 4096 - 0x640 }]);
    assert_eq!(value(&found, f::guest_asid), (15, 0xFFFF_FFFF));
    assert_eq!(value(&found, f::g_pat).1, 0);
    // Rows 5 and 6 lost.
    let holed: String = whole
        .lines()
        .enumerate()
        .filter(|(row, _)| !(5..7).contains(row))
        .map(|(_, line)| format!("{line}\n"))
        .collect();
    let found = one(&holed);
    assert_eq!(remarks(&found), [&RemarkKind::BytesMissing { first: 0x50, count: 32 }]);
    assert_eq!(value(&found, f::guest_asid).1, 0);
    assert_eq!(value(&found, f::exitcode), (u64::MAX, u64::MAX));
    // The head scrolled away.
    let tail: String = whole.lines().skip(64).map(|line| format!("{line}\n")).collect();
    let found = one(&tail);
    assert_eq!(remarks(&found), [&RemarkKind::BytesMissing { first: 0, count: 0x400 }]);
    assert_eq!(value(&found, f::cr0).1, u64::MAX);
}

#[test]
fn in_a_log_and_in_a_mail() {
    let whole = xxd(&page(), 0);
    for prefix in
        ["> ", "[   12.345678] ", "Nov 22 10:00:00 host kernel: [   12.345678] ", "<6>[    1.0][ T12] "]
    {
        let logged: String = whole.lines().map(|line| format!("{prefix}{line}\r\n")).collect();
        let found = one(&logged);
        assert!(found.vmcb.complete() == Some(&page()), "{prefix}");
        let asid = seen(&found, "guest_asid");
        assert_eq!(marked(&found, &asid.place), "0f 00 00 00", "{prefix}");
    }
    let between: String = whole
        .lines()
        .enumerate()
        .map(
            |(row, line)| {
                if row % 7 == 3 { format!("{line}\nusb 1-1: new device\n") } else { format!("{line}\n") }
            },
        )
        .collect();
    assert!(one(between).vmcb.complete() == Some(&page()));
}

#[test]
fn eight_and_eight_with_a_colon() {
    let text: String =
        xxd(&page(), 0).lines().map(|line| format!("{}  {}\n", &line[..33], &line[34..])).collect();
    assert!(one(text).vmcb.complete() == Some(&page()));
}

#[test]
fn an_unknown_byte_order_leaves_bytes_unknown() {
    let rows: String =
        (0..256).map(|row| format!("{:08x}: 80000001 00000000 00000000 00000000\n", row * 16)).collect();
    let found = one(rows);
    assert_eq!(remarks(&found), [&RemarkKind::ByteOrderUnknown]);
    assert_eq!(value(&found, f::intercept_cr).1, 0x00FF_FF00, "the bytes that are the same in both orders");
}

#[test]
fn tables_of_numbers_are_no_dump() {
    for text in [
        "00000000 00000000 00000000 00000000\n".repeat(20),
        "2021 10 11 12\n2022 10 11 12\n".repeat(20),
        "deadbeef cafe\n".repeat(20),
        "12:34:56 78 90\n".repeat(20),
        "00000000: 00 11 22 33 44 55 66 77 88 99 aa bb cc dd ee ff\n".to_owned(),
        "1234567: 12 13 14 15 16 17 18 19\n9999999: 12 13 14 15 16 17 18 19\n".to_owned(),
    ] {
        assert!(matches!(error(&text), Error::NothingFound { .. }), "{text}");
    }
}

/// Dumps without offsets, and what is assumed of their groups.
const PLAIN: [(&str, &[RemarkKind]); 6] = [
    ("xxd-p.txt", &[]),
    ("xxd-p-c64.txt", &[]),
    ("od-An-v-tx1.txt", &[]),
    ("od-An-v-tx4.txt", &[RemarkKind::NumbersAssumed]),
    ("od-An-v-tx8.txt", &[RemarkKind::NumbersAssumed]),
    ("od-An-v-x.txt", &[RemarkKind::NumbersAssumed]),
];

#[test]
fn dumps_without_offsets() {
    let page = page();
    for (name, assumed) in PLAIN {
        let text = String::from_utf8(fixture(name)).unwrap();
        let found = one(&text);
        assert_eq!((found.kind, found.printed_offset), (Kind::HexDump, None), "{name}");
        assert!(found.vmcb.complete() == Some(&page), "{name}");
        assert_eq!(remarks(&found), assumed.iter().collect::<Vec<_>>(), "{name}");
        let asid = seen(&found, "guest_asid");
        let digits = marked(&found, &asid.place).replace(' ', "");
        // The rows of 30 bytes break within it.
        assert!(["0f000000", "0000000f", "000f0000", "0f00"].contains(&&*digits), "{name}: {digits}");
        // Two pages, one after the other, and in a log.
        if name != "xxd-p.txt" {
            assert_eq!(all(text.repeat(2)).len(), 2, "{name}");
        }
        let logged: String = text.lines().map(|line| format!("[    1.0] {line}\n")).collect();
        assert!(one(&logged).vmcb.complete() == Some(&page), "{name}");
    }
    // Each page of xxd -p ends with a shorter row, so that the next is a dump of its own.
    let text = String::from_utf8(fixture("xxd-p.txt")).unwrap();
    assert_eq!(all(text.repeat(2)).len(), 2);
}

#[test]
fn without_offsets_a_dump_is_whole_or_nothing() {
    for (name, _) in PLAIN {
        let text = String::from_utf8(fixture(name)).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for lost in [0, 1, 70 % lines.len(), lines.len() - 1] {
            let mut rest = lines.clone();
            rest.remove(lost);
            assert!(matches!(error(rest.join("\n")), Error::NothingFound { .. }), "{name} {lost}");
            let mut between = lines.clone();
            between.insert(lost.max(1), "usb 1-1: new device");
            assert!(matches!(error(between.join("\n")), Error::NothingFound { .. }), "{name} {lost}");
        }
        let cut = &text[..text.trim_end().len() - 1];
        assert!(matches!(error(cut), Error::NothingFound { .. }), "{name}");
    }
    // More than is held, in one piece.
    let row = "0".repeat(64) + "\n";
    assert_eq!(all(row.repeat(128 * 64)).len(), 64);
    assert!(matches!(error(row.repeat(128 * 65)), Error::NothingFound { .. }));
}

#[test]
fn a_nested_state_is_no_page() {
    let mut state = [&[3, 1, 1, 0, 0x80, 0x10, 0, 0][..], &0x12_3000u64.to_le_bytes(), &[0; 112]].concat();
    state.extend(page());
    let found = one(xxd(&state, 0));
    assert_eq!((found.kind, found.vmcb_address), (Kind::KvmNestedState, Some(0x12_3000)));
    assert_eq!(remarks(&found), [&RemarkKind::NestedState { pending: true }]);
    let whole = one(&state);
    assert_eq!(found.vmcb, whole.vmcb);
    let asid = seen(&found, "guest_asid");
    assert_eq!(marked(&found, &asid.place), "0f 00 00 00");
    let found = all(xxd(&[&state[..], &state].concat(), 0));
    assert!(found[1..].iter().all(|found| found.fields.is_empty()));
    assert!(remarks(&found[1]).contains(&&RemarkKind::BehindNestedState));
}

/// A `*` cannot ask for more than the text that was read is worth.
#[test]
fn repeats_are_bounded_by_the_text() {
    for block in [
        "00000000: 00\n*\nfffffffffffff000: 00\n",
        "00000000: 00 11 22 33 44 55 66 77 88 99 aa bb cc dd ee ff\n*\n00002000\n",
    ] {
        let (found, _) = vmcb_dump::read_all(block.repeat(20_000).as_bytes());
        assert!(found.len() <= 1024, "{}", found.len());
        let last = found.last().unwrap();
        assert!(remarks(last).contains(&&RemarkKind::SparsePagesLeftOut), "{:?}", remarks(last));
    }
    // Many dumps that show as much as real ones do are all read.
    let shown: String = xxd(&page(), 0).lines().take(20).map(|line| format!("{line}\n")).collect();
    assert_eq!(all((shown + "*\n00001000\n").repeat(1500)).len(), 1500);
}
