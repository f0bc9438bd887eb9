//! Two events for one guest at the same time: what is delivered, by the double-fault rules.

use vmcb::{Event, EventType, Kind, Vector};

/// What becomes of an exception that occurs while another event is being delivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Combined {
    /// The second is delivered. The first is over: the instruction raises it again, if it is still due.
    Second,
    /// #DF is delivered in the place of both.
    DoubleFault,
    /// The guest shuts down.
    Shutdown,
    /// The first is no exception and does not come again by itself: it is still due after the second.
    SecondThenFirst,
}

/// How an exception counts (manual volume 2, table 8-3).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Weight {
    Benign,
    Contributory,
    PageFault,
    DoubleFault,
}

const DF: Vector = Vector::new(8);

fn weight(event: Event) -> Weight {
    if event.event_type() != EventType::EXCEPTION {
        return Weight::Benign;
    }
    if event.vector() == DF {
        return Weight::DoubleFault;
    }
    match event.vector().exception().map(|row| row.kind) {
        Some(Kind::Contributory) => Weight::Contributory,
        Some(Kind::PageFault) => Weight::PageFault,
        _ => Weight::Benign,
    }
}

/// What is delivered where the exception `second` occurs during the delivery of `first`.
///
/// # Source
/// Manual volume 2, 8.2.9, table 8-3, and 15.20.
#[must_use]
pub fn combine(first: Event, second: Event) -> Combined {
    match (weight(first), weight(second)) {
        (Weight::DoubleFault, Weight::Contributory | Weight::PageFault | Weight::DoubleFault) => {
            Combined::Shutdown
        }
        (Weight::Contributory, Weight::Contributory)
        | (Weight::PageFault, Weight::Contributory | Weight::PageFault) => Combined::DoubleFault,
        _ if matches!(first.event_type(), EventType::INTERRUPT | EventType::NMI) => Combined::SecondThenFirst,
        _ => Combined::Second,
    }
}

/// #DF as it is injected.
#[must_use]
pub(crate) const fn double_fault() -> Event {
    Event::new(EventType::EXCEPTION, DF).with_error_code(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exception(vector: u8) -> Event {
        Event::new(EventType::EXCEPTION, Vector::new(vector))
    }

    /// The whole table of the manual, row by row.
    #[test]
    fn double_fault_table() {
        let contributory = [0, 10, 11, 12, 13, 21, 29];
        let benign = [1, 3, 4, 5, 6, 7, 16, 17, 18, 19, 28, 30];
        for second in contributory.into_iter().chain(benign).chain([14, 8]) {
            let heavy = contributory.contains(&second);
            for first in benign {
                assert_eq!(
                    combine(exception(first), exception(second)),
                    Combined::Second,
                    "{first} {second}"
                );
            }
            for first in contributory {
                let wanted = if heavy { Combined::DoubleFault } else { Combined::Second };
                assert_eq!(combine(exception(first), exception(second)), wanted, "{first} {second}");
            }
            let wanted = if heavy || second == 14 { Combined::DoubleFault } else { Combined::Second };
            assert_eq!(combine(exception(14), exception(second)), wanted, "14 {second}");
            let wanted =
                if heavy || matches!(second, 14 | 8) { Combined::Shutdown } else { Combined::Second };
            assert_eq!(combine(exception(8), exception(second)), wanted, "8 {second}");
        }
        let interrupt = Event::new(EventType::INTERRUPT, Vector::new(14));
        assert_eq!(combine(interrupt, exception(14)), Combined::SecondThenFirst, "a vector is no exception");
        let software = Event::new(EventType::SOFTWARE, Vector::new(13));
        assert_eq!(combine(software, exception(13)), Combined::Second, "INTn is executed again");
    }
}
