//! Reads the lines of an input of any size in bounded memory, as they were before mails and consoles changed them.
//!
//! A physical line becomes one logical line, or several where carriage returns or `<br>` divide it; soft line
//! breaks of quoted-printable join several. Each logical line is returned decoded, with the number of the physical
//! line where it begins. Unchanged text is returned as it is.

use super::cut::{CUTS, begins_with_cut};
use super::decode::{self, Transfer};
use super::prefix::{self, Prefix};
use memchr::{memchr, memrchr};
use std::io::{self, BufRead};
use std::ops::Range;

/// Bytes of a line that are read; the rest of it is skipped.
pub(crate) const MAX_LINE: usize = 64 * 1024;

/// Reads lines into one buffer that is used again and again.
pub(crate) struct Lines {
    /// The physical line, with those that soft line breaks join to it.
    buffer: Vec<u8>,
    /// The same decoded, if it had to be: logical lines with `\n` between them.
    decoded: Option<String>,
    /// The logical line, in whichever of the two it is.
    line: Range<usize>,
    /// Where it begins.
    number: u64,
    /// Lines read so far, which is the number of the last one.
    pub(crate) count: u64,
    /// Bytes read so far.
    pub(crate) bytes: u64,
    transfer: Transfer,
    terminated: bool,
    truncated: bool,
}

/// One line of the input.
pub(crate) struct Text<'a> {
    /// Counted from 1. Carriage returns and `<br>` within a line end a line that counts.
    pub(crate) number: u64,
    /// The last physical line that is part of it: the next line has the number after this one.
    pub(crate) last: u64,
    /// Decoded, without its end.
    pub(crate) text: &'a str,
    /// An end of line came after it. Without one, the input may have been cut within the line.
    pub(crate) terminated: bool,
    /// It was longer than [`MAX_LINE`].
    pub(crate) truncated: bool,
    /// Where the message begins, after time stamps and the like.
    pub(crate) start: usize,
    /// The message had the prefix of KVM's module.
    pub(crate) prefixed: bool,
}

impl<'a> Text<'a> {
    /// The message.
    pub(crate) fn message(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.start..).unwrap_or_default()
    }

    /// Checks whether Xen's name is in front of the message.
    pub(crate) fn has_xen_prefix(&self) -> bool {
        self.text.get(..self.start).is_some_and(|prefix| prefix.contains(prefix::XEN))
    }

    /// Checks whether the line can be the rest of a line that a mail program broke: only quote marks are in front of it.
    pub(crate) fn is_rest(&self) -> bool {
        let before = self.text.as_bytes().get(..self.start).unwrap_or_default();
        before.iter().all(|byte| matches!(byte, b'>' | b'|' | b' ' | b'\t'))
    }

    /// Checks whether the word that ends at `end` may have lost digits: the input ends there, or something was cut out.
    pub(crate) fn maybe_cut(&self, end: usize) -> bool {
        let rest = self.text.as_bytes().get(end..).unwrap_or_default().trim_ascii();
        // The end may have cut a mark.
        let ends = (!self.terminated || self.truncated) && CUTS.iter().any(|mark| mark.starts_with(rest));
        ends || begins_with_cut(rest)
    }
}

impl Lines {
    pub(crate) fn new() -> Self {
        Self {
            buffer: Vec::new(),
            decoded: None,
            line: 0..0,
            number: 0,
            count: 0,
            bytes: 0,
            transfer: Transfer::default(),
            terminated: true,
            truncated: false,
        }
    }

