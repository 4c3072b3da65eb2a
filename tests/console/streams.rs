//! Bytes arrive complete and in order, however they are cut. Streams of `embedded_io` serve as
//! ports.

use std::collections::VecDeque;

use embedded_io::{ErrorKind, ErrorType, Read, ReadReady, Write, WriteReady};
use proptest::{collection::vec, prelude::*};
use virtside::{
    HostFault, Step,
    models::{
        Console, ConsoleError, ConsolePort,
        console::{IoPort, SplitPort},
    },
};
use virtside_tests::{cut, models::console::*};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn output_is_whole_however_it_is_cut(
        chunks in vec((0u32..300, vec(any::<u32>(), 0..5)), 1..8),
        rooms in vec(0usize..200, 0..20),
        piece in 1usize..100,
    ) {
        let mut rig = ConsoleRig::new();
        rig.io(0).piece = piece;
        rig.io(0).room = 0;
        let mut expected = Vec::new();
        let mut rooms = rooms.into_iter();
        for (len, cuts) in chunks {
            let bytes: Vec<u8> = (0..len).map(|at| (at * 31 + len) as u8).collect();
            let at = ConsoleRig::<1>::at(1, 0);
            rig.queues[1].write(at, &bytes);
            expected.extend(bytes);
            rig.queues[1].send(0, &cut(at, len, &cuts, false));
            rig.kick(1);
            while !rig.sent(1) {
                rig.drain(0, rooms.next().unwrap_or(usize::MAX));
            }
        }
        prop_assert_eq!(rig.written(0), expected);
        prop_assert_eq!(rig.host_fault(), None);
    }

    #[test]
    fn input_is_whole_however_it_is_cut(
        arrivals in vec(vec(any::<u8>(), 0..200), 1..8),
        buffers in vec((0u32..300, vec(any::<u32>(), 0..5)), 1..20),
        piece in 1usize..100,
        limit in 0u32..200,
    ) {
        let console = Console::new(RecordingPort::new()).with_limit(limit);
        let mut rig: ConsoleRig = ConsoleRig::over(console);
        rig.io(0).piece = piece;
        let expected = arrivals.concat();
        let mut arrivals = arrivals.into_iter();
        let mut got = Vec::new();
        for (len, cuts) in buffers {
            let at = ConsoleRig::<1>::at(0, 0);
            rig.queues[0].write(at, &[UNTOUCHED; 0x180]);
            rig.queues[0].send(0, &cut(at, len, &cuts, true));
            rig.kick(0);
            let bytes = loop {
                if let Some(bytes) = rig.got(0) {
                    break bytes;
                }
                let Some(bytes) = arrivals.next() else {
                    prop_assert_eq!(&got, &expected);
                    return Ok(());
                };
                rig.arrive(0, &bytes);
            };
            prop_assert_eq!(bytes.is_empty(), len == 0);
            prop_assert!(bytes.len() <= limit.max(1) as usize);
            got.extend(bytes);
        }
        prop_assert_eq!(&got[..], &expected[..got.len()]);
    }
}

/// A stream that is ready when the test says so.
#[derive(Debug, Default)]
struct Stream {
    input: VecDeque<u8>,
    output: Vec<u8>,
    room: usize,
    fails: Option<ErrorKind>,
    fails_when_asked: Option<ErrorKind>,
    ended: bool,
}

impl ErrorType for Stream {
    type Error = ErrorKind;
}

impl Read for Stream {
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize, ErrorKind> {
        self.fails.map_or(Ok(()), Err)?;
        assert!(self.ended || !self.input.is_empty(), "this would block");
        let count = bytes.len().min(self.input.len());
        for (place, byte) in bytes.iter_mut().zip(self.input.drain(..count)) {
            *place = byte;
        }
        Ok(count)
    }
}

impl ReadReady for Stream {
    fn read_ready(&mut self) -> Result<bool, ErrorKind> {
        self.fails_when_asked.map_or(Ok(()), Err)?;
        Ok(self.ended || self.fails.is_some() || !self.input.is_empty())
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        self.fails.map_or(Ok(()), Err)?;
        assert!(self.room > 0, "this would block");
        let count = bytes.len().min(self.room);
        self.room -= count;
        self.output.extend_from_slice(&bytes[..count]);
        Ok(count)
    }
    fn flush(&mut self) -> Result<(), ErrorKind> {
        panic!("this may block");
    }
}

