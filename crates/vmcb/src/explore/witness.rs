//! Witnesses: the smallest VMCB that breaks a rule, the case next to the edge, and a VMCB on which two CPUs
//! differ. All derived from the rules' literals.
//!
//! The search starts from the minimal legal guest, makes the literals of the rule hold, and mends what else
//! is broken by making a literal of that fail; what turns out not to be needed is taken back. Every answer is
//! judged before it is given, so a search that finds nothing says nothing, and what it finds is true.

use super::mutations::{Move, bits_of, moves};
use crate::cpu::feature::Feature;
use crate::defs::known::Bits;
use crate::defs::layout::{Field, PAGE_SIZE, vmsa_field};
use crate::defs::register::{
    Cr0, Cr4, CsAttributes, Efer, Host, InterceptMisc2, Mode, NestedCtl, SevFeatures,
};
use crate::defs::word::{Source, Word};
use crate::eval::environment::{Environment, Vmsa};
use crate::eval::judge::View;
use crate::eval::verdict::Verdict;
use crate::limits::compiled::Limits;
use crate::rules::literal::Literal;
use crate::rules::set::RuleSet;
use crate::rules::state::State;
use crate::rules::table::Rule;

const WORDS: usize = Word::ALL.len();

/// A guest that is ready for VMRUN: every word that some rule reads, of the VMCB, the VMSA and the host.
///
/// # Examples
/// ```
/// use vmcb::{Cpu, Limits, Policy, Rule, Witness, check};
/// let limits = Limits::compile(&Cpu::parse("EPYC-Milan,phys-bits=48").unwrap(), Policy::VirtualCpu);
/// let witness = Rule::SavCsLAndD.witness(&limits).unwrap();
/// let (vmcb, vmsa) = (witness.vmcb(), witness.vmsa());
/// let verdict = check(&vmcb, &limits, &witness.environment(&vmsa));
/// assert!(verdict.broken().iter().eq([Rule::SavCsLAndD]));
/// let neighbour = witness.neighbour(Rule::SavCsLAndD, &limits).unwrap();
/// assert!(neighbour.judge(&limits).is_accepted());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Witness {
    /// As the VMCB and the host have them.
    plain: [u64; WORDS],
    /// As the VMSA has them: what an SEV-ES guest's registers are.
    encrypted: [u64; WORDS],
}

/// A word that a witness has otherwise than the minimal legal guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Change {
    /// The word.
    pub word: Word,
    /// Where it stands: a field of the VMCB or of the VMSA; `None` for what is in no page.
    pub field: Option<Field>,
    /// In the minimal legal guest.
    pub before: u64,
    /// In the witness.
    pub after: u64,
}

/// How two CPUs differ in a rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Contrast {
    /// One CPU refuses the VMCB by this rule, or the manual leaves open what it does; the other accepts it.
    Verdict,
    /// The rule is broken on one CPU only, and the other refuses the VMCB for another reason.
    Reason,
}

/// Bits of a word that the witness must have set.
type Seed = (Word, u64);

impl Witness {
    /// The minimal legal guest: 64-bit mode, without nested paging, on a host as every hypervisor has it.
    ///
    /// # Source
    /// Manual volume 2, 15.5.1: what it lists as illegal is absent, all else is zero.
    #[must_use]
    pub const fn legal() -> Self {
        let mut words = [0; WORDS];
        words[Word::Host as usize] =
            Host::SVME.union(Host::PE).union(Host::PG).union(Host::LONG64).union(Host::SMMLOCK).bits();
        words[Word::VmcbAddress as usize] = 0x7000;
        words[Word::InterceptMisc2 as usize] = InterceptMisc2::VMRUN.bits();
        words[Word::Asid as usize] = 1;
        words[Word::IopmBasePa as usize] = 0x1_0000;
        words[Word::MsrpmBasePa as usize] = 0x2_0000;
        words[Word::Efer as usize] = Efer::SVME.union(Efer::LME).union(Efer::LMA).bits();
        words[Word::Cr0 as usize] = Cr0::PG.union(Cr0::ET).union(Cr0::PE).bits();
        words[Word::Cr4 as usize] = Cr4::PAE.bits();
        words[Word::Cr3 as usize] = 0x3000;
        // Execute and read, not a system segment.
        words[Word::CsAttributes as usize] = CsAttributes::P.union(CsAttributes::L).bits() | 0x1B;
        words[Word::Dr6 as usize] = 0xFFFF_0FF0;
        words[Word::Dr7 as usize] = 0x400;
        words[Word::Rflags as usize] = 2;
        words[Word::GPat as usize] = 0x0007_0406_0007_0406;
        Self { plain: words, encrypted: words }
    }

