//! Files of results: read, written, merged, compared.

use nsvm_lab::outcome::{Outcome, Seen};
use nsvm_lab::results::{Head, Results, Section, Shards, compare, diff, event_of, events, merge};
use std::collections::BTreeMap;
use vmcb::CpuidEntry;

const SAMPLE: &str = "\
nsvm-results 1

subject: kvm
version: 6.12.48
below: qemu-tcg 11.1.3, cpu max
cpu: max
date: 2026-11-22
set: commit
cases: 9000
cpuid: 8000000a 0 1 10 0 10010001
msr: c0010114 8
note: two runs, the same

invalid\teventinj.long64#604-605,63e-7ff
invalid by: !(save->efer & EFER_SVME)\tsav-efer-svme-clear.clear
killed emulation failure, RIP=0\tlegal.odd
ran\tevt-type-reserved.type-1.ok,evt-type-reserved.type-5.ok
ran\tlegal.long64,legal.pae
took, error\teventinj.long64#1,3

subject: qemu-tcg
version: 7.2.22
cpu: max
date: 2026-11-23
set: commit
cases: 9000
shard: 1,3-4/8

invalid32, exitintinfo\teventinj.long64#604-605
end 2-462
";

fn read(text: &str) -> Results {
    Results::parse("sample", text.as_bytes()).expect(text)
}

/// The error that the sample with one text replaced gives.
fn refusal(from: &str, to: &str) -> String {
    assert!(SAMPLE.contains(from), "{from}");
    match Results::parse("sample", SAMPLE.replacen(from, to, 1).as_bytes()) {
        Ok(_) => panic!("`{to}` in place of `{from}` was accepted"),
        Err(error) => error.to_string(),
    }
}

/// A section of `qemu-tcg 1` with these outcomes.
fn section(outcomes: &[(&str, &str)]) -> Section {
    let head = Head {
        subject: "qemu-tcg".to_owned(),
        version: "1".to_owned(),
        cpu: "max".to_owned(),
        date: "2026-11-22".to_owned(),
        set: "commit".to_owned(),
        cases: 8,
        ..Head::default()
    };
    let outcomes =
        outcomes.iter().map(|(id, token)| ((*id).to_owned(), token.parse().expect(token))).collect();
    Section { head, outcomes }
}

fn shard(number: u32, outcomes: &[(&str, &str)]) -> (String, Results) {
    let mut section = section(outcomes);
    section.head.shard = Some(Shards::one(number, 3));
    section.head.date = format!("2026-11-2{number}");
    section.head.notes = vec![format!("from {number}"), "from all".to_owned()];
    (format!("shard-{number}"), Results { sections: vec![section] })
}

#[test]
fn a_file_comes_back_as_it_went() {
    let results = read(SAMPLE);
    assert_eq!(results.to_text().expect("it can be written"), SAMPLE);
    assert_eq!(results.sections[0].outcomes.len(), 460);
    assert_eq!(results.sections[0].head.cpuid[0].edx, 0x1001_0001);
    assert_eq!(results.sections[0].missing().as_deref(), Some("8540 of 9000 cases are missing"));
    assert_eq!(
        results.sections[1].missing().as_deref(),
        Some("8998 of 9000 cases are missing: shards 2, 5-8 of 8")
    );
    assert_eq!(read(&SAMPLE.replace('\n', "\r\n")), results);
    assert_eq!(read(SAMPLE.trim_end()), results);
    assert_eq!(read("nsvm-results 1\nend 0-0\n"), Results::default());
    assert_eq!(Results::default().to_text().as_deref(), Ok("nsvm-results 1\nend 0-0\n"));
}

#[test]
fn the_last_words_of_a_machine_stay_on_their_line() {
    let mut one = section(&[]);
    one.outcomes.insert("a#1".to_owned(), Outcome::of(Seen::Killed("qemu:\tfatal\r\nRIP=0\n".to_owned())));
    one.head.notes.push("a\nsubject: b".to_owned());
    let text = Results { sections: vec![one.clone()] }.to_text().expect("it can be written");
    assert!(text.contains("\nkilled qemu: fatal  RIP=0 \ta#1\n"), "{text}");
    assert_eq!(read(&text).sections[0].head.notes, ["a subject: b"]);
    // An id that would come back as another one is not written.
    for id in ["", "a,b", "a b", "a\tb", "#1", "a#", "a#01", "a#A", "a#1#2", "a#100000000"] {
        let mut one = one.clone();
        one.outcomes.insert(id.to_owned(), Outcome::of(Seen::Ran));
        assert!(Results { sections: vec![one] }.to_text().is_err(), "{id:?}");
    }
    one.head.date.clear();
    assert!(Results { sections: vec![one] }.to_text().is_err());
}

