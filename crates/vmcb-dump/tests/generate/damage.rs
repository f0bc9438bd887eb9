//! What happens to dumps on their way to a reader, as a table: each damage either only puts the text into
//! another form, so that all of it must still be read, or loses some of it, so that less is read. None may make
//! a reader say anything that was not written.
//!
//! They come in the order in which they do in life: the log loses lines, people cut and remark, a mail program
//! breaks lines and quotes them, a mail or a page encodes the whole.
//!
//! What no reader can see is not in the table:
//! - a digit that became another digit, and a number in a form without a fixed width that lost digits to a hand
//!   that left no mark (`asid: 15` to `asid: 1`);
//! - lines that vanish without a mark between a label and its value on the next line, or behind the `*` of a hex
//!   dump;
//! - a terminal that breaks a number of 16 digits in two exactly where one of 8 could stand;
//! - a row of a hex dump with its offset changed, and a part of one dump directly followed by a later part of
//!   another one in the same form;
//! - rows that vanish without a mark where a dump with offsets of 7 digits begins, so that what is left continues
//!   in octal as well as in hexadecimal;
//! - three dots for what was cut out over several lines of a hex dump with a `*`, among the dots of its characters
//!   or behind a word, where a sentence ends like that;
//! - the offset with which a hex dump ends, alone on a line right behind two words of intercepts, of which kernels
//!   print three and a mail program may have put the third there;
//! - two dumps of which each lost exactly the lines that the other one shows.

use super::{Random, Written};

/// A damage.
pub(crate) struct Damage {
    pub(crate) name: &'static str,
    /// All fields must still be read.
    pub(crate) reflows: bool,
    pub(crate) change: fn(String, &mut Random) -> String,
}

const fn reflows(name: &'static str, change: fn(String, &mut Random) -> String) -> Damage {
    Damage { name, reflows: true, change }
}

const fn loses(name: &'static str, change: fn(String, &mut Random) -> String) -> Damage {
    Damage { name, reflows: false, change }
}

/// In the order in which they happen.
pub(crate) const DAMAGES: &[Damage] = &[
    loses("head lost", head_lost),
    loses("tail lost", tail_lost),
    loses("lines lost", lines_lost),
    reflows("other messages", other_messages),
    reflows("progress", progress),
    reflows("tabs", tabs),
    reflows("spaces collapsed", spaces_collapsed),
    loses("lines cut out", lines_cut_out),
    loses("cut within a line", cut_within_a_line),
    loses("cut over lines", cut_over_lines),
    reflows("remarks", remarks),
    reflows("remarks behind", remarks_behind),
    reflows("blank lines", blank_lines),
    reflows("wrapped", wrapped),
    reflows("quoted", quoted),
    reflows("colours", colours),
    reflows("non-breaking spaces", non_breaking_spaces),
    reflows("HTML", html),
    reflows("quoted-printable", quoted_printable),
    reflows("carriage returns", carriage_returns),
    reflows("byte order mark", byte_order_mark),
    loses("cut off", cut_off),
];

/// Applies one damage or several; says which, and whether all fields must still be read.
pub(crate) fn damage(written: &Written, random: &mut Random) -> (String, Vec<&'static str>, bool) {
    let mut text = written.text.clone();
    let mut names = Vec::new();
    let mut whole = true;
    let times = 1 + random.below(3);
    for damage in DAMAGES {
        if random.below(DAMAGES.len() as u64) < times {
            text = (damage.change)(text, random);
            names.push(damage.name);
            whole &= damage.reflows;
        }
    }
    (text, names, whole)
}

/// Puts a text together from its lines, each of which `change` writes with its end.
fn each_line(text: &str, mut change: impl FnMut(usize, &str, &mut String)) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 4);
    for (index, line) in text.lines().enumerate() {
        change(index, line, &mut out);
    }
    out
}

fn push(out: &mut String, line: &str) {
    out.push_str(line);
    out.push('\n');
}

fn lines_of(text: &str) -> u64 {
    text.lines().count().max(1) as u64
}

