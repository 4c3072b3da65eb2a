//! Device status and feature negotiation.

use virtio_spec::DeviceStatus;

use super::{DONE, Outstanding, Reply, Transport};
use crate::{
    error::Refusal,
    features::{Features, built},
    interrupt::DriverNotify,
    model::DeviceConfig,
    num,
    shared::Shared,
};

/// Phase of the device.
///
/// The phase is stored and not derived from the status bits, because a suspended device shows
/// DRIVER_OK as 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Phase {
    /// Status is 0.
    Reset,
    /// ACKNOWLEDGE or DRIVER is set.
    Negotiating,
    /// FEATURES_OK is set.
    SettingUp,
    /// DRIVER_OK is set.
    Live,
    /// SUSPEND was written, and the chains in hand are being finished. Status is unchanged.
    Suspending,
    /// SUSPEND is set and DRIVER_OK is clear. The device does not access the driver's memory and
    /// sends no notification.
    Suspended,
    /// The driver set FAILED.
    Failed,
}

impl Phase {
    const fn is_started(self) -> bool {
        matches!(self, Self::Live | Self::Suspending | Self::Suspended)
    }

    pub(super) const fn is_before_live(self) -> bool {
        matches!(self, Self::Reset | Self::Negotiating | Self::SettingUp)
    }
}

/// Change that a write to Status asks for. ACKNOWLEDGE and DRIVER only set their own bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StatusChange {
    Nothing,
    Fail,
    Suspend,
    Resume,
    /// FEATURES_OK or DRIVER_OK is added.
    SetUp,
}

/// Returns the bits that a non-zero write to Status adds in this phase, and the change that it asks
/// for.
///
/// The driver may add only its own bits, and may clear no bit.
fn decide(
    status: DeviceStatus,
    phase: Phase,
    written: DeviceStatus,
    can_suspend: bool,
) -> Result<(DeviceStatus, StatusChange), Refusal> {
    // DEVICE_NEEDS_RESET belongs to the device. SUSPEND is ignored before DRIVER_OK, and if it was
    // not negotiated (suspend-01).
    let mut drivers = DeviceStatus::ACKNOWLEDGE
        | DeviceStatus::DRIVER
        | DeviceStatus::FEATURES_OK
        | DeviceStatus::DRIVER_OK
        | DeviceStatus::FAILED;
    drivers.set(DeviceStatus::SUSPEND, can_suspend);
    let new = written.intersection(drivers);
    // A set bit may be written again, even if the driver may no longer add it.
    let mut missing = status.difference(written);
    if can_suspend && (phase != Phase::Live || new.contains(DeviceStatus::SUSPEND)) {
        // During a suspension the device changes these two bits itself.
        missing.remove(DeviceStatus::SUSPEND | DeviceStatus::DRIVER_OK);
    }
    if !missing.is_empty() {
        return Err(Refusal::StatusBitsCleared {
            missing: missing.bits(),
        });
    }
    let added = new.difference(status);
    let change = if phase == Phase::Failed {
        if !added.is_empty() {
            return Err(Refusal::WrongPhase);
        }
        StatusChange::Nothing
    } else if added.contains(DeviceStatus::FAILED) {
        StatusChange::Fail
    } else if can_suspend {
        match phase {
            Phase::Live if added.contains(DeviceStatus::SUSPEND) => StatusChange::Suspend,
            Phase::Suspended if added.contains(DeviceStatus::DRIVER_OK) => StatusChange::Resume,
            _ => StatusChange::Nothing,
        }
    } else if added.intersects(DeviceStatus::FEATURES_OK | DeviceStatus::DRIVER_OK) {
        StatusChange::SetUp
    } else {
        StatusChange::Nothing
    };
    Ok((added, change))
}

/// Status, phase and selected features.
#[derive(Debug)]
pub(super) struct Handshake {
    pub(super) status: DeviceStatus,
    pub(super) phase: Phase,
    pub(super) device_features_sel: u32,
    pub(super) driver_features_sel: u32,
    pub(super) driver_features: Features,
    /// Whether the driver wrote non-zero bits to a feature word beyond bit 127.
    pub(super) beyond: bool,
}

