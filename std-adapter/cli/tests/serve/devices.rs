//! Devices other than disks.

use std::{
    fs::{self, OpenOptions},
    io::{Read, Write},
    os::unix::{fs::OpenOptionsExt, net::UnixStream},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    Folder, Service,
    front_end::FrontEnd,
    refused,
    service::{COMMAND, wait},
};

/// Starts a device with these arguments, at `device.sock`.
fn device(folder: &Folder, arguments: &[&str]) -> Service {
    let socket = folder.text("device.sock");
    let arguments = [arguments, &["--vhost-user", &socket]].concat();
    Service::start(&arguments).listens(&folder.path("device.sock"))
}

fn front_end(folder: &Folder, queues: usize, features: u64) -> FrontEnd {
    FrontEnd::connect(&folder.path("device.sock"), queues, features)
}

mod rng {
    use super::*;

    #[test]
    fn the_system_gives_random_bytes() {
        let folder = Folder::new();
        let service = device(&folder, &["rng"]);
        let mut guest = front_end(&folder, 1, 0);
        let first = guest.ask(0, &[], 64);
        assert_eq!(first.len(), 64);
        assert_ne!(first, guest.ask(0, &[], 64));
        drop(guest);
        service.stop();
    }

    #[test]
    fn a_source_that_ends_leaves_the_request_waiting() {
        let folder = Folder::new();
        let source = folder.text("source");
        fs::write(&source, "random").unwrap();
        let mut service = device(&folder, &["rng", "--source", &source]);
        let mut guest = front_end(&folder, 1, 0);
        assert_eq!(guest.ask(0, &[], 64), b"random");
        guest.send(0, &[], 64);
        service.said("the source gives no bytes: unexpected end of file");
        assert_eq!(guest.answer(0), None);
        let mut more = OpenOptions::new().append(true).open(&source).unwrap();
        more.write_all(b"more").unwrap();
        assert_eq!(guest.wait(0), b"more");
        drop(guest);
        let log = service.stop();
        let lines = log.lines().filter(|line| line.contains("ERROR"));
        assert!(lines.count() <= 3, "errors do not flood the log: {log}");
    }

    #[test]
    fn a_missing_source_is_refused() {
        let folder = Folder::new();
        let (source, socket) = (folder.text("none"), folder.text("s"));
        let line = refused(&["serve", "rng", "--source", &source, "--vhost-user", &socket]);
        assert!(line.contains(&source), "{line}");
    }
}

mod i2c {
    use super::*;

    /// VIRTIO_I2C_F_ZERO_LENGTH_REQUEST
    const FEATURES: u64 = 1;
    const READ: u8 = 2;
    const MORE: u8 = 1;

    fn header(address: u8, flags: u8) -> Vec<u8> {
        vec![address << 1, 0, 0, 0, flags, 0, 0, 0]
    }

    #[test]
    fn a_simulated_eeprom_keeps_what_is_written() {
        let folder = Folder::new();
        let service = device(&folder, &["i2c", "--simulate"]);
        let mut guest = front_end(&folder, 1, FEATURES);
        let write = [header(0x50, 0), vec![0x10, 1, 2, 3]].concat();
        assert_eq!(guest.ask(0, &write, 1), [0]);
        let set_address = [header(0x50, MORE), vec![0x11]].concat();
        guest.send(0, &set_address, 1);
        guest.send(0, &header(0x50, READ), 3);
        // A write that waits for its read is answered after it.
        let mut answers = [guest.wait(0), guest.wait(0)];
        answers.sort();
        assert_eq!(answers, [vec![0], vec![2, 3, 0]]);
        assert_eq!(guest.ask(0, &header(0x51, 0), 1), [1], "nobody is at 0x51");
        drop(guest);
        service.stop();
    }

    #[test]
    fn a_missing_bus_is_refused() {
        let folder = Folder::new();
        let socket = folder.text("s");
        let line = refused(&[
            "serve",
            "i2c",
            "--bus",
            "/dev/none",
            "--vhost-user",
            &socket,
        ]);
        assert!(line.contains("/dev/none"), "{line}");
    }
}

mod gpio {
    use super::*;

    /// VIRTIO_GPIO_F_IRQ
    const FEATURES: u64 = 1;

