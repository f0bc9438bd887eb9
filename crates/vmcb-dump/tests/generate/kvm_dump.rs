//! KVM's `dump_vmcb`, as kernels of several ages print it.

use super::{Random, Shown, Written, prefix};
use vmcb::layout::{Field, Page, SAVE_AREA, vmcb_field as c, vmsa_field as v};

/// What differs between kernels and guests.
struct Layout {
    header: Header,
    /// All 16 digits of the two intercept words in one, as kernels before 5.8 print them.
    one_intercept_word: bool,
    third_intercept_word: bool,
    wide_exit_code: bool,
    avic: bool,
    ghcb: bool,
    erap: bool,
    sev_features: bool,
    shadow_stack: bool,
    vmpl: bool,
    general_registers: bool,
    nested_ctl: &'static str,
    virt_ext: &'static str,
    guest: Guest,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Header {
    Nothing,
    Failed,
    Pointer,
    Type,
}

/// Where the guest's registers are, and what the save area shows of them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Guest {
    InVmcb,
    /// In a VMSA that the kernel could decrypt.
    Decrypted,
    /// In a VMSA, and the kernel prints no save area.
    Encrypted,
    /// In a VMSA, and the kernel prints the save area of the VMCB all the same.
    Meaningless,
}

impl Layout {
    fn new(random: &mut Random) -> Self {
        // 0: before 4.7, 1: 4.7, 2: 5.8, 3: 5.10 to 5.13, 4: 6.1, 5: 6.14, 6: 6.18, 7: 7.2.
        let age = random.below(8);
        let guest = match random.below(6) {
            0 if age >= 5 => Guest::Decrypted,
            1 if age >= 5 => Guest::Encrypted,
            0 | 1 if age >= 3 => Guest::Meaningless,
            _ => Guest::InVmcb,
        };
        Self {
            header: match age {
                0 if random.one_in(2) => Header::Failed,
                0..=2 => Header::Nothing,
                3 | 4 => Header::Pointer,
                _ => Header::Type,
            },
            one_intercept_word: age < 2,
            third_intercept_word: age >= 2 && random.one_in(4),
            wide_exit_code: age == 7,
            avic: age > 0,
            ghcb: age > 2,
            erap: age == 7,
            sev_features: age >= 5,
            shadow_stack: age >= 6,
            vmpl: age >= 4,
            general_registers: age >= 5,
            nested_ctl: if age == 7 { "misc_ctl:" } else { "nested_ctl:" },
            virt_ext: ["lbr_ctl:", "virt_ext:", "misc_ctl2:"][match age {
                0 => 0,
                7 => 2,
                _ => 1,
            }],
            guest,
        }
    }

    fn has_vmsa(&self) -> bool {
        self.guest != Guest::InVmcb
    }
}

/// A dump under way: its lines, and what they show.
struct Dump<'a> {
    random: &'a mut Random,
    lines: Vec<String>,
    shows: Vec<Shown>,
    guest: Guest,
}