#[test]
fn errors_name_their_line() {
    for (from, to, error) in [
        ("nsvm-results 1", "nsvm-results 2", "sample:1: version 2 of the format; this nsvm reads version 1"),
        (
            "nsvm-results 1",
            "subject: a",
            "sample:1: this is no file of results: it does not begin with `nsvm-results`",
        ),
        ("subject: kvm\n", "", "sample:3: a section begins with its `subject:`"),
        ("set: commit\n", "", "sample:13: the head of the section above has no `set:`"),
        ("cpu: max\n", "cpu: max\ncpu: max\n", "sample:7: `cpu:` is there twice"),
        ("set: commit", "sets: commit", "sample:8: no line of a head is called `sets`"),
        ("set: commit", "set:", "sample:8: `set:` is empty"),
        ("2026-11-22", "22.11.2026", "sample:7: `22.11.2026` is no date of the form 2026-11-22"),
        ("9000", "1048577", "sample:9: `1048577` is no number of cases; there are at most 1048576"),
        ("9000", "+9", "sample:9: `+9` is no number of cases; there are at most 1048576"),
        ("9000", "3", "sample:14: there are more cases than the 3 of the head"),
        (
            "10010001",
            "1 0",
            "sample:10: `8000000a 0 1 10 0 1 0` is not six numbers of 32 bits, in hexadecimal",
        ),
        ("c0010114 8", "c0010114", "sample:11: `c0010114` is no MSR and its value, in hexadecimal"),
        ("1,3-4/8", "1,3-9/8", "sample:27: `1,3-9/8` is no shard of the form 1/4 or 1-2,4/8"),
        ("1,3-4/8", "0/8", "sample:27: `0/8` is no shard of the form 1/4 or 1-2,4/8"),
        (
            "1,3-4/8",
            "1-4000000000/4000000000",
            "sample:27: `1-4000000000/4000000000` is no shard of the form 1/4 or 1-2,4/8",
        ),
        ("took, error\t", "took error\t", "sample:19: `took error` is no outcome"),
        (
            "took, error\t",
            "took, error ",
            "sample:19: `took, error eventinj.long64#1,3` is neither `name: value` nor `outcome<tab>ids`",
        ),
        ("#1,3", "#1,603,604", "sample:19: case eventinj.long64#604 is there twice"),
        (
            "#1,3",
            "#1,0x3",
            "sample:19: `0x3` is no number of a case: lower hexadecimal, no zero in front, 32 bits",
        ),
        (
            "#1,3",
            "#1,+3",
            "sample:19: `+3` is no number of a case: lower hexadecimal, no zero in front, 32 bits",
        ),
        ("#1,3", "#3-1", "sample:19: the range 3-1 runs backwards"),
        ("#1,3", "#0-ffffffff", "sample:19: there are more cases than the 9000 of the head"),
        ("#1,3", "#800-ffffffff", "sample:19: there are more cases than the 9000 of the head"),
        ("legal.pae", "", "sample:18: `` is no id of a case"),
        ("legal.pae", "legal pae", "sample:18: `legal pae` is no id of a case"),
        ("end 2-462", "end 2-463", "sample:30: the file has 2-462 sections and cases, not 2-463"),
        ("end 2-462", "", "sample:31: the file is truncated: it has no `end` line"),
        ("end 2-462\n", "end 2-462\n\nend 2-462", "sample:32: the file goes on after its `end` line"),
        (
            "took, error\teventinj.long64#1,3\n",
            "note: a",
            "sample:19: `note:` stands below outcomes; a section begins with its `subject:`",
        ),
    ] {
        assert_eq!(refusal(from, to), error);
    }
    let mut bytes = SAMPLE.as_bytes().to_vec();
    bytes[20] = 0xFF;
    let error = Results::parse("sample", &bytes).expect_err("it is not UTF-8").to_string();
    assert_eq!(error, "sample:3: byte 5 of the line is not UTF-8");
    assert!(Results::parse("sample", b"").is_err());
}

