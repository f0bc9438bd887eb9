//! Arguments of `nsvm l0`.

use clap::{Args, Subcommand};

/// L1's memory in MiB if `--memory` is not given.
pub const L0_MEMORY: u32 = 128;

/// The verbs of `nsvm l0`.
#[derive(Subcommand, Debug)]
pub enum L0 {
    /// Boot L0 in QEMU's emulation, with a multiboot or a Linux kernel as L1
    Run(L0Run),
}

/// Arguments of `nsvm l0 run`.
#[derive(Args, Debug)]
#[command(after_long_help = "\
L0 is a small hypervisor on the bare machine. L1 has the machine but for L0's memory: its serial port, interrupt \
controllers, timers and debug exit (isa-debug-exit at F4h). Devices cannot write to memory by themselves: bus \
mastering, ISA DMA and fw_cfg's DMA are held off. The CPU below is QEMU's `max`.

LOG:
  One line for each VMRUN that is refused: address, ids of the broken rules, the values that they read, what \
  VMRUN does. Behind it stands the VMCB as `xxd` writes it: `nsvm check` reads the log. Without --cpu the log \
  begins with L1's CPU, as `nsvm check --cpu cpuid:LOG` reads it.

EXAMPLES:
  nsvm l0 run --l1 hypervisor.elf --append 'console=com1' --log l0.log
  nsvm check l0.log --cpu cpuid:l0.log --phase before
  nsvm l0 run --l1 vmlinuz --initrd initrd.img --append console=ttyS0 --memory 512
  nsvm l0 run --l1 xen.gz.elf --module 'dom0.bin quiet' --memory 512
  nsvm l0 run --l1 hypervisor.elf --cpu EPYC-Genoa,+shstk,phys-bits=52 --verdict-only

EXIT STATUS:
  What L1 wrote to its debug exit, 0 to 127; 0 where it powered off or reset. 113 (71h) where it shut down.
  3 where L0 or QEMU could not go on, or bad usage: then there is a message that begins with `error`.")]
pub struct L0Run {
    /// L1: a multiboot (version 1) kernel, ELF or flat, or a Linux kernel (bzImage)
    #[arg(long, value_name = "IMAGE")]
    pub l1: std::path::PathBuf,
    /// L1's command line
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub append: String,
    /// A module of L1: a file, and after a blank its command line; may be given several times
    #[arg(long = "module", value_name = "FILE")]
    pub modules: Vec<String>,
    /// The initrd of a Linux kernel
    #[arg(long, value_name = "FILE", conflicts_with = "modules")]
    pub initrd: Option<std::path::PathBuf>,
    /// L1's virtual CPU, as for `nsvm check`; without it what QEMU's CPU has and the engine gives
    #[arg(long, value_name = "SPEC")]
    pub cpu: Option<String>,
    /// Judge each VMRUN for any virtual CPU and enter no L2: EXITCODE F0000000h says that it would have been entered
    #[arg(long)]
    pub verdict_only: bool,
    /// Another qemu-system-x86_64: a path, or a fetched one such as `qemu@sid`
    #[arg(long, value_name = "PATH")]
    pub qemu: Option<String>,
    /// QEMU's machine
    #[arg(long, value_name = "NAME", default_value = "pc", value_parser = ["pc", "q35"])]
    pub machine: String,
    /// L1's memory
    #[arg(long, value_name = "MIB", default_value_t = L0_MEMORY)]
    pub memory: u32,
    /// Where L0's log goes; the standard error without it
    #[arg(long, value_name = "FILE")]
    pub log: Option<std::path::PathBuf>,
    /// Of how many refused VMRUNs the VMCB is dumped
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub dumps: u32,
    /// After every N exits L0 saves its nested state, throws it away and goes on from the saved bytes; 0: never
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub reload: u32,
}
