//! Saved and restored state: the messages of both sides, and the progress of a buffer.

use proptest::{collection::vec, prelude::*};
use virtio_spec::console::F;
use virtside::{
    Features,
    model::SaveModel,
    models::{
        Console,
        console::{ConsoleSize, ConsoleSnapshot, Owed, Port, PortSnapshot},
    },
    snapshot::{EngineSnapshot, SnapshotError},
    testing::Registers,
};
use virtside_tests::{BUDGET, N, models::console::*, reg};

type State<const P: usize> = EngineSnapshot<ConsoleSnapshot<P>, Q, N, 16>;

#[track_caller]
fn save<const P: usize>(rig: &mut ConsoleRig<P>) -> State<P> {
    rig.machine.save().expect("the device can be saved")
}

/// Moves the device to another process, over these ports.
#[track_caller]
fn migrate_to<const P: usize>(rig: &mut ConsoleRig<P>, console: Console<RecordingPort, P>) {
    let state = save(rig);
    let mut there = machine(console, rig.ram);
    there.restore(&state).expect("the saved state is valid");
    rig.machine = there;
}

/// Moves the device over the ports of [`three`]. Each port keeps its recording, and is plugged and
/// opened as before.
#[track_caller]
fn migrate(rig: &mut ConsoleRig<3>) {
    let state = save(rig);
    let mut there = machine(three(), rig.ram);
    for (was, at) in state.model.ports.iter().zip(0..) {
        let recording = std::mem::replace(rig.io(at), RecordingPort::new());
        let port = there.model_mut().port_mut(at).expect("the port exists");
        *port.io_mut() = recording;
        if let Some(size) = was.size {
            port.resize(size);
        }
        if !was.plugged {
            port.unplug();
        }
        port.set_open(was.open);
    }
    there.restore(&state).expect("the saved state is valid");
    let mut again: State<3> = there.save().expect("the device can be saved");
    again.registers.generation = state.registers.generation;
    assert_eq!(again, state);
    rig.machine = there;
}

#[test]
fn ports_are_as_the_driver_left_them() {
    let mut rig = ConsoleRig::three();
    assert_eq!(rig.messages(), [(0, ADD, 0), (1, ADD, 0), (2, ADD, 0)]);
    for port in 0..2 {
        rig.tell(port, PORT_READY, 1);
    }
    rig.messages();
    rig.tell(1, OPEN, 1);
    migrate(&mut rig);
    assert_eq!(rig.messages(), [], "the driver knows everything");
    let ready: Vec<bool> = (0..3).map(|port| rig.port(port).is_ready()).collect();
    assert_eq!(ready, [true, true, false]);
    let open: Vec<bool> = (0..3).map(|port| rig.port(port).is_driver_open()).collect();
    assert_eq!(open, [false, true, false]);
    // Input reaches only the port that is open.
    rig.offer(4, 16);
    rig.offer(0, 16);
    rig.arrive(0, b"nobody");
    rig.arrive(1, b"hello");
    assert_eq!(rig.got(4).as_deref(), Some(&b"hello"[..]));
    assert_eq!(rig.got(0), None);
}

#[test]
fn the_host_is_told_which_ends_are_open() {
    let mut rig = ConsoleRig::three();
    rig.messages();
    rig.tell(1, PORT_READY, 1);
    rig.messages();
    rig.tell(1, OPEN, 1);
    migrate_to(&mut rig, three());
    let opened: Vec<_> = (0..3).map(|port| rig.io(port).opened.clone()).collect();
    assert_eq!(opened, [vec![], vec![true], vec![]]);
}

