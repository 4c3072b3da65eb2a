//! A model that keeps chains: every chain is saved, however many chains came between, and a busy
//! model is left alone.

use virtside::{
    Answer, ChainSlot, DeviceConfig, DeviceModel, DriverFault, DriverMem, Engine, Features,
    FlatMem, Request, Shared,
    memory::Ram,
    model::{SaveModel, SavedWith},
    snapshot::{EngineSnapshot, SnapshotError},
    testing::{Buffer, Registers, fake_queue},
};

/// Keeps chains while `keeps` is set.
#[derive(Debug, Default)]
struct Keeper {
    keeps: bool,
    busy: bool,
    /// Heads in the order of the calls of `serve`.
    served: Vec<u16>,
    resets: u32,
}

impl DeviceConfig for Keeper {
    fn device_id(&self) -> u32 {
        63
    }
    fn features(&self) -> Features {
        Features::RING
    }
    fn queue_size_max(&self, queue: u16) -> u16 {
        if queue == 0 { 16 } else { 0 }
    }
}

impl DeviceModel for Keeper {
    fn serve<M: DriverMem>(&mut self, request: &mut Request<'_, M>) -> Result<Answer, DriverFault> {
        self.served.push(request.head);
        Ok(if self.keeps {
            Answer::Pending
        } else {
            Answer::Done { written: 0 }
        })
    }
    fn reset(&mut self) {
        self.resets += 1;
    }
}

impl SaveModel for Keeper {
    type Snapshot = ();
    fn save(&self) {}
    fn is_reset(&self) -> bool {
        !self.busy
    }
    fn restore(&mut self, (): &(), _: SavedWith) -> Result<(), SnapshotError> {
        Ok(())
    }
}

type Machine<'s> = Engine<Keeper, FlatMem, (), 1, 16, [ChainSlot<16>; 4], &'s Shared<1>>;
type State = EngineSnapshot<(), 1, 16, 4>;

fn machine<'s>(ram: &'static Ram<65536>, shared: &'s Shared<1>, model: Keeper) -> Machine<'s> {
    Engine::new(
        model,
        ram.flat(0),
        (),
        [const { ChainSlot::new() }; 4],
        shared,
    )
}

#[test]
fn two_chains_popped_65536_chains_apart_are_both_saved() {
    static RAM: Ram<65536> = Ram::new();
    let shared = [Shared::new(), Shared::new()];
    let mut old = machine(&RAM, &shared[0], Keeper::default());
    let mut driver = fake_queue(RAM.flat(0), 0, 16);
    assert!(old.bring_up(Features::VERSION_1, &[driver.config(0)]));
    let mut send = |old: &mut Machine<'_>, head: u16, keeps: bool| {
        old.model_mut().keeps = keeps;
        driver.send(head, &[Buffer::writable(0x4000, 4)]);
        let _ = old.kick(0);
        let _ = old.poll(4);
        assert_eq!(driver.take_used().is_some(), !keeps);
    };
    send(&mut old, 0, true);
    for _ in 0..65535 {
        send(&mut old, 1, false);
    }
    send(&mut old, 2, true);
    let state: State = old.save().expect("there is room for four chains");
    assert_eq!(state.device.chains.len(), 2);

    let mut new = machine(&RAM, &shared[1], Keeper::default());
    assert_eq!(new.restore(&state), Ok(()));
    let _ = new.poll(4);
    assert_eq!(new.model().served, [0, 2], "the oldest chain comes first");
}

#[test]
fn a_busy_model_is_left_as_it_was() {
    static RAM: Ram<65536> = Ram::new();
    let shared = [Shared::new(), Shared::new()];
    let state: State = machine(&RAM, &shared[0], Keeper::default())
        .save()
        .expect("a device in reset");
    let busy = Keeper {
        busy: true,
        ..Keeper::default()
    };
    let mut engine = machine(&RAM, &shared[1], busy);
    assert_eq!(engine.restore(&state), Err(SnapshotError::NotInReset));
    assert_eq!(engine.model().resets, 0);
    engine.model_mut().busy = false;
    assert_eq!(engine.restore(&state), Ok(()));
}
