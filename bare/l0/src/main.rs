//! L0: a small hypervisor on the bare machine that runs one L1 on `nested-svm`.
//!
//! L1 has the machine but for L0's own memory: addresses, devices and interrupts are the machine's. L0 always runs with
//! GIF clear and takes no interrupt.
//!
//! UNSAFETY: VMRUN, port I/O and a machine without an operating system; nothing here is linked into anything else.
#![no_std]
#![no_main]

mod bios;
mod boot;
mod bundle_reader;
mod cpu;
mod cpuid;
mod decode;
mod exits;
mod firmware;
mod linux;
mod log;
mod memory;
mod multiboot;
mod ports;
mod reload;
mod vcpu;

use bare_common::exceptions;
use bare_interface::l0::{self as bundle, flag, head};
use bundle_reader::Bundle;
use core::cell::UnsafeCell;
use exits::L0;
use firmware::Map;
use log::{Log, fail};
use memory::{Identity, Pool, Ram, Table};
use nested_svm::{Host, Nested, NoMemory, Page, Shadow, Unsupported};
use reload::Reload;
use vmcb::layout::vmcb_field as f;
use vmcb::{Efer, Feature, Limits, NestedCtl, Policy};

/// Pages for the shadow of L1's nested tables: 2 MiB.
const POOL: usize = 512;
const IOPM: usize = 3 * 4096;
const MSRPM: usize = 2 * 4096;

/// A page that the hardware gets the address of: a VMCB or the host save area.
#[repr(C, align(4096))]
struct Aligned(Page);

/// Memory whose addresses L0 passes to the hardware.
#[repr(C, align(4096))]
struct Pages {
    vmcb01: Aligned,
    vmcb02: Aligned,
    host_save: Aligned,
    iopm: [u8; IOPM],
    msrpm: [u8; MSRPM],
    ones: [u8; IOPM],
    identity: Identity,
    pool: [Table; POOL],
}

struct Once(UnsafeCell<Pages>);

// SAFETY: there is one CPU, and `main` takes it once.
unsafe impl Sync for Once {}

static PAGES: Once = Once(UnsafeCell::new(Pages {
    vmcb01: Aligned(Page::zeroed()),
    vmcb02: Aligned(Page::zeroed()),
    host_save: Aligned(Page::zeroed()),
    iopm: [0; IOPM],
    msrpm: [0; MSRPM],
    ones: [0; IOPM],
    identity: Identity::new(),
    pool: [[0; 512]; POOL],
}));

fn address<T: ?Sized>(part: &T) -> u64 {
    core::ptr::from_ref(part).cast::<u8>() as u64
}

