//! A device without EVENT_IDX, so that drivers suppress by flags.

use virtside::{
    Answer, DeviceConfig, DeviceModel, DriverFault, DriverMem, Features, QueueCheck, Request,
    Start, Token,
};

/// The same device with EVENT_IDX left out of its offer.
pub(crate) struct FlagsOnly<D>(pub(crate) D);

impl<D: DeviceConfig> DeviceConfig for FlagsOnly<D> {
    fn device_id(&self) -> u32 {
        self.0.device_id()
    }
    fn vendor_id(&self) -> u32 {
        self.0.vendor_id()
    }
    fn features(&self) -> Features {
        self.0.features().difference(Features::EVENT_IDX)
    }
    fn queue_size_max(&self, queue: u16) -> u16 {
        self.0.queue_size_max(queue)
    }
    fn fit(&mut self, queues: u16, elements: u16) {
        self.0.fit(queues, elements);
    }
    fn is_always_writable(&self, offset: u32) -> bool {
        self.0.is_always_writable(offset)
    }
    fn negotiate(&mut self, features: Features) -> bool {
        self.0.negotiate(features)
    }
    fn read_config(&self, offset: u32, bytes: &mut [u8]) -> bool {
        self.0.read_config(offset, bytes)
    }
    fn write_config(&mut self, offset: u32, bytes: &[u8]) -> bool {
        self.0.write_config(offset, bytes)
    }
}

impl<D: DeviceModel> DeviceModel for FlagsOnly<D> {
    fn queue_check(&self) -> impl QueueCheck {
        self.0.queue_check()
    }
    fn ready(&mut self, features: Features) -> Start {
        self.0.ready(features)
    }
    fn reset(&mut self) {
        self.0.reset();
    }
    fn queue_stopped(&mut self, queue: u16) {
        self.0.queue_stopped(queue);
    }
    fn can_serve(&self, queue: u16) -> bool {
        self.0.can_serve(queue)
    }
    fn due(&self) -> Option<Token> {
        self.0.due()
    }
    fn drained(&mut self, queue: u16) {
        self.0.drained(queue);
    }
    fn serve<M: DriverMem>(&mut self, request: &mut Request<'_, M>) -> Result<Answer, DriverFault> {
        self.0.serve(request)
    }
}
