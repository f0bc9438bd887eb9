//! Draws a random sample of sentences that depends on the seed and the tree only.

use super::sentences::{Amounts, Sentence, Source};
use std::fmt::Write as _;

/// Number of words that a sentence of a sample has at least.
const MIN_WORDS: usize = 4;

/// SplitMix64, a generator of random numbers whose state is one word.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below a bound.
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap_or_default()
    }
}

/// Draws sentences of each source without repetition, and returns them as text.
pub(super) fn draw(mut all: Vec<Sentence>, seed: u64, amounts: &Amounts) -> String {
    all.sort();
    all.dedup_by(|left, right| left.text == right.text);
    let mut text = String::new();
    let sources = [
        (Source::Doc, "doc comments", amounts.doc),
        (Source::Message, "messages", amounts.messages),
        (Source::Markdown, "Markdown", amounts.markdown),
    ];
    let mut number = 0;
    for (index, (source, name, amount)) in sources.into_iter().enumerate() {
        let words = |sentence: &&Sentence| sentence.text.split_whitespace().count() >= MIN_WORDS;
        let mut pool: Vec<_> =
            all.iter().filter(|sentence| sentence.source == source).filter(words).collect();
        let mut random = Random(seed ^ ((index as u64) << 56));
        let _ = writeln!(text, "# {name}: {} of {}", amount.min(pool.len()), pool.len());
        for _ in 0..amount.min(pool.len()) {
            let sentence = pool.swap_remove(random.below(pool.len()));
            number += 1;
            let _ = writeln!(text, "{number}. {}:{}: {}", sentence.file, sentence.line, sentence.text);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_sample() {
        let all: Vec<_> = (0..100)
            .map(|line| Sentence {
                file: "a.md".to_owned(),
                line,
                source: Source::Markdown,
                text: format!("this is sentence {line}"),
            })
            .collect();
        let amounts = Amounts { doc: 1, messages: 1, markdown: 5 };
        let sample = draw(all.clone(), 1, &amounts);
        assert_eq!(sample, draw(all.clone(), 1, &amounts));
        assert_ne!(sample, draw(all, 2, &amounts));
        assert!(sample.contains("# Markdown: 5 of 100") && sample.contains("# messages: 0 of 0"), "{sample}");
        assert_eq!(sample.matches("a.md:").count(), 5);
    }
}
