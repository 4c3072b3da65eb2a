//! Which queue is whose.

/// Control messages to the driver, with MULTIPORT.
pub const CONTROL_RECEIVEQ: u16 = 2;
/// Control messages of the driver, with MULTIPORT.
pub const CONTROL_TRANSMITQ: u16 = 3;

/// The queue in which a port gives input to the driver.
#[must_use]
pub const fn receiveq(port: u16) -> u16 {
    // The control queues lie between port 0 and the others.
    if port == 0 {
        0
    } else {
        port.saturating_add(1).saturating_mul(2)
    }
}

/// The queue in which a port takes output of the driver.
#[must_use]
pub const fn transmitq(port: u16) -> u16 {
    receiveq(port).saturating_add(1)
}

/// What a queue is for.
#[derive(Clone, Copy)]
pub(super) enum Role {
    Input(usize),
    Output(usize),
    ToDriver,
    FromDriver,
}

pub(super) fn role(queue: u16) -> Role {
    let port = match queue >> 1 {
        0 => Some(0),
        pair => pair.checked_sub(2).map(|rest| rest.saturating_add(1)),
    };
    match (port.map(usize::from), queue & 1) {
        (Some(port), 0) => Role::Input(port),
        (Some(port), _) => Role::Output(port),
        (None, 0) => Role::ToDriver,
        (None, _) => Role::FromDriver,
    }
}
