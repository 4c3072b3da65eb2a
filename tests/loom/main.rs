//! Core's queues under loom: every interleaving of the two sides of a ring, and every value that a
//! load may return, where the sides publish, suppress and look again.
//!
//! The queue code is core's own, used through taken queues. Its memory consists of loom's atomics,
//! with core's memory orders and core's fence. The driver is written for these tests after the
//! specification, and is always right. A test that weakens an order weakens the device's, and loom
//! has to find the error. Explorations are complete: preemptions have no bound. Loom does not model
//! a store that becomes visible before an earlier load of its thread.
//!
//! Nothing waits in an exploration. A side that would sleep ends its thread; when both have ended,
//! each side that was woken continues alone. Work that is left when neither side is awake is a lost
//! wake-up.

mod driver;
mod expected;
mod memory;
mod orders;
mod scenario;

use virtside::Features;

/// The format and the kind of suppression of one exploration.
#[derive(Clone, Copy, Debug)]
struct Kind {
    packed: bool,
    event_idx: bool,
    in_order: bool,
}

const SPLIT: Kind = Kind {
    packed: false,
    event_idx: false,
    in_order: false,
};
const SPLIT_EVENT_IDX: Kind = Kind {
    event_idx: true,
    ..SPLIT
};
const PACKED: Kind = Kind {
    packed: true,
    ..SPLIT
};
const PACKED_EVENT_IDX: Kind = Kind {
    packed: true,
    ..SPLIT_EVENT_IDX
};

/// The four kinds with IN_ORDER.
const fn in_order(kind: Kind) -> Kind {
    Kind {
        in_order: true,
        ..kind
    }
}

impl Kind {
    fn features(self) -> Features {
        let mut features = Features::VERSION_1;
        if self.packed {
            features = features.union(Features::RING_PACKED);
        }
        if self.event_idx {
            features = features.union(Features::EVENT_IDX);
        }
        if self.in_order {
            features = features.union(Features::IN_ORDER);
        }
        features
    }
}
