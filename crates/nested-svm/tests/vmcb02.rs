//! What of VMCB12 reaches VMCB02: against lists that are written here once more, as offsets and masks.

use nested_svm::model::{HOST, L1_TABLES, Machine, SHADOW_ON_HOST, Step, VMCB12, limits};
use nested_svm::{Exit, Guest, Host, Page};
use std::sync::LazyLock;
use vmcb::Limits;
use vmcb::layout::vmcb_field as f;

/// Every feature that the engine gives, and shadow stacks.
const ALL: &str = "EPYC-Milan-v3,phys-bits=48,-v-vmsave-vmload,+shstk,+decodeassists,+vnmi,+pfthreshold";
/// Nested paging and nothing else of SVM.
const FEW: &str =
    "EPYC,phys-bits=48,-nrip-save,-lbrv,-pause-filter,-vgif,-decodeassists,-flushbyasid,-vmcb-clean";

/// A rule for 8 bytes of the VMCB at an offset: the bits of VMCB12 that may reach the same place of VMCB02.
type Row = (usize, u64);

const ALWAYS: [Row; 31] = [
    // Intercepts: CR and DR; exceptions and 00C; 010 without write traps and 014 without bus lock and idle HLT.
    (0x000, u64::MAX),
    (0x008, u64::MAX),
    (0x010, 0x0000_001F_0000_7FFF),
    (0x050, u64::MAX),
    // V_TPR, V_IRQ, V_INTR_PRIO, V_IGN_TPR, V_INTR_MASKING; the vector.
    (0x060, 0x0000_00FF_011F_01FF),
    (0x068, 1),
    (0x0A8, 0xFFFF_FFFF_8000_0FFF),
    (0x400, u64::MAX),
    (0x408, u64::MAX),
    (0x410, u64::MAX),
    (0x418, u64::MAX),
    (0x420, u64::MAX),
    (0x428, u64::MAX),
    (0x430, u64::MAX),
    (0x438, u64::MAX),
    (0x460, u64::MAX),
    (0x468, u64::MAX),
    (0x480, u64::MAX),
    (0x488, u64::MAX),
    // CPL.
    (0x4C8, 0xFF00_0000),
    // EFER but for bits 7:1; LMA follows from LME and CR0.PG.
    (0x4D0, !0x4FE),
    (0x548, u64::MAX),
    (0x550, u64::MAX),
    (0x558, u64::MAX),
    (0x560, u64::MAX),
    (0x568, u64::MAX),
    (0x570, u64::MAX),
    (0x578, u64::MAX),
    (0x5D8, u64::MAX),
    (0x5F8, u64::MAX),
    (0x640, u64::MAX),
];
/// With all features, and with what turns them on in VMCB12: VGIF and vNMI, nRIP, shadow stacks, LBR, PAT, PAUSE.
const WITH_ALL: [Row; 13] = [
    (0x060, 0x0600_1A00),
    (0x0C8, u64::MAX),
    (0x0B8, 1),
    (0x038, 0xFFFF_FFFF_0000_0000),
    (0x5E0, u64::MAX),
    (0x5E8, u64::MAX),
    (0x5F0, u64::MAX),
    (0x668, u64::MAX),
    (0x670, u64::MAX),
    (0x678, u64::MAX),
    (0x680, u64::MAX),
    (0x688, u64::MAX),
    (0x690, u64::MAX),
];

fn allowed(rows: &[&[Row]], byte: usize) -> u8 {
    let all = rows.iter().flat_map(|rows| rows.iter());
    let words = all.filter(|(offset, _)| offset / 8 == byte / 8);
    words.fold(0, |mask, (_, bits)| mask | (bits >> (byte % 8 * 8)) as u8)
}

/// A machine on which everything that is offered is turned on.
fn machine(cpu: &str, everything: bool) -> Machine {
    // Compiling limits takes longer than all the rest.
    static COMPILED: LazyLock<[Limits; 2]> = LazyLock::new(|| [ALL, FEW].map(limits));
    let [all, few] = &*COMPILED;
    let mut machine = Machine::new(if cpu == ALL { all } else { few }.clone());
    if everything {
        for (field, value) in [
            (f::nested_ctl, 1),
            (f::n_cr3, 0x3000),
            (f::virt_ext, 1),
            (f::intercept_misc1, 0x8080_0002),
            (f::int_ctl, 0x0600_0000),
            (f::pause_filter_count, 0x1234),
            (f::pause_filter_threshold, 0x56),
            (f::nrip, 0x8002),
        ] {
            machine.set12(field, value);
        }
    }
    machine
}