impl WriteReady for Stream {
    fn write_ready(&mut self) -> Result<bool, ErrorKind> {
        self.fails_when_asked.map_or(Ok(()), Err)?;
        Ok(self.fails.is_some() || self.room > 0)
    }
}

/// Tests either kind of port. `stream` returns the half for reading or the half for writing.
fn works<T: ConsolePort>(port: T, stream: impl Fn(&mut T, bool) -> &mut Stream) {
    let mut rig: ConsoleRig<1, T> = ConsoleRig::over(Console::new(port));
    macro_rules! reader {
        () => {
            stream(rig.port(0).io_mut(), true)
        };
    }
    macro_rules! writer {
        () => {
            stream(rig.port(0).io_mut(), false)
        };
    }
    // Input.
    rig.offer(0, 100);
    assert_eq!(rig.got(0), None);
    reader!().input.extend((0..100).collect::<Vec<u8>>());
    rig.machine.backend_ready(0);
    rig.settle();
    assert_eq!(rig.got(0), Some((0..100).collect()));
    // Output.
    rig.send(1, b"hello");
    assert!(!rig.sent(1));
    for (room, so_far) in [(2, &b"he"[..]), (9, b"hello")] {
        writer!().room = room;
        rig.machine.backend_ready(1);
        rig.settle();
        assert_eq!(writer!().output, so_far);
    }
    assert!(rig.sent(1));
    assert_eq!(rig.host_fault(), None);
    // A stream fails, or cannot report whether it is ready.
    for asked in [false, true] {
        let trouble = |stream: &mut Stream, error| {
            if asked {
                stream.fails_when_asked = error;
            } else {
                stream.fails = error;
            }
        };
        trouble(reader!(), Some(ErrorKind::BrokenPipe));
        rig.offer(0, 16);
        assert_eq!(rig.host_fault(), Some(HostFault::Backend));
        assert_eq!(rig.got(0), None);
        trouble(reader!(), None);
        reader!().input.extend(b"x");
        rig.machine.backend_ready(0);
        rig.settle();
        assert_eq!(rig.got(0).as_deref(), Some(&b"x"[..]));
        trouble(writer!(), Some(ErrorKind::BrokenPipe));
        rig.send(1, b"lost");
        assert!(rig.sent(1));
        assert_eq!(rig.host_fault(), Some(HostFault::Backend));
        trouble(writer!(), None);
    }
    // A stream that has ended returns no more bytes, but is always ready.
    reader!().ended = true;
    rig.offer(0, 16);
    rig.offer(0, 16);
    assert_eq!(rig.settle(), Step::Blocked);
    assert_eq!(rig.got(0), None);
    assert_eq!(rig.host_fault(), None);
}

#[test]
fn a_stream_is_a_port() {
    works(IoPort::new(Stream::default()), |port, _| port.io_mut());
}

#[test]
fn two_halves_are_a_port() {
    works(
        SplitPort::new(Stream::default(), Stream::default()),
        |port, reader| {
            if reader {
                port.reader_mut()
            } else {
                port.writer_mut()
            }
        },
    );
}

#[test]
fn ports_of_all_kinds_share_a_device() {
    use virtside::models::console::Port;
    let (mut one, mut two) = (IoPort::new(Stream::default()), RecordingPort::new());
    two.emergency(1);
    {
        let ports: [Port<&mut dyn ConsolePort>; 2] = [Port::new(&mut one), Port::new(&mut two)];
        let mut rig: ConsoleRig<2, &mut dyn ConsolePort> =
            ConsoleRig::over(Console::with_ports(ports));
        rig.tell(0, DEVICE_READY, 1);
        rig.messages();
        rig.tell(1, PORT_READY, 1);
        rig.tell(1, OPEN, 1);
        rig.send(5, b"hello");
        assert!(rig.sent(5));
        let mut byte = [0];
        assert_eq!(
            rig.port(0).io_mut().read(&mut byte),
            Err(ConsoleError::NotReady)
        );
        rig.port(1).io_mut().emergency(2);
        assert!(!rig.port(1).io().has_input());
    }
    assert_eq!(two.output, b"hello");
    assert_eq!(two.opened, [true]);
    assert_eq!(two.emergencies, [1, 2]);
}
