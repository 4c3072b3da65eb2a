//! A driver that changes memory while the device reads it.

use virtside::Features;
use virtside_tests::differential::shift_each_load;

use crate::{case::Q, *};

fn memory_that_changes_before_any_load_is_cured_by_a_reset<C: ModelCase>() {
    for (case, _) in C::all() {
        for mix in [Features::empty(), Features::INDIRECT_DESC, Features::RING] {
            let model = || case.scenario_model();
            let wanted = case.features() | mix;
            let scenario = case.scenario();
            let [fine, faults] = shift_each_load::<_, Q>(model, wanted, &scenario, C::REPEATS);
            assert!(fine > 50 && faults > 3, "{fine} fine, {faults} faults");
        }
    }
}

over_models! {
    blk console entropy gpio i2c spi: { memory_that_changes_before_any_load_is_cured_by_a_reset }
}
