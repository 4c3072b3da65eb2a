//! A model that is watched.

use virtside::{
    Answer, DeviceConfig, DeviceModel, DriverFault, DriverMem, Features, QueueCheck, Request,
    message::ReadyQueues,
    model::{SharedMemory, Start, Token},
};

/// Any model, with fewer features.
#[derive(Debug)]
pub(super) struct Watched<D> {
    model: D,
    withheld: Features,
}

impl<D> Watched<D> {
    pub(super) const fn new(model: D) -> Self {
        Self {
            model,
            withheld: Features::empty(),
        }
    }

    /// Returns the same model without these features of its device type.
    pub(super) fn without(self, withheld: Features) -> Self {
        Self { withheld, ..self }
    }

    pub(super) const fn model_mut(&mut self) -> &mut D {
        &mut self.model
    }
}

impl<D: DeviceConfig> DeviceConfig for Watched<D> {
    fn device_id(&self) -> u32 {
        self.model.device_id()
    }

    fn vendor_id(&self) -> u32 {
        self.model.vendor_id()
    }

    fn features(&self) -> Features {
        self.model.features().difference(self.withheld)
    }

    fn excluded(&self) -> Features {
        self.model.excluded()
    }

    fn set_capacity(&mut self, queues: u16, elements: u16) {
        self.model.set_capacity(queues, elements);
    }

    fn queue_size_max(&self, queue: u16) -> u16 {
        self.model.queue_size_max(queue)
    }

    fn required(&self) -> Features {
        self.model.required()
    }

    fn negotiate(&mut self, features: Features) -> bool {
        self.model.negotiate(features)
    }

    fn read_config(&self, offset: u32, bytes: &mut [u8]) -> bool {
        self.model.read_config(offset, bytes)
    }

    fn config_len(&self) -> u32 {
        self.model.config_len()
    }

    fn is_always_writable(&self, offset: u32) -> bool {
        self.model.is_always_writable(offset)
    }

    fn write_config(&mut self, offset: u32, bytes: &[u8]) -> bool {
        self.model.write_config(offset, bytes)
    }

    fn shared_memory(&self, id: u32) -> Option<SharedMemory> {
        self.model.shared_memory(id)
    }
}

impl<D: DeviceModel> DeviceModel for Watched<D> {
    fn queue_check(&self) -> impl QueueCheck {
        self.model.queue_check()
    }

    fn ready(&mut self, features: Features, queues: ReadyQueues<'_>) -> Start {
        self.model.ready(features, queues)
    }

    fn reset(&mut self) {
        self.model.reset();
    }

    fn queue_stopped(&mut self, queue: u16) {
        self.model.queue_stopped(queue);
    }

    fn can_serve(&self, queue: u16) -> bool {
        self.model.can_serve(queue)
    }

    fn due(&self) -> Option<Token> {
        self.model.due()
    }

    fn may_keep(&self, queue: u16) -> bool {
        self.model.may_keep(queue)
    }

    fn drained(&mut self, queue: u16) {
        self.model.drained(queue);
    }

    fn may_sleep(&self, queue: u16) -> bool {
        self.model.may_sleep(queue)
    }

    fn serve<M: DriverMem>(&mut self, request: &mut Request<'_, M>) -> Result<Answer, DriverFault> {
        self.model.serve(request)
    }
}
