//! Queue registers: parameters, QueueReady, QueueReset and QueueNotify.

use super::{DONE, Notification, Outstanding, Phase, Reply, Transport};
use crate::{
    error::{Frozen, Refusal},
    features::{Features, built},
    message::QueueConfig,
    model::DeviceConfig,
    num,
    queue::check::largest,
    shared::Shared,
    snapshot::{QueueRegisters, Stage},
};

/// A parameter of the selected queue. Addresses are split into 32-bit halves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Parameter {
    /// Number of elements.
    Size,
    /// Descriptor area, bits 0 to 31.
    DescLow,
    /// Descriptor area, bits 32 to 63.
    DescHigh,
    /// Driver area, bits 0 to 31.
    DriverLow,
    /// Driver area, bits 32 to 63.
    DriverHigh,
    /// Device area, bits 0 to 31.
    DeviceLow,
    /// Device area, bits 32 to 63.
    DeviceHigh,
}

impl QueueRegisters {
    pub(super) const RESET: Self = Self {
        size: 0,
        desc: 0,
        driver: 0,
        device: 0,
        stage: Stage::Off,
        refused: false,
    };

    fn is_ready(&self) -> bool {
        self.stage == Stage::Ready || (built::RING_RESET && self.stage == Stage::Resetting)
    }

    /// Resets the registers and sets the stage. Fields are set one by one, so that no second value
    /// is built and copied.
    fn clear(&mut self, stage: Stage) {
        self.size = 0;
        self.desc = 0;
        self.driver = 0;
        self.device = 0;
        self.stage = stage;
        self.refused = false;
    }
}

/// The queue registers and the last refusal of a queue.
#[derive(Debug)]
pub(super) struct Queues<const Q: usize> {
    pub(super) sel: u32,
    registers: [QueueRegisters; Q],
    pub(super) refused_beyond: bool,
    refusal: Option<Refusal>,
    /// Mask of the queue number in QueueNotify. With NOTIFICATION_DATA, the other bits are the
    /// position of the driver, which is also in the ring (mmio-22, mmio-23).
    kick: u32,
}

impl<const Q: usize> Queues<Q> {
    pub(super) const fn new() -> Self {
        Self {
            sel: 0,
            registers: [QueueRegisters::RESET; Q],
            refused_beyond: false,
            refusal: None,
            kick: u32::MAX,
        }
    }

    /// Sets the format of QueueNotify after features are negotiated.
    pub(super) fn negotiated(&mut self, features: Features) {
        self.kick = if features.contains(Features::NOTIFICATION_DATA) {
            Notification::QUEUE
        } else {
            u32::MAX
        };
    }

    /// Resets all registers.
    pub(super) fn reset(&mut self) {
        self.sel = 0;
        for registers in &mut self.registers {
            registers.clear(Stage::Off);
        }
        self.refused_beyond = false;
        self.refusal = None;
        self.kick = u32::MAX;
    }

    /// Returns whether a queue that the driver made ready was refused.
    pub(super) fn any_refused(&self) -> bool {
        self.refused_beyond || self.registers.iter().any(|queue| queue.refused)
    }

    /// Returns the layout of a queue, for its checks.
    pub(super) fn config(&self, queue: u16) -> Option<QueueConfig> {
        let QueueRegisters {
            size,
            desc,
            driver,
            device,
            ..
        } = *self.registers.get(usize::from(queue))?;
        Some(QueueConfig {
            queue,
            size,
            desc,
            driver,
            device,
        })
    }

    /// Returns the registers of a queue.
    pub(super) fn registers(&self, queue: u16) -> QueueRegisters {
        let registers = self.registers.get(usize::from(queue));
        *registers.unwrap_or(&QueueRegisters::RESET)
    }

    /// Restores the registers that [`registers`](Self::registers) returned.
    pub(super) fn restore(&mut self, queue: u16, registers: &QueueRegisters) {
        if let Some(current) = self.queue(queue) {
            *current = *registers;
        }
    }

    /// Records the result of the checks of a queue.
    pub(super) fn checked(&mut self, queue: u16, verdict: Result<(), Refusal>) {
        match verdict {
            Ok(()) => {
                if let Some(registers) = self.queue(queue) {
                    registers.refused = false;
                    registers.stage = Stage::Ready;
                }
                if !self.any_refused() {
                    self.refusal = None;
                }
            }
            Err(refusal) => {
                if let Some(registers) = self.queue(queue) {
                    registers.refused = true;
                }
                self.refusal = Some(refusal);
            }
        }
    }

