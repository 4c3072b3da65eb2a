//! The device, which gives queues to owners and gets them back.

use super::*;
use virtside::device::PutBackError;

/// The device's thread.
pub(super) struct Host<'s, M: DriverMem> {
    pub(super) engine: TestEngine<M>,
    pub(super) stage: &'s Stage,
    pub(super) random: Random,
    pub(super) accesses: Receiver<Access>,
    pub(super) answers: Sender<Answer>,
    pub(super) owners: [Sender<TakenOne<M>>; QUEUES as usize],
    pub(super) back: Receiver<TakenOne<M>>,
    /// The last take of each queue.
    pub(super) out: [u32; QUEUES as usize],
    pub(super) taken: u32,
    /// The round of work, and how often queues were given away in it.
    pub(super) quota: (u32, u32),
    pub(super) waiting: Option<Ticket>,
    /// Tokens of any epoch.
    pub(super) tokens: Vec<Token>,
}

impl<M: DriverMem> Host<'_, M> {
    pub(super) fn run(mut self) -> TestEngine<M> {
        let _ends = EndOnDrop(self.stage);
        while !self.stage.is_over() {
            self.serve_access();
            while let Ok(queue) = self.back.try_recv() {
                self.put_back(queue);
            }
            if self.stage.is_calm() {
                self.engine.model_mut().holds = false;
                self.complete_all();
                self.engine.poll(BUDGET);
            } else {
                self.do_something();
            }
            let work = self.stage.work();
            if self.quota.0 != work {
                self.quota = (work, self.random.below(8) as u32);
            }
            if self.random.once_in(3) && (work == 0 || self.quota.1 != 0) {
                self.quota.1 = self.quota.1.saturating_sub(1);
                self.hand_out();
            }
            self.stage.tick(0);
        }
        self.engine
    }

    /// Serves an access, or polls the last one that waits.
    fn serve_access(&mut self) {
        let reply = match self.waiting {
            Some(ticket) => {
                let another = self.engine.access(Access::read(0));
                assert_eq!(another, Reply::Busy);
                self.engine.finish(ticket)
            }
            None => match self.accesses.try_recv() {
                Ok(access) => self.engine.access(access),
                Err(_) => return,
            },
        };
        self.waiting = match reply {
            Reply::Pending(ticket) => Some(ticket),
            _ => None,
        };
        if self.waiting.is_none() {
            let line = self.engine.device().notify().0;
            // The driver's thread may have ended.
            let _ = self.answers.send((reply, line.asserted(), line.is_high()));
        }
    }

    fn put_back(&mut self, (name, queue): TakenOne<M>) {
        let last = self.out[usize::from(queue.number())];
        match self.engine.put_back(queue) {
            Ok(()) => assert_eq!(name, last, "the queue was taken again"),
            Err(PutBackError::Discarded) => {}
            Err(PutBackError::Returned(mut queue)) => {
                assert!(queue.in_flight() != 0);
                queue.abandon_all();
                assert!(!matches!(
                    self.engine.put_back(queue),
                    Err(PutBackError::Returned(_))
                ));
            }
        }
    }

    fn hand_out(&mut self) {
        let number = self.random.below(QUEUES.into()) as u16;
        if let Ok(queue) = self.engine.take_queue(number) {
            assert_eq!((queue.number(), queue.in_flight()), (number, 0));
            self.taken += 1;
            self.out[usize::from(number)] = self.taken;
            // The owner's thread may have ended.
            let _ = self.owners[usize::from(number)].send((self.taken, queue));
        }
    }

    fn complete_all(&mut self) {
        for token in self.engine.model().held.clone() {
            let _ = self.engine.complete(token);
        }
        self.engine.model_mut().held.clear();
    }

    fn do_something(&mut self) {
        match self.random.below(16) {
            0..=7 => {
                let budget = self.random.below(5) as u16;
                self.engine.poll(budget);
            }
            8 => self.engine.model_mut().holds = self.random.once_in(2),
            9..=11 => {
                let held = &self.engine.model().held;
                if !held.is_empty() {
                    let token = held[self.random.index(held.len())];
                    let _ = self.engine.complete(token);
                    self.tokens.push(token);
                }
            }
            // The chain was answered, or belongs to an earlier epoch.
            12 => {
                if let Some(token) = self.tokens.pop()
                    && !self.engine.model().held.contains(&token)
                {
                    let again = self.engine.complete(token);
                    assert_eq!(again, Err(Refusal::StaleToken));
                }
            }
            13 => {
                self.engine.update_config(|probe| probe.space[0] ^= 1);
            }
            14 => {
                let _ = self.engine.memory_changed();
            }
            _ => self.save(),
        }
    }

    /// A save is refused while a queue is taken or an access waits.
    fn save(&mut self) {
        let saved = self.engine.save::<4>();
        // A queue that is taken now was also taken during the save.
        let out = (0..QUEUES).any(|queue| self.engine.queue_state(queue) == QueueState::Taken);
        if out || self.waiting.is_some() {
            assert!(saved.is_err(), "a queue is taken, or a driver waits");
        }
    }
}