/// Flips each bit of the page at VMCB12 in turn. VMCB02 differs from the one of the page as it was in nothing that the
/// lists do not allow.
fn flip(cpu: &str, everything: bool, rows: &[&[Row]]) -> [u32; 3] {
    let plain = machine(cpu, everything);
    let page12 = plain.vmcb12();
    let mut machine = machine(cpu, everything);
    assert_eq!(machine.vmrun(), Ok(Guest::L2), "{:?}", machine.log);
    let before = (*machine.vmcb02).clone();
    let [mut entered, mut refused, mut reached] = [0; 3];
    let (vmcb01, vmcb02) = ((*plain.vmcb01).clone(), Page::zeroed());
    for bit in 0..4096 * 8 {
        let mut flipped = page12.clone();
        flipped.bytes_mut()[bit / 8] ^= 1 << (bit % 8);
        let mut machine = self::machine(cpu, false);
        machine.ram.put(VMCB12, &flipped);
        *machine.vmcb01 = vmcb01.clone();
        *machine.vmcb02 = vmcb02.clone();
        if machine.vmrun() != Ok(Guest::L2) {
            refused += 1;
            continue;
        }
        entered += 1;
        let word = |page: &Page, byte: usize| page.bytes()[byte];
        for byte in 0..4096 {
            let differs = word(&machine.vmcb02, byte) ^ word(&before, byte);
            if differs == 0 || matches!(byte, 0x40..0x50 | 0x5C | 0xB0..0xB8) {
                // L0's own maps, flush and tables: looked at below.
                continue;
            }
            // What turns a feature off or on changes where its fields come from.
            let turns = [0x90 * 8, 0xB8 * 8, 0x0C * 8 + 23].contains(&bit);
            // LMA and nRIP follow from other fields.
            let follows = matches!((byte, bit / 8), (0x4D1, 0x4D1 | 0x55B) | (0xC8..0xD0, 0x578..0x580));
            let same = byte == bit / 8 || matches!(byte / 8, 0xA) && (0x50..0x58).contains(&(bit / 8));
            assert!(turns || follows || same, "bit {bit:#x} changed byte {byte:#x}");
            if same && !turns && !follows && byte / 8 != 0xA {
                let mask = allowed(rows, byte);
                assert_eq!(differs & !mask, 0, "bit {bit:#x} reached byte {byte:#x}");
            }
            if same {
                reached += 1;
            }
        }
        let get = |field| machine.vmcb02.get(field);
        let tables = get(f::n_cr3);
        assert!(tables == L1_TABLES || (SHADOW_ON_HOST..SHADOW_ON_HOST + (64 << 12)).contains(&tables));
        assert!([HOST.iopm, HOST.every_port].contains(&get(f::iopm_base_pa)));
        assert!([HOST.msrpm, HOST.every_msr].contains(&get(f::msrpm_base_pa)));
        assert!(matches!(get(f::tlb_control), 0 | 1 | 3));
        assert_eq!((get(f::guest_asid), get(f::nested_ctl), get(f::clean)), (2, 1, 0));
        for pointer in
            [f::vmsa_pa, f::avic_backing_page, f::avic_logical_table, f::avic_physical_table, f::ghcb]
        {
            assert_eq!(get(pointer), 0);
        }
    }
    [entered, refused, reached]
}

#[test]
fn each_bit_of_vmcb12_with_all_features() {
    let [entered, refused, reached] = flip(ALL, true, &[&ALWAYS, &WITH_ALL]);
    assert_eq!(entered + refused, 32768);
    assert!(refused > 100 && reached > 1500, "{entered} {refused} {reached}");
}

#[test]
fn each_bit_of_vmcb12_with_few_features() {
    let [entered, refused, reached] = flip(FEW, false, &[&ALWAYS]);
    assert_eq!(entered + refused, 32768);
    assert!(refused > 100 && reached > 1500, "{entered} {refused} {reached}");
}