impl Dump<'_> {
    /// A value of `size` bytes at byte `from` of a field, which the dump shows.
    fn part(&mut self, field: Field, from: u16, size: u16) -> u64 {
        let value = self.random.value(size);
        self.show(field, from, size, value);
        value
    }

    fn show(&mut self, field: Field, from: u16, size: u16, value: u64) {
        let mask = super::mask(size);
        let offset = field.offset + from;
        let save = field.page == Page::Vmcb && offset >= SAVE_AREA;
        let mut push = |page, offset, mask| self.shows.push(Shown { page, offset, size, value, mask });
        match self.guest {
            Guest::Decrypted if save => {
                push(Page::Vmsa, offset - SAVE_AREA, mask);
                // Where nothing is left that tells of the VMSA, it is taken for the VMCB's save area.
                push(Page::Vmcb, offset, 0);
            }
            Guest::Meaningless if save => push(Page::Vmcb, offset, 0),
            _ => push(field.page, offset, mask),
        }
    }

    fn control(&mut self, label: &str, value: String) {
        self.lines.push(format!("{label:<20}{value}"));
    }

    fn hex(&mut self, label: &str, field: Field, from: u16, size: u16) {
        let value = self.part(field, from, size);
        self.control(label, format!("{value:0digits$x}", digits = usize::from(size) * 2));
    }

    fn whole(&mut self, label: &str, field: Field) {
        self.hex(label, field, 0, field.size);
    }

    /// `%d` of a field of up to 4 bytes and `%lld` of one of 8.
    fn decimal(&mut self, label: &str, field: Field) {
        let value = self.part(field, 0, field.size);
        self.control(label, signed(value, field.size));
    }

    fn pair(&mut self, first: (&str, Field), second: (&str, Field)) {
        let one = self.part(first.1, 0, 8);
        let two = self.part(second.1, 0, 8);
        self.registers((first.0, one), (second.0, two));
    }

    fn registers(&mut self, first: (&str, u64), second: (&str, u64)) {
        self.lines.push(format!("{:<15} {:016x} {:<13} {:016x}", first.0, first.1, second.0, second.1));
    }

    fn single(&mut self, label: &str, field: Field) {
        let value = self.part(field, 0, 8);
        self.lines.push(format!("{label:<15} {value:016x}"));
    }
}

fn signed(value: u64, size: u16) -> String {
    match size {
        4 => (value as u32 as i32).to_string(),
        8 => (value as i64).to_string(),
        _ => value.to_string(),
    }
}

/// Writes a dump.
pub(crate) fn write(random: &mut Random) -> Written {
    let layout = Layout::new(random);
    let mut dump = Dump { random, lines: Vec::new(), shows: Vec::new(), guest: layout.guest };
    header(&mut dump, &layout);
    control_area(&mut dump, &layout);
    if layout.guest != Guest::Encrypted {
        save_area(&mut dump, &layout);
    }
    if layout.general_registers && layout.guest != Guest::Encrypted {
        general_registers(&mut dump, &layout);
    }
    let Dump { random, lines, shows, .. } = dump;
    Written { text: prefix::put(&lines, random), shows }
}

fn header(dump: &mut Dump<'_>, layout: &Layout) {
    let pointer = dump.random.next();
    let cpu = dump.random.below(256);
    let line = match layout.header {
        Header::Nothing => return,
        Header::Failed => "KVM: FAILED VMRUN WITH VMCB:".to_owned(),
        Header::Pointer => format!("VMCB {pointer:016x}, last attempted VMRUN on CPU {cpu}"),
        Header::Type => {
            let vcpu = dump.random.below(64);
            let plain = if dump.random.one_in(3) { "SEV" } else { "SVM" };
            let protected = if dump.random.one_in(2) { "SEV-ES" } else { "SEV-SNP" };
            let guest = if layout.has_vmsa() { protected } else { plain };
            format!("{guest} vCPU{vcpu} VMCB {pointer:016x}, last attempted VMRUN on CPU {cpu}")
        }
    };
    dump.lines.push(line);
}

