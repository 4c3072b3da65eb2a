//! How driver and device come to terms: the status field, its phases, and the features.

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

/// Where a device is in its life. Not derived from the status bits: a suspended device shows
/// DRIVER_OK as 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Phase {
    /// Status is 0.
    Reset,
    /// The driver has found the device.
    Negotiating,
    /// FEATURES_OK stands.
    SettingUp,
    /// DRIVER_OK stands.
    Live,
    /// SUSPEND was written; what is in hand is being finished. Status shows no change yet.
    Suspending,
    /// SUSPEND stands, and DRIVER_OK does not: nothing of the driver's is touched, and no
    /// notification sent.
    Suspended,
    /// The driver gave up.
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

/// What a write to Status asks for, beside ACKNOWLEDGE and DRIVER.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StatusChange {
    Nothing,
    Fail,
    Suspend,
    Resume,
    /// FEATURES_OK or DRIVER_OK is new.
    SetUp,
}

/// What writing a non-zero value to Status means in this phase: the bits that it adds, and the change
/// it asks for. The driver may only add bits that are its own, and may clear none.
fn decide(
    status: DeviceStatus,
    phase: Phase,
    written: DeviceStatus,
    can_suspend: bool,
) -> Result<(DeviceStatus, StatusChange), Refusal> {
    // DEVICE_NEEDS_RESET is the device's. SUSPEND is ignored before DRIVER_OK, and where it was not
    // negotiated (suspend-01).
    let mut drivers = DeviceStatus::ACKNOWLEDGE
        | DeviceStatus::DRIVER
        | DeviceStatus::FEATURES_OK
        | DeviceStatus::DRIVER_OK
        | DeviceStatus::FAILED;
    drivers.set(DeviceStatus::SUSPEND, can_suspend);
    let new = written.intersection(drivers);
    // A bit that is set may be written again, even if the driver may no longer add it.
    let mut missing = status.difference(written);
    if can_suspend && (phase != Phase::Live || new.contains(DeviceStatus::SUSPEND)) {
        // From the start of a suspension to its end the device changes these two.
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

/// How far driver and device have come.
#[derive(Debug)]
pub(super) struct Handshake {
    pub(super) status: DeviceStatus,
    pub(super) phase: Phase,
    pub(super) device_features_sel: u32,
    pub(super) driver_features_sel: u32,
    pub(super) driver_features: Features,
    /// Non-zero bits were accepted in a word that no feature is in.
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
    /// Where the device is in its life.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.handshake.phase
    }

    /// The device status field, as the driver reads it.
    #[must_use]
    pub fn status(&self, shared: &Shared<Q>) -> DeviceStatus {
        let mut status = self.handshake.status;
        status.set(DeviceStatus::DEVICE_NEEDS_RESET, shared.needs_reset());
        status
    }

    /// What the driver accepted so far.
    #[must_use]
    pub const fn driver_features(&self) -> Features {
        self.handshake.driver_features
    }

    /// The selected 32-bit word of the offer (mmio-16).
    #[inline(never)]
    pub fn device_features<C: DeviceConfig>(&mut self, config: &mut C) -> u32 {
        self.set_capacity(config);
        match self.handshake.device_features_sel {
            0 => num::low(self.lower_offer(config)),
            1 => num::high(self.lower_offer(config)),
            word => Features::offer(config.features()).word(word),
        }
    }

    /// What the driver of this device is offered.
    pub fn offer<C: DeviceConfig>(&mut self, config: &mut C) -> Features {
        self.set_capacity(config);
        self.offer_of(config)
    }

    fn offer_of<C: DeviceConfig>(&self, config: &C) -> Features {
        Features::offer(config.features()).with_lower(self.lower_offer(config))
    }

    /// The lower half of the offer, which is what the host may change.
    #[inline(never)]
    fn lower_offer<C: DeviceConfig>(&self, config: &C) -> u64 {
        let offer = self.offer.without(config.excluded());
        offer.of(config.features()).lower()
    }

    /// The driver accepts the features in the selected 32-bit word (mmio-17). Refused from
    /// FEATURES_OK on.
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
            // Until reset: which words they were in is not noted.
            self.handshake.beyond |= value != 0;
        }
        DONE
    }

    /// Writes Status (mmio-24, mmio-25, status-01, suspend-01). 0 asks for a reset. `offset` names the
    /// register in a refusal.
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
        // A device whose DRIVER_OK was refused does not run.
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
                // A suspended device is one no longer.
                shared.release_held(notify);
                DONE
            }
            StatusChange::Suspend => self.expect(Outstanding::Suspend { reading: false }),
            StatusChange::Resume => self.expect(Outstanding::Resume),
            StatusChange::SetUp => self.set_up(added, config, shared, notify),
        }
    }

    /// FEATURES_OK, DRIVER_OK or both were added.
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

    /// Whether the driver's choice is a valid subset of the offer, with what is required in it.
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

    /// Whether the driver's choice was accepted, and has all of these.
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

    /// Done: what the driver waits for (suspend-13).
    pub(super) fn suspended(&mut self) {
        self.handshake.phase = Phase::Suspended;
        self.handshake.status.remove(DeviceStatus::DRIVER_OK);
        self.handshake.status.insert(DeviceStatus::SUSPEND);
    }

    /// Done: what the driver waits for (suspend-14).
    pub(super) fn resumed(&mut self) {
        self.handshake.status.remove(DeviceStatus::SUSPEND);
        self.go_live();
    }

    pub(super) fn go_live(&mut self) {
        self.handshake.status |= DeviceStatus::DRIVER_OK;
        self.handshake.phase = Phase::Live;
    }
}
