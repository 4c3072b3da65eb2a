//! A chain as two streams, one to read the request and one to write the answer.

use embedded_io::{Error, ErrorKind, Read, Write};
use proptest::{collection::vec, prelude::*};
use virtside::{
    DriverMem, Features, FlatMem,
    queue::{Chain, ChainError, Segment},
    testing::Buffer,
};
use virtside_tests::{
    BASE, DATA, N, SIZE, ram,
    rings::{EchoMem, RecordingRig},
};

/// A popped chain of these buffers, its memory, and the rig with the driver.
fn popped(buffers: &[Buffer]) -> (Chain<N>, FlatMem, RecordingRig) {
    let mut rig = RecordingRig::new(Features::empty());
    rig.poll();
    for at in 0..0x100u64 {
        rig.driver.write(DATA + at, &[at as u8]);
    }
    rig.driver.send(3, buffers);
    let mut queue = rig.engine.take_queue(0).expect("the queue is live");
    let mem = rig.ram.flat(BASE);
    let mut chain = Chain::new();
    assert_eq!(queue.pop(&mem, &mut chain), Ok(true));
    (chain, mem, rig)
}

/// Buffers of these lengths that are not adjacent.
fn pieces(lens: &[u32], writable: bool) -> Vec<Buffer> {
    let mut addr = if writable { DATA + 0x1000 } else { DATA };
    let piece = |len: &u32| {
        let here = addr;
        addr += u64::from(*len) + u64::from(writable);
        Buffer {
            addr: here,
            len: *len,
            writable,
        }
    };
    lens.iter().map(piece).collect()
}

#[test]
fn a_chain_knows_its_segments() {
    let buffers = [
        Buffer::readable(DATA, 3),
        Buffer::readable(1, 0),
        Buffer::writable(DATA, 5),
    ];
    let (chain, ..) = popped(&buffers);
    let segments: Vec<Segment> = buffers
        .iter()
        .map(|buffer| Segment {
            addr: buffer.addr,
            len: buffer.len,
        })
        .collect();
    assert_eq!(chain.segments(), segments);
    assert_eq!(chain.readable_segments(), &segments[..2]);
    assert_eq!(chain.writable_segments(), &segments[2..]);
    assert_eq!(
        (chain.head(), chain.readable_len(), chain.writable_len()),
        (3, 3, 5)
    );
}

#[test]
fn a_new_chain_is_empty() {
    let chain = Chain::<4>::new();
    let mem = virtside_tests::ram().flat(BASE);
    assert!(chain.segments().is_empty());
    assert_eq!((chain.readable_len(), chain.writable_len()), (0, 0));
    assert_eq!(chain.readable(&mem).read(&mut [0; 4]), Ok(0));
    assert_eq!(chain.writable(&mem).write(&[1]), Err(ChainError::Full));
}

#[test]
fn reading_continues_over_segments_to_the_end() {
    let (chain, mem, _) = popped(&pieces(&[2, 0, 3, 40], false));
    let mut reader = chain.readable(&mem);
    let mut bytes = [0; 4];
    assert_eq!(
        (reader.read(&mut bytes), bytes, reader.remaining()),
        (Ok(4), [0, 1, 2, 3], 41)
    );
    reader.skip(1);
    assert_eq!((reader.read(&mut bytes), bytes), (Ok(4), [5, 6, 7, 8]));
    assert_eq!(reader.read(&mut []), Ok(0));
    let mut rest = [0xff; 50];
    assert_eq!(reader.read(&mut rest), Ok(36));
    assert_eq!((rest[0], rest[35], rest[36]), (9, 44, 0xff));
    assert_eq!((reader.read(&mut bytes), reader.remaining()), (Ok(0), 0));
    assert!(reader.read_exact(&mut bytes).is_err());
    // Skipping stops at the end, and a second reader starts at the start.
    reader.skip(u32::MAX);
    assert_eq!(reader.remaining(), 0);
    let mut again = chain.readable(&mem);
    again.skip(44);
    assert_eq!(
        (again.remaining(), again.read(&mut bytes), bytes[0]),
        (1, Ok(1), 44)
    );
}

