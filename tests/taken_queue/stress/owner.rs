//! The owner of a taken queue.

use super::*;

/// A thread that owns one queue after another.
pub(super) struct Owner<'s, M: DriverMem> {
    pub(super) mem: M,
    pub(super) stage: &'s Stage,
    pub(super) name: usize,
    pub(super) random: Random,
    pub(super) orders: Receiver<TakenOne<M>>,
    pub(super) back: Sender<TakenOne<M>>,
    pub(super) in_order: bool,
    /// Stopped queues that the owner keeps although they may have successors.
    pub(super) stale_queues: Vec<TakenOne<M>>,
    /// Chains that were given back, or that are from earlier generations.
    pub(super) stale: Vec<Chain<N>>,
}

impl<M: DriverMem> Owner<'_, M> {
    pub(super) fn run(mut self) {
        let _ends = EndOnDrop(self.stage);
        while !self.stage.is_over() {
            if let Ok(queue) = self.orders.try_recv() {
                if self.stage.is_calm() {
                    self.serve(queue);
                } else {
                    self.play(queue);
                }
            }
            self.use_stale_queues();
            self.stage.tick(self.name);
        }
    }

    /// Serves a queue correctly, sleeps until it is kicked, and puts it back after a while.
    fn serve(&mut self, (name, mut queue): TakenOne<M>) {
        let work = self.stage.work();
        let mut sleeps = 1 + self.random.below(4);
        let mut asleep = self.random.once_in(2);
        let mut end = None;
        while end.is_none() {
            let mut patience = 4;
            while asleep && !queue.was_kicked() && patience != 0 && !self.stage.is_over() {
                // The owner would sleep forever, but finally ends by itself.
                patience -= u32::from(sleeps == 0);
                self.use_stale_queues();
                self.stage.tick(self.name);
            }
            if asleep && sleeps == 0 {
                break;
            }
            sleeps -= u64::from(asleep);
            queue.disable_kicks();
            let mut chain = Chain::new();
            asleep = loop {
                match queue.pop(&self.mem, &mut chain) {
                    Ok(true) => {
                        let written = echo(&self.mem, &chain);
                        assert_eq!(queue.complete(&chain, written), Ok(()));
                        queue.flush();
                    }
                    Ok(false) => break !queue.enable_kicks().unwrap_or(true),
                    Err(stop) => {
                        end = Some(stop);
                        break false;
                    }
                }
            };
        }
        if work != 0 && work == self.stage.work() {
            assert_eq!(end, None, "the queue was not asked to stop");
        }
        let _ = self.back.send((name, queue));
    }

    /// Makes random calls of those that an owner may make.
    fn play(&mut self, (name, mut queue): TakenOne<M>) {
        let mut held = VecDeque::new();
        let mut stopped = false;
        for _ in 0..self.random.below(60) {
            match self.random.below(16) {
                0..=5 => {
                    let mut chain = Chain::new();
                    match queue.pop(&self.mem, &mut chain) {
                        Ok(true) => held.push_back(chain),
                        Ok(false) | Err(Stop::Rejected(_)) => {}
                        Err(_) => stopped = true,
                    }
                }
                6..=9 => self.complete_one(&mut queue, &mut held),
                10 => {
                    queue.flush();
                }
                11 => queue.disable_kicks(),
                12 => stopped |= queue.enable_kicks().is_err(),
                13 => self.try_stale(&mut queue),
                14 if self.random.once_in(8) => {
                    if let Some(chain) = held.pop_front() {
                        queue.abandon(&chain);
                        self.stale.push(chain);
                    }
                }
                15 if self.random.once_in(16) => {
                    queue.report(DriverFault::HeadInFlight { head: 0 });
                    stopped = true;
                }
                _ => {
                    let _ = queue.was_kicked();
                }
            }
            assert_eq!(usize::from(queue.in_flight()), held.len());
            self.stage.tick(self.name);
            if stopped {
                break;
            }
        }
        self.give_up((name, queue), held, stopped);
    }

    /// Gives a queue up in one of several ways.
    fn give_up(
        &mut self,
        (name, mut queue): TakenOne<M>,
        mut held: VecDeque<Chain<N>>,
        stopped: bool,
    ) {
        match self.random.below(8) {
            0 => return drop(queue),
            // Sends the queue to the device as it is; the device may have to ask it to stop.
            1 => {
                let _ = self.back.send((name, queue));
                return;
            }
            2..=3 => queue.abandon_all(),
            _ => {
                for _ in 0..held.len() {
                    self.stage.tick(self.name);
                    self.complete_one(&mut queue, &mut held);
                }
                queue.abandon_all();
            }
        }
        self.stale.extend(held);
        self.stale.truncate(8);
        if stopped && self.random.once_in(2) {
            self.stale_queues.push((name, queue));
        } else {
            let _ = self.back.send((name, queue));
        }
    }

    fn complete_one(&mut self, queue: &mut Queue<M>, held: &mut VecDeque<Chain<N>>) {
        let at = match self.random.index(held.len().max(1)) {
            _ if self.in_order => 0,
            at => at,
        };
        let Some(chain) = held.remove(at) else {
            return;
        };
        let written = if self.random.once_in(4) {
            0
        } else {
            echo(&self.mem, &chain)
        };
        match queue.complete(&chain, written) {
            Ok(()) => {
                let again = queue.complete(&chain, written);
                assert_eq!(again, Err(Refusal::StaleToken.into()));
                self.stale.push(chain);
            }
            // An older chain was abandoned.
            Err(error) => {
                assert!(self.in_order, "{error:?}");
                held.push_front(chain);
            }
        }
    }

    /// Checks that no chain of an earlier generation is accepted.
    fn try_stale(&mut self, queue: &mut Queue<M>) {
        for chain in &self.stale {
            let before = queue.in_flight();
            assert_eq!(queue.complete(chain, 0), Err(Refusal::StaleToken.into()));
            queue.abandon(chain);
            assert_eq!(queue.in_flight(), before);
        }
    }

    /// Makes every call on stopped queues, and finally drops them.
    fn use_stale_queues(&mut self) {
        if self.stale_queues.is_empty() {
            return;
        }
        let at = self.random.index(self.stale_queues.len());
        let (name, mut ghost) = self.stale_queues.swap_remove(at);
        let mut chain = Chain::new();
        assert_eq!(ghost.pop(&self.mem, &mut chain), Err(Stop::Asked));
        assert!(ghost.is_stopped() && ghost.in_flight() == 0);
        assert!(!ghost.flush() && !ghost.was_kicked());
        ghost.disable_kicks();
        assert!(ghost.enable_kicks().is_err());
        self.try_stale(&mut ghost);
        match self.random.below(60) {
            0 => drop(ghost),
            1 => {
                let _ = self.back.send((name, ghost));
            }
            2 => {
                ghost.report(DriverFault::HeadInFlight { head: 1 });
                let _ = self.back.send((name, ghost));
            }
            _ => self.stale_queues.push((name, ghost)),
        }
    }
}
