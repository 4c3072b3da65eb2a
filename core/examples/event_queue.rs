//! A device that keeps chains pending: its event queue holds buffers until an event happens.
//!
//! `cargo run -p virtside --features testing --example event_queue`

use std::collections::VecDeque;

use embedded_io::Write;
use virtside::{
    Answer, ChainSlot, DeviceConfig, DeviceModel, DriverFault, DriverMem, Engine, Features,
    Request, Shared, Token,
    memory::Ram,
    testing::{Buffer, Registers, fake_queue},
};

/// Queue 0 takes commands, queue 1 reports events.
#[derive(Default)]
struct Button {
    /// Event buffers that the device holds, oldest first.
    waiting: VecDeque<Token>,
    presses: u8,
}

impl DeviceConfig for Button {
    fn device_id(&self) -> u32 {
        63
    }
    fn features(&self) -> Features {
        Features::RING
    }
    fn queue_size_max(&self, queue: u16) -> u16 {
        if queue < 2 { 16 } else { 0 }
    }
}

impl DeviceModel for Button {
    fn serve<M: DriverMem>(&mut self, request: &mut Request<'_, M>) -> Result<Answer, DriverFault> {
        if request.queue == 1 {
            if self.presses == 0 {
                self.waiting.push_back(request.token);
                return Ok(Answer::Pending);
            }
            let _ = request.writable.write(&[self.presses]);
            self.presses = 0;
        }
        let written = request.writable.written();
        Ok(Answer::Done { written })
    }
    /// A suspension must not wait until somebody presses the button.
    fn may_sleep(&self, queue: u16) -> bool {
        queue == 1
    }
    fn queue_stopped(&mut self, queue: u16) {
        if queue == 1 {
            self.waiting.clear();
        }
    }
    fn reset(&mut self) {
        *self = Self::default();
    }
}

static RAM: Ram<8192> = Ram::new();
static SHARED: Shared<2> = Shared::new();

fn main() -> Result<(), virtside::Refusal> {
    // Three slots: two event buffers may be pending, and a command is still served.
    let slots = [const { ChainSlot::new() }; 3];
    let mut device: Engine<_, _, _, 2, 16, _> =
        Engine::new(Button::default(), RAM.flat(0), (), slots, &SHARED);
    let mut commands = fake_queue(RAM.flat(0), 0, 8);
    let mut events = fake_queue(RAM.flat(0), 0x800, 8);
    assert!(device.bring_up(Features::VERSION_1, &[commands.config(0), events.config(1)]));

    for head in 0..4 {
        events.send(head, &[Buffer::writable(0x1000, 1)]);
    }
    commands.send(0, &[Buffer::readable(0x1100, 1)]);
    let _ = (device.kick(0), device.kick(1), device.poll(16));
    assert_eq!(events.take_used(), None, "nothing was pressed");
    assert_eq!(commands.take_used(), Some((0, 0)));

    // The button is pressed: the host completes the oldest buffer.
    device.model_mut().presses = 3;
    if let Some(token) = device.model_mut().waiting.pop_front() {
        device.complete(token)?;
    }
    assert_eq!(events.take_used(), Some((0, 1)));
    println!("one event buffer was used, the others are still pending");
    Ok(())
}
