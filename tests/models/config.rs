//! The configuration space and the offer, as a transport of messages reads them.

use virtside::{DeviceConfig, Features, features::Offer};

use crate::{case::ModelCase, *};

fn the_whole_configuration_can_be_read_and_no_more<C: ModelCase>() {
    for (case, _) in C::all() {
        let model = case.model();
        let len = model.config_len();
        let mut bytes = vec![0; len as usize];
        assert!(
            len == 0 || model.read_config(0, &mut bytes),
            "all {len} bytes"
        );
        bytes.push(0);
        assert!(!model.read_config(0, &mut bytes), "more than {len} bytes");
        assert!(!model.read_config(len, &mut [0]));
    }
}

fn an_offer_leaves_out_what_the_model_excludes<C: ModelCase>() {
    for (case, _) in C::all() {
        let model = case.model();
        let wished = Offer::AS_IS.with(Features::IN_ORDER | Features::ACCESS_PLATFORM);
        let offered = model.offer(wished);
        assert!(offered.contains(Features::REQUIRED | Features::ACCESS_PLATFORM));
        let excluded = model.excluded().contains(Features::IN_ORDER);
        assert_eq!(offered.contains(Features::IN_ORDER), !excluded);
        let withheld = model.offer(Offer::AS_IS.without(Features::EVENT_IDX));
        assert!(!withheld.contains(Features::EVENT_IDX));
    }
}

over_models! {
    blk console entropy gpio i2c spi: {
        the_whole_configuration_can_be_read_and_no_more
        an_offer_leaves_out_what_the_model_excludes
    }
}
