//! Predictions of pages that are known in part.

use crate::guest::{LONG64, environment, layer, page};
use vmcb::layout::{Field, vmcb_field as field};
use vmcb::{Cpu, KnownPage, Limits, Phase, Policy};
use vmcb_implementations::{Answer, Evidence, Implementation, Layer, Says, TABLE, predict, predict_known};

/// PDPTEs of a guest with PAE paging, of which the first is present.
const PDPTES: [u64; 4] = [0x4067, 0, 0, 0];

fn limits(cpu: &str) -> Limits {
    Limits::compile(&Cpu::parse(cpu).expect("a CPU"), Policy::VirtualCpu)
}

/// A generator of numbers; the same ones in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// The fields that some check reads.
const READ: [Field; 18] = [
    field::intercept_misc1,
    field::intercept_misc2,
    field::guest_asid,
    field::tlb_control,
    field::int_ctl,
    field::iopm_base_pa,
    field::msrpm_base_pa,
    field::nested_ctl,
    field::n_cr3,
    field::g_pat,
    field::eventinj,
    field::efer,
    field::cr0,
    field::cr3,
    field::cr4,
    field::cs,
    field::dr6,
    field::dr7,
];

/// A page near the legal one: some fields with a bit or two turned, an event, an address near an edge.
fn any_page(random: &mut Random) -> [u8; 4096] {
    let mut changes = Vec::new();
    for _ in 0..random.below(4) {
        let at = READ[random.below(READ.len() as u64) as usize];
        let legal = LONG64.iter().find(|(of, _)| *of == at).map_or(0, |(_, value)| *value);
        let value = match random.below(4) {
            _ if at == field::eventinj => 0x8000_0000 | random.below(0x1000),
            0 => (1 << 40) - 0x1000 * random.below(5),
            1 => legal ^ 1 << random.below(64) ^ 1 << random.below(64),
            _ => legal ^ 1 << random.below(64),
        };
        changes.push((at, value));
    }
    page(&changes)
}

fn stacks(limits: &Limits) -> Vec<Vec<Layer<'_>>> {
    let mut stacks: Vec<Vec<Layer<'_>>> = vec![
        vec![layer(Implementation::Kvm, "7.2.13", limits), layer(Implementation::QemuTcg, "7.2.22", limits)],
        vec![layer(Implementation::Kvm, "6.1.170", limits), layer(Implementation::Bochs, "3.1", limits)],
        vec![layer(Implementation::Kvm, "6.1", limits), Layer::hardware(limits)],
        vec![layer(Implementation::Kvm, "6.5", limits).with_memory(64 << 20)],
        vec![Layer::hardware(limits)],
    ];
    for of in Implementation::ALL {
        stacks.push(vec![Layer::new(of, of.newest().expect("the table has a version"), limits)]);
    }
    stacks
}

#[test]
fn a_page_that_is_known_as_a_whole_is_predicted_alike() {
    let (random, environment) = (&mut Random(7), environment(PDPTES));
    for cpu in ["EPYC-Milan,phys-bits=40,+lmsle-unsupported", "any"] {
        let limits = limits(cpu);
        for _ in 0..200 {
            let page = any_page(random);
            for stack in stacks(&limits) {
                let whole = predict(&stack, &page, &environment).answer;
                let known = predict_known(&stack, &KnownPage::all(&page), Phase::Before, &environment).answer;
                assert_eq!(whole, known, "{}", stack[0].title());
            }
        }
    }
}

