//! The picture of a plane.

use super::html::{Page, class, put};
use super::planes::Plane;
use crate::report::words::cases;
use crate::results::events;
use nsvm_report::Escaped;
use std::fmt::Write as _;
use vmcb::{EXCEPTIONS, EventType};

/// Kinds of cells in the picture, and what the legend calls them.
const KINDS: [(&str, &str); 5] = [
    ("acc", "accepted"),
    ("ref", "refused"),
    ("mix", "depends on EV or base"),
    ("bro", "broken"),
    ("ski", "not run"),
];

/// Left of the cells stand the names of TYPE.
const LEFT: f64 = 124.0;
/// Height of a row of cells with its gap.
const ROW: f64 = 16.0;
/// Width of the cells of vectors 0 to 31, and of the others.
const WIDE: f64 = 14.0;
const NARROW: f64 = 4.0;
/// Between the two.
const GAP: f64 = 6.0;
const WIDTH: f64 = LEFT + 32.0 * WIDE + GAP + 224.0 * NARROW + 12.0;
const HEIGHT: f64 = 8.0 * ROW + 18.0;

fn column(vector: u8) -> f64 {
    match vector {
        0..32 => LEFT + f64::from(vector) * WIDE,
        _ => LEFT + 32.0 * WIDE + GAP + f64::from(vector - 32) * NARROW,
    }
}

fn width(vector: u8) -> f64 {
    if vector < 32 { WIDE } else { NARROW }
}

impl Page<'_> {
    pub(super) fn planes(&mut self) {
        put!(self, "<section id=\"eventinj\">\n<h2>EVENTINJ</h2>\n");
        let planes: Vec<(usize, Plane)> = self
            .report
            .rows
            .iter()
            .enumerate()
            .map(|(subject, row)| (subject, Plane::of(row)))
            .filter(|(_, plane)| !plane.cells.is_empty() || !plane.no_event.is_empty())
            .collect();
        if planes.is_empty() {
            put!(self, "<p>No case of this set injects an event.</p>\n</section>\n");
            return;
        }
        put!(
            self,
            "<p>What becomes of an event with V = 1: TYPE 0 to 7 by VECTOR 0 to 255, exceptions drawn wider. Each \
             cell stands for both values of EV and for all bases.</p>\n<ul class=\"legend\">\n"
        );
        for (kind, name) in KINDS {
            put!(
                self,
                "<li><svg class=\"key\" viewBox=\"0 0 12 16\" aria-hidden=\"true\"><g class=\"w {kind}\">\
                 <rect x=\"0\" y=\"0\" width=\"11\" height=\"15\"/></g></svg> {name}</li>\n"
            );
        }
        put!(
            self,
            "<li><svg class=\"key\" viewBox=\"-1 -1 14 18\" aria-hidden=\"true\"><rect class=\"d\" x=\"0\" y=\"0\" \
             width=\"12\" height=\"16\"/></svg> differs from the rulebook</li>\n</ul>\n\
             <p class=\"small script\" hidden>Point at a cell to read it, or move through the picture with the \
             arrow keys.</p>\n"
        );
        for (subject, plane) in &planes {
            self.plane(*subject, plane);
        }
        // What the script reads cells out with.
        let names: Vec<_> = EXCEPTIONS.iter().map(|row| row.mnemonic.unwrap_or("reserved")).collect();
        let types: Vec<_> = (0..8).map(|bits| EventType::from_bits(bits).name()).collect();
        put!(
            self,
            "<div id=\"names\" hidden data-vectors=\"{}\" data-types=\"{}\"></div>\n</section>\n",
            Escaped(&names.join("|")),
            Escaped(&types.join("|"))
        );
    }

    fn plane(&mut self, subject: usize, plane: &Plane) {
        let label = self.report.rows[subject].head.label();
        let differing = plane.cells.values().filter(|cell| plane.groups[cell.group].differs()).count();
        put!(
            self,
            "<figure class=\"plane\" data-s=\"{subject}\">\n<figcaption><b>{}</b> {}</figcaption>\n\
             <div class=\"scroll\"><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" tabindex=\"0\" role=\"img\" \
             aria-label=\"EVENTINJ on {}: {differing} of {} events differ from the rulebook; the list below says \
             which\">\n",
            Escaped(&label),
            match differing {
                0 => format!("all {} events as the rulebook says", plane.cells.len()),
                _ => format!("{differing} of {} events differ", plane.cells.len()),
            },
            Escaped(&label),
            plane.cells.len()
        );
        for kind in 0..8 {
            let name = EventType::from_bits(kind).name().replace("software interrupt", "software int");
            let y = f64::from(kind) * ROW + 12.0;
            put!(self, "<text x=\"{}\" y=\"{y}\" class=\"t\">{kind} {name}</text>", LEFT - 6.0);
        }
        for vector in [0_u8, 8, 16, 24, 32, 64, 96, 128, 160, 192, 224, 255] {
            let x = column(vector) + width(vector) / 2.0;
            put!(self, "<text x=\"{x}\" y=\"{}\" class=\"v\">{vector}</text>", HEIGHT - 4.0);
        }
        put!(self, "\n");
        for (index, group) in plane.groups.iter().enumerate() {
            for (wide, class) in [(true, "w"), (false, "n")] {
                let cells = plane.cells.iter().filter(|(_, cell)| cell.group == index);
                let cells: Vec<_> = cells.filter(|((_, vector), _)| (*vector < 32) == wide).collect();
                if cells.is_empty() {
                    continue;
                }
                put!(self, "<g class=\"{class} {}\" data-g=\"{index}\">", group.kind);
                for ((kind, vector), _) in cells {
                    let y = f64::from(*kind) * ROW;
                    put!(self, "<rect x=\"{}\" y=\"{y}\"/>", column(*vector));
                }
                put!(self, "</g>\n");
            }
        }
        for (kind, first, last) in plane.outlines() {
            let (x, y) = (column(first) - 0.5, f64::from(kind) * ROW - 0.5);
            let width = column(last) + width(last) - column(first);
            put!(self, "<rect class=\"d\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{ROW}\"/>");
        }
        put!(self, "</svg></div>\n<p class=\"script\" hidden><output>\u{a0}</output></p>\n");
        put!(
            self,
            "<details{}><summary>As a list</summary>\n<ul class=\"groups\">\n",
            if differing > 0 && plane.groups.len() < 9 { " open" } else { "" }
        );
        let mut order: Vec<usize> = (0..plane.groups.len()).collect();
        order.sort_by_key(|&index| (plane.groups[index].agreement, index));
        for index in order {
            let group = &plane.groups[index];
            let ids = plane.cells.iter().filter(|(_, cell)| cell.group == index);
            let ids = ids.flat_map(|(_, cell)| cell.ids.iter().copied());
            put!(
                self,
                "<li data-g=\"{index}\"><i class=\"{}\" aria-hidden=\"true\">{}</i> <span>{}</span><br><small>{}</small></li>\n",
                class(group.agreement),
                group.agreement.sign(),
                Escaped(&group.text),
                Escaped(&events(ids).join("; "))
            );
        }
        for (text, count) in &plane.no_event {
            put!(self, "<li>V = 0: {} {}</li>\n", cases(*count), Escaped(text));
        }
        put!(self, "</ul></details>\n</figure>\n");
    }
}
