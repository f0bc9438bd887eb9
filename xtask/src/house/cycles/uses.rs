//! Finds which items of other modules the code of a module uses.

use super::model::{Import, Kind, ModuleId, Space, imports};
use super::resolve::{Resolved, Resolver, Target};
use crate::syntax;
use proc_macro2::{Ident, TokenStream, TokenTree};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};
use syn::{Item, Token};

/// A place where a module uses an item of another module.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Use {
    pub(crate) user: ModuleId,
    pub(crate) owner: ModuleId,
    pub(crate) file: PathBuf,
    pub(crate) line: usize,
    pub(crate) item: String,
}

/// Associated items of inherent `impl` blocks: the type's module and name, the item's name, the modules of the blocks.
type Associated = HashMap<(ModuleId, String, String), Vec<ModuleId>>;

/// Returns all uses between the modules of a crate, without repetitions.
///
/// A method that is called on a value (`value.method()`) is not resolved, because that needs the value's type.
pub(crate) fn uses(resolver: &Resolver<'_>) -> Vec<Use> {
    let associated = associated(resolver);
    let mut found = Vec::new();
    for (id, module) in resolver.krate.modules.iter().enumerate() {
        let mut walker = Walker::new(resolver, &associated, id, &module.file);
        for import in &module.imports {
            walker.import(import);
        }
        for (file, item) in &module.code {
            file.clone_into(&mut walker.file);
            walker.visit_item(item);
        }
        found.append(&mut walker.found);
    }
    found.sort();
    found.dedup();
    found
}

fn associated(resolver: &Resolver<'_>) -> Associated {
    let mut all = Associated::new();
    for (id, module) in resolver.krate.modules.iter().enumerate() {
        for (_, item) in &module.code {
            let Item::Impl(item) = item else { continue };
            if item.trait_.is_some() {
                continue;
            }
            let Some(Target::Item(owner, name, _)) = self_type(resolver, id, &item.self_ty) else { continue };
            for member in &item.items {
                let member = match member {
                    syn::ImplItem::Fn(member) => &member.sig.ident,
                    syn::ImplItem::Const(member) => &member.ident,
                    syn::ImplItem::Type(member) => &member.ident,
                    _ => continue,
                };
                all.entry((owner, name.clone(), member.to_string())).or_default().push(id);
            }
        }
    }
    all
}

/// Returns the item that `Self` means in an `impl` block for a type.
fn self_type(resolver: &Resolver<'_>, module: ModuleId, ty: &syn::Type) -> Option<Target> {
    let syn::Type::Path(path) = ty else { return None };
    let names: Vec<_> = path.path.segments.iter().map(|segment| segment.ident.to_string()).collect();
    resolver.path(module, &names, Space::Type).map(|found| found.target)
}

/// A name that a block, a function or its generic parameters define.
#[derive(Clone)]
enum Local {
    /// A variable, a generic parameter or an item in a function.
    Defined,
    /// A `use` item in a function.
    Imported(Import),
}

#[derive(Default)]
struct Scope {
    names: HashMap<(Space, String), Local>,
    globs: Vec<Import>,
}

struct Walker<'a> {
    resolver: &'a Resolver<'a>,
    associated: &'a Associated,
    module: ModuleId,
    file: PathBuf,
    scopes: Vec<Scope>,
    self_types: Vec<Option<Target>>,
    found: Vec<Use>,
}

impl<'a> Walker<'a> {
    fn new(resolver: &'a Resolver<'a>, associated: &'a Associated, module: ModuleId, file: &Path) -> Self {
        let (file, scopes) = (file.to_owned(), Vec::new());
        Self { resolver, associated, module, file, scopes, self_types: Vec::new(), found: Vec::new() }
    }

    fn add(&mut self, owner: ModuleId, line: usize, item: &str) {
        if owner != self.module {
            let (user, file) = (self.module, self.file.clone());
            self.found.push(Use { user, owner, file, line, item: item.to_owned() });
        }
    }

    /// Records an import. Importing a module or a glob is not a use of an item.
    fn import(&mut self, import: &Import) {
        self.file.clone_from(&import.file);
        if import.name.is_none() {
            return;
        }
        for space in [Space::Type, Space::Value, Space::Macro] {
            if let Some(Resolved { target: Target::Item(owner, item, _), .. }) =
                self.resolver.path(self.module, &import.path, space)
            {
                self.add(owner, import.line, &item);
            }
        }
    }

    /// Records what a path names.
    fn path(&mut self, names: &[String], space: Space, line: usize) {
        let Some((target, rest)) = self.target(names, space) else { return };
        let Target::Item(owner, item, _) = target else { return };
        self.add(owner, line, &item);
        if let Some(member) = rest.first() {
            let key = (owner, item.clone(), member.clone());
            for module in self.associated.get(&key).cloned().unwrap_or_default() {
                self.add(module, line, &format!("{item}::{member}"));
            }
        }
    }