/// Each bit that the lists allow does reach VMCB02, wherever the VMCB stays legal.
#[test]
fn what_is_allowed_arrives() {
    for (cpu, everything, rows) in
        [(ALL, true, &[&ALWAYS[..], &WITH_ALL[..]][..]), (FEW, false, &[&ALWAYS[..]])]
    {
        for &&(offset, bits) in rows.iter().flat_map(|rows| rows.iter()).collect::<Vec<_>>().iter() {
            for bit in (0..64).filter(|bit| bits >> bit & 1 != 0) {
                let mut machine = machine(cpu, everything);
                let mut page = machine.vmcb12();
                let byte = offset + bit / 8;
                page.bytes_mut()[byte] ^= 1 << (bit % 8);
                machine.ram.put(VMCB12, &page);
                if machine.vmrun() != Ok(Guest::L2) || offset == 0x50 {
                    continue;
                }
                let or = if offset < 0x18 { machine.vmcb01.bytes()[byte] | forced(byte) } else { 0 };
                let lma = if byte == 0x4D1 { 4 } else { 0 };
                let mask = allowed(rows, byte) & !lma;
                assert_eq!(
                    machine.vmcb02.bytes()[byte] & mask,
                    (page.bytes()[byte] | or) & mask,
                    "{byte:#x}"
                );
            }
        }
    }
}

/// Intercepts that VMCB02 has whatever VMCB01 and VMCB12 contain.
fn forced(byte: usize) -> u8 {
    match byte {
        // #DB; #AC.
        0x08 => 1 << 1,
        0x0A => 1 << 1,
        // INVLPGA; shutdown.
        0x0F => 1 << 2 | 1 << 7,
        // VMRUN, VMLOAD, VMSAVE, STGI, CLGI, SKINIT.
        0x10 => 0b0111_1101,
        _ => 0,
    }
}

/// An L0 that intercepts none of them, since it gives L1 virtual VMLOAD and VMSAVE and virtual GIF, still keeps L2 from
/// executing them natively.
#[test]
fn intercepts_that_keep_l0_safe_are_forced() {
    let mut machine = machine(FEW, false);
    for field in [f::intercept_exceptions, f::intercept_misc1, f::intercept_misc2] {
        machine.vmcb01.set(field, 0);
    }
    machine.set12(f::intercept_misc1, 0);
    machine.set12(f::intercept_misc2, 1);
    assert_eq!(machine.vmrun(), Ok(Guest::L2));
    let expected: Vec<u8> = (0..0x18).map(forced).collect();
    assert_eq!(machine.vmcb02.bytes()[..0x18], expected);
}

/// Intercepts of L0 stay, its TSC offset is added, its own interrupt controls do not leak.
#[test]
fn what_comes_from_vmcb01() {
    let mut machine = machine(FEW, false);
    for (field, value) in [
        (f::intercept_cr, 0x10),
        (f::intercept_misc2, 0xFFFF_0000),
        (f::intercept_misc3, 0xE0),
        (f::tsc_offset, u64::MAX - 9),
        (f::int_ctl, 0xC600_1B0F),
        (f::v_intr_vector, 0x77),
        (f::interrupt_state, 3),
        (f::virt_ext, 0xF),
        (f::dbgctl, 0x41),
        (f::br_to, 0x1234),
        (f::g_pat, 0x0606_0606_0606_0606),
        (f::spec_ctrl, 1),
        (f::lstar, 0x5678),
        (f::pause_filter_count, 3000),
        (f::avic_backing_page, 0x9000),
        (f::vmsa_pa, 0x9000),
    ] {
        machine.vmcb01.set(field, value);
    }
    machine.vmcb01.set_bits(f::intercept_misc2, 0x7F, 0x7F);
    machine.set12(f::intercept_cr, 1);
    machine.set12(f::tsc_offset, 30);
    machine.set12(f::lstar, 0xBAD);
    assert_eq!(machine.vmrun(), Ok(Guest::L2));
    for (field, value) in [
        (f::intercept_cr, 0x11),
        (f::intercept_misc2, 0xFFFF_007F),
        (f::intercept_misc3, 0xE0),
        (f::tsc_offset, 20),
        (f::int_ctl, 0),
        (f::v_intr_vector, 0),
        (f::interrupt_state, 0),
        (f::virt_ext, 1),
        (f::dbgctl, 0x41),
        (f::br_to, 0x1234),
        (f::g_pat, 0x0606_0606_0606_0606),
        (f::spec_ctrl, 1),
        (f::lstar, 0x5678),
        (f::pause_filter_count, 3000),
        (f::avic_backing_page, 0),
        (f::vmsa_pa, 0),
        (f::nrip, 0x8000),
    ] {
        assert_eq!(machine.vmcb02.get(field), value, "{}", field.name);
    }
    assert_eq!(machine.vmcb01.get(f::interrupt_state), 0, "the instruction after STI is over");
}

