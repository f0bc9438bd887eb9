//! The ports that L1 does not reach natively: those by which a device would touch memory, and L0's own: its log.

use crate::cpu::{input, output};

/// What becomes of an access.
#[derive(Clone, Copy)]
enum Policy {
    /// Nothing is written; reads give ones, as where there is no device.
    Deny,
    /// Bus mastering stays off, and so does the way to configuration space through memory.
    Configuration,
    /// The A20 line stays open: closing it would move L0's own memory.
    SystemControl,
    /// The same, for the keyboard controller.
    Keyboard,
}

const PORTS: [(u16, u16, Policy); 7] = [
    // ISA DMA.
    (0x00, 0x0F, Policy::Deny),
    (0xC0, 0xDF, Policy::Deny),
    // COM2, which has the log: a system that looks for serial ports would change how it is set.
    (0x2F8, 0x2FF, Policy::Deny),
    // DMA of the firmware configuration; its other ports stay.
    (0x514, 0x51B, Policy::Deny),
    (0x64, 0x64, Policy::Keyboard),
    (0x92, 0x92, Policy::SystemControl),
    (CONFIG_DATA, CONFIG_DATA + 3, Policy::Configuration),
];

const CONFIG_ADDRESS: u16 = 0xCF8;
const CONFIG_DATA: u16 = 0xCFC;
/// Low byte of the command register of every PCI function.
const COMMAND: u32 = 4;
const BUS_MASTER: u32 = 1 << 2;
/// Register of Q35's host bridge, whose bit 0 opens configuration space in memory. The other bridge has nothing there
/// that an emulator reads.
const PCIEXBAR: u32 = 0x60;
const PCIEXBAREN: u32 = 1;

/// Sets the bits of these ports in an I/O permission map.
pub(crate) fn intercept(map: &mut [u8]) {
    for (first, last, _) in PORTS {
        for port in first..=last {
            if let Some(byte) = map.get_mut(usize::from(port / 8)) {
                *byte |= 1 << (port % 8);
            }
        }
    }
}

fn policy(port: u16) -> Option<Policy> {
    PORTS.iter().find(|(first, last, _)| (*first..=*last).contains(&port)).map(|row| row.2)
}

/// IN of so many bytes, byte by byte where the ports do not all belong to one device.
pub(crate) fn read(port: u16, size: u8) -> u32 {
    let whole = port & u16::from(size - 1) == 0;
    match policy(port) {
        Some(Policy::Deny) => u32::MAX,
        _ if whole => input(port, size),
        _ => (0..size).fold(0, |value, index| {
            let byte = match policy(port.wrapping_add(index.into())) {
                Some(Policy::Deny) => 0xFF,
                _ => input(port.wrapping_add(index.into()), 1),
            };
            value | byte << (8 * index)
        }),
    }
}

/// OUT.
pub(crate) fn write(port: u16, size: u8, value: u32) {
    if port & u16::from(size - 1) != 0 || size > 1 && policy(port).is_none() {
        // Several devices, or none: byte by byte.
        for index in 0..size {
            write_aligned(port.wrapping_add(index.into()), 1, value >> (8 * index) & 0xFF);
        }
    } else {
        write_aligned(port, size, value);
    }
}

fn write_aligned(port: u16, size: u8, value: u32) {
    match policy(port) {
        Some(Policy::Deny) => {}
        Some(Policy::Configuration) => {
            const FUNCTION: u32 = 0xFF_FF00;
            let selected = input(CONFIG_ADDRESS, 4);
            let register = (selected & 0xFC) + u32::from(port - CONFIG_DATA);
            let held = match register {
                COMMAND => BUS_MASTER,
                PCIEXBAR if selected & FUNCTION == 0 => PCIEXBAREN,
                _ => 0,
            };
            output(port, size, value & !held);
        }
        Some(Policy::SystemControl) => output(port, size, value | 2),
        Some(Policy::Keyboard) => {
            // D1h: the next byte goes to the output port, which has A20. DDh: closes it.
            if !matches!(value & 0xFF, 0xD1 | 0xDD) {
                output(port, size, value);
            }
        }
        None => output(port, size, value),
    }
}

/// What stands in the configuration space of a PCI function.
fn config(bus: u32, device: u32, function: u32, register: u32) -> u32 {
    output(CONFIG_ADDRESS, 4, 1 << 31 | bus << 16 | device << 11 | function << 8 | register);
    input(CONFIG_DATA, 4)
}

/// Takes bus mastering from every PCI function, as firmware may have left it on.
///
/// # Errors
/// On a machine whose configuration space can be reached otherwise than by the ports that are held here.
pub(crate) fn hold_bus_masters() -> Result<(), u32> {
    const I440FX: u32 = 0x1237_8086;
    const Q35: u32 = 0x29C0_8086;
    const NOBODY: u32 = u32::MAX;
    let bridge = config(0, 0, 0, 0);
    match bridge {
        I440FX => {}
        // Firmware has opened it.
        Q35 => output(CONFIG_DATA, 4, config(0, 0, 0, PCIEXBAR) & !PCIEXBAREN),
        _ => return Err(bridge),
    }
    for (bus, device) in (0..256).flat_map(|bus| (0..32).map(move |device| (bus, device))) {
        for function in 0..8 {
            if config(bus, device, function, 0) == NOBODY {
                if function == 0 {
                    break;
                }
                continue;
            }
            let command = config(bus, device, function, COMMAND) & 0xFFFF;
            // Only the command's two bytes: the status beside it would be cleared by writing it.
            output(CONFIG_DATA, 2, command & !BUS_MASTER);
        }
    }
    Ok(())
}
