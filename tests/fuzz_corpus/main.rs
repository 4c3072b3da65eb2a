//! Replays the fuzz corpora, and also random inputs, through the bodies of the fuzz targets.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
};

#[cfg(feature = "packed")]
use virtside_fuzz_bodies::packed_ring;
use virtside_fuzz_bodies::{FuzzRam, registers, shifting, snapshot, split_ring, vhost_user};
use virtside_tests::random::Random;

type Body = fn(&'static FuzzRam, &[u8]);

/// One memory for each target. A lock ensures that only one run uses it.
static RAMS: [FuzzRam; COUNT] = [const { FuzzRam::new() }; COUNT];
static TURNS: [Mutex<()>; COUNT] = [const { Mutex::new(()) }; COUNT];

const COUNT: usize = if cfg!(feature = "packed") { 6 } else { 5 };

const BODIES: [(&str, Body); COUNT] = [
    ("registers", registers),
    ("split_ring", split_ring),
    ("shifting", shifting),
    ("snapshot", snapshot),
    ("vhost_user", |_, bytes| vhost_user(bytes)),
    #[cfg(feature = "packed")]
    ("packed_ring", packed_ring),
];

/// Runs these inputs through a target; a failure names its input.
fn run(target: usize, inputs: impl IntoIterator<Item = (String, Vec<u8>)>) -> usize {
    let (name, body) = BODIES[target];
    let _turn = TURNS[target].lock();
    let mut count = 0;
    for (input, bytes) in inputs {
        let ran = std::panic::catch_unwind(|| body(&RAMS[target], &bytes));
        assert!(ran.is_ok(), "{name} fails for {input}: {bytes:02x?}");
        count += 1;
    }
    count
}

fn corpus(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(name)
}

/// Replays a corpus, which must exist.
fn replay(target: usize) {
    let folder = corpus(BODIES[target].0);
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut files: Vec<PathBuf> = files.map(|file| file.expect("a file").path()).collect();
    files.sort();
    let inputs = files.into_iter().map(|file| {
        let bytes = fs::read(&file).unwrap_or_else(|error| panic!("{file:?}: {error}"));
        (file.display().to_string(), bytes)
    });
    let count = run(target, inputs);
    assert!(count >= 20, "the corpus {folder:?} has only {count} files");
}

/// Runs a fixed sequence of random inputs: short and long, of arbitrary bytes or of few different
/// ones.
fn random(target: usize) {
    let mut random = Random::new(0x1234_5678_9abc_def1 + target as u64);
    let inputs = (0..1500).map(|round| {
        let len = random.below(if round % 10 == 0 { 1500 } else { 120 });
        let mask = [0xff, 0xff, 0x9f, 0x07][round % 4];
        let bytes = (0..len).map(|_| random.word() as u8 & mask).collect();
        (format!("random input {round}"), bytes)
    });
    assert_eq!(run(target, inputs), 1500);
}

#[test]
fn the_registers_corpus_runs_clean() {
    replay(0);
}

#[test]
fn the_split_ring_corpus_runs_clean() {
    replay(1);
}

#[test]
fn the_shifting_corpus_runs_clean() {
    replay(2);
}

#[cfg(feature = "packed")]
#[test]
fn the_packed_ring_corpus_runs_clean() {
    replay(5);
}

#[test]
fn the_snapshot_corpus_runs_clean() {
    replay(3);
}

#[test]
fn random_register_accesses_run_clean() {
    random(0);
}

#[test]
fn random_rings_run_clean() {
    random(1);
}

#[test]
fn random_changes_run_clean() {
    random(2);
}

#[cfg(feature = "packed")]
#[test]
fn random_packed_rings_run_clean() {
    random(5);
}

#[test]
fn random_states_run_clean() {
    random(3);
}

#[test]
fn the_vhost_user_corpus_runs_clean() {
    replay(4);
}

#[test]
fn random_front_ends_run_clean() {
    random(4);
}
