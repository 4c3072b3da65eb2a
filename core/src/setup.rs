//! Building a device from set-up messages.
//!
//! A transport of messages, such as vhost-user or a channel, passes each message to
//! [`Configuring::step`]. Behind a register block, [`Engine`](crate::Engine) does the same work.

mod responder;

pub use responder::ReadyResponder;

use crate::{
    device::Device,
    error::{DeviceError, FaultPolicy, Refusal},
    features::Features,
    interrupt::DriverNotify,
    memory::DriverMem,
    message::{Message, QueueConfig, ReadyQueues, RingPosition},
    num,
    queue::{
        Virtqueue,
        check::{self, QueueCheck},
    },
    queue_set::QueueSet,
    shared::{Shared, SharedHandle},
    trace::NoTrace,
};

/// Collects the parts of a device: the interrupt, the shared block and the queues.
///
/// ```
/// use virtside::{
///     DeviceBuilder, Features, QueueConfig, Shared, interrupt::CountingNotify, memory::Ram,
/// };
/// static RAM: Ram<4096> = Ram::new();
/// static SHARED: Shared<2> = Shared::new();
/// static LINE: CountingNotify = CountingNotify::new();
///
/// let builder = DeviceBuilder::new(&SHARED)
///     .map_notify(|()| Ok(&LINE))?
///     .add_queue(QueueConfig { queue: 1, size: 8, desc: 0, driver: 0x200, device: 0x300 })?;
/// assert!(builder.configured_queues().eq([1]));
/// let device = builder.build::<_, 16>(Features::VERSION_1, RAM.flat(0))?;
/// assert!(device.configured_queues().eq([1]));
/// # Ok::<(), virtside::error::DeviceError>(())
/// ```
#[derive(Debug)]
pub struct DeviceBuilder<I, const Q: usize = 1, H = &'static Shared<Q>> {
    notify: I,
    shared: H,
    policy: FaultPolicy,
    queues: QueueSet<Q>,
    /// By queue number; absent where there is none.
    configs: [QueueConfig; Q],
    /// By queue number; `None` for the start of the rings.
    positions: [Option<RingPosition>; Q],
}

impl<H: SharedHandle<Q>, const Q: usize> DeviceBuilder<(), Q, H> {
    /// Creates a builder without queues and interrupt. `shared` holds the doorbell for the driver's
    /// kicks.
    pub const fn new(shared: H) -> Self {
        Self {
            notify: (),
            shared,
            policy: FaultPolicy::NeedsReset,
            queues: QueueSet::new(),
            configs: [QueueConfig::ABSENT; Q],
            positions: [None; Q],
        }
    }
}

impl<I, H, const Q: usize> DeviceBuilder<I, Q, H> {
    /// Replaces the interrupt by the result of `map`, such as a
    /// [`BufferedNotify`](crate::interrupt::BufferedNotify) around the interrupt.
    ///
    /// # Errors
    /// The error of `map`.
    pub fn map_notify<J>(
        self,
        map: impl FnOnce(I) -> Result<J, DeviceError>,
    ) -> Result<DeviceBuilder<J, Q, H>, DeviceError> {
        let Self {
            notify,
            shared,
            policy,
            queues,
            configs,
            positions,
        } = self;
        Ok(DeviceBuilder {
            notify: map(notify)?,
            shared,
            policy,
            queues,
            configs,
            positions,
        })
    }

    /// Returns the same builder with another policy for drivers that break the protocol.
    #[must_use]
    pub fn with_policy(self, policy: FaultPolicy) -> Self {
        Self { policy, ..self }
    }

    /// Adds a queue. [`build`](Self::build) checks its layout, since it has the memory.
    ///
    /// # Errors
    /// [`DeviceError::InvalidQueue`] if the number is not below `Q`, or was added before.
    pub fn add_queue(mut self, config: QueueConfig) -> Result<Self, DeviceError> {
        self.insert(config, None)?;
        Ok(self)
    }