#[test]
fn unsent_messages_are_sent_once() {
    let mut rig = ConsoleRig::three();
    assert_eq!(rig.next_message().map(|it| it.0), Some(0));
    rig.tell(0, PORT_READY, 1);
    assert_eq!(rig.next_message().map(|it| it.1), Some(CONSOLE));
    migrate(&mut rig);
    let news = rig.messages();
    assert_eq!(news, [(0, OPEN, 1), (1, ADD, 0), (2, ADD, 0)]);
    migrate(&mut rig);
    assert_eq!(rig.messages(), []);
    rig.port(0).set_open(false);
    migrate(&mut rig);
    assert_eq!(rig.messages(), [(0, OPEN, 0)]);
}

#[test]
fn a_driver_that_takes_no_messages_gets_none() {
    let mut rig = ConsoleRig::over(three());
    migrate(&mut rig);
    assert_eq!(rig.messages(), []);
    rig.tell(0, DEVICE_READY, 1);
    assert_eq!(rig.messages(), [(0, ADD, 0), (1, ADD, 0), (2, ADD, 0)]);
}

#[test]
fn a_port_that_was_unplugged_goes_on_being_removed() {
    let mut rig = ConsoleRig::three();
    rig.messages();
    rig.port(2).unplug();
    migrate(&mut rig);
    assert_eq!(rig.messages(), [(2, REMOVE, 0)]);
    rig.port(1).unplug();
    rig.port(1).plug();
    migrate(&mut rig);
    assert_eq!(rig.messages(), [(1, REMOVE, 0), (1, ADD, 0)]);
    migrate(&mut rig);
    rig.port(2).plug();
    assert_eq!(rig.messages(), [(2, ADD, 0)]);
}

#[test]
fn a_port_opened_before_it_was_announced_stays_open() {
    let mut rig = ConsoleRig::over(three());
    rig.tell(1, OPEN, 1);
    migrate(&mut rig);
    assert!(rig.port(1).is_driver_open() && !rig.port(1).is_ready());
    migrate_to(&mut rig, three());
    assert_eq!(rig.io(1).opened, [true]);
    rig.tell(1, PORT_READY, 1);
    let news = rig.messages();
    assert_eq!(news, [(0, ADD, 0), (1, NAME, 0), (1, OPEN, 1), (2, ADD, 0)]);
    // A port that is not plugged in on the new host is not open there.
    rig.restart();
    rig.tell(1, OPEN, 1);
    let console = Console::with_ports([
        Port::new(RecordingPort::new()).console(),
        Port::new(RecordingPort::new())
            .with_name("org.example.a")
            .unplugged(),
        Port::new(RecordingPort::new()),
    ]);
    migrate_to(&mut rig, console);
    assert!(!rig.port(1).is_driver_open());
    assert_eq!(rig.io(1).opened, []);
}

#[test]
fn a_port_between_remove_and_add_is_carried_over() {
    let mut rig = ConsoleRig::three();
    rig.messages();
    rig.port(1).unplug();
    rig.port(1).plug();
    rig.machine.backend_ready(2);
    rig.settle();
    assert_eq!(rig.got(2), Some(control(1, REMOVE, 0)));
    migrate(&mut rig);
    rig.tell(1, PORT_READY, 1);
    assert_eq!(
        rig.machine.model().ignored(),
        1,
        "the message concerned the old port"
    );
    assert_eq!(rig.messages(), [(1, ADD, 0)]);
}

#[test]
fn a_change_of_the_peer_is_sent() {
    let mut rig = ConsoleRig::three_open();
    rig.port(1).set_open(false);
    rig.port(1).set_open(true);
    migrate(&mut rig);
    assert_eq!(rig.messages(), [(1, OPEN, 0), (1, OPEN, 1)]);
    // The ends differ: closed on one host and open on the other.
    rig.port(1).set_open(false);
    migrate_to(&mut rig, three());
    assert_eq!(rig.messages(), [(1, OPEN, 0), (1, OPEN, 1)]);
}

