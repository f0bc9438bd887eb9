//! The checker on small crates.

use super::cycles;
use super::load;
use std::path::{Path, PathBuf};

/// A folder that is deleted at the end.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Checks a crate that consists of these files. Returns the first line of each cycle.
fn check(files: &[(&str, &str)]) -> Vec<String> {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let folder = Folder(std::env::temp_dir().join(format!("xtask-cycles-{}-{number}", std::process::id())));
    for (name, text) in files {
        let path = folder.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new(""))).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let krate = load::load("crate", &folder.0.join(files[0].0)).unwrap();
    cycles(&krate).iter().filter_map(|text| text.lines().next().map(str::to_owned)).collect()
}

/// Checks a crate that consists of one file.
fn check_text(text: &str) -> Vec<String> {
    check(&[("lib.rs", text)])
}

const A_AND_B: [&str; 1] = ["crate: modules use each other: a, b"];

#[test]
fn two_modules_that_use_each_other() {
    let text = "mod a { use crate::b::B; pub struct A(B); } mod b { pub struct B; fn f(a: crate::a::A) {} }";
    assert_eq!(check_text(text), A_AND_B);
    assert!(check_text("mod a { use crate::b::B; pub struct A(B); } mod b { pub struct B; }").is_empty());
}

#[test]
fn a_cycle_through_a_third_module() {
    let text = "mod a { fn f() { super::b::g() } } mod b { pub fn g() { super::c::h() } }
                mod c { pub fn h(x: crate::a::T) {} } mod a2 {}";
    assert_eq!(check_text(text), ["crate: modules use each other: a, b, c"]);
}

#[test]
fn a_re_export_counts_for_the_defining_module() {
    let text = "pub use b::B;
                mod a { pub struct A; fn f(b: crate::B) {} }
                mod b { pub struct B; fn f(a: crate::a::A) {} }";
    assert_eq!(check_text(text), A_AND_B);
    let renamed = "pub use c::Other as Name; mod c { pub use crate::b::B as Other; }
                   mod a { pub struct A; fn f(b: crate::Name) {} }
                   mod b { pub struct B; fn f(a: crate::a::A) {} }";
    assert_eq!(check_text(renamed), A_AND_B);
    // The facade `c` is not part of the cycle: nothing that it defines is used.
}

#[test]
fn a_parent_and_its_child_count_as_one() {
    let text = "mod a { pub struct A; mod child { use super::A; pub fn f(_: A) {} } fn g() { child::f(A) } }";
    assert!(check_text(text).is_empty());
    let text = "mod a { pub mod child { pub struct C; } pub struct A; fn f(_: crate::b::B) {} }
                mod b { pub struct B(crate::a::child::C); }";
    assert_eq!(check_text(text), A_AND_B);
    let siblings = "mod p { mod a { pub struct A(super::b::B); } mod b { pub struct B(super::a::A); } }";
    assert_eq!(check_text(siblings), ["crate: modules use each other: p::a, p::b"]);
}

#[test]
fn items_of_the_root_are_not_a_module() {
    let text = "pub struct R; mod a { pub struct A(crate::R); } fn f(a: a::A) {}";
    assert!(check_text(text).is_empty());
}