    /// Adds a queue that starts in the middle of its rings, because another device has served it
    /// before. [`build`](Self::build) checks the positions, too.
    ///
    /// ```
    /// use virtside::{
    ///     DeviceBuilder, Features, QueueConfig, Shared, memory::Ram, message::RingPosition,
    /// };
    /// static RAM: Ram<4096> = Ram::new();
    /// static SHARED: Shared<1> = Shared::new();
    /// let queue = QueueConfig { queue: 0, size: 8, desc: 0, driver: 0x200, device: 0x300 };
    /// let device = DeviceBuilder::new(&SHARED)
    ///     .add_queue_at(queue, RingPosition::at(300, 300))?
    ///     .build::<_, 16>(Features::VERSION_1, RAM.flat(0))?;
    /// assert_eq!(device.ring_position(0).map(|position| position.next_avail), Some(300));
    /// # Ok::<(), virtside::error::DeviceError>(())
    /// ```
    ///
    /// # Errors
    /// As for [`add_queue`](Self::add_queue).
    pub fn add_queue_at(
        mut self,
        config: QueueConfig,
        position: RingPosition,
    ) -> Result<Self, DeviceError> {
        self.insert(config, Some(position))?;
        Ok(self)
    }

    fn insert(
        &mut self,
        config: QueueConfig,
        position: Option<RingPosition>,
    ) -> Result<(), DeviceError> {
        let invalid = DeviceError::InvalidQueue(config.queue);
        if usize::from(config.queue) >= Q || self.queues.contains(config.queue) {
            return Err(invalid);
        }
        let at = usize::from(config.queue);
        *self.configs.get_mut(at).ok_or(invalid)? = config;
        *self.positions.get_mut(at).ok_or(invalid)? = position;
        self.queues.insert(config.queue).map_err(|_| invalid)?;
        Ok(())
    }

    fn remove(&mut self, queue: u16) {
        self.queues.remove(queue);
        if let Some(config) = self.configs.get_mut(usize::from(queue)) {
            *config = QueueConfig::ABSENT;
        }
    }

    fn ready_queues(&self) -> ReadyQueues<'_> {
        ReadyQueues {
            configs: &self.configs,
        }
    }

    /// Returns the queues that were added, lowest number first.
    pub fn configured_queues(&self) -> impl Iterator<Item = u16> + '_ {
        self.queues.iter()
    }

    /// Checks every queue, lowest number first, and creates the device. The device serves no chain
    /// before the driver is live: see [`ReadyResponder`].
    ///
    /// # Errors
    /// [`DeviceError::BadQueueConfig`] with the first queue that does not pass, and the reason.
    /// With a [`FaultPolicy`] other than the default, the device is created without such queues
    /// instead.
    pub fn build<M: DriverMem, const N: usize>(
        self,
        features: Features,
        mem: M,
    ) -> Result<Device<M, I, Q, N, H>, DeviceError>
    where
        H: SharedHandle<Q>,
    {
        self.build_with(features, mem, &..)
    }

    fn build_with<M: DriverMem, C: QueueCheck + ?Sized, const N: usize>(
        self,
        features: Features,
        mem: M,
        queue_check: &C,
    ) -> Result<Device<M, I, Q, N, H>, DeviceError>
    where
        H: SharedHandle<Q>,
    {
        let mut device =
            Device::new(mem, self.notify, self.shared, NoTrace).with_policy(self.policy);
        let goes_on = !device.policy.needs_reset();
        let epoch = device.shared.epoch();
        let Device { table, mem, .. } = &mut device;
        for queue in self.queues {
            let at = usize::from(queue);
            let (Some(config), Some(position)) = (self.configs.get(at), self.positions.get(at))
            else {
                continue;
            };
            let mut verdict = table.lay_out(config, u16::MAX, features, mem);
            // A queue with a position is live from here on, and is served once the driver is.
            if let (Ok(()), Some(position)) = (verdict, position)
                && !table.start_at(queue, position, epoch)
            {
                table.remove(queue);
                verdict = Err(Refusal::BadPosition { queue });
            }
            match verdict {
                // The policy lets the device continue without this queue.
                Err(_) if goes_on => {}
                verdict => verdict.map_err(|refusal| name(refusal.into(), queue))?,
            }
        }
        while let Some(unwanted) = table.first_unwanted(features, queue_check) {
            match unwanted.queue {
                Some(queue) if goes_on => table.remove(queue),
                Some(queue) => return Err(name(unwanted.error, queue)),
                None => return Err(unwanted.error),
            }
        }
        device.features = features;
        Ok(device)
    }
}