#[test]
fn the_driver_is_told_what_the_host_changed() {
    let mut rig = ConsoleRig::three_open();
    let console = Console::with_ports([
        Port::new(RecordingPort::new())
            .console()
            .with_size(ConsoleSize { cols: 80, rows: 25 }),
        Port::new(RecordingPort::new())
            .with_name("org.example.a")
            .closed(),
        Port::new(RecordingPort::new()).unplugged(),
    ]);
    // The old host also offered the size feature.
    let mut with_size = ConsoleRig::over(Console::with_ports([
        Port::new(RecordingPort::new())
            .console()
            .with_size(ConsoleSize { cols: 40, rows: 25 }),
        Port::new(RecordingPort::new()).with_name("org.example.a"),
        Port::new(RecordingPort::new()),
    ]));
    with_size.tell(0, DEVICE_READY, 1);
    with_size.messages();
    for port in 0..3 {
        with_size.tell(port, PORT_READY, 1);
        with_size.tell(port, OPEN, 1);
    }
    with_size.messages();
    migrate_to(&mut with_size, console);
    assert_eq!(
        with_size.messages(),
        [(0, RESIZE, 0), (1, OPEN, 0), (2, REMOVE, 0)]
    );
    assert!(with_size.port(0).is_driver_open() && with_size.port(1).is_driver_open());
    assert!(!with_size.port(2).is_driver_open() && !with_size.port(2).is_ready());
    assert!(with_size.io(2).opened.is_empty());
    // The old host had no such port.
    rig.port(2).unplug();
    assert_eq!(rig.messages(), [(2, REMOVE, 0)]);
    migrate_to(&mut rig, three());
    assert_eq!(rig.messages(), [(2, ADD, 0)]);
    // The driver has not learned yet that this port was removed; the port exists again.
    rig.port(1).unplug();
    migrate_to(&mut rig, three());
    assert_eq!(rig.messages(), [(1, REMOVE, 0), (1, ADD, 0)]);
}

#[test]
fn output_that_a_port_took_is_not_written_again() {
    for multiport in [false, true] {
        let wanted = if multiport {
            Features::from_bits(u128::MAX)
        } else {
            Features::from_bits(u128::MAX).difference(feature(F::MULTIPORT))
        };
        let mut rig = ConsoleRig::with(three(), wanted);
        rig.io(0).room = 5;
        rig.send(1, b"hello world");
        rig.send(1, b"!");
        assert_eq!(rig.written(0), b"hello");
        migrate(&mut rig);
        assert_eq!(rig.written(0), b"");
        rig.drain(0, 3);
        assert_eq!(rig.written(0), b" wo");
        assert!(!rig.sent(1));
        migrate(&mut rig);
        rig.drain(0, 100);
        assert_eq!(rig.written(0), b"rld!");
        assert!(rig.sent(1) && rig.sent(1));
        assert!(!rig.sent(1), "the buffer comes back once");
    }
}

#[test]
fn output_of_a_reset_queue_begins_anew() {
    let mut rig = ConsoleRig::new();
    rig.io(0).room = 5;
    rig.send(1, b"hello world");
    migrate_to(&mut rig, Console::new(RecordingPort::new()));
    // The reset comes before the first poll.
    let _ = rig.machine.store(reg::QUEUE_SEL, 1);
    let _ = rig.machine.store(reg::QUEUE_RESET, 1);
    rig.queues[1] = virtside_tests::driver(rig.ram, 1);
    let config = virtside_tests::config(1);
    assert_eq!(
        rig.machine.configure(&config),
        virtside::mmio::Reply::Done(0)
    );
    rig.send(1, b"again");
    assert_eq!(rig.written(0), b"again");
}

#[test]
fn a_buffer_that_waits_for_input_is_filled_once() {
    let mut rig = ConsoleRig::new();
    // The port reported input, but had none.
    rig.io(0).claims = Some(true);
    rig.offer(0, 16);
    rig.offer(0, 16);
    assert_eq!(rig.got(0), None);
    migrate_to(&mut rig, Console::new(RecordingPort::new()));
    rig.settle();
    assert_eq!(rig.got(0), None);
    rig.arrive(0, b"one");
    assert_eq!(rig.got(0).as_deref(), Some(&b"one"[..]));
    rig.arrive(0, b"two");
    assert_eq!(rig.got(0).as_deref(), Some(&b"two"[..]));
    assert_eq!(rig.got(0), None);
}

