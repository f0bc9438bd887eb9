//! The table for a terminal, as Markdown and as a page.

mod sample;

use nsvm_lab::report::{Agreement, Report};
use std::collections::BTreeSet;

#[test]
fn dump() {
    let Ok(dir) = std::env::var("NSVM_REPORT_DUMP") else { return };
    for (subjects, each) in [(3, 12), (6, 50)] {
        let report = Report::new(sample::rows(subjects, each));
        std::fs::write(format!("{dir}/{subjects}.html"), report.html()).unwrap();
        std::fs::write(format!("{dir}/{subjects}.md"), report.markdown()).unwrap();
        std::fs::write(format!("{dir}/{subjects}.txt"), report.terminal(false)).unwrap();
        std::fs::write(format!("{dir}/{subjects}.ansi"), report.terminal(true)).unwrap();
    }
}
