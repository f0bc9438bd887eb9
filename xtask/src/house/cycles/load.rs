//! Loads the modules of a crate from its source files.

use super::model::{Crate, Kind, Module, ModuleId, ROOT, Space, imports};
use crate::syntax;
use anyhow::{Context as _, Result, bail};
use proc_macro2::{TokenStream, TokenTree};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use syn::Item;

/// Loads a crate from its root file, without items that exist in tests only.
pub(crate) fn load(name: &str, root: &Path) -> Result<Crate> {
    let mut loader = Loader { modules: vec![Module::new(Vec::new(), None, root.to_owned())] };
    let file = syntax::parse(root)?;
    let folder = root.parent().unwrap_or(Path::new("")).to_owned();
    loader.items(ROOT, file.items, &Place { file: root.to_owned(), modules: folder })?;
    Ok(Crate { name: name.to_owned(), modules: loader.modules })
}

/// The file with the text of a module, and the folder of its child modules.
struct Place {
    file: PathBuf,
    modules: PathBuf,
}

struct Loader {
    modules: Vec<Module>,
}

impl Loader {
    fn items(&mut self, id: ModuleId, items: Vec<Item>, place: &Place) -> Result<()> {
        for item in items {
            if syntax::is_test_only(syntax::attributes(&item)) {
                continue;
            }
            match item {
                Item::Mod(item) => self.module(id, item, place)?,
                Item::Use(item) => self.modules[id].imports.extend(imports(&item, &place.file)),
                Item::Macro(item) if item.mac.path.is_ident("include") => {
                    self.include(id, &item.mac.tokens, place)?;
                }
                item => {
                    self.define(id, &item);
                    self.modules[id].code.push((place.file.clone(), item));
                }
            }
        }
        Ok(())
    }

    fn module(&mut self, parent: ModuleId, item: syn::ItemMod, place: &Place) -> Result<()> {
        let name = item.ident.to_string();
        let mut path = self.modules[parent].path.clone();
        path.push(name.clone());
        let id = self.modules.len();
        let exports_macros = item.attrs.iter().any(|attribute| attribute.path().is_ident("macro_use"));
        let folder = place.modules.join(&name);
        let attribute = path_attribute(&item.attrs);
        let (items, inner) = match item.content {
            Some((_, items)) => (items, Place { file: place.file.clone(), modules: folder }),
            None => {
                let (file, modules) = locate(&name, attribute, place)?;
                let parsed = syntax::parse(&file)?;
                if syntax::is_test_only(&parsed.attrs) {
                    return Ok(());
                }
                (parsed.items, Place { file, modules })
            }
        };
        let mut module = Module::new(path, Some(parent), inner.file.clone());
        module.exports_macros = exports_macros;
        self.modules.push(module);
        self.modules[parent].children.insert(name, id);
        self.items(id, items, &inner)
    }

    /// Adds the items of a file that `include!` names by a literal. Files that a build script writes are not loaded.
    fn include(&mut self, id: ModuleId, tokens: &TokenStream, place: &Place) -> Result<()> {
        let Ok(name) = syn::parse2::<syn::LitStr>(tokens.clone()) else { return Ok(()) };
        let file = place.file.parent().unwrap_or(Path::new("")).join(name.value());
        let items = syntax::parse(&file)?.items;
        self.items(id, items, &Place { modules: place.modules.clone(), file })
    }

    /// Records the names that an item defines.
    fn define(&mut self, id: ModuleId, item: &Item) {
        let module = &mut self.modules[id];
        let mut add = |space, name: &syn::Ident, kind| {
            module.items.insert((space, name.to_string()), kind);
        };
        match item {
            Item::Const(item) => add(Space::Value, &item.ident, Kind::Constant),
            Item::Static(item) => add(Space::Value, &item.ident, Kind::Constant),
            Item::Fn(item) => add(Space::Value, &item.sig.ident, Kind::Other),
            Item::Enum(item) => {
                let variants = item.variants.iter().map(|variant| variant.ident.to_string()).collect();
                add(Space::Type, &item.ident, Kind::Enum(variants));
            }
            Item::Struct(item) => {
                add(Space::Type, &item.ident, Kind::Other);
                match item.fields {
                    syn::Fields::Unit => add(Space::Value, &item.ident, Kind::Constant),
                    syn::Fields::Unnamed(_) => add(Space::Value, &item.ident, Kind::Other),
                    syn::Fields::Named(_) => {}
                }
            }
            Item::Union(item) => add(Space::Type, &item.ident, Kind::Other),
            Item::Trait(item) => add(Space::Type, &item.ident, Kind::Other),
            Item::Type(item) => add(Space::Type, &item.ident, Kind::Other),
            Item::ForeignMod(item) => {
                for item in &item.items {
                    match item {
                        syn::ForeignItem::Fn(item) => add(Space::Value, &item.sig.ident, Kind::Other),
                        syn::ForeignItem::Static(item) => add(Space::Value, &item.ident, Kind::Other),
                        _ => {}
                    }
                }
            }
            Item::Macro(item) => match &item.ident {
                Some(name) => add(Space::Macro, name, Kind::Other),
                None => identifiers(item.mac.tokens.clone(), &mut module.generated),
            },
            _ => {}
        }
    }
}

/// Collects all identifiers in a stream of tokens.
fn identifiers(tokens: TokenStream, found: &mut HashSet<String>) {
    for token in tokens {
        match token {
            TokenTree::Ident(name) => {
                found.insert(name.to_string());
            }
            TokenTree::Group(group) => identifiers(group.stream(), found),
            _ => {}
        }
    }
}

fn path_attribute(attributes: &[syn::Attribute]) -> Option<String> {
    attributes.iter().find(|attribute| attribute.path().is_ident("path")).and_then(|attribute| {
        let syn::Meta::NameValue(pair) = &attribute.meta else { return None };
        let syn::Expr::Lit(literal) = &pair.value else { return None };
        let syn::Lit::Str(text) = &literal.lit else { return None };
        Some(text.value())
    })
}

/// Returns the file of a module that is declared by `mod name;`, and the folder of its children.
fn locate(name: &str, attribute: Option<String>, place: &Place) -> Result<(PathBuf, PathBuf)> {
    if let Some(path) = attribute {
        let folder = place.file.parent().unwrap_or(Path::new(""));
        let file = folder.join(path);
        let modules = file.parent().unwrap_or(Path::new("")).to_owned();
        return Ok((file, modules));
    }
    let folder = place.modules.join(name);
    for file in [place.modules.join(format!("{name}.rs")), folder.join("mod.rs")] {
        if file.try_exists().with_context(|| file.display().to_string())? {
            return Ok((file, folder));
        }
    }
    bail!("{}: no file for `mod {name};` in {}", place.file.display(), place.modules.display())
}
