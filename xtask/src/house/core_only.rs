//! Checks that `vmcb` and `nested-svm` use `core` alone, do not read the host, and have no large alignment.
//!
//! A crate that has `#![no_std]` and no `extern crate` item cannot use `std` or `alloc`. The compiler checks
//! `forbid(unsafe_code)`. So this check looks at attributes and `extern crate` items.

use super::Report;
use crate::syntax;
use crate::tokens::{self, Kind, Scope, Token};
use crate::workspace::{Workspace, is_test_file};
use anyhow::Result;
use std::path::Path;
use syn::visit::Visit;

/// Checks the crates that hypervisors link.
pub(super) fn check(workspace: &Workspace) -> Result<Report> {
    let mut problems = Vec::new();
    let mut count = 0;
    for name in ["vmcb", "nested-svm"] {
        let folder = format!("crates/{name}/src/");
        problems.extend(root_attributes(&format!("{folder}lib.rs"))?);
        let files = workspace.rust_files()?;
        for path in files.iter().filter(|path| path.starts_with(&folder) && !is_test_file(path)) {
            count += 1;
            problems.extend(extern_crates(path)?);
            let tokens = tokens::read(path, Scope::WithoutTests)?;
            let mut add = |line: usize, fault: &str| problems.push(format!("{path}:{line}: {fault}"));
            if !is_behind_feature(path) {
                no_host_is_read(&tokens)
                    .into_iter()
                    .for_each(|line| add(line, "this reads the CPU that runs the code"));
            }
            no_large_alignment(&tokens).into_iter().for_each(|line| add(line, "this alignment is above 64"));
        }
    }
    Ok(Report { problems, summary: format!("{count} files"), ..Report::default() })
}

/// Returns whether a file is compiled only with a feature that needs `std`.
fn is_behind_feature(path: &str) -> bool {
    path.contains("/src/model/") || path.ends_with("/vm_memory.rs")
}

fn root_attributes(path: &str) -> Result<Vec<String>> {
    let file = syntax::parse(Path::new(path))?;
    let has = |wanted: &str, argument: Option<&str>| {
        file.attrs.iter().any(|attribute| {
            attribute.path().is_ident(wanted)
                && argument.is_none_or(|argument| {
                    attribute.parse_args::<syn::Ident>().is_ok_and(|written| written == argument)
                })
        })
    };
    let mut problems = Vec::new();
    if !has("no_std", None) {
        problems.push(format!("{path}: `#![no_std]` is missing"));
    }
    if !has("forbid", Some("unsafe_code")) {
        problems.push(format!("{path}: `#![forbid(unsafe_code)]` is missing"));
    }
    Ok(problems)
}

struct ExternCrates<'p> {
    path: &'p str,
    problems: Vec<String>,
}

impl<'ast> Visit<'ast> for ExternCrates<'_> {
    fn visit_item_extern_crate(&mut self, item: &'ast syn::ItemExternCrate) {
        if !item.attrs.iter().any(is_limited) {
            let line = item.ident.span().start().line;
            self.problems.push(format!("{}:{line}: `extern crate {}` is not core", self.path, item.ident));
        }
    }
}

/// Whether the attribute limits an item to tests or to the feature `model`.
fn is_limited(attribute: &syn::Attribute) -> bool {
    let Ok(list) = attribute.meta.require_list() else { return false };
    let condition: String = list.tokens.to_string().split_whitespace().collect();
    list.path.is_ident("cfg") && ["test", "any(test,feature=\"model\")"].contains(&condition.as_str())
}

/// Returns each `extern crate` item that no `cfg` limits to tests or to the feature `model`.
fn extern_crates(path: &str) -> Result<Vec<String>> {
    let file = syntax::parse(Path::new(path))?;
    let mut visitor = ExternCrates { path, problems: Vec::new() };
    visitor.visit_file(&file);
    Ok(visitor.problems)
}

/// Names in code that depends on the machine that runs it.
const HOST: &[&str] = &[
    "arch",
    "asm",
    "global_asm",
    "is_x86_feature_detected",
    "target_arch",
    "target_env",
    "target_feature",
    "target_os",
    "target_vendor",
    "__cpuid",
    "__cpuid_count",
];

/// Returns the lines that read the CPU that runs the code. The answer of a check depends on the guest's CPU alone.
fn no_host_is_read(tokens: &[Token]) -> Vec<usize> {
    let is_host = |token: &&Token| matches!(&token.kind, Kind::Word(word) if HOST.contains(&word.as_str()));
    tokens.iter().filter(is_host).map(|token| token.line).collect()
}

/// Returns the lines with `align(N)` if N is above 64: LLVM miscompiles some functions that keep such values on the stack.
fn no_large_alignment(tokens: &[Token]) -> Vec<usize> {
    let is_large = |window: &&[Token]| {
        let [name, open, number] = window else { return false };
        let Kind::Literal(number) = &number.kind else { return false };
        let number = syn::parse_str::<syn::LitInt>(number).and_then(|number| number.base10_parse::<u64>());
        name.kind == Kind::Word("align".to_owned())
            && open.kind == Kind::Punctuation('(')
            && number.is_ok_and(|number| number > 64)
    };
    tokens.windows(3).filter(is_large).map(|window| window[0].line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<Token> {
        tokens::parse(text, Scope::WithoutTests).unwrap()
    }

    #[test]
    fn each_way_to_read_the_host_is_found() {
        for text in [
            "use core::arch::x86_64;",
            "use core::{arch::x86_64::__cpuid, fmt};",
            "use core::{fmt, arch};",
            "fn f() -> bool { cfg!(target_feature = \"avx2\") }",
            "#[cfg(target_os = \"linux\")] fn f() {}",
        ] {
            assert_eq!(no_host_is_read(&parsed(text)).first(), Some(&1), "{text}");
        }
        assert_eq!(no_host_is_read(&parsed("fn search() { \"arch\"; }")), [0; 0]);
    }

    #[test]
    fn an_alignment_above_64_is_found() {
        let text =
            "#[repr(align(64))] struct A;\n#[repr(C, align(4096))] struct B;\n#[repr(align(0x80))] struct C;";
        assert_eq!(no_large_alignment(&parsed(text)), [2, 3]);
    }
}