#[test]
fn a_reset_discards_the_restored_state() {
    let mut rig = ConsoleRig::three_open();
    migrate(&mut rig);
    rig.io(0).opened.clear();
    let _ = rig.machine.store(reg::STATUS, 0);
    assert_eq!(rig.io(0).opened, [false]);
    let fresh = machine(three(), rig.ram).model().save();
    assert_eq!(rig.machine.model().save(), fresh);
}

/// The error, the port, and the change of the state.
type Case = (&'static str, u16, fn(&mut PortSnapshot));

#[test]
fn an_impossible_port_state_is_refused() {
    let mut rig = ConsoleRig::three_open();
    rig.port(2).unplug();
    let whole = save(&mut rig);
    let cases: [Case; 18] = [
        ("an unknown message", 0, |port| port.owed = 128),
        ("ready without an announcement", 0, |port| {
            port.announced = false
        }),
        ("added twice", 0, |port| port.owed = Owed::ADD.bits()),
        ("removed and plugged", 0, |port| {
            port.owed = Owed::REMOVE.bits()
        }),
        ("unplugged and not removed", 0, |port| port.plugged = false),
        ("a name that the port does not have", 0, |port| {
            port.owed = Owed::NAME.bits()
        }),
        ("a size that the port does not have", 0, |port| {
            port.owed = Owed::SIZE.bits()
        }),
        ("a console message of a port that is none", 1, |port| {
            port.owed = Owed::CONSOLE.bits()
        }),
        ("messages before the port is ready", 1, |port| {
            port.ready = false;
            port.owed = Owed::OPEN.bits();
        }),
        ("closed in the last message, and open", 0, |port| {
            port.owed = Owed::CLOSE.bits()
        }),
        ("opened in the last message, and closed", 0, |port| {
            (port.open, port.owed) = (false, (Owed::CLOSE | Owed::OPEN).bits())
        }),
        ("removed and announced", 0, |port| port.removed = true),
        ("removed, about to be added, and ready", 0, |port| {
            (port.removed, port.announced) = (true, false);
            (port.driver_open, port.owed) = (false, Owed::ADD.bits());
        }),
        ("removed, about to be added, and open", 0, |port| {
            (port.removed, port.announced) = (true, false);
            (port.ready, port.owed) = (false, Owed::ADD.bits());
        }),
        ("unplugged and open", 2, |port| {
            (port.announced, port.removed) = (false, true);
            (port.driver_open, port.owed) = (true, 0);
        }),
        ("removed and open", 2, |port| port.driver_open = true),
        ("removed and ready", 2, |port| port.ready = true),
        ("unplugged and still to be removed", 2, |port| {
            port.announced = false
        }),
    ];
    for (what, at, change) in cases {
        let mut state = whole.clone();
        change(&mut state.model.ports[usize::from(at)]);
        let mut there = machine(three(), rig.ram);
        let refused = Err(SnapshotError::Model { at });
        assert_eq!(there.restore(&state), refused, "{what}");
        assert_eq!(there.load(reg::STATUS), 0);
        assert_eq!(
            there.model().save(),
            machine(three(), rig.ram).model().save(),
            "{what}"
        );
    }
    let mut there = machine(three(), rig.ram);
    let mut state = whole.clone();
    let _ = state.model.ports.pop();
    let refused = Err(SnapshotError::Model { at: 2 });
    assert_eq!(there.restore(&state), refused);
    there.restore(&whole).expect("the saved state is valid");
    let refused = Err(SnapshotError::NotInReset);
    assert_eq!(
        there
            .model_mut()
            .restore(&whole.model, virtside::model::SavedWith { started: true }),
        refused
    );
}

#[test]
fn a_state_with_messages_but_no_driver_is_refused() {
    let rig = ConsoleRig::over(three());
    let there = || machine(three(), rig.ram);
    let whole: State<3> = there().save().expect("the device can be saved");
    let (mut ready, mut sent) = (whole.clone(), whole);
    ready.model.driver_ready = true;
    let refused = |at| Err(SnapshotError::Model { at });
    assert_eq!(there().restore(&ready), refused(3));
    sent.model.ports[0].sent = Some(1);
    assert_eq!(there().restore(&sent), refused(0));
}

#[test]
fn without_multiport_a_port_state_is_refused() {
    let wanted = Features::from_bits(u128::MAX).difference(feature(F::MULTIPORT));
    let mut rig = ConsoleRig::with(three(), wanted);
    let whole = save(&mut rig);
    let there = || machine(three(), rig.ram);
    assert_eq!(there().restore(&whole), Ok(()));
    let refused = |at| Err(SnapshotError::Model { at });
    let mut state = whole.clone();
    state.model.driver_ready = true;
    assert_eq!(there().restore(&state), refused(3));
    let mut state = whole.clone();
    let port = &mut state.model.ports[0];
    (port.announced, port.owed) = (true, 0);
    assert_eq!(there().restore(&state), refused(0));
    let changes: [fn(&mut PortSnapshot); 2] =
        [|port| port.removed = true, |port| port.driver_open = true];
    for change in changes {
        let mut state = whole.clone();
        change(&mut state.model.ports[0]);
        assert_eq!(there().restore(&state), refused(0));
    }
    let mut state = whole.clone();
    state.model.ports[1].sent = Some(0);
    assert_eq!(there().restore(&state), refused(1));
}

/// An action of the driver or of the host.
#[derive(Clone, Copy, Debug)]
enum Action {
    Tell(u32, u16, u16),
    Messages,
    Plug(u16),
    Unplug(u16),
    Open(u16, bool),
    Resize(u16),
    Send(u16, u8),
    Room(u16, usize),
    Offer(u16),
    Arrive(u16, u8),
    Restart,
}

fn action() -> impl Strategy<Value = Action> {
    let port = || 0..3u16;
    prop_oneof![
        (
            0..3u32,
            prop::sample::select(vec![DEVICE_READY, PORT_READY, OPEN]),
            0..8u16
        )
            .prop_map(|(port, event, value)| Action::Tell(port, event, value.min(1))),
        (0..3u32).prop_map(|port| Action::Tell(port, OPEN, 1)),
        Just(Action::Messages),
        Just(Action::Messages),
        port().prop_map(Action::Plug),
        port().prop_map(Action::Unplug),
        (port(), any::<bool>()).prop_map(|(port, open)| Action::Open(port, open)),
        port().prop_map(Action::Resize),
        (port(), 1..9u8).prop_map(|(port, len)| Action::Send(port, len)),
        (port(), 0..12usize).prop_map(|(port, room)| Action::Room(port, room)),
        port().prop_map(Action::Offer),
        (port(), 1..9u8).prop_map(|(port, len)| Action::Arrive(port, len)),
        Just(Action::Restart),
    ]
}

/// A device, and the bytes that its driver and its host have seen.
struct Watched {
    rig: ConsoleRig<3>,
    seen: Vec<(u16, Vec<u8>)>,
    flying: [u32; Q],
    next: u8,
}

impl Watched {
    fn new() -> Self {
        let mut rig = ConsoleRig::three();
        rig.messages();
        for port in 0..3 {
            rig.tell(port, PORT_READY, 1);
            rig.tell(port, OPEN, 1);
            rig.io(port as u16).room = 20;
        }
        Self {
            rig,
            seen: Vec::new(),
            flying: [0; Q],
            next: 0,
        }
    }

    fn bytes(&mut self, len: u8) -> Vec<u8> {
        (0..len)
            .map(|_| {
                self.next = self.next.wrapping_add(1);
                self.next
            })
            .collect()
    }

    fn reap(&mut self) {
        for port in 0..3 {
            let input = virtside::models::console::receiveq(port);
            while let Some(bytes) = self.rig.got(input) {
                self.flying[usize::from(input)] -= 1;
                self.seen.push((input, bytes));
            }
            while self.rig.sent(input + 1) {
                self.flying[usize::from(input) + 1] -= 1;
                self.seen.push((input + 1, vec![]));
            }
            let written = self.rig.written(port);
            self.seen.push((100 + port, written));
        }
    }

    fn apply(&mut self, action: Action, migrated: bool) {
        let input = |port| virtside::models::console::receiveq(port);
        match action {
            Action::Tell(port, event, value) => self.rig.tell(port, event, value),
            Action::Messages => {
                let news = self.rig.messages();
                for (port, event, value) in news {
                    self.seen.push((200 + event, vec![port as u8, value as u8]));
                }
            }
            Action::Plug(port) => self.rig.port(port).plug(),
            Action::Unplug(port) => {
                self.rig.port(port).unplug();
                self.rig.machine.backend_ready(input(port) + 1);
            }
            Action::Open(port, open) => {
                self.rig.port(port).set_open(open);
                self.rig.machine.backend_ready(input(port) + 1);
                self.rig.machine.backend_ready(input(port));
            }
            Action::Resize(port) => {
                let cols = u16::from(self.next);
                self.rig.port(port).resize(ConsoleSize { cols, rows: 1 });
            }
            Action::Send(port, len) => {
                let queue = input(port) + 1;
                if self.flying[usize::from(queue)] < 8 {
                    self.flying[usize::from(queue)] += 1;
                    let bytes = self.bytes(len);
                    self.rig.send(queue, &bytes);
                }
            }
            Action::Room(port, room) => {
                self.rig.io(port).room = room;
                self.rig.machine.backend_ready(input(port) + 1);
            }
            Action::Offer(port) => {
                let queue = input(port);
                if self.flying[usize::from(queue)] < 8 {
                    self.flying[usize::from(queue)] += 1;
                    self.rig.offer(queue, 6);
                }
            }
            Action::Arrive(port, len) => {
                let bytes = self.bytes(len);
                self.rig.io(port).input.extend(bytes);
                self.rig.machine.backend_ready(input(port));
            }
            Action::Restart => {}
        }
        if matches!(action, Action::Restart) {
            self.rig.restart();
            self.flying = [0; Q];
        }
        if migrated {
            // The poll stops in the middle of the work.
            let _ = self.rig.machine.poll(1);
            migrate(&mut self.rig);
        }
        let _ = self.rig.machine.poll(BUDGET);
        self.rig.settle();
        self.reap();
        if migrated {
            migrate(&mut self.rig);
            self.rig.settle();
            self.reap();
        }
    }
}

proptest! {
    #[test]
    fn a_driver_does_not_notice_that_its_console_moves(
        script in vec((action(), any::<bool>()), 1..80)
    ) {
        let mut stays = Watched::new();
        let mut moves = Watched::new();
        for (what, migrated) in script {
            stays.apply(what, false);
            moves.apply(what, migrated);
            let seen = |it: &mut Watched| -> Vec<_> {
                let seen = std::mem::take(&mut it.seen);
                seen.into_iter().filter(|(what, bytes)| *what < 100 || !bytes.is_empty()).collect()
            };
            prop_assert_eq!(seen(&mut moves), seen(&mut stays));
            prop_assert_eq!(moves.flying, stays.flying);
            prop_assert_eq!(moves.rig.machine.model().save(), stays.rig.machine.model().save());
        }
    }
}
