//! Black-box tests of `virtside serve`: the running command, and a third-party driver in front of it.

mod blk;
mod config;
mod devices;
mod faults;
mod front_end;
mod guest;
mod output;
mod sandbox;
mod service;
mod signals;
mod sockets;
mod words;

use guest::Guest;
use service::{Folder, Service, refused};
