//! Text for people, and lines of JSON: the only place that prints what `check` found.

mod peers;

use crate::error::Error;
use crate::format::CheckFormat;
use crate::record::{
    Decision, Failure, Field, Finding, Mark, Note, Record, Report, Said, Standing, Summary, Undecided,
    Verdict,
};
use crate::sarif::Sarif;
use crate::status::Status;
use crate::style::{BOLD, GREEN, PLAIN, RED, YELLOW};
use annotate_snippets::{Annotation, AnnotationKind, Element, Group, Level, Origin, Renderer, Snippet};
use std::io::Write;
use vmcb_dump::Found;

/// More undecided rules or remarks of one VMCB are counted, not printed.
const MOST_REMARKS: usize = 12;

pub(crate) struct Printer<'a> {
    format: CheckFormat,
    verbose: bool,
    /// Something else goes to the standard output.
    quiet: bool,
    out: &'a mut dyn Write,
    renderer: Renderer,
    sarif: Sarif,
}

impl<'a> Printer<'a> {
    pub(crate) fn new(format: CheckFormat, verbose: bool, quiet: bool, out: &'a mut dyn Write) -> Self {
        Self { format, verbose, quiet, out, renderer: Renderer::styled(), sarif: Sarif::default() }
    }

    /// What takes the place of the report.
    pub(crate) fn raw(&mut self, text: &str) -> Result<(), Error> {
        self.out.write_all(text.as_bytes())?;
        Ok(())
    }

    fn json(&mut self, record: &Record) -> Result<(), Error> {
        let line = serde_json::to_string(record).map_err(std::io::Error::from)?;
        writeln!(self.out, "{line}")?;
        Ok(())
    }

    pub(crate) fn report(&mut self, report: Report, found: &Found) -> Result<(), Error> {
        if self.quiet {
            return Ok(());
        }
        if self.format == CheckFormat::Sarif {
            return self.sarif.report(&report, self.verbose, self.out);
        }
        if self.format == CheckFormat::Json {
            for record in report.into_records() {
                self.json(&record)?;
            }
            return Ok(());
        }
        for finding in &report.findings {
            self.finding(finding, found)?;
        }
        for remark in report.remarks.iter().take(MOST_REMARKS) {
            self.remark(remark, found)?;
        }
        if let Some(more) = report.remarks.len().checked_sub(MOST_REMARKS).filter(|&more| more > 0) {
            writeln!(self.out, "{YELLOW}warning{PLAIN}: {more} more remarks on this input\n")?;
        }
        for note in &report.notes {
            self.note(note, found)?;
        }
        if self.verbose {
            for undecided in &report.undecided {
                self.undecided(undecided)?;
            }
        }
        for predicted in &report.predictions {
            self.prediction(predicted)?;
        }
        self.who(&report.who)?;
        self.verdict(&report.verdict)
    }

    fn finding(&mut self, finding: &Finding, found: &Found) -> Result<(), Error> {
        let level = match finding.standing {
            Standing::Broken | Standing::RefusedByKvm | Standing::RefusedByXen => Level::ERROR,
            Standing::Required => Level::WARNING,
        };
        let mut title = level.primary_title(finding.title.as_str());
        if !finding.candidates.is_empty() {
            title = title.id(finding.candidates.join("|"));
        }
        let mut group = Group::with_title(title).elements(snippets(&finding.fields, found));
        for field in finding.fields.iter().filter(|field| field.mark.is_none() && !field.value.is_empty()) {
            group = group.element(say("value", label(field)));
        }
        for fact in &finding.cpu {
            group = group.element(say("cpu", fact.clone()));
        }
        if let Some(section) = finding.section {
            let section = crate::explain::section(section);
            group = group
                .element(say("source", format!("{}, {section}, rev {}", finding.manual, finding.revision)));
        }
        if let Some(help) = finding.help {
            group = group.element(say("help", help.to_owned()));
        }
        for note in &finding.notes {
            group = group.element(say("note", note.clone()));
        }
        self.group(group)
    }

    fn note(&mut self, note: &Note, found: &Found) -> Result<(), Error> {
        let mut group = Group::with_title(Level::NOTE.primary_title(note.text.as_str()))
            .elements(snippets(&note.fields, found));
        for sentence in &note.more {
            group = group.element(say("note", sentence.clone()));
        }
        if let Some(section) = note.section {
            let section = crate::explain::section(section);
            group = group.element(say(
                "source",
                format!("{}, {section}, rev {}", crate::record::MANUAL, crate::record::REVISION),
            ));
        }
        self.group(group)
    }

