//! What was negotiated of interrupts and order, in either format.

use crate::features::{Features, built};

/// In one byte, so that the good path asks once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Flags,
    EventIdx,
    InOrderFlags,
    InOrderEventIdx,
}

impl Mode {
    pub(super) fn of(features: Features) -> Self {
        let in_order = built::IN_ORDER && features.contains(Features::IN_ORDER);
        match (in_order, features.contains(Features::EVENT_IDX)) {
            (false, false) => Self::Flags,
            (false, true) => Self::EventIdx,
            (true, false) => Self::InOrderFlags,
            (true, true) => Self::InOrderEventIdx,
        }
    }

    pub(super) const fn event_idx(self) -> bool {
        matches!(self, Self::EventIdx | Self::InOrderEventIdx)
    }

    pub(super) const fn in_order(self) -> bool {
        built::IN_ORDER && matches!(self, Self::InOrderFlags | Self::InOrderEventIdx)
    }
}