/// A page of which the bits of some fields are forgotten, and completions of it.
#[test]
fn an_answer_holds_for_every_completion() {
    let (random, environment) = (&mut Random(11), environment(PDPTES));
    let limits = limits("EPYC-Milan,phys-bits=40,+lmsle-unsupported");
    let (mut decided, mut open) = (0, 0);
    for _ in 0..300 {
        let page = any_page(random);
        let mut known = KnownPage::all(&page);
        let mut unknown: Vec<(Field, u64)> = Vec::new();
        for _ in 0..=random.below(3) {
            let at = READ[random.below(READ.len() as u64) as usize];
            let mask = if random.below(2) == 0 { u64::MAX } else { random.next() & random.next() };
            let value = known.field(at).value();
            known.forget(at.offset, at.size.min(8));
            known.learn(at.offset, at.size.min(8), value, !mask);
            unknown.push((at, mask));
        }
        for stack in stacks(&limits) {
            let answer = predict_known(&stack, &known, Phase::Before, &environment).answer;
            if matches!(answer, Answer::Unknown { .. }) {
                open += 1;
                continue;
            }
            decided += 1;
            for _ in 0..8 {
                let mut complete = page;
                for &(at, mask) in &unknown {
                    let (start, size) = (usize::from(at.offset), usize::from(at.size).min(8));
                    let bytes = (random.next() & mask).to_le_bytes().into_iter().zip(mask.to_le_bytes());
                    for (byte, (value, mask)) in complete[start..start + size].iter_mut().zip(bytes) {
                        *byte = *byte & !mask | value;
                    }
                }
                let whole = predict(&stack, &complete, &environment).answer;
                match (&answer, &whole) {
                    (Answer::Accepts, Answer::Accepts) => {}
                    // A rule more may be broken, and one layer up it may be refused already.
                    (Answer::Refuses { by, .. }, Answer::Refuses { by: more, .. }) => {
                        let faults = more.iter().all(|id| id.starts_with("pre-"));
                        assert!(
                            faults || by.iter().any(|id| more.contains(id)) || stack.len() > 1,
                            "{by:?} {more:?}"
                        );
                    }
                    (Answer::Stops { .. }, Answer::Stops { .. } | Answer::Refuses { .. }) => {}
                    _ => panic!("{}: {answer} became {whole}", stack[0].title()),
                }
            }
        }
    }
    assert!(decided > 500 && open > 500, "both happen: {decided} decided, {open} open");
}

/// Of a VMCB of which only this is known: what matters is unknown, what does not matter is not.
#[test]
fn one_field_is_enough_to_refuse() {
    let limits = limits("EPYC-Milan,phys-bits=40");
    let kvm =
        [layer(Implementation::Kvm, "7.2.13", &limits), layer(Implementation::QemuTcg, "7.2.22", &limits)];
    let mut known = KnownPage::nothing();
    let answer = |known: &KnownPage| predict_known(&kvm, known, Phase::Before, &environment(PDPTES)).answer;
    assert!(matches!(answer(&known), Answer::Unknown { .. }));
    known.learn(field::guest_asid.offset, 4, 0, u64::MAX);
    assert_eq!(answer(&known), Answer::Refuses { by: vec!["ctl-asid-zero"], layer: Some(0) });
    // VECTOR and TYPE without V decide nothing.
    let mut known = KnownPage::all(&page(&[]));
    known.forget(field::eventinj.offset, 8);
    known.learn(field::eventinj.offset, 8, 0x302, 0x7FF);
    let Answer::Unknown { why } = answer(&known) else { panic!("V decides") };
    assert!(why[0].starts_with("evt-exc-vector-2: not decided"), "{why:?}");
    known.learn(field::eventinj.offset, 8, 0, 1 << 31);
    assert_eq!(answer(&known), Answer::Accepts);
}

/// #VMEXIT clears EVENTINJ.V, so what stands there then says nothing; where VMRUN refused, EXITINTINFO may have it.
#[test]
fn after_vmexit_the_event_is_where_the_rulebook_reads_it() {
    let limits = limits("EPYC-Milan,phys-bits=40");
    let qemu = [layer(Implementation::QemuTcg, "7.2.22", &limits)];
    let ask = |changes: &[(Field, u64)], phase| {
        predict_known(&qemu, &KnownPage::all(&page(changes)), phase, &environment(PDPTES)).answer
    };
    let cleared = [(field::eventinj, 0x302)];
    assert_eq!(ask(&cleared, Phase::Before), Answer::Accepts);
    assert!(matches!(ask(&cleared, Phase::After), Answer::Unknown { .. }));
    let refused = [(field::exitcode, u64::MAX), (field::exitintinfo, 0x8000_0302)];
    let by = vec!["evt-exc-vector-2"];
    assert_eq!(ask(&refused, Phase::After), Answer::Refuses { by, layer: Some(0) });
}

