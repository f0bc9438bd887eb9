//! What a row writes into its pages.

use vmcb::KnownPage;
use vmcb::layout::{Field, PAGE_SIZE, Page, VMCB, VMSA};

/// One item of a base or of a row's patches: `FIELD=VALUE`, with the field's place looked up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Item {
    /// The page that it writes to.
    pub page: Page,
    /// Offset in the page, in bytes.
    pub offset: u16,
    /// Size in bytes: 1, 2, 4 or 8.
    pub size: u16,
    /// What is written, little endian.
    pub value: u64,
    /// The bits that are known: all ones, unless the item says otherwise.
    pub mask: u64,
}

/// The items of a text like that of a row's patches; `-` is none.
///
/// # Errors
/// The first item that is none, and why.
///
/// # Examples
/// ```
/// let items = vmcb_cases::items("cr0=0x11 cs.attributes=?").unwrap();
/// assert_eq!((items[0].offset, items[0].size, items[0].value), (0x558, 8, 0x11));
/// assert_eq!((items[1].offset, items[1].size, items[1].mask), (0x412, 2, 0));
/// ```
pub fn items(text: &str) -> Result<Vec<Item>, String> {
    text.split_whitespace().filter(|&item| item != "-").map(item).collect()
}

fn item(item: &str) -> Result<Item, String> {
    let (name, value) = item.split_once('=').ok_or(format!("`{item}`: expected FIELD=VALUE"))?;
    let (page, place) = match name.strip_prefix("vmsa.") {
        Some(name) => (Page::Vmsa, place(&VMSA, name)),
        None => (Page::Vmcb, place(&VMCB, name)),
    };
    let (offset, size) = place?;
    let (value, mask) = match value.split_once('/') {
        Some((value, mask)) => (number(value)?, number(mask)?),
        None if value == "?" => (0, 0),
        None => (number(value)?, u64::MAX),
    };
    if size < 8 && value >> (8 * size) != 0 {
        return Err(format!("`{item}`: the field has {size} bytes"));
    }
    if value & !mask != 0 {
        return Err(format!("`{item}`: the value has bits outside the mask"));
    }
    Ok(Item { page, offset, size, value, mask })
}

/// The two pages: all zero but for the items. There is a VMSA when an item names a field of it.
pub(crate) fn pages(text: &str) -> Result<(KnownPage, Option<KnownPage>), String> {
    let zeros = KnownPage::all(&[0; PAGE_SIZE]);
    let mut vmcb = zeros.clone();
    let mut vmsa = None;
    for Item { page, offset, size, value, mask } in items(text)? {
        let page = match page {
            Page::Vmcb => &mut vmcb,
            Page::Vmsa => vmsa.get_or_insert(zeros.clone()),
        };
        if mask != u64::MAX {
            page.forget(offset, size);
        }
        page.learn(offset, size, value, mask);
    }
    Ok((vmcb, vmsa))
}

/// Decimal, or hexadecimal after 0x.
///
/// # Errors
/// The text, if it is neither or has more than 64 bits.
pub fn number(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    // Rust's parser takes a sign.
    parsed.ok().filter(|_| !text.contains('+')).ok_or(format!("`{text}` is no number of 64 bits"))
}

/// `FIELD`, `SEGMENT.PART` or `OFFSET:SIZE`, to offset and size in bytes.
fn place(fields: &[Field], name: &str) -> Result<(u16, u16), String> {
    if let Some((offset, size)) = name.split_once(':') {
        let (offset, size) = (number(offset)?, number(size)?);
        return match (u16::try_from(offset), size) {
            (Ok(start), 1 | 2 | 4 | 8) if offset <= PAGE_SIZE as u64 - size => Ok((start, size as u16)),
            _ => Err(format!("`{name}`: no 1, 2, 4 or 8 bytes of a page")),
        };
    }
    let find = |name: &str| {
        let mut found = fields.iter().filter(|field| field.name == name && !field.is_reserved());
        found.next().ok_or(format!("no field is named `{name}`"))
    };
    if let Some((segment, part)) = name.split_once('.') {
        let field = find(segment)?;
        let (at, size) = match part {
            "selector" => (0, 2),
            "attributes" => (2, 2),
            "limit" => (4, 4),
            "base" => (8, 8),
            _ => return Err(format!("`{part}` is no part of a segment register")),
        };
        return if field.size == 16 {
            Ok((field.offset + at, size))
        } else {
            Err(format!("`{segment}` is no segment register"))
        };
    }
    let field = find(name)?;
    match field.size {
        1 | 2 | 4 | 8 => Ok((field.offset, field.size)),
        size => Err(format!("`{name}` has {size} bytes: name a part, or OFFSET:SIZE")),
    }
}
