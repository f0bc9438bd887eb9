//! Checks that `vmcb` and `nested-svm` use `core` alone.
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
            if !is_behind_feature(path) {
                problems.extend(no_host_is_read(path)?);
            }
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

/// The answer of a check depends on the guest's CPU alone, so the code must not read the CPU that runs it.
fn no_host_is_read(path: &str) -> Result<Vec<String>> {
    let tokens = tokens::read(path, Scope::WithoutTests)?;
    let word = |token: &Token, wanted: &str| token.kind == Kind::Word(wanted.to_owned());
    let mut problems = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let arch = word(token, "arch") && index >= 3 && word(&tokens[index - 3], "core");
        let others = ["target_arch", "__cpuid", "__cpuid_count", "asm"];
        if arch || others.iter().any(|other| word(token, other)) {
            problems.push(format!("{path}:{}: this reads the CPU that runs the code", token.line));
        }
    }
    Ok(problems)
}
