//! What the table predicts, against the answers that were measured.

use crate::guest::{environment, layer, page};
use vmcb::layout::{Field, vmcb_field as field};
use vmcb::{Cpu, Environment, Host, Limits, Policy};
use vmcb_implementations::{Answer, Implementation, Layer, predict};

/// The CPU that QEMU TCG offers to a guest, as far as rules read it: neither SHSTK nor SEV, 40 address bits.
fn limits() -> Limits {
    let cpu = Cpu::parse("EPYC-Milan,phys-bits=40,+lmsle-unsupported").expect("a CPU");
    Limits::compile(&cpu, Policy::VirtualCpu)
}

fn answer(stack: &[Layer<'_>], changes: &[(Field, u64)]) -> Answer {
    predict(stack, &page(changes), &environment([0; 4])).answer
}

fn refused(by: &[&'static str], layer: usize) -> Answer {
    Answer::Refuses { by: by.to_vec(), layer: Some(layer) }
}

/// All 8,192 words of V, EV, TYPE and VECTOR.
fn events() -> impl Iterator<Item = u64> {
    (0..0x2000_u64).map(|low| (low >> 12) << 31 | low & 0xFFF)
}

/// The vectors that TYPE 3 refuses, and that all else is as every implementation but Xen has it.
fn refused_vectors(stack: &[Layer<'_>], changes: &[(Field, u64)]) -> Vec<u64> {
    let mut vectors = Vec::new();
    let mut base = page(changes);
    for event in events() {
        base[0xA8..0xB0].copy_from_slice(&event.to_le_bytes());
        let answer = predict(stack, &base, &environment([0; 4])).answer;
        let (valid, kind, vector) = (event >> 31 & 1 == 1, event >> 8 & 7, event & 0xFF);
        let refuses = match answer {
            Answer::Accepts => false,
            Answer::Refuses { .. } => true,
            other => panic!("{event:#x}: {other}"),
        };
        match (valid, kind) {
            (false, _) | (true, 0 | 2 | 4) => assert!(!refuses, "{event:#x}"),
            (true, 3) if refuses => vectors.push(vector),
            (true, 3) => assert!(!vectors.contains(&vector), "EV changed the answer: {event:#x}"),
            _ => assert!(refuses, "{event:#x}"),
        }
    }
    // Each comes with EV clear and with EV set.
    let half = vectors.len() / 2;
    assert_eq!(vectors[..half], vectors[half..]);
    vectors.truncate(half);
    vectors
}

/// A guest in 32-bit protected mode, where no vector is impossible.
const PROTECTED: [(Field, u64); 4] =
    [(field::efer, 0x1000), (field::cr0, 0x8000_0011), (field::cr4, 0), (field::cs, 0x0c9b_0000)];

fn vectors(parts: &[std::ops::RangeInclusive<u64>]) -> Vec<u64> {
    parts.iter().cloned().flatten().collect()
}

#[test]
fn vectors_that_qemu_refuses() {
    let limits = limits();
    for version in ["7.2.22", "10.0.2", "10.0.13", "11.1.3"] {
        let stack = [layer(Implementation::QemuTcg, version, &limits)];
        assert_eq!(refused_vectors(&stack, &PROTECTED), vectors(&[2..=2, 31..=255]), "{version}");
    }
    let stack = [layer(Implementation::QemuTcg, "10.0.2", &limits)];
    assert_eq!(refused_vectors(&stack, &[]), vectors(&[2..=2, 31..=255]));
}

#[test]
fn vectors_that_bochs_refuses() {
    let limits = limits();
    let old = [layer(Implementation::Bochs, "2.7", &limits)];
    assert_eq!(refused_vectors(&old, &[]), vectors(&[2..=2, 32..=255]));
    assert_eq!(refused_vectors(&old, &PROTECTED), vectors(&[2..=2, 32..=255]));
    // The newer one looks at the guest's mode.
    let new = [layer(Implementation::Bochs, "3.1", &limits)];
    assert_eq!(refused_vectors(&new, &[]), vectors(&[2..=2, 4..=5, 32..=255]));
    assert_eq!(refused_vectors(&new, &PROTECTED), vectors(&[2..=2, 32..=255]));
}

#[test]
fn vectors_that_kvm_refuses() {
    let limits = limits();
    let stack =
        [layer(Implementation::Kvm, "7.2.13", &limits), layer(Implementation::QemuTcg, "10.0.2", &limits)];
    let expected = vectors(&[2..=2, 9..=9, 15..=15, 20..=27, 29..=29, 31..=255]);
    assert_eq!(refused_vectors(&stack, &[]), expected);
    assert_eq!(answer(&stack, &[(field::eventinj, 0x8000_0309)]), refused(&["evt-exc-vector-9"], 0));
    // With shadow stacks and SEV-ES on the virtual CPU 21 and 29 exist.
    let cpu = Cpu::parse("EPYC-Milan,phys-bits=40,+shstk,+sev-es").expect("a CPU");
    let more = Limits::compile(&cpu, Policy::VirtualCpu);
    let stack =
        [layer(Implementation::Kvm, "7.2.13", &more), layer(Implementation::QemuTcg, "10.0.2", &limits)];
    let expected = vectors(&[2..=2, 9..=9, 15..=15, 20..=20, 22..=27, 31..=255]);
    assert_eq!(refused_vectors(&stack, &[]), expected);
}

/// Old KVM hands EVENTINJ on, and the layer below answers.
#[test]
fn old_kvm_answers_as_the_cpu_below() {
    let limits = limits();
    for version in ["6.1.55", "6.12.95+deb12-amd64", "6.18.15"] {
        let stack =
            [layer(Implementation::Kvm, version, &limits), layer(Implementation::QemuTcg, "10.0.2", &limits)];
        assert_eq!(refused_vectors(&stack, &[]), vectors(&[2..=2, 31..=255]), "{version}");
        let vector_2 = answer(&stack, &[(field::eventinj, 0x8000_0302)]);
        assert_eq!(vector_2, refused(&["evt-exc-vector-2"], 1), "{version}");
    }
    // Between 6.12 and 7.2 it is not known who refuses vector 2, and that somebody does.
    let stack =
        [layer(Implementation::Kvm, "6.18.1", &limits), layer(Implementation::QemuTcg, "10.0.2", &limits)];
    let vector_2 = answer(&stack, &[(field::eventinj, 0x8000_0302)]);
    assert_eq!(vector_2, Answer::Refuses { by: vec!["evt-exc-vector-2"], layer: None });
    let Answer::Unknown { why } = answer(&stack, &[(field::eventinj, 0x8000_0309)]) else {
        panic!("nobody has looked at 6.18");
    };
    assert_eq!(
        why,
        [
            "evt-exc-vector-9: unknown in KVM 6.18.1, last seen in 6.1.170 6.1.192 6.12.73 6.12.90 6.12.95 6.12.118 6.16.12 \
          6.18.15: no check: EVENTINJ is handed to the CPU below, which answers"
        ]
    );
}

/// What a version is not known for matters only where some check could refuse.
#[test]
fn a_legal_guest_is_accepted_by_every_version() {
    let limits = limits();
    for of in Implementation::ALL {
        for version in ["2.7", "6.1.0", "10.0.2", "99.0", "git:c447b7308b13"] {
            let stack = [layer(of, version, &limits)];
            assert_eq!(answer(&stack, &[]), Answer::Accepts, "{} {version}", of.name());
        }
    }
    assert_eq!(predict(&[], &page(&[]), &environment([0; 4])).answer, Answer::Accepts);
}

/// Of a habit, too, it is not known whether another version has it, where the VMCB has what it is about.
#[test]
fn a_habit_of_an_unknown_version_matters_where_it_applies() {
    let cpu = Cpu::parse("EPYC-Milan-v3,phys-bits=40").expect("a CPU with FlushByAsid");
    let limits = Limits::compile(&cpu, Policy::VirtualCpu);
    let bochs = [layer(Implementation::Bochs, "2.6", &limits)];
    assert_eq!(answer(&bochs, &[(field::tlb_control, 3)]), Answer::Accepts);
    assert!(matches!(answer(&bochs, &[(field::tlb_control, 2)]), Answer::Unknown { .. }));
    // Some KVM refuses 3 on any CPU.
    let kvm = [layer(Implementation::Kvm, "6.2", &limits)];
    let Answer::Unknown { why } = answer(&kvm, &[(field::tlb_control, 3)]) else {
        panic!("KVM 6.1 refuses it");
    };
    let last_seen =
        "ctl-tlb-control-reserved: unknown in KVM 6.2, last seen in 6.1: differs: refuses all but 0 and 1";
    assert!(why.len() == 1 && why[0].starts_with(last_seen), "{why:?}");
}

/// LA57 exists on this CPU, and Xen offers it to no guest.
#[test]
fn xen_refuses_la57_on_every_cpu() {
    let limits = Limits::compile(&Cpu::parse("EPYC-Genoa,phys-bits=52").expect("a CPU"), Policy::VirtualCpu);
    let la57 = [(field::cr4, 0x1020)];
    let xen = [layer(Implementation::Xen, "git:c447b7308b13", &limits)];
    assert_eq!(answer(&xen, &la57), refused(&["sav-cr4-mbz"], 0));
    assert_eq!(answer(&[layer(Implementation::QemuTcg, "10.0.2", &limits)], &la57), Answer::Accepts);
}

type Case<'a> = (&'a [Layer<'a>], &'a [(Field, u64)], Answer);

/// The first address above the physical address width.
const TOP: u64 = 1 << 40;

fn check(cases: &[Case<'_>]) {
    for (stack, changes, expected) in cases {
        let of = stack[0].title();
        assert_eq!(answer(stack, changes), *expected, "{of} {changes:x?}");
    }
}

/// KVM, an old KVM, Bochs, QEMU, VirtualBox and Xen, each as a stack.
fn layers(limits: &Limits) -> [[Layer<'_>; 1]; 6] {
    [
        (Implementation::Kvm, "7.2"),
        (Implementation::Kvm, "6.1"),
        (Implementation::Bochs, "3.1"),
        (Implementation::QemuTcg, "10.0.2"),
        (Implementation::VirtualBox, "git:4908d8d1a85c"),
        (Implementation::Xen, "git:c447b7308b13"),
    ]
    .map(|(of, version)| [layer(of, version, limits)])
}

/// One case each in which an implementation differs from the rulebook.
#[test]
fn variants_of_controls_do_as_their_rows_say() {
    let limits = limits();
    let [kvm, kvm_6_1, bochs, qemu, vbox, xen] = layers(&limits);
    let accepts = Answer::Accepts;
    let one = |id| refused(&[id], 0);
    check(&[
        // Permission maps: the last legal page, the first page that is not, low bits.
        (&kvm, &[(field::msrpm_base_pa, TOP - 0x2000)], accepts.clone()),
        (&qemu, &[(field::msrpm_base_pa, TOP - 0x2000)], one("ctl-msrpm-beyond-maxphyaddr")),
        (&qemu, &[(field::msrpm_base_pa, TOP - 0x3000)], accepts.clone()),
        (&kvm, &[(field::msrpm_base_pa, TOP - 0x1000)], one("ctl-msrpm-beyond-maxphyaddr")),
        (&bochs, &[(field::msrpm_base_pa, TOP - 0x1000)], accepts.clone()),
        (&bochs, &[(field::msrpm_base_pa, TOP)], one("ctl-msrpm-beyond-maxphyaddr")),
        (&bochs, &[(field::iopm_base_pa, TOP - 0x1000)], accepts.clone()),
        (&bochs, &[(field::iopm_base_pa, TOP)], one("ctl-iopm-beyond-maxphyaddr")),
        (&kvm, &[(field::iopm_base_pa, 0x10001)], accepts.clone()),
        (&vbox, &[(field::iopm_base_pa, 0x10001)], one("ctl-iopm-beyond-maxphyaddr")),
        (&vbox, &[(field::msrpm_base_pa, 0x20800)], one("ctl-msrpm-beyond-maxphyaddr")),
        // What is checked by some only.
        (&xen, &[(field::guest_asid, 0)], accepts.clone()),
        (&kvm, &[(field::guest_asid, 0)], one("ctl-asid-zero")),
        (&kvm, &[(field::int_ctl, 1 << 26)], one("ctl-vnmi-without-nmi-intercept")),
        (&kvm, &[(field::int_ctl, 1 << 26), (field::intercept_misc1, 2)], accepts.clone()),
        (&qemu, &[(field::int_ctl, 1 << 26)], accepts.clone()),
        (&kvm, &[(field::nested_ctl, 1), (field::n_cr3, TOP)], one("ctl-ncr3-mbz")),
        (&kvm_6_1, &[(field::nested_ctl, 1), (field::n_cr3, TOP)], accepts.clone()),
        (&bochs, &[(field::nested_ctl, 1), (field::n_cr3, TOP)], one("ctl-ncr3-mbz")),
        (&bochs, &[(field::nested_ctl, 0x80), (field::n_cr3, TOP)], one("ctl-ncr3-mbz")),
        (&bochs, &[(field::nested_ctl, 0x100), (field::n_cr3, TOP)], accepts.clone()),
        (&bochs, &[(field::nested_ctl, 1), (field::g_pat, 2)], one("ctl-gpat-invalid")),
        (&bochs, &[(field::nested_ctl, 8), (field::g_pat, 2)], one("ctl-gpat-invalid")),
        (&bochs, &[(field::g_pat, 2)], accepts.clone()),
        (&kvm, &[(field::nested_ctl, 1), (field::g_pat, 2)], accepts.clone()),
        // TLB_CONTROL.
        (&kvm_6_1, &[(field::tlb_control, 3)], one("ctl-tlb-control-reserved")),
        (&kvm_6_1, &[(field::tlb_control, 1)], accepts.clone()),
        (&kvm, &[(field::tlb_control, 2)], accepts.clone()),
        (&vbox, &[(field::tlb_control, 7)], one("ctl-tlb-control-reserved")),
    ]);
}

/// As above, for the save area and for events.
#[test]
fn variants_of_registers_do_as_their_rows_say() {
    let limits = limits();
    let [kvm, kvm_6_1, bochs, qemu, vbox, xen] = layers(&limits);
    let accepts = Answer::Accepts;
    let one = |id| refused(&[id], 0);
    check(&[
        // EFER, bit by bit.
        (&kvm, &[(field::efer, 0x1502)], one("sav-efer-mbz")),
        (&kvm, &[(field::efer, 0x3500)], accepts.clone()),
        (&bochs, &[(field::efer, 0x3500)], one("sav-efer-mbz")),
        (&bochs, &[(field::efer, 0x5d01)], accepts.clone()),
        (&qemu, &[(field::efer, 0x5d01)], accepts.clone()),
        (&qemu, &[(field::efer, 0x3500)], one("sav-efer-mbz")),
        (&xen, &[(field::efer, 0x20_1500)], one("sav-efer-mbz")),
        (&kvm, &[(field::efer, 1 << 63 | 0x1500)], one("sav-efer-mbz")),
        (&xen, &[(field::efer, 0x1400), (field::cr0, 0x11)], one("sav-efer-lma-without-lme")),
        (&qemu, &[(field::efer, 0x1400), (field::cr0, 0x11)], accepts.clone()),
        // CR3 and CR4.
        (&kvm, &[(field::cr3, TOP)], one("sav-cr3-mbz-long")),
        (&qemu, &[(field::cr3, TOP)], one("sav-cr3-mbz-long")),
        (&vbox, &[(field::cr3, TOP)], accepts.clone()),
        (&bochs, &[(field::cr3, TOP)], accepts.clone()),
        (&qemu, &[(field::efer, 0x1000), (field::cr0, 0x11), (field::cr3, TOP)], one("sav-cr3-high-legacy")),
        (&kvm, &[(field::efer, 0x1000), (field::cr0, 0x11), (field::cr3, TOP)], one("sav-cr3-high-legacy")),
        (&xen, &[(field::efer, 0x1000), (field::cr0, 0x11), (field::cr3, TOP)], accepts.clone()),
        (&xen, &[(field::cr3, 0x3001)], one("sav-cr3-mbz-long")),
        (&xen, &[(field::cr3, 0x3018)], accepts.clone()),
        (&qemu, &[(field::cr4, 0x2_0020)], accepts.clone()),
        (&kvm, &[(field::cr4, 0x80_0020)], one("sav-cr4-mbz")),
        (&bochs, &[(field::cr4, 0x2_0020)], accepts.clone()),
        (&bochs, &[(field::efer, 0x1000), (field::cr0, 0x11), (field::cr4, 0x2_0000)], one("sav-cr4-mbz")),
        (&qemu, &[(field::cr4, 0x80_0020)], one("sav-cr4-mbz")),
        (&qemu, &[(field::cr4, 0x1020)], one("sav-cr4-mbz")),
        // Modes.
        (&bochs, &[(field::cr0, 0x8000_0010)], Answer::Stops { by: vec!["sav-lme-pg-without-pe"], layer: 0 }),
        (&bochs, &[(field::cr0, 0x8000_0010), (field::cr4, 0)], one("sav-lme-pg-without-pae")),
        (&qemu, &[(field::cr0, 0x8000_0010)], one("sav-lme-pg-without-pe")),
        (
            &bochs,
            &[(field::efer, 0x1000), (field::cr0, 0x11), (field::cs, 0x069b_0000)],
            one("sav-cs-l-and-d"),
        ),
        (&qemu, &[(field::efer, 0x1000), (field::cr0, 0x11), (field::cs, 0x069b_0000)], accepts.clone()),
        (&kvm, &[(field::cs, 0x069b_0000)], one("sav-cs-l-and-d")),
        (&kvm_6_1, &[(field::cs, 0x069b_0000)], accepts.clone()),
        // Events.
        (&xen, &[(field::eventinj, 0x8000_1302)], one("evt-reserved-bits")),
        (&vbox, &[(field::eventinj, 0x8000_0305), (field::cs, 0x0c9b_0000)], one("evt-br-in-64-bit-mode")),
        (&qemu, &[(field::eventinj, 0x8000_0305), (field::cs, 0x0c9b_0000)], accepts.clone()),
    ]);
}

#[test]
fn several_causes_and_unknown_inputs_are_named() {
    let limits = limits();
    let kvm = [layer(Implementation::Kvm, "7.2", &limits)];
    let qemu = [layer(Implementation::QemuTcg, "10.0.2", &limits)];
    // Two at once: all that refuse are named.
    let both = answer(&kvm, &[(field::guest_asid, 0), (field::dr7, 1 << 32)]);
    assert_eq!(both, refused(&["ctl-asid-zero", "sav-dr7-high"], 0));
    assert_eq!(both.to_string(), "layer 0 refuses by ctl-asid-zero, sav-dr7-high");
    // TCE depends on what no CPU description says; PKS and G_PAT's quirk likewise.
    assert!(matches!(answer(&kvm, &[(field::efer, 0x9500)]), Answer::Unknown { .. }));
    assert!(matches!(answer(&qemu, &[(field::cr4, 0x100_0020)]), Answer::Unknown { .. }));
    let qemu_7_2 = [layer(Implementation::QemuTcg, "1:7.2+dfsg-7+deb12u18", &limits)];
    assert!(matches!(answer(&qemu_7_2, &[(field::cr4, 0x100_0020)]), Answer::Unknown { .. }));
    assert!(matches!(answer(&qemu, &[(field::cr4, 0x1000_0020)]), Answer::Unknown { .. }));
    assert_eq!(answer(&qemu_7_2, &[(field::cr4, 0x1000_0020)]), refused(&["sav-cr4-mbz"], 0));
}

/// PDPTEs: KVM goes by LMA as the VMCB has it, Bochs computes it, QEMU reads none.
#[test]
fn pdptes_are_read_in_different_modes() {
    let limits = limits();
    let bad = environment([0; 4]).with_pdptes([0x4067, 0, 0, 0]);
    let of = |implementation, version: &str, changes: &[(Field, u64)]| {
        predict(&[layer(implementation, version, &limits)], &page(changes), &bad).answer
    };
    let pae = [(field::efer, 0x1000), (field::cs, 0x0c9b_0000)];
    let lme_without_lma = [(field::efer, 0x1100)];
    let refused = || refused(&["sav-pdpte-reserved"], 0);
    for version in ["6.1.55", "7.2"] {
        assert_eq!(of(Implementation::Kvm, version, &pae), refused());
        assert_eq!(of(Implementation::Kvm, version, &lme_without_lma), refused());
        assert_eq!(of(Implementation::Kvm, version, &[]), Answer::Accepts);
    }
    assert_eq!(of(Implementation::Bochs, "3.1", &pae), refused());
    assert_eq!(of(Implementation::Bochs, "3.1", &[pae[0], pae[1], (field::nested_ctl, 2)]), Answer::Accepts);
    assert_eq!(of(Implementation::Bochs, "3.1", &lme_without_lma), Answer::Accepts);
    assert_eq!(of(Implementation::QemuTcg, "10.0.2", &pae), Answer::Accepts);
}

/// What KVM accepts and the CPU below refuses: L1 sees the refusal of VMCB02.
#[test]
fn the_layer_below_refuses_vmcb02() {
    let limits = limits();
    let below = || layer(Implementation::QemuTcg, "10.0.2", &limits);
    let stack = [layer(Implementation::Kvm, "6.1.55", &limits), below()];
    assert_eq!(answer(&stack, &[(field::cs, 0x069b_0000)]), refused(&["sav-cs-l-and-d"], 1));
    // EFER.LMSLE.
    assert_eq!(answer(&stack, &[(field::efer, 0x3500)]), refused(&["sav-efer-mbz"], 1));
    // SVME, the maps and ASID of VMCB02 are KVM's: the last legal page of MSRPM is no matter of QEMU's.
    assert_eq!(answer(&stack, &[(field::efer, 0x500)]), refused(&["sav-efer-svme-clear"], 0));
    assert_eq!(answer(&stack, &[(field::msrpm_base_pa, (1 << 40) - 0x2000)]), Answer::Accepts);
    // How Xen builds its VMCB is not known.
    let stack = [layer(Implementation::Xen, "git:c447b7308b13", &limits), below()];
    assert!(matches!(answer(&stack, &[]), Answer::Unknown { .. }));
    assert_eq!(answer(&stack, &[(field::dr6, 1 << 32)]), refused(&["sav-dr6-high"], 0));
}

/// What KVM reads while it emulates VMRUN must be RAM; of a layer whose RAM is not told everything is.
#[test]
fn kvm_refuses_what_it_cannot_read() {
    const RAM: u64 = 64 << 20;
    let limits = limits();
    let below = || layer(Implementation::QemuTcg, "7.2.22", &limits);
    let kvm = || layer(Implementation::Kvm, "7.2.13", &limits);
    let told = [kvm().with_memory(RAM), below()];
    let untold = [kvm(), below()];
    let last = [(field::msrpm_base_pa, RAM - 0x2000)];
    let beyond = [(field::msrpm_base_pa, RAM - 0x1000)];
    assert_eq!(answer(&told, &last), Answer::Accepts);
    assert_eq!(answer(&told, &beyond), refused(&["ctl-msrpm-beyond-maxphyaddr"], 0));
    assert_eq!(answer(&untold, &beyond), Answer::Accepts);
    let pae = [(field::efer, 0x1000), (field::cs, 0x0c9b_0000), (field::cr3, 1 << 32 | 0x3000)];
    let none = environment([0; 4]).with_pdptes([0; 4]);
    assert_eq!(predict(&told, &page(&pae), &none).answer, refused(&["sav-pdpte-reserved"], 0));
    assert_eq!(predict(&untold, &page(&pae), &none).answer, Answer::Accepts);
}

/// The same branch answers in two ways: a check came with an update.
#[test]
fn kvm_6_1_learnt_to_look_at_n_cr3() {
    let limits = limits();
    let high = [(field::nested_ctl, 1), (field::n_cr3, 1 << 40)];
    let of = |version| answer(&[layer(Implementation::Kvm, version, &limits)], &high);
    assert_eq!(of("6.1.170"), Answer::Accepts);
    assert_eq!(of("6.1.192"), refused(&["ctl-ncr3-mbz"], 0));
}

/// Faults come before the VMCB is read.
#[test]
fn faults_come_first() {
    let limits = limits();
    let at = |of, version: &str, environment: &Environment<'_>| {
        let stack = [layer(of, version, &limits)];
        predict(&stack, &page(&[(field::guest_asid, 0)]), environment).answer
    };
    let yes = vmcb::Answer::Yes;
    let no = vmcb::Answer::No;
    let hsave = environment([0; 4]).with(Host::HSAVE_PA_ZERO, yes);
    assert_eq!(at(Implementation::Kvm, "7.2", &hsave), refused(&["pre-hsave-pa-zero"], 0));
    assert_eq!(at(Implementation::QemuTcg, "10.0.2", &hsave), refused(&["ctl-asid-zero"], 0));
    let smm = environment([0; 4]).with(Host::SMM, yes);
    assert_eq!(at(Implementation::Kvm, "6.1.55", &smm), refused(&["pre-in-smm"], 0));
    let not_paged = environment([0; 4]).with(Host::PG.union(Host::LONG64), no);
    assert_eq!(at(Implementation::Kvm, "6.1.55", &not_paged), refused(&["pre-not-protected"], 0));
    let unaligned = environment([0; 4]).with_vmcb_address(0x7010);
    assert_eq!(at(Implementation::QemuTcg, "10.0.2", &unaligned), refused(&["pre-vmcb-address"], 0));
    let real_mode = environment([0; 4]).with(Host::PE.union(Host::PG).union(Host::LONG64), no);
    assert_eq!(at(Implementation::QemuTcg, "7.2.22", &real_mode), refused(&["pre-not-protected"], 0));
    assert_eq!(at(Implementation::QemuTcg, "7.2.22", &not_paged), refused(&["ctl-asid-zero"], 0));
    // A fix that reached a stable branch in its middle: of a version that says the branch only nothing is known.
    let unaligned_on = |version| at(Implementation::QemuTcg, version, &unaligned);
    assert_eq!(unaligned_on("7.2.22"), refused(&["pre-vmcb-address"], 0));
    assert_eq!(unaligned_on("7.2.9"), refused(&["ctl-asid-zero"], 0));
    let branch = layer(Implementation::QemuTcg, "1:7.2+dfsg-7+deb12u18", &limits);
    let Answer::Unknown { why } = predict(&[branch], &page(&[]), &unaligned).answer else {
        panic!("7.2 may be either");
    };
    assert_eq!(
        why,
        [
            "pre-vmcb-address: unknown in QEMU TCG 7.2, last seen in 7.2.10-7.2.22: as the rulebook: before the intercept \
          of VMRUN"
        ]
    );
    let np = predict(
        &[layer(Implementation::Bochs, "3.1", &limits)],
        &page(&[(field::nested_ctl, 1), (field::g_pat, 0x0007_0406_0007_0406)]),
        &not_paged,
    );
    assert_eq!(np.answer, refused(&["ctl-np-without-host-paging"], 0));
}
