//! Black-box tests of `virtside serve`: the running command, and a third-party driver in front of it.

mod blk;
mod devices;
mod front_end;
mod guest;
mod service;
mod sockets;
mod words;

use guest::Guest;
use service::{Folder, Service, refused};
