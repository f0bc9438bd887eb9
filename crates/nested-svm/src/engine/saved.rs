//! The nested state as bytes: for migration, and for an L0 that replaces itself.
//!
//! The bytes describe the guests and the virtual CPU. They contain no physical address of a host and nothing about the
//! hardware. L0 must save VMCB01 itself. The shadow tables are not saved, since page faults fill them again.
//!
//! The bytes hold a magic, the version, the stored form of the `Limits` (length, bytes), the registers of the virtual
//! CPU, the state of L2 if L2 runs, and a CRC-32. Numbers are little-endian.

use super::instructions::VMLOAD_STATE;
use super::msr::{SPEC_CTRL_BITS, SVMDIS, VM_CR_WRITABLE, is_tsc_ratio};
use super::vmrun::READ;
use crate::events::held::{Injected, Origin, Parked, Pending, is_asynchronous};
use crate::l0::memory::Memory;
use crate::l0::page::Page;
use crate::l0::trace::Trace;
use crate::shadow::tables::Tables;
use crate::state::nested::{Nested, State, TSC_RATIO_ONE};
use crate::state::world::World;
use crate::types::{Flush, Guest};
use crate::vmcb02::{self, Enabled};
use core::fmt;
use vmcb::layout::{Field, vmcb_field as f};
use vmcb::{
    Environment, Event, EventType, Feature, Input, Inputs, Limits, LimitsError, TakesOver, Verdict, admit,
};

const MAGIC: &[u8; 7] = b"nsvmNst";
const VERSION: u8 = b'2';
const CHECKSUM: usize = 4;

/// Registers that L2 may share with L1, as VMCB02 holds them, and nRIP of an event that is injected again.
const SHARED: [Field; 8] =
    [f::g_pat, f::dbgctl, f::br_from, f::br_to, f::last_excp_from, f::last_excp_to, f::spec_ctrl, f::nrip];
const SHARED_SPEC_CTRL: usize = 6;

/// The parts of VMCB12 that VMRUN reads, with L2's state in them, and the registers that only VMLOAD loads.
const PARTS: [core::ops::Range<usize>; READ.len() + VMLOAD_STATE.len()] = {
    let [a, b, c, d, e, g, h, i, j, k] = READ;
    let [l, m, n, o] = VMLOAD_STATE;
    [a, b, c, d, e, g, h, i, j, k, l, m, n, o]
};

const IMAGE: usize = {
    let mut size = 0;
    let mut index = 0;
    while index < PARTS.len() {
        size += PARTS[index].end - PARTS[index].start;
        index += 1;
    }
    size
};

/// The inputs that [`Nested::load`] does not check again. L1 executed VMRUN earlier, so only the content of the VMCB is
/// checked.
enum Loading {}

impl TakesOver for Loading {
    const INPUTS: Inputs = Inputs::EMPTY
        .with(Input::HostMode)
        .with(Input::HostMsrs)
        .with(Input::VmcbAddress)
        .with(Input::Pdptes)
        .with(Input::UCet)
        .with(Input::Vmsa)
        .with(Input::Rmp)
        .with(Input::SiblingThread);
}

/// Why saved state was not loaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum LoadError<'a> {
    /// The bytes do not begin with the magic `nsvmNst`.
    NotState,
    /// They are of a version that this build does not know.
    UnknownVersion(u8),
    /// They end early, have bytes left over, hold an impossible value, or the checksum does not match.
    Corrupt(&'static str),
    /// The limits in them cannot be read.
    Limits(LimitsError<'a>),
    /// They belong to another virtual CPU than the one that they are loaded into.
    OtherCpu,
    /// VMRUN would refuse the state of L2: by these rules of the limits that the VM was born with.
    Refused(Verdict),
}

impl fmt::Display for LoadError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotState => {
                f.write_str("these bytes are no nested state: they do not begin with `nsvmNst`")
            }
            Self::UnknownVersion(version) => write!(
                f,
                "unsupported nested state version `{}`; load it with a build that supports this version",
                version.escape_ascii()
            ),
            Self::Corrupt(reason) => write!(f, "corrupt nested state: {reason}"),
            Self::Limits(error) => write!(f, "nested state: {error}"),
            Self::OtherCpu => {
                f.write_str("nested state of another virtual CPU; load it into one with the same limits")
            }
            Self::Refused(verdict) => {
                f.write_str("VMRUN refuses the state of L2:")?;
                verdict
                    .broken()
                    .union(verdict.undecided())
                    .iter()
                    .try_for_each(|rule| write!(f, " {}", rule.id()))
            }
        }
    }
}