/// A place in a text, between two characters.
fn place(text: &str, random: &mut Random) -> usize {
    let mut at = random.below(text.len() as u64 + 1) as usize;
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn head_lost(text: String, random: &mut Random) -> String {
    let first = random.below(lines_of(&text)) as usize;
    each_line(&text, |index, line, out| {
        if index >= first {
            push(out, line);
        }
    })
}

fn tail_lost(text: String, random: &mut Random) -> String {
    let end = random.below(lines_of(&text) + 1) as usize;
    each_line(&text, |index, line, out| {
        if index < end {
            push(out, line);
        }
    })
}

/// A ring buffer overruns. Not before or behind a `*`: only the lines beside it tell what that stands for.
fn lines_lost(text: String, random: &mut Random) -> String {
    let rate = 2 + random.below(20);
    let lines: Vec<&str> = text.lines().collect();
    let star = |index: usize| lines.get(index).is_some_and(|line| line.ends_with('*'));
    let stars = (0..lines.len()).any(star);
    each_line(&text, |index, line, out| {
        let keeps = stars && index < 8 || star(index) || star(index + 1) || index > 0 && star(index - 1);
        if keeps || !random.one_in(rate) {
            push(out, line);
        }
    })
}

const OTHERS: [&str; 8] = [
    "[   51.2] usb 1-1: new high-speed USB device number 4 using xhci_hcd",
    "[   51.2] audit: type=1400 asid: none",
    "Nov 22 10:00:00 host kernel: usb 1-1: rip: 0x12 deadbeef cafe",
    "systemd[1]: Started a thing...",
    "RIP: 0010:native_safe_halt+0x6/0x10",
    "** 12 printk messages dropped **",
    "2026-01-01T00:00:00.0000000Z ##[debug]done",
    "<idle>-0     [003] d..1   10.000000: irq_handler_entry: irq=3 name=eth0",
];

fn other_messages(text: String, random: &mut Random) -> String {
    let rate = 2 + random.below(20);
    each_line(&text, |_, line, out| {
        push(out, line);
        if random.one_in(rate) {
            push(out, random.pick(&OTHERS));
        }
    })
}

fn colours(text: String, random: &mut Random) -> String {
    const COLOURS: [&str; 5] = ["\x1b[32m", "\x1b[0m", "\x1b[1;31m", "\x1b[K", "\x1b[m"];
    let rate = 1 + random.below(8);
    each_line(&text, |_, line, out| {
        for part in line.split_inclusive(' ') {
            if random.one_in(rate) {
                out.push_str(random.pick(&COLOURS));
            }
            out.push_str(part);
        }
        push(out, "\x1b[0m");
    })
}

fn progress(text: String, random: &mut Random) -> String {
    let rate = 1 + random.below(20);
    each_line(&text, |_, line, out| {
        if random.one_in(rate) {
            out.push_str("copying  10%\rcopying  99%\r");
        }
        push(out, line);
    })
}

fn carriage_returns(text: String, random: &mut Random) -> String {
    // Nobody encodes a mail and leaves its lines without ends.
    let alone = if text.contains("=\n") || text.contains("=20\n") { "\r\n" } else { "\r" };
    let end = random.pick(&["\r\n", "\r\r\n", "\n\r", alone]);
    text.replace('\n', end)
}

/// Columns of 8, as an editor does it.
fn tabs(text: String, random: &mut Random) -> String {
    let single = random.one_in(2);
    each_line(&text, |_, line, out| {
        let mut column = 0;
        let mut spaces = 0;
        for c in line.chars() {
            column += 1;
            if c == ' ' {
                spaces += 1;
                if column % 8 == 0 && (single || spaces > 1) {
                    out.push('\t');
                    spaces = 0;
                }
                continue;
            }
            out.extend(std::iter::repeat_n(' ', std::mem::take(&mut spaces)));
            out.push(c);
        }
        push(out, "");
    })
}

fn spaces_collapsed(text: String, _: &mut Random) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c != ' ' || !out.ends_with(' ') {
            out.push(c);
        }
    }
    out
}

const CUTS: [&str; 10] = [
    "[...]",
    "...",
    "[snip]",
    "<snip>",
    "[…]",
    "…",
    "(...)",
    "-- snip --",
    "[... 12 lines ...]",
    "[snipped]",
];

/// Marks that a reader knows within a line.
const INNER: [&str; 7] = ["[...]", "...", "[snip]", "<snip>", "[…]", " [...] ", " ... "];

fn lines_cut_out(text: String, random: &mut Random) -> String {
    let mut left = random.below(lines_of(&text));
    let first = random.below(left + 1);
    left = random.below(lines_of(&text) - first + 1);
    let mark = random.pick(&CUTS);
    each_line(&text, |index, line, out| {
        let index = index as u64;
        if index == first {
            push(out, mark);
        }
        if !(first..first + left).contains(&index) {
            push(out, line);
        }
    })
}

fn cut_within_a_line(text: String, random: &mut Random) -> String {
    let rate = 1 + random.below(10);
    each_line(&text, |_, line, out| {
        let from = place(line, random);
        let to = place(line, random);
        if random.one_in(rate) && from < to {
            out.push_str(&line[..from]);
            out.push_str(random.pick(&INNER));
            push(out, &line[to..]);
        } else {
            push(out, line);
        }
    })
}

fn cut_over_lines(mut text: String, random: &mut Random) -> String {
    let from = place(&text, random);
    let length = place(&text[from..], random);
    let to = from + length;
    let mark = random.pick(&INNER);
    let seen = |c: char| c == '.' || c.is_alphabetic();
    let hides = text[..from].ends_with(seen) || text[to..].starts_with('.');
    // See the list above.
    let mark = if mark == "..." && hides && text.contains("*\n") { "[...]" } else { mark };
    text.replace_range(from..to, mark);
    text
}

