//! The interrupts of a vhost-user device: an eventfd for each queue.

use std::{
    fs::File,
    io::Write,
    sync::{Arc, Mutex, PoisonError},
};

use virtside::DriverNotify;

/// The call eventfds by queue number. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Calls(Arc<[Mutex<Option<File>>]>);

impl Calls {
    pub(super) fn new(queues: usize) -> Self {
        Self((0..queues).map(|_| Mutex::new(None)).collect())
    }

    /// Replaces the eventfd of a queue.
    pub(super) fn set(&self, queue: u16, call: Option<File>) {
        if let Some(place) = self.0.get(usize::from(queue)) {
            *place.lock().unwrap_or_else(PoisonError::into_inner) = call;
        }
    }
}

impl DriverNotify for Calls {
    /// The interrupt is sent by queue, so there is no line.
    fn assert(&self) {}

    fn used(&self, queue: u16) {
        let Some(place) = self.0.get(usize::from(queue)) else {
            return;
        };
        let call = place.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut call) = call.as_ref() {
            // A full counter is a pending interrupt. Any other failure is the front end's.
            let _ = call.write(&1_u64.to_ne_bytes());
        }
    }
}
