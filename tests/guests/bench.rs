//! `virtside serve blk` against `qemu-storage-daemon`, on one image in memory, with one client.
//!
//! The contestants take turns. Each turn starts the server anew, so that no other server runs
//! beside it. A figure is the median of the rounds.

use std::{
    collections::BTreeMap,
    env,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use crate::{
    null,
    outcome::{Outcome, failure},
    process::Program,
    rows::Tools,
    service::Service,
    tools::{Folder, in_debian},
};

/// How long a turn may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Bytes of the image.
const SIZE: u64 = 256 << 20;

const ROUNDS: usize = 5;

/// What the client does: reads of `bytes` bytes, `depth` at once.
#[derive(Debug)]
struct Load {
    name: &'static str,
    bytes: u32,
    depth: u32,
    count: u32,
}

const LOADS: [Load; 3] = [
    Load {
        name: "4 KiB, depth 1",
        bytes: 4096,
        depth: 1,
        count: 30_000,
    },
    Load {
        name: "4 KiB, depth 64",
        bytes: 4096,
        depth: 64,
        count: 200_000,
    },
    Load {
        name: "128 KiB, depth 16",
        bytes: 131_072,
        depth: 16,
        count: 20_000,
    },
];

/// A server.
#[derive(Clone, Copy, Debug)]
enum Server {
    /// `virtside serve blk` with these arguments.
    Ours(&'static [&'static str]),
    /// This program, as a server of the [null](crate::null) disk that looks for requests for so many
    /// microseconds.
    OurNull(&'static str),
    /// `qemu-storage-daemon` with this block device.
    Theirs(&'static str),
}

/// Servers of the same thing. The ratio of each is to the best of theirs.
#[derive(Debug)]
struct Match {
    what: &'static str,
    servers: &'static [(&'static str, Server)],
}

const MATCHES: [Match; 2] = [
    Match {
        what: "file in tmpfs",
        servers: &[
            ("virtside", Server::Ours(&["--disk", "IMAGE"])),
            (
                "virtside --spin 50",
                Server::Ours(&["--disk", "IMAGE", "--spin", "50"]),
            ),
            (
                "virtside --aio io_uring",
                Server::Ours(&["--disk", "IMAGE", "--aio", "io_uring"]),
            ),
            (
                "qemu-storage-daemon, threads",
                Server::Theirs("driver=file,filename=IMAGE,aio=threads"),
            ),
            (
                "qemu-storage-daemon, io_uring",
                Server::Theirs("driver=file,filename=IMAGE,aio=io_uring"),
            ),
        ],
    },
    Match {
        what: "no disk",
        servers: &[
            ("virtside-std", Server::OurNull("0")),
            ("virtside-std, spin 50", Server::OurNull("50")),
            (
                "qemu-storage-daemon, null-co",
                Server::Theirs("driver=null-co,size=SIZE,read-zeroes=off"),
            ),
        ],
    },
];

/// A measured turn.
#[derive(Clone, Copy, Debug)]
struct Turn {
    /// Requests a second.
    rate: f64,
    /// Processor time of the server in microseconds a request.
    cpu: f64,
}

/// Measures everything, and prints the table.
pub fn run(tools: &Tools, chosen: &[String]) -> Outcome<()> {
    let folder = Folder::in_memory()?;
    let image = folder.path().join("disk");
    fill(&image)?;
    let mut number = 0;
    println!(
        "medians of {ROUNDS} rounds; cpu: microseconds of the server a request; ratio: to the best of qemu-storage-daemon"
    );
    for (contest, load) in MATCHES
        .iter()
        .flat_map(|contest| LOADS.iter().map(move |load| (contest, load)))
    {
        let title = format!("{}, {}", contest.what, load.name);
        if !chosen.is_empty() && !chosen.iter().any(|part| title.contains(part)) {
            continue;
        }
        let mut turns: BTreeMap<usize, Vec<Turn>> = BTreeMap::new();
        for _ in 0..ROUNDS {
            for (at, (_, server)) in contest.servers.iter().enumerate() {
                number += 1;
                let inside = folder.inside(&number.to_string())?;
                let turn = measure(tools, folder.path(), &inside, &image, *server, load)?;
                turns.entry(at).or_default().push(turn);
            }
        }
        println!(
            "\n{title:<38} {:>10} {:>8} {:>7}",
            "requests/s", "cpu us", "ratio"
        );
        let medians: Vec<Turn> = turns.into_values().map(median).collect();
        let theirs = |(at, _): &(usize, &Turn)| matches!(contest.servers[*at].1, Server::Theirs(_));
        let best = medians.iter().enumerate().filter(theirs);
        let best = best.map(|(_, turn)| turn.rate).fold(0.0, f64::max);
        for ((name, _), turn) in contest.servers.iter().zip(&medians) {
            println!(
                "  {name:<36} {:>10.0} {:>8.2} {:>6.2}x",
                turn.rate,
                turn.cpu,
                turn.rate / best
            );
        }
    }
    Ok(())
}

