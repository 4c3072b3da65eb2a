//! A model as these suites use it.

use std::{fmt::Debug, sync::Arc};

use virtside::{
    ChainSlot, Engine, Features, FlatMem, Shared, model::SaveModel, snapshot::EngineSnapshot,
};
use virtside_tests::{
    Line, N,
    differential::{Chain, DifferentialRig, Outcome, mixes},
    random::Random,
};

/// Queues that each device has room for.
pub const Q: usize = 8;
/// Chains that a state has room for.
const CHAINS: usize = 16;

/// A device of these suites.
pub type Device<D> = Engine<D, FlatMem, Line, Q, N, Vec<ChainSlot<N>>, Arc<Shared<Q>>>;
/// Its state.
pub type State<D> = EngineSnapshot<<D as SaveModel>::Snapshot, Q, N, CHAINS>;
/// Several devices of one case, whose drivers do the same.
pub type CompanyOf<C> = DifferentialRig<<C as ModelCase>::Model, <C as ModelCase>::Seen>;

/// One way to set a model up, what a driver and a host do with it at random, and what comes of it.
pub trait ModelCase: Clone + 'static {
    type Model: SaveModel<Snapshot: Clone + Debug + PartialEq> + 'static;
    /// What the back end was asked.
    type Seen: Debug + PartialEq + 'static;

    /// Random steps with each set of ring features.
    const STEPS: u32;
    /// The same scenario has the same answers, to the byte, each time it is played.
    const REPEATS: bool;

    /// Each way to set the model up, with a seed.
    fn all() -> Vec<(Self, u64)>;
    /// A fresh model with a back end that writes down what it is asked.
    fn model(&self) -> Self::Model;
    /// Features of the device type that the driver wants.
    fn features(&self) -> Features {
        Features::empty()
    }
    /// Queues that the driver sets up.
    fn queues(&self) -> u16 {
        1
    }
    /// What the back end was asked since this was last called.
    fn observe(model: &mut Self::Model) -> Self::Seen;

    /// The devices are live for the first time.
    fn begin(&mut self, company: &mut CompanyOf<Self>) {
        let _ = company;
    }
    /// The driver sends a few chains, good and bad, or the host does something.
    fn step(&mut self, company: &mut CompanyOf<Self>, random: &mut Random) -> Outcome;
    /// A driver was found at fault, and set all up again: a good request is answered.
    fn cure(&mut self, company: &mut CompanyOf<Self>);
    /// Of the steps so far not all came to the same end, or a comparison would say little.
    fn assert_varied(&self, given: u32, faults: u32);

    /// Chains that are all answered.
    fn scenario(&self) -> Vec<Chain>;
    /// A fresh model for the scenario.
    fn scenario_model(&self) -> Self::Model {
        self.model()
    }

    /// The case without back ends that fail: after a restore they are asked once more for what waits.
    fn without_trouble(self) -> Self {
        self
    }
    /// A fresh model in the surroundings of `old`, as a restore needs it.
    fn successor(&self, old: &Self::Model) -> Self::Model {
        let _ = old;
        self.model()
    }
    /// Exchanges the back ends of two models.
    fn swap_back_ends(one: &mut Self::Model, other: &mut Self::Model);
    /// What [`Self::observe`] gives, but for what may differ after a restore.
    fn observe_restored(model: &mut Self::Model) -> Self::Seen {
        Self::observe(model)
    }
}

/// A model whose state has a version.
pub trait Versioned: ModelCase {
    fn version(state: &mut <Self::Model as SaveModel>::Snapshot) -> &mut u16;
}

/// Compares companies at random steps, with each set of ring features.
pub fn play<C: ModelCase>(
    prepare: impl Fn(C) -> C,
    company: impl Fn(&C, Features) -> CompanyOf<C>,
) {
    for (case, seed) in C::all() {
        let mut case = prepare(case);
        let mut random = Random::new(seed);
        let (mut given, mut faults) = (0, 0);
        for mix in mixes() {
            let mut company = company(&case, case.features() | mix);
            case.begin(&mut company);
            for _ in 0..C::STEPS {
                if let Outcome::Fault(..) = case.step(&mut company, &mut random) {
                    case.cure(&mut company);
                }
            }
            given += company.given;
            faults += company.faults;
        }
        case.assert_varied(given, faults);
    }
}
