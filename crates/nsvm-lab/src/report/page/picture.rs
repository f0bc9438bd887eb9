//! The picture of a plane.

use super::html::class;
use super::planes::Plane;
use crate::report::table::Report;
use crate::report::words::cases;
use crate::results::events;
use maud::{Markup, html};
use vmcb::{EXCEPTIONS, EventType};

/// Kinds of cells in the picture, and what the legend calls them.
const KINDS: [(&str, &str); 5] = [
    ("acc", "accepted"),
    ("ref", "refused"),
    ("mix", "depends on EV or base"),
    ("bro", "broken"),
    ("ski", "not run"),
];

/// Width of the names of TYPE, which are to the left of the cells.
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

pub(super) fn planes(report: &Report) -> Markup {
    let planes = report.rows.iter().map(Plane::of).enumerate();
    let planes: Vec<_> =
        planes.filter(|(_, plane)| !plane.cells.is_empty() || !plane.no_event.is_empty()).collect();
    // The script shows these names for a cell.
    let names: Vec<_> = EXCEPTIONS.iter().map(|row| row.mnemonic.unwrap_or("reserved")).collect();
    let types: Vec<_> = (0..8).map(|bits| EventType::from_bits(bits).name()).collect();
    html! {
        section id="eventinj" {
            "\n"
            h2 { "EVENTINJ" } "\n"
            @if planes.is_empty() {
                p { "No case of this set injects an event." } "\n"
            } @else {
                p {
                    "What becomes of an event with V = 1: TYPE 0 to 7 by VECTOR 0 to 255, exceptions drawn wider. Each "
                    "cell covers both values of EV and all bases."
                }
                "\n"
                (legend())
                "\n"
                p class="small script" hidden {
                    "Point at a cell to read it, or move through the picture with the arrow keys."
                }
                "\n"
                @for (subject, plane) in &planes {
                    (figure(*subject, &report.rows[*subject].head.label(), plane))
                }
                div id="names" hidden data-vectors=(names.join("|")) data-types=(types.join("|")) {} "\n"
            }
        }
        "\n"
    }
}

fn legend() -> Markup {
    html! {
        ul class="legend" {
            "\n"
            @for (kind, name) in KINDS {
                li {
                    svg class="key" viewBox="0 0 12 16" aria-hidden="true" {
                        g class={ "w " (kind) } { rect x="0" y="0" width="11" height="15" {} }
                    }
                    " " (name)
                }
                "\n"
            }
            li {
                svg class="key" viewBox="-1 -1 14 18" aria-hidden="true" {
                    rect class="d" x="0" y="0" width="12" height="16" {}
                }
                " differs from the rulebook"
            }
            "\n"
        }
    }
}

fn figure(subject: usize, label: &str, plane: &Plane) -> Markup {
    let all = plane.cells.len();
    let differing = plane.cells.values().filter(|cell| plane.groups[cell.group].differs()).count();
    html! {
        figure class="plane" data-s=(subject) {
            "\n"
            figcaption {
                b { (label) } " "
                @if differing == 0 { "all " (all) " events as the rulebook says" }
                @else { (differing) " of " (all) " events differ" }
            }
            "\n"
            div class="scroll" {
                svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } tabindex="0" role="img"
                    aria-label={
                        "EVENTINJ on " (label) ": " (differing) " of " (all)
                        " events differ from the rulebook; the list below says which"
                    }
                { (drawing(plane)) }
            }
            "\n"
            p class="script" hidden { output { "\u{a0}" } } "\n"
            details open[differing > 0 && plane.groups.len() < 9] {
                summary { "As a list" } "\n"
                (list(plane))
            }
            "\n"
        }
        "\n"
    }
}

fn drawing(plane: &Plane) -> Markup {
    html! {
        "\n"
        @for kind in 0..8 {
            text x=(LEFT - 6.0) y=(f64::from(kind) * ROW + 12.0) class="t" {
                (kind) " " (EventType::from_bits(kind).name().replace("software interrupt", "software int"))
            }
        }
        @for vector in [0_u8, 8, 16, 24, 32, 64, 96, 128, 160, 192, 224, 255] {
            text x=(column(vector) + width(vector) / 2.0) y=(HEIGHT - 4.0) class="v" { (vector) }
        }
        "\n"
        @for (index, group) in plane.groups.iter().enumerate() {
            @for (wide, class) in [(true, "w"), (false, "n")] {
                @let cells = plane.cells.iter().filter(|(_, cell)| cell.group == index);
                @let cells: Vec<_> = cells.filter(|((_, vector), _)| (*vector < 32) == wide).collect();
                @if !cells.is_empty() {
                    g class={ (class) " " (group.kind) } data-g=(index) {
                        @for ((kind, vector), _) in cells {
                            rect x=(column(*vector)) y=(f64::from(*kind) * ROW) {}
                        }
                    }
                    "\n"
                }
            }
        }
        @for (kind, first, last) in plane.outlines() {
            rect class="d" x=(column(first) - 0.5) y=(f64::from(kind) * ROW - 0.5)
                width=(column(last) + width(last) - column(first)) height=(ROW) {}
        }
    }
}

fn list(plane: &Plane) -> Markup {
    let mut order: Vec<usize> = (0..plane.groups.len()).collect();
    order.sort_by_key(|&index| (plane.groups[index].agreement, index));
    html! {
        ul class="groups" {
            "\n"
            @for index in order {
                @let group = &plane.groups[index];
                @let ids = plane.cells.values().filter(|cell| cell.group == index);
                @let ids = ids.flat_map(|cell| cell.ids.iter().copied());
                li data-g=(index) {
                    i class=(class(group.agreement)) aria-hidden="true" { (group.agreement.sign()) } " "
                    span { (group.text) } br; small { (events(ids).join("; ")) }
                }
                "\n"
            }
            @for (text, count) in &plane.no_event {
                li { "V = 0: " (cases(*count)) " " (text) } "\n"
            }
        }
    }
}
