//! An engine that is taken apart and put together again.

use virtside::{
    ChainSlot, Engine, Features, FlatMem, Refusal, Shared,
    memory::Ram,
    model::Start,
    testing::{Registers, fake_queue},
};
use virtside_tests::{N, Q, probe::Probe};

type Machine<'s> = Engine<Probe, FlatMem, (), Q, N, [ChainSlot<N>; 4], &'s Shared<Q>>;

static RAM: Ram<65536> = Ram::new();

fn machine(shared: &Shared<Q>, start: Start) -> Machine<'_> {
    let model = Probe {
        start,
        ..Probe::default()
    };
    Engine::new(
        model,
        RAM.flat(0),
        (),
        [const { ChainSlot::new() }; 4],
        shared,
    )
}

fn again(engine: Machine<'_>) -> Machine<'_> {
    let (model, device, transport, slots) = engine.into_parts();
    Engine::from_parts(model, device, transport, slots)
}

#[test]
fn it_still_has_the_responder_of_driver_ok() {
    let shared = Shared::new();
    let mut engine = machine(&shared, Start::Later);
    let queue = fake_queue(RAM.flat(0), 0, 8).config(0);
    assert!(!engine.bring_up(Features::VERSION_1, &[queue]));
    let mut engine = again(engine);
    let responder = engine.responder().expect("nobody has answered yet");
    assert!(responder.accept());
    assert!(again(engine).responder().is_none());
}

#[test]
fn it_still_refuses_to_move_queues_out() {
    let shared = Shared::new();
    let engine = machine(&shared, Start::Accept).without_take_queue();
    let mut engine = again(engine);
    let queue = fake_queue(RAM.flat(0), 0, 8).config(0);
    assert!(engine.bring_up(Features::VERSION_1, &[queue]));
    assert_eq!(engine.take_queue(0).err(), Some(Refusal::NotNegotiated));
}