#[test]
fn test_code_does_not_count() {
    let text = "mod a { pub struct A; #[cfg(test)] mod tests { use crate::b::B; fn f(_: B) {} } }
                mod b { pub struct B(crate::a::A); #[test] fn t() {} #[cfg(all(test, unix))] use crate::c::C; }
                mod c { pub struct C(crate::b::B); }";
    assert!(check_text(text).is_empty());
    let statement = "mod a { pub struct A; fn f() { #[cfg(test)] let x = crate::b::B; } }
                     mod b { pub struct B(crate::a::A); }";
    assert!(check_text(statement).is_empty());
    let other = "mod a { pub struct A; #[cfg(any(test, feature = \"x\"))] fn f(_: crate::b::B) {} }
                 mod b { pub struct B(crate::a::A); }";
    assert_eq!(check_text(other), A_AND_B);
}

#[test]
fn glob_imports_bring_items() {
    let text = "mod a { use super::b::*; pub struct A(B); } mod b { use super::a::*; pub struct B(Box<A>); }";
    assert_eq!(check_text(text), A_AND_B);
    let unused = "mod a { use super::b::*; pub struct A; } mod b { use super::a::A; pub struct B(A); }";
    assert!(check_text(unused).is_empty());
    let through = "pub use a::*; pub use b::*; mod a { use crate::*; pub struct A(B); }
                   mod b { use crate::*; pub struct B(Box<A>); }";
    assert_eq!(check_text(through), A_AND_B);
    let in_function =
        "mod a { pub enum E { X } } mod b { pub fn f() {} fn g(e: u8) { use crate::a::E::*; let X = e; } }
                       mod c { }";
    assert!(check_text(in_function).is_empty());
    let variants = "mod a { pub enum E { X } fn h() { crate::b::f() } }
                    mod b { pub fn f() {} fn g() { use crate::a::E::*; let y = X; } }";
    assert_eq!(check_text(variants), A_AND_B);
}

#[test]
fn macro_bodies_and_invocations_count() {
    let body = "mod a { pub struct A; macro_rules! m { ($x:expr) => { $crate::b::f($x) } } }
                mod b { pub fn f(_: crate::a::A) {} }";
    assert_eq!(check_text(body), A_AND_B);
    let arguments = "mod a { pub struct A; fn f() { println!(\"{}\", crate::b::f(1)) } }
                     mod b { pub fn f(_: crate::a::A) {} }";
    assert_eq!(check_text(arguments), A_AND_B);
    let invocation = "#[macro_use] mod a { macro_rules! m { () => {} } fn f(_: crate::b::B) {} }
                      mod b { pub struct B; m!(); }";
    assert_eq!(check_text(invocation), A_AND_B);
    let unparsed = "mod a { pub struct A; table! { [one] => crate::b::B; } }
                    mod b { pub struct B(crate::a::A); }";
    assert_eq!(check_text(unparsed), A_AND_B);
    let defined = "mod a { make! { pub struct Made; } fn f() { crate::b::f() } } mod b { pub fn f() { crate::a::Made; } }";
    assert_eq!(check_text(defined), A_AND_B);
}

#[test]
fn local_names_hide_items() {
    let text = "mod a { use crate::b::*; fn f(limits: u8) -> u8 { let x = limits; x } }
                mod b { pub fn limits() {} pub fn x() {} fn g() { crate::a::f(1); } }";
    assert!(check_text(text).is_empty());
    let generic = "mod a { use crate::b::*; pub fn f<T>(t: T) -> T { t } }
                   mod b { pub struct T; fn g() { crate::a::f(1); } }";
    assert!(check_text(generic).is_empty());
    let constant = "mod a { use crate::b::*; pub fn f(x: u8) { match x { LIMIT => {} _ => {} } } }
                    mod b { pub const LIMIT: u8 = 1; fn g() { crate::a::f(1); } }";
    assert_eq!(check_text(constant), A_AND_B);
}

#[test]
fn associated_functions_count_for_the_module_of_their_impl() {
    let text = "mod t { pub struct T; }
                mod a { use crate::t::T; impl T { pub fn new() {} } fn f() { crate::b::g() } }
                mod b { use crate::t::T; pub fn g() { T::new() } }";
    assert_eq!(check_text(text), A_AND_B);
}

#[test]
fn modules_in_files_are_found() {
    let found = check(&[
        ("src/main.rs", "mod a; #[path = \"other/place.rs\"] mod b;"),
        ("src/a.rs", "mod inner; pub struct A;"),
        ("src/a/inner.rs", "fn f(_: crate::b::B) {}"),
        ("src/other/place.rs", "mod deep; pub struct B(crate::a::A);"),
        ("src/other/deep/mod.rs", ""),
    ]);
    assert_eq!(found, A_AND_B);
}
