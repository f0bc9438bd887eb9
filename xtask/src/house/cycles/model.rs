//! The modules of a crate, with the names that each of them defines or imports.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

/// A crate: its modules, the root first.
pub(crate) struct Crate {
    pub(crate) name: String,
    pub(crate) modules: Vec<Module>,
}

/// An index into [`Crate::modules`].
pub(crate) type ModuleId = usize;

/// The crate's root.
pub(crate) const ROOT: ModuleId = 0;

/// A module.
pub(crate) struct Module {
    /// The path from the root, without `crate`.
    pub(crate) path: Vec<String>,
    pub(crate) parent: Option<ModuleId>,
    /// The file that holds the module's items.
    pub(crate) file: PathBuf,
    pub(crate) children: HashMap<String, ModuleId>,
    pub(crate) items: HashMap<(Space, String), Kind>,
    pub(crate) imports: Vec<Import>,
    /// Identifiers in macro invocations among the items: the macro may define items with these names.
    pub(crate) generated: HashSet<String>,
    /// Whether `#[macro_use]` makes the module's macros visible after it.
    pub(crate) exports_macros: bool,
    /// All items except modules, `use` items and items that exist in tests only.
    pub(crate) code: Vec<(PathBuf, syn::Item)>,
}

impl Module {
    /// Creates a module without items.
    pub(crate) fn new(path: Vec<String>, parent: Option<ModuleId>, file: PathBuf) -> Self {
        Self {
            path,
            parent,
            file,
            children: HashMap::new(),
            items: HashMap::new(),
            imports: Vec::new(),
            generated: HashSet::new(),
            exports_macros: false,
            code: Vec::new(),
        }
    }
}

/// A namespace of Rust.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Space {
    Type,
    Value,
    Macro,
}

/// The kinds of items that name resolution distinguishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An enum with these variants.
    Enum(Vec<String>),
    /// A constant, a static or a unit struct: an identifier in a pattern that names it is not a binding.
    Constant,
    Other,
}

/// One name of a `use` item.
#[derive(Clone)]
pub(crate) struct Import {
    /// The imported name; `None` for a glob import.
    pub(crate) name: Option<String>,
    pub(crate) path: Vec<String>,
    pub(crate) is_private: bool,
    pub(crate) file: PathBuf,
    pub(crate) line: usize,
}

/// Returns all names that a `use` item imports.
pub(crate) fn imports(item: &syn::ItemUse, file: &std::path::Path) -> Vec<Import> {
    let mut found = Vec::new();
    let prefix = if item.leading_colon.is_some() { vec![String::from("::")] } else { Vec::new() };
    flatten(&item.tree, prefix, &mut |name, path, line| {
        found.push(Import {
            name,
            path,
            is_private: matches!(item.vis, syn::Visibility::Inherited),
            file: file.to_owned(),
            line,
        });
    });
    found
}

fn flatten(
    tree: &syn::UseTree,
    mut prefix: Vec<String>,
    found: &mut dyn FnMut(Option<String>, Vec<String>, usize),
) {
    match tree {
        syn::UseTree::Path(part) => {
            prefix.push(part.ident.to_string());
            flatten(&part.tree, prefix, found);
        }
        syn::UseTree::Name(name) => {
            let line = name.ident.span().start().line;
            let mut name = name.ident.to_string();
            if name == "self" {
                name = prefix.last().cloned().unwrap_or_default();
            } else {
                prefix.push(name.clone());
            }
            found(Some(name), prefix, line);
        }
        syn::UseTree::Rename(rename) => {
            if rename.ident != "self" {
                prefix.push(rename.ident.to_string());
            }
            found(Some(rename.rename.to_string()), prefix, rename.ident.span().start().line);
        }
        syn::UseTree::Glob(glob) => found(None, prefix, glob.star_token.spans[0].start().line),
        syn::UseTree::Group(group) => {
            for tree in &group.items {
                flatten(tree, prefix.clone(), found);
            }
        }
    }
}
