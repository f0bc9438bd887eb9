//! What implementations would do with the VMCB, by what is known of them.

use super::case::Case;
use super::question::Question;
use super::stack::Stack;
use crate::record::{Ground, Known, Predicted};
use vmcb::{Rule, Word};
use vmcb_implementations::{Answer, Evidence, Layer, Prediction, Says, predict_known};

/// A stack that is asked about every VMCB.
pub(super) struct Asked<'a> {
    stack: &'a Stack,
    layers: Vec<Layer<'a>>,
}

/// All of them: those of `--as`, those of `--who`.
pub(super) struct Peers<'a> {
    pub(super) stacks: Vec<Asked<'a>>,
    pub(super) everyone: Vec<Asked<'a>>,
}

impl<'a> Peers<'a> {
    pub(super) fn new(question: &'a Question) -> Self {
        let ask = |stacks: &'a [Stack]| stacks.iter().map(Asked::new).collect();
        Self { stacks: ask(&question.stacks), everyone: ask(&question.everyone) }
    }
}

impl<'a> Asked<'a> {
    pub(super) fn new(stack: &'a Stack) -> Self {
        Self { stack, layers: stack.build() }
    }

    /// `KVM 7.3.4 on QEMU TCG 7.2.22`.
    fn title(&self) -> String {
        self.layers.iter().map(Layer::title).collect::<Vec<_>>().join(" on ")
    }

    fn layer(&self, number: usize) -> String {
        self.layers.get(number).map_or_else(String::new, Layer::title)
    }
}

impl Case<'_> {
    /// What a stack would do.
    pub(super) fn predicted(&self, asked: &Asked<'_>) -> Predicted {
        let environment = self.question.host.as_for_others(self.found.vmcb_address);
        let Prediction { answer, grounds } =
            predict_known(&asked.layers, &self.found.vmcb, self.phase, &environment);
        let (word, by, layer, why) = match answer {
            Answer::Accepts => ("accepts", Vec::new(), None, Vec::new()),
            Answer::Refuses { by, layer } => ("refuses", by, layer, Vec::new()),
            Answer::Stops { by, layer } => ("stops", by, Some(layer), Vec::new()),
            Answer::Unknown { why } => ("unknown", Vec::new(), None, why),
        };
        let inferred = self.view.event_is_inferred() && by.iter().any(|id| reads_the_event(id));
        let grounds = grounds.iter().map(|ground| {
            let evidence = ground.row.map(|row| row.evidence);
            let is_hardware = asked.layers.get(ground.layer).is_some_and(|layer| layer.version().is_none());
            Ground {
                layer: ground.layer as u64 + 1,
                rule: ground.id,
                says: match ground.says {
                    Says::Refuses => "refuses",
                    Says::Stops => "stops",
                    Says::LetsPass => "lets-pass",
                    Says::Unknown => "unknown",
                },
                known: match evidence {
                    Some(Evidence::Measured { .. }) => Known::Measured,
                    Some(Evidence::Source { .. }) => Known::Read,
                    None if is_hardware => Known::Manual,
                    Some(Evidence::Unknown) | None => Known::Unknown,
                },
                from: evidence.map(|evidence| match evidence {
                    Evidence::Source { revision } => format!("read in {revision}"),
                    other => other.to_string(),
                }),
                does: ground.row.map(|row| row.in_words()),
            }
        });
        let mut predicted = Predicted {
            vmcb: self.vmcb,
            stack: asked.stack.name(),
            title: asked.title(),
            answer: word,
            by,
            layer: layer.map(|layer| layer as u64 + 1),
            inferred,
            why,
            grounds: grounds.collect(),
            assumed: self.question.host.assumed_for_others(),
            text: String::new(),
        };
        predicted.text = text(&predicted, asked);
        predicted
    }
}

/// What it would do, in words.
fn text(predicted: &Predicted, asked: &Asked<'_>) -> String {
    let by = predicted.by.join(", ");
    let who = || match predicted.layer {
        _ if asked.layers.len() < 2 => String::new(),
        Some(layer) => format!("{} ", asked.layer(usize::try_from(layer).map_or(0, |layer| layer - 1))),
        None => "some layer ".to_owned(),
    };
    let inferred = if predicted.inferred { ", inferred from EXITINTINFO" } else { "" };
    match predicted.answer {
        "refuses" => format!("{}refuses by {by}{inferred}", who()),
        "stops" => format!("{}accepts and stops, for want of {by}{inferred}", who()),
        other => other.to_owned(),
    }
}

fn reads_the_event(id: &str) -> bool {
    Rule::from_id(id).is_some_and(|rule| rule.reads().any(|(word, _)| word == Word::EventInj))
}