/// Every beginning of a file is noticed, but for the one that lacks the last line's end only.
#[test]
fn a_truncated_file_is_no_file() {
    for length in 0..SAMPLE.len() - 1 {
        assert!(Results::parse("sample", &SAMPLE.as_bytes()[..length]).is_err(), "{length}");
    }
}

/// A few bytes name any number of cases, each with a long outcome.
#[test]
fn memory_is_bounded() {
    let head = "version: 1\ncpu: a\ndate: 2026-11-22\nset: a\ncases: 1048576\n";
    let mut text = "nsvm-results 1\n".to_owned();
    for subject in 0..3 {
        text += &format!("subject: {subject}\n{head}ran\ta#0-ffffffff\n");
    }
    let error = Results::parse("big", text.as_bytes()).expect_err("there are too many").to_string();
    assert_eq!(error, "big:8: there are more cases than the 1048576 of the head");
    let two = text.replacen("ffffffff", "ff", 1).replacen("ffffffff", "fffff", 1);
    let error = Results::parse("big", two.as_bytes()).expect_err("there are too many").to_string();
    assert_eq!(error, "big:15: the file tells of too much; split it: at most 1048576 cases");
    let long =
        two.replacen("fffff", "ffff", 1).replace("ran\t", &format!("killed {}\t", "x".repeat(1 << 16)));
    let error = Results::parse("big", long.as_bytes()).expect_err("they are too long").to_string();
    assert_eq!(error, "big:15: the file tells of too much; split it: at most 1048576 cases");
}

/// Whatever happens to a file: an answer, and what is read can be written and read again.
#[test]
fn mutated_files_are_refused_or_read() {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).expect("31 bits") % below
    };
    let (mut read, mut refused) = (0, 0);
    for _ in 0..4000 {
        let mut bytes = SAMPLE.as_bytes().to_vec();
        for _ in 0..=random(3) {
            let at = random(bytes.len());
            match random(4) {
                0 => bytes[at] = b"\n\t#,-: 0f/\xFF"[random(11)],
                1 => drop(bytes.remove(at)),
                2 => {
                    let from = random(bytes.len());
                    let piece = bytes[from..bytes.len().min(from + random(40))].to_vec();
                    drop(bytes.splice(at..at, piece));
                }
                _ => bytes[at] ^= 1 << random(8),
            }
        }
        match Results::parse("mutant", &bytes) {
            Ok(results) => {
                let text = results.to_text().expect("what was read can be written");
                let again = Results::parse("again", text.as_bytes());
                assert!(again == Ok(results), "{}", String::from_utf8_lossy(&bytes));
                read += 1;
            }
            Err(error) => {
                assert!(error.to_string().len() < 400, "{error}");
                refused += 1;
            }
        }
    }
    assert!(read > 100 && refused > 1000, "{read} were read, {refused} refused");
}

fn permutations(parts: &[(String, Results)]) -> Vec<Vec<(String, Results)>> {
    if parts.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let mut rest = parts.to_vec();
        rest.remove(index);
        for mut more in permutations(&rest) {
            more.insert(0, part.clone());
            all.push(more);
        }
    }
    all
}

#[test]
fn shards_become_the_whole_in_whatever_order() {
    let other = {
        let mut one = section(&[("a#0", "invalid")]);
        one.head.version = "2".to_owned();
        ("other".to_owned(), Results { sections: vec![one] })
    };
    let parts = [
        shard(1, &[("a#0", "ran"), ("a#3", "invalid")]),
        shard(2, &[("a#1", "ran"), ("a#4", "hung"), ("a#7", "ran")]),
        shard(3, &[("a#2", "ran"), ("a#5", "ran"), ("a#6", "ran")]),
        other,
    ];
    let mut texts: Vec<_> = permutations(&parts)
        .into_iter()
        .map(|parts| merge(parts).expect("they fit").to_text().expect("it can be written"))
        .collect();
    assert_eq!(texts.len(), 24);
    texts.dedup();
    assert_eq!(texts.len(), 1);
    let whole = read(&texts[0]);
    assert_eq!(whole.sections.len(), 2);
    let head = &whole.sections[0].head;
    assert_eq!((head.shard.as_ref(), head.date.as_str()), (None, "2026-11-23"));
    assert_eq!(head.notes, ["from 1", "from 2", "from 3", "from all"]);
    assert_eq!(whole.sections[0].missing(), None);
    assert_eq!(whole.sections[1].missing().as_deref(), Some("7 of 8 cases are missing"));

    // Step by step it comes out the same, and says on the way what is missing.
    let two = merge([parts[2].clone(), parts[0].clone()]).expect("they fit");
    assert_eq!(two.sections[0].missing().as_deref(), Some("3 of 8 cases are missing: shards 2 of 3"));
    let rest = merge([parts[3].clone(), parts[1].clone()]).expect("they fit");
    let again = merge([("b".to_owned(), rest), ("a".to_owned(), two.clone()), ("c".to_owned(), two)]);
    assert_eq!(again, Ok(whole));
}