/// Nothing was measured on silicon: the manual is quoted, and is no answer.
#[test]
fn hardware_is_asked_of_the_manual() {
    let limits = limits("EPYC-Milan,phys-bits=40,+lmsle-unsupported");
    let old = [layer(Implementation::Kvm, "6.1.170", &limits), Layer::hardware(&limits)];
    assert_eq!(predict(&old, &page(&[]), &environment(PDPTES)).answer, Answer::Accepts);
    let vector_2 = page(&[(field::eventinj, 0x8000_0302)]);
    let Answer::Unknown { why } = predict(&old, &vector_2, &environment(PDPTES)).answer else {
        panic!("this KVM hands EVENTINJ on");
    };
    assert_eq!(
        why,
        ["evt-exc-vector-2: the manual says that VMRUN refuses it, and no hardware was measured"]
    );
    let new = [layer(Implementation::Kvm, "7.2.13", &limits), Layer::hardware(&limits)];
    let refused = predict(&new, &vector_2, &environment(PDPTES)).answer;
    assert_eq!(refused, Answer::Refuses { by: vec!["evt-exc-vector-2"], layer: Some(0) });
    // The ASID of VMCB02 is KVM's, and alone the manual has it.
    let asid = page(&[(field::guest_asid, 0)]);
    let alone = predict(&[Layer::hardware(&limits)], &asid, &environment(PDPTES)).answer;
    assert!(matches!(alone, Answer::Unknown { why } if why[0].starts_with("ctl-asid-zero: the manual says")));
}

/// Each answer says what it rests on.
#[test]
fn grounds_are_rows_of_the_table() {
    let limits = limits("EPYC-Milan,phys-bits=40");
    let kvm =
        [layer(Implementation::Kvm, "6.1.170", &limits), layer(Implementation::QemuTcg, "7.2.22", &limits)];
    let vector_9 = page(&[(field::eventinj, 0x8000_0309)]);
    let prediction = predict(&kvm, &vector_9, &environment(PDPTES));
    assert_eq!(prediction.answer, Answer::Accepts);
    let seen: Vec<_> =
        prediction.grounds.iter().map(|ground| (ground.layer, ground.id, ground.says)).collect();
    assert_eq!(seen, [(0, "evt-exc-vector-9", Says::LetsPass), (1, "evt-exc-vector-9", Says::LetsPass)]);
    for ground in &prediction.grounds {
        assert!(matches!(ground.row.expect("a row").evidence, Evidence::Measured { date: "2026-11-24", .. }));
    }
    assert!(predict(&kvm, &page(&[]), &environment(PDPTES)).grounds.is_empty());
    // A version that nobody looked at has no row.
    let bochs = [layer(Implementation::Bochs, "2.8", &limits)];
    let prediction = predict(&bochs, &vector_9, &environment(PDPTES));
    assert!(prediction.grounds.iter().all(|ground| ground.says == Says::Unknown && ground.row.is_none()));
    assert!(!prediction.grounds.is_empty());
}

#[test]
fn the_table_knows_versions_and_what_ran_below() {
    let newest = |of: Implementation| of.newest().expect("a version").to_string();
    assert_eq!(newest(Implementation::Kvm), "7.3.4");
    assert_eq!(newest(Implementation::Bochs), "3.1");
    assert_eq!(newest(Implementation::QemuTcg), "11.1.3");
    assert_eq!(newest(Implementation::Xen), "git:c447b7308b13");
    assert_eq!(Implementation::Bochs.versions(), ["2.7", "3.0", "3.1"]);
    for row in TABLE {
        if let Evidence::Measured { below, .. } = row.evidence {
            assert_eq!(row.evidence.below().is_some(), !below.is_empty(), "{row:?}");
        }
    }
}
