//! Feature bits, the offer of a device, and the host's changes to the offer.
//!
//! Clauses: features-01..05, rsvd-01, rsvd-02, mmio-16, mmio-17, mmio-34.

use virtio_spec::{F, le128};

use crate::num;

/// A set of feature bits, 0 to 127. The specification reserves bits from 128 up; they read 0.
///
/// ```
/// use virtside::Features;
/// let offer = Features::VERSION_1.union(Features::EVENT_IDX);
/// assert!(offer.contains(Features::EVENT_IDX));
/// assert_eq!(offer.word(1), 1);
/// assert_eq!(offer.word(9), 0);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Features {
    // Two words instead of a u128, so that errors that contain a set are not aligned to 16 bytes.
    low: u64,
    high: u64,
}

/// Parts of the specification that are built in. Code of the other parts is eliminated.
pub(crate) mod built {
    pub(crate) const RING_RESET: bool = cfg!(feature = "ring-reset");
    pub(crate) const SUSPEND: bool = cfg!(feature = "suspend");
    pub(crate) const IN_ORDER: bool = cfg!(feature = "in-order");
}

impl Features {
    /// `VIRTIO_F_INDIRECT_DESC`
    pub const INDIRECT_DESC: Self = Self::from_spec(F::INDIRECT_DESC.bits());
    /// `VIRTIO_F_EVENT_IDX`
    pub const EVENT_IDX: Self = Self::from_spec(F::EVENT_IDX.bits());
    /// `VIRTIO_F_VERSION_1`
    pub const VERSION_1: Self = Self::from_spec(F::VERSION_1.bits());
    /// `VIRTIO_F_ACCESS_PLATFORM`
    pub const ACCESS_PLATFORM: Self = Self::from_spec(F::ACCESS_PLATFORM.bits());
    /// `VIRTIO_F_RING_PACKED`
    pub const RING_PACKED: Self = Self::from_spec(F::RING_PACKED.bits());
    /// `VIRTIO_F_IN_ORDER`: the device uses the buffers of a queue in the order in which they were
    /// made available.
    ///
    /// A model that answers when an external event happens excludes this feature
    /// ([`excluded`](crate::DeviceConfig::excluded)). Otherwise an answer may wait for an older
    /// answer that never comes.
    pub const IN_ORDER: Self = Self::from_spec(F::IN_ORDER.bits());
    /// `VIRTIO_F_ORDER_PLATFORM`
    pub const ORDER_PLATFORM: Self = Self::from_spec(F::ORDER_PLATFORM.bits());
    /// `VIRTIO_F_NOTIFICATION_DATA`
    pub const NOTIFICATION_DATA: Self = Self::from_spec(F::NOTIFICATION_DATA.bits());
    /// `VIRTIO_F_RING_RESET`
    pub const RING_RESET: Self = Self::from_spec(F::RING_RESET.bits());
    /// `VIRTIO_F_SUSPEND`
    pub const SUSPEND: Self = Self::from_spec(F::SUSPEND.bits());

    /// Bits that belong to a device type: 0 to 23, 42 and 50 to 127. (Bit 41 is `ADMIN_VQ`, which
    /// virtio-mmio reserves.)
    pub const DEVICE_TYPE: Self =
        Self::from_bits(0x00ff_ffff | (1 << 42) | (u128::MAX ^ ((1 << 50) - 1)));

    /// Ring and transport features for a device that answers every chain without waiting for an
    /// external event. RING_PACKED is not among them.
    ///
    /// A device that keeps chains until an external event happens returns true from
    /// [`may_sleep`](crate::DeviceModel::may_sleep) or leaves SUSPEND out. Otherwise a suspension
    /// of the device never completes.
    pub const RING: Self = Self::INDIRECT_DESC
        .union(Self::EVENT_IDX)
        .union(Self::VERSION_1)
        .union(Self::if_built(built::RING_RESET, Self::RING_RESET))
        .union(Self::if_built(built::SUSPEND, Self::SUSPEND));

    /// [`RING`](Self::RING), and RING_PACKED if it is built in. The ready-made models offer this
    /// set.
    pub const ALL_RINGS: Self = Self::RING.union(Self::FORMATS);

    const fn if_built(built: bool, feature: Self) -> Self {
        if built { feature } else { Self::empty() }
    }

    /// Features that a host may add to a device's offer or withhold from it: see [`Offer`].
    const HOSTS: Self = Self::RING
        .union(Self::FORMATS)
        .union(Self::NOTIFICATION_DATA)
        .union(Self::if_built(built::IN_ORDER, Self::IN_ORDER))
        .union(Self::ACCESS_PLATFORM)
        .union(Self::ORDER_PLATFORM);

