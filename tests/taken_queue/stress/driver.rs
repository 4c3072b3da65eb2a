//! The driver, at the registers and the rings.

use super::*;

/// The driver's thread.
pub(super) struct Driver<'s, M: DriverMem> {
    pub(super) mem: M,
    pub(super) line: Line,
    pub(super) shared: Arc<Shared<Q>>,
    pub(super) stage: &'s Stage,
    pub(super) random: Random,
    pub(super) features: Features,
    pub(super) accesses: Sender<Access>,
    pub(super) answers: Receiver<Answer>,
    pub(super) lanes: Vec<Lane<M>>,
    pub(super) number: u32,
    /// Interrupts and level of the line when the last access was answered.
    pub(super) seen: (u32, bool),
}

impl<M: DriverMem> Registers for Driver<'_, M> {
    fn reach(&mut self, access: Access) -> Reply {
        self.accesses.send(access).expect("the device is there");
        let answer = self.answers.recv_timeout(PATIENCE);
        let (reply, asserted, high) = answer.expect("the driver was never answered");
        self.seen = (asserted, high);
        reply
    }
}

impl<M: DriverMem + Clone> Driver<'_, M> {
    pub(super) fn run(mut self) {
        let _ends = EndOnDrop(self.stage);
        for round in 1..=ROUNDS {
            self.stage.calm.store(false, Ordering::SeqCst);
            self.start();
            for _ in 0..12 {
                if !self.misbehave() {
                    break;
                }
            }
            self.reset();
            self.stage.calm.store(true, Ordering::SeqCst);
            self.start();
            self.work(round);
            self.stage.work.store(0, Ordering::SeqCst);
        }
    }

    fn start(&mut self) {
        self.lanes = (0..QUEUES)
            .map(|queue| Lane::new(&self.mem, queue, self.features))
            .collect();
        let configs: Vec<_> = self.lanes.iter().map(Lane::config).collect();
        assert!(
            self.bring_up(self.features, &configs),
            "a clean start works"
        );
    }

    fn send(&mut self, queue: usize, good: bool) -> bool {
        self.number += 1;
        self.lanes[queue].send(self.number, good)
    }

    /// Kicks through the doorbell, as an ioeventfd does, or through QueueNotify.
    fn kick_either_way(&mut self, queue: usize) {
        if self.random.once_in(2) {
            self.shared.doorbell().ring(queue as u16);
        } else {
            let _ = self.kick(queue as u16);
        }
    }

    /// Every request comes back with an interrupt, also one sent to a suspended device.
    fn work(&mut self, round: u32) {
        let mut expected = [0; QUEUES as usize];
        let before = self.line.asserted();
        for half in [0, 1] {
            self.stage.work.store(round * 2 + half, Ordering::SeqCst);
            for _ in 0..8 {
                let queue = self.random.index(QUEUES.into());
                if self.send(queue, true) {
                    expected[queue] += 1;
                    self.kick_either_way(queue);
                }
                if self.random.once_in(4) {
                    assert_eq!(self.store(reg::INTERRUPT_ACK, 3), Reply::Done(0));
                }
                self.lanes[queue].collect();
            }
            self.assert_answered(expected);
            self.stage.work.store(0, Ordering::SeqCst);
            if half == 0 {
                self.suspend();
                for (queue, count) in expected.iter_mut().enumerate() {
                    *count += u32::from(self.send(queue, true));
                }
                self.stage.work.store(round * 2 + 1, Ordering::SeqCst);
                self.resume();
                self.assert_answered(expected);
            }
        }
        assert_eq!(self.load(reg::STATUS), LIVE, "the device is live");
        assert_ne!(self.line.asserted(), before, "no interrupt was sent");
        let start = Instant::now();
        while self.load(reg::INTERRUPT_STATUS) != u32::from(self.line.is_high()) {
            assert!(start.elapsed() < PATIENCE, "the line is stuck");
        }
        while self.load(reg::INTERRUPT_STATUS) != 0 || self.line.is_high() {
            assert_eq!(self.store(reg::INTERRUPT_ACK, 1), Reply::Done(0));
            assert!(start.elapsed() < PATIENCE, "the line is stuck");
        }
    }

    fn assert_answered(&mut self, expected: [u32; QUEUES as usize]) {
        let Self { stage, lanes, .. } = self;
        stage.until("a request or its kick was dropped", || {
            lanes.iter_mut().for_each(Lane::collect);
            let answered = lanes.iter().map(|lane| lane.answered);
            answered.eq(expected).then_some(())
        });
    }

    fn resume(&mut self) {
        assert_eq!(self.store(reg::STATUS, LIVE | SUSPEND), Reply::Done(0));
        assert_eq!(self.load(reg::STATUS) & SUSPEND, 0);
    }

    /// Violates the protocol; returns false if only a reset helps.
    fn misbehave(&mut self) -> bool {
        let queue = self.random.index(QUEUES.into());
        match self.random.below(12) {
            0..=3 => {
                for _ in 0..self.random.below(4) {
                    let good = !self.random.once_in(12);
                    self.send(queue, good);
                }
                self.kick_either_way(queue);
                self.lanes[queue].collect();
            }
            4 => {
                let bits = self.random.below(4) as u32;
                let _ = self.store(reg::INTERRUPT_ACK, bits);
            }
            5 => self.stop_queue(queue),
            6..=7 => self.reset_queue(queue),
            8..=9 => {
                self.suspend();
                if self.random.once_in(4) {
                    return false;
                }
                self.resume();
            }
            10 if self.random.once_in(8) => {
                let _ = self.store(reg::STATUS, LIVE | FAILED);
                return false;
            }
            10 => {
                // A register access that is not allowed has no effect.
                let at = 0x30 + 4 * self.random.below(0x30) as u32;
                let value = self.random.below(2) as u32;
                if ![reg::STATUS, reg::QUEUE_READY, reg::QUEUE_RESET].contains(&at) {
                    let _ = self.store(at, value);
                }
                let _ = self.store(reg::STATUS, LIVE);
            }
            _ => self.stage.wait(),
        }
        true
    }

    fn stop_queue(&mut self, queue: usize) {
        let _ = self.store(reg::QUEUE_SEL, queue as u32);
        if self.load(reg::QUEUE_READY) == 1 {
            assert_eq!(self.store(reg::QUEUE_READY, 0), Reply::Done(0));
            assert_eq!(self.load(reg::QUEUE_READY), 0);
            self.retire(queue);
        }
    }

    /// Resets a queue and sets it up again.
    fn reset_queue(&mut self, queue: usize) {
        let _ = self.store(reg::QUEUE_SEL, queue as u32);
        assert_eq!(self.store(reg::QUEUE_RESET, 1), Reply::Done(0));
        let start = Instant::now();
        while self.load(reg::QUEUE_RESET) != 0 {
            assert!(start.elapsed() < PATIENCE, "the queue is never reset");
        }
        self.retire(queue);
        self.lanes[queue] = Lane::new(&self.mem, queue as u16, self.features);
        let config = self.lanes[queue].config();
        assert_eq!(self.configure(&config), Reply::Done(0));
    }

    /// The driver owns the queue's memory again.
    fn retire(&mut self, queue: usize) {
        self.lanes[queue].collect();
        let areas = self.lanes[queue].areas();
        self.assert_untouched(&areas);
        // A later read of the ring finds no chain.
        self.lanes[queue] = Lane::new(&self.mem, queue as u16, self.features);
    }

    fn suspend(&mut self) {
        assert_eq!(self.store(reg::STATUS, LIVE | SUSPEND), Reply::Done(0));
        let start = Instant::now();
        while self.load(reg::STATUS) & SUSPEND == 0 {
            assert!(start.elapsed() < PATIENCE, "the device is never suspended");
        }
        let (asserted, _) = self.seen;
        let before = self.everything();
        if !self.stage.is_calm() {
            self.kick_either_way(0);
            self.kick_either_way(1);
        }
        self.stage.wait();
        let pending = self.load(reg::INTERRUPT_STATUS);
        assert_eq!(self.line.is_high(), pending != 0);
        let bits = self.random.below(4) as u32;
        let _ = self.store(reg::INTERRUPT_ACK, bits);
        assert_eq!(self.load(reg::INTERRUPT_STATUS), pending & !bits);
        assert_eq!(self.line.is_high(), pending & !bits != 0);
        self.stage.wait();
        assert!(
            before == self.everything(),
            "a suspended device touches memory"
        );
        assert_eq!(
            self.line.asserted(),
            asserted,
            "a suspended device interrupts"
        );
    }

    fn reset(&mut self) {
        assert_eq!(self.store(reg::STATUS, 0), Reply::Done(0));
        let seen = self.seen;
        assert!(!seen.1, "the line is high after a reset");
        let areas: Vec<_> = self.lanes.iter().flat_map(Lane::areas).collect();
        for lane in &mut self.lanes {
            lane.collect();
        }
        self.assert_untouched(&areas);
        assert_eq!(self.load(reg::STATUS), 0);
        assert_eq!(self.load(reg::INTERRUPT_STATUS), 0);
        assert_eq!(self.seen, seen, "an interrupt after the reset");
    }

    /// Fills these areas, and checks whether the device writes to them.
    fn assert_untouched(&mut self, areas: &[u64]) {
        let byte = self.random.below(255) as u8 + 1;
        let filled = [byte; AREA];
        let memory = plain(&self.mem);
        for area in areas {
            memory.write(*area, &filled);
        }
        self.stage.wait();
        for area in areas {
            let mut now = [0; AREA];
            assert_eq!(memory.read(*area, &mut now), AREA);
            assert!(now == filled, "memory is touched after the answer");
        }
    }

    /// The bytes of all rings and buffers.
    fn everything(&self) -> Vec<u8> {
        let memory = plain(&self.mem);
        let mut all = Vec::new();
        for area in self.lanes.iter().flat_map(Lane::areas) {
            let mut now = [0; AREA];
            assert_eq!(memory.read(area, &mut now), AREA);
            all.extend(now);
        }
        all
    }
}