    /// The VMCB page.
    #[must_use]
    pub fn vmcb(&self) -> [u8; PAGE_SIZE] {
        let mut page = [0; PAGE_SIZE];
        for (&word, value) in Word::ALL.iter().zip(self.plain) {
            if let Source::Control(field) | Source::Save(field) = word.source() {
                put(&mut page, field, value);
            }
        }
        page
    }

    /// The decrypted VMSA page, which is read for SEV-ES guests only.
    #[must_use]
    pub fn vmsa(&self) -> [u8; PAGE_SIZE] {
        let mut page = [0; PAGE_SIZE];
        for (&word, value) in Word::ALL.iter().zip(self.encrypted) {
            if let Some(field) = encrypted_field(word) {
                put(&mut page, field, value);
            }
        }
        page
    }

    /// Everything that is in neither page, and the VMSA.
    #[must_use]
    pub fn environment<'a>(&self, vmsa: &'a [u8; PAGE_SIZE]) -> Environment<'a> {
        let known = |word| Bits::known(self.plain(word));
        let mut environment = Environment::unknown().with_vmsa(Vmsa::Page(vmsa));
        environment.host = known(Word::Host);
        environment.vmcb_address = known(Word::VmcbAddress);
        environment.pdptes = [Word::Pdpte0, Word::Pdpte1, Word::Pdpte2, Word::Pdpte3].map(known);
        environment.u_cet = known(Word::UCet);
        environment
    }

    /// What VMRUN does with it on this CPU.
    pub fn judge(&self, limits: &Limits) -> Verdict {
        self.seen(limits, |view| view.judge())
    }

    /// The words whose value differs from that in the minimal legal guest.
    pub fn changes(&self) -> impl Iterator<Item = Change> {
        let legal = Self::legal();
        let both = move |&word: &Word| {
            let field = match word.source() {
                Source::Control(field) | Source::Save(field) => Some(field),
                Source::Vmsa(_) | Source::Environment | Source::Cpu | Source::Derived => None,
            };
            let (before, after) = (legal.plain(word), self.plain(word));
            let plain = Change { word, field, before, after };
            let (before, after) = (legal.encrypted(word), self.encrypted(word));
            [plain, Change { word, field: encrypted_field(word), before, after }]
        };
        Word::ALL.iter().flat_map(both).filter(|change| change.before != change.after)
    }

    /// The nearest legal case: one literal of the rule fails, and nothing is broken any more.
    ///
    /// `None` where no single literal is enough.
    #[must_use]
    pub fn neighbour(&self, rule: Rule, limits: &Limits) -> Option<Self> {
        let mut found = None;
        // The last literals of a row are its edge, the first its occasion.
        for &literal in rule.row().when.iter().rev() {
            self.seen(limits, |view| {
                moves(literal, false, view, None, &mut |step| {
                    found = self.after(&step, view).filter(|state| state.judge(limits).is_accepted());
                    found.is_some()
                })
            });
            if found.is_some() {
                break;
            }
        }
        found
    }

    /// A word as the VMCB or the host has it.
    #[must_use]
    pub fn word(&self, word: Word) -> u64 {
        self.plain(word)
    }

    fn plain(&self, word: Word) -> u64 {
        self.plain.get(word as usize).copied().unwrap_or(0)
    }

    fn encrypted(&self, word: Word) -> u64 {
        self.encrypted.get(word as usize).copied().unwrap_or(0)
    }

    /// Calls `look` with all that the rules see of it.
    fn seen<R>(&self, limits: &Limits, look: impl FnOnce(&View<'_>) -> R) -> R {
        let (vmcb, vmsa) = (self.vmcb(), self.vmsa());
        let environment = self.environment(&vmsa);
        look(&View::complete(&vmcb, limits, &environment))
    }

    /// The place of a word as this CPU reads it.
    fn slot(&mut self, word: Word, in_vmsa: bool) -> Option<&mut u64> {
        let words = if in_vmsa { &mut self.encrypted } else { &mut self.plain };
        words.get_mut(word as usize)
    }

    /// The state with a move made; `None` where the field has not so many bits.
    fn after(&self, step: &Move, view: &View<'_>) -> Option<Self> {
        let mut state = *self;
        for (word, mask, value) in step.writes() {
            let in_vmsa = reads_vmsa(word, view);
            let slot = state.slot(word, in_vmsa)?;
            *slot = *slot & !mask | value & mask;
            let field = if in_vmsa { encrypted_field(word) } else { word.field(false) };
            let width = field.map_or(8, |field| field.size.min(8));
            if width < 8 && *slot >> (8 * width) != 0 {
                return None;
            }
        }
        Some(state)
    }
}