    /// Resolves a path; the rest of it names something inside the target.
    fn target(&self, names: &[String], space: Space) -> Option<(Target, Vec<String>)> {
        let first = names.first()?;
        if first == "Self" {
            return Some((self.self_types.last()?.clone()?, names[1..].to_vec()));
        }
        let space_of_first = if names.len() == 1 { space } else { Space::Type };
        for scope in self.scopes.iter().rev() {
            match scope.names.get(&(space_of_first, first.clone())) {
                Some(Local::Defined) => return None,
                Some(Local::Imported(import)) => {
                    let path: Vec<_> = import.path.iter().chain(&names[1..]).cloned().collect();
                    return self.resolve(&path, space);
                }
                None => {}
            }
            for glob in &scope.globs {
                let path: Vec<_> = glob.path.iter().chain(names).cloned().collect();
                if let Some(found) = self.in_glob(glob, &path, space) {
                    return Some(found);
                }
            }
        }
        self.resolve(names, space)
    }

    fn resolve(&self, path: &[String], space: Space) -> Option<(Target, Vec<String>)> {
        let Resolved { target, used } = self.resolver.path(self.module, path, space)?;
        Some((target, path[used..].to_vec()))
    }

    /// Resolves a path through a glob import in a function. Only enums and modules of the crate are looked into.
    fn in_glob(&self, glob: &Import, path: &[String], space: Space) -> Option<(Target, Vec<String>)> {
        let (target, rest) = self.resolve(&glob.path, Space::Type)?;
        let name = path.get(glob.path.len())?;
        match target {
            Target::Item(_, _, Kind::Enum(ref variants)) if rest.is_empty() && variants.contains(name) => {
                Some((target, Vec::new()))
            }
            Target::Module(module) => {
                let known = &self.resolver.krate.modules[module];
                let named = known.imports.iter().any(|import| import.name.as_ref() == Some(name));
                let space_of_name = if path.len() == glob.path.len() + 1 { space } else { Space::Type };
                let defined = known.items.contains_key(&(space_of_name, name.clone()));
                (named || defined).then(|| self.resolve(path, space)).flatten()
            }
            _ => None,
        }
    }

    fn bind(&mut self, space: Space, name: &Ident) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.names.insert((space, name.to_string()), Local::Defined);
        }
    }

    fn scoped(&mut self, visit: impl FnOnce(&mut Self)) {
        self.scopes.push(Scope::default());
        visit(self);
        self.scopes.pop();
    }

    fn generics(&mut self, generics: &syn::Generics) {
        for parameter in &generics.params {
            match parameter {
                syn::GenericParam::Type(parameter) => self.bind(Space::Type, &parameter.ident),
                syn::GenericParam::Const(parameter) => self.bind(Space::Value, &parameter.ident),
                _ => {}
            }
        }
    }

    fn function(&mut self, signature: &syn::Signature, block: Option<&syn::Block>) {
        self.scoped(|walker| {
            walker.generics(&signature.generics);
            visit::visit_signature(walker, signature);
            if let Some(block) = block {
                walker.visit_block(block);
            }
        });
    }

    /// Adds the names that a block's items define, which are visible in the whole block.
    fn block_items(&mut self, block: &syn::Block) {
        for statement in &block.stmts {
            let syn::Stmt::Item(item) = statement else { continue };
            if syntax::is_test_only(syntax::attributes(item)) {
                continue;
            }
            match item {
                Item::Use(item) => self.block_imports(item),
                Item::Fn(item) => self.bind(Space::Value, &item.sig.ident),
                Item::Const(item) => self.bind(Space::Value, &item.ident),
                Item::Static(item) => self.bind(Space::Value, &item.ident),
                Item::Enum(item) => self.bind(Space::Type, &item.ident),
                Item::Trait(item) => self.bind(Space::Type, &item.ident),
                Item::Type(item) => self.bind(Space::Type, &item.ident),
                Item::Struct(item) => {
                    self.bind(Space::Type, &item.ident);
                    self.bind(Space::Value, &item.ident);
                }
                _ => {}
            }
        }
    }

    fn block_imports(&mut self, item: &syn::ItemUse) {
        let file = self.file.clone();
        for import in imports(item, &file) {
            self.import(&import);
            let Some(scope) = self.scopes.last_mut() else { continue };
            match &import.name {
                None => scope.globs.push(import),
                Some(name) => {
                    for space in [Space::Type, Space::Value, Space::Macro] {
                        scope.names.insert((space, name.clone()), Local::Imported(import.clone()));
                    }
                }
            }
        }
    }

    /// Records the names in tokens that are not parsed. An identifier alone counts if it is not a field, not a label of
    /// a field and not a variable of a macro.
    fn tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<_> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Group(group) => self.tokens(group.stream()),
                TokenTree::Ident(name) => {
                    let variable = at > 0 && is_punctuation(&tokens[at - 1], '$') && name != "crate";
                    let field = at > 0 && is_punctuation(&tokens[at - 1], '.');
                    let (names, end) = path_at(&tokens, at);
                    let label =
                        names.len() == 1 && tokens.get(end).is_some_and(|next| is_punctuation(next, ':'));
                    if !variable && !field && !label {
                        self.token_path(&names, tokens.get(end), name);
                    }
                    at = end;
                    continue;
                }
                _ => {}
            }
            at += 1;
        }
    }

    fn token_path(&mut self, names: &[String], next: Option<&TokenTree>, first: &Ident) {
        let line = first.span().start().line;
        if next.is_some_and(|next| is_punctuation(next, '!')) {
            self.macro_path(names, line);
            return;
        }
        self.path(names, Space::Type, line);
        self.path(names, Space::Value, line);
    }

    fn macro_path(&mut self, names: &[String], line: usize) {
        if let [name] = names {
            if let Some(Target::Item(owner, item, _)) = self.resolver.macro_name(self.module, name) {
                self.add(owner, line, &format!("{item}!"));
            }
        } else {
            self.path(names, Space::Macro, line);
        }
    }

    fn segments(&mut self, path: &syn::Path, count: usize, space: Space) {
        let names = names(path);
        let leading = usize::from(path.leading_colon.is_some());
        let line = path.segments.first().map_or(0, |segment| segment.ident.span().start().line);
        self.path(&names[..(count + leading).min(names.len())], space, line);
        for segment in &path.segments {
            self.visit_path_arguments(&segment.arguments);
        }
    }

    fn qualified(&mut self, qself: Option<&syn::QSelf>, path: &syn::Path, space: Space) {
        match qself {
            None => self.segments(path, path.segments.len(), space),
            Some(qself) => {
                self.visit_type(&qself.ty);
                if qself.position > 0 {
                    self.segments(path, qself.position, Space::Type);
                }
            }
        }
    }
}

