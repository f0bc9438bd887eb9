//! KVM as a subject: what the initramfs holds, and a kernel that boots with it.
//!
//! The kernel is the one whose vmlinuz `NSVM_LAB_KERNEL` names and whose folder lib/modules/VERSION `NSVM_LAB_MODULES`
//! names, or the newest that `nsvm lab fetch kernel@bookworm` and similar commands stored.

use nsvm_lab::kvm::{EXIT_STATUS, Error, INIT, initramfs, qemu_arguments};
use nsvm_lab::protocol::console::BELL_PORT;
use nsvm_lab::protocol::{BASE, BLOB_FIRST, BLOB_HEAD, BLOB_MAGIC, HEADER_MAGIC, memory};
use nsvm_lab::store::Store;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("nsvm-lab-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn put(&self, path: &str, bytes: &[u8]) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A module's file as far as names of sections and `.modinfo` go.
fn module(depends: &str) -> Vec<u8> {
    let names = b"\0.modinfo\0.shstrtab\0";
    let information = format!("license=GPL\0depends={depends}\0name=x\0");
    let mut elf = vec![0; 0x40];
    elf[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    let mut sections = vec![[0; 0x40]];
    for (name, contents) in [(1u32, information.as_bytes()), (10, names)] {
        let mut head = [0; 0x40];
        head[..4].copy_from_slice(&name.to_le_bytes());
        head[0x18..0x20].copy_from_slice(&(elf.len() as u64).to_le_bytes());
        head[0x20..0x28].copy_from_slice(&(contents.len() as u64).to_le_bytes());
        elf.extend_from_slice(contents);
        sections.push(head);
    }
    let table = elf.len() as u64;
    elf[0x28..0x30].copy_from_slice(&table.to_le_bytes());
    elf[0x3A] = 0x40;
    elf[0x3C] = 3;
    elf[0x3E] = 2;
    elf.extend(sections.concat());
    elf
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut writer = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(1)).unwrap();
    std::io::Write::write_all(&mut writer, bytes).unwrap();
    writer.finish().unwrap()
}

/// One entry of an archive.
#[derive(Debug)]
struct Entry {
    name: String,
    mode: u32,
    device: (u32, u32),
    contents: Vec<u8>,
}

/// Reads the archive as Documentation/driver-api/early-userspace/buffer-format.rst describes it.
fn entries(archive: &[u8]) -> Vec<Entry> {
    let mut found = Vec::new();
    let mut at = 0;
    loop {
        assert_eq!(&archive[at..at + 6], b"070701");
        let numbers: [u32; 13] = std::array::from_fn(|index| {
            let start = at + 6 + 8 * index;
            u32::from_str_radix(std::str::from_utf8(&archive[start..start + 8]).unwrap(), 16).unwrap()
        });
        let (size, length) = (numbers[6] as usize, numbers[11] as usize);
        let name = &archive[at + 110..at + 110 + length];
        let (0, name) = (name[length - 1], &name[..length - 1]) else { panic!("a name without its zero") };
        let start = (at + 110 + length).next_multiple_of(4);
        let name = String::from_utf8(name.to_vec()).unwrap();
        at = (start + size).next_multiple_of(4);
        if name == "TRAILER!!!" {
            assert_eq!(at, archive.len());
            return found;
        }
        let contents = archive[start..start + size].to_vec();
        found.push(Entry { name, mode: numbers[1], device: (numbers[9], numbers[10]), contents });
    }
}

fn named<'a>(entries: &'a [Entry], name: &str) -> &'a Entry {
    entries.iter().find(|entry| entry.name == name).unwrap_or_else(|| panic!("no {name}"))
}

/// Debian's layout: the folders of the four modules.
const KVM: &str = "kernel/arch/x86/kvm";

