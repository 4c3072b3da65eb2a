//! The lines of a GPIO chip of the host.

use std::{os::fd::OwnedFd, path::Path};

use gpiocdev::{
    Request,
    chip::Chip,
    line::{EdgeDetection, Value},
    request::Config,
};
use rustix::event::epoll;
use virtside::models::{
    Gpio, GpioError, GpioLines,
    gpio::{Abilities, Direction, Trigger},
};

use crate::{
    failure::{Failure, Result},
    serve::{
        complaints::Complaints,
        hosted::{Context, Hosted, Plan},
        watched::Watch,
    },
};

/// Most lines of a device.
const LINES: usize = 64;

/// Claims the free lines of a chip.
///
/// # Errors
/// The chip cannot be used.
pub(super) fn hosted(context: Context, path: &Path) -> Result<Box<dyn Hosted>> {
    let refused = |error| Failure::Usage(format!("chip {}: {error}", path.display()));
    let chip = Chip::from_path(path).map_err(refused)?;
    let count = chip.info().map_err(refused)?.num_lines;
    let events = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut lines = Vec::new();
    let mut names = [""; LINES];
    // The numbers of the guest's lines are those of the chip.
    for (offset, name) in (0..count).zip(&mut names) {
        let info = chip.line_info(offset).map_err(refused)?;
        // Names live as long as the device, which lives as long as the process.
        *name = String::leak(info.name);
        let request = if info.used {
            None
        } else {
            let mut builder = Request::builder();
            let builder = builder.on_chip(path).with_consumer("virtside");
            builder.with_line(offset).as_is().request().ok()
        };
        if let Some(request) = &request {
            let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
            epoll::add(&events, request, epoll::EventData::new_u64(0), flags)?;
        }
        lines.push(request);
    }
    let wake = events.try_clone()?;
    let bank = Lines {
        lines,
        events,
        complaints: Complaints::new(&context.name),
    };
    let model = Gpio::<_, LINES>::new(bank);
    let model = match model.with_names(names) {
        Ok(model) => model,
        Err(error) => return Err(Failure::Usage(format!("chip {}: {error}", path.display()))),
    };
    // One for each line that may interrupt, and one for requests.
    let plan = Plan::new(context, model).with_slots(LINES + 1);
    Ok(plan.with_wake(wake).sized::<2, 256>())
}

/// The lines by number. A line that is in use elsewhere cannot be used.
#[derive(Debug)]
struct Lines {
    lines: Vec<Option<Request>>,
    /// Becomes readable with an edge of any line.
    events: OwnedFd,
    complaints: Complaints,
}

impl Lines {
    /// Accesses a line.
    fn with<T>(
        &mut self,
        line: u16,
        access: impl FnOnce(&Request, u32) -> gpiocdev::Result<T>,
    ) -> std::result::Result<T, GpioError> {
        let request = self.lines.get(usize::from(line));
        let request = request.and_then(Option::as_ref);
        let result = access(request.ok_or(GpioError::Unsupported)?, line.into());
        result.map_err(|error| {
            self.complaints.report(format_args!("line {line}: {error}"));
            GpioError::Failed
        })
    }

    /// Takes the edges of a line. Returns whether there was one.
    fn take_edges(&self, line: usize) -> bool {
        let Some(Some(request)) = self.lines.get(line) else {
            return false;
        };
        let mut any = false;
        while matches!(request.has_edge_event(), Ok(true)) {
            if request.read_edge_event().is_err() {
                break;
            }
            any = true;
        }
        any
    }
}

fn value(high: bool) -> Value {
    if high { Value::Active } else { Value::Inactive }
}

impl GpioLines for Lines {
    fn count(&self) -> u16 {
        u16::try_from(self.lines.len()).unwrap_or(u16::MAX)
    }

    fn abilities(&self, line: u16) -> Abilities {
        match self.lines.get(usize::from(line)) {
            Some(Some(_)) => Abilities::all(),
            _ => Abilities::empty(),
        }
    }

    fn set_direction(
        &mut self,
        line: u16,
        direction: Direction,
        high: Option<bool>,
    ) -> std::result::Result<(), GpioError> {
        self.with(line, |request, offset| {
            let mut config = Config::default();
            let config = config.with_line(offset);
            request.reconfigure(match direction {
                Direction::Output => config.as_output(value(high.unwrap_or(false))),
                Direction::Input => config.as_input(),
                Direction::None => config.as_is(),
            })
        })
    }

    fn level(&mut self, line: u16) -> std::result::Result<bool, GpioError> {
        self.with(line, |request, offset| request.value(offset))
            .map(|value| value == Value::Active)
    }

    fn drive(&mut self, line: u16, high: bool) -> std::result::Result<(), GpioError> {
        self.with(line, |request, offset| {
            request.set_value(offset, value(high)).map(|_| ())
        })
    }

    fn set_trigger(
        &mut self,
        line: u16,
        trigger: Option<Trigger>,
    ) -> std::result::Result<(), GpioError> {
        let edges = trigger.map(|trigger| match trigger {
            Trigger::RisingEdge => EdgeDetection::RisingEdge,
            Trigger::FallingEdge => EdgeDetection::FallingEdge,
            // The host tells no levels. A level is read after each edge.
            Trigger::BothEdges | Trigger::HighLevel | Trigger::LowLevel => EdgeDetection::BothEdges,
        });
        self.with(line, |request, offset| {
            let mut config = Config::default();
            let config = config.with_line(offset).as_input();
            request.reconfigure(config.with_edge_detection(edges))
        })
    }
}

impl Watch for Gpio<Lines, LINES> {
    fn before(&mut self) {
        let mut events = Vec::with_capacity(LINES);
        let buffer = rustix::buffer::spare_capacity(&mut events);
        let now = rustix::event::Timespec::default();
        match epoll::wait(&self.lines().events, buffer, Some(&now)) {
            Ok(count) if count != 0 => {}
            _ => return,
        }
        for line in 0..self.count() {
            if !self.lines().take_edges(line.into()) {
                continue;
            }
            match self.trigger(line) {
                Some(trigger) if trigger.is_edge() => {
                    self.interrupt(line);
                }
                // A failure is in the log.
                _ => {
                    let _ = self.sense(line);
                }
            }
        }
    }

    fn front_end_left(&mut self) {
        self.lines_mut().complaints.tell_unsaid();
    }
}
