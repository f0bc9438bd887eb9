//! Lines of a text as they were before mails, web pages and consoles changed them.
//!
//! Every format receives lines after this: decoded, with the position where the message begins.

mod cut;
mod decode;
mod lines;
mod prefix;
mod words;

pub(crate) use cut::{begins_with_cut, find_cut, has_cut, is_cut, without_remark};
pub(crate) use lines::{Lines, Text};
pub(crate) use prefix::{Prefix, caller, is_hex_row, is_row};
pub(crate) use words::skip_spaces;