/// Adds the queue number to a refusal.
fn name(error: DeviceError, queue: u16) -> DeviceError {
    match error {
        DeviceError::Refused(refusal) => DeviceError::BadQueueConfig(queue, refusal),
        other => other,
    }
}

/// The result of one message of the set-up conversation.
#[derive(Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[must_use = "acknowledge a queue message; start a device"]
pub enum Progress<D, R> {
    /// The queue passed every check. Acknowledge the message.
    Configured(u16),
    /// The queue was removed. Acknowledge the message.
    Removed(u16),
    /// Every queue was removed. Acknowledge the message.
    Restarted,
    /// The device is complete. The driver waits for the responder's answer.
    Ready(D, R),
}

/// The result of [`Configuring::step`].
pub type Built<M, I, const Q: usize = 1, const N: usize = 16, H = &'static Shared<Q>> =
    Progress<Device<M, I, Q, N, H>, ReadyResponder<I, Q, H>>;

/// The set-up conversation as a polled state machine: it takes messages, and returns
/// acknowledgements and finally a device.
///
/// ```
/// use virtside::{
///     Configuring, DeviceBuilder, Features, Message, QueueConfig, Shared, memory::Ram,
///     setup::Progress,
/// };
/// static RAM: Ram<4096> = Ram::new();
/// static SHARED: Shared<1> = Shared::new();
///
/// let builder = DeviceBuilder::new(&SHARED);
/// let mut configuring = Configuring::<_, _, _>::new(builder, &(0..1), RAM.flat(0));
/// let queue = QueueConfig { queue: 0, size: 8, desc: 0, driver: 0x200, device: 0x300 };
/// assert!(matches!(
///     configuring.step(Message::ConfigureQueue(queue))?,
///     Progress::Configured(0)
/// ));
/// let Progress::Ready(device, responder) =
///     configuring.step(Message::Ready { features: Features::VERSION_1 })?
/// else {
///     panic!("not ready");
/// };
/// assert!(!SHARED.is_live());
/// responder.accept();
/// assert!(SHARED.is_live());
/// # let _ = device;
/// # Ok::<(), virtside::error::DeviceError>(())
/// ```
#[derive(Debug)]
pub struct Configuring<
    'p,
    C: ?Sized,
    M,
    I,
    const Q: usize = 1,
    const N: usize = 16,
    H = &'static Shared<Q>,
> {
    /// `None` after the device was built.
    parts: Option<(DeviceBuilder<I, Q, H>, M)>,
    queue_check: &'p C,
    /// The features that queues are checked with before `Ready`.
    features: Features,
}

