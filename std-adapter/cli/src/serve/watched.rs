//! A model that is watched: its requests are counted, timed and traced.

use std::{collections::HashMap, fmt, time::Instant};

use virtside::{
    Answer, DeviceConfig, DeviceModel, DriverFault, DriverMem, Features, QueueCheck, Request,
    message::ReadyQueues,
    model::{SharedMemory, Start, Token},
};

use super::{
    complaints::Complaints,
    stats::{Meter, Operation},
};
use crate::words;

/// A model, and what the service does around its requests.
pub(super) trait Watch: DeviceModel {
    /// Called before each request: takes note of what happened outside.
    fn before(&mut self) {}

    /// Called after each request.
    fn after(&mut self) {}

    /// Returns what the last request did, and how many bytes it transferred. `None` if only its
    /// length is known.
    fn last(&mut self) -> Option<(Operation, u64)> {
        None
    }

    /// Called when a front end has left.
    fn front_end_left(&mut self) {}

    /// Called at the end: makes everything durable.
    ///
    /// # Errors
    /// What is not durable, and why.
    fn finish(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// Any model, with fewer features.
#[derive(Debug)]
pub(super) struct Watched<D> {
    name: String,
    model: D,
    withheld: Features,
    meter: Option<Meter>,
    traced: bool,
    faults: Complaints,
    /// When requests that are kept have come.
    kept: HashMap<Token, Instant>,
}

impl<D: Watch> Watched<D> {
    /// Creates a model without these features of its device type.
    pub(super) fn new(name: String, model: D, withheld: Features) -> Self {
        Self {
            faults: Complaints::new(&name),
            name,
            model,
            withheld,
            meter: None,
            traced: false,
            kept: HashMap::new(),
        }
    }

    /// Counts and times the requests, if there is a meter.
    pub(super) fn with_meter(self, meter: Option<Meter>) -> Self {
        Self { meter, ..self }
    }

    /// Writes each request to the log if `traced`.
    pub(super) fn with_trace(self, traced: bool) -> Self {
        Self { traced, ..self }
    }

    pub(super) fn front_end_left(&mut self) {
        self.faults.tell_unsaid();
        self.model.front_end_left();
    }

    pub(super) fn finish(&mut self) -> Result<(), String> {
        self.model.finish()
    }

    fn tell(&self, text: impl fmt::Display) {
        if self.traced {
            log::trace!(target: &self.name, "{text}");
        }
    }

    /// Serves a request, and counts, times and traces it.
    fn serve_watched<M: DriverMem>(
        &mut self,
        request: &mut Request<'_, M>,
    ) -> Result<Answer, DriverFault> {
        let (queue, token) = (request.queue, request.token);
        let (sent, room) = (request.readable.remaining(), request.writable.remaining());
        let kept = self.kept.remove(&token);
        let begun = kept.unwrap_or_else(Instant::now);
        let answer = self.model.serve(request);
        match answer {
            Ok(Answer::Done { written }) => {
                let time = begun.elapsed();
                let all = sent.saturating_add(written.into());
                let last = self.model.last();
                let (operation, bytes) = last.unwrap_or((Operation::Other, all));
                if let Some(meter) = &self.meter {
                    // A wait for input is no latency.
                    let waited = kept.is_some() && self.model.may_sleep(queue);
                    meter.add(operation, bytes, (!waited).then_some(time));
                }
                let time = time.as_micros();
                self.tell(format_args!(
                    "queue {queue}: {operation} of {sent} bytes with room for {room}: {written} bytes written, {time} us"
                ));
            }
            Ok(Answer::Pending) => {
                self.kept.insert(token, begun);
                self.tell(format_args!(
                    "queue {queue}: request of {sent} bytes with room for {room}: kept"
                ));
            }
            Err(_) => {}
        }
        answer
    }
}

impl<D: Watch> DeviceConfig for Watched<D> {
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
        if self.traced {
            let names = words::negotiated(self.device_id(), features);
            self.tell(format_args!("the driver accepts {names}"));
        }
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
        self.tell(format_args!("configuration: {bytes:?} at {offset}"));
        self.model.write_config(offset, bytes)
    }

    fn shared_memory(&self, id: u32) -> Option<SharedMemory> {
        self.model.shared_memory(id)
    }
}

// Each method is passed on, those with a default too.
#[warn(clippy::missing_trait_methods)]
impl<D: Watch> DeviceModel for Watched<D> {
    fn queue_check(&self) -> impl QueueCheck {
        self.model.queue_check()
    }

    fn ready(&mut self, features: Features, queues: ReadyQueues<'_>) -> Start {
        self.tell("the first queue is started");
        self.model.ready(features, queues)
    }

    fn reset(&mut self) {
        self.kept.clear();
        self.tell("reset");
        self.model.reset();
    }

    fn queue_stopped(&mut self, queue: u16) {
        // Which of them are of this queue is not known.
        self.kept.clear();
        self.tell(format_args!("queue {queue}: stopped"));
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
        self.model.before();
        let answer = if self.traced || self.meter.is_some() {
            self.serve_watched(request)
        } else {
            self.model.serve(request)
        };
        if let Err(fault) = &answer {
            self.faults
                .report(format_args!("the driver broke the protocol: {fault}"));
        }
        self.model.after();
        answer
    }
}
