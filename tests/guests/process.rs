//! Programs that end with the test, whatever happens.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::outcome::{Outcome, check, failure};

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(10);

/// The programs that run.
static RUNNING: Mutex<Running> = Mutex::new(Running {
    groups: Vec::new(),
    ends: false,
});

#[derive(Debug)]
struct Running {
    /// Their process groups.
    groups: Vec<i32>,
    /// The test ends, and starts no more programs.
    ends: bool,
}

/// A program in a process group of its own. The whole group is killed when this is dropped, and
/// the program also if the test is killed.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

impl Program {
    /// Starts a program without input. Its output goes to the file `log`.
    pub fn start(name: &str, command: &Command, log: &Path) -> Outcome<Self> {
        let output = File::create(log)?;
        let mut running = running();
        check(!running.ends, || "the test ends".into())?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(command.get_program())
            .args(command.get_args())
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()
            .map_err(|error| failure(format!("setpriv cannot start {name}: {error}")))?;
        let program = Self {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
            ended: None,
        };
        running.groups.push(program.group());
        Ok(program)
    }

    fn group(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a process id")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns what the program has said up to now.
    pub fn said(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Returns the exit status if the program has ended.
    pub fn ended(&mut self) -> Outcome<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait()?;
        }
        Ok(self.ended)
    }

    /// Waits until the program ends.
    pub fn wait(&mut self, limit: Duration) -> Outcome<ExitStatus> {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() > end {
                return Err(failure(format!("{} did not end in {limit:?}", self.name)));
            }
            thread::sleep(INTERVAL);
        }
    }

    /// Waits until the program ends, with exit code 0.
    pub fn succeed(&mut self, limit: Duration) -> Outcome<()> {
        let status = self.wait(limit)?;
        if status.success() {
            Ok(())
        } else {
            Err(failure(format!("{}: {status}", self.name)))
        }
    }

    /// Waits until the program has said this.
    pub fn wait_for(&mut self, text: &str, limit: Duration) -> Outcome<()> {
        let end = Instant::now() + limit;
        while !self.said().contains(text) {
            if let Some(status) = self.ended()? {
                // It may have said it at its end.
                if self.said().contains(text) {
                    break;
                }
                let name = &self.name;
                return Err(failure(format!("{name} did not say {text:?}: {status}")));
            }
            if Instant::now() > end {
                let name = &self.name;
                return Err(failure(format!("{name} did not say {text:?} in {limit:?}")));
            }
            thread::sleep(INTERVAL);
        }
        Ok(())
    }

    /// Asks the program to end, by SIGTERM.
    pub fn terminate(&self) {
        if self.ended.is_none() {
            // It may have ended by itself.
            let _ = kill_process(pid(self.group()), Signal::TERM);
        }
    }

    /// Kills the program and its children.
    pub fn kill(&mut self) {
        let group = self.group();
        // The group's number stays taken until the program was waited for.
        if self.ended.is_none() {
            let _ = kill_process_group(pid(group), Signal::KILL);
            self.ended = self.child.wait().ok();
        }
        end_group(group);
        running().groups.retain(|other| *other != group);
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

fn running() -> MutexGuard<'static, Running> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

fn pid(number: i32) -> Pid {
    Pid::from_raw(number).expect("a process id is not 0")
}

/// Kills what still runs of a process group, and waits until it is gone.
fn end_group(group: i32) {
    let end = Instant::now() + Duration::from_secs(10);
    while Instant::now() < end {
        let members = members(group);
        if members.is_empty() {
            return;
        }
        for member in members {
            let _ = kill_process(pid(member), Signal::KILL);
        }
        thread::sleep(INTERVAL);
    }
    panic!("processes {:?} do not end", members(group));
}

/// Returns the processes of a group, without those that have ended and wait to be collected.
fn members(group: i32) -> Vec<i32> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let is_member = |process: &i32| {
        let status = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        // The name is in parentheses. Its text is arbitrary.
        let fields = status.rsplit_once(')').map_or("", |(_, fields)| fields);
        let fields: Vec<&str> = fields.split_whitespace().collect();
        matches!(fields[..], [state, _, its_group, ..]
            if !matches!(state, "Z" | "X") && its_group.parse() == Ok(group))
    };
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(is_member)
        .collect()
}

/// Kills every program that runs, and lets no other one start. For the end by a signal.
pub fn kill_all() {
    let mut running = running();
    running.ends = true;
    let groups = std::mem::take(&mut running.groups);
    for &group in &groups {
        let _ = kill_process_group(pid(group), Signal::KILL);
    }
    groups.into_iter().for_each(end_group);
}
