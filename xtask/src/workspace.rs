//! The checkout: its folder, its packages, its files, and commands that run in it.

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Manifests of all cargo workspaces in the checkout. One that does not exist is left out.
const MANIFESTS: &[&str] = &["Cargo.toml", "bare/Cargo.toml", "fuzz/Cargo.toml"];

/// The checkout. All paths are relative to it, because it is the current folder.
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    /// The folder in which the user called this program.
    caller: PathBuf,
}

/// A package, as `cargo metadata` describes it.
pub(crate) struct Package {
    pub(crate) name: String,
    /// The manifest's path.
    pub(crate) manifest: String,
    pub(crate) rust_version: Option<String>,
    pub(crate) is_published: bool,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) targets: Vec<Target>,
}

/// A dependency of a package.
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// `None` for a normal dependency, else `dev` or `build`.
    pub(crate) kind: Option<String>,
    pub(crate) is_optional: bool,
    /// Whether it is a package of this checkout.
    pub(crate) is_local: bool,
}

/// A crate of a package.
pub(crate) struct Target {
    pub(crate) root: String,
    /// Whether it is a test or a benchmark.
    pub(crate) is_test: bool,
}

impl Workspace {
    /// Finds the checkout that this program was compiled in, and makes it the current folder.
    pub(crate) fn enter() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has no parent folder")?;
        let caller = std::env::current_dir().context("cannot find the current folder")?;
        std::env::set_current_dir(root).with_context(|| format!("cannot enter {}", root.display()))?;
        Ok(Self { root: root.to_owned(), caller })
    }

    /// Returns the path of a file that the command line names relative to the caller's folder. The result is relative to
    /// the checkout if the file is in it.
    pub(crate) fn path_of_caller(&self, path: &str) -> Result<String> {
        let full = self.caller.join(path);
        let full = full.canonicalize().with_context(|| format!("cannot read {}", full.display()))?;
        let root = self.root.canonicalize().with_context(|| self.root.display().to_string())?;
        Ok(full.strip_prefix(&root).unwrap_or(&full).to_string_lossy().into_owned())
    }

    /// Returns all packages of all workspaces.
    pub(crate) fn packages(&self) -> Result<Vec<Package>> {
        let mut packages = Vec::new();
        for manifest in MANIFESTS.iter().filter(|manifest| Path::new(manifest).exists()) {
            let text = output(cargo().args([
                "metadata",
                "--no-deps",
                "--format-version=1",
                "--manifest-path",
                manifest,
            ]))?;
            let metadata: Value = serde_json::from_str(&text).context("cargo metadata is not JSON")?;
            for package in list(&metadata["packages"]) {
                packages.push(self.package(package)?);
            }
        }
        Ok(packages)
    }

    fn package(&self, package: &Value) -> Result<Package> {
        let manifest = self.relative(text(&package["manifest_path"]))?;
        let target = |target: &Value| -> Result<Target> {
            let kinds = || list(&target["kind"]).iter().map(text);
            let is_test = kinds().any(|kind| matches!(kind, "test" | "bench"));
            Ok(Target { root: self.relative(text(&target["src_path"]))?, is_test })
        };
        let dependency = |dependency: &Value| Dependency {
            name: text(&dependency["name"]).to_owned(),
            kind: dependency["kind"].as_str().map(str::to_owned),
            is_optional: dependency["optional"].as_bool().unwrap_or(false),
            is_local: dependency["path"].is_string(),
        };
        Ok(Package {
            name: text(&package["name"]).to_owned(),
            manifest,
            rust_version: package["rust_version"].as_str().map(str::to_owned),
            is_published: package["publish"].as_array().is_none_or(|registries| !registries.is_empty()),
            dependencies: list(&package["dependencies"]).iter().map(dependency).collect(),
            targets: list(&package["targets"]).iter().map(target).collect::<Result<_>>()?,
        })
    }

    fn relative(&self, path: &str) -> Result<String> {
        let path = Path::new(path);
        let path =
            path.strip_prefix(&self.root).with_context(|| format!("{} is elsewhere", path.display()))?;
        Ok(path.to_string_lossy().into_owned())
    }

    /// Returns the paths of all files that git tracks or would track, sorted.
    pub(crate) fn files(&self) -> Result<Vec<String>> {
        let mut git = Command::new("git");
        let text = output(git.args([
            "-c",
            "safe.directory=*",
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ]))?;
        let mut files: Vec<_> =
            text.split('\0').filter(|path| Path::new(path).is_file()).map(str::to_owned).collect();
        files.sort();
        files.dedup();
        Ok(files)
    }

    /// Returns the paths of all Rust files.
    pub(crate) fn rust_files(&self) -> Result<Vec<String>> {
        Ok(self.files()?.into_iter().filter(|path| path.ends_with(".rs")).collect())
    }
}

/// Returns whether a Rust file belongs to tests by its place.
pub(crate) fn is_test_file(path: &str) -> bool {
    path.split('/').any(|part| matches!(part, "tests" | "tests.rs"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Returns the folder of cargo's artifacts, which the environment or a configuration file may set.
pub(crate) fn target_folder() -> Result<PathBuf> {
    let text = output(cargo().args(["metadata", "--no-deps", "--format-version=1"]))?;
    let metadata: Value = serde_json::from_str(&text).context("cargo metadata is not JSON")?;
    let folder = metadata["target_directory"].as_str().context("cargo metadata has no target directory")?;
    Ok(PathBuf::from(folder))
}

/// Returns cargo as a command. It is the cargo that runs this program, if there is one.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // With this variable, cargo would put the artifacts into a subfolder that is named after the target.
    command.env_remove("CARGO_BUILD_TARGET");
    command
}

/// Returns a command of rustup's proxies, which selects a toolchain by `+NAME` in the first argument.
pub(crate) fn proxy(program: &str) -> Command {
    let mut command = Command::new(program);
    // The toolchain of this run must not decide.
    command.env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO").env_remove("RUSTC").env_remove("RUSTDOC");
    command.env_remove("CARGO_BUILD_TARGET");
    command
}

/// Returns a command as text, for messages.
pub(crate) fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Runs a command. Its output goes to the terminal.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    println!("$ {shown}");
    let status = command.status().with_context(|| format!("cannot run `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed: {status}");
    }
    Ok(())
}

/// Runs a command and returns its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let shown = shown(command);
    let output = command.output().with_context(|| format!("cannot run `{shown}`"))?;
    if !output.status.success() {
        bail!("`{shown}` failed: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{shown}` printed bytes that are not UTF-8"))
}

/// Returns whether a command runs and succeeds.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}
