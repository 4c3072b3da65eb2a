//! A model as the suites in this folder use it.

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
/// Chains that a snapshot has room for.
const CHAINS: usize = 16;

/// A device of these suites.
pub type Device<D> = Engine<D, FlatMem, Line, Q, N, Vec<ChainSlot<N>>, Arc<Shared<Q>>>;
/// A snapshot of a device.
pub type State<D> = EngineSnapshot<<D as SaveModel>::Snapshot, Q, N, CHAINS>;
/// Several devices of one case, which all get the same requests.
pub type RigOf<C> = DifferentialRig<<C as ModelCase>::Model, <C as ModelCase>::Seen>;

/// One way to set a model up, what a driver and a host do with it at random, and what the back end
/// observes.
pub trait ModelCase: Clone + 'static {
    type Model: SaveModel<Snapshot: Clone + Debug + PartialEq> + 'static;
    /// What the back end was asked to do.
    type Seen: Debug + PartialEq + 'static;

    /// Number of random steps with each set of ring features.
    const STEPS: u32;
    /// Whether the same scenario gives the same answers, to the byte, each time.
    const REPEATS: bool;

    /// Each way to set the model up, with a seed.
    fn all() -> Vec<(Self, u64)>;
    /// A fresh model with a back end that records its calls.
    fn model(&self) -> Self::Model;
    /// Features of the device type that the driver wants.
    fn features(&self) -> Features {
        Features::empty()
    }
    /// Queues that the driver sets up.
    fn queues(&self) -> u16 {
        1
    }
    /// The back end's calls since the last call of this function.
    fn observe(model: &mut Self::Model) -> Self::Seen;

    /// Called when the devices are live for the first time.
    fn begin(&mut self, rig: &mut RigOf<Self>) {
        let _ = rig;
    }
    /// A random step: the driver sends a few chains, good or bad, or the host does something.
    fn step(&mut self, rig: &mut RigOf<Self>, random: &mut Random) -> Outcome;
    /// Sends a good request after the driver has set everything up again; it is answered.
    fn cure(&mut self, rig: &mut RigOf<Self>);
    /// Asserts that the steps had different results; otherwise the comparison would say little.
    fn assert_varied(&self, given: u32, faults: u32);

    /// Chains that are all answered.
    fn scenario(&self) -> Vec<Chain>;
    /// A fresh model for the scenario.
    fn scenario_model(&self) -> Self::Model {
        self.model()
    }

    /// The case without back ends that fail: after a restore, the back ends are asked again for
    /// chains that wait.
    fn without_trouble(self) -> Self {
        self
    }
    /// A fresh model for a restore, in the same environment as `old`.
    fn successor(&self, old: &Self::Model) -> Self::Model {
        let _ = old;
        self.model()
    }
    /// Exchanges the back ends of two models.
    fn swap_back_ends(one: &mut Self::Model, other: &mut Self::Model);
    /// What [`Self::observe`] gives, without what may differ after a restore.
    fn observe_restored(model: &mut Self::Model) -> Self::Seen {
        Self::observe(model)
    }
}

/// A model whose snapshot has a version.
pub trait Versioned: ModelCase {
    fn version(state: &mut <Self::Model as SaveModel>::Snapshot) -> &mut u16;
}

/// Compares devices at random steps, with each set of ring features.
pub fn play<C: ModelCase>(prepare: impl Fn(C) -> C, rig: impl Fn(&C, Features) -> RigOf<C>) {
    for (case, seed) in C::all() {
        let mut case = prepare(case);
        let mut random = Random::new(seed);
        let (mut given, mut faults) = (0, 0);
        for mix in mixes() {
            let mut rig = rig(&case, case.features() | mix);
            case.begin(&mut rig);
            for _ in 0..C::STEPS {
                if let Outcome::Fault(..) = case.step(&mut rig, &mut random) {
                    case.cure(&mut rig);
                }
            }
            given += rig.given;
            faults += rig.faults;
        }
        case.assert_varied(given, faults);
    }
}