impl core::error::Error for LoadError<'_> {}

impl Nested {
    /// Room that [`Self::save`] never exceeds, in bytes.
    pub const SAVED_MAX: usize =
        MAGIC.len() + 1 + 2 + Limits::ENCODED_MAX + REGISTERS + RUNNING + 8 * SHARED.len() + IMAGE + CHECKSUM;

    /// Writes the state into `buffer` and returns the bytes. L0 calls it after it handled an exit and before the next
    /// entry. The same state always has the same bytes.
    ///
    /// An interrupt window is closed, so L0 must save VMCB01 after this call.
    pub fn save<'a, M: Memory, T: Tables, L: Trace>(
        &mut self,
        world: &mut World<'_, M, T, L>,
        buffer: &'a mut [u8; Self::SAVED_MAX],
    ) -> &'a [u8] {
        self.close_window(world.page(self.state.guest));
        self.write(world.vmcb02, buffer)
    }

    #[inline(never)]
    fn write<'a>(&self, vmcb02: &Page, buffer: &'a mut [u8; Self::SAVED_MAX]) -> &'a [u8] {
        let mut out = Writer { buffer: &mut buffer[..], length: 0 };
        out.bytes(MAGIC);
        out.bytes(&[VERSION]);
        let mut limits = [0; Limits::ENCODED_MAX];
        let limits = self.limits.encode(&mut limits);
        out.bytes(&(limits.len() as u16).to_le_bytes());
        out.bytes(limits);
        let state = &self.state;
        let flags = [
            state.guest == Guest::L2,
            state.gif,
            state.host_if,
            state.svme,
            state.pending.nmi,
            state.entered,
        ];
        out.bytes(&[flags.iter().rev().fold(0, |bits, &flag| bits << 1 | u8::from(flag))]);
        out.numbers(&[state.vm_cr, state.hsave_pa, state.tsc_ratio]);
        out.numbers(&state.pending.interrupts);
        let Parked { event, vmcb12 } = state.parked;
        out.numbers(&[state.vmcb12_address, state.displaced.bits(), event.bits(), vmcb12]);
        if state.guest == Guest::L2 {
            let Injected { origin, rip, next_rip, .. } = state.injected;
            out.bytes(&[ORIGINS.iter().position(|&known| known == origin).unwrap_or(0) as u8]);
            out.numbers(&[rip, next_rip, vmcb02.get(f::int_ctl) & V_TPR]);
            for field in SHARED {
                out.numbers(&[vmcb02.get(field)]);
            }
            let mut image = self.vmcb12.clone();
            vmcb02::store_running(&mut image, vmcb02, state.enabled, state.shared_tpr);
            vmcb02::copy_unloaded(&mut image, vmcb02);
            image.set(f::eventinj, saved_event(vmcb02.vmcb().eventinj()).bits());
            for part in PARTS {
                out.bytes(image.bytes().get(part).unwrap_or_default());
            }
        }
        let checksum = vmcb::crc32(out.written());
        out.bytes(&checksum.to_le_bytes());
        let length = out.length;
        buffer.get(..length).unwrap_or_default()
    }

    /// Replaces the state of this virtual CPU with saved state. If L2 is to run, VMCB02 is filled too. VMCB01 must hold
    /// what L0 saved together with the state. U_CET ([`Self::set_u_cet`]) and the host's numbers do not change.
    ///
    /// # Errors
    /// The bytes are corrupt, of another version or virtual CPU, or hold an L2 that VMRUN would refuse. The virtual CPU
    /// is then in the state after RESET or unchanged, and VMCB02 is unchanged.
    pub fn load<'a, M: Memory, T: Tables, L: Trace>(
        &mut self,
        world: &mut World<'_, M, T, L>,
        bytes: &'a [u8],
    ) -> Result<(), LoadError<'a>> {
        let mut from = self.open(bytes)?;
        self.reset();
        let (mut shared, mut v_tpr) = ([0; SHARED.len()], 0);
        if let Err(error) = self.read(&mut from, &mut shared, &mut v_tpr) {
            self.reset();
            return Err(error);
        }
        world.shadow.forget_all();
        if self.state.guest == Guest::L2 {
            self.resume(world, &shared, v_tpr);
        }
        Ok(())
    }

    /// Checks what encloses the state: magic, version, checksum, and the limits of the virtual CPU.
    fn open<'a>(&self, bytes: &'a [u8]) -> Result<Reader<'a>, LoadError<'a>> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(LoadError::NotState)?;
        let (&version, rest) = rest.split_first().ok_or(LoadError::NotState)?;
        if version != VERSION {
            return Err(LoadError::UnknownVersion(version));
        }
        let (rest, &stored) = rest.split_last_chunk::<CHECKSUM>().ok_or(LoadError::Corrupt("no checksum"))?;
        let body = bytes.len() - CHECKSUM;
        if vmcb::crc32(bytes.get(..body).unwrap_or_default()) != u32::from_le_bytes(stored) {
            return Err(LoadError::Corrupt("the checksum does not match"));
        }
        let mut from = Reader { rest };
        let length = u16::from_le_bytes(from.array()?);
        let saved = from.bytes(length.into())?;
        let mut own = [0; Limits::ENCODED_MAX];
        // Equal limits usually have equal bytes. Only other bytes need to be decoded.
        if self.limits.encode(&mut own) == saved { Ok(from) } else { self.same_limits(saved).map(|()| from) }
    }

    /// Whether bytes that this build would write differently are the limits of this virtual CPU.
    #[cold]
    #[inline(never)]
    fn same_limits<'a>(&self, saved: &'a [u8]) -> Result<(), LoadError<'a>> {
        let born = Limits::decode(saved).map_err(LoadError::Limits)?;
        if born == self.limits { Ok(()) } else { Err(LoadError::OtherCpu) }
    }

    /// The state after RESET, in place.
    fn reset(&mut self) {
        self.vmcb12.bytes_mut().fill(0);
        self.state = State::after_reset(self.offers);
    }

    fn read<'a>(
        &mut self,
        from: &mut Reader<'a>,
        shared: &mut [u64; SHARED.len()],
        v_tpr: &mut u64,
    ) -> Result<(), LoadError<'a>> {
        let [flags] = from.array()?;
        let flag = |bit: u8| flags >> bit & 1 != 0;
        if flags >> 6 != 0 {
            return Err(LoadError::Corrupt("an unknown flag"));
        }
        let state = &mut self.state;
        state.guest = if flag(0) { Guest::L2 } else { Guest::L1 };
        // The TLB may hold entries of an earlier user of L1's ASID.
        state.flush_l1 = Flush::Asid;
        (state.gif, state.host_if, state.svme, state.entered) = (flag(1), flag(2), flag(3), flag(5));
        (state.vm_cr, state.hsave_pa, state.tsc_ratio) = (from.number()?, from.number()?, from.number()?);
        let interrupts = [from.number()?, from.number()?, from.number()?, from.number()?];
        state.pending = Pending { interrupts, nmi: flag(4) };
        state.vmcb12_address = from.number()?;
        state.displaced = Event::from_bits(from.number()?);
        state.parked = Parked { event: Event::from_bits(from.number()?), vmcb12: from.number()? };
        let addresses = [state.vmcb12_address, state.parked.vmcb12];
        let displaced = can_be_displaced(state.displaced)
            && can_be_displaced(state.parked.event)
            && !(state.displaced.valid() && state.guest == Guest::L1);
        if !addresses.into_iter().all(|address| self.limits.accepts_page_address(address)) || !displaced {
            return Err(LoadError::Corrupt("an address or an event that cannot be"));
        }
        let disabled = state.vm_cr & SVMDIS != 0;
        let legal = state.vm_cr & !VM_CR_WRITABLE == 0
            && self.limits.accepts_page_address(state.hsave_pa)
            && is_tsc_ratio(state.tsc_ratio)
            && (state.tsc_ratio == TSC_RATIO_ONE || self.offers.has(Feature::TscScale))
            && !(state.svme && (disabled || !self.offers.has(Feature::Svm)))
            && (state.svme || state.guest == Guest::L1);
        if !legal {
            return Err(LoadError::Corrupt("an MSR has a value that it cannot have"));
        }
        if state.guest == Guest::L2 {
            self.read_running(from, shared, v_tpr)?;
        }
        if !from.rest.is_empty() {
            return Err(LoadError::Corrupt("bytes are left over"));
        }
        Ok(())
    }

    /// Fills VMCB02, on which L2 is to run.
    fn resume<M: Memory, T: Tables, L: Trace>(
        &mut self,
        world: &mut World<'_, M, T, L>,
        shared: &[u64; SHARED.len()],
        v_tpr: u64,
    ) {
        let Injected { origin, rip, next_rip, .. } = self.state.injected;
        let entered = self.state.entered;
        self.enter(world);
        self.state.entered = entered;
        // An L2 that shares L1's TPR has it as it was when the state was saved.
        world.vmcb02.set_bits(f::int_ctl, V_TPR, v_tpr);
        // What held interrupts back while GIF was clear does so again.
        self.set_gif(world.vmcb02, self.state.gif);
        vmcb02::copy_unloaded(world.vmcb02, &self.vmcb12);
        for (field, &value) in SHARED.into_iter().zip(shared) {
            world.vmcb02.set(field, value);
        }
        let event = saved_event(world.vmcb02.vmcb().eventinj());
        world.vmcb02.set(f::eventinj, event.bits());
        self.state.injected = Injected { event, origin, rip, next_rip };
    }

    /// The state of an L2 that runs.
    fn read_running<'a>(
        &mut self,
        from: &mut Reader<'a>,
        shared: &mut [u64; SHARED.len()],
        v_tpr: &mut u64,
    ) -> Result<(), LoadError<'a>> {
        let [origin] = from.array()?;
        let known = ORIGINS.get(usize::from(origin));
        let origin = *known.ok_or(LoadError::Corrupt("the origin of an event is unknown"))?;
        self.state.injected =
            Injected { event: Event::from_bits(0), origin, rip: from.number()?, next_rip: from.number()? };
        *v_tpr = from.number()? & V_TPR;
        for value in &mut *shared {
            *value = from.number()?;
        }
        if !self.limits.accepts_pat(shared[0]) || shared[SHARED_SPEC_CTRL] & !SPEC_CTRL_BITS != 0 {
            return Err(LoadError::Corrupt("an MSR has a value that it cannot have"));
        }
        for part in PARTS {
            let bytes = from.bytes(part.len())?;
            copy(self.vmcb12.bytes_mut().get_mut(part), bytes);
        }
        let environment = Loading::INPUTS.iter().fold(Environment::unknown(), Environment::take_over);
        admit::<Loading>(self.vmcb12.bytes(), &self.limits, &environment).map_err(LoadError::Refused)?;
        self.state.enabled = Enabled::new(self.offers, &self.vmcb12);
        Ok(())
    }
}