    /// Features of the ring formats that are built in, other than the split ring.
    const FORMATS: Self = Self::if_built(cfg!(feature = "packed"), Self::RING_PACKED);

    /// Features that every driver must accept: VERSION_1, and RING_PACKED if the split ring is not
    /// built in.
    pub const REQUIRED: Self = if cfg!(feature = "split") {
        Self::VERSION_1
    } else {
        Self::VERSION_1.union(Self::RING_PACKED)
    };

    /// Returns the empty set.
    #[must_use]
    pub const fn empty() -> Self {
        Self { low: 0, high: 0 }
    }

    /// Returns the set of the specification's 128-bit little-endian flags, e.g.
    /// `virtio_spec::blk::F::RO.bits()`.
    #[must_use]
    pub const fn from_spec(bits: le128) -> Self {
        Self::from_bits(bits.to_ne())
    }

    /// Returns the set for a value in native byte order.
    #[must_use]
    pub const fn from_bits(bits: u128) -> Self {
        let [a, b, c, d, e, f, g, h, rest @ ..] = bits.to_le_bytes();
        Self {
            low: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            high: u64::from_le_bytes(rest),
        }
    }

    /// Returns the set as a value in native byte order.
    #[must_use]
    pub const fn bits(self) -> u128 {
        let [a, b, c, d, e, f, g, h] = self.low.to_le_bytes();
        let [i, j, k, l, m, n, o, p] = self.high.to_le_bytes();
        u128::from_le_bytes([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p])
    }

    pub(crate) const fn halves(self) -> [u64; 2] {
        [self.low, self.high]
    }

    pub(crate) const fn from_halves([low, high]: [u64; 2]) -> Self {
        Self { low, high }
    }

    /// Returns whether the set contains no bit.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.low == 0 && self.high == 0
    }

    /// Returns whether the set contains every bit of `other`.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.low & other.low == other.low && self.high & other.high == other.high
    }

    /// Returns the bits that are in either set.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self {
            low: self.low | other.low,
            high: self.high | other.high,
        }
    }

    /// Returns the bits that are in both sets.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self {
            low: self.low & other.low,
            high: self.high & other.high,
        }
    }

    /// Returns the bits of this set that are not in `other`.
    #[must_use]
    pub const fn difference(self, other: Self) -> Self {
        Self {
            low: self.low & !other.low,
            high: self.high & !other.high,
        }
    }

    /// Returns bits `32 * word ..= 32 * word + 31`, or 0 beyond bit 127.
    #[must_use]
    pub const fn word(self, word: u32) -> u32 {
        let half = match word {
            0 | 1 => self.low,
            2 | 3 => self.high,
            _ => 0,
        };
        let [a, b, c, d, e, f, g, h] = half.to_le_bytes();
        if word & 1 == 0 {
            u32::from_le_bytes([a, b, c, d])
        } else {
            u32::from_le_bytes([e, f, g, h])
        }
    }

    /// Returns bits 0 to 63.
    pub(crate) const fn lower(self) -> u64 {
        self.low
    }

    /// Returns the set with bits 0 to 63 replaced by `low`.
    pub(crate) const fn with_lower(self, low: u64) -> Self {
        Self { low, ..self }
    }

    /// Replaces bits `32 * word ..= 32 * word + 31`. Returns false if the word is beyond bit 127.
    pub(crate) fn set_word(&mut self, word: u32, value: u32) -> bool {
        match word {
            0 => self.low = num::with_low(self.low, value),
            1 => self.low = num::with_high(self.low, value),
            2 => self.high = num::with_low(self.high, value),
            3 => self.high = num::with_high(self.high, value),
            _ => return false,
        }
        true
    }

    /// Returns the features that a device may offer if it wants `wanted`: the bits of its device
    /// type, the ring and transport features that are built in, ACCESS_PLATFORM and ORDER_PLATFORM
    /// if `wanted` contains them, and always [`REQUIRED`](Self::REQUIRED) (features-04, rsvd-01).
    ///
    /// The result never contains NOTIF_CONFIG_DATA, which virtio-mmio does not define, nor ADMIN_VQ
    /// (mmio-34).
    #[must_use]
    pub const fn offer(wanted: Self) -> Self {
        let allowed = Self::DEVICE_TYPE.union(Self::HOSTS);
        wanted.intersection(allowed).union(Self::REQUIRED)
    }
}

