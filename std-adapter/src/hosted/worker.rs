//! The lock around a hosted device, and the thread that serves its queues.

use std::{
    io,
    os::fd::AsRawFd,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use virtside::mmio::{Access, Reply, Ticket};
use vmm_sys_util::{
    epoll::{ControlOperation, Epoll, EpollEvent, EventSet},
    eventfd::{EFD_NONBLOCK, EventFd},
};

use super::{
    AccessError,
    pace::{Pace, Round},
};
use crate::serve::{BUDGET, Served};

/// The data of the event that wakes the worker. The data of a kick is its queue number.
const WAKE: u64 = u64::MAX;
/// The data of the event of the first watched descriptor.
const FIRST_WATCHED: u64 = 1 << 16;

/// A descriptor that the worker watches, and what it does when the descriptor becomes readable.
pub(super) enum Watched {
    /// Serves the pending chains again.
    BackEnd(Descriptor),
    /// Calls a closure.
    Call(Descriptor, Mutex<Box<dyn FnMut() + Send>>),
}

type Descriptor = Box<dyn AsRawFd + Send + Sync>;

/// What the handles and the worker share.
pub(super) struct Inner<T> {
    /// Taken before `state`, and released once `state` is locked. A worker that locks `state` again
    /// and again lets a waiting vCPU go first.
    turn: Mutex<()>,
    state: Mutex<State<T>>,
    /// Notified when `State::held` changes, and when the worker ends.
    changed: Condvar,
    epoll: Epoll,
    wake: EventFd,
    watched: Mutex<Vec<Arc<Watched>>>,
    refused: AtomicU64,
    spin: Duration,
}

struct State<T> {
    /// `None` after the device was stopped.
    device: Option<T>,
    held: Option<Held>,
    /// The worker sleeps, or is about to: it has released the lock and will not look at the state
    /// before an event.
    asleep: bool,
    /// The worker is asked to end.
    stops: bool,
    /// The worker has ended.
    ended: bool,
    /// The worker is asked to serve the pending chains again.
    looks: bool,
    /// Each answer of the back end is announced by a descriptor.
    announced: bool,
}

/// An access whose vCPU waits.
#[derive(Clone, Copy)]
enum Held {
    Pending(Ticket),
    Complete(Reply),
}

type Guard<'a, T> = MutexGuard<'a, State<T>>;

impl<T: Served> Inner<T> {
    pub(super) fn new(device: T, spin: Duration) -> io::Result<Self> {
        let (epoll, wake) = (Epoll::new()?, EventFd::new(EFD_NONBLOCK)?);
        add(&epoll, &wake, WAKE)?;
        Ok(Self {
            turn: Mutex::new(()),
            state: Mutex::new(State {
                device: Some(device),
                held: None,
                asleep: false,
                stops: false,
                ended: false,
                looks: false,
                announced: false,
            }),
            changed: Condvar::new(),
            epoll,
            wake,
            watched: Mutex::default(),
            refused: AtomicU64::new(0),
            spin,
        })
    }

    /// Locks the state. Fails after a panic, since the device may be in no defined state.
    fn lock(&self) -> Result<Guard<'_, T>, AccessError> {
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.state.lock();
        drop(turn);
        state
            .ok()
            .filter(|state| !state.ended)
            .ok_or(AccessError::Gone)
    }

    /// Waits until `State::held` changes, or the worker ends.
    fn wait<'a>(&self, state: Guard<'a, T>) -> Result<Guard<'a, T>, AccessError> {
        self.changed.wait(state).map_err(|_| AccessError::Gone)
    }

    /// Wakes the worker. An eventfd that is full wakes it too.
    fn ring(&self) {
        let _ = self.wake.write(1);
    }

    /// Releases the lock, and wakes the worker if it sleeps.
    fn release(&self, mut state: Guard<'_, T>) {
        let asleep = std::mem::take(&mut state.asleep);
        drop(state);
        if asleep {
            self.ring();
        }
    }

    pub(super) fn access(&self, access: Access) -> Result<u64, AccessError> {
        let mut state = self.lock()?;
        while state.held.is_some() {
            state = self.wait(state)?;
            if state.ended {
                return Err(AccessError::Gone);
            }
        }
        let device = state.device.as_mut().ok_or(AccessError::Gone)?;
        let mut reply = device.access(access);
        if let Reply::Pending(ticket) = reply {
            state.held = Some(Held::Pending(ticket));
            if std::mem::take(&mut state.asleep) {
                self.ring();
            }
            reply = loop {
                state = self.wait(state)?;
                if let Some(Held::Complete(reply)) = state.held {
                    break reply;
                }
                if state.ended {
                    return Err(AccessError::Gone);
                }
            };
            state.held = None;
            self.changed.notify_all();
        } else if device.may_have_work_after(access) {
            self.release(state);
        }
        match reply {
            Reply::Done(value) => Ok(value),
            Reply::Refused(refusal) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                Err(AccessError::Refused(refusal))
            }
            Reply::Pending(_) | Reply::Busy => Err(AccessError::Busy),
        }
    }

    pub(super) fn with<R>(&self, call: impl FnOnce(&mut T) -> R) -> Result<R, AccessError> {
        let mut state = self.lock()?;
        let result = call(state.device.as_mut().ok_or(AccessError::Gone)?);
        self.release(state);
        Ok(result)
    }

    pub(super) fn look_again(&self) {
        if let Ok(mut state) = self.lock() {
            state.looks = true;
            self.release(state);
        }
    }

    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    pub(super) fn watch_kick(&self, kick: &EventFd, queue: u16) -> io::Result<()> {
        add(&self.epoll, kick, queue.into())
    }

    pub(super) fn watch(&self, watched: Watched) -> io::Result<()> {
        // The worker finds no event before its descriptor is in the list.
        let mut list = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let index = u64::try_from(list.len()).map_err(io::Error::other)?;
        let (Watched::BackEnd(fd) | Watched::Call(fd, _)) = &watched;
        add(&self.epoll, &**fd, FIRST_WATCHED.saturating_add(index))?;
        let announces = matches!(watched, Watched::BackEnd(_));
        list.push(Arc::new(watched));
        drop(list);
        if announces && let Ok(mut state) = self.lock() {
            state.announced = true;
            self.release(state);
        }
        Ok(())
    }

    /// Asks the worker to end.
    pub(super) fn stop(&self) {
        let state = self.state.lock();
        state.unwrap_or_else(PoisonError::into_inner).stops = true;
        self.ring();
    }

    /// Takes the device, after the worker has ended.
    pub(super) fn take(&self) -> io::Result<T> {
        let state = self.state.lock();
        let mut state =
            state.map_err(|_| io::Error::other("a panic has left the device broken"))?;
        let gone = || io::Error::new(io::ErrorKind::NotConnected, "the device was stopped");
        state.device.take().ok_or_else(gone)
    }

    /// Serves the queues until [`stop`](Self::stop).
    ///
    /// # Errors
    /// The error of epoll.
    pub(super) fn work(&self) -> io::Result<()> {
        let _ending = Ending(self);
        let mut events = [EpollEvent::default(); 16];
        let (mut count, mut pace) = (0, Pace::new(self.spin));
        while let Some(timeout) = self.round(events.iter().take(count), &mut pace) {
            count = match self.epoll.wait(timeout, &mut events) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
                count => count?,
            };
        }
        Ok(())
    }

    /// Handles events and polls once. Returns how long to sleep afterwards, in milliseconds; -1 is
    /// without limit. Returns `None` when the worker is to end.
    fn round<'e>(
        &self,
        events: impl Iterator<Item = &'e EpollEvent> + Clone,
        pace: &mut Pace,
    ) -> Option<i32> {
        let mut looks = false;
        for event in events.clone() {
            looks |= self.is_back_end(event.data());
        }
        let mut state = self.lock().ok()?;
        let State {
            device: Some(device),
            held,
            stops: false,
            looks: asked,
            ..
        } = &mut *state
        else {
            return None;
        };
        // A completed DRIVER_OK gives the next poll work.
        if let Some(Held::Pending(ticket)) = *held {
            let reply = device.finish(ticket);
            if !matches!(reply, Reply::Pending(_)) {
                *held = Some(Held::Complete(reply));
                self.changed.notify_all();
            }
        }
        let mut any = false;
        for event in events {
            any = true;
            if let Ok(queue) = u16::try_from(event.data()) {
                // The driver may kick a queue that it has not made ready.
                let _ = device.notify_queue(queue);
            }
        }
        if std::mem::take(asked) || looks || pace.looks() {
            device.backend_ready();
        }
        let step = device.poll(BUDGET);
        let chains = device.chains();
        let held = matches!(state.held, Some(Held::Pending(_)));
        let timeout = pace.next(&Round {
            step,
            chains,
            woken: any,
            held,
            announced: state.announced,
        });
        state.asleep = timeout != 0;
        drop(state);
        if held && timeout == 0 {
            thread::yield_now();
        }
        Some(timeout)
    }

    /// Returns whether the event is one of a back end. Makes the call of any other descriptor.
    fn is_back_end(&self, data: u64) -> bool {
        let watched = {
            let list = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
            let index = data.checked_sub(FIRST_WATCHED);
            index
                .and_then(|index| usize::try_from(index).ok())
                .and_then(|index| list.get(index).cloned())
        };
        match watched.as_deref() {
            Some(Watched::BackEnd(_)) => true,
            Some(Watched::Call(_, call)) => {
                call.lock().unwrap_or_else(PoisonError::into_inner)();
                false
            }
            None => false,
        }
    }
}

/// Releases every waiting vCPU when the worker ends, even by a panic.
struct Ending<'a, T: Served>(&'a Inner<T>);

impl<T: Served> Drop for Ending<'_, T> {
    fn drop(&mut self) {
        let state = self.0.state.lock();
        state.unwrap_or_else(PoisonError::into_inner).ended = true;
        self.0.changed.notify_all();
        // A closure may hold a handle of this device.
        let watched = self.0.watched.lock();
        let list = std::mem::take(&mut *watched.unwrap_or_else(PoisonError::into_inner));
        drop(list);
    }
}

/// Watches a descriptor for changes to readable.
fn add(epoll: &Epoll, fd: &dyn AsRawFd, data: u64) -> io::Result<()> {
    let events = EventSet::IN | EventSet::EDGE_TRIGGERED;
    epoll.ctl(
        ControlOperation::Add,
        fd.as_raw_fd(),
        EpollEvent::new(events, data),
    )
}