    fn remark(&mut self, remark: &Said, found: &Found) -> Result<(), Error> {
        let marks: Vec<(&Mark, String, bool)> =
            remark.mark.iter().map(|mark| (mark, String::new(), true)).collect();
        let elements = marked(marks, found);
        let group = Group::with_title(Level::WARNING.primary_title(remark.text.as_str()));
        let group = if elements.is_empty() {
            group.element(Origin::path(remark.place.to_string()))
        } else {
            group.elements(elements)
        };
        self.group(group)
    }

    fn undecided(&mut self, undecided: &Undecided) -> Result<(), Error> {
        writeln!(self.out, "{BOLD}undecided[{}]{PLAIN}: {}", undecided.rule, undecided.title)?;
        let missing: Vec<String> = undecided
            .missing
            .iter()
            .map(|item| {
                let mask = item.bits.as_deref().and_then(|bits| u64::from_str_radix(bits.get(2..)?, 16).ok());
                match mask {
                    Some(u64::MAX) | None => item.name.clone(),
                    Some(mask) => format!("{} {}", item.name, crate::bits::bits(mask)),
                }
            })
            .collect();
        writeln!(self.out, "  = missing: {}\n", missing.join("; "))?;
        Ok(())
    }

    fn verdict(&mut self, verdict: &Verdict) -> Result<(), Error> {
        let colour = match verdict.decision {
            Decision::Accepted => GREEN,
            Decision::Refused => RED,
            Decision::Undecided => YELLOW,
        };
        let (word, rest) = match verdict.text.split_once([':', ' ']) {
            Some((word, _)) => verdict.text.split_at(word.len()),
            None => (verdict.text.as_str(), ""),
        };
        writeln!(self.out, "{}: {colour}{word}{PLAIN}{rest}", verdict.place)?;
        Ok(())
    }

    fn group(&mut self, group: Group<'_>) -> Result<(), Error> {
        // An origin that is followed by lines of a page leaves an empty one behind.
        for line in self.renderer.render(&[group]).lines() {
            if anstream::adapter::strip_str(line).to_string().trim() != ":::" {
                writeln!(self.out, "{line}")?;
            }
        }
        writeln!(self.out)?;
        Ok(())
    }

    /// An input that cannot be read. People see it on stderr.
    pub(crate) fn failure(&mut self, failure: Failure) -> Result<(), Error> {
        match self.format {
            _ if self.quiet => {}
            CheckFormat::Json => self.json(&Record::Error(failure))?,
            CheckFormat::Sarif => self.sarif.failure(failure),
            CheckFormat::Human => {}
        }
        // What stands in the buffer comes before what goes to stderr.
        self.out.flush()?;
        Ok(())
    }

    /// Ends the report. Returns the totals of several VMCBs or files for people.
    pub(crate) fn end(
        &mut self,
        assumed: &[&str],
        summary: Summary,
        several: bool,
        status: Status,
    ) -> Result<Option<String>, Error> {
        match self.format {
            _ if self.quiet => {}
            CheckFormat::Json => return self.json(&Record::Summary(summary)).map(|()| None),
            CheckFormat::Sarif => return self.sarif.end(status, self.out).map(|()| None),
            CheckFormat::Human => {}
        }
        if summary.vmcbs > 0 && !self.quiet && !assumed.is_empty() {
            let assumed = assumed.join(", ");
            writeln!(self.out, "{BOLD}note{PLAIN}: assumed of the host: {assumed} (--host says otherwise)")?;
        }
        self.out.flush()?;
        if !several {
            return Ok(None);
        }
        let mut text = format!(
            "{} in {}: {} accepted, {} refused, {} undecided",
            counted(summary.vmcbs, "VMCB"),
            counted(summary.files, "file"),
            summary.accepted,
            summary.refused,
            summary.undecided
        );
        if summary.unreadable > 0 {
            text.push_str(&format!("; {} of the files could not be read to the end", summary.unreadable));
        }
        Ok(Some(text))
    }
}

/// `1 file`, `2 files`.
fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// `= name: text`.
fn say(name: &'static str, text: String) -> annotate_snippets::Message<'static> {
    Level::NOTE.with_name(name).message(annotate_snippets::normalize_untrusted_str(&text))
}

/// `CS.attributes = 0xe9b: L=1 D=1`.
fn label(field: &Field) -> String {
    match (field.value.is_empty(), field.decoded.is_empty()) {
        (true, _) => field.decoded.clone(),
        (false, true) => format!("{} = {}", field.name, field.value),
        // What is no field has no value but its facts.
        (false, false) if field.page == "host" && field.name == "host" => field.decoded.clone(),
        (false, false) => format!("{} = {}: {}", field.name, field.value, field.decoded),
    }
}

fn snippets<'a>(fields: &'a [Field], found: &Found) -> Vec<Element<'a>> {
    let marks = fields
        .iter()
        .filter_map(|field| field.mark.as_ref().map(|mark| (mark, label(field), field.primary)))
        .collect();
    marked(marks, found)
}

