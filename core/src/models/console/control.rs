//! Control messages to and from the driver, with MULTIPORT.

use embedded_io::{Read, ReadExactError, Write};
use virtio_spec::console::Device as Event;

use super::{Console, ConsolePort, Owed, Port, done};
use crate::{
    error::DriverFault,
    memory::DriverMem,
    model::{Answer, Request},
    num,
};

/// Size of `virtio_console_control` in bytes.
const HEADER_LEN: usize = 8;

impl<T: ConsolePort, const P: usize> Console<T, P> {
    /// Returns whether a port has a control message for the driver, and the driver accepts control
    /// messages (console-10).
    pub(super) fn has_control_message(&self) -> bool {
        self.has_multiport()
            && self.driver_ready
            && self.ports.iter().any(|port| port.next_message().is_some())
    }

    /// Writes the next control message into a buffer of the control receiveq.
    pub(super) fn send_control<M: DriverMem>(
        &mut self,
        request: &mut Request<'_, M>,
    ) -> Result<Answer, DriverFault> {
        if !self.has_control_message() {
            return Ok(Answer::Pending);
        }
        let message = |(id, port): (u32, _)| -> Option<(u32, &mut Port<T>, Owed, Event)> {
            let port: &mut Port<T> = port;
            let (bit, event) = port.next_message()?;
            Some((id, port, bit, event))
        };
        let Some((id, port, bit, event)) = (0..).zip(&mut self.ports).find_map(message) else {
            return Ok(Answer::Pending);
        };
        let size = port.size.unwrap_or_default();
        let [a, b] = size.cols.to_le_bytes();
        let [c, d] = size.rows.to_le_bytes();
        let size = [a, b, c, d];
        let room = num::clamp_index(request.writable.remaining());
        let after = room.checked_sub(HEADER_LEN);
        let tail = match (event, after) {
            (Event::PortName, Some(room)) => {
                let name = port.name;
                name.get(..name.floor_char_boundary(room))
                    .unwrap_or("")
                    .as_bytes()
            }
            (Event::Resize, Some(room)) if room >= size.len() => &size,
            (Event::Resize, _) | (_, None) => {
                return Err(DriverFault::BadRequest { head: request.head });
            }
            _ => &[],
        };
        let value = match event {
            Event::PortOpen => u16::from(bit == Owed::OPEN),
            Event::ConsolePort => 1,
            _ => 0,
        };
        let mut header = [0; HEADER_LEN];
        let fields = id
            .to_le_bytes()
            .into_iter()
            .chain(u16::from(event).to_le_bytes())
            .chain(value.to_le_bytes());
        for (place, byte) in header.iter_mut().zip(fields) {
            *place = byte;
        }
        let result = match request.writable.write_all(&header) {
            Ok(()) => request.writable.write_all(tail),
            Err(error) => Err(error),
        };
        match result {
            Ok(()) => port.mark_sent(bit),
            // The bit stays set, so the next buffer carries the message.
            Err(error) => request.report(error.into()),
        }
        Ok(done(request))
    }

    /// Reads a control message from a buffer of the control transmitq.
    pub(super) fn receive_control<M: DriverMem>(
        &mut self,
        request: &mut Request<'_, M>,
    ) -> Result<Answer, DriverFault> {
        let mut header = [0; HEADER_LEN];
        match request.readable.read_exact(&mut header) {
            Ok(()) => {
                let [a, b, c, d, e, f, value @ ..] = header;
                let id = u32::from_le_bytes([a, b, c, d]);
                let event = Event::try_from(u16::from_le_bytes([e, f])).ok();
                if !self.apply_control(id, event, u16::from_le_bytes(value)) {
                    self.ignored = self.ignored.wrapping_add(1);
                }
            }
            Err(ReadExactError::UnexpectedEof) => {
                return Err(DriverFault::BadRequest { head: request.head });
            }
            Err(ReadExactError::Other(error)) => request.report(error.into()),
        }
        Ok(done(request))
    }

    /// Applies a control message of the driver. Returns false if the event or the value is unknown,
    /// or if the port does not exist.
    fn apply_control(&mut self, id: u32, event: Option<Event>, value: u16) -> bool {
        let value = match value {
            0 => false,
            1 => true,
            _ => return false,
        };
        if event == Some(Event::DeviceReady) {
            self.driver_ready = value;
            return true;
        }
        let port = self
            .ports
            .get_mut(num::index(id))
            .filter(|port| port.is_usable());
        match (event, port) {
            (Some(Event::PortReady), Some(port)) => {
                port.set_ready(value);
                // After a hibernation, Linux sends PORT_READY without DEVICE_READY, and waits for
                // the control messages that follow.
                self.driver_ready |= value;
            }
            (Some(Event::PortOpen), Some(port)) => port.set_driver_open(value),
            _ => return false,
        }
        true
    }
}