    /// Reads one line; `false` at the end of the input.
    pub(crate) fn next(&mut self, input: &mut impl BufRead) -> io::Result<bool> {
        if self.next_decoded() {
            return Ok(true);
        }
        self.buffer.clear();
        self.decoded = None;
        self.truncated = false;
        self.number = self.count + 1;
        if !self.read(input)? {
            return Ok(false);
        }
        self.transfer.look(&self.buffer);
        let mut from = 0;
        while self.transfer.goes_on(self.buffer.get(from..).unwrap_or_default(), from > 0) {
            let end = memrchr(b'=', &self.buffer).unwrap_or(self.buffer.len());
            self.buffer.truncate(end);
            from = end;
            // Where the input ends after a soft line break, it ends within the line.
            self.terminated = false;
            if !self.read(input)? {
                break;
            }
            if self.buffer.first() == Some(&b'>') {
                // Quoted as it was, so that the rest is quoted too.
                let rest = self.buffer.get(from..).unwrap_or_default();
                let marks = rest.iter().take_while(|byte| matches!(byte, b'>' | b' ')).count();
                let marks = rest.get(..marks).unwrap_or_default();
                let length = memrchr(b'>', marks).map_or(0, |end| end + 1);
                self.buffer.drain(from..from + length);
            }
        }
        self.line = 0..self.buffer.len();
        if decode::needed(&self.buffer, self.transfer) {
            self.decoded = Some(decode::text(&mut self.buffer, self.transfer));
            // No line begins before the first, so this is it.
            self.line = 0..0;
            self.first_decoded();
        }
        Ok(true)
    }

    /// Adds a physical line to the buffer; `false` at the end of the input.
    fn read(&mut self, input: &mut impl BufRead) -> io::Result<bool> {
        self.terminated = false;
        let start = self.buffer.len();
        let mut any = false;
        loop {
            let chunk = match input.fill_buf() {
                Ok(chunk) => chunk,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if chunk.is_empty() {
                break;
            }
            any = true;
            let (line, used) = match memchr(b'\n', chunk) {
                Some(end) => {
                    self.terminated = true;
                    (chunk.get(..end).unwrap_or_default(), end + 1)
                }
                None => (chunk, chunk.len()),
            };
            let room = MAX_LINE.saturating_sub(self.buffer.len());
            self.truncated |= line.len() > room;
            self.buffer.extend_from_slice(line.get(..room.min(line.len())).unwrap_or_default());
            input.consume(used);
            self.bytes += used as u64;
            if self.terminated {
                break;
            }
        }
        if any {
            self.count += 1;
            let line = self.buffer.get(start..).unwrap_or_default();
            let ends = line.iter().take_while(|&&byte| byte == b'\r').count();
            self.buffer.drain(start..start + ends);
            while self.buffer.len() > start && self.buffer.last() == Some(&b'\r') {
                self.buffer.pop();
                // Where the input ends after it, the line has ended all the same.
                self.terminated = true;
            }
        }
        Ok(any)
    }

    fn first_decoded(&mut self) {
        let text = self.decoded.as_deref().unwrap_or_default();
        self.line = 0..memchr(b'\n', text.as_bytes()).unwrap_or(text.len());
    }

    /// Moves to the next logical line of the lines that were read.
    fn next_decoded(&mut self) -> bool {
        let Some(rest) = self.decoded.as_deref().and_then(|text| text.get(self.line.end + 1..)) else {
            return false;
        };
        let start = self.line.end + 1;
        let length = memchr(b'\n', rest.as_bytes()).unwrap_or(rest.len());
        self.line = start..start + length;
        self.count += 1;
        self.number = self.count;
        true
    }

    /// Returns the line that was read last.
    pub(crate) fn line(&self, prefix: &Prefix) -> Text<'_> {
        let whole = match &self.decoded {
            Some(text) => text,
            // What is no ASCII was decoded.
            None => std::str::from_utf8(&self.buffer).unwrap_or_default(),
        };
        let last = self.line.end == whole.len();
        let text = whole.get(self.line.clone()).unwrap_or_default();
        let (start, prefixed) = prefix.skip(text.as_bytes());
        Text {
            number: self.number,
            last: self.count,
            text,
            terminated: self.terminated || !last,
            truncated: self.truncated && last,
            start,
            prefixed,
        }
    }
}
