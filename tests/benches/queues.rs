//! Counts instructions per chain in `Engine::poll`, by the number of queues. Either one queue is
//! busy with 64 chains beside idle queues, or every queue has chains.
//!
//! `cargo bench -p virtside-tests --bench queues` prints the counts, and in brackets their ratio to
//! the count for one queue. It needs valgrind. It fails if a count is above its budget.
//!
//! One chain in each of 64 queues makes 64 batches of one chain. For each queue the device drains
//! the kick, finds the end of the ring, asks for the next kick and reads whether the driver wants
//! an interrupt. The count for 64 chains in 64 queues is therefore to be compared with one chain in
//! one queue, the first count of the last line.

use std::{
    hint::black_box,
    process::{Command, ExitCode},
};

use virtside::{
    Answer, ChainSlot, DeviceConfig, DeviceModel, DriverFault, DriverMem, Engine, Features,
    FlatMem, Request, Shared, Step,
    memory::Ram,
    testing::{Buffer, FakeDriver, Layout, Registers},
};

/// Chains of a round, in all queues together.
const CHAINS: u16 = 64;
const N: usize = 64;
const ROUNDS: u16 = 20;
/// Bytes from the rings of one queue to those of the next queue.
const STRIDE: u64 = 0x800;
const BUFFER: u64 = 0x4_0000;

static RAM: Ram<{ 1 << 19 }> = Ram::new();

/// A model that answers at once, and accesses no buffer.
struct Null<const Q: usize>;

impl<const Q: usize> DeviceConfig for Null<Q> {
    fn device_id(&self) -> u32 {
        63
    }
    fn features(&self) -> Features {
        Features::RING
    }
    fn queue_size_max(&self, queue: u16) -> u16 {
        if usize::from(queue) < Q { 64 } else { 0 }
    }
}

impl<const Q: usize> DeviceModel for Null<Q> {
    fn serve<M: DriverMem>(&mut self, _: &mut Request<'_, M>) -> Result<Answer, DriverFault> {
        Ok(Answer::Done { written: 0 })
    }
}

/// The queues that have chains.
#[derive(Clone, Copy)]
enum Busy {
    /// The last queue has 64 chains.
    One,
    /// All queues together have 64 chains.
    All,
    /// Every queue has 64 chains.
    Full,
    /// Every queue has one chain.
    Single,
}

impl Busy {
    /// Chains of a round.
    fn chains(self, queues: u16) -> u16 {
        match self {
            Self::One | Self::All => CHAINS,
            Self::Full => queues * CHAINS,
            Self::Single => queues,
        }
    }
}

type Machine<'s, const Q: usize> =
    Engine<Null<Q>, FlatMem, (), Q, N, [ChainSlot<N>; 1], &'s Shared<Q>>;

#[inline(never)]
fn measured_poll<const Q: usize>(machine: &mut Machine<'_, Q>) -> u32 {
    let mut polls = 1;
    while machine.poll(CHAINS) == Step::More {
        polls += 1;
    }
    polls
}

fn run<const Q: usize>(busy: Busy) {
    let shared = Shared::<Q>::new();
    let mem = RAM.flat(0);
    let layout = |queue: u16| Layout::packed_at(u64::from(queue) * STRIDE, CHAINS);
    let count = u16::try_from(Q).expect("few queues");
    let mut drivers: Vec<_> = (0..count)
        .map(|queue| FakeDriver::new(mem.clone(), layout(queue)))
        .collect();
    let mut machine: Machine<'_, Q> =
        Engine::new(Null, mem.clone(), (), [ChainSlot::new()], &shared);
    let configs: Vec<_> = (0..count)
        .map(|queue| layout(queue).config(queue))
        .collect();
    assert!(machine.bring_up(Features::RING, &configs));
    // The work that every queue does once at its start is not measured.
    while machine.poll(CHAINS) == Step::More {}

    let first = match busy {
        Busy::One => count - 1,
        _ => 0,
    };
    let each = busy.chains(count) / (count - first);
    for driver in &drivers {
        for head in 0..CHAINS {
            driver.write_chain(head, &[Buffer::writable(BUFFER, 16)]);
        }
    }
    for _ in 0..ROUNDS {
        for (queue, driver) in drivers.iter_mut().enumerate().skip(usize::from(first)) {
            for head in 0..each {
                driver.offer(head);
            }
            // The driver asks for one interrupt, for the last chain.
            driver.set_used_event(driver.next_avail().wrapping_sub(1));
            driver.publish();
            shared
                .doorbell()
                .ring(u16::try_from(queue).expect("few queues"));
        }
        black_box(measured_poll(black_box(&mut machine)));
    }
    let done = u32::from(ROUNDS) * u32::from(busy.chains(count));
    assert_eq!(machine.counters().chains, done, "every chain was answered");
    assert_eq!(machine.counters().rejected, 0);
}

/// The busy queues, and the most instructions per chain with one queue and with 64 queues.
const CASES: [(&str, Busy, [f64; 2]); 4] = [
    ("one busy, 64 chains", Busy::One, [128.0, 145.0]),
    ("all busy, 64 chains", Busy::All, [128.0, 447.0]),
    ("all busy, 64 each", Busy::Full, [128.0, 266.0]),
    ("all busy, 1 each", Busy::Single, [378.0, 447.0]),
];
const QUEUES: [u16; 4] = [1, 4, 16, 64];

/// Counts the instructions per chain of one case, in a run of this program under callgrind.
fn instructions(case: usize, queues: u16) -> Option<f64> {
    let output = Command::new("valgrind")
        .args([
            "--tool=callgrind",
            "--callgrind-out-file=/dev/null",
            "--collect-atstart=no",
            "--toggle-collect=*measured_poll*",
        ])
        .arg(std::env::current_exe().ok()?)
        .args(["--case", &case.to_string(), &queues.to_string()])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stderr);
    let count = text
        .lines()
        .find_map(|line| line.split("Collected :").nth(1))?;
    let count: f64 = count.trim().parse().ok()?;
    Some(count / f64::from(ROUNDS) / f64::from(CASES[case].1.chains(queues)))
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--case") {
        let number = |at: usize| -> usize { arguments[at].parse().expect("a number") };
        let (_, busy, _) = CASES[number(at + 1)];
        match number(at + 2) {
            1 => run::<1>(busy),
            4 => run::<4>(busy),
            16 => run::<16>(busy),
            _ => run::<64>(busy),
        }
        return ExitCode::SUCCESS;
    }
    let mut good = true;
    print!("{:<22}", "instructions a chain");
    for queues in QUEUES {
        print!(" {:>18}", format!("{queues} queues"));
    }
    println!();
    for (at, (name, _, budgets)) in CASES.into_iter().enumerate() {
        print!("{name:<22}");
        let base = instructions(at, 1);
        for queues in QUEUES {
            let text = match (base, instructions(at, queues)) {
                (Some(base), Some(count)) => {
                    good &= match queues {
                        1 => count <= budgets[0],
                        64 => count <= budgets[1],
                        _ => true,
                    };
                    format!("{count:.0} ({:.2})", count / base)
                }
                _ => {
                    good = false;
                    "no valgrind".into()
                }
            };
            print!(" {text:>18}");
        }
        println!();
    }
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