impl<'p, C, M, I, H, const Q: usize, const N: usize> Configuring<'p, C, M, I, Q, N, H>
where
    C: QueueCheck + ?Sized,
    M: DriverMem,
    I: DriverNotify + Clone,
    H: SharedHandle<Q>,
{
    /// Starts a conversation. `queue_check` decides which queues the device accepts.
    pub const fn new(builder: DeviceBuilder<I, Q, H>, queue_check: &'p C, mem: M) -> Self {
        Self {
            parts: Some((builder, mem)),
            queue_check,
            features: Features::REQUIRED,
        }
    }

    /// Sets the features that the driver has already accepted. A transport calls this method if it
    /// knows the features before the first queue. The default is [`Features::REQUIRED`], with which
    /// [`step`](Self::step) checks a queue as a split queue.
    #[must_use]
    pub fn with_features(self, features: Features) -> Self {
        Self { features, ..self }
    }

    /// Returns whether the conversation continues without a queue that was refused: true unless the
    /// policy is [`FaultPolicy::NeedsReset`] or the device was built.
    pub fn continues(&self) -> bool {
        let builder = self.parts.as_ref().map(|(builder, _)| builder);
        builder.is_some_and(|builder| !builder.policy.needs_reset())
    }

    /// Returns the queues that have passed, lowest number first.
    pub fn configured_queues(&self) -> impl Iterator<Item = u16> + '_ {
        self.parts
            .iter()
            .flat_map(|(builder, _)| builder.configured_queues())
    }

    /// Takes one message.
    ///
    /// The driver's memory is not accessed. A queue message takes at most `9 * Q` comparisons,
    /// three translations and one call of the [`QueueCheck`]. `Ready` takes at most `9 * Q * Q`
    /// comparisons, `3 * Q` translations and the calls that [`QueueCheck`] states.
    ///
    /// # Errors
    /// A refusal of a queue leaves the conversation unchanged, and the queue may be configured
    /// differently. [`DeviceError::UnexpectedMessage`] for a message that is not part of a set-up,
    /// and for any message after the device was built. After a failed `Ready` the conversation is
    /// over.
    pub fn step(&mut self, message: Message) -> Result<Built<M, I, Q, N, H>, DeviceError> {
        let Some((builder, _)) = &mut self.parts else {
            return Err(DeviceError::UnexpectedMessage(message));
        };
        match message {
            Message::ConfigureQueue(config) => self.configure(config, None),
            Message::ConfigureQueueAt(config, position) => self.configure(config, Some(position)),
            Message::ResetQueue(queue) => {
                if !builder.queues.contains(queue) {
                    return Err(DeviceError::InvalidQueue(queue));
                }
                builder.remove(queue);
                Ok(Progress::Removed(queue))
            }
            Message::Reset => {
                builder.queues.clear();
                builder.configs = [QueueConfig::ABSENT; Q];
                builder.shared.reset(&builder.notify);
                Ok(Progress::Restarted)
            }
            Message::Ready { features } => {
                // The same rule as for a register block: every required feature, and no feature
                // that is not implemented.
                let missing = Features::REQUIRED.difference(features);
                let not_offered = features.difference(Features::offer(features));
                if !missing.is_empty() {
                    return Err(Refusal::FeaturesMissing { missing }.into());
                }
                if !not_offered.is_empty() {
                    return Err(Refusal::FeaturesNotOffered { not_offered }.into());
                }
                let Some((builder, mem)) = self.parts.take() else {
                    return Err(DeviceError::UnexpectedMessage(message));
                };
                let responder = ReadyResponder::new(builder.shared.clone(), builder.notify.clone());
                let device = builder.build_with(features, mem, self.queue_check);
                match device {
                    Ok(device) => Ok(Progress::Ready(device, responder)),
                    Err(error) => {
                        responder.refuse();
                        Err(error)
                    }
                }
            }
            Message::NotifyQueue(_) | Message::Suspend | Message::Resume => {
                Err(DeviceError::UnexpectedMessage(message))
            }
        }
    }

    fn configure(
        &mut self,
        config: QueueConfig,
        position: Option<RingPosition>,
    ) -> Result<Built<M, I, Q, N, H>, DeviceError> {
        let queue = config.queue;
        let Some((builder, mem)) = &mut self.parts else {
            return Err(DeviceError::InvalidQueue(queue));
        };
        if usize::from(queue) >= Q || builder.queues.contains(queue) {
            return Err(DeviceError::InvalidQueue(queue));
        }
        // The features are final with `Ready`, which checks every queue again.
        let features = self.features;
        let others = builder.ready_queues();
        let checked = check::check(&config, num::clamp_u16(N), features, mem, others.iter())
            .map_err(|refusal| name(refusal.into(), queue))?;
        if let Some(position) = &position
            && Virtqueue::<_, N>::at(checked, 0, position).is_none()
        {
            return Err(name(Refusal::BadPosition { queue }.into(), queue));
        }
        self.queue_check
            .check_config(&config, features, others.iter())
            .map_err(|error| name(error.into(), queue))?;
        builder.insert(config, position)?;
        Ok(Progress::Configured(queue))
    }
}