/// A mark with what to say about it, and whether it is what the finding is about.
type Marked<'a> = (&'a Mark, String, bool);

/// Marks in the user's text; pages are shown as decoded lines.
fn marked<'a>(marks: Vec<Marked<'a>>, found: &Found) -> Vec<Element<'a>> {
    let mut runs: Vec<Vec<Marked<'a>>> = Vec::new();
    let mut pages: Vec<Marked<'a>> = Vec::new();
    let mut texts: Vec<(u64, Marked<'a>)> = Vec::new();
    for marked in marks {
        match marked.0 {
            Mark::Text { line, .. } => texts.push((*line, marked)),
            Mark::Page { .. } => pages.push(marked),
        }
    }
    texts.sort_by_key(|(line, _)| *line);
    let mut last = None;
    for (line, marked) in texts {
        // Between the lines of one snippet stands nothing that was not kept.
        let joined = last.is_some_and(|last| (last..=line).all(|between| found.line(between).is_some()));
        match runs.last_mut() {
            Some(run) if joined => run.push(marked),
            _ => runs.push(vec![marked]),
        }
        last = Some(line);
    }
    // What the finding is about comes first.
    runs.sort_by_key(|run| !run.iter().any(|(_, _, primary)| *primary));
    let mut elements: Vec<Element<'a>> =
        runs.into_iter().filter_map(|run| text_snippet(run, found)).collect();
    pages.sort_by_key(|(_, _, primary)| !primary);
    for run in pages.chunk_by(|(a, ..), (b, ..)| a.file() == b.file()) {
        page_snippet(run, &mut elements);
    }
    elements
}

fn text_snippet<'a>(run: Vec<Marked<'a>>, found: &Found) -> Option<Element<'a>> {
    let mut numbers = run.iter().filter_map(|(mark, ..)| match mark {
        Mark::Text { line, .. } => Some(*line),
        Mark::Page { .. } => None,
    });
    let first = numbers.next()?;
    let last = numbers.next_back().unwrap_or(first);
    let mut source = String::new();
    let mut starts = Vec::new();
    for number in first..=last {
        starts.push(source.len());
        source.push_str(found.line(number)?);
        source.push('\n');
    }
    let path = run.first().map(|(mark, ..)| mark.file().to_owned())?;
    let mut annotations = Vec::new();
    for (mark, label, primary) in run {
        let Mark::Text { line, columns, .. } = mark else {
            continue;
        };
        let start = *starts.get(usize::try_from(line - first).ok()?)?;
        let kind = if primary { AnnotationKind::Primary } else { AnnotationKind::Context };
        annotations.push(annotation(kind, start + columns.start..start + columns.end, label));
    }
    let line_start = usize::try_from(first).unwrap_or(usize::MAX);
    Some(Snippet::source(source).line_start(line_start).path(path).annotations(annotations).into())
}

fn page_snippet<'a>(run: &[Marked<'a>], elements: &mut Vec<Element<'a>>) {
    let mut source = String::new();
    let mut annotations = Vec::new();
    for (mark, label, primary) in run {
        let Mark::Page { file, file_offset, offset, name, value } = mark else {
            continue;
        };
        if source.is_empty() {
            elements.push(Origin::path(format!("{file}:{file_offset:#x}")).into());
        }
        source.push_str(&format!("{offset:03X} {name} = "));
        let start = source.len();
        source.push_str(value);
        let kind = if *primary { AnnotationKind::Primary } else { AnnotationKind::Context };
        // The value stands there already.
        let short = label.split_once(": ").map_or("", |(_, decoded)| decoded);
        annotations.push(annotation(kind, start..source.len(), short.to_owned()));
        source.push('\n');
    }
    elements.push(Snippet::source(source).line_numbering(false).fold(false).annotations(annotations).into());
}

fn annotation<'a>(kind: AnnotationKind, span: std::ops::Range<usize>, label: String) -> Annotation<'a> {
    let annotation = kind.span(span);
    if label.is_empty() { annotation } else { annotation.label(label) }
}