/// The field of the VMSA that holds a word.
fn encrypted_field(word: Word) -> Option<Field> {
    match word.source() {
        Source::Save(field) => Some(field.in_vmsa()),
        Source::Vmsa(field) => Some(field),
        _ if word == Word::EventInj => Some(vmsa_field::eventinj),
        _ => None,
    }
}

/// Whether the rules read the word from the VMSA.
fn reads_vmsa(word: Word, view: &View<'_>) -> bool {
    let on = |bit: Mode| view.bits(Word::Mode).may_clear() & bit.bits() == 0;
    match word.source() {
        Source::Save(_) => on(Mode::SEV_ES),
        Source::Vmsa(_) => word != Word::UCet || on(Mode::SEV_ES),
        _ => word == Word::EventInj && on(Mode::VMSA_EVENTS),
    }
}

fn put(page: &mut [u8; PAGE_SIZE], field: Field, value: u64) {
    let places = page.iter_mut().skip(field.offset.into()).take(field.size.into());
    for (place, byte) in places.zip(value.to_le_bytes()) {
        *place = byte;
    }
}

impl Rule {
    /// The smallest VMCB that breaks this rule on this CPU: no change to the minimal legal guest can be left
    /// out.
    ///
    /// It breaks nothing else wherever a search finds such a one; where another rule goes with it of
    /// necessity, that one is broken too. `None` where the rule cannot be broken for certain, above all on a
    /// CPU that lacks, or is not known to have, what the rule is about.
    #[must_use]
    pub fn witness(self, limits: &Limits) -> Option<Witness> {
        let search = |strict| Search::new(self, limits, None, strict).run(None);
        search(Strict::Alone).or_else(|| search(Strict::WithOthers))
    }

    /// The smallest VMCB in which the two CPUs differ by this rule: it is broken on the first.
    ///
    /// `seed` names bits that the VMCB must have set, such as one bit of CR4. `None` where nothing was found;
    /// where [`Limits::may_differ`] has not this rule, there is nothing.
    #[must_use]
    pub fn contrast(
        self,
        refusing: &Limits,
        accepting: &Limits,
        seed: Option<(Word, u64)>,
    ) -> Option<(Contrast, Witness)> {
        let search = |strict| Search::new(self, refusing, Some(accepting), strict).run(seed);
        let verdict = search(Strict::Alone).or_else(|| search(Strict::WithOthers));
        let reason = || search(Strict::Reason).map(|witness| (Contrast::Reason, witness));
        verdict.map(|witness| (Contrast::Verdict, witness)).or_else(reason)
    }
}

/// What a witness must show beside the rule that is broken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Strict {
    /// Nothing else is broken; the accepting CPU accepts.
    Alone,
    /// The accepting CPU accepts.
    WithOthers,
    /// The rule is not broken on the accepting CPU.
    Reason,
}

/// A state, and the bits that must stay as they are.
#[derive(Clone, Copy)]
struct Node {
    state: Witness,
    pinned: Witness,
}

struct Search<'a> {
    rule: Rule,
    refusing: &'a Limits,
    accepting: Option<&'a Limits>,
    strict: Strict,
    /// States that may still be looked at.
    left: u32,
    /// Whether a mend was not followed for its depth.
    cut: bool,
}

impl<'a> Search<'a> {
    /// What is looked at before a search gives up, and how many mends are tried one upon the other. Far above
    /// what any rule needs: the tests say what is found.
    const MOST: u32 = 2_000;
    const DEPTH: u32 = 8;

    fn new(rule: Rule, refusing: &'a Limits, accepting: Option<&'a Limits>, strict: Strict) -> Self {
        Self { rule, refusing, accepting, strict, left: Self::MOST, cut: false }
    }

