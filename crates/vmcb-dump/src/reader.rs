//! Tells text from pages and hands lines to the formats.

use crate::error::Error;
use crate::format::{Format, Out, Taken};
use crate::formats::kvm_nested_state::{self, Header};
use crate::formats::{self, Foreign};
use crate::found::{Found, Place};
use crate::kind::Kind;
use crate::page;
use crate::text::{Lines, Prefix, has_cut, is_cut};
use std::io::{self, BufRead, Chain, Cursor, Read};
use vmcb::layout::PAGE_SIZE;
use vmcb::{KnownPage, Phase};

/// Bytes that are looked at to tell text from pages: two pages, of which the first may be all text, and what
/// KVM's nested state of an Intel vCPU has besides.
const HEAD: u64 = 2 * PAGE_SIZE as u64 + 256;

/// Streams the VMCBs of an input of any size, in bounded memory.
///
/// An error ends the iteration; VMCBs read before it are handed out first.
///
/// # Examples
/// ```
/// let page = [0u8; 4096];
/// let found: Vec<_> = vmcb_dump::Reader::new(&page[..]).collect::<Result<_, _>>()?;
/// assert_eq!(found[0].kind, vmcb_dump::Kind::RawPage);
/// # Ok::<(), vmcb_dump::Error>(())
/// ```
pub struct Reader<R: BufRead> {
    state: State<R>,
    out: Out,
}

enum State<R: BufRead> {
    Start(R),
    Pages(Pages<R>),
    Nested(Pages<R>),
    Text(Box<TextReader<R>>),
    Failed(Error),
    Done,
}

/// The head that was looked at, then the rest.
type Input<R> = Chain<Cursor<Vec<u8>>, R>;

struct Pages<R: BufRead> {
    input: Input<R>,
    bytes: u64,
    gzip: bool,
    /// Of KVM's nested states: whether one had a guest, and where the first without one began.
    guests: bool,
    guestless: Option<u64>,
}

struct TextReader<R: BufRead> {
    input: Input<R>,
    lines: Lines,
    prefix: Prefix,
    /// Who is offered each line, in this order.
    formats: Vec<Box<dyn Format>>,
    foreign: Foreign,
    found: bool,
}

impl<R: BufRead> std::fmt::Debug for Reader<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

impl<R: BufRead> Reader<R> {
    /// A reader of `input`; nothing is read before the first VMCB is asked for.
    pub fn new(input: R) -> Self {
        Self { state: State::Start(input), out: Out::new() }
    }
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<Found, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(found) = self.out.pop_front() {
                return Some(Ok(found));
            }
            self.state = match std::mem::replace(&mut self.state, State::Done) {
                State::Done => return None,
                State::Failed(error) => return Some(Err(error)),
                State::Start(input) => start(input),
                State::Pages(pages) => pages.step(&mut self.out),
                State::Nested(pages) => pages.nested(&mut self.out),
                State::Text(text) => text.step(&mut self.out),
            };
        }
    }
}

fn start<R: BufRead>(mut input: R) -> State<R> {
    let mut head = Vec::new();
    if let Err(error) = input.by_ref().take(HEAD).read_to_end(&mut head) {
        return State::Failed(error.into());
    }
    if head.is_empty() {
        return State::Failed(Error::Empty);
    }
    if is_utf16(&head) {
        return State::Failed(Error::Utf16);
    }
    let binary = is_binary(&head);
    let gzip = head.starts_with(&[0x1F, 0x8B, 0x08]);
    let nested = binary && Header::begins(&head, (head.len() as u64) < HEAD);
    let input = Cursor::new(head).chain(input);
    if binary {
        let pages = Pages { input, bytes: 0, gzip, guests: false, guestless: None };
        return if nested { State::Nested(pages) } else { State::Pages(pages) };
    }
    State::Text(Box::new(TextReader {
        input,
        lines: Lines::new(),
        prefix: Prefix::new(),
        formats: formats::all(),
        foreign: Foreign::default(),
        found: false,
    }))
}

/// Whether more than a tenth of the bytes are none that text has.
///
/// A page of a VMCB is mostly zeros or, encrypted, random; a log may have some broken characters, and
/// some NUL bytes where a machine died.
fn is_binary(head: &[u8]) -> bool {
    let control = head
        .iter()
        .filter(|&&byte| {
            byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r' | 0x08 | 0x0C | 0x1B) || byte == 0x7F
        })
        .count();
    let invalid: usize = head.utf8_chunks().map(|chunk| chunk.invalid().len()).sum();
    (control + invalid) * 10 > head.len()
}

/// Whether nearly every other byte is NUL and the ones between are text.
fn is_utf16(head: &[u8]) -> bool {
    let text = |byte: u8| matches!(byte, b'\t' | b'\n' | b'\r' | 0x20..=0x7E);
    let head = head.get(..head.len().min(512)).unwrap_or_default();
    let pairs = head.chunks_exact(2).count();
    let ascii = |low: usize| {
        head.chunks_exact(2)
            .filter(|pair| {
                let low_byte = pair.get(low).copied().unwrap_or(0);
                text(low_byte) && pair.get(1 - low) == Some(&0)
            })
            .count()
    };
    pairs >= 4 && ascii(0).max(ascii(1)) * 10 >= pairs * 8
}

