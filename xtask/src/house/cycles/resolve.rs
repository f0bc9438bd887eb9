//! Name resolution: which item of the crate a path names.

use super::model::{Crate, Import, Kind, ModuleId, ROOT, Space};
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

/// The item or module to which a path resolves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Module(ModuleId),
    /// An item that this module defines.
    Item(ModuleId, String, Kind),
    /// An item of another crate.
    External,
}

/// A path whose beginning is resolved.
pub(crate) struct Resolved {
    pub(crate) target: Target,
    /// Number of segments that name the target; the others name something inside it.
    pub(crate) used: usize,
}

type Question = (ModuleId, Space, String);

/// Resolves paths in one crate.
pub(crate) struct Resolver<'c> {
    pub(crate) krate: &'c Crate,
    /// Answers that do not depend on a question in progress.
    known: RefCell<HashMap<Question, Option<Target>>>,
    /// Questions in progress. Asking one of them again gives `None`, which ends cycles of imports.
    open: RefCell<HashSet<Question>>,
}

/// Names that every module has without an import. A macro's tokens that contain them do not define them.
const PRELUDE: &[&str] = &[
    "Some",
    "None",
    "Ok",
    "Err",
    "Option",
    "Result",
    "Vec",
    "String",
    "Box",
    "Self",
    "self",
    "super",
    "crate",
    "bool",
    "char",
    "str",
    "u8",
    "u16",
    "u32",
    "u64",
    "u128",
    "usize",
    "i8",
    "i16",
    "i32",
    "i64",
    "i128",
    "isize",
    "f32",
    "f64",
    "Copy",
    "Clone",
    "Drop",
    "Fn",
    "FnMut",
    "FnOnce",
    "Default",
    "Debug",
    "Eq",
    "PartialEq",
    "Ord",
    "PartialOrd",
    "Hash",
    "From",
    "Into",
    "TryFrom",
    "TryInto",
    "AsRef",
    "Iterator",
    "IntoIterator",
    "ToString",
    "ToOwned",
    "Send",
    "Sync",
    "Sized",
    "drop",
    "std",
    "core",
    "alloc",
    "_",
];

impl<'c> Resolver<'c> {
    /// Creates a resolver without any answer.
    pub(crate) fn new(krate: &'c Crate) -> Self {
        Self { krate, known: RefCell::default(), open: RefCell::default() }
    }

    /// Resolves a path that is written in a module. Returns `None` if no item of the crate can be meant.
    pub(crate) fn path(&self, from: ModuleId, path: &[String], space: Space) -> Option<Resolved> {
        let first = path.first()?;
        let space_of = |index: usize| if index + 1 == path.len() { space } else { Space::Type };
        let mut used = 1;
        let mut target = match first.as_str() {
            "::" => return Some(Resolved { target: Target::External, used: path.len() }),
            "crate" | "$crate" => Target::Module(ROOT),
            "self" if path.len() > 1 => Target::Module(from),
            "super" => Target::Module(self.krate.modules[from].parent?),
            name => self.name(from, from, name, space_of(0))?,
        };
        while let (Target::Module(module), Some(name)) = (&target, path.get(used)) {
            let module = *module;
            target = match name.as_str() {
                "super" => Target::Module(self.krate.modules[module].parent?),
                "self" => Target::Module(module),
                name => self.member(module, from, name, space_of(used))?,
            };
            used += 1;
        }
        Some(Resolved { target, used })
    }

    /// Looks up a name in a module, as code in the module `from` sees it.
    fn name(&self, module: ModuleId, from: ModuleId, name: &str, space: Space) -> Option<Target> {
        let sees_private = self.contains(module, from);
        let question = (module, space, format!("{name}{}", if sees_private { "" } else { " from outside" }));
        if let Some(answer) = self.known.borrow().get(&question) {
            return answer.clone();
        }
        if !self.open.borrow_mut().insert(question.clone()) {
            return None;
        }
        let answer = self.search(module, name, space, sees_private);
        self.open.borrow_mut().remove(&question);
        if self.open.borrow().is_empty() {
            self.known.borrow_mut().insert(question, answer.clone());
        }
        answer
    }

