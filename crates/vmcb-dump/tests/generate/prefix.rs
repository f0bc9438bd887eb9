//! What logs put before a message.

use super::Random;

/// The module's name, as kernels old and new print it.
const MODULES: [&str; 2] = ["SVM: ", "kvm_amd: "];

/// What a log may put before a message. `{t}` stands for a time stamp that grows, `{c}` for a caller.
const PREFIXES: [&str; 16] = [
    "",
    "[{t}] ",
    "[{t}][{c}] ",
    "[{t}] [{c}] ",
    "[Fri Nov 22 10:00:00 2026] ",
    "<3>[{t}] ",
    "<3>",
    "Nov 22 10:00:00 host kernel: ",
    "Nov 22 10:00:00 host kernel: [{t}] ",
    "2026-11-22T10:00:00.123456+00:00 host kernel: ",
    "2026-11-22T10:00:00,123456+00:00 ",
    "kern  :err   : [{t}] ",
    "2026-01-01T00:00:00.0000000Z ",
    "2026-01-01T00:00:00.0000000Z [{t}] ",
    "2026-01-01 00:00:00.123 ",
    "##[error]",
];

/// Writes lines as one log shows them, with the prefix of KVM's module or without.
pub(crate) fn put(messages: &[String], random: &mut Random) -> String {
    let module = if random.one_in(3) { "" } else { random.pick(&MODULES) };
    log(messages, module, random)
}

/// Writes lines as one log shows them, each message behind `module`.
pub(crate) fn log(messages: &[String], module: &str, random: &mut Random) -> String {
    let prefix = random.pick(&PREFIXES);
    let caller = if random.one_in(4) {
        format!("{:>6}", format!("C{}", random.below(64)))
    } else {
        format!("{:>6}", format!("T{}", random.below(99_999)))
    };
    let mut time = random.below(10_000_000_000);
    let mut text = String::with_capacity(messages.len() * 64);
    for message in messages {
        time += random.below(200);
        let stamp = format!("{:>5}.{:06}", time / 1_000_000, time % 1_000_000);
        text.push_str(&prefix.replace("{t}", &stamp).replace("{c}", &caller));
        text.push_str(module);
        text.push_str(message);
        text.push('\n');
    }
    text
}
