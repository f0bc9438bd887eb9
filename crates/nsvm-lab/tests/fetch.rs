//! Fetching without the network: requests, sources, the store and what is left of interrupted fetches.

use nsvm_lab::fetch::{Error, Request, Suites, sources, unpack};
use nsvm_lab::store::{self, Kind, MANIFEST, Store, Subject, compare_versions};
use std::cmp::Ordering;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering as Atomic};

/// A folder of a test's own, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("nsvm-lab-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Atomic::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn store(&self) -> Store {
        Store::open(&self.0).unwrap()
    }

    /// A tree whose sheet is this.
    fn tree(&self, folder: &str, sheet: &str) -> PathBuf {
        let tree = self.0.join(folder);
        fs::create_dir_all(&tree).unwrap();
        fs::write(tree.join(MANIFEST), sheet).unwrap();
        tree
    }

    fn subject(&self, kind: &str, version: &str, suite: &str, package: &str) -> PathBuf {
        let name = match package.strip_prefix("linux-image-") {
            Some(release) => format!("{kind}/{release}_{version}@{suite}"),
            None => format!("{kind}/{version}@{suite}"),
        };
        self.tree(&name, &sheet(kind, version, suite, package))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn sheet(kind: &str, version: &str, suite: &str, package: &str) -> String {
    format!(
        "nsvm-lab subject 1\nkind: {kind}\nversion: {version}\nsuite: {suite}\nmain: {package}\n\
         fetched: 2026-01-31T12:00:00Z\nsize: 42\nrun: TREE/x\npackage: {package} 1:{version} 00ff\nend\n"
    )
}

fn made(files: &[(&str, &str)], suite: &str) -> Vec<(String, String)> {
    let files: Vec<_> = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    sources(&files, &Suites::of(suite)).unwrap()
}

#[test]
fn requests_read_back_what_they_write() {
    for (text, kind, suite, package) in [
        ("qemu@bookworm-backports", Kind::Qemu, "bookworm-backports", None),
        ("bochs@trixie", Kind::Bochs, "trixie", None),
        ("kernel@sid", Kind::Kernel, "sid", None),
        ("xen@bookworm", Kind::Xen, "bookworm", None),
        ("kernel:linux-image-6.12.9-amd64@trixie", Kind::Kernel, "trixie", Some("linux-image-6.12.9-amd64")),
        ("kernel:6.1.0-50-amd64@bookworm", Kind::Kernel, "bookworm", Some("linux-image-6.1.0-50-amd64")),
    ] {
        let request: Request = text.parse().unwrap();
        let expected = Request { kind, suite: suite.to_owned(), package: package.map(str::to_owned) };
        assert_eq!(request, expected, "{text}");
        assert_eq!(request.to_string().parse::<Request>().unwrap(), expected, "{text}");
    }
}

#[test]
fn what_is_no_request_is_refused_with_words() {
    for (text, why) in [
        ("qemu", "names no suite"),
        ("qemu@", "a suite is made of"),
        ("qemu@../../etc", "a suite is made of"),
        ("qemu@-o", "a suite is made of"),
        ("qemu@sid main\ndeb x", "a suite is made of"),
        ("qemu@installed", "is here already"),
        ("qemu:qemu-system-arm@sid", "only a kernel"),
        ("kernel:@sid", "a package's name is made of"),
        ("kernel:a/b@sid", "a package's name is made of"),
        ("vmware@sid", "no kind of subject"),
    ] {
        let error = text.parse::<Request>().unwrap_err().to_string();
        assert!(error.contains(why), "{text}: {error}");
    }
}

const STANZAS: &str = "\
# how it was made
Types: deb deb-src
URIs: mirror://inside.example/debian
Suites: bookworm bookworm-updates
# between the lines
Components: main contrib
Architectures: i386
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: mirror://inside.example/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: mirror://other.example/tool
Suites: bookworm
Components: main
Signed-By: /usr/share/keyrings/other.gpg

Types: deb
URIs: mirror://disabled.example/debian
Suites: bookworm
Components: main
Enabled: no
";

#[test]
fn stanzas_keep_address_and_keys_and_change_the_suite() {
    let made = made(&[("debian.sources", STANZAS)], "trixie-backports");
    assert_eq!(
        made,
        [(
            "lab.sources".to_owned(),
            "\
Types: deb
Suites: trixie trixie-updates trixie-backports
Components: main
Targets: Packages
URIs: mirror://inside.example/debian
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
Suites: trixie-security
Components: main
Targets: Packages
URIs: mirror://inside.example/debian-security
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

"
            .to_owned()
        )]
    );
}

#[test]
fn a_key_in_the_stanza_itself_is_kept() {
    let text = "Types: deb\nURIs: mirror://inside.example/debian\nSuites: sid\nComponents: main\n\
                Signed-By:\n -----BEGIN\n .\n abc\n -----END\n";
    let made = made(&[("x.sources", text)], "sid");
    assert!(made[0].1.contains("Signed-By: \n -----BEGIN\n .\n abc\n -----END\n"), "{made:?}");
}

#[test]
fn lines_keep_address_and_keys_and_change_the_suite() {
    let text = "\
deb [arch=amd64,i386 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] mirror://a.example/debian bookworm main non-free # ours
deb-src mirror://a.example/debian bookworm main
deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] mirror://a.example/debian bookworm-updates main
deb\tmirror://a.example/security bookworm-security main
deb [signed-by=/usr/share/keyrings/tool.gpg] mirror://tool.example bookworm main
deb mirror://a.example/debian bookworm contrib
# deb mirror://off.example/debian bookworm main
deb cdrom:[Debian 12]/ bookworm main
";
    let keys = "deb [ signed-by=/usr/share/keyrings/debian-archive-keyring.gpg target=Packages ] mirror://a.example/debian";
    let security = "deb [ target=Packages ] mirror://a.example/security";
    let expected =
        format!("{keys} trixie main\n{keys} trixie-updates main\n{security} trixie-security main\n");
    assert_eq!(made(&[("sources.list", text)], "trixie"), [("lab.list".to_owned(), expected)]);
    // Neither has updates or security of its own.
    let expected = format!("{keys} sid main\n{keys} experimental main\n");
    assert_eq!(made(&[("sources.list", text)], "experimental"), [("lab.list".to_owned(), expected)]);
    let expected = format!("{keys} sid main\n");
    assert_eq!(made(&[("sources.list", text)], "sid"), [("lab.list".to_owned(), expected)]);
}

