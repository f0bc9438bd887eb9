//! Reading and writing files, with errors that name them.

use nsvm::cli::LabShow;
use nsvm::{Error, Output};
use nsvm_lab::expected::{self, Expected};
use nsvm_lab::results::Results;
use nsvm_lab::store::Store;
use std::fmt::Display;
use std::path::Path;

pub(crate) fn failed(error: impl Display) -> Error {
    Error::usage(error.to_string(), None)
}

pub(crate) fn in_file(path: &Path) -> impl Fn(std::io::Error) -> Error + '_ {
    |error| Error::Input { file: path.display().to_string(), message: error.to_string() }
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(in_file(path))
}

pub(crate) fn write(path: &Path, text: &[u8]) -> Result<(), Error> {
    Output::open(path)?.write(text)
}

/// Files that were asked for, opened.
pub(crate) struct Outputs {
    pub(crate) results: Option<Output>,
    pub(crate) html: Option<Output>,
    pub(crate) markdown: Option<Output>,
}

impl Outputs {
    pub(crate) fn open(results: Option<&Path>, show: &LabShow) -> Result<Self, Error> {
        let open = |path: Option<&Path>| path.map(Output::open).transpose();
        Ok(Self {
            results: open(results)?,
            html: open(show.html.as_deref())?,
            markdown: open(show.markdown.as_deref())?,
        })
    }
}

pub(crate) fn read_results(path: &Path) -> Result<Results, Error> {
    Results::parse(&path.display().to_string(), &read(path)?).map_err(failed)
}

pub(crate) fn open_store() -> Result<Store, Error> {
    Store::open(&Store::default_root().map_err(failed)?).map_err(failed)
}

pub(crate) fn expected_list(path: Option<&Path>) -> Result<Expected, Error> {
    let parsed = match path {
        Some(path) => {
            let text = String::from_utf8(read(path)?).map_err(|_| Error::Input {
                file: path.display().to_string(),
                message: "it is no text in UTF-8".to_owned(),
            })?;
            Expected::parse(&path.display().to_string(), &text)
        }
        None => Expected::parse(expected::FILE, expected::TEXT),
    };
    parsed.map_err(|errors| failed(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))
}
