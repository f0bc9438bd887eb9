//! `--emit`: what was found, in another form.

mod case;
mod page;

use super::case::Case;
use super::stack::Stack;
use crate::error::Error;
use crate::format::Emit;
use crate::record::Report;
use case::Rows;
use vmcb::Cpu;

/// More VMCBs of one run are counted, not written.
const MOST: u64 = 256;

/// What is written so far.
pub(super) struct Emitter {
    form: Form,
    text: String,
    written: u64,
    left_out: u64,
}

enum Form {
    Case(Box<Rows>),
    /// With everyone who is asked.
    Page(Vec<Stack>),
}

impl Emitter {
    pub(super) fn new(emit: Emit, cpu: &Cpu) -> Result<Self, Error> {
        let form = match emit {
            Emit::Case => Form::Case(Box::new(Rows::new()?)),
            Emit::Page => Form::Page(Stack::everyone(cpu)),
        };
        Ok(Self { form, text: String::new(), written: 0, left_out: 0 })
    }

    pub(super) fn add(&mut self, case: &Case<'_>, report: &Report) {
        if self.written == MOST {
            self.left_out += 1;
            return;
        }
        self.written += 1;
        match &self.form {
            Form::Case(rows) => self.text.push_str(&rows.row(case, report)),
            Form::Page(everyone) => self.text.push_str(&page::section(case, report, everyone).into_string()),
        }
    }

    /// The whole.
    pub(super) fn finish(self) -> String {
        match self.form {
            Form::Case(_) if self.left_out > 0 => {
                format!("{}# {} more VMCBs are left out.\n", self.text, self.left_out)
            }
            Form::Case(_) => self.text,
            Form::Page(_) => page::whole(&self.text, self.written, self.left_out),
        }
    }
}
