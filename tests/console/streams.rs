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
        let mut desk = Desk::new();
        desk.tape(0).piece = piece;
        desk.tape(0).room = 0;
        let mut expected = Vec::new();
        let mut rooms = rooms.into_iter();
        for (len, cuts) in chunks {
            let bytes: Vec<u8> = (0..len).map(|at| (at * 31 + len) as u8).collect();
            let at = Desk::<1>::at(1, 0);
            desk.queues[1].write(at, &bytes);
            expected.extend(bytes);
            desk.queues[1].send(0, &cut(at, len, &cuts, false));
            desk.kick(1);
            while !desk.sent(1) {
                desk.drain(0, rooms.next().unwrap_or(usize::MAX));
            }
        }
        prop_assert_eq!(desk.written(0), expected);
        prop_assert_eq!(desk.host_fault(), None);
    }

    #[test]
    fn input_is_whole_however_it_is_cut(
        arrivals in vec(vec(any::<u8>(), 0..200), 1..8),
        buffers in vec((0u32..300, vec(any::<u32>(), 0..5)), 1..20),
        piece in 1usize..100,
        limit in 0u32..200,
    ) {
        let console = Console::new(Tape::new()).with_limit(limit);
        let mut desk: Desk = Desk::over(console);
        desk.tape(0).piece = piece;
        let expected = arrivals.concat();
        let mut arrivals = arrivals.into_iter();
        let mut got = Vec::new();
        for (len, cuts) in buffers {
            let at = Desk::<1>::at(0, 0);
            desk.queues[0].write(at, &[UNTOUCHED; 0x180]);
            desk.queues[0].send(0, &cut(at, len, &cuts, true));
            desk.kick(0);
            let bytes = loop {
                if let Some(bytes) = desk.got(0) {
                    break bytes;
                }
                let Some(bytes) = arrivals.next() else {
                    prop_assert_eq!(&got, &expected);
                    return Ok(());
                };
                desk.arrive(0, &bytes);
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
    let mut desk: Desk<1, T> = Desk::over(Console::new(port));
    macro_rules! reader {
        () => {
            stream(desk.port(0).io_mut(), true)
        };
    }
    macro_rules! writer {
        () => {
            stream(desk.port(0).io_mut(), false)
        };
    }
    // Input.
    desk.offer(0, 100);
    assert_eq!(desk.got(0), None);
    reader!().input.extend((0..100).collect::<Vec<u8>>());
    desk.machine.backend_ready(0);
    desk.settle();
    assert_eq!(desk.got(0), Some((0..100).collect()));
    // Output.
    desk.send(1, b"hello");
    assert!(!desk.sent(1));
    for (room, so_far) in [(2, &b"he"[..]), (9, b"hello")] {
        writer!().room = room;
        desk.machine.backend_ready(1);
        desk.settle();
        assert_eq!(writer!().output, so_far);
    }
    assert!(desk.sent(1));
    assert_eq!(desk.host_fault(), None);
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
        desk.offer(0, 16);
        assert_eq!(desk.host_fault(), Some(HostFault::Backend));
        assert_eq!(desk.got(0), None);
        trouble(reader!(), None);
        reader!().input.extend(b"x");
        desk.machine.backend_ready(0);
        desk.settle();
        assert_eq!(desk.got(0).as_deref(), Some(&b"x"[..]));
        trouble(writer!(), Some(ErrorKind::BrokenPipe));
        desk.send(1, b"lost");
        assert!(desk.sent(1));
        assert_eq!(desk.host_fault(), Some(HostFault::Backend));
        trouble(writer!(), None);
    }
    // A stream that has ended returns no more bytes, but is always ready.
    reader!().ended = true;
    desk.offer(0, 16);
    desk.offer(0, 16);
    assert_eq!(desk.settle(), Step::Blocked);
    assert_eq!(desk.got(0), None);
    assert_eq!(desk.host_fault(), None);
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
    let (mut one, mut two) = (IoPort::new(Stream::default()), Tape::new());
    two.emergency(1);
    {
        let ports: [Port<&mut dyn ConsolePort>; 2] = [Port::new(&mut one), Port::new(&mut two)];
        let mut desk: Desk<2, &mut dyn ConsolePort> = Desk::over(Console::with_ports(ports));
        desk.tell(0, DEVICE_READY, 1);
        desk.news();
        desk.tell(1, PORT_READY, 1);
        desk.tell(1, OPEN, 1);
        desk.send(5, b"hello");
        assert!(desk.sent(5));
        let mut byte = [0];
        assert_eq!(
            desk.port(0).io_mut().read(&mut byte),
            Err(ConsoleError::NotReady)
        );
        desk.port(1).io_mut().emergency(2);
        assert!(!desk.port(1).io().has_input());
    }
    assert_eq!(two.output, b"hello");
    assert_eq!(two.opened, [true]);
    assert_eq!(two.emergencies, [1, 2]);
}
