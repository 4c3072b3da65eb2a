//! A device is saved while a request is pending. Another device is restored from the state and
//! answers the request.
//!
//! `cargo run -p virtside --features testing --example snapshot`

use virtside::{
    ChainSlot, Engine, Features, FlatMem, Shared, Step,
    memory::Ram,
    models::{Entropy, EntropyError},
    snapshot::EngineSnapshot,
    testing::{Buffer, Registers, fake_queue},
};

static RAM: Ram<8192> = Ram::new();
static SHARED: [Shared<1>; 2] = [Shared::new(), Shared::new()];

type Source = fn(&mut [u8]) -> Result<usize, EntropyError>;

fn device(source: Source, shared: &'static Shared<1>) -> Engine<Entropy<Source>, FlatMem, ()> {
    Engine::new(
        Entropy::new(source),
        RAM.flat(0),
        (),
        [ChainSlot::new()],
        shared,
    )
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [here, there] = &SHARED;
    // The entropy source returns no bytes, so the request stays pending.
    let mut old = device(|_| Ok(0), here);
    let mut driver = fake_queue(RAM.flat(0), 0, 8);
    assert!(old.bring_up(Features::VERSION_1, &[driver.config(0)]));
    driver.send(0, &[Buffer::writable(0x1000, 32)]);
    let _ = old.kick(0);
    assert_eq!(old.poll(4), Step::Blocked);

    // The last parameter is the number of pending chains that the state can hold.
    let state: EngineSnapshot<_, 1, 16, 1> = old.save()?;

    let mut new = device(
        |bytes| {
            bytes.fill(4);
            Ok(bytes.len())
        },
        there,
    );
    // `restore` checks every part of the state as if a driver had written it.
    new.restore(&state)?;
    // A poll serves the request again, from its start.
    let _ = new.poll(4);
    assert_eq!(driver.take_used(), Some((0, 32)));
    println!("the request was answered once, by the restored device");
    Ok(())
}