/// Flags, VM_CR, VM_HSAVE_PA, TSC_RATIO, the pending interrupts, the address of VMCB12, the displaced event, the parked event
/// and the address of its VMCB12.
const REGISTERS: usize = 1 + 3 * 8 + 4 * 8 + 4 * 8;
/// Origin of the event in EVENTINJ, RIP, nRIP, V_TPR.
const RUNNING: usize = 1 + 3 * 8;
const V_TPR: u64 = 0xFF;
/// The origins of events, in the order of their numbers in saved state.
const ORIGINS: [Origin; 3] = [Origin::L0, Origin::L1, Origin::L2];

/// Returns whether this is an event that an exception can displace from EVENTINJ, or zero.
const fn can_be_displaced(event: Event) -> bool {
    if event.valid() {
        is_asynchronous(event) && event.bits() == event.without_error_code().bits()
    } else {
        event.bits() == 0
    }
}

/// An event as saved state holds it. Only exceptions push an error code.
const fn saved_event(event: Event) -> Event {
    match event.event_type() {
        EventType::EXCEPTION => event,
        _ => event.without_error_code(),
    }
}

/// Copies bytes to a place of their length; written so that the compiler sees no panic.
fn copy(place: Option<&mut [u8]>, bytes: &[u8]) {
    for (to, from) in place.unwrap_or_default().iter_mut().zip(bytes) {
        *to = *from;
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn bytes(&mut self, length: usize) -> Result<&'a [u8], LoadError<'a>> {
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(LoadError::Corrupt("it ends early"))?;
        self.rest = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], LoadError<'a>> {
        let (bytes, rest) = self.rest.split_first_chunk::<N>().ok_or(LoadError::Corrupt("it ends early"))?;
        self.rest = rest;
        Ok(*bytes)
    }

    fn number(&mut self) -> Result<u64, LoadError<'a>> {
        self.array().map(u64::from_le_bytes)
    }
}

struct Writer<'a> {
    buffer: &'a mut [u8],
    length: usize,
}

impl Writer<'_> {
    /// Appends; `SAVED_MAX` leaves room for all there can be.
    fn bytes(&mut self, bytes: &[u8]) {
        let end = self.length.saturating_add(bytes.len());
        if end <= self.buffer.len() {
            copy(self.buffer.get_mut(self.length..end), bytes);
            self.length = end;
        }
    }

    fn numbers(&mut self, numbers: &[u64]) {
        for number in numbers {
            self.bytes(&number.to_le_bytes());
        }
    }

    fn written(&self) -> &[u8] {
        self.buffer.get(..self.length).unwrap_or_default()
    }
}