    /// Records that a queue has stopped.
    pub(super) fn stopped(&mut self, queue: u16) {
        match self.queue(queue) {
            // The queue reset waited for this.
            Some(registers) if built::RING_RESET && registers.stage == Stage::Resetting => {
                registers.clear(Stage::WasReset);
            }
            Some(registers) => registers.stage = Stage::Off,
            None => {}
        }
    }

    /// Records a queue reset: the registers are as after a device reset (vqreset-03).
    pub(super) fn was_reset(&mut self, queue: u16) {
        if let Some(registers) = self.queue(queue) {
            registers.clear(Stage::WasReset);
        }
    }

    fn queue(&mut self, queue: u16) -> Option<&mut QueueRegisters> {
        self.registers.get_mut(usize::from(queue))
    }
}

impl<const Q: usize> Transport<Q> {
    /// Returns why a queue, or the set of queues at DRIVER_OK, was last refused. Cleared by a
    /// device reset, and when a queue passes its checks and no other queue is refused.
    #[must_use]
    pub fn last_refusal(&self) -> Option<Refusal> {
        self.queues.refusal
    }

    /// Records why the queues were refused at DRIVER_OK.
    pub(crate) fn record_refusal(&mut self, refusal: Refusal) {
        self.queues.refusal = Some(refusal);
    }

    /// Records that the device continues at DRIVER_OK without a queue that was refused.
    pub(crate) fn drop_queue(&mut self, queue: u16) {
        self.queues.stopped(queue);
    }

    fn selected<C: DeviceConfig>(&self, config: &C) -> Option<u16> {
        match u16::try_from(self.queues.sel) {
            Ok(queue) if usize::from(queue) < Q && config.queue_size_max(queue) != 0 => Some(queue),
            _ => None,
        }
    }

    /// Returns the largest size of the selected queue in elements, a power of two. Returns 0 if
    /// there is no such queue (mmio-19, mmio-20).
    #[inline(never)]
    pub fn queue_size_max<C: DeviceConfig>(&mut self, config: &mut C) -> u32 {
        self.set_capacity(config);
        self.selected(config).map_or(0, |queue| {
            u32::from(largest(config.queue_size_max(queue), self.capacity))
        })
    }

    #[inline(always)]
    pub(super) fn is_ready(&self) -> bool {
        self.selected_registers()
            .is_some_and(QueueRegisters::is_ready)
    }

    /// Returns the number of the selected queue if a reset of this queue is in progress.
    #[inline(always)]
    pub(super) fn resetting(&self) -> Option<u16> {
        if !built::RING_RESET {
            return None;
        }
        let registers = self.selected_registers()?;
        (registers.stage == Stage::Resetting).then(|| num::low16(self.queues.sel))
    }

    #[inline(always)]
    fn selected_registers(&self) -> Option<&QueueRegisters> {
        let selected = u16::try_from(self.queues.sel).unwrap_or(u16::MAX);
        self.queues.registers.get(usize::from(selected))
    }

    /// Writes a parameter of the selected queue. The parameter is checked when the queue is made
    /// ready.
    ///
    /// # Errors
    /// [`Refusal::NoSuchQueue`], or [`Refusal::QueueFrozen`] if the phase or QueueReady forbids the
    /// write.
    #[inline(never)]
    pub fn set_parameter<C: DeviceConfig>(
        &mut self,
        parameter: Parameter,
        value: u32,
        config: &mut C,
    ) -> Result<(), Refusal> {
        self.set_capacity(config);
        let absent = Refusal::NoSuchQueue {
            queue: self.queues.sel,
        };
        let queue = self.selected(config).ok_or(absent)?;
        let phase = self.phase();
        let registers = self.queues.queue(queue).ok_or(absent)?;
        let why = match phase {
            Phase::Failed => Some(Frozen::Failed),
            _ if registers.is_ready() => Some(Frozen::QueueReady),
            Phase::Suspending | Phase::Suspended => Some(Frozen::Suspended),
            Phase::Live if !built::RING_RESET || registers.stage != Stage::WasReset => {
                Some(Frozen::Live)
            }
            _ => None,
        };
        if let Some(why) = why {
            return Err(Refusal::QueueFrozen { queue, why });
        }
        match parameter {
            Parameter::Size => registers.size = value,
            Parameter::DescLow => registers.desc = num::with_low(registers.desc, value),
            Parameter::DescHigh => registers.desc = num::with_high(registers.desc, value),
            Parameter::DriverLow => registers.driver = num::with_low(registers.driver, value),
            Parameter::DriverHigh => registers.driver = num::with_high(registers.driver, value),
            Parameter::DeviceLow => registers.device = num::with_low(registers.device, value),
            Parameter::DeviceHigh => registers.device = num::with_high(registers.device, value),
        }
        Ok(())
    }