#[test]
fn views_are_of_one_segment_and_stay_until_skipped() {
    let (chain, mem, _) = popped(&pieces(&[0, 3, 4], false));
    let mut reader = chain.readable(&mem);
    for _ in 0..2 {
        let view = reader
            .view(u32::MAX)
            .expect("the segment is mapped")
            .expect("the segment has bytes");
        assert_eq!((view.len(), view.is_writable()), (3, false));
    }
    assert_eq!(
        reader
            .view(2)
            .expect("the segment is mapped")
            .expect("the segment has bytes")
            .len(),
        2
    );
    assert!(reader.view(0).expect("the segment is mapped").is_none());
    reader.skip(1);
    assert_eq!(
        reader
            .view(9)
            .expect("the segment is mapped")
            .expect("the segment has bytes")
            .len(),
        2
    );
    reader.skip(2);
    assert_eq!(
        reader
            .view(9)
            .expect("the segment is mapped")
            .expect("the segment has bytes")
            .len(),
        4
    );
    reader.skip(4);
    assert!(reader.view(9).expect("the segment is mapped").is_none());
}

#[test]
fn a_full_writer_returns_an_error_and_never_0() {
    let (chain, mem, rig) = popped(&pieces(&[2, 0, 3], true));
    let mut writer = chain.writable(&mem);
    assert_eq!(writer.write(&[]), Ok(0));
    assert_eq!(
        (writer.write(b"abc"), writer.written(), writer.remaining()),
        (Ok(3), 3, 2)
    );
    assert_eq!(writer.write(b"defg"), Ok(2), "as much as there is room for");
    assert_eq!(writer.write(b"h"), Err(ChainError::Full));
    assert_eq!(writer.write_all(b"h"), Err(ChainError::Full));
    assert_eq!((writer.write_all(b""), writer.flush()), (Ok(()), Ok(())));
    assert_eq!((writer.written(), writer.remaining()), (5, 0));
    assert_eq!(ChainError::Full.kind(), ErrorKind::WriteZero);
    let mut bytes = [0; 7];
    rig.driver.read(DATA + 0x1000, &mut bytes);
    assert_eq!(
        &bytes, b"ab\0\0cde",
        "nothing is written between the buffers"
    );
}

#[test]
fn write_all_that_does_not_fit_fills_the_room() {
    let (chain, mem, _) = popped(&pieces(&[2, 3], true));
    let mut writer = chain.writable(&mem);
    assert_eq!(writer.write_all(b"abcdefg"), Err(ChainError::Full));
    assert_eq!((writer.written(), writer.remaining()), (5, 0));
}

#[test]
fn no_more_is_committed_than_the_room() {
    let (chain, mem, _) = popped(&pieces(&[2, 3], true));
    let mut writer = chain.writable(&mem);
    writer.commit(1);
    assert_eq!((writer.written(), writer.remaining()), (1, 4));
    writer.commit(100);
    assert_eq!((writer.written(), writer.remaining()), (5, 0));
    // A writer accepts no more than what was left after its end was split off.
    let mut writer = chain.writable(&mem);
    let end = writer.split_end(2).expect("the writer has that many bytes");
    writer.commit(100);
    assert_eq!((writer.written(), writer.remaining()), (3, 0));
    assert_eq!((end.written(), end.remaining()), (0, 2));
    assert_eq!(writer.write(b"x"), Err(ChainError::Full));
}

#[test]
fn more_than_the_room_cannot_be_split_off() {
    let (chain, mem, _) = popped(&pieces(&[2, 3], true));
    let mut writer = chain.writable(&mem);
    assert!(writer.split_end(6).is_none());
    assert_eq!(writer.remaining(), 5);
    writer.commit(3);
    assert!(writer.split_end(3).is_none());
    assert_eq!(writer.split_end(2).map(|end| end.remaining()), Some(2));
    assert_eq!(writer.remaining(), 0);
    assert_eq!(writer.split_end(0).map(|end| end.remaining()), Some(0));
}

/// A chain of 4 GiB, the maximum, over memory that repeats; and that memory.
fn longest(writable: bool) -> (Chain<N>, EchoMem) {
    let ram = ram();
    let mem = EchoMem(ram.flat(BASE));
    let mut rig = RecordingRig::over(mem.clone(), ram, Features::empty(), SIZE);
    rig.poll();
    let quarter = Buffer {
        addr: DATA,
        len: 1 << 30,
        writable,
    };
    rig.driver.send(3, &[quarter; 4]);
    let mut queue = rig.engine.take_queue(0).expect("the queue is live");
    let mut chain = Chain::new();
    assert_eq!(queue.pop(&mem, &mut chain), Ok(true));
    (chain, mem)
}

