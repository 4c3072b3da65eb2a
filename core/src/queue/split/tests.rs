use super::{Popped, SplitQueue};
use crate::{
    Features, FlatMem,
    error::DeviceError,
    memory::{PtrWindow, Ram},
    queue::{Chain, check},
    testing::{Buffer, FakeDriver, Layout},
};

static RAM: Ram<4096> = Ram::new();

/// Creates a queue of size 4 whose first serial number is `serial`, and a driver with a chain at
/// head 2.
fn queue(
    start: u64,
    features: Features,
    serial: u32,
) -> Result<(SplitQueue<PtrWindow, 4>, FakeDriver<FlatMem>), DeviceError> {
    let (mem, layout) = (RAM.flat(0), Layout::packed_at(start, 4));
    let (config, none) = (layout.config(0), core::iter::empty());
    let features = features | Features::VERSION_1;
    let checked = check::check(&config, 4, features, &mem, none)?;
    let driver = FakeDriver::new(mem, layout);
    driver.write_chain(2, &[Buffer::writable(2048, 4)]);
    let mut queue = SplitQueue::new(checked, serial);
    queue.begin();
    Ok((queue, driver))
}

#[test]
fn serial_numbers_wrap_and_never_equal_a_reserved_value() -> Result<(), DeviceError> {
    let (mut queue, mut driver) = queue(0, Features::empty(), 0xfffe_0000)?;
    let (mem, mut chain) = (RAM.flat(0), Chain::new());
    for _ in 0..200_000 {
        driver.offer(2);
        driver.publish();
        assert_eq!(queue.pop(&mem, &mut chain), Popped::Chain);
        assert!(queue.push_used(&chain, 0));
        assert!(!queue.push_used(&chain, 0), "{:#x}", chain.header.serial());
    }
    assert_eq!(queue.in_flight(), 0);
    Ok(())
}

#[test]
fn serial_numbers_in_order_never_equal_a_reserved_value() -> Result<(), DeviceError> {
    let (mut queue, mut driver) = queue(1024, Features::IN_ORDER, 0x7fff_0000)?;
    let (mem, mut chain, mut none) = (RAM.flat(0), Chain::new(), Chain::new());
    for _ in 0..200_000 {
        driver.offer(2);
        driver.publish();
        assert_eq!(queue.pop(&mem, &mut chain), Popped::Chain);
        none.header.begin(2);
        assert!(
            !queue.push_in_order(&none, 0),
            "{:#x}",
            chain.header.serial()
        );
        assert!(
            queue.push_in_order(&chain, 0),
            "{:#x}",
            chain.header.serial()
        );
        assert!(
            !queue.push_in_order(&chain, 0),
            "{:#x}",
            chain.header.serial()
        );
        assert_eq!(queue.in_flight(), 0);
    }
    Ok(())
}
