//! What VMRUN's checks read of the executing CPU, as far as it is the same for each VMRUN.

use vmcb::{Answer, Environment, Host as Facts, Input, Inputs, TakesOver};

/// What the engine answers for itself: it runs no SEV guests, so there is no VMSA and no RMP.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Engine {}

impl TakesOver for Engine {
    const INPUTS: Inputs = Inputs::EMPTY.with(Input::Vmsa).with(Input::Rmp).with(Input::SiblingThread);
}

/// The same of an L2 without PAE paging of its own, which has no page directory pointers
/// (`Nested::needs_pdptes`).
#[derive(Clone, Copy, Debug)]
pub(crate) enum WithoutPdptes {}

impl TakesOver for WithoutPdptes {
    const INPUTS: Inputs = Engine::INPUTS.with(Input::Pdptes);
}

/// What holds of the executing CPU unless something else is stated, and what the engine answers for itself.
pub(crate) const FIXED: Environment<'static> = Environment::unknown()
    .with(KNOWN, Answer::No)
    .take_over(Input::Vmsa)
    .take_over(Input::Rmp)
    .take_over(Input::SiblingThread);

/// The same for [`WithoutPdptes`].
pub(crate) const PLAIN: Environment<'static> = FIXED.take_over(Input::Pdptes);

/// Facts of the host that are known; those that are not named in `environment` do not hold in a virtual CPU without
/// SMM, memory encryption and IBS.
const KNOWN: Facts = Facts::from_bits(Input::HostMode.facts().bits() | Input::HostMsrs.facts().bits());
