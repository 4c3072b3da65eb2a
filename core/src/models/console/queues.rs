//! Queue indices of the console device.

/// Index of the control receiveq: control messages to the driver, with MULTIPORT.
pub const CONTROL_RECEIVEQ: u16 = 2;
/// Index of the control transmitq: control messages of the driver, with MULTIPORT.
pub const CONTROL_TRANSMITQ: u16 = 3;

/// Returns the index of the receiveq of a port: the queue with input for the driver.
#[must_use]
pub const fn receiveq(port: u16) -> u16 {
    // The control queues lie between the queues of port 0 and of port 1.
    if port == 0 {
        0
    } else {
        port.saturating_add(1).saturating_mul(2)
    }
}

/// Returns the index of the transmitq of a port: the queue with output of the driver.
#[must_use]
pub const fn transmitq(port: u16) -> u16 {
    receiveq(port).saturating_add(1)
}

/// The purpose of a queue. `Input` and `Output` contain the port number.
#[derive(Clone, Copy)]
pub(super) enum Role {
    Input(usize),
    Output(usize),
    ControlToDriver,
    ControlFromDriver,
}

/// Returns the purpose of the queue with this index.
pub(super) fn role(queue: u16) -> Role {
    let port = match queue >> 1 {
        0 => Some(0),
        pair => pair.checked_sub(2).map(|rest| rest.saturating_add(1)),
    };
    match (port.map(usize::from), queue & 1) {
        (Some(port), 0) => Role::Input(port),
        (Some(port), _) => Role::Output(port),
        (None, 0) => Role::ControlToDriver,
        (None, _) => Role::ControlFromDriver,
    }
}
