//! Decodes words: events, exit codes, registers and intercepts in any spelling, bit by bit.

mod event;
mod field;
mod line;
mod values;
mod word;

pub use field::Field;

use crate::error::Error;
use crate::format::Format;
use crate::record::{Decoded, DecodedPart, Failure, Record, print};
use crate::status::Status;
use crate::suggest;
use line::{Line, Part};
use std::io::Write;
use values::decode_field;
use vmcb::Cpu;
use word::{Read, guess, read};

/// How words are decoded.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// The field that each word holds. If it is `None`, a name in the word determines the field, or it is guessed.
    pub field: Option<Field>,
    /// The virtual CPU for which events are judged.
    pub cpu: Option<&'a Cpu>,
    /// How the answers are printed.
    pub format: Format,
}

/// Decodes each word and prints it to `out`. `complain` is called with the error of each word that cannot be decoded,
/// after `out` was flushed.
///
/// # Errors
/// If the output cannot be written.
pub fn decode(
    words: &[String],
    options: Options<'_>,
    out: &mut dyn Write,
    complain: &mut dyn FnMut(&Error),
) -> Result<Status, Error> {
    let mut status = Status::Fine;
    for (index, word) in words.iter().enumerate() {
        match understand(word, options.field) {
            Ok((read, field, guess)) => print_answer(word, &read, field, guess, index > 0, options, out)?,
            // The other words are still decoded.
            Err(error) => {
                if options.format == Format::Json {
                    let failure = Failure { file: suggest::shorten(word), text: error.to_string() };
                    print(out, &Record::Error(failure))?;
                }
                out.flush()?;
                complain(&error);
                status = Status::Failed;
            }
        }
    }
    Ok(status)
}

/// Reads a word and returns its field. If the field is a guess, the text is the reason for the guess.
fn understand(word: &str, field: Option<Field>) -> Result<(Read, Field, Option<String>), Error> {
    let read = read(word, field)?;
    let (field, guess) = match field.or(read.named) {
        Some(field) => (field, None),
        None => guess(word, read.value)?,
    };
    Ok((read, field, guess))
}

/// Prints what a word means.
fn print_answer(
    word: &str,
    read: &Read,
    field: Field,
    guess: Option<String>,
    separate: bool,
    options: Options<'_>,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let mut lines = Vec::new();
    decode_field(field, read.value, options.cpu, &mut lines);
    let mut lines = lines.into_iter();
    let title = lines.next().map_or_else(String::new, Line::into_shown);
    if options.format == Format::Json {
        let decoded = decoded(word, read, field, guess, title, lines);
        return Ok(print(out, &Record::Decoded(decoded))?);
    }
    if separate {
        writeln!(out)?;
    }
    writeln!(out, "{title}")?;
    for reason in guess.iter().chain(&read.spelling) {
        writeln!(out, "  ({reason})")?;
    }
    for line in lines {
        writeln!(out, "  {}", line.into_shown().trim_end())?;
    }
    Ok(())
}

fn decoded(
    word: &str,
    read: &Read,
    field: Field,
    guess: Option<String>,
    title: String,
    lines: impl Iterator<Item = Line>,
) -> Decoded {
    let (mut parts, mut said) = (Vec::new(), Vec::new());
    for line in lines {
        match line {
            Line::Part(Part { bits, name, value, meaning, .. }) => {
                parts.push(DecodedPart { bits, name, value, meaning });
            }
            Line::Said(text) => said.push(text),
        }
    }
    Decoded {
        word: suggest::shorten(word),
        field: field.name().to_owned(),
        value: format!("{:#x}", read.value),
        guess,
        spelling: read.spelling.clone(),
        title,
        parts,
        said,
    }
}
