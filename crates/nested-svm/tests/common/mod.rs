//! Helpers that several test files share.
#![allow(dead_code, reason = "each test file uses only some of them")]

use nested_svm::model::{Machine, Seen, VMCB12, limits};
use nested_svm::{Fault, Guest};
use std::collections::BTreeMap;
use std::sync::Mutex;
use vmcb::Limits;
use vmcb::layout::{Field, vmcb_field as f};

/// Returns a machine with this virtual CPU. Its limits are compiled once, since that takes longer than a VMRUN.
pub(crate) fn machine(cpu: &'static str) -> Machine {
    static COMPILED: Mutex<BTreeMap<&str, Limits>> = Mutex::new(BTreeMap::new());
    let mut compiled = COMPILED.lock().expect("no test panics while it compiles limits");
    Machine::new(compiled.entry(cpu).or_insert_with(|| limits(cpu)).clone())
}

/// Returns a machine whose VMCB12 has these values.
pub(crate) fn with12(cpu: &'static str, fields: &[(Field, u64)]) -> Machine {
    let mut machine = machine(cpu);
    for &(field, value) in fields {
        machine.set12(field, value);
    }
    machine
}

/// Lets L1 execute VMRUN of the same VMCB12 again.
pub(crate) fn vmrun_again(machine: &mut Machine) -> Result<Guest, Fault> {
    machine.vmcb01.set(f::rax, VMCB12);
    machine.vmrun()
}

/// Returns the events that guests received, in order.
pub(crate) fn delivered(machine: &Machine) -> Vec<u64> {
    let events = machine.hardware.seen.iter().filter_map(|seen| match seen {
        Seen::Delivered(event, _) => Some(event.bits()),
        Seen::Reached(_) => None,
    });
    events.collect()
}