/// Fills the image with bytes, so that it has no holes.
fn fill(image: &Path) -> Outcome<()> {
    let mut random = File::open("/dev/urandom")?.take(SIZE);
    io::copy(&mut random, &mut File::create(image)?)?;
    Ok(())
}

/// Serves the image, and lets the client read from it.
fn measure(
    tools: &Tools,
    shared: &Path,
    folder: &Path,
    image: &Path,
    server: Server,
    load: &Load,
) -> Outcome<Turn> {
    let (image, size) = (image.display().to_string(), SIZE.to_string());
    let filled = |text: &str| text.replace("IMAGE", &image).replace("SIZE", &size);
    match server {
        Server::Ours(arguments) => {
            let mut all = vec!["blk".to_owned()];
            all.extend(arguments.iter().map(|argument| filled(argument)));
            let all: Vec<&str> = all.iter().map(String::as_str).collect();
            let service = Service::start(&tools.virtside, folder, &all)?;
            let turn = client(shared, folder, service.socket(), service.pid(), load)?;
            service.stop()?;
            Ok(turn)
        }
        Server::OurNull(spin) => {
            let socket = folder.join("null.sock");
            let mut command = Command::new(env::current_exe()?);
            command.arg(null::ARGUMENT).arg(&socket).args([&size, spin]);
            let log = folder.join("null.log");
            let mut server = Program::start("the server without a disk", &command, &log)?;
            wait_for_socket(&socket, &mut server)?;
            client(shared, folder, &socket, server.pid(), load)
        }
        Server::Theirs(block) => {
            let socket = folder.join("theirs.sock");
            let mut command = in_debian(shared, "qemu-storage-daemon");
            command
                .arg("--blockdev")
                .arg(format!("{},node-name=disk", filled(block)))
                .arg("--export")
                .arg(format!(
                    "type=vhost-user-blk,id=export,node-name=disk,writable=on,addr.type=unix,addr.path={}",
                    socket.display()
                ));
            let log = folder.join("theirs.log");
            let mut daemon = Program::start("qemu-storage-daemon", &command, &log)?;
            wait_for_socket(&socket, &mut daemon)?;
            client(shared, folder, &socket, daemon.pid(), load)
        }
    }
}

fn wait_for_socket(socket: &Path, program: &mut Program) -> Outcome<()> {
    let end = Instant::now() + LIMIT;
    while !socket.exists() {
        if program.ended()?.is_some() || Instant::now() > end {
            return Err(failure(format!("no socket: {}", program.said())));
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Runs the client, and measures the server beside it.
fn client(shared: &Path, folder: &Path, socket: &Path, server: u32, load: &Load) -> Outcome<Turn> {
    let target = format!(
        "driver=virtio-blk-vhost-user,path={},cache.direct=on",
        socket.display()
    );
    let mut command = in_debian(shared, "qemu-img");
    command.args(["bench", "-c", &load.count.to_string()]);
    command.args(["-d", &load.depth.to_string(), "-s", &load.bytes.to_string()]);
    command.args(["--image-opts", &target]);
    let before = processor_time(server)?;
    let mut program = Program::start("qemu-img", &command, &folder.join("qemu-img.log"))?;
    program.succeed(LIMIT)?;
    let used = processor_time(server)? - before;
    let said = program.said();
    let seconds = said
        .split_once("Run completed in ")
        .and_then(|(_, rest)| rest.split_whitespace().next()?.parse::<f64>().ok());
    let seconds = seconds.ok_or_else(|| failure(format!("qemu-img: {said}")))?;
    let count = f64::from(load.count);
    Ok(Turn {
        rate: count / seconds,
        cpu: used.as_secs_f64() * 1e6 / count,
    })
}

/// Returns the processor time of a process and its threads.
fn processor_time(process: u32) -> Outcome<Duration> {
    /// The kernel tells it in hundredths of a second on every architecture.
    const TICK: Duration = Duration::from_millis(10);
    let path = PathBuf::from(format!("/proc/{process}/stat"));
    let text = fs::read_to_string(&path)?;
    let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields);
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u32>().ok());
    match (ticks(11), ticks(12)) {
        (Some(user), Some(system)) => Ok(TICK * (user + system)),
        _ => Err(failure(format!("{} has no times", path.display()))),
    }
}

fn median(mut turns: Vec<Turn>) -> Turn {
    let middle = turns.len() / 2;
    turns.sort_by(|one, other| one.rate.total_cmp(&other.rate));
    let rate = turns[middle].rate;
    turns.sort_by(|one, other| one.cpu.total_cmp(&other.cpu));
    Turn {
        rate,
        cpu: turns[middle].cpu,
    }
}
