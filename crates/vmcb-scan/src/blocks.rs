//! An input in blocks that end with a line.

use memchr::{memchr, memrchr};
use std::borrow::Cow;
use std::io::{self, Read};

/// Bytes of a line that count; the rest of it is passed over.
pub(crate) const MAX_LINE: usize = 64 << 10;
/// An event's second line stands within so many bytes of its first, or is not taken for it.
pub(crate) const AHEAD: usize = 16 << 10;

/// Whole lines, and the beginning of what comes after them.
#[derive(Default, Debug)]
pub(crate) struct Block<'a> {
    pub(crate) bytes: Cow<'a, [u8]>,
    /// How many of them are the block's own.
    pub(crate) own: usize,
    /// Bytes of overlong lines that were passed over.
    pub(crate) passed: u64,
}

/// What gives blocks, one after the other.
pub(crate) trait Source<'a>: Send {
    /// Fills `block` with the next lines; `false` at the end of the input.
    fn next(&mut self, block: &mut Block<'a>) -> io::Result<bool>;
}

/// An input in memory, of which nothing is copied.
#[derive(Debug)]
pub(crate) struct Slices<'a> {
    rest: &'a [u8],
    size: usize,
}

impl<'a> Slices<'a> {
    pub(crate) const fn new(bytes: &'a [u8], size: usize) -> Self {
        Self { rest: bytes, size }
    }
}

impl<'a> Source<'a> for Slices<'a> {
    fn next(&mut self, block: &mut Block<'a>) -> io::Result<bool> {
        let after = self.rest.get(self.size.max(1) - 1..).and_then(|tail| memchr(b'\n', tail));
        block.own = after.map_or(self.rest.len(), |end| self.size.max(1) + end);
        let end = self.rest.len().min(block.own.saturating_add(AHEAD));
        block.bytes = Cow::Borrowed(self.rest.get(..end).unwrap_or_default());
        self.rest = self.rest.get(block.own..).unwrap_or_default();
        Ok(block.own > 0)
    }
}

#[derive(Debug)]
pub(crate) struct Blocks<R> {
    input: R,
    size: usize,
    /// Read and not yet handed out.
    rest: Vec<u8>,
    ended: bool,
    passed: u64,
}

impl<R: Read> Blocks<R> {
    pub(crate) fn new(input: R, size: usize) -> Self {
        Self { input, size: size.max(1), rest: Vec::new(), ended: false, passed: 0 }
    }

    /// Leaves of the first line, which has no end yet, as much as counts, and its end. Gives its length then.
    fn cut_line(&mut self, bytes: &mut Vec<u8>) -> io::Result<usize> {
        let mut tail = bytes.split_off(MAX_LINE + 1);
        loop {
            if let Some(end) = memchr(b'\n', &tail) {
                self.passed += end as u64;
                bytes.extend_from_slice(tail.get(end..).unwrap_or_default());
                return Ok(MAX_LINE + 2);
            }
            self.passed += tail.len() as u64;
            tail.clear();
            if self.ended {
                return Ok(bytes.len());
            }
            self.fill(&mut tail, 1 << 16)?;
        }
    }

    fn fill(&mut self, bytes: &mut Vec<u8>, wanted: usize) -> io::Result<()> {
        while !self.ended && bytes.len() < wanted {
            let missing = (wanted - bytes.len()) as u64;
            match self.input.by_ref().take(missing).read_to_end(bytes) {
                Ok(0) => self.ended = true,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl<'a, R: Read + Send> Source<'a> for Blocks<R> {
    fn next(&mut self, block: &mut Block<'a>) -> io::Result<bool> {
        let bytes = block.bytes.to_mut();
        bytes.clear();
        bytes.append(&mut self.rest);
        self.fill(bytes, self.size + AHEAD)?;
        if bytes.is_empty() {
            return Ok(false);
        }
        let mut wanted = self.size;
        let own = loop {
            let head = bytes.get(..wanted.min(bytes.len())).unwrap_or_default();
            if let Some(end) = memrchr(b'\n', head) {
                break end + 1;
            }
            if self.ended && wanted >= bytes.len() {
                break bytes.len();
            }
            if head.len() > MAX_LINE {
                break self.cut_line(bytes)?;
            }
            wanted = (wanted * 2).max(4096);
            self.fill(bytes, wanted + AHEAD)?;
        };
        self.fill(bytes, own + AHEAD)?;
        self.rest.extend_from_slice(bytes.get(own..).unwrap_or_default());
        bytes.truncate(own + AHEAD);
        block.own = own;
        block.passed = std::mem::take(&mut self.passed);
        Ok(true)
    }
}