#[test]
fn the_archive_holds_what_process_1_needs() {
    let folder = Folder::new("archive");
    folder.put(&format!("{KVM}/kvm-amd.ko"), &module(""));
    let archive = initramfs(b"runner", &folder.0, b"payload and cases").unwrap();
    let entries = entries(&archive);
    assert_eq!(named(&entries, "init").contents, b"runner");
    assert_eq!(named(&entries, "init").mode, 0o100_755);
    assert_eq!(named(&entries, "payload.img").contents, b"payload and cases");
    for (name, device) in [("dev/console", (5, 1)), ("dev/null", (1, 3))] {
        let entry = named(&entries, name);
        assert_eq!((entry.mode & 0o170_000, entry.device), (0o020_000, device), "{name}");
    }
    for name in ["dev", "proc", "sys", "lib"] {
        assert_eq!(named(&entries, name).mode & 0o170_000, 0o040_000, "{name}");
    }
    assert_eq!(archive, initramfs(b"runner", &folder.0, b"payload and cases").unwrap());
}

/// The modules in the order of the list, without folders and `.ko`; their files must be in the archive.
fn order(folder: &Folder) -> Vec<String> {
    let archive = initramfs(b"", &folder.0, b"").unwrap();
    let entries = entries(&archive);
    let list = String::from_utf8(named(&entries, "modules").contents.clone()).unwrap();
    list.lines()
        .map(|path| {
            assert!(named(&entries, &path[1..]).contents.starts_with(b"\x7fELF"), "{path}");
            path.strip_prefix("/lib/").unwrap().strip_suffix(".ko").unwrap().to_owned()
        })
        .collect()
}

#[test]
fn what_is_needed_is_loaded_first() {
    let folder = Folder::new("order");
    folder.put(&format!("{KVM}/kvm-amd.ko.xz"), &xz(&module("ccp,kvm")));
    folder.put(&format!("{KVM}/kvm.ko.xz"), &xz(&module("irqbypass,with_dash")));
    folder.put(&format!("{KVM}/kvm-intel.ko.xz"), &xz(&module("kvm")));
    folder.put("kernel/virt/lib/irqbypass.ko", &module(""));
    folder.put("kernel/virt/lib/with-dash.ko", &module("irqbypass"));
    folder.put("kernel/drivers/crypto/ccp/ccp.ko.xz", &xz(&module("")));
    assert_eq!(order(&folder), ["ccp", "irqbypass", "with_dash", "kvm", "kvm_amd"]);

    // depmod's list comes before what modules say of themselves.
    folder.put(
        "modules.dep",
        b"kernel/arch/x86/kvm/kvm-amd.ko.xz: kernel/arch/x86/kvm/kvm.ko.xz kernel/virt/lib/irqbypass.ko\n\
          kernel/arch/x86/kvm/kvm.ko.xz: kernel/virt/lib/irqbypass.ko\nkernel/virt/lib/irqbypass.ko:\n",
    );
    assert_eq!(order(&folder), ["irqbypass", "kvm", "kvm_amd"]);

    // What is part of the kernel is not loaded.
    folder.put("modules.builtin", b"kernel/virt/lib/irqbypass.ko\n");
    assert_eq!(order(&folder), ["kvm", "kvm_amd"]);
}

#[test]
fn modules_that_need_each_other_come_to_an_end() {
    let folder = Folder::new("circle");
    folder.put(&format!("{KVM}/kvm-amd.ko"), &module("kvm"));
    folder.put(&format!("{KVM}/kvm.ko"), &module("kvm_amd"));
    assert_eq!(order(&folder), ["kvm", "kvm_amd"]);
}

fn failure(folder: &Path) -> Error {
    initramfs(b"", folder, b"").map(|archive| archive.len()).expect_err("no archive")
}

#[test]
fn a_kernel_without_kvm_is_told_so() {
    let folder = Folder::new("none");
    folder.put(&format!("{KVM}/kvm.ko"), &module(""));
    let error = failure(&folder.0);
    assert!(matches!(error, Error::NoModule { .. }), "{error}");

    folder.put(&format!("{KVM}/kvm-amd.ko"), &module("kvm,ccp"));
    let error = failure(&folder.0);
    assert!(matches!(&error, Error::Missing { name, by, .. } if name == "ccp" && by == "kvm_amd"), "{error}");

    let error = failure(&folder.0.join("nowhere"));
    assert!(matches!(error, Error::Read { .. }), "{error}");
}

