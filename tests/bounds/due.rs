//! How often the engine asks a model for due chains.

use super::*;

/// When a model has a due chain.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Due {
    /// Never; the model answers at once.
    Never,
    /// Never; the model serves nothing.
    Busy,
    /// After `drained`: each chain that was pending by then.
    Drained,
    /// Always: a chain that is not pending any more.
    Stale,
}

/// A model that counts how often it is asked.
struct Asked {
    when: Due,
    asked: Cell<u32>,
    held: VecDeque<Token>,
    due: VecDeque<Token>,
}

impl DeviceConfig for Asked {
    fn device_id(&self) -> u32 {
        42
    }
    fn features(&self) -> Features {
        Features::RING
    }
    fn queue_size_max(&self, _: u16) -> u16 {
        SIZE
    }
}

impl DeviceModel for Asked {
    fn can_serve(&self, _: u16) -> bool {
        self.when != Due::Busy
    }
    fn due(&self) -> Option<Token> {
        self.asked.set(self.asked.get() + 1);
        self.due.front().copied()
    }
    fn drained(&mut self, _: u16) {
        self.due.append(&mut self.held);
    }
    fn serve<M: DriverMem>(&mut self, request: &mut Request<'_, M>) -> Result<Answer, DriverFault> {
        if self.when == Due::Stale {
            self.due = [request.token].into();
        } else if self.due.front() == Some(&request.token) {
            self.due.pop_front();
        } else if self.when == Due::Drained {
            self.held.push_back(request.token);
            return Ok(Answer::Pending);
        }
        Ok(Answer::Done { written: 0 })
    }
}

/// Returns how often each poll asks for due chains, until nothing is left to do.
fn asks(when: Due, loads: [Load; Q], slots: usize, budget: u16) -> Vec<u32> {
    let model = Asked {
        when,
        asked: Cell::new(0),
        held: VecDeque::new(),
        due: VecDeque::new(),
    };
    let (mut engine, ram) = virtside_tests::test_engine(model, slots);
    let configs: Vec<_> = (0..Q as u16).map(config).collect();
    assert!(engine.bring_up(Features::VERSION_1, &configs));
    for (queue, load) in (0..).zip(loads) {
        load.write(&mut driver(ram, queue));
        let _ = engine.kick(queue);
    }
    let mut each = Vec::new();
    for _ in 0..200 {
        let step = engine.poll(budget);
        each.push(engine.model().asked.take());
        if step != Step::More || budget == 0 {
            return each;
        }
    }
    panic!("{loads:?} never becomes idle");
}

#[test]
fn a_poll_asks_for_a_due_chain_no_more_often_than_documented() {
    let bound = |budget: u16| 2 * u32::from(budget) + Q as u32 + 3;
    for when in [Due::Never, Due::Busy, Due::Drained, Due::Stale] {
        for one in [
            Load::Nothing,
            Load::Short(1),
            Load::Short(16),
            Load::BadHead,
        ] {
            for other in [Load::Nothing, Load::Short(16)] {
                for slots in 1..=3 {
                    for budget in [0, 1, 2, 5, 16, 200] {
                        let loads = [one, other, one, other];
                        for asked in asks(when, loads, slots, budget) {
                            assert!(
                                asked <= bound(budget),
                                "{asked}: {when:?}, budget {budget}, {slots} slots, {loads:?}"
                            );
                        }
                    }
                }
            }
        }
    }
    // Each chain takes the only slot, and is due once the queue is drained.
    for budget in [2, 16] {
        let polls = asks(Due::Drained, [Load::Short(16); Q], 1, budget);
        assert!(polls.iter().any(|asked| *asked >= 2 * u32::from(budget)));
    }
    let [most] = asks(Due::Busy, [Load::Short(1); Q], 1, 16)[..] else {
        panic!("one poll is not enough");
    };
    assert_eq!(
        most,
        Q as u32 + 2,
        "one question for each queue that is not served"
    );
}
