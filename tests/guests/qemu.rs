//! Debian's Linux in QEMU, without KVM.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    guest::Guest,
    outcome::{Outcome, failure},
    process::Program,
    tools::in_debian,
};

/// How long QEMU may take to answer.
const LIMIT: Duration = Duration::from_secs(30);

/// A machine with vhost-user devices on PCI.
#[derive(Debug)]
pub struct Machine {
    pub folder: PathBuf,
    pub initrd: PathBuf,
    pub packed: bool,
    /// Kind and socket of each device.
    pub devices: Vec<(&'static str, PathBuf)>,
    /// The machine can suspend to RAM. It is a PC with conventional PCI: a q35 suspends only once,
    /// and cannot power itself off afterwards.
    pub suspends: bool,
    /// QEMU connects again to a service that has gone.
    pub reconnects: bool,
    pub checks: &'static str,
}

impl Machine {
    /// Starts the machine.
    pub fn boot(&self) -> Outcome<(Guest, Monitor)> {
        let monitor = self.folder.join("qmp.sock");
        // QEMU sees only this folder.
        let initrd = self.folder.join("initrd");
        fs::hard_link(&self.initrd, &initrd)?;
        let mut command = in_debian(&self.folder, "qemu-system-x86_64");
        // Without the options about the TSC, some boots hang.
        let append = format!(
            "console=ttyS0 quiet tsc_early_khz=2600000 tsc=reliable checks={}",
            self.checks
        );
        command
            .args(["-accel", "tcg", "-cpu", "max", "-m", "256", "-no-reboot"])
            .arg("-machine")
            .arg(format!(
                "{},memory-backend=memory",
                if self.suspends { "pc" } else { "q35" }
            ))
            .args([
                "-object",
                "memory-backend-memfd,id=memory,size=256M,share=on",
            ])
            .args(["-nodefaults", "-display", "none", "-serial", "stdio"])
            .args(["-kernel", "/boot/vmlinuz", "-append", &append])
            .arg("-initrd")
            .arg(&initrd)
            .arg("-qmp")
            .arg(format!("unix:{},server=on,wait=off", monitor.display()));
        if self.suspends {
            command.args(["-global", "PIIX4_PM.disable_s3=0"]);
        }
        for (kind, socket) in &self.devices {
            let again = if self.reconnects {
                ",reconnect-ms=100"
            } else {
                ""
            };
            let packed = if self.packed { "on" } else { "off" };
            command
                .arg("-chardev")
                .arg(format!("socket,id={kind},path={}{again}", socket.display()))
                .arg("-device")
                .arg(format!(
                    "vhost-user-{kind}-pci,chardev={kind},packed={packed}"
                ));
        }
        let log = self.folder.join("qemu.log");
        let mut program = Program::start("QEMU", &command, &log)?;
        let monitor = Monitor::connect(&monitor, &mut program)?;
        Ok((Guest { program }, monitor))
    }
}

/// A connection to QEMU's monitor.
#[derive(Debug)]
pub struct Monitor(BufReader<UnixStream>);

impl Monitor {
    fn connect(path: &Path, program: &mut Program) -> Outcome<Self> {
        let end = Instant::now() + LIMIT;
        let stream = loop {
            match UnixStream::connect(path) {
                Ok(stream) => break stream,
                Err(_) if Instant::now() < end && program.ended()?.is_none() => {
                    thread::sleep(Duration::from_millis(20));
                }
                Err(error) => {
                    let said = program.said();
                    return Err(failure(format!("QEMU has no monitor: {error}: {said}")));
                }
            }
        };
        stream.set_read_timeout(Some(LIMIT * 4))?;
        let mut monitor = Self(BufReader::new(stream));
        monitor.receive()?;
        monitor.execute("qmp_capabilities")?;
        Ok(monitor)
    }

    fn receive(&mut self) -> Outcome<Value> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        if line.is_empty() {
            return Err(failure("QEMU has closed its monitor"));
        }
        Ok(serde_json::from_str(&line)?)
    }

    /// Executes a command. Skips the events before its answer.
    pub fn execute(&mut self, command: &str) -> Outcome<Value> {
        let text = format!("{}\n", json!({ "execute": command }));
        self.0.get_mut().write_all(text.as_bytes())?;
        loop {
            let mut message = self.receive()?;
            if let Some(error) = message.get("error") {
                return Err(failure(format!("{command}: {error}")));
            }
            if let Some(answer) = message.get_mut("return") {
                return Ok(answer.take());
            }
        }
    }

    /// Waits for an event.
    pub fn wait_for(&mut self, event: &str) -> Outcome<()> {
        loop {
            let message = self.receive()?;
            if message.get("event").and_then(Value::as_str) == Some(event) {
                return Ok(());
            }
        }
    }
}