#[test]
fn a_mirror_with_a_key_of_its_own_is_taken_where_it_is_all_there_is() {
    let text = "deb [signed-by=/etc/keys/house.gpg] mirror://house.example/debian stable main\n";
    let expected =
        "deb [ signed-by=/etc/keys/house.gpg target=Packages ] mirror://house.example/debian sid main\n";
    assert_eq!(made(&[("sources.list", text)], "sid"), [("lab.list".to_owned(), expected.to_owned())]);
}

#[test]
fn sources_of_another_system_are_refused() {
    let files = [("sources.list".to_owned(), "deb mirror://ubuntu.example/ubuntu noble main\n".to_owned())];
    let error = sources(&files, &Suites::of("sid")).unwrap_err();
    assert!(matches!(&error, Error::NotDebian { files } if files == &["sources.list"]), "{error}");
}

#[test]
fn a_store_lists_whole_trees_only() {
    let folder = Folder::new();
    let store = folder.store();
    assert!(store.list().unwrap().subjects.is_empty());
    folder.subject("qemu", "10.0.2+ds-2", "trixie", "qemu-system-x86");
    folder.subject("qemu", "7.2+dfsg-7", "bookworm", "qemu-system-x86");
    let whole = sheet("bochs", "3.0", "trixie", "bochs");
    // Cut off anywhere, even in the last line, it is no subject.
    for cut in 0..whole.len() - 1 {
        folder.tree("bochs/3.0@trixie", &whole[..cut]);
        let listing = store.list().unwrap();
        assert_eq!(listing.damaged.len(), 1, "cut at {cut}");
        assert_eq!(listing.subjects.len(), 2, "cut at {cut}");
    }
    folder.tree("bochs/3.0@trixie", &whole);
    fs::create_dir_all(folder.0.join("kernel/6.1.0-50-amd64_6.1.1@bookworm")).unwrap();
    // A tree under another's name.
    folder.tree("qemu/9.9@sid", &sheet("qemu", "9.8", "sid", "qemu-system-x86"));
    let listing = store.list().unwrap();
    let names: Vec<String> = listing.subjects.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["qemu:7.2+dfsg-7@bookworm", "qemu:10.0.2+ds-2@trixie", "bochs:3.0@trixie"]);
    let damaged: Vec<String> = listing.damaged.iter().map(|(_, error)| error.to_string()).collect();
    assert_eq!(damaged.len(), 2, "{damaged:?}");
    assert!(damaged[0].contains("qemu:9.8@sid"), "{damaged:?}");
    assert!(damaged[1].contains("6.1.0-50-amd64_6.1.1@bookworm"), "{damaged:?}");
}