#[test]
fn damaged_modules_are_errors() {
    let whole = module("");
    let packed = xz(&whole);
    let files: [(&str, &[u8]); 5] = [
        ("kvm-amd.ko", b"no module"),
        ("kvm-amd.ko.xz", &packed[..packed.len() / 2]),
        ("kvm-amd.ko.xz", b"no archive"),
        ("kvm-amd.ko.zst", b"\x28\xb5\x2f\xfd"),
        ("kvm-amd.ko", &whole[..0x50]),
    ];
    for (file, bytes) in files {
        let folder = Folder::new("damaged");
        folder.put(file, bytes);
        let error = failure(&folder.0);
        assert!(matches!(error, Error::Damaged { .. }), "{file}: {error}");
    }
    // Whatever one byte of the ELF file is, there is an answer.
    for at in 0..whole.len() {
        let folder = Folder::new("damaged");
        let mut bytes = whole.clone();
        bytes[at] = 0xFF;
        folder.put("kvm-amd.ko", &bytes);
        let _ = initramfs(b"", &folder.0, b"");
    }
}

/// A small payload, as machine code: each case is passed over as the real one does.
struct Payload {
    code: Vec<u8>,
    /// Places in `code` of addresses that count from the end of the image.
    behind: Vec<usize>,
    texts: Vec<u8>,
    /// Places in `code` of addresses that count from the start of the texts.
    texts_at: Vec<usize>,
    cases: u32,
}

impl Payload {
    fn new() -> Self {
        let mut code = vec![0xEB, 22];
        code.resize(8, 0x90);
        code.extend(HEADER_MAGIC.to_le_bytes());
        code.extend([0; 8]);
        let mut payload =
            Self { code, behind: Vec::new(), texts: Vec::new(), texts_at: Vec::new(), cases: 0 };
        // Paging with 4 MiB pages, since KVM knows no VMRUN without: two entries at CR3, which map [0, 8 MiB).
        for (at, entry) in [(memory::CR3, 0x83u32), (memory::CR3 + 4, 0x40_0083)] {
            payload.raw(&[0xC7, 0x05]).raw(&(at as u32).to_le_bytes()).raw(&entry.to_le_bytes());
        }
        // mov eax, CR3; mov cr3, eax; mov eax, PSE; mov cr4, eax; mov eax, PG + ET + PE; mov cr0, eax.
        payload
            .raw(&[0xB8])
            .raw(&(memory::CR3 as u32).to_le_bytes())
            .raw(&[0x0F, 0x22, 0xD8, 0xB8, 0x10, 0, 0, 0, 0x0F, 0x22, 0xE0])
            .raw(&[0xB8, 0x11, 0, 0, 0x80, 0x0F, 0x22, 0xC0])
            .line("nsvm-lab 1")
            .line("b 7 0");
        payload
    }

    /// mov esi, text; mov ecx, length; mov edx, E9h; rep outsb.
    fn line(&mut self, text: &str) -> &mut Self {
        self.code.push(0xBE);
        self.texts_at.push(self.code.len());
        self.code.extend((self.texts.len() as u32).to_le_bytes());
        self.code.push(0xB9);
        self.code.extend((text.len() as u32 + 1).to_le_bytes());
        self.code.extend([0xBA, 0xE9, 0, 0, 0, 0xF3, 0x6E]);
        self.texts.extend(text.as_bytes());
        self.texts.push(b'\n');
        self
    }

    /// mov eax, text; mov edx, bell; out dx, eax.
    fn bell(&mut self, text: &str) -> &mut Self {
        self.code.push(0xB8);
        self.texts_at.push(self.code.len());
        self.code.extend((self.texts.len() as u32).to_le_bytes());
        self.code.push(0xBA);
        self.code.extend(u32::from(BELL_PORT).to_le_bytes());
        self.code.push(0xEF);
        self.texts.extend(text.as_bytes());
        self.texts.push(b'\n');
        self
    }

    /// The next case: passed over if `first` is above its number.
    fn case(&mut self, number: u32, act: impl FnOnce(&mut Self)) -> &mut Self {
        self.code.extend([0x81, 0x3D]);
        self.behind.push(self.code.len());
        self.code.extend((BLOB_FIRST as u32).to_le_bytes());
        self.code.extend(number.to_le_bytes());
        self.code.extend([0x0F, 0x87]);
        let jump = self.code.len();
        self.code.extend([0; 4]);
        act(self);
        let distance = (self.code.len() - jump - 4) as u32;
        self.code[jump..jump + 4].copy_from_slice(&distance.to_le_bytes());
        self.cases = number + 1;
        self
    }

