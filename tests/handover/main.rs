//! A queue that the host quiets, and that the same or another device goes on with.

mod order;
mod polling;
mod positions;
mod quiet;

use std::sync::Arc;

use virtside::{
    ChainSlot, Configuring, Device, DeviceBuilder, Features, FlatMem, Message, QueueConfig, Shared,
    error::DeviceError, message::RingPosition, queue::QueueCheck, setup::Progress,
};
use virtside_tests::{BASE, N, Q, TestRam, probe::Probe};

type Plain = Device<FlatMem, (), Q, N, Arc<Shared<Q>>>;

/// A device of messages, with its model and slots.
struct Hosted {
    device: Plain,
    model: Probe,
    slots: Vec<ChainSlot<N>>,
}

/// Sets up a device with these messages, and makes its driver live.
fn set_up<C: QueueCheck + ?Sized>(
    ram: TestRam,
    features: Features,
    queue_check: &C,
    queues: &[(QueueConfig, Option<RingPosition>)],
) -> Result<Hosted, DeviceError> {
    let builder = DeviceBuilder::new(Arc::new(Shared::<Q>::new()));
    let mut configuring =
        Configuring::<_, _, _, Q, N, _>::new(builder, queue_check, ram.flat(BASE))
            .with_features(features);
    for &(config, position) in queues {
        let message = match position {
            None => Message::ConfigureQueue(config),
            Some(position) => Message::ConfigureQueueAt(config, position),
        };
        assert!(matches!(
            configuring.step(message)?,
            Progress::Configured(_)
        ));
    }
    let Progress::Ready(device, responder) = configuring.step(Message::Ready { features })? else {
        panic!("the conversation goes on");
    };
    assert!(responder.accept());
    Ok(Hosted {
        device,
        model: Probe::default(),
        slots: vec![ChainSlot::new(); 4],
    })
}

impl Hosted {
    fn poll(&mut self) -> virtside::Step {
        self.device.poll(&mut self.model, &mut self.slots, 64)
    }

    fn quiesce(&mut self, queue: u16) -> bool {
        self.device
            .quiesce(queue, &mut self.model, &mut self.slots)
            .is_done()
    }

    fn stop(&mut self, queue: u16) -> bool {
        self.device
            .stop_queue(queue, &mut self.model, &mut self.slots)
            .is_done()
    }
}