    fn ask(guest: &mut FrontEnd, kind: u16, line: u16, value: u32) -> Vec<u8> {
        let mut request = [kind, line].map(u16::to_le_bytes).concat();
        request.extend(value.to_le_bytes());
        guest.ask(0, &request, 2)
    }

    #[test]
    fn a_line_follows_the_line_before_it_with_edges() {
        const SET_DIRECTION: u16 = 3;
        const GET_VALUE: u16 = 4;
        const SET_VALUE: u16 = 5;
        const SET_IRQ: u16 = 6;
        let folder = Folder::new();
        let service = device(&folder, &["gpio", "--simulate"]);
        let mut guest = front_end(&folder, 2, FEATURES);
        assert_eq!(ask(&mut guest, SET_VALUE, 3, 0), [0, 0]);
        assert_eq!(ask(&mut guest, SET_DIRECTION, 3, 1), [0, 0]);
        assert_eq!(ask(&mut guest, SET_DIRECTION, 4, 2), [0, 0]);
        assert_eq!(ask(&mut guest, SET_IRQ, 4, 1), [0, 0], "rising edges");
        guest.send(1, &4_u16.to_le_bytes(), 1);
        assert_eq!(ask(&mut guest, GET_VALUE, 4, 0), [0, 0]);
        assert_eq!(guest.answer(1), None);
        assert_eq!(ask(&mut guest, SET_VALUE, 3, 1), [0, 0]);
        assert_eq!(guest.wait(1), [1], "the edge is reported");
        assert_eq!(ask(&mut guest, GET_VALUE, 4, 0), [0, 1]);
        drop(guest);
        service.stop();
    }

    #[test]
    fn a_missing_chip_is_refused() {
        let folder = Folder::new();
        let socket = folder.text("s");
        let line = refused(&[
            "serve",
            "gpio",
            "--chip",
            "/dev/none",
            "--vhost-user",
            &socket,
        ]);
        assert!(line.contains("/dev/none"), "{line}");
    }
}

mod spi {
    use super::*;

    #[test]
    fn a_simulated_chip_sends_back_what_it_receives() {
        let folder = Folder::new();
        let service = device(&folder, &["spi", "--simulate"]);
        let mut guest = front_end(&folder, 1, 0);
        // One chip, words of 8 bits, no cs_change, as Linux sends it.
        let mut request = vec![0; 32];
        request[1] = 8;
        request.extend(b"hello");
        assert_eq!(guest.ask(0, &request, 6), b"hello\0");
        drop(guest);
        service.stop();
    }

    #[test]
    fn a_wrong_clock_mode_or_device_is_refused() {
        let folder = Folder::new();
        let socket = folder.text("s");
        for arguments in [
            &["--simulate", "--mode", "4"][..],
            &["--device", "/dev/none"],
        ] {
            let line = refused(&[&["serve", "spi", "--vhost-user", &socket], arguments].concat());
            assert!(line.contains(arguments[arguments.len() - 1]), "{line}");
        }
    }
}

mod console {
    use super::*;

    const INPUT: usize = 0;
    const OUTPUT: usize = 1;

