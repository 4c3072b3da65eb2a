//! Constants of the GPIO device that the crate `virtio-spec` lacks.

use crate::features::Features;

/// `VIRTIO_GPIO_F_IRQ`
pub(super) const F_IRQ: Features = Features::from_bits(1);

/// Size of `virtio_gpio_request` in bytes: type, line, value.
pub(super) const REQUEST: usize = 8;

/// `VIRTIO_GPIO_STATUS_OK`
pub(super) const STATUS_OK: u8 = 0;
/// `VIRTIO_GPIO_STATUS_ERR`
pub(super) const STATUS_ERR: u8 = 1;

/// `VIRTIO_GPIO_IRQ_STATUS_INVALID`
pub(super) const IRQ_INVALID: u8 = 0;
/// `VIRTIO_GPIO_IRQ_STATUS_VALID`
pub(super) const IRQ_VALID: u8 = 1;

/// Type of a request (`VIRTIO_GPIO_MSG_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    LineNames,
    GetDirection,
    SetDirection,
    GetValue,
    SetValue,
    SetTrigger,
}

impl Kind {
    pub(super) const fn parse(kind: u16) -> Option<Self> {
        Some(match kind {
            1 => Self::LineNames,
            2 => Self::GetDirection,
            3 => Self::SetDirection,
            4 => Self::GetValue,
            5 => Self::SetValue,
            6 => Self::SetTrigger,
            _ => return None,
        })
    }
}

/// Direction of a line (`VIRTIO_GPIO_DIRECTION_*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Direction {
    /// The line is not in use.
    #[default]
    None,
    /// The line is driven.
    Output,
    /// The line is read.
    Input,
}

impl Direction {
    pub(super) const fn parse(value: u32) -> Option<Self> {
        Some(match value {
            0 => Self::None,
            1 => Self::Output,
            2 => Self::Input,
            _ => return None,
        })
    }

    pub(super) const fn value(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Output => 1,
            Self::Input => 2,
        }
    }
}

/// The condition on which a line interrupts (`VIRTIO_GPIO_IRQ_TYPE_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Trigger {
    /// The line goes high.
    RisingEdge,
    /// The line goes low.
    FallingEdge,
    /// The line goes high or low.
    BothEdges,
    /// The line is high.
    HighLevel,
    /// The line is low.
    LowLevel,
}

impl Trigger {
    /// Decodes a trigger type. Returns `Some(None)` for `VIRTIO_GPIO_IRQ_TYPE_NONE`, and `None` for
    /// an unknown type.
    pub(super) const fn parse(value: u32) -> Option<Option<Self>> {
        Some(Some(match value {
            0 => return Some(None),
            1 => Self::RisingEdge,
            2 => Self::FallingEdge,
            3 => Self::BothEdges,
            4 => Self::HighLevel,
            8 => Self::LowLevel,
            _ => return None,
        }))
    }

    /// Returns whether the trigger is an edge. Edges are latched while the interrupt is masked.
    #[must_use]
    pub const fn is_edge(self) -> bool {
        matches!(self, Self::RisingEdge | Self::FallingEdge | Self::BothEdges)
    }

    /// Returns whether a line with this trigger interrupts. `before` is the earlier level of the
    /// line, and `now` is the current level. True means high.
    #[must_use]
    pub const fn fires(self, before: bool, now: bool) -> bool {
        match self {
            Self::RisingEdge => !before && now,
            Self::FallingEdge => before && !now,
            Self::BothEdges => before != now,
            Self::HighLevel => now,
            Self::LowLevel => !now,
        }
    }
}