impl Handshake {
    pub(super) const NEW: Self = Self {
        status: DeviceStatus::empty(),
        phase: Phase::Reset,
        device_features_sel: 0,
        driver_features_sel: 0,
        driver_features: Features::empty(),
        beyond: false,
    };
}

impl<const Q: usize> Transport<Q> {
    /// Returns the phase of the device.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.handshake.phase
    }

    /// Returns the device status field, as the driver reads it.
    #[must_use]
    pub fn status(&self, shared: &Shared<Q>) -> DeviceStatus {
        let mut status = self.handshake.status;
        status.set(DeviceStatus::DEVICE_NEEDS_RESET, shared.needs_reset());
        status
    }

    /// Returns the features that the driver accepted so far.
    #[must_use]
    pub const fn driver_features(&self) -> Features {
        self.handshake.driver_features
    }

    /// Returns the selected 32-bit word of the offer (mmio-16).
    #[inline(never)]
    pub fn device_features<C: DeviceConfig>(&mut self, config: &mut C) -> u32 {
        self.set_capacity(config);
        match self.handshake.device_features_sel {
            0 => num::low(self.lower_offer(config)),
            1 => num::high(self.lower_offer(config)),
            word => Features::offer(config.features()).word(word),
        }
    }

    /// Returns the features that the driver is offered.
    pub fn offer<C: DeviceConfig>(&mut self, config: &mut C) -> Features {
        self.set_capacity(config);
        self.offer_of(config)
    }

    fn offer_of<C: DeviceConfig>(&self, config: &C) -> Features {
        Features::offer(config.features()).with_lower(self.lower_offer(config))
    }

    /// Returns bits 0 to 63 of the offer. A host may change only these bits.
    #[inline(never)]
    fn lower_offer<C: DeviceConfig>(&self, config: &C) -> u64 {
        let offer = self.offer.without(config.excluded());
        offer.of(config.features()).lower()
    }

    /// Writes the selected 32-bit word of the accepted features (mmio-17). Refused after
    /// FEATURES_OK.
    #[inline(never)]
    pub fn accept_features(&mut self, value: u32) -> Reply {
        if !matches!(self.handshake.phase, Phase::Reset | Phase::Negotiating) {
            return Refusal::FeaturesFixed.into();
        }
        if !self
            .handshake
            .driver_features
            .set_word(self.handshake.driver_features_sel, value)
        {
            // Stays set until reset, because the written words are not stored.
            self.handshake.beyond |= value != 0;
        }
        DONE
    }

    /// Writes Status (mmio-24, mmio-25, status-01, suspend-01). 0 asks for a reset. `offset` is the
    /// offset of the register in a refusal.
    #[inline(never)]
    pub fn write_status<C: DeviceConfig, I: DriverNotify>(
        &mut self,
        offset: u32,
        value: u32,
        config: &mut C,
        shared: &Shared<Q>,
        notify: &I,
    ) -> Reply {
        self.set_capacity(config);
        if value == 0 {
            return self.expect(Outstanding::Reset);
        }
        let Ok(byte) = u8::try_from(value) else {
            return Refusal::BadValue { offset, value }.into();
        };
        // A device whose DRIVER_OK was refused does not run and cannot be suspended.
        let can_suspend = built::SUSPEND
            && shared.is_live()
            && self.handshake.phase.is_started()
            && self.has_negotiated(Features::SUSPEND);
        let Handshake { status, phase, .. } = self.handshake;
        let written = DeviceStatus::from_bits_retain(byte);
        match decide(status, phase, written, can_suspend) {
            Ok((added, change)) => self.apply(added, change, config, shared, notify),
            Err(refusal) => refusal.into(),
        }
    }

    fn apply<C: DeviceConfig, I: DriverNotify>(
        &mut self,
        added: DeviceStatus,
        change: StatusChange,
        config: &mut C,
        shared: &Shared<Q>,
        notify: &I,
    ) -> Reply {
        self.handshake.status |=
            added.intersection(DeviceStatus::ACKNOWLEDGE | DeviceStatus::DRIVER);
        if self.handshake.phase == Phase::Reset && !self.handshake.status.is_empty() {
            self.handshake.phase = Phase::Negotiating;
        }
        match change {
            StatusChange::Nothing => DONE,
            StatusChange::Fail => {
                self.handshake.status |= DeviceStatus::FAILED;
                self.handshake.phase = Phase::Failed;
                shared.give_up();
                shared.stop_all();
                // FAILED ends a suspension.
                shared.release_held(notify);
                DONE
            }
            StatusChange::Suspend => self.expect(Outstanding::Suspend { reading: false }),
            StatusChange::Resume => self.expect(Outstanding::Resume),
            StatusChange::SetUp => self.set_up(added, config, shared, notify),
        }
    }

    /// Handles a write that adds FEATURES_OK, DRIVER_OK or both.
    fn set_up<C: DeviceConfig, I: DriverNotify>(
        &mut self,
        added: DeviceStatus,
        config: &mut C,
        shared: &Shared<Q>,
        notify: &I,
    ) -> Reply {
        let mut refusal = None;
        if added.contains(DeviceStatus::FEATURES_OK) {
            match self.negotiate(config) {
                Ok(()) => {
                    self.handshake.status |= DeviceStatus::FEATURES_OK;
                    self.handshake.phase = Phase::SettingUp;
                    self.queues.negotiated(self.handshake.driver_features);
                }
                Err(why) => refusal = Some(why),
            }
        }
        if added.contains(DeviceStatus::DRIVER_OK) {
            if self.handshake.status.contains(DeviceStatus::FEATURES_OK) {
                return self.driver_ok(shared, notify);
            }
            refusal = refusal.or(Some(Refusal::FeaturesNotNegotiated));
        }
        refusal.map_or(DONE, Reply::from)
    }

    /// Checks that the accepted features are a subset of the offer, include the required features,
    /// and are accepted by the model.
    pub(super) fn negotiate<C: DeviceConfig>(&self, config: &mut C) -> Result<(), Refusal> {
        let accepted = self.handshake.driver_features;
        let required = Features::REQUIRED.union(config.required());
        let missing = required.difference(accepted);
        let not_offered = accepted.difference(self.offer_of(config));
        if !missing.is_empty() {
            Err(Refusal::FeaturesMissing { missing })
        } else if !not_offered.is_empty() || self.handshake.beyond {
            Err(Refusal::FeaturesNotOffered { not_offered })
        } else if config.negotiate(accepted) {
            Ok(())
        } else {
            Err(Refusal::FeaturesDeclined)
        }
    }

    fn driver_ok<I: DriverNotify>(&mut self, shared: &Shared<Q>, notify: &I) -> Reply {
        let broken = self.queues.any_refused() && self.policy.needs_reset();
        if broken || shared.needs_reset() {
            self.go_live();
            shared.fail_at_driver_ok(notify);
            return Refusal::NotReady.into();
        }
        self.expect(Outstanding::Ready)
    }

    /// Returns whether FEATURES_OK is set and the driver accepted all of `features`.
    pub(super) fn has_negotiated(&self, features: Features) -> bool {
        let Handshake {
            status,
            driver_features,
            ..
        } = &self.handshake;
        status.contains(DeviceStatus::FEATURES_OK) && driver_features.contains(features)
    }

    pub(super) fn suspending(&mut self) {
        self.handshake.phase = Phase::Suspending;
    }

    /// Sets SUSPEND and clears DRIVER_OK: the suspension is complete (suspend-13).
    pub(super) fn suspended(&mut self) {
        self.handshake.phase = Phase::Suspended;
        self.handshake.status.remove(DeviceStatus::DRIVER_OK);
        self.handshake.status.insert(DeviceStatus::SUSPEND);
    }

    /// Clears SUSPEND and sets DRIVER_OK: the resume is complete (suspend-14).
    pub(super) fn resumed(&mut self) {
        self.handshake.status.remove(DeviceStatus::SUSPEND);
        self.go_live();
    }

    pub(super) fn go_live(&mut self) {
        self.handshake.status |= DeviceStatus::DRIVER_OK;
        self.handshake.phase = Phase::Live;
    }
}