    fn raw(&mut self, code: &[u8]) -> &mut Self {
        self.code.extend(code);
        self
    }

    /// VMRUN of a page of zeros, which everybody refuses: EFER.SVME is clear in it.
    fn refused(&mut self) -> &mut Self {
        // mov ecx, EFER; rdmsr; or eax, SVME; wrmsr; mov ecx, VM_HSAVE_PA; mov eax, HSAVE; xor edx, edx; wrmsr.
        self.raw(&[0xB9, 0x80, 0, 0, 0xC0, 0x0F, 0x32, 0x0D, 0, 0x10, 0, 0, 0x0F, 0x30])
            .raw(&[0xB9, 0x17, 1, 1, 0xC0, 0xB8])
            .raw(&(memory::HSAVE as u32).to_le_bytes())
            .raw(&[0x31, 0xD2, 0x0F, 0x30, 0xB8])
            .raw(&(memory::VMCB as u32).to_le_bytes())
            // vmrun
            .raw(&[0x0F, 0x01, 0xD8])
    }

    fn image(&self) -> Vec<u8> {
        let mut image = self.code.clone();
        let texts = BASE as u32 + image.len() as u32;
        let end = texts + self.texts.len() as u32;
        for (places, start) in [(&self.texts_at, texts), (&self.behind, end)] {
            for &place in places {
                let address: &mut [u8; 4] = (&mut image[place..place + 4]).try_into().unwrap();
                *address = (u32::from_le_bytes(*address) + start).to_le_bytes();
            }
        }
        image[16..24].copy_from_slice(&u64::from(end).to_le_bytes());
        image.extend(&self.texts);
        image.extend(BLOB_MAGIC.to_le_bytes());
        for word in [0, self.cases, 0, 1, BLOB_HEAD as u32, 0] {
            image.extend(word.to_le_bytes());
        }
        image
    }
}

/// What came of a boot.
struct Boot {
    /// The runner's lines.
    lines: Vec<String>,
    /// What the kernel said itself.
    log: String,
    /// QEMU's exit status.
    status: Option<i32>,
    /// From the first line to the end.
    time: Duration,
}

/// A kernel and its modules.
fn kernel() -> (PathBuf, PathBuf) {
    let set = (std::env::var_os("NSVM_LAB_KERNEL"), std::env::var_os("NSVM_LAB_MODULES"));
    if let (Some(kernel), Some(modules)) = set {
        return (kernel.into(), modules.into());
    }
    let store = Store::default_root().and_then(|root| Store::open(&root));
    let kernel = store.and_then(|store| store.find("kernel")).ok().and_then(|subject| subject.kernel());
    kernel.expect("there is no kernel: `nsvm lab fetch kernel@bookworm` fetches one")
}

