//! Core's queues under loom: every interleaving of the two sides of a ring, and every value that a
//! load may give, at the places where they publish, suppress and look again.
//!
//! The queue code is core's own, reached through taken queues. It runs over a memory whose words are
//! loom's atomics, with core's orders and core's fence. The driver is ours, written after the
//! specification, and always right; where a test weakens an order it is the device's, and loom has to
//! find out. Explorations are complete: there is no bound on preemptions. What loom does not model is
//! a store that is seen before an earlier load of its thread.
//!
//! Nobody waits in an exploration. A side that would sleep ends its thread; when both have ended,
//! whoever was woken meanwhile goes on, alone. Work that is left when nobody is awake is a lost
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

/// The four with IN_ORDER.
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