/// Called once by the entry, in 64-bit mode with everything below 4 GiB mapped to itself. `home`: where L0 begins.
#[unsafe(no_mangle)]
extern "C" fn l0_main(start_info: u64, home: u64) -> ! {
    log::open();
    exceptions::load();
    // SAFETY: the entry calls this function once.
    let pages = unsafe { &mut *PAGES.0.get() };
    if let Err(bridge) = ports::hold_bus_masters() {
        fail(format_args!(
            "the host bridge is {bridge:08x}, not that of QEMU's `-M pc` or `-M q35`: bus mastering cannot be held off"
        ));
    }
    let map = Map::read(start_info, home).unwrap_or_else(|why| fail(format_args!("{why}")));
    let mut ram = Ram::new(home);
    let region = (home, map.region_end(home));
    let (bundle, at) = move_bundle(home);

    let limits = virtual_cpu(&bundle);
    let own = cpuid::host();
    let verdict_only = bundle.flags() & flag::VERDICT_ONLY != 0;
    let Pages {
        vmcb01: Aligned(vmcb01),
        vmcb02: Aligned(vmcb02),
        host_save,
        iopm,
        msrpm,
        ones,
        identity,
        pool,
    } = pages;
    let host = Host {
        asid: 2,
        flush_by_asid: own.has(Feature::FlushByAsid) == Some(true),
        iopm: address(iopm),
        msrpm: address(msrpm),
        every_port: address(ones),
        every_msr: address(ones),
        // No machine but QEMU's has got this far.
        marks_pdptes: true,
        takes_interrupts: false,
        virtual_spec_ctrl: false,
        gib_pages: cpuid::gib_pages(),
    };
    let nested = if verdict_only { Nested::for_verdicts(limits, host) } else { engine(limits, host, &own) };

    ones.fill(0xFF);
    ports::intercept(iopm);
    intercept_msrs(msrpm);
    identity.lay_out(region);
    let is_linux = bundle.setup_header().size != 0;
    let load = if is_linux { linux::load } else { multiboot::load };
    let registers = load(&mut ram, &bundle, at, &map).unwrap_or_else(|why| fail(format_args!("{why}")));
    bios::hook(&mut ram).unwrap_or_else(|NoMemory| fail(format_args!("there is no memory below 1 MiB")));
    set_up(vmcb01, iopm, msrpm, identity);
    multiboot::start(vmcb01, bundle.entry());
    if is_linux {
        linux::set_gdt(vmcb01, registers.rsi);
    }
    vcpu::reset_fpu();
    if let Err(number) = cpu::prepare_vmrun(address(host_save)) {
        fail(format_args!("this machine has no SVM: MSR {number:#x} cannot be set"));
    }
    let mut l0 = L0 {
        registers,
        nested,
        shadow: Shadow::new(Pool::new(pool, region, identity.sink()))
            .unwrap_or_else(|error| fail(format_args!("{error}"))),
        ram,
        map,
        log: Log::new(bundle.flags(), bundle.dumps()),
        code: decode::Code::default(),
        verdict_only,
        virtual_gif: own.has(Feature::Vgif) == Some(true),
        interrupted: false,
        reload: Reload::new(bundle.reload()),
        vmcb01,
        vmcb02,
    };
    if bundle.limits().is_empty() && bundle.flags() & flag::QUIET == 0 {
        cpuid::tell(&l0.nested, l0.vmcb01.vmcb());
    }
    l0.run()
}

/// Returns the engine that runs L2. Stops L0 with an error if this machine cannot provide L1's virtual CPU.
fn engine(limits: Limits, host: Host, own: &vmcb::Cpu) -> Nested {
    let able = |feature| own.has(feature) == Some(true);
    if let (Some(wanted), Some(width)) = (limits.cpu().phys_bits(), own.phys_bits())
        && wanted > width
    {
        fail(format_args!(
            "L1's physical addresses have {wanted} bits, this machine's {width}: append ,phys-bits={width} to --cpu, or only judge (--verdict-only)"
        ));
    }
    if Nested::unsupported(&limits, able).next().is_some() {
        cannot_give(&limits, able);
    }
    match Nested::new(limits, host, able) {
        Ok(nested) => nested,
        Err(missing) => fail(format_args!("{missing}")),
    }
}

/// Fills in VMCB01 except for the registers of L1.
fn set_up(vmcb01: &mut Page, iopm: &[u8; IOPM], msrpm: &[u8; MSRPM], identity: &Identity) {
    exits::intercept(vmcb01);
    for (field, value) in [
        (f::iopm_base_pa, address(iopm)),
        (f::msrpm_base_pa, address(msrpm)),
        (f::guest_asid, 1),
        (f::nested_ctl, NestedCtl::NP_ENABLE.bits()),
        (f::n_cr3, identity.root()),
        (f::efer, Efer::SVME.bits()),
    ] {
        vmcb01.set(field, value);
    }
}