impl<R: BufRead> Pages<R> {
    /// Reads until `bytes` is full or the input ends: how many were read.
    fn fill(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.input.read(rest) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.bytes += filled as u64;
        Ok(filled)
    }

    fn step(mut self, out: &mut Out) -> State<R> {
        let mut bytes = [0; PAGE_SIZE];
        let start = self.bytes;
        let filled = match self.fill(&mut bytes) {
            Ok(filled) => filled,
            Err(error) => return State::Failed(error.into()),
        };
        if filled == 0 {
            return State::Done;
        }
        if filled < PAGE_SIZE {
            return State::Failed(Error::BadSize { bytes: self.bytes, gzip: self.gzip });
        }
        let mut found = Found::new(Kind::RawPage, Phase::Unknown, Place::Byte { offset: start });
        *found.vmcb = KnownPage::all(&bytes);
        found.fields =
            page::fields(&found.vmcb, |offset, _| Some(Place::Byte { offset: start + u64::from(offset) }));
        out.push_back(found);
        State::Pages(self)
    }

    /// Reads one state of KVM's, and then the next.
    fn nested(mut self, out: &mut Out) -> State<R> {
        let mut bytes = [0; kvm_nested_state::WHOLE];
        let offset = self.bytes;
        let (header, page) = bytes.split_at_mut(kvm_nested_state::HEADER);
        let read = self.fill(header).and_then(|filled| match Header::read(header) {
            Some(Header::Guest { .. }) => Ok(filled + self.fill(page)?),
            _ => Ok(filled),
        });
        let have = match read {
            Ok(have) => have,
            Err(error) => return State::Failed(error.into()),
        };
        let lacking = self.guestless.filter(|_| !self.guests);
        match (Header::read(header), lacking) {
            (Some(Header::Guest { vmcb, pending }), _) if have == kvm_nested_state::WHOLE => {
                self.guests = true;
                let place = |from| Place::Byte { offset: offset + from };
                let page_at = kvm_nested_state::HEADER as u64;
                out.push_back(kvm_nested_state::found((vmcb, pending), page, place(0), |field| {
                    Some(place(page_at + u64::from(field.offset)))
                }));
            }
            (Some(Header::NoGuest), _) if have == kvm_nested_state::HEADER => {
                self.guestless.get_or_insert(offset);
            }
            (Some(Header::Vmx), _) => return State::Failed(Error::VmxNestedState { offset }),
            (_, Some(offset)) => return State::Failed(Error::NestedStateWithoutGuest { offset }),
            _ if have == 0 => return State::Done,
            _ => return State::Failed(Error::BadNestedState { offset, have }),
        }
        State::Nested(self)
    }
}

impl<R: BufRead> TextReader<R> {
    /// Reads until something is found.
    fn step(mut self: Box<Self>, out: &mut Out) -> State<R> {
        while out.is_empty() {
            match self.lines.next(&mut self.input) {
                Ok(true) => self.line(out),
                Ok(false) => return self.end(out),
                Err(error) => {
                    self.finish(out);
                    return State::Failed(error.into());
                }
            }
        }
        self.found = true;
        State::Text(self)
    }

    fn line(&mut self, out: &mut Out) {
        let line = self.lines.line(&self.prefix);
        let before = line.text.get(..line.start).unwrap_or_default();
        // A mark behind a dot is four dots, which stand in no time stamp.
        if is_cut(line.text) || has_cut(before.as_bytes()) || before.contains("....") {
            for format in &mut self.formats {
                format.cut();
            }
            // What stands behind the mark may be the rest of anything.
            return;
        }
        if self.formats.iter_mut().any(|format| format.claims(&line)) {
            return;
        }
        for index in 0..self.formats.len() {
            let Some(format) = self.formats.get_mut(index) else {
                return;
            };
            match format.offer(&line, out) {
                Taken::No => {}
                Taken::Yes => return,
                Taken::Began => {
                    // The VMCBs of others have ended, so that they come out in order.
                    for (_, other) in self.formats.iter_mut().enumerate().filter(|&(other, _)| other != index)
                    {
                        other.finish(out);
                    }
                    return;
                }
            }
        }
        self.foreign.look(&line);
    }

    fn finish(&mut self, out: &mut Out) {
        for format in &mut self.formats {
            format.finish(out);
        }
    }

    fn end(mut self, out: &mut Out) -> State<R> {
        self.finish(out);
        let found = self.found || !out.is_empty();
        let vmx = self.formats.iter().filter_map(|format| format.vmx()).min();
        if let Some(error) = self.foreign.error(vmx, found) {
            return State::Failed(error);
        }
        if found {
            return State::Done;
        }
        State::Failed(Error::NothingFound { lines: self.lines.count, bytes: self.lines.bytes })
    }
}

/// Reads all VMCBs of `bytes`, and the error that ended the reading, if one did.
///
/// # Examples
/// ```
/// let (found, error) = vmcb_dump::read_all(&[0; 4097]);
/// assert_eq!(found.len(), 1);
/// assert!(matches!(error, Some(vmcb_dump::Error::BadSize { bytes: 4097, .. })));
/// ```
#[must_use]
pub fn read_all(bytes: &[u8]) -> (Vec<Found>, Option<Error>) {
    let mut all = Vec::new();
    for item in Reader::new(bytes) {
        match item {
            Ok(found) => all.push(found),
            Err(error) => return (all, Some(error)),
        }
    }
    (all, None)
}