fn control_area(dump: &mut Dump<'_>, layout: &Layout) {
    dump.lines.push("VMCB Control Area:".to_owned());
    dump.hex("cr_read:", c::intercept_cr, 0, 2);
    dump.hex("cr_write:", c::intercept_cr, 2, 2);
    dump.hex("dr_read:", c::intercept_dr, 0, 2);
    dump.hex("dr_write:", c::intercept_dr, 2, 2);
    dump.whole("exceptions:", c::intercept_exceptions);
    let [first, second] = [c::intercept_misc1, c::intercept_misc2].map(|field| dump.part(field, 0, 4));
    let words = match (layout.one_intercept_word, layout.third_intercept_word) {
        (true, _) => format!("{second:08x}{first:08x}"),
        (false, true) => {
            let third = dump.part(c::intercept_misc3, 0, 4);
            format!("{first:08x} {second:08x} {third:08x}")
        }
        (false, false) => format!("{first:08x} {second:08x}"),
    };
    dump.control("intercepts:", words);
    dump.decimal("pause filter count:", c::pause_filter_count);
    if layout.avic {
        dump.decimal("pause filter threshold:", c::pause_filter_threshold);
    }
    dump.whole("iopm_base_pa:", c::iopm_base_pa);
    dump.whole("msrpm_base_pa:", c::msrpm_base_pa);
    dump.whole("tsc_offset:", c::tsc_offset);
    dump.decimal("asid:", c::guest_asid);
    dump.decimal("tlb_ctl:", c::tlb_control);
    if layout.erap {
        dump.decimal("erap_ctl:", c::erap_control);
    }
    dump.whole("int_ctl:", c::int_ctl);
    dump.whole("int_vector:", c::v_intr_vector);
    dump.hex("int_state:", c::interrupt_state, 0, 4);
    let size = if layout.wide_exit_code { 8 } else { 4 };
    dump.hex("exit_code:", c::exitcode, 0, size);
    dump.whole("exit_info1:", c::exitinfo1);
    dump.whole("exit_info2:", c::exitinfo2);
    dump.hex("exit_int_info:", c::exitintinfo, 0, 4);
    dump.hex("exit_int_info_err:", c::exitintinfo, 4, 4);
    // Bit 2: the registers are in a VMSA.
    let value = dump.random.value(8) & !4 | u64::from(layout.has_vmsa()) << 2;
    dump.show(c::nested_ctl, 0, 8, value);
    dump.control(layout.nested_ctl, signed(value, 8));
    dump.whole("nested_cr3:", c::n_cr3);
    if layout.avic {
        dump.whole("avic_vapic_bar:", c::avic_apic_bar);
    }
    if layout.ghcb {
        dump.whole("ghcb:", c::ghcb);
    }
    dump.hex("event_inj:", c::eventinj, 0, 4);
    dump.hex("event_inj_err:", c::eventinj, 4, 4);
    dump.decimal(layout.virt_ext, c::virt_ext);
    dump.whole("next_rip:", c::nrip);
    if layout.avic {
        dump.whole("avic_backing_page:", c::avic_backing_page);
        dump.whole("avic_logical_id:", c::avic_logical_table);
        dump.whole("avic_physical_id:", c::avic_physical_table);
    }
    if layout.ghcb {
        dump.whole("vmsa_pa:", c::vmsa_pa);
    }
    if layout.sev_features {
        dump.whole("allowed_sev_features:", c::allowed_sev_features);
        dump.whole("guest_sev_features:", c::guest_sev_features);
    }
}

