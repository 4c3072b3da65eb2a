//! DPDK's virtio driver drives virtside's rings over vhost-user, with VIRTIO_F_IN_ORDER.
//!
//! DPDK has ring code of its own. With IN_ORDER it keeps no list of free descriptors, and takes
//! several buffers back for one used element. testpmd sends back each frame that it receives. The
//! device numbers the frames, keeps chains for a while and answers them in random order.
//! `ROUNDTRIPS` in the environment is the number of frames of each run.

mod backend;
mod device;
mod elements;
mod net;
mod testpmd;

use std::{
    sync::{Mutex, PoisonError, mpsc::channel},
    thread,
    time::{Duration, Instant},
};

use device::Outcome;
use net::{Net, OWN};
use testpmd::{Options, Statistics, Testpmd};
use virtside::Features;
use vmm_sys_util::tempdir::TempDir;

/// Frames that testpmd makes at the start. Its queue has room for them and for the kept chains, so
/// testpmd has no reason to drop a frame.
const OWN_FRAMES: u64 = 128;

/// The number of frames of a run.
fn frames() -> u64 {
    match std::env::var("ROUNDTRIPS") {
        Ok(count) => count.parse().expect("ROUNDTRIPS is a number"),
        Err(_) => 20_000,
    }
}

/// Serializes the runs: each has two threads that never sleep.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Runs testpmd with this device until the device is done.
fn run(options: Options, net: Net) -> (Outcome, Statistics) {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let begin = Instant::now();
    let folder = TempDir::new().expect("a temporary folder");
    let socket = folder.as_path().join("net.sock");
    let listener = backend::listen(&socket);
    let mut offered =
        Features::VERSION_1 | Features::IN_ORDER | Features::EVENT_IDX | Features::INDIRECT_DESC;
    if cfg!(feature = "packed") {
        offered = offered | Features::RING_PACKED;
    }
    let (done, is_done) = channel();
    let device = thread::spawn(move || backend::serve(&listener, offered, net, done));
    let testpmd = Testpmd::start(&socket, options);
    if is_done.recv_timeout(Duration::from_secs(120)).is_err() {
        panic!("the device is not done:\n{}", testpmd.kill());
    }
    let statistics = testpmd.finish();
    let outcome = device.join().expect("the thread does not panic");
    assert_eq!(
        outcome.features.contains(Features::IN_ORDER),
        options.in_order
    );
    assert_eq!(
        outcome.features.contains(Features::RING_PACKED),
        options.packed
    );
    assert_eq!(
        u64::from(outcome.counters.chains),
        outcome.net.sent + outcome.net.received
    );
    assert_eq!(outcome.counters.rejected, 0);
    println!(
        "{options:?}: {:?}, {statistics:?}, {} + {} bytes, {} transmit chains with {} elements, {} overtook, {:?}, {:.1?}",
        outcome.features,
        outcome.net.sent_bytes,
        outcome.net.received_bytes,
        outcome.net.sent,
        outcome.elements,
        outcome.net.overtaking,
        outcome.counters,
        begin.elapsed()
    );
    (outcome, statistics)
}

/// Checks that each numbered frame goes to the driver and comes back once; with IN_ORDER, in order.
fn every_frame_comes_back(packed: bool, in_order: bool) -> Outcome {
    let options = Options {
        packed,
        in_order,
        forward: "io",
        burst: OWN_FRAMES,
        len: OWN,
    };
    let frames = frames();
    let (outcome, statistics) = run(options, Net::new(in_order, OWN_FRAMES, frames));
    let expected = Statistics {
        received: frames,
        sent: OWN_FRAMES + frames,
        dropped: 0,
    };
    assert_eq!(statistics, expected);
    assert_eq!(outcome.net.received, frames);
    assert_eq!(outcome.net.sent, OWN_FRAMES + frames);
    let own_bytes = OWN_FRAMES * OWN as u64;
    assert_eq!(
        outcome.net.sent_bytes,
        outcome.net.received_bytes + own_bytes
    );
    assert_ne!(
        outcome.net.overtaking, 0,
        "some chains were answered out of order"
    );
    outcome
}

/// Checks that waiting transmit chains share used elements. Transmit buffers are full when they are
/// used.
fn have_batches(outcome: &Outcome) {
    let each = outcome.net.sent as f64 / outcome.elements as f64;
    assert!(each > 2.0, "{each} chains per used element");
}

/// testpmd sends as fast as it can, into a queue that is mostly full. It does not count the frames
/// that it drops as sent.
fn a_flood(packed: bool) {
    let options = Options {
        packed,
        in_order: true,
        forward: "txonly",
        burst: 32,
        len: OWN,
    };
    let (outcome, statistics) = run(options, Net::new(true, frames(), 0));
    assert_eq!(statistics.received, 0);
    assert_eq!(statistics.sent, outcome.net.sent);
    have_batches(&outcome);
}

#[test]
#[ignore = "needs dpdk-testpmd: tests/run in-order installs it"]
fn every_frame_comes_back_over_split_rings_in_order() {
    have_batches(&every_frame_comes_back(false, true));
}

#[test]
#[cfg(feature = "packed")]
#[ignore = "needs dpdk-testpmd: tests/run in-order installs it"]
fn every_frame_comes_back_over_packed_rings_in_order() {
    have_batches(&every_frame_comes_back(true, true));
}

#[test]
#[ignore = "needs dpdk-testpmd: tests/run in-order installs it"]
fn every_frame_comes_back_over_a_full_split_ring() {
    a_flood(false);
}

#[test]
#[cfg(feature = "packed")]
#[ignore = "needs dpdk-testpmd: tests/run in-order installs it"]
fn every_frame_comes_back_over_a_full_packed_ring() {
    a_flood(true);
}

#[test]
#[ignore = "needs dpdk-testpmd: tests/run in-order installs it"]
fn without_the_feature_each_buffer_has_an_element_of_its_own() {
    for packed in [false, true] {
        if !packed || cfg!(feature = "packed") {
            let outcome = every_frame_comes_back(packed, false);
            assert_eq!(outcome.elements, outcome.net.sent);
        }
    }
}