    fn run(&mut self, seed: Option<Seed>) -> Option<Witness> {
        let none = Witness { plain: [0; WORDS], encrypted: [0; WORDS] };
        // Which field is read, and what is an address, depends on these bits; nothing but trying tells which of
        // them is needed.
        let selectors = [
            Move::default(),
            Move::of(Word::Host, Host::MEM_ENCRYPTION.bits(), u64::MAX),
            Move::of(Word::NestedCtl, NestedCtl::SEV_ES.bits(), u64::MAX),
            vmsa_events(SevFeatures::SNP_ACTIVE.union(SevFeatures::ALTERNATE_INJECTION)),
            vmsa_events(SevFeatures::SECURE_AVIC),
        ];
        for selector in selectors {
            if !self.matters(&selector) {
                continue;
            }
            let mut node = Node { state: Witness::legal(), pinned: none };
            let wanted = selector.writes().chain(seed.map(|(word, bits)| (word, bits, u64::MAX)));
            for (word, mask, value) in wanted {
                let vmsa_only = matches!(word.source(), Source::Vmsa(_));
                for in_vmsa in [false, true] {
                    let both = matches!(word.source(), Source::Save(_));
                    if both || in_vmsa == vmsa_only {
                        if let (Some(slot), Some(pin)) =
                            (node.state.slot(word, in_vmsa), node.pinned.slot(word, in_vmsa))
                        {
                            *slot = *slot & !mask | value & mask;
                            *pin |= mask;
                        }
                    }
                }
            }
            self.left = Self::MOST;
            for depth in 0..=Self::DEPTH {
                self.cut = false;
                if let Some(state) = self.break_rule(node, depth) {
                    return Some(self.shrink(state, seed));
                }
                if self.left == 0 || !self.cut {
                    break;
                }
            }
        }
        None
    }

    /// Whether one of the CPUs has what these bits turn on.
    fn matters(&self, selector: &Move) -> bool {
        let both = [Some(self.refusing), self.accepting];
        selector.writes().all(|(word, ..)| {
            both.into_iter().flatten().any(|limits| match word {
                Word::Host => limits.bounds.c_bit != 0,
                _ => limits.cpu().has(Feature::SevEs) != Some(false),
            })
        })
    }