#[test]
fn contradictions_are_named_in_whatever_order() {
    let parts = [
        shard(1, &[("a#0", "ran")]),
        shard(2, &[("a#0", "invalid"), ("a#1", "ran")]),
        shard(3, &[("a#1", "hung")]),
    ];
    for parts in permutations(&parts) {
        let error = merge(parts).expect_err("they contradict each other").to_string();
        assert_eq!(
            error,
            "qemu-tcg 1: case a#0: `ran` in shard-1, `invalid` in shard-2; run one of them again, or do not merge them"
        );
    }
    let change = |change: fn(&mut Head)| {
        let mut part = shard(2, &[]);
        change(&mut part.1.sections[0].head);
        let mut first = shard(1, &[]);
        first.1.sections[0].head.cpuid = vec![CpuidEntry { leaf: 1, eax: 2, ..CpuidEntry::default() }];
        first.1.sections[0].head.msrs = vec![(0x10, 1)];
        merge([first, part]).map(|results| results.sections.len()).map_err(|error| error.to_string())
    };
    assert_eq!(change(|_| ()), Ok(1));
    assert_eq!(change(|head| head.below = Some("kvm 6.1".to_owned())), Ok(2));
    let error = change(|head| head.cases = 9).expect_err("other cases");
    assert!(error.starts_with("qemu-tcg 1: number of cases: `8` in shard-1, `9` in shard-2;"), "{error}");
    let error = change(|head| head.cpuid = vec![CpuidEntry::default()]).expect_err("another CPU");
    assert!(error.contains("CPUID: `1 0 2 0 0 0` in shard-1, `0 0 0 0 0 0` in shard-2"), "{error}");
    let error = change(|head| head.msrs = vec![(0x10, 1), (0x11, 1)]).expect_err("another CPU");
    assert!(error.contains("MSRs: `nothing more` in shard-1, `11 1` in shard-2"), "{error}");
}

