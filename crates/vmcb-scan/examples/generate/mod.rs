//! Writes big traces: dense, every line one of KVM's, or sparse, one in ten thousand.

use std::io::{self, Write};

/// A trace of some virtual CPUs, each of which runs L2 and leaves it again.
pub(crate) struct Trace {
    random: u64,
    dense: bool,
    micros: u64,
    /// What each virtual CPU does next.
    steps: [u8; 4],
    events: [u32; 4],
}

impl Trace {
    pub(crate) fn new(seed: u64, dense: bool) -> Self {
        Self { random: seed | 1, dense, micros: 1_000_000, steps: [0; 4], events: [0; 4] }
    }

    fn next(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    /// Writes whole lines until there are `bytes` or more.
    pub(crate) fn write(&mut self, out: &mut impl Write, bytes: u64) -> io::Result<()> {
        let mut written = 0;
        let mut line = Vec::new();
        let mut number = 0;
        while written < bytes {
            line.clear();
            if self.dense || number % 10_000 == 5_000 {
                self.event(&mut line)?;
            } else {
                self.noise(&mut line)?;
            }
            number += 1;
            written += line.len() as u64;
            out.write_all(&line)?;
        }
        Ok(())
    }

    fn time(&mut self) -> (u64, u64) {
        self.micros += self.next() % 40;
        (self.micros / 1_000_000, self.micros % 1_000_000)
    }

    fn noise(&mut self, line: &mut Vec<u8>) -> io::Result<()> {
        let (seconds, micros) = self.time();
        let (pid, cpu, other) = (1000 + self.next() % 200, self.next() % 64, self.next() % 9000);
        match self.next() % 3 {
            0 => writeln!(
                line,
                "          worker-{pid:<7} [{cpu:03}] d..2. {seconds:>6}.{micros:06}: sched_switch: prev_comm=worker \
                 prev_pid={pid} prev_prio=120 prev_state=S ==> next_comm=swapper/{cpu} next_pid={other} next_prio=120"
            ),
            1 => writeln!(
                line,
                "          <idle>-0       [{cpu:03}] d.h1. {seconds:>6}.{micros:06}: irq_handler_entry: irq={other} name=nvme0q{cpu}"
            ),
            _ => writeln!(
                line,
                "[{seconds:>5}.{micros:06}] audit: type=1400 audit({seconds}.{other:03}:{pid}): apparmor=\"STATUS\" \
                 operation=\"profile_load\" profile=\"unconfined\" pid={pid} comm=\"parser\""
            ),
        }
    }

    fn event(&mut self, line: &mut Vec<u8>) -> io::Result<()> {
        let (seconds, micros) = self.time();
        let vcpu = (self.next() % 4) as usize;
        let value = self.next();
        write!(
            line,
            " CPU {vcpu}/KVM-{pid}    [{cpu:03}] ..... {seconds:>6}.{micros:06}: ",
            pid = 4000 + vcpu,
            cpu = vcpu * 2
        )?;
        let (Some(step), Some(event)) = (self.steps.get_mut(vcpu), self.events.get_mut(vcpu)) else {
            return Ok(());
        };
        let rip = 0xFFFF_FFFF_8100_0000 | value & 0xFF_FFFF;
        let exit = |name: &str, reason: &str, line: &mut Vec<u8>| {
            writeln!(
                line,
                "{name}: vcpu {vcpu} reason {reason} rip {rip:#x} info1 {:#018x} info2 {:#018x} \
                 intr_info 0x00000000 error_code 0x00000000 requests 0x0000000000000000",
                value & 0x1_0000_001F,
                value << 4 & 0xFFFF_F000
            )
        };
        let now = *step;
        *step = (now + 1) % 9;
        match now {
            0 => exit("kvm_exit", "vmrun", line),
            1 => {
                *event = match value % 8 {
                    0 => 0x8000_0000 | (0x30 + (value >> 8) as u32 % 0xC0),
                    1 => 0x8000_0B0E,
                    2 if value >> 20 & 0xFFF == 7 => 0x8000_031F,
                    _ => 0,
                };
                writeln!(
                    line,
                    "kvm_nested_vmenter: rip: {rip:#018x} vmcb: {:#018x} nested_rip: {rip:#018x} int_ctl: 0x01000001 \
                     event_inj: {event:#010x} nested_npt=y nested_cr3: {:#018x}",
                    0x1_0359_4000 + vcpu * 0x1000,
                    0x1_0aa0_0000 + vcpu * 0x1000
                )
            }
            2 => writeln!(
                line,
                "kvm_nested_intercepts: cr_read: 0010 cr_write: 0010 excp: 00060042 intercepts: bc4c8027 00006e7f 00000000"
            ),
            3 => writeln!(
                line,
                "kvm_entry: vcpu {vcpu}, rip {rip:#x} intr_info {event:#010x} error_code 0x00000000"
            ),
            4 => exit("kvm_exit", "npf", line),
            5 => exit("kvm_nested_vmexit", "npf", line),
            6 => writeln!(
                line,
                "kvm_nested_vmexit_inject: reason: npf ext_inf1: {:#018x} ext_inf2: {:#018x} ext_int: 0x00000000 ext_int_err: 0x00000000",
                value & 0x1F,
                value & 0xFFFF_F000
            ),
            7 => writeln!(line, "kvm_inj_virq: IRQ {:#x}", 0x30 + value % 0xC0),
            _ => writeln!(
                line,
                "kvm_entry: vcpu {vcpu}, rip {rip:#x} intr_info 0x00000000 error_code 0x00000000"
            ),
        }
    }
}