    /// Writes QueueReady of the selected queue. 1 asks for the checks of the queue
    /// ([`Message::ConfigureQueue`]), and 0 stops the queue ([`Message::ResetQueue`]). `offset` is
    /// the offset of the register in a refusal.
    ///
    /// [`Message::ConfigureQueue`]: crate::Message::ConfigureQueue
    /// [`Message::ResetQueue`]: crate::Message::ResetQueue
    #[inline(never)]
    pub fn write_queue_ready<C: DeviceConfig>(
        &mut self,
        offset: u32,
        value: u32,
        config: &mut C,
    ) -> Reply {
        self.set_capacity(config);
        if value > 1 {
            return Refusal::BadValue { offset, value }.into();
        }
        let phase = self.phase();
        // A ready queue can be stopped even if the features negotiated since then hide it.
        let number = u16::try_from(self.queues.sel).unwrap_or(u16::MAX);
        if value == 0
            && self
                .queues
                .queue(number)
                .is_some_and(|registers| registers.is_ready())
        {
            return self.expect(Outstanding::Stop(number));
        }
        let selected = self.selected(config);
        let absent = Refusal::NoSuchQueue {
            queue: self.queues.sel,
        };
        let Some((queue, registers)) =
            selected.and_then(|queue| Some((queue, *self.queues.queue(queue)?)))
        else {
            if value == 1 && phase.is_before_live() {
                self.queues.refused_beyond = true;
                self.queues.refusal = Some(absent);
            }
            return absent.into();
        };
        if value == 0 {
            // The driver gives up this queue, so its refusal no longer prevents a start.
            if let Some(registers) = self.queues.queue(queue) {
                registers.refused = false;
            }
            return DONE;
        }
        if registers.is_ready() {
            return DONE;
        }
        let why = match phase {
            Phase::Live if built::RING_RESET && registers.stage == Stage::WasReset => {
                return self.expect(Outstanding::Configure(queue));
            }
            Phase::Live => Frozen::Live,
            Phase::Suspending | Phase::Suspended => Frozen::Suspended,
            Phase::Failed => Frozen::Failed,
            Phase::Reset | Phase::Negotiating | Phase::SettingUp => {
                return self.expect(Outstanding::Configure(queue));
            }
        };
        Refusal::QueueFrozen { queue, why }.into()
    }

    /// Writes QueueReset of the selected queue. 1 starts the reset of the queue (mmio-11), which is
    /// complete when QueueReset reads 0. `offset` is the offset of the register in a refusal.
    #[inline(never)]
    pub fn write_queue_reset<C: DeviceConfig>(
        &mut self,
        offset: u32,
        value: u32,
        config: &mut C,
    ) -> Reply {
        if !built::RING_RESET || !self.has_negotiated(Features::RING_RESET) {
            return Refusal::NotNegotiated.into();
        }
        if value > 1 {
            return Refusal::BadValue { offset, value }.into();
        }
        if self.phase() == Phase::Failed {
            return Refusal::WrongPhase.into();
        }
        // A ready queue can be reset even if the features negotiated since then hide it.
        let number = u16::try_from(self.queues.sel).unwrap_or(u16::MAX);
        let exists = self.selected(config).is_some();
        match self.queues.queue(number) {
            Some(registers) if registers.is_ready() || exists => {
                if value == 1 && registers.stage == Stage::Ready {
                    registers.stage = Stage::Resetting;
                    return self.expect(Outstanding::QueueReset {
                        queue: number,
                        reading: false,
                    });
                }
                if value == 1 && !registers.is_ready() {
                    // A repeated reset discards the values written since the last reset.
                    self.queues.was_reset(number);
                }
                DONE
            }
            _ => Refusal::NoSuchQueue {
                queue: self.queues.sel,
            }
            .into(),
        }
    }

    /// Handles a write to QueueNotify: rings the doorbell of `shared` (mmio-22). With
    /// NOTIFICATION_DATA, `value` is a [`Notification`], otherwise a queue number.
    #[inline]
    pub fn queue_notify(&mut self, value: u32, shared: &Shared<Q>) -> Reply {
        let number = value & self.queues.kick;
        let queue = num::low16(number);
        match self.queues.registers.get(num::index(number)) {
            None => Refusal::NoSuchQueue { queue: number }.into(),
            Some(registers) if registers.stage != Stage::Ready => {
                Refusal::QueueNotReady { queue }.into()
            }
            // At DRIVER_OK every queue counts as kicked, so an early kick is not recorded.
            Some(_) if self.phase() != Phase::Live => Refusal::WrongPhase.into(),
            Some(_) => {
                shared.ring(queue);
                DONE
            }
        }
    }
}
