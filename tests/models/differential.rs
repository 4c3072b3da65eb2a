//! Random steps, good and bad, have the same results on both ring formats and over every transport.

use virtside_tests::differential::DifferentialRig;

use crate::{
    case::{Q, play},
    conversation::join_conversation,
    *,
};

fn hostile_drivers_end_alike_on_every_transport<C: ModelCase>() {
    play::<C>(
        |case| case,
        |case, wanted| {
            let model = || case.model();
            let mut rig = DifferentialRig::new::<Q>(model, wanted, case.queues(), C::observe);
            join_conversation::<_, _, Q>(&mut rig, case.model());
            rig
        },
    );
}

over_models! {
    blk console entropy gpio i2c spi: { hostile_drivers_end_alike_on_every_transport }
}
