//! Several devices from a TOML file, and sockets of a service manager.

use std::{
    fs,
    os::{fd::OwnedFd, unix::net::UnixListener},
    process::{Command, Stdio},
};

use crate::{
    Folder, Guest, Service,
    front_end::FrontEnd,
    guest::text,
    refused,
    service::{COMMAND, wait},
};

/// Writes a file in which `@` is the folder, and returns its path.
fn file(folder: &Folder, content: &str) -> String {
    let path = folder.text("devices.toml");
    fs::write(
        &path,
        content.replace('@', folder.text("").trim_end_matches('/')),
    )
    .unwrap();
    path
}

#[test]
fn several_devices_are_served_at_once() {
    let folder = Folder::new();
    folder.image("a.img", 1 << 20);
    folder.image("b.img", 1 << 20);
    let path = file(
        &folder,
        r#"
        [[device]]
        kind = "blk"
        name = "root"
        disk = "@/a.img"
        queues = 2
        queue-size = 128
        serial = "first"
        cache = "writethrough"
        vhost-user = "@/a.sock"

        [[device]]
        kind = "blk"
        disk = "@/b.img"
        read-only = true
        vhost-user = "@/b.sock"

        [[device]]
        kind = "i2c"
        simulate = true
        vhost-user = "@/i2c.sock"

        [[device]]
        kind = "rng"
        vhost-user = "@/rng.sock"
        "#,
    );
    let mut service = Service::start(&["--config", &path]);
    for socket in ["a.sock", "b.sock", "i2c.sock", "rng.sock"] {
        service.said(&format!("listening on {}", folder.text(socket)));
    }
    let (mut a, mut b) = (
        Guest::connect(&folder.path("a.sock")),
        Guest::connect(&folder.path("b.sock")),
    );
    assert_eq!(a.write(0, &text(512, 1)), 0);
    assert_ne!(b.write(0, &text(512, 1)), 0);
    assert_eq!({ a.config().num_queues }, 2);
    let mut rng = FrontEnd::connect(&folder.path("rng.sock"), 1, 0);
    assert_eq!(rng.ask(0, &[], 16).len(), 16);
    drop((a, b, rng));
    let log = service.stop();
    for name in [
        "root: stopped",
        "blk: stopped",
        "i2c: stopped",
        "rng: stopped",
    ] {
        assert!(log.contains(name), "{name} is not in {log}");
    }
}

#[test]
fn an_error_in_the_file_names_the_key() {
    let folder = Folder::new();
    folder.image("a.img", 1 << 20);
    let disk = "[[device]]\nkind = \"blk\"\ndisk = \"@/a.img\"\nvhost-user = \"@/a.sock\"\n";
    for (content, why) in [
        ("".to_owned(), "it has no `[[device]]`"),
        ("device = 1".to_owned(), "it has no `[[device]]`"),
        ("[[device]]".to_owned(), "device 1: missing field `kind`"),
        (
            "[[device]]\nkind = \"net\"".to_owned(),
            "device 1: unknown kind `net`",
        ),
        (
            "[[device]]\nkind = 3".to_owned(),
            "device 1: `kind` is integer",
        ),
        (format!("{disk}dsk = 1"), "device 1: unknown field `dsk`"),
        (format!("{disk}queues = 17"), "`queues`"),
        (format!("{disk}queue-size = \"many\""), "`queue-size`"),
        (
            format!("{disk}serial = \"more than twenty characters\""),
            "`serial`",
        ),
        (format!("trace = true\n{disk}"), "unknown key `trace`"),
        (format!("{disk}[[device]\n"), "line 5: "),
        (
            "[[device]]\nkind = \"blk\"".to_owned(),
            "missing field `disk`",
        ),
        (
            "[[device]]\nkind = \"gpio\"\nvhost-user = \"@/g\"".to_owned(),
            "give either a chip or simulate",
        ),
        (
            "[[device]]
kind = \"rng\"
name = \"a\"
vhost-user = \"@/x\"
"
            .to_owned()
                + "[[device]]\nkind = \"rng\"\nname = \"a\"\nvhost-user = \"@/y\"\n",
            "two devices have the name a",
        ),
    ] {
        let path = file(&folder, &content);
        let line = refused(&["serve", "--config", &path]);
        assert!(line.contains(why), "{why} is not in {line}");
    }
    for socket in ["a.sock", "x", "y", "g"] {
        assert!(!folder.path(socket).exists(), "{socket} stays behind");
    }
}

#[test]
fn a_file_and_a_device_are_not_given_together() {
    let folder = Folder::new();
    let path = file(&folder, "");
    refused(&["serve", "--config", &path, "rng", "--vhost-user", "x"]);
    refused(&["serve"]);
    let line = refused(&["serve", "--config", &folder.text("none.toml")]);
    assert!(line.contains("none.toml"), "{line}");
}

/// Runs the command with a listening socket as descriptor 3.
fn activated(listener: UnixListener, arguments: &[&str]) -> Command {
    let mut command = Command::new("sh");
    let script = "export LISTEN_FDS=1; exec \"$0\" serve \"$@\" 3<&0 </dev/null";
    command.args(["-c", script, COMMAND]).args(arguments);
    command.stdin(Stdio::from(OwnedFd::from(listener)));
    command
}

#[test]
fn a_socket_of_the_service_manager_is_used() {
    let folder = Folder::new();
    let path = folder.path("rng.sock");
    let mut child = activated(UnixListener::bind(&path).unwrap(), &["rng"])
        .spawn()
        .unwrap();
    let mut rng = FrontEnd::connect(&path, 1, 0);
    assert_eq!(rng.ask(0, &[], 16).len(), 16);
    drop(rng);
    let pid = child.id().to_string();
    Command::new("kill")
        .args(["-s", "TERM", &pid])
        .status()
        .unwrap();
    let status = wait("the end", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    assert!(path.exists(), "the socket is the service manager's");
}

#[test]
fn a_socket_that_no_device_needs_is_an_error() {
    let folder = Folder::new();
    let listener = UnixListener::bind(folder.path("spare.sock")).unwrap();
    let arguments = ["rng", "--vhost-user", &folder.text("rng.sock")];
    let output = activated(listener, &arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let line = refused(&["serve", "rng"]);
    assert!(line.contains("needs --vhost-user"), "{line}");
}

#[test]
fn a_descriptor_that_does_not_listen_is_refused() {
    let script = "export LISTEN_FDS=1; exec \"$0\" serve rng 3</dev/null";
    let output = Command::new("sh")
        .args(["-c", script, COMMAND])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let script = "export LISTEN_FDS=1; exec \"$0\" serve rng 3<&-";
    let output = Command::new("sh")
        .args(["-c", script, COMMAND])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}
