//! The vectors and the exit codes that the engine treats specially.

use vmcb::{ExitCode, Vector};

pub(crate) const PF: Vector = Vector::new(14);
pub(crate) const DB: Vector = Vector::new(1);
pub(crate) const AC: Vector = Vector::new(17);
pub(crate) const INTR: ExitCode = ExitCode::from_bits(0x60);
pub(crate) const NMI: ExitCode = ExitCode::from_bits(0x61);
pub(crate) const VINTR: ExitCode = ExitCode::from_bits(0x64);
pub(crate) const TASK_SWITCH: ExitCode = ExitCode::from_bits(0x7D);
pub(crate) const SHUTDOWN: ExitCode = ExitCode::from_bits(0x7F);