/// An L1 that intercepts PAUSE on a virtual CPU without the filter sees each one.
#[test]
fn pause_without_a_filter() {
    let mut machine = machine(FEW, false);
    machine.vmcb01.set(f::pause_filter_count, 3000);
    machine.set12(f::pause_filter_count, 77);
    machine.set12(f::intercept_misc1, 0x8080_0000);
    assert_eq!(machine.vmrun(), Ok(Guest::L2));
    assert_eq!(machine.vmcb02.get(f::pause_filter_count), 0);
}

/// An L0 that takes physical interrupts sets V_INTR_MASKING and the intercept INTR in VMCB02, whatever VMCB12 contains.
#[test]
fn physical_interrupts_of_l0() {
    for (l0_takes, l1_masks, masking) in
        [(true, false, true), (true, true, true), (false, true, true), (false, false, false)]
    {
        let mut machine = Machine::on(Host { takes_interrupts: l0_takes, ..HOST }, limits(FEW));
        machine.set12(f::int_ctl, if l1_masks { 1 << 24 } else { 0 });
        assert_eq!(machine.vmrun(), Ok(Guest::L2));
        assert_eq!(machine.vmcb02.get(f::int_ctl) >> 24 & 1 == 1, masking);
        assert_eq!(machine.vmcb02.get(f::intercept_misc1) & 1 == 1, l0_takes);
    }
}

/// VMCB02 depends on the last VMRUN only: nothing of an L2 before is left on the page.
#[test]
fn nothing_is_left_of_the_guest_before() {
    for (cpu, first) in [(ALL, true), (ALL, false), (FEW, false)] {
        let mut fresh = machine(cpu, !first && cpu == ALL);
        let page = fresh.vmcb12();
        assert_eq!(fresh.vmrun(), Ok(Guest::L2));
        let mut used = machine(cpu, first);
        for (field, value) in [(f::eventinj, 0x8000_0B0E), (f::dbgctl, 1), (f::isst_addr, 0x99), (f::nrip, 9)]
        {
            used.set12(field, value);
        }
        assert_eq!(used.vmrun(), Ok(Guest::L2));
        assert_eq!(used.exits(0x81, [1, 2]), Exit::ToL1);
        let (rip, registers) = ((*fresh.vmcb01).get(f::rip), (*fresh.vmcb01).clone());
        *used.vmcb01 = registers;
        used.vmcb01.set(f::rip, rip);
        used.vmcb01.set(f::rax, VMCB12);
        used.ram.put(VMCB12, &page);
        assert_eq!(used.vmrun(), Ok(Guest::L2));
        for byte in 0..4096 {
            // Hardware writes these at each exit, and reads none of them; the flush depends on what ran before.
            if matches!(byte, 0x5C | 0x70..0x90 | 0xB0..0xB8) {
                continue;
            }
            assert_eq!(used.vmcb02.bytes()[byte], fresh.vmcb02.bytes()[byte], "byte {byte:#x}");
        }
    }
}

/// VMCB12 is read once: what other CPUs of L1 write meanwhile changes nothing, and the exit is judged by the copy.
#[test]
fn each_byte_of_vmcb12_is_read_once() {
    let mut machine = machine(ALL, true);
    machine.ram.watched = Some(VMCB12);
    machine.ram.turns = true;
    let before = machine.vmcb12();
    assert_eq!(machine.vmrun(), Ok(Guest::L2));
    assert_eq!(machine.ram.reads().iter().max(), Some(&1));
    assert_eq!(machine.vmcb02.get(f::cr0), before.get(f::cr0));
    machine.run([Step::Set(f::rax, 5), Step::Exit(0x81, [0, 0])]);
    assert_eq!(machine.ram.reads().iter().max(), Some(&1), "the exit reads nothing again");
    assert_eq!(machine.nested.guest(), Guest::L1);
    assert_eq!(machine.vmcb12().get(f::rax), 5);
}

/// The order in which VMCB12 is judged and entered cannot be told from a page that changes: a bad copy is refused.
#[test]
fn a_page_that_turns_bad_is_judged_as_it_was_read() {
    let mut machine = machine(ALL, false);
    machine.set12(f::guest_asid, 0);
    machine.ram.watched = Some(VMCB12);
    machine.ram.turns = true;
    assert_eq!(machine.vmrun(), Ok(Guest::L1));
    assert_eq!(machine.log.0, ["refused 0x5000: ctl-asid-zero"]);
}