fn save_area(dump: &mut Dump<'_>, layout: &Layout) {
    dump.lines.push("VMCB State Save Area:".to_owned());
    for (label, field) in [
        ("es:", c::es),
        ("cs:", c::cs),
        ("ss:", c::ss),
        ("ds:", c::ds),
        ("fs:", c::fs),
        ("gs:", c::gs),
        ("gdtr:", c::gdtr),
        ("ldtr:", c::ldtr),
        ("idtr:", c::idtr),
        ("tr:", c::tr),
    ] {
        let [s, a, l, b] = [(0, 2), (2, 2), (4, 4), (8, 8)].map(|(from, size)| dump.part(field, from, size));
        dump.lines.push(format!("{label:<5} s: {s:04x} a: {a:04x} l: {l:08x} b: {b:016x}"));
    }
    let vmpl = layout.vmpl.then(|| dump.part(c::vmpl, 0, 1));
    let cpl = dump.part(c::cpl, 0, 1);
    let efer = dump.part(c::efer, 0, 8);
    dump.lines.push(match vmpl {
        Some(vmpl) => format!("vmpl: {vmpl}   cpl:  {cpl}               efer:          {efer:016x}"),
        None => format!("{:<15} {cpl:<16} {:<13} {efer:016x}", "cpl:", "efer:"),
    });
    dump.pair(("cr0:", c::cr0), ("cr2:", c::cr2));
    dump.pair(("cr3:", c::cr3), ("cr4:", c::cr4));
    dump.pair(("dr6:", c::dr6), ("dr7:", c::dr7));
    dump.pair(("rip:", c::rip), ("rflags:", c::rflags));
    dump.pair(("rsp:", c::rsp), ("rax:", c::rax));
    if layout.shadow_stack {
        dump.pair(("s_cet:", c::s_cet), ("ssp:", c::ssp));
        dump.single("isst_addr:", c::isst_addr);
    }
    dump.pair(("star:", c::star), ("lstar:", c::lstar));
    dump.pair(("cstar:", c::cstar), ("sfmask:", c::sfmask));
    dump.pair(("kernel_gs_base:", c::kernel_gs_base), ("sysenter_cs:", c::sysenter_cs));
    dump.pair(("sysenter_esp:", c::sysenter_esp), ("sysenter_eip:", c::sysenter_eip));
    dump.pair(("gpat:", c::g_pat), ("dbgctl:", c::dbgctl));
    dump.pair(("br_from:", c::br_from), ("br_to:", c::br_to));
    dump.pair(("excp_from:", c::last_excp_from), ("excp_to:", c::last_excp_to));
}

/// From a VMSA they are its fields; otherwise they are KVM's own copies, and no part of the VMCB.
fn general_registers(dump: &mut Dump<'_>, layout: &Layout) {
    let vmsa = layout.guest == Guest::Decrypted;
    if vmsa {
        let value = dump.part(v::sev_features, 0, 8);
        dump.lines.push(format!("{:<15} {value:016x}", "sev_features"));
        if layout.shadow_stack {
            dump.pair(("pl0_ssp:", v::pl0_ssp), ("pl1_ssp:", v::pl1_ssp));
            dump.pair(("pl2_ssp:", v::pl2_ssp), ("pl3_ssp:", v::pl3_ssp));
            dump.single("u_cet:", v::u_cet);
        }
    }
    let saved = |dump: &Dump<'_>, field: Field| {
        let shown = dump.shows.iter().find(|shown| shown.offset == field.offset);
        shown.map_or(0, |shown| shown.value)
    };
    let mut copies = [saved(dump, c::rax), saved(dump, c::rsp)];
    if !vmsa && dump.random.one_in(2) {
        copies = copies.map(|_| dump.random.next());
    }
    let own = |dump: &mut Dump<'_>, field| {
        if vmsa { dump.part(field, 0, 8) } else { dump.random.next() }
    };
    let rbx = own(dump, v::rbx);
    dump.registers(("rax:", copies[0]), ("rbx:", rbx));
    let [rcx, rdx, rsi, rdi] = [v::rcx, v::rdx, v::rsi, v::rdi].map(|field| own(dump, field));
    dump.registers(("rcx:", rcx), ("rdx:", rdx));
    dump.registers(("rsi:", rsi), ("rdi:", rdi));
    let rbp = own(dump, v::rbp);
    dump.registers(("rbp:", rbp), ("rsp:", copies[1]));
    let [r8, r9, r10, r11] = [v::r8, v::r9, v::r10, v::r11].map(|field| own(dump, field));
    dump.registers(("r8:", r8), ("r9:", r9));
    dump.registers(("r10:", r10), ("r11:", r11));
    let [r12, r13, r14, r15] = [v::r12, v::r13, v::r14, v::r15].map(|field| own(dump, field));
    dump.registers(("r12:", r12), ("r13:", r13));
    dump.registers(("r14:", r14), ("r15:", r15));
    if vmsa {
        dump.pair(("xcr0:", v::xcr0), ("xss:", v::xss));
    }
}