fn names(path: &syn::Path) -> Vec<String> {
    let leading = path.leading_colon.is_some().then(|| String::from("::"));
    leading.into_iter().chain(path.segments.iter().map(|segment| segment.ident.to_string())).collect()
}

fn is_punctuation(token: &TokenTree, character: char) -> bool {
    matches!(token, TokenTree::Punct(punctuation) if punctuation.as_char() == character)
}

/// Returns the path that begins at a token, and the index after it.
fn path_at(tokens: &[TokenTree], start: usize) -> (Vec<String>, usize) {
    let mut names = Vec::new();
    let mut at = start;
    while let Some(TokenTree::Ident(name)) = tokens.get(at) {
        names.push(name.to_string());
        at += 1;
        let colons = [tokens.get(at), tokens.get(at + 1)];
        let follows = matches!(tokens.get(at + 2), Some(TokenTree::Ident(_)));
        if !follows || !colons.iter().all(|token| token.is_some_and(|token| is_punctuation(token, ':'))) {
            break;
        }
        at += 2;
    }
    (names, at)
}

impl<'ast> Visit<'ast> for Walker<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if syntax::is_test_only(syntax::attributes(item)) || matches!(item, Item::Use(_)) {
            return;
        }
        self.scoped(|walker| {
            match item {
                Item::Impl(item) => walker.generics(&item.generics),
                Item::Trait(item) => walker.generics(&item.generics),
                Item::Struct(item) => walker.generics(&item.generics),
                Item::Enum(item) => walker.generics(&item.generics),
                Item::Type(item) => walker.generics(&item.generics),
                _ => {}
            }
            visit::visit_item(walker, item);
        });
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        self.self_types.push(self_type(self.resolver, self.module, &item.self_ty));
        visit::visit_item_impl(self, item);
        self.self_types.pop();
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        let target = Target::Item(self.module, item.ident.to_string(), Kind::Other);
        self.self_types.push(Some(target));
        visit::visit_item_trait(self, item);
        self.self_types.pop();
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig, Some(&item.block));
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !syntax::is_test_only(&item.attrs) {
            self.function(&item.sig, Some(&item.block));
        }
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        self.function(&item.sig, item.default.as_ref());
    }

    fn visit_item_macro(&mut self, item: &'ast syn::ItemMacro) {
        if item.ident.is_some() {
            self.tokens(item.mac.tokens.clone());
        } else {
            self.visit_macro(&item.mac);
        }
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        if !syntax::is_test_only(&field.attrs) {
            visit::visit_field(self, field);
        }
    }

    fn visit_block(&mut self, block: &'ast syn::Block) {
        self.scoped(|walker| {
            walker.block_items(block);
            visit::visit_block(walker, block);
        });
    }

    fn visit_local(&mut self, local: &'ast syn::Local) {
        if syntax::is_test_only(&local.attrs) {
            return;
        }
        if let Some(init) = &local.init {
            visit::visit_local_init(self, init);
        }
        self.visit_pat(&local.pat);
    }

    fn visit_expr_block(&mut self, expression: &'ast syn::ExprBlock) {
        if !syntax::is_test_only(&expression.attrs) {
            visit::visit_expr_block(self, expression);
        }
    }

    fn visit_expr_closure(&mut self, closure: &'ast syn::ExprClosure) {
        self.scoped(|walker| visit::visit_expr_closure(walker, closure));
    }

    fn visit_expr_let(&mut self, expression: &'ast syn::ExprLet) {
        self.visit_expr(&expression.expr);
        self.visit_pat(&expression.pat);
    }

    fn visit_expr_if(&mut self, expression: &'ast syn::ExprIf) {
        self.scoped(|walker| {
            walker.visit_expr(&expression.cond);
            walker.visit_block(&expression.then_branch);
        });
        if let Some((_, other)) = &expression.else_branch {
            self.visit_expr(other);
        }
    }

    fn visit_expr_while(&mut self, expression: &'ast syn::ExprWhile) {
        self.scoped(|walker| visit::visit_expr_while(walker, expression));
    }

    fn visit_expr_for_loop(&mut self, expression: &'ast syn::ExprForLoop) {
        self.visit_expr(&expression.expr);
        self.scoped(|walker| {
            walker.visit_pat(&expression.pat);
            walker.visit_block(&expression.body);
        });
    }

    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        if !syntax::is_test_only(&arm.attrs) {
            self.scoped(|walker| visit::visit_arm(walker, arm));
        }
    }

    fn visit_pat_ident(&mut self, pattern: &'ast syn::PatIdent) {
        let plain = pattern.by_ref.is_none() && pattern.mutability.is_none() && pattern.subpat.is_none();
        let name = [pattern.ident.to_string()];
        // A variable may have the name of a function, but not of a constant.
        let constant = || match self.resolver.path(self.module, &name, Space::Value) {
            Some(Resolved { target: Target::Item(_, _, Kind::Constant), .. }) => true,
            _ => self.scopes.iter().flat_map(|scope| &scope.globs).any(|glob| {
                let path: Vec<_> = glob.path.iter().chain(&name).cloned().collect();
                self.in_glob(glob, &path, Space::Value).is_some()
            }),
        };
        if plain && constant() {
            self.path(&name, Space::Value, pattern.ident.span().start().line);
        } else {
            self.bind(Space::Value, &pattern.ident);
        }
        if let Some((_, inner)) = &pattern.subpat {
            self.visit_pat(inner);
        }
    }

    fn visit_pat_tuple_struct(&mut self, pattern: &'ast syn::PatTupleStruct) {
        self.qualified(pattern.qself.as_ref(), &pattern.path, Space::Value);
        for inner in &pattern.elems {
            self.visit_pat(inner);
        }
    }

    fn visit_pat_struct(&mut self, pattern: &'ast syn::PatStruct) {
        self.qualified(pattern.qself.as_ref(), &pattern.path, Space::Type);
        for field in &pattern.fields {
            self.visit_pat(&field.pat);
        }
    }

    fn visit_expr_path(&mut self, expression: &'ast syn::ExprPath) {
        self.qualified(expression.qself.as_ref(), &expression.path, Space::Value);
    }

    fn visit_expr_struct(&mut self, expression: &'ast syn::ExprStruct) {
        self.qualified(expression.qself.as_ref(), &expression.path, Space::Type);
        for field in &expression.fields {
            if !syntax::is_test_only(&field.attrs) {
                self.visit_expr(&field.expr);
            }
        }
        if let Some(rest) = &expression.rest {
            self.visit_expr(rest);
        }
    }

    fn visit_type_path(&mut self, ty: &'ast syn::TypePath) {
        self.qualified(ty.qself.as_ref(), &ty.path, Space::Type);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.segments(path, path.segments.len(), Space::Type);
    }

    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}

    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_macro(&mut self, mac: &'ast syn::Macro) {
        let names = names(&mac.path);
        let line = mac.path.segments.first().map_or(0, |segment| segment.ident.span().start().line);
        self.macro_path(&names, line);
        let expressions = Punctuated::<syn::Expr, Token![,]>::parse_terminated;
        if let Ok(expressions) = mac.parse_body_with(expressions) {
            for expression in &expressions {
                self.visit_expr(expression);
            }
        } else if let Ok(statements) = mac.parse_body_with(syn::Block::parse_within) {
            let block = syn::Block { brace_token: syn::token::Brace::default(), stmts: statements };
            self.visit_block(&block);
        } else {
            self.tokens(mac.tokens.clone());
        }
    }
}