    /// Makes the literals of the rule hold, then mends the rest.
    fn break_rule(&mut self, node: Node, depth: u32) -> Option<Witness> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let when = self.rule.row().when;
        let derived = |literal: &&Literal| {
            matches!(literal, Literal::Is { word: Word::Mode, .. } | Literal::IsNot { word: Word::Mode, .. })
        };
        // Derived bits decide where the others stand.
        let ordered = || when.iter().filter(derived).chain(when.iter().filter(|literal| !derived(literal)));
        let open = node.state.seen(self.refusing, |view| {
            ordered().find(|literal| literal.may_be(view, false) || !literal.may_be(view, true)).copied()
        });
        let Some(literal) = open else {
            let mut node = node;
            node.state.seen(self.refusing, |view| {
                when.iter().for_each(|literal| pin_reads(&mut node.pinned, *literal, view));
            });
            return self.mend(node, depth);
        };
        self.try_moves(node, literal, true, self.refusing, &mut |search, mut next, step| {
            let holds = next.state.seen(search.refusing, |view| {
                pin_writes(&mut next.pinned, step, view);
                pin_reads(&mut next.pinned, literal, view);
                literal.may_be(view, true) && !literal.may_be(view, false)
            });
            if holds { search.break_rule(next, depth) } else { None }
        })
    }

    /// Mends what is broken beside the rule, one literal after the other.
    fn mend(&mut self, node: Node, depth: u32) -> Option<Witness> {
        let Some((limits, other)) = self.offender(&node.state) else { return Some(node.state) };
        if depth == 0 {
            self.cut = true;
            return None;
        }
        for &literal in other.row().when {
            let found = self.try_moves(node, literal, false, limits, &mut |search, mut next, step| {
                if search.left == 0 {
                    return None;
                }
                search.left -= 1;
                let fails = next.state.seen(limits, |view| {
                    pin_writes(&mut next.pinned, step, view);
                    !literal.may_be(view, true)
                });
                if fails && search.is_broken(&next.state) { search.mend(next, depth - 1) } else { None }
            });
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// Makes each move that changes no pinned bit, until `follow` finds something.
    fn try_moves(
        &mut self,
        node: Node,
        literal: Literal,
        wanted: bool,
        limits: &Limits,
        follow: &mut dyn FnMut(&mut Self, Node, &Move) -> Option<Witness>,
    ) -> Option<Witness> {
        let against = self.accepting.map(|limits| &limits.bounds);
        let mut found = None;
        node.state.seen(limits, |view| {
            moves(literal, wanted, view, against, &mut |step| {
                let free = step.writes().all(|(word, mask, value)| {
                    let (mut now, mut pinned) = (node.state, node.pinned);
                    let in_vmsa = reads_vmsa(word, view);
                    match (now.slot(word, in_vmsa), pinned.slot(word, in_vmsa)) {
                        (Some(now), Some(pinned)) => (*now ^ value) & mask & *pinned == 0,
                        _ => false,
                    }
                });
                if let Some(state) =
                    node.state.after(&step, view).filter(|state| free && *state != node.state)
                {
                    found = follow(self, Node { state, ..node }, &step);
                }
                found.is_some()
            })
        });
        found
    }

    /// Whether the rule is broken for certain.
    fn is_broken(&self, state: &Witness) -> bool {
        let verdict = state.judge(self.refusing);
        verdict.broken().union(verdict.unstated()).contains(self.rule)
    }

    /// A rule that must not be broken and may be, and where.
    fn offender(&self, state: &Witness) -> Option<(&'a Limits, Rule)> {
        let possible = |limits: &Limits| {
            let verdict = state.judge(limits);
            verdict.broken().union(verdict.undecided())
        };
        let this = RuleSet::only(self.rule);
        if self.strict == Strict::Alone {
            if let Some(rule) = possible(self.refusing).difference(this).iter().next() {
                return Some((self.refusing, rule));
            }
        }
        let accepting = self.accepting?;
        let wrong = match self.strict {
            Strict::Reason => possible(accepting).intersection(this),
            Strict::Alone | Strict::WithOthers => possible(accepting),
        };
        wrong.iter().next().map(|rule| (accepting, rule))
    }

    fn shows(&self, state: &Witness) -> bool {
        self.is_broken(state) && self.offender(state).is_none()
    }

    /// Takes back, word by word and then bit by bit, what is not needed.
    fn shrink(&self, mut state: Witness, seed: Option<Seed>) -> Witness {
        let legal = Witness::legal();
        for whole in [true, false] {
            for &word in Word::ALL {
                for in_vmsa in [false, true] {
                    let (mut now, mut base) = (state, legal);
                    let (Some(now), Some(base)) = (now.slot(word, in_vmsa), base.slot(word, in_vmsa)) else {
                        continue;
                    };
                    let kept = seed.filter(|&(of, _)| of == word && !in_vmsa).map_or(0, |(_, bits)| bits);
                    let changed = (*now ^ *base) & !kept;
                    // An ASID is a number; its bits mean nothing alone.
                    let steps = if whole { u64::MAX } else { changed * u64::from(word != Word::Asid) };
                    for mask in bits_of(steps).map(|bit| if whole { changed } else { bit }) {
                        let mut less = state;
                        if let Some(slot) = less.slot(word, in_vmsa) {
                            *slot = *slot & !mask | *base & mask;
                        }
                        if mask != 0 && less != state && self.shows(&less) {
                            state = less;
                        }
                        if whole {
                            break;
                        }
                    }
                }
            }
        }
        state
    }
}

/// Events and part of the interrupt control come from the VMSA.
fn vmsa_events(features: SevFeatures) -> Move {
    let mut selector = Move::of(Word::NestedCtl, NestedCtl::SEV_ES.bits(), u64::MAX);
    selector.push(Word::SevFeatures, features.bits(), u64::MAX);
    selector
}

/// What a move wrote may not change any more.
fn pin_writes(pinned: &mut Witness, step: &Move, view: &View<'_>) {
    for (word, mask, _) in step.writes() {
        if let Some(pin) = pinned.slot(word, reads_vmsa(word, view)) {
            *pin |= mask;
        }
    }
}

/// The bits that a literal compares may not change any more. Tests read whole words and care for few bits, and
/// what is derived may hold for want of a feature: there only what was written stays.
fn pin_reads(pinned: &mut Witness, literal: Literal, view: &View<'_>) {
    if let Literal::Is { word, mask, .. } | Literal::IsNot { word, mask, .. } = literal {
        if word.source() == Source::Derived {
            return;
        }
        if let Some(pin) = pinned.slot(word, reads_vmsa(word, view)) {
            *pin |= mask;
        }
    }
}