#[test]
fn nonsense_in_a_sheet_has_its_line() {
    let folder = Folder::new();
    let good = sheet("qemu", "1", "sid", "qemu-system-x86");
    for (text, place) in [
        (good.replace("subject 1", "subject 2"), "line 1:"),
        (good.replace("kind: qemu", "kind: vmware"), "no kind of subject"),
        (good.replace("size: 42", "size: many"), "`many` is no size"),
        (good.replace("size: 42\n", ""), "no `size`"),
        (good.replace("run: TREE/x", "run"), "line 8: should be `NAME: VALUE`"),
        (good.replace(" 00ff", ""), "line 9: a package has"),
        (format!("{good}more: x\n"), "line 11: something follows"),
        ("\0".repeat(100), "line 1:"),
    ] {
        folder.tree("qemu/1@sid", &text);
        let listing = folder.store().list().unwrap();
        let error = listing.damaged[0].1.to_string();
        assert!(error.contains(place), "{error}");
    }
}

#[test]
fn leftovers_go_and_work_in_progress_stays() {
    let folder = Folder::new();
    let store = folder.store();
    folder.subject("qemu", "7.2", "bookworm", "qemu-system-x86");
    let space = fs::read_link("/proc/self/ns/pid").unwrap();
    let space: String = space.to_string_lossy().chars().filter(char::is_ascii_digit).collect();
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let start = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap();
    let pid = std::process::id();
    // No process has this number; another process had mine before; nobody; and mine.
    let dead = format!("part-{space}-4194999-1-0");
    let reused = format!("part-{space}-{pid}-1{start}-0");
    let odd = "part-x".to_owned();
    let mine = format!("part-{space}-{pid}-{start}-77");
    for name in [&dead, &reused, &odd, &mine] {
        folder.tree(&format!("{name}/tree"), &sheet("qemu", "9.9", "sid", "qemu-system-x86"));
    }
    assert_eq!(store.list().unwrap().subjects.len(), 1, "a part is no subject");
    assert_eq!(store.remove_leftovers().unwrap(), 3);
    for (name, stays) in [(&dead, false), (&reused, false), (&odd, false), (&mine, true)] {
        assert_eq!(folder.0.join(name).exists(), stays, "{name}");
    }
    assert_eq!(store.list().unwrap().subjects.len(), 1);
}

#[test]
fn finds_by_kind_version_and_suite() {
    let folder = Folder::new();
    let store = folder.store();
    folder.subject("qemu", "7.2+dfsg-7+deb12u18+b3", "bookworm", "qemu-system-x86");
    folder.subject("qemu", "10.0.2+ds-2~bpo12+1", "bookworm-backports", "qemu-system-x86");
    folder.subject("qemu", "10.0.13+ds-1", "trixie", "qemu-system-x86");
    folder.subject("kernel", "6.1.170-3", "bookworm", "linux-image-6.1.0-47-amd64");
    folder.subject("kernel", "6.1.192-2", "bookworm", "linux-image-6.1.0-56-amd64");
    folder.subject("kernel", "6.12.9-1", "trixie", "linux-image-6.12.9-amd64");
    for (wanted, version) in [
        ("qemu", "10.0.13+ds-1"),
        ("qemu@bookworm", "7.2+dfsg-7+deb12u18+b3"),
        ("qemu:10.0.2", "10.0.2+ds-2~bpo12+1"),
        ("qemu:10.0", "10.0.13+ds-1"),
        ("qemu:10.0@bookworm-backports", "10.0.2+ds-2~bpo12+1"),
        ("kernel", "6.12.9-1"),
        ("kernel:6.1", "6.1.192-2"),
        ("kernel:6.1.0-47-amd64", "6.1.170-3"),
        ("kernel:linux-image-6.1.0-47-amd64@bookworm", "6.1.170-3"),
        ("kernel:6.1.0-56-amd64_6.1.192-2@bookworm", "6.1.192-2"),
    ] {
        assert_eq!(store.find(wanted).unwrap().version, version, "{wanted}");
    }
    for subject in store.list().unwrap().subjects {
        assert_eq!(store.find(&subject.to_string()).unwrap(), subject);
    }
    let error = store.find("qemu:10.0.1").unwrap_err().to_string();
    assert!(error.contains("qemu:10.0.2+ds-2~bpo12+1@bookworm-backports"), "{error}");
    assert!(matches!(store.find("bochs"), Err(store::Error::NotHere { here, .. }) if here.is_empty()));
    assert!(matches!(store.find("vmware@sid"), Err(store::Error::UnknownKind { .. })));
    store.remove(&store.find("qemu@trixie").unwrap()).unwrap();
    assert_eq!(store.find("qemu").unwrap().version, "10.0.2+ds-2~bpo12+1");
    assert_eq!(store.remove_leftovers().unwrap(), 0, "removing leaves nothing behind");
}

