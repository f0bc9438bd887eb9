//! Which parts of a Rust source file are compiled without `cfg(test)`.

use anyhow::{Context as _, Result};
use std::collections::BTreeSet;
use std::path::Path;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};
use syn::{Attribute, Item, Meta, Token};

/// Reads and parses a Rust source file.
pub(crate) fn parse(path: &Path) -> Result<syn::File> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    parse_text(&text).with_context(|| format!("cannot parse {}", path.display()))
}

/// Parses the text of a Rust source file.
pub(crate) fn parse_text(text: &str) -> Result<syn::File> {
    syn::parse_file(text).map_err(|error| {
        let start = error.span().start();
        anyhow::anyhow!("line {}, column {}: {error}", start.line, start.column + 1)
    })
}

/// Returns whether these attributes remove an item from every build that is not a test build.
pub(crate) fn is_test_only(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let path = attribute.path();
        if path.is_ident("test") || path.is_ident("bench") {
            return true;
        }
        path.is_ident("cfg")
            && attribute.parse_args::<Meta>().is_ok_and(|predicate| evaluate(&predicate) == Some(false))
    })
}

/// Evaluates a `cfg` predicate with `test` and `doctest` unset. Returns `None` if it depends on anything else.
fn evaluate(predicate: &Meta) -> Option<bool> {
    if let Meta::Path(path) = predicate {
        return (path.is_ident("test") || path.is_ident("doctest")).then_some(false);
    }
    let Meta::List(list) = predicate else { return None };
    let parts = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated).ok()?;
    let values: Vec<_> = parts.iter().map(evaluate).collect();
    let decided_by = |decisive: bool| {
        if values.contains(&Some(decisive)) {
            Some(decisive)
        } else if values.contains(&None) {
            None
        } else {
            Some(!decisive)
        }
    };
    if list.path.is_ident("any") {
        decided_by(true)
    } else if list.path.is_ident("all") {
        decided_by(false)
    } else if list.path.is_ident("not") {
        values.first().copied().flatten().map(|value| !value)
    } else {
        None
    }
}

/// Returns the attributes of an item.
pub(crate) fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// The numbers of lines that hold test-only items, and of lines that hold imports.
#[derive(Default)]
pub(crate) struct Lines {
    /// Lines of items that exist in test builds only.
    pub(crate) tests: BTreeSet<usize>,
    /// Lines of `use` items.
    pub(crate) imports: BTreeSet<usize>,
}

impl Lines {
    /// Finds both kinds of lines in a file.
    pub(crate) fn of(file: &syn::File) -> Self {
        let mut lines = Self::default();
        if is_test_only(&file.attrs) {
            lines.tests.extend(1..=file.span().end().line);
        }
        lines.visit_file(file);
        lines
    }
}

impl<'ast> Visit<'ast> for Lines {
    fn visit_item(&mut self, item: &'ast Item) {
        let span = item.span();
        let range = span.start().line..=span.end().line;
        if is_test_only(attributes(item)) {
            self.tests.extend(range);
        } else if matches!(item, Item::Use(_)) {
            self.imports.extend(range);
        } else {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if is_test_only(&function.attrs) {
            let span = function.span();
            self.tests.extend(span.start().line..=span.end().line);
        } else {
            visit::visit_impl_item_fn(self, function);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test_lines(text: &str) -> Vec<usize> {
        Lines::of(&parse_text(text).unwrap()).tests.into_iter().collect()
    }

    #[test]
    fn test_only_items_are_found() {
        assert_eq!(test_lines("#[cfg(test)]\nmod tests {\n}\nfn f() {}\n"), [1, 2, 3]);
        assert_eq!(test_lines("#[cfg(all(test, unix))]\nfn f() {}"), [1, 2]);
        assert_eq!(test_lines("fn a() {}\n#[test]\nfn f() {}"), [2, 3]);
    }

    #[test]
    fn items_that_other_builds_contain_are_kept() {
        assert_eq!(test_lines("#[cfg(not(test))]\nfn f() {}"), [0; 0]);
        assert_eq!(test_lines("#[cfg(any(test, feature = \"model\"))]\nfn f() {}"), [0; 0]);
        assert_eq!(test_lines("#[cfg(not(all(test, unix)))]\nfn f() {}"), [0; 0]);
    }
}