/// Two kernels over the EVENTINJ space: the exact set of events whose answer changed.
#[test]
fn a_diff_names_the_events_whose_answer_changed() {
    let events = |version: &str, refuses: &dyn Fn(u8, u8) -> bool| {
        let mut outcomes = BTreeMap::new();
        for number in 0..1 << 13 {
            let id = format!("eventinj.long64#{number:x}");
            let event = event_of(&id).expect("it is one");
            let refused = event.valid && refuses(event.kind, event.vector);
            let token = if refused { "invalid" } else { "took" };
            outcomes.insert(id, token.parse::<Outcome>().expect(token));
        }
        let mut section = section(&[]);
        section.head.version = version.to_owned();
        section.head.cases = 1 << 13;
        section.outcomes = outcomes;
        section
    };
    let old = |kind: u8, vector: u8| matches!(kind, 1 | 5..=7) || kind == 3 && (vector == 2 || vector > 30);
    let mut new = events("2", &|kind, vector| {
        old(kind, vector) || kind == 3 && matches!(vector, 9 | 15 | 20..=27 | 29)
    });
    let old = events("1", &old);
    // One with EV = 1 only, one detail, one that is gone, one that is new.
    new.outcomes.insert("eventinj.long64#1801".to_owned(), "hung".parse().expect("hung"));
    new.outcomes.insert("eventinj.long64#1".to_owned(), "took, error".parse().expect("took"));
    new.outcomes.remove("eventinj.long64#0");
    new.outcomes.insert("legal.a".to_owned(), "ran".parse().expect("ran"));
    let found = compare(&old, &new);
    assert_eq!(
        found.to_string(),
        "\
qemu-tcg 1 -> qemu-tcg 2
  another answer: 23 cases
    accepted -> broken: 1 cases
      eventinj.long64#1801
      TYPE 4 EV 1 only: vector 0
    accepted -> refused (VMEXIT_INVALID): 22 cases
      eventinj.long64#1612-1613,161e-161f,1628-1637,163a-163b
      TYPE 3: vectors 9, 15, 20-27, 29
  the same answer, another outcome: 1 cases
    `took` -> `took, error`: 1 cases
      eventinj.long64#1
  only in the old results: 1 cases
    eventinj.long64#0
  only in the new results: 1 cases
    legal.a
  the same: 8167 cases
"
    );
    // What is named unstable is counted and not listed.
    let mut aside = found.clone();
    aside.set_aside(|id| id.starts_with("eventinj."));
    assert_eq!((aside.unstable, aside.answers.len(), aside.details.len()), (24, 0, 0));
    assert!(aside.to_string().contains("\n  24 cases named unstable differ\n"), "{aside}");
    assert!(!aside.is_empty(), "cases that one side lacks are still there");
    // Other versions are other subjects, unless the caller says what to compare.
    let (old, new) = (Results { sections: vec![old] }, Results { sections: vec![new] });
    let found = diff(&old, &new);
    assert_eq!(
        (found.only_old, found.only_new),
        (vec!["qemu-tcg 1".to_owned()], vec!["qemu-tcg 2".to_owned()])
    );
    assert!(found.sections.is_empty());
    assert!(diff(&old, &old).is_empty());
}

#[test]
fn a_diff_finds_the_same_stack_first() {
    let on = |below: &str, token: &str| {
        let mut one = section(&[("a#0", token)]);
        one.head.below = Some(below.to_owned());
        one
    };
    let old = Results { sections: vec![on("x", "ran"), on("y", "invalid")] };
    let new = Results { sections: vec![on("y", "invalid"), on("x", "ran")] };
    assert!(diff(&old, &new).is_empty());
    let new = Results { sections: vec![on("z", "ran"), on("y", "invalid")] };
    assert!(diff(&old, &new).is_empty());
    assert_eq!(diff(&old, &new).sections[0].new, "qemu-tcg 1 on z");
}

#[test]
fn sets_of_events_are_short() {
    let ids = |bases: &[&str], wanted: &dyn Fn(bool, u8, u8, bool) -> bool| -> Vec<String> {
        let mut ids = Vec::new();
        for base in bases {
            for number in 0..1 << 13 {
                let id = format!("eventinj.{base}#{number:x}");
                let event = event_of(&id).expect("it is one");
                if wanted(event.valid, event.kind, event.vector, event.error) {
                    ids.push(id);
                }
            }
        }
        ids
    };
    let lines = |ids: Vec<String>| events(ids.iter().map(String::as_str));
    assert_eq!(
        lines(ids(&["a", "b"], &|v, kind, vector, ev| match kind {
            3 => v && (vector < 3 || vector == 9 && ev),
            _ => v || vector == 255,
        })),
        [
            "TYPE 0-2, 4-7: vectors 0-255",
            "TYPE 3: vectors 0-2",
            "TYPE 3 EV 1 only: vector 9",
            "V 0 TYPE 0-2, 4-7: vector 255"
        ]
    );
    let mut two = ids(&["a"], &|v, kind, vector, _| v && kind == 3 && vector == 1);
    two.extend(ids(&["b", "c"], &|v, kind, vector, _| v && kind == 3 && vector == 2));
    assert_eq!(lines(two), ["TYPE 3: vector 1 (a)", "TYPE 3: vector 2 (b, c)"]);
    assert_eq!(lines(vec!["flip.cr4#1".to_owned()]), [""; 0]);
}

#[test]
fn ids_of_events_are_read() {
    let event = event_of("eventinj.prot32#161b").expect("it is one");
    assert_eq!(
        (event.base, event.valid, event.kind, event.vector, event.error),
        ("prot32", true, 3, 13, true)
    );
    for id in ["eventinj.prot32#2000", "eventinj.prot32", "eventinj#1", "flip.long64#1", "eventinj.a#01"] {
        assert_eq!(event_of(id), None, "{id}");
    }
}
