//! The unmodified `dpdk-testpmd`: its process, and the statistics that it prints at the end.

use std::{
    fs,
    io::{self, Read, Write},
    path::Path,
    process::{Child, Command, Stdio},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// The options of testpmd and its driver.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub packed: bool,
    pub in_order: bool,
    /// testpmd's forwarding mode.
    pub forward: &'static str,
    /// Frames that testpmd makes at the start, and the most frames of a burst.
    pub burst: u64,
    /// Bytes of each frame that testpmd makes.
    pub len: usize,
}

pub struct Testpmd {
    child: Child,
    output: JoinHandle<String>,
}

/// The statistics of testpmd's port.
#[derive(Debug, PartialEq, Eq)]
pub struct Statistics {
    pub received: u64,
    pub sent: u64,
    /// Frames that either side of the port dropped.
    pub dropped: u64,
}

/// The processors that this process may use, as a list.
fn processors() -> String {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    list.expect("a list of processors").trim().to_owned()
}

impl Testpmd {
    /// Starts testpmd with a device at this socket.
    pub fn start(socket: &Path, options: Options) -> Self {
        let device = format!(
            "net_virtio_user0,path={},queues=1,queue_size=256,packed_vq={},in_order={},mrg_rxbuf=0,vectorized=0",
            socket.display(),
            u8::from(options.packed),
            u8::from(options.in_order),
        );
        let mut command = Command::new("dpdk-testpmd");
        // testpmd has two threads on any processors: one forwards, the other waits.
        command.arg(format!("--lcores=(0,1)@({})", processors()));
        command.args(["--no-huge", "-m", "256", "--no-pci", "--no-telemetry"]);
        // testpmd's own files go to the folder of the socket, so that runs do not share files and
        // leave none behind.
        let folder = socket.parent().expect("a folder");
        command.env("RUNTIME_DIRECTORY", folder);
        command.args(["--vdev", &device, "--", "--total-num-mbufs=4096"]);
        command.arg(format!("--forward-mode={}", options.forward));
        command.args(["--no-flush-rx", "--rxd=256", "--txd=256"]);
        command.arg(format!("--burst={}", options.burst));
        command.arg(format!("--txpkts={}", options.len));
        if options.forward == "io" {
            command.arg("--tx-first");
        }
        let (mut reader, writer) = io::pipe().expect("a pipe");
        command.stderr(writer.try_clone().expect("a second writer"));
        command.stdin(Stdio::piped()).stdout(writer);
        let child = command.spawn().unwrap_or_else(|error| {
            panic!("dpdk-testpmd does not start ({error}): it is in Debian's package dpdk-dev")
        });
        // The child process has the other ends of the pipe.
        drop(command);
        let output = thread::spawn(move || {
            let mut text = Vec::new();
            reader.read_to_end(&mut text).expect("the output");
            String::from_utf8_lossy(&text).into_owned()
        });
        Self { child, output }
    }

    /// Kills testpmd; returns its output.
    pub fn kill(mut self) -> String {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.output.join().expect("the thread does not panic")
    }

    /// Tells testpmd to stop forwarding, and waits until it exits.
    pub fn finish(mut self) -> Statistics {
        let mut stdin = self.child.stdin.take().expect("stdin is a pipe");
        stdin.write_all(b"\n").expect("testpmd reads stdin");
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                break status;
            }
            if begin.elapsed() > Duration::from_secs(60) {
                panic!("testpmd does not exit:\n{}", self.kill());
            }
            thread::sleep(Duration::from_millis(20));
        };
        let output = self.output.join().expect("the thread does not panic");
        assert!(status.success(), "{status}:\n{output}");
        statistics(&output)
    }
}

/// Finds the statistics of port 0 in testpmd's output.
fn statistics(output: &str) -> Statistics {
    let start = output.find("Forward statistics for port 0");
    let start = start.unwrap_or_else(|| panic!("no statistics:\n{output}"));
    let end = output[start..]
        .find("Accumulated")
        .expect("the end of the statistics");
    let port = &output[start..start + end];
    let number = |name: &str| {
        let (_, rest) = port
            .split_once(name)
            .unwrap_or_else(|| panic!("no {name}:\n{port}"));
        let digits = rest.split_whitespace().next();
        digits.expect("a number").parse::<u64>().expect("a number")
    };
    let errors = if port.contains("RX-error:") {
        number("RX-error:")
    } else {
        0
    };
    Statistics {
        received: number("RX-packets:"),
        sent: number("TX-packets:"),
        dropped: number("RX-dropped:") + number("TX-dropped:") + errors,
    }
}
