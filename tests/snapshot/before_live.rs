//! The state of a device of messages that is not live yet.

use virtside::{
    ChainSlot, Configuring, Device, DeviceBuilder, Features, FlatMem, Message, ReadyResponder,
    Shared,
    memory::Ram,
    setup::Progress,
    snapshot::{DeviceSnapshot, SnapshotError},
};
use virtside_tests::probe::Probe;

static RAM: Ram<65536> = Ram::new();

type Built<'s> = (
    Device<FlatMem, (), 2, 16, &'s Shared<2>>,
    ReadyResponder<(), 2, &'s Shared<2>>,
);

fn built(shared: &Shared<2>) -> Built<'_> {
    let builder = DeviceBuilder::new(shared);
    let mut configuring = Configuring::<_, _, _, 2, 16, _>::new(builder, &.., RAM.flat(0));
    let ready = Message::Ready {
        features: Features::VERSION_1,
    };
    match configuring.step(ready) {
        Ok(Progress::Ready(device, responder)) => (device, responder),
        _ => panic!("a device without queues"),
    }
}

#[test]
fn its_features_are_checked_too() {
    let shared = [Shared::new(), Shared::new()];
    let mut slots = [const { ChainSlot::<16>::new() }; 2];
    let (mut saved, responder) = built(&shared[0]);
    let mut state: DeviceSnapshot<2, 16, 2> = saved.save(&slots).expect("no chain is in hand");
    drop(responder);

    let (mut device, _responder) = built(&shared[1]);
    let good = state.features;
    for features in [[u64::MAX; 2], [1, 0]] {
        state.features = features;
        let restored = device.restore(&state, &mut Probe::default(), &mut slots);
        assert_eq!(restored, Err(SnapshotError::Features), "{features:x?}");
    }
    state.features = good;
    let restored = device.restore(&state, &mut Probe::default(), &mut slots);
    assert_eq!(restored, Ok(()));
}
