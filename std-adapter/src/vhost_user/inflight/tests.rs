use super::*;

const QUEUES: usize = 2;
const SIZE: u16 = 3;

fn wanted() -> VhostUserInflight {
    VhostUserInflight::new(0, 0, 2, SIZE)
}

/// A recorder over new memory, and the memory.
fn recorder() -> (Inflight<QUEUES>, VhostUserInflight, File) {
    let (made, file) = create::<QUEUES, 8>(&wanted()).unwrap();
    let ours = file.try_clone().unwrap();
    (Inflight::over::<8>(&made, file).unwrap(), made, ours)
}

fn popped(queue: u16, next_avail: u16) -> Event {
    Event::Popped {
        queue,
        head: 0,
        readable: 0,
        writable: 0,
        next_avail,
    }
}

fn used(queue: u16) -> Event {
    Event::Used {
        queue,
        head: 0,
        written: 0,
    }
}

#[test]
fn new_memory_has_no_record() {
    let (recorder, ..) = recorder();
    assert!(recorder.has(1));
    assert!(!recorder.has(2));
    assert_eq!(recorder.recorded(0), None);
}

#[test]
fn the_next_device_finds_the_position_of_the_last() {
    let (mut recorder, made, file) = recorder();
    recorder.begin(1, true, 0x8000);
    for position in [0x8001, 0x8002, 0] {
        recorder.event(&popped(1, position));
    }
    recorder.event(&used(1));
    recorder.event(&used(1));
    drop(recorder);
    let next = Inflight::<QUEUES>::over::<8>(&made, file).unwrap();
    let expected = Recorded {
        position: 0x8002,
        behind: 0,
    };
    assert_eq!(next.recorded(1), Some(expected));
    assert_eq!(next.recorded(0), None);
}

#[test]
fn positions_go_around() {
    let (mut recorder, ..) = recorder();
    recorder.begin(0, true, 0);
    for position in 1..20 {
        recorder.event(&popped(0, position));
        let recorded = recorder.recorded(0).unwrap();
        assert_eq!(
            (recorded.position, recorded.behind),
            (position - 1, position)
        );
        recorder.event(&used(0));
    }
}

#[test]
fn the_position_behind_no_chain_is_the_position_itself() {
    let (mut recorder, ..) = recorder();
    recorder.begin(0, true, 0x8000);
    let idle = |recorder: &Inflight<QUEUES>| {
        let recorded = recorder.recorded(0).unwrap();
        assert_eq!(recorded.position, recorded.behind);
        recorded.position
    };
    assert_eq!(idle(&recorder), 0x8000);
    for position in 1..10 {
        recorder.event(&popped(0, position));
        recorder.event(&used(0));
        assert_eq!(idle(&recorder), position);
    }
    // As many chains as the queue has elements.
    for position in 10..13 {
        recorder.event(&popped(0, position));
    }
    recorder.event(&used(0));
    let expected = Recorded {
        position: 10,
        behind: 11,
    };
    assert_eq!(recorder.recorded(0), Some(expected));
}

#[test]
fn memory_of_another_kind_of_device_is_refused() {
    let (made, file) = create::<QUEUES, 8>(&wanted()).unwrap();
    // The version of the layout that other devices use.
    std::os::unix::fs::FileExt::write_all_at(&file, &[1], 8).unwrap();
    assert!(Inflight::<QUEUES>::over::<8>(&made, file).is_err());
}

#[test]
fn a_stopped_queue_has_no_record() {
    let (mut recorder, ..) = recorder();
    recorder.begin(0, true, 5);
    recorder.end(0);
    assert_eq!(recorder.recorded(0), None);
}

#[test]
fn a_record_that_was_tampered_with_is_no_record() {
    let (mut recorder, ..) = recorder();
    recorder.begin(0, true, 5);
    let index = u64::from(SIZE) << 16;
    recorder.store(0, VALID | index);
    assert_eq!(recorder.recorded(0), None, "no such index");
}

#[test]
fn memory_must_be_as_long_as_its_file() {
    let (_, made, file) = recorder();
    file.set_len(1).unwrap();
    assert!(Inflight::<QUEUES>::over::<8>(&made, file).is_err());
}

#[test]
fn more_queues_or_elements_than_the_device_has_are_refused() {
    for (queues, size) in [(3, 8), (2, 9)] {
        let wanted = VhostUserInflight::new(0, 0, queues, size);
        assert!(create::<QUEUES, 8>(&wanted).is_err());
    }
}