#[test]
fn the_last_byte_of_4_gib_is_read() {
    let (chain, mem) = longest(false);
    let mut reader = chain.readable(&mem);
    assert_eq!(reader.remaining(), 1 << 32);
    reader.skip(u32::MAX);
    assert_eq!(reader.remaining(), 1);
    assert_eq!(reader.read(&mut [0; 2]), Ok(1));
    assert_eq!((reader.remaining(), reader.read(&mut [0; 2])), (0, Ok(0)));
}

#[test]
fn the_last_byte_of_4_gib_is_written_and_not_counted() {
    let (chain, mem) = longest(true);
    let mut writer = chain.writable(&mem);
    let mut end = writer.split_end(1).expect("there is room");
    assert_eq!(
        (writer.remaining(), end.remaining()),
        (u64::from(u32::MAX), 1)
    );
    assert_eq!((end.write(&[1, 2]), end.written()), (Ok(1), 1));
    let mut writer = chain.writable(&mem);
    assert_eq!(writer.split_end(0).map(|end| end.remaining()), Some(0));
    assert_eq!(writer.remaining(), 1 << 32);
    writer.commit(u32::MAX);
    assert_eq!((writer.remaining(), writer.written()), (1, u32::MAX));
    assert_eq!(writer.write(&[1, 2]), Ok(1));
    assert_eq!((writer.remaining(), writer.written()), (0, u32::MAX));
    assert_eq!(writer.write(&[1]), Err(ChainError::Full));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// With any split into buffers, and any split into reads and writes.
    #[test]
    fn a_stream_gives_every_byte_once(
        lens in vec(0u32..30, 1..8),
        steps in vec((1usize..40, any::<bool>()), 1..20),
    ) {
        let total: u32 = lens.iter().sum();
        let (chain, mem, _) = popped(&pieces(&lens, false));
        let mut reader = chain.readable(&mem);
        let mut at = 0u32;
        for (len, skip) in steps {
            let expected = (len as u32).min(total - at);
            if skip {
                reader.skip(len as u32);
            } else {
                let mut bytes = vec![0; len];
                prop_assert_eq!(reader.read(&mut bytes), Ok(expected as usize));
                let sent: Vec<u8> = (at..at + expected).map(|byte| byte as u8).collect();
                prop_assert_eq!(&bytes[..expected as usize], sent);
            }
            at += expected;
            prop_assert_eq!(reader.remaining(), u64::from(total - at));
        }
    }

    #[test]
    fn an_end_that_is_split_off_gets_the_last_bytes(
        lens in vec(0u32..30, 1..8),
        end in 0u32..200,
        written in 0u32..100,
    ) {
        let buffers = pieces(&lens, true);
        let total: u32 = lens.iter().sum();
        let (chain, mem, _) = popped(&buffers);
        let mut writer = chain.writable(&mem);
        writer.commit(written);
        let left = total - written.min(total);
        let tail = writer.split_end(end);
        prop_assert_eq!(tail.is_some(), end <= left);
        if let Some(mut tail) = tail {
            let start = total - end;
            let lens = (u64::from(left - end), u64::from(end));
            prop_assert_eq!((writer.remaining(), tail.remaining()), lens);
            prop_assert_eq!(tail.write_all(&vec![0xee; end as usize]), Ok(()));
            // Address of the byte number `index` of the room.
            let mut place = buffers.iter().flat_map(|buffer| {
                (0..u64::from(buffer.len)).map(|at| buffer.addr + at)
            });
            for index in 0..total {
                let addr = place.next().expect("the room has that many bytes");
                let range = virtside::memory::DriverRange::new(addr, 1).expect("the range does not wrap");
                let view = mem.translate(range, virtside::memory::Permission::Read).expect("the range is mapped");
                let mut byte = [0];
                view.copy_to(&mut byte);
                prop_assert_eq!(byte[0] == 0xee, index >= start);
            }
        }
    }
}