#[test]
fn a_kernels_files_are_where_old_and_new_packages_have_them() {
    let folder = Folder::new();
    let release = "6.1.0-47-amd64";
    let tree = folder.subject("kernel", "6.1.170-3", "bookworm", "linux-image-6.1.0-47-amd64");
    let find = || folder.store().find("kernel").unwrap().kernel();
    assert_eq!(find(), None);
    let modules = tree.join("usr/lib/modules").join(release);
    fs::create_dir_all(&modules).unwrap();
    assert_eq!(find(), None);
    fs::create_dir_all(tree.join("boot")).unwrap();
    let old = tree.join("boot").join(format!("vmlinuz-{release}"));
    fs::write(&old, "x").unwrap();
    assert_eq!(find(), Some((old, modules.clone())));
    let new = modules.join("vmlinuz");
    fs::write(&new, "x").unwrap();
    assert_eq!(find(), Some((new, modules)));
}

#[test]
fn a_tree_runs_by_its_own_loader() {
    let folder = Folder::new();
    let tree = folder.subject("qemu", "7.2", "bookworm", "qemu-system-x86");
    let deeper = tree.join("usr/lib/x86_64-linux-gnu/pulseaudio");
    fs::create_dir_all(&deeper).unwrap();
    fs::write(deeper.join("libpulsecommon-1.so"), "").unwrap();
    fs::create_dir_all(tree.join("usr/lib/x86_64-linux-gnu/qemu")).unwrap();
    let command = folder.store().find("qemu").unwrap().command();
    assert_eq!(command.get_program(), tree.join("usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"));
    let shown = format!("{command:?}").replace(&*tree.to_string_lossy(), "T");
    assert!(
        shown.contains("\"T/usr/lib/x86_64-linux-gnu:T/usr/lib:T/usr/lib/x86_64-linux-gnu/pulseaudio\""),
        "{shown}"
    );
    assert!(shown.contains("QEMU_MODULE_DIR=\"T/usr/lib/x86_64-linux-gnu/qemu\""), "{shown}");
    assert!(shown.contains("\"-L\" \"T/usr/share/seabios\""), "{shown}");
}