/// A host's changes to the features that a device offers: features to add, and features to
/// withhold.
///
/// The changes apply to ring and transport features that depend on the device's environment, not on
/// its type. Features that the model [excludes](crate::DeviceConfig::excluded) are not offered even
/// if the host adds them. [`Engine::offer`](crate::Engine::offer) returns the resulting offer.
///
/// ```
/// use virtside::{Features, features::Offer};
/// let offer = Offer::AS_IS.with(Features::ACCESS_PLATFORM).without(Features::EVENT_IDX);
/// let offered = offer.of(Features::RING);
/// assert!(offered.contains(Features::ACCESS_PLATFORM));
/// assert!(!offered.contains(Features::EVENT_IDX));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Offer {
    // Bits 24 to 55: they contain every ring and transport feature.
    more: u32,
    fewer: u32,
}

const _: () = assert!(spread(middle(Features::HOSTS)) == Features::HOSTS.low);

/// Returns bits 24 to 55.
const fn middle(features: Features) -> u32 {
    let [_, _, _, a, b, c, d, _] = features.low.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// Returns the lower half of a set whose bits 24 to 55 are `middle`.
const fn spread(middle: u32) -> u64 {
    let [a, b, c, d] = middle.to_le_bytes();
    u64::from_le_bytes([0, 0, 0, a, b, c, d, 0])
}

impl Offer {
    /// No changes: the device offers the features that its model wants.
    pub const AS_IS: Self = Self { more: 0, fewer: 0 };

    /// Adds features to the offer. Bits of a device type and features that are not implemented are
    /// ignored.
    #[must_use]
    pub const fn with(self, features: Features) -> Self {
        let these = middle(features.intersection(Features::HOSTS));
        Self {
            more: self.more | these,
            fewer: self.fewer & !these,
        }
    }

    /// Withholds features from the offer. Bits of a device type and
    /// [`REQUIRED`](Features::REQUIRED) features are ignored.
    #[must_use]
    pub const fn without(self, features: Features) -> Self {
        let these = middle(features.intersection(Features::HOSTS));
        Self {
            more: self.more & !these,
            fewer: self.fewer | these,
        }
    }

    /// Applies the changes to the features `wanted` of a model, and returns the resulting offer.
    /// See [`Features::offer`].
    #[must_use]
    pub const fn of(self, wanted: Features) -> Features {
        Features::offer(Features {
            low: (wanted.low | spread(self.more)) & !spread(self.fewer),
            ..wanted
        })
    }
}

/// Writes ring and transport features by name and all others by number, as in
/// `bit 1, EVENT_IDX, VERSION_1`.
///
/// ```
/// use virtside::Features;
/// let features = Features::VERSION_1 | Features::from_bits(1 << 9 | 1);
/// assert_eq!(std::format!("{features}"), "bit 0, bit 9, VERSION_1");
/// assert_eq!(std::format!("{}", Features::empty()), "none");
/// ```
impl core::fmt::Display for Features {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        let all = self.bits();
        let bits = (0_u32..128).filter(|bit| all.wrapping_shr(*bit) & 1 != 0);
        for (at, bit) in bits.enumerate() {
            if at != 0 {
                f.write_str(", ")?;
            }
            let this = Self::from_bits(1_u128.wrapping_shl(bit));
            match NAMES.iter().find(|(feature, _)| *feature == this) {
                Some((_, name)) => f.write_str(name)?,
                None => write!(f, "bit {bit}")?,
            }
        }
        Ok(())
    }
}

/// The specification's names of the ring and transport features, without `VIRTIO_F_`.
const NAMES: [(Features, &str); 10] = [
    (Features::INDIRECT_DESC, "INDIRECT_DESC"),
    (Features::EVENT_IDX, "EVENT_IDX"),
    (Features::VERSION_1, "VERSION_1"),
    (Features::ACCESS_PLATFORM, "ACCESS_PLATFORM"),
    (Features::RING_PACKED, "RING_PACKED"),
    (Features::IN_ORDER, "IN_ORDER"),
    (Features::ORDER_PLATFORM, "ORDER_PLATFORM"),
    (Features::NOTIFICATION_DATA, "NOTIFICATION_DATA"),
    (Features::RING_RESET, "RING_RESET"),
    (Features::SUSPEND, "SUSPEND"),
];

impl core::fmt::Debug for Features {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Features({:#x})", self.bits())
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for Features {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "Features({=u128:#x})", self.bits());
    }
}

impl core::ops::BitOr for Features {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        self.union(other)
    }
}