    /// Looks up a name that follows the module in a path. The crate compiles, so the name exists. If the source text of
    /// the module does not define it, this function assumes that a macro in the module does.
    fn member(&self, module: ModuleId, from: ModuleId, name: &str, space: Space) -> Option<Target> {
        if let Some(target) = self.name(module, from, name, space) {
            return Some(target);
        }
        let mut others =
            [Space::Type, Space::Value, Space::Macro].into_iter().filter(|other| *other != space);
        let elsewhere = others.any(|other| self.name(module, from, name, other).is_some());
        (!elsewhere).then(|| Target::Item(module, name.to_owned(), Kind::Other))
    }

    fn search(&self, module: ModuleId, name: &str, space: Space, sees_private: bool) -> Option<Target> {
        let here = &self.krate.modules[module];
        if let Some(kind) = here.items.get(&(space, name.to_owned())) {
            return Some(Target::Item(module, name.to_owned(), kind.clone()));
        }
        if space == Space::Type
            && let Some(child) = here.children.get(name)
        {
            return Some(Target::Module(*child));
        }
        let visible = |import: &&Import| sees_private || !import.is_private;
        for import in here.imports.iter().filter(visible) {
            if import.name.as_deref() == Some(name)
                && let Some(target) = self.import(module, import, space)
            {
                return Some(target);
            }
        }
        for import in here.imports.iter().filter(visible).filter(|import| import.name.is_none()) {
            if let Some(target) = self.glob(module, import, name, space) {
                return Some(target);
            }
        }
        let generated = here.generated.contains(name) && !PRELUDE.contains(&name);
        generated.then(|| Target::Item(module, name.to_owned(), Kind::Other))
    }

    /// Resolves an import by name. An import from another crate is external in every namespace, because the other
    /// crate's names are not known here.
    fn import(&self, module: ModuleId, import: &Import, space: Space) -> Option<Target> {
        match self.path(module, &import.path, space) {
            Some(found) if found.used == import.path.len() => Some(found.target),
            // An enum's variant belongs to the module of the enum.
            Some(Resolved { target: Target::Item(module, name, kind), used }) => {
                let variant = import.path.get(used)?;
                matches!(&kind, Kind::Enum(variants) if variants.contains(variant))
                    .then(|| Target::Item(module, format!("{name}::{variant}"), Kind::Constant))
            }
            Some(_) => None,
            None if space == Space::Type && import.path.len() == 1 => None,
            None => {
                let known_elsewhere = [Space::Type, Space::Value, Space::Macro]
                    .into_iter()
                    .any(|other| other != space && self.path(module, &import.path, other).is_some());
                (!known_elsewhere).then_some(Target::External)
            }
        }
    }

    /// Looks a name up in what a glob import brings.
    fn glob(&self, module: ModuleId, import: &Import, name: &str, space: Space) -> Option<Target> {
        let found = self.path(module, &import.path, Space::Type)?;
        if found.used < import.path.len() {
            return None;
        }
        match found.target {
            // The privacy of the importing module decides.
            Target::Module(inner) if inner != module => self.name(inner, module, name, space),
            Target::Item(owner, item, Kind::Enum(variants)) if variants.iter().any(|known| known == name) => {
                Some(Target::Item(owner, format!("{item}::{name}"), Kind::Constant))
            }
            _ => None,
        }
    }

    /// Returns whether a module is another one or is inside it.
    pub(crate) fn contains(&self, outer: ModuleId, inner: ModuleId) -> bool {
        let mut current = Some(inner);
        while let Some(id) = current {
            if id == outer {
                return true;
            }
            current = self.krate.modules[id].parent;
        }
        false
    }

    /// Resolves the name of a macro that is invoked by one identifier.
    pub(crate) fn macro_name(&self, from: ModuleId, name: &str) -> Option<Target> {
        if let Some(target) = self.name(from, from, name, Space::Macro) {
            return Some(target);
        }
        // The textual scope: macros of enclosing modules, and of modules with #[macro_use].
        let defines = |id: &ModuleId| {
            self.krate.modules[*id].items.contains_key(&(Space::Macro, name.to_owned()))
                && (self.contains(*id, from) || self.krate.modules[*id].exports_macros)
        };
        let module = (0..self.krate.modules.len()).rev().find(defines)?;
        Some(Target::Item(module, name.to_owned(), Kind::Other))
    }
}