const REMARKS: [&str; 8] = [
    "this is the one that I do not understand:",
    "^^^ here",
    "> why is this so?",
    "# see https://example.org/?a=1&b=2",
    "rip: see above",
    "-----",
    "Content of the VMCB = as below",
    "cs: 5",
];

fn remarks(text: String, random: &mut Random) -> String {
    let rate = 2 + random.below(20);
    each_line(&text, |_, line, out| {
        if random.one_in(rate) {
            push(out, random.pick(&REMARKS));
        }
        push(out, line);
    })
}

fn remarks_behind(text: String, random: &mut Random) -> String {
    let rate = 2 + random.below(20);
    each_line(&text, |_, line, out| {
        // A lone offset or a `*` is what a hex dump says by a whole line.
        if random.one_in(rate) && line.trim().contains(' ') && !line.ends_with('*') {
            out.push_str(line);
            push(out, random.pick(&["    <-- look at this", "   # mine", "  (wrong?)"]));
        } else {
            push(out, line);
        }
    })
}

fn blank_lines(text: String, random: &mut Random) -> String {
    let rate = 1 + random.below(10);
    each_line(&text, |_, line, out| {
        push(out, line);
        if random.one_in(rate) {
            push(out, random.pick(&["", " ", "  "]));
        }
    })
}

/// A mail program breaks lines at spaces. A label that it broke in two, or that lost its prefix where nothing
/// else tells that it is one, would be lost.
fn wrapped(text: String, random: &mut Random) -> String {
    let width = 66 + random.below(14) as usize;
    let keeps = random.one_in(2);
    each_line(&text, |_, line, out| {
        let mut rest = line;
        // Nobody mails what a terminal overwrites.
        while !line.contains('\r') && rest.chars().count() > width {
            let limit = rest.char_indices().nth(width).map_or(rest.len(), |(at, _)| at);
            let breaks = |space: &usize| {
                let head = rest[..*space].trim_end();
                !head.is_empty() && !PARTED.iter().any(|end| head.ends_with(end))
            };
            let Some(space) = rest[..limit].rfind(' ').filter(breaks) else {
                break;
            };
            let (head, tail) = rest.split_at(space);
            push(out, if keeps { &rest[..=space] } else { head.trim_end() });
            rest = tail.trim_start();
        }
        push(out, rest);
    })
}

/// Behind these no line is broken.
const PARTED: [&str; 7] = ["pause", "filter", "[", "]", "kernel:", "kvm_amd:", "SVM:"];

fn quoted(text: String, random: &mut Random) -> String {
    let marks = random.pick(&["> ", ">> ", "> > ", "| ", ">", "\t> "]);
    each_line(&text, |_, line, out| {
        out.push_str(marks);
        push(out, line);
    })
}

fn non_breaking_spaces(text: String, random: &mut Random) -> String {
    let rate = 1 + random.below(6);
    text.chars().map(|c| if c == ' ' && random.one_in(rate) { '\u{A0}' } else { c }).collect()
}

fn byte_order_mark(text: String, _: &mut Random) -> String {
    format!("\u{FEFF}{text}")
}

fn html(text: String, random: &mut Random) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let text = text.replace("  ", random.pick(&["  ", " &nbsp;", "&nbsp; ", "&#160;&#xA0;"]));
    let ends =
        random.pick(&["\n", "<br>\n", "<br/>\n", "<br />", "</p><p>\n", "</span>\n<span class=\"x\">"]);
    format!("<pre>{}</pre>\n", text.replace('\n', ends))
}

/// With the header that says so, or without where it is evident.
fn quoted_printable(text: String, random: &mut Random) -> String {
    // The characters of a hex dump may end with `=` themselves: only a header tells.
    let offset = |word: &str| {
        word.len() > 8 && word.strip_suffix(':').is_some_and(|word| u64::from_str_radix(word, 16).is_ok())
    };
    let evident = !text.split_whitespace().any(offset);
    let declared = !evident || random.one_in(2);
    let mut out = String::with_capacity(text.len() * 2);
    if declared {
        out.push_str("Content-Type: text/plain\nContent-Transfer-Encoding: quoted-printable\n\n");
    }
    for line in text.lines() {
        let mut column = 0;
        let mut chars = line.bytes().peekable();
        while let Some(byte) = chars.next() {
            let last = chars.peek().is_none();
            let plain = matches!(byte, b'!'..=b'<' | b'>'..=b'~') || matches!(byte, b' ' | b'\t') && !last;
            let length = if plain { 1 } else { 3 };
            if column + length > 75 {
                out.push_str("=\n");
                column = 0;
            }
            if plain {
                out.push(char::from(byte));
            } else {
                out.push_str(&format!("={byte:02X}"));
            }
            column += length;
        }
        out.push('\n');
    }
    out
}

/// The file ends anywhere.
fn cut_off(mut text: String, random: &mut Random) -> String {
    text.truncate(place(&text, random));
    text
}