/// Boots the kernel with this as process 1.
fn boot_with(name: &str, init: &[u8], image: &[u8], limit: u32) -> Boot {
    let (kernel, modules) = kernel();
    let folder = Folder::new(name);
    folder.put("initramfs", &initramfs(init, &modules, image).unwrap());
    let [console, log] = ["console", "log"].map(|name| folder.0.join(name));
    let place = format!("file:{}", console.display());
    let arguments = qemu_arguments(&kernel, &folder.0.join("initramfs"), limit, &place, Some(&log));
    let start = Instant::now();
    let mut child = Command::new("qemu-system-x86_64").args(arguments).spawn().expect("QEMU starts");
    let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
    let mut first = None;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if first.is_none() && fs::metadata(&console).is_ok_and(|file| file.len() > 0) {
            first = Some(start.elapsed());
        }
        if start.elapsed() > Duration::from_secs(180) {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("QEMU came to no end:\n{}\n{}", read(&console), read(&log));
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let end = start.elapsed();
    eprintln!("first line after {:.2?}, end after {end:.2?}", first.unwrap_or(end));
    Boot {
        lines: read(&console).lines().map(str::to_owned).collect(),
        log: read(&log),
        status: status.code(),
        time: end - first.unwrap_or(end),
    }
}

/// Boots it with the runner: its lines, and how long they took.
fn boot(name: &str, image: &[u8], limit: u32) -> (Vec<String>, Duration) {
    let init = INIT.expect("the test is ignored without it");
    let boot = boot_with(name, init, image, limit);
    assert_eq!(boot.status, Some(EXIT_STATUS), "{:#?}\n{}", boot.lines, boot.log);
    (boot.lines, boot.time)
}

#[test]
#[cfg_attr(not(has_kvm_runner), ignore = "this build has no KVM runner")]
#[cfg_attr(has_kvm_runner, ignore = "boots Linux in QEMU; `cargo xtask nightly` runs it")]
fn nightly_every_death_is_named_and_survived() {
    let mut payload = Payload::new();
    payload
        .case(0, |case| {
            case.line("x 0 81");
        })
        .case(1, |case| {
            case.refused().line("x 1 ffffffffffffffff");
        })
        .case(2, |case| {
            case.line("x 2 81");
        })
        // hlt
        .case(3, |case| {
            case.raw(&[0xF4]);
        })
        // lidt of an empty table, at the zeros in the header of the blob; int3: a triple fault.
        .case(4, |case| {
            case.raw(&[0x31, 0xC0, 0x0F, 0x01, 0x1D, 0, 0, 0, 0, 0xCC]);
        })
        // A refusal that is never reported, since it hangs behind it.
        .case(5, |case| {
            case.refused().raw(&[0xEB, 0xFE]);
        })
        .case(6, |case| {
            case.line("x 6 81");
        })
        .line("end 7");
    let (lines, _) = boot("deaths", &payload.image(), 1);
    let mut lines = lines.iter().map(String::as_str);
    let release = lines.next().and_then(|line| line.strip_prefix("v ")).unwrap();
    assert!(kernel().1.ends_with(release), "{release}");
    let lines: Vec<_> = lines.collect();
    let [head @ .., condition, c2, c3, c4, c5, c6, end] = &*lines else { panic!("{lines:#?}") };
    assert_eq!(head, ["nsvm-lab 1", "b 7 0", "x 0 81", "x 1 ffffffffffffffff"], "{lines:#?}");
    let condition = condition.strip_prefix("t 1 ").unwrap_or_else(|| panic!("{lines:#?}"));
    // In the kernel's own words, which change: the test is on EFER.SVME.
    assert!(condition.to_lowercase().contains("svme"), "{condition}");
    assert_eq!(
        [*c2, c3, c4, c5, c6, end],
        ["x 2 81", "k 3 hlt", "k 4 shutdown", "h 5", "x 6 81", "end 7"],
        "{lines:#?}"
    );
}

#[test]
#[cfg_attr(not(has_kvm_runner), ignore = "this build has no KVM runner")]
#[cfg_attr(has_kvm_runner, ignore = "boots Linux in QEMU; `cargo xtask nightly` runs it")]
fn nightly_a_payload_that_dies_at_once_is_an_error() {
    let mut payload = Payload::new();
    payload.code.truncate(24);
    payload.texts_at.clear();
    payload.raw(&[0xF4]);
    let (lines, _) = boot("at-once", &payload.image(), 1);
    assert_eq!(lines[1..], ["e the machine died before the payload's first case: hlt"], "{lines:#?}");
}

#[test]
#[ignore = "boots Linux in QEMU; `cargo xtask nightly` runs it"]
fn nightly_a_crash_of_the_kernel_is_seen_and_logged() {
    let boot = boot_with("crash", b"no program", &Payload::new().image(), 1);
    assert_eq!((boot.lines.len(), boot.status), (0, Some(0)), "{:#?}", boot.lines);
    assert!(boot.log.contains("Kernel panic"), "{}", boot.log);
}

/// Called on a machine as it is: with SVM for guests or without, there is a first line and a last one.
#[test]
#[cfg_attr(not(has_kvm_runner), ignore = "this build has no KVM runner")]
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn the_runner_is_a_program_too() {
    use std::os::unix::fs::PermissionsExt;
    let init = INIT.expect("the test is ignored without it");
    let folder = Folder::new("program");
    let mut payload = Payload::new();
    folder.put("image", &payload.line("end 0").image());
    folder.put("damaged", b"no image");
    folder.put("kvm-runner", init);
    let program = folder.0.join("kvm-runner");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let run = |arguments: &[&str]| {
        let output = loop {
            match Command::new(&program).args(arguments).current_dir(&folder.0).output() {
                // Another test starts a process, which holds the program open for writing for a moment.
                Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {}
                other => break other.unwrap(),
            }
        };
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    for arguments in [&[] as &[&str], &["image", "0"], &["image", "x"], &["image", "1", "2"]] {
        assert_eq!(run(arguments), (Some(2), String::new()), "{arguments:?}");
    }
    let (status, lines) = run(&["nowhere"]);
    assert_eq!(status, Some(1));
    assert!(lines.starts_with("e nowhere: "), "{lines}");
    let (status, lines) = run(&["damaged"]);
    assert_eq!(status, Some(1));
    assert_eq!(lines.lines().last(), Some("e the image has no header of the lab"));
    let (status, lines) = run(&["image"]);
    assert!(lines.starts_with("v "), "{lines}");
    let last = lines.lines().last().unwrap();
    match status {
        Some(0) => assert_eq!(last, "end 0"),
        Some(1) => {
            assert!(last.starts_with("e ") && last.to_lowercase().contains("kvm"), "{last}")
        }
        _ => panic!("{status:?}: {lines}"),
    }
    eprintln!("here: {last}");
}

/// A fresh machine for each of these cases: what a death costs. That of the last one ends the run.
#[test]
#[cfg_attr(not(has_kvm_runner), ignore = "this build has no KVM runner")]
#[cfg_attr(has_kvm_runner, ignore = "boots Linux in QEMU; `cargo xtask nightly` runs it")]
fn nightly_deaths_are_cheap_enough() {
    let mut payload = Payload::new();
    for number in 0..200 {
        // hlt
        payload.case(number, |case| {
            case.raw(&[0xF4]);
        });
    }
    let (lines, time) = boot("cheap", &payload.image(), 5);
    assert_eq!(lines[1..4], ["nsvm-lab 1", "b 7 0", "k 0 hlt"]);
    assert_eq!(lines[lines.len() - 2..], ["k c7 hlt", "end c8"]);
    assert_eq!(lines.len(), 3 + 200 + 1);
    eprintln!("{:.1?} a death", time / 200);
}

/// What the way of a line costs, VMRUN apart.
///
/// The largest set has 8,192 cases and is to be through in 90 s.
#[test]
#[cfg_attr(not(has_kvm_runner), ignore = "this build has no KVM runner")]
#[cfg_attr(has_kvm_runner, ignore = "boots Linux in QEMU; `cargo xtask nightly` runs it")]
fn nightly_lines_are_fast_enough() {
    let text = "x 0 ffffffffffffffff 0 0 0 80000b0e 19000 1bf00 0 0 0 0 and as much behind it as there is";
    type Line = for<'a> fn(&'a mut Payload, &str) -> &'a mut Payload;
    for (name, count, line) in [("port", 500u32, Payload::line as Line), ("bell", 5000, Payload::bell)] {
        let mut payload = Payload::new();
        // mov edi, count; a line; dec edi; jnz.
        payload.raw(&[0xBF]).raw(&count.to_le_bytes());
        let start = payload.code.len();
        line(&mut payload, text);
        payload.raw(&[0x4F, 0x75]);
        let back = payload.code.len() + 1 - start;
        payload.raw(&[u8::try_from(256 - back).unwrap()]).line("end 1");
        payload.cases = 1;
        let (lines, time) = boot(name, &payload.image(), 5);
        assert_eq!(lines.len(), 3 + count as usize + 1);
        assert!(lines[3..3 + count as usize].iter().all(|line| line == text));
        let rate = f64::from(count) / time.as_secs_f64();
        assert!(name != "bell" || rate > 8192.0 / 90.0, "{rate:.0} lines a second");
        eprintln!("by the {name}: {rate:.0} lines of {} bytes in a second", text.len() + 1);
    }
}