/// Moves the bundle out of L1's way, to the end of its memory.
fn move_bundle(home: u64) -> (Bundle, u64) {
    // SAFETY: the host side wrote the head of the image, which stands at `home`.
    let word = |offset: usize| unsafe { ((home + offset as u64) as *const u64).read() };
    let (from, size) = (word(head::BUNDLE), word(head::BUNDLE_SIZE));
    let to = (home - size) & !0xFFF;
    if size > home || to < bundle::LOAD || from.checked_add(size).is_none_or(|end| end > home) {
        fail(format_args!("a bundle of {size} bytes does not fit below {home:#x}"));
    }
    // SAFETY: both lie in memory of L1, in which nothing of L0 stands any more; they may overlap.
    let bytes = unsafe {
        core::ptr::copy(from as *const u8, to as *mut u8, size as usize);
        core::slice::from_raw_parts(to as *const u8, size as usize)
    };
    match Bundle::new(bytes) {
        Some(bundle) => (bundle, to),
        None => fail(format_args!("there is no bundle at {from:#x}")),
    }
}

/// What L1 is to see: what the bundle says; else what this machine has and the engine gives.
fn virtual_cpu(bundle: &Bundle) -> Limits {
    let encoded = bundle.limits();
    if !encoded.is_empty() {
        let limits =
            Limits::decode(encoded).unwrap_or_else(|error| fail(format_args!("L1's virtual CPU: {error}")));
        // Where no width is named, CPUID tells L1 this machine's.
        let unnamed = limits.cpu().phys_bits().is_none();
        let own = cpuid::host().phys_bits().filter(|_| unnamed);
        let cpu = own.and_then(|bits| limits.cpu().with_phys_bits(bits));
        return cpu.map_or_else(|| limits.clone(), |cpu| Limits::compile(&cpu, limits.policy()));
    }
    // No emulation has it, and CPUID of none says so.
    let own = cpuid::host().with(Feature::LmsleUnsupported, true);
    let limits = Limits::compile(&own, Policy::VirtualCpu);
    let missing = Nested::unsupported(&limits, |feature| own.has(feature) == Some(true));
    let cpu = missing.fold(own, |cpu, missing| match missing {
        Unsupported::Feature(feature) => cpu.with(feature, false),
        _ => cpu,
    });
    Limits::compile(&cpu, Policy::VirtualCpu)
}

/// EFER, TSC_RATIO, VM_CR and VM_HSAVE_PA, reads and writes; the others are the machine's.
fn intercept_msrs(map: &mut [u8]) {
    // Two bits an MSR, from C000_0000h at byte 800h and from C001_0000h at byte 1000h (manual volume 2, 15.11).
    for (byte, index) in [(0x800, 0x80), (0x800, 0x104), (0x1000, 0x114), (0x1000, 0x117)] {
        if let Some(byte) = map.get_mut(byte + index / 4) {
            *byte |= 3 << (2 * (index % 4));
        }
    }
}

/// Tells all that keeps the virtual CPU from running here, and how to name one that runs.
fn cannot_give(limits: &Limits, able: impl Fn(Feature) -> bool + Copy) -> ! {
    log::line(format_args!("this machine cannot give what L1's virtual CPU says of"));
    for missing in Nested::unsupported(limits, able) {
        match missing {
            Unsupported::Feature(feature) => {
                log::line(format_args!("  {} ({})", feature.name(), feature.meaning()));
            }
            other => fail(format_args!("{other}")),
        }
    }
    fail(format_args!("append {} to --cpu, or only judge (--verdict-only)", Changes(limits, able)))
}

/// What to append to the name of a virtual CPU so that this machine can give it: `,-vme,-fxsr-opt`.
struct Changes<'a, F>(&'a Limits, F);

impl<F: Fn(Feature) -> bool + Copy> core::fmt::Display for Changes<'_, F> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self(limits, able) = self;
        Nested::unsupported(limits, *able).try_for_each(|missing| match missing {
            Unsupported::Feature(feature) => {
                let sign = if limits.cpu().has(feature) == Some(true) { '-' } else { '+' };
                write!(f, ",{sign}{}", feature.name())
            }
            _ => Ok(()),
        })
    }
}
