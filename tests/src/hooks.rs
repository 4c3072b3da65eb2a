//! What a device does with memory, access by access.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use virtside::memory::{DriverRange, MemHooks};

/// One access of the device to the driver's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    /// It is about to read so many bytes from this driver address on.
    Read(u64, u32),
    /// It has written so many bytes from this driver address on.
    Write(u64, u32),
}

type Call = dyn Fn(Touch) + Send + Sync;

/// Memory hooks that call a function at each access.
#[derive(Clone)]
pub struct Hook(Arc<Call>);

impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hook")
    }
}

impl Hook {
    /// Calls this.
    pub fn new(call: impl Fn(Touch) + Send + Sync + 'static) -> Self {
        Self(Arc::new(call))
    }
}

impl MemHooks for Hook {
    fn before_read(&self, range: DriverRange) {
        (self.0)(Touch::Read(range.start(), range.len()));
    }
    fn after_write(&self, range: DriverRange) {
        (self.0)(Touch::Write(range.start(), range.len()));
    }
}

/// The accesses so far.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<Vec<Touch>>>);

impl Log {
    /// The hook that fills the log.
    pub fn hook(&self) -> Hook {
        let log = self.clone();
        Hook::new(move |touch| log.0.lock().unwrap().push(touch))
    }

    /// Takes all accesses since it was last asked.
    pub fn take(&self) -> Vec<Touch> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

/// Something that happens, once, just before or just after a certain access of the device: what
/// another processor may do at that moment.
#[derive(Clone)]
pub struct Interloper(Arc<Inside>);

struct Inside {
    armed: AtomicBool,
    left: Mutex<u32>,
    act: Mutex<Option<Box<dyn FnMut() + Send>>>,
}

impl std::fmt::Debug for Interloper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Interloper")
    }
}

impl Default for Interloper {
    fn default() -> Self {
        Self(Arc::new(Inside {
            armed: AtomicBool::new(false),
            left: Mutex::new(0),
            act: Mutex::new(None),
        }))
    }
}

impl Interloper {
    /// The hook that lets it in.
    pub fn hook(&self) -> Hook {
        let this = self.clone();
        Hook::new(move |_| this.step())
    }

    fn step(&self) {
        if !self.0.armed.load(Ordering::SeqCst) {
            return;
        }
        let mut left = self.0.left.lock().unwrap();
        if *left > 0 {
            *left -= 1;
            return;
        }
        self.0.armed.store(false, Ordering::SeqCst);
        if let Some(act) = self.0.act.lock().unwrap().as_mut() {
            act();
        }
    }

    /// Lets `skip` accesses go by, then acts.
    pub fn arm(&self, skip: u32, act: impl FnMut() + Send + 'static) {
        *self.0.act.lock().unwrap() = Some(Box::new(act));
        *self.0.left.lock().unwrap() = skip;
        self.0.armed.store(true, Ordering::SeqCst);
    }

    /// Whether it has acted.
    pub fn has_acted(&self) -> bool {
        !self.0.armed.load(Ordering::SeqCst)
    }
}