    /// Writes on both sides, and reads the same on the other one.
    fn talk(guest: &mut FrontEnd, terminal: &mut (impl Read + Write)) {
        guest.send(INPUT, &[], 64);
        assert_eq!(guest.ask(OUTPUT, b"hello from the guest\n", 0), b"");
        let mut bytes = [0; 21];
        terminal.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"hello from the guest\n");
        terminal.write_all(b"hello\r\x03").unwrap();
        terminal.flush().unwrap();
        let mut input = Vec::new();
        while input.len() < 7 {
            input.extend(guest.wait(INPUT));
            guest.send(INPUT, &[], 64);
        }
        assert_eq!(input, b"hello\r\x03", "every byte, as it is");
    }

    #[test]
    fn a_pseudo_terminal_carries_bytes_both_ways() {
        let folder = Folder::new();
        let mut service = device(&folder, &["console", "--pty"]);
        let log = service.said("terminal at /dev/pts/");
        let (_, path) = log
            .lines()
            .find_map(|line| line.split_once("terminal at "))
            .unwrap();
        let mut guest = front_end(&folder, 2, 0);
        for _ in 0..400 {
            // Nobody has the terminal open, so the output goes nowhere.
            assert_eq!(guest.ask(OUTPUT, &[b'.'; 64], 0), b"");
        }
        let mut terminal = OpenOptions::new();
        let mut terminal = terminal
            .read(true)
            .write(true)
            .custom_flags(0o400)
            .open(path)
            .unwrap();
        talk(&mut guest, &mut terminal);
        drop(terminal);
        assert_eq!(guest.ask(OUTPUT, b"nobody reads this", 0), b"");
        drop(guest);
        service.stop();
    }

    #[test]
    fn a_socket_serves_one_terminal_after_the_other() {
        let folder = Folder::new();
        let path = folder.text("terminal.sock");
        let service = device(&folder, &["console", "--socket", &path]);
        let mut guest = front_end(&folder, 2, 0);
        for _ in 0..2 {
            let mut terminal = UnixStream::connect(&path).unwrap();
            terminal.write_all(b"!").unwrap();
            guest.send(INPUT, &[], 64);
            assert_eq!(guest.wait(INPUT), b"!", "the terminal is connected");
            talk(&mut guest, &mut terminal);
            drop(guest);
            guest = front_end(&folder, 2, 0);
        }
        drop(guest);
        service.stop();
        assert!(!folder.path("terminal.sock").exists());
    }

    #[test]
    fn a_terminal_that_leaves_does_not_hold_output_or_others_back() {
        let folder = Folder::new();
        let path = folder.text("terminal.sock");
        let service = device(&folder, &["console", "--socket", &path]);
        let mut guest = front_end(&folder, 2, 0);
        for _ in 0..3 {
            // The guest has no buffer for input.
            let mut terminal = UnixStream::connect(&path).unwrap();
            wait("the terminal is connected", || {
                guest.ask(OUTPUT, b"?", 0);
                terminal.set_nonblocking(true).unwrap();
                terminal.read(&mut [0; 64]).ok()
            });
            drop(terminal);
            for _ in 0..300 {
                assert_eq!(guest.ask(OUTPUT, &[b'x'; 4000], 0), b"");
            }
        }
        drop(guest);
        service.stop();
    }

    #[test]
    fn a_reader_that_is_full_holds_the_output_back() {
        let folder = Folder::new();
        let path = folder.text("terminal.sock");
        let service = device(&folder, &["console", "--socket", &path]);
        let mut guest = front_end(&folder, 2, 0);
        let mut terminal = UnixStream::connect(&path).unwrap();
        terminal.write_all(b"!").unwrap();
        guest.ask(INPUT, &[], 64);
        let mut sent = 0;
        let mut held_back = false;
        while !held_back {
            guest.send(OUTPUT, &[b'x'; 4000], 0);
            sent += 4000;
            let patience = Instant::now() + Duration::from_millis(200);
            held_back = loop {
                if guest.answer(OUTPUT).is_some() {
                    break false;
                }
                if Instant::now() > patience {
                    break true;
                }
            };
        }
        terminal
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let mut received = 0;
        let mut bytes = vec![0; 65536];
        while received < sent {
            received += terminal.read(&mut bytes).unwrap();
        }
        assert_eq!(received, sent, "nothing is lost");
        assert_eq!(guest.wait(OUTPUT), b"");
        service.stop();
    }

    #[test]
    fn standard_input_and_output_are_the_terminal() {
        let folder = Folder::new();
        let socket = folder.path("device.sock");
        let mut child = Command::new(COMMAND)
            .args(["serve", "console", "--stdio", "--vhost-user"])
            .arg(&socket)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait("the socket", || socket.exists().then_some(()));
        let mut guest = front_end(&folder, 2, 0);
        struct Both<'c>(&'c mut std::process::Child);
        impl Read for Both<'_> {
            fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
                self.0.stdout.as_mut().unwrap().read(bytes)
            }
        }
        impl Write for Both<'_> {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.stdin.as_mut().unwrap().write(bytes)
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        talk(&mut guest, &mut Both(&mut child));
        // The end of the input is no end of the device.
        drop(child.stdin.take());
        assert_eq!(guest.ask(OUTPUT, b"more", 0), b"");
        drop(guest);
        let pid = child.id().to_string();
        Command::new("kill")
            .args(["-s", "TERM", &pid])
            .status()
            .unwrap();
        assert!(child.wait().unwrap().success());
    }
}