fn script(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Asks a program that was written just now. While another test starts a process, that one holds the file open for
/// writing for a moment, and it cannot be executed.
fn asked(kind: Kind, path: &Path) -> Result<Subject, store::Error> {
    loop {
        match Subject::of_program(kind, path) {
            Err(store::Error::CannotRun { error, .. })
                if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {}
            other => return other,
        }
    }
}

#[test]
fn a_program_that_is_something_else_is_refused() {
    let folder = Folder::new();
    let other = script(&folder.0, "other", "#!/bin/sh\necho 'hello from elsewhere'\n");
    match asked(Kind::Qemu, &other) {
        Err(store::Error::NotOne { said, .. }) => assert_eq!(said, "hello from elsewhere"),
        other => panic!("{other:?}"),
    }
    let data = folder.0.join("data");
    fs::write(&data, "no program").unwrap();
    assert!(matches!(asked(Kind::Qemu, &data), Err(store::Error::CannotRun { .. })));
    assert!(matches!(asked(Kind::Bochs, &folder.0.join("none")), Err(store::Error::CannotRun { .. })));
    // It prints without end.
    let endless = script(&folder.0, "endless", "#!/bin/sh\nyes this is no emulator\n");
    assert!(matches!(asked(Kind::Qemu, &endless), Err(store::Error::NotOne { .. })));
    let banner = "#!/bin/sh\necho 'QEMU emulator version 9.1.0 (v9.1.0)'\n";
    let like = asked(Kind::Qemu, &script(&folder.0, "like", banner)).unwrap();
    assert_eq!((like.version.as_str(), like.suite.as_str()), ("9.1.0", store::INSTALLED));
    assert!(matches!(asked(Kind::Bochs, &like.program().unwrap()), Err(store::Error::NotOne { .. })));
}

/// Makes a Debian package with dpkg-deb, and returns its path.
fn package(folder: &Path) -> PathBuf {
    let tree = folder.join("made");
    fs::create_dir_all(tree.join("DEBIAN")).unwrap();
    let control = "Package: x\nVersion: 1\nArchitecture: all\nMaintainer: x <x@x.example>\nDescription: x\n";
    fs::write(tree.join("DEBIAN/control"), control).unwrap();
    fs::create_dir_all(tree.join("lib")).unwrap();
    // What no compressor makes short: a cut must fall into it.
    let mut state = 1_u64;
    let noise = (0..200_000).map(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    });
    let file = tree.join("lib/program");
    fs::write(&file, noise.collect::<Vec<u8>>()).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o4755)).unwrap();
    let deb = folder.join("x_1_all.deb");
    let made = std::process::Command::new("dpkg-deb").arg("--build").arg(&tree).arg(&deb).output();
    let made = made.expect("dpkg-deb runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    deb
}

#[test]
#[ignore = "needs dpkg-deb; `cargo xtask ci` runs it"]
fn a_package_is_unpacked_whole_or_refused() {
    let folder = Folder::new();
    let deb = package(&folder.0);
    let tree = folder.0.join("tree");
    fs::create_dir_all(tree.join("usr/lib")).unwrap();
    std::os::unix::fs::symlink("usr/lib", tree.join("lib")).unwrap();
    unpack(&deb, &tree).unwrap();
    let mode = fs::metadata(tree.join("usr/lib/program")).unwrap().permissions().mode();
    assert_eq!(mode & 0o6000, 0, "it must not be able to become another user: {mode:o}");
    assert!(tree.join("lib").is_symlink(), "a folder of a package must not replace the link");
    let whole = fs::read(&deb).unwrap();
    for keep in [0, 7, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&deb, &whole[..keep]).unwrap();
        match unpack(&deb, &tree) {
            Err(Error::BadPackage { package, said }) => {
                assert_eq!(package, "x_1_all.deb");
                assert!(!said.is_empty(), "cut to {keep}");
            }
            other => panic!("cut to {keep}: {other:?}"),
        }
    }
}

#[test]
fn a_path_that_apt_or_the_loader_would_split_is_refused() {
    for path in ["a:b", "a;b", "a\"b", "a\nb", "a$b"] {
        assert!(matches!(Store::open(Path::new(path)), Err(store::Error::CachePath { .. })), "{path:?}");
    }
    assert!(Store::open(Path::new("with a space")).is_ok());
}

/// Pairs in ascending order, after the examples and rules of Debian Policy, section 5.6.12.
#[test]
fn versions_sort_as_debians_do() {
    for (less, more) in [
        ("1.0~rc1", "1.0"),
        ("1.0~~", "1.0~~a"),
        ("1.0~~a", "1.0~"),
        ("1.0", "1.0a"),
        ("1.0a", "1.0+"),
        ("10.0.2+ds-2", "10.0.13+ds-1"),
        ("7.2+dfsg-7+deb12u15", "1:7.2+dfsg-7"),
        ("6.12.95-1~bpo12+1", "6.12.95-1"),
        ("1.0-1", "1.0-1+b1"),
        ("7.3~rc7-1~exp1", "7.3.4-1~bpo13+1"),
        ("9", "010"),
    ] {
        assert_eq!(compare_versions(less, more), Ordering::Less, "{less} {more}");
        assert_eq!(compare_versions(more, less), Ordering::Greater, "{more} {less}");
    }
    for same in [("1.0", "1.00"), ("0:1.0", "1.0"), ("", ""), ("1.0-0", "1.0-")] {
        assert_eq!(compare_versions(same.0, same.1), Ordering::Equal, "{same:?}");
    }
}
