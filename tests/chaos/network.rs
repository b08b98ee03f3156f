//! The network between the directors: each is in a network namespace of its own, whose only way out is a TUN device.
//! What it sends comes here as packets, and goes on to where it should: never, later, or slowly.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use parking_lot::Mutex;

use crate::e2e::now;

pub const DIRECTORS: usize = 5;
/// Packets that a way holds; beyond that they are lost, as in a router.
const QUEUE: usize = 2000;
/// How often it is looked whether there is a cable again.
const UNPLUGGED: Duration = Duration::from_millis(20);
/// Longest that a packet waits for its turn on a narrow way.
const LATEST: Duration = Duration::from_secs(2);

/// How packets go from one director to another.
#[derive(Clone, Copy, Debug, Default)]
pub struct Way {
    pub is_cut: bool,
    pub delay: Duration,
    /// Bytes a second; 0: as fast as may be.
    pub rate: u32,
}

type Ways = [[Way; DIRECTORS]; DIRECTORS];

pub struct Network {
    ways: Arc<Mutex<Ways>>,
    namespaces: Vec<File>,
}

struct Packet {
    due: Instant,
    bytes: Vec<u8>,
}

impl Network {
    pub fn start() -> Network {
        let ways = Arc::new(Mutex::new(Ways::default()));
        let (namespaces, devices): (Vec<_>, Vec<_>) = (0..DIRECTORS).map(namespace).unzip();
        for (from, device) in devices.iter().enumerate() {
            let device = device.try_clone().expect("dup");
            let doors = devices.iter().map(|to| {
                let (door, packets) = sync_channel(QUEUE);
                let to = to.try_clone().expect("dup");
                thread::spawn(move || deliver(&packets, to));
                door
            });
            let doors: Vec<_> = doors.collect();
            let ways = Arc::clone(&ways);
            thread::spawn(move || carry(from, device, &ways, &doors));
        }
        Network { ways, namespaces }
    }

    /// Changes how packets go from and to a director.
    pub fn change(&self, director: usize, change: impl Fn(&mut Way)) {
        let mut ways = self.ways.lock();
        for other in (0..DIRECTORS).filter(|other| *other != director) {
            change(&mut ways[director][other]);
            change(&mut ways[other][director]);
        }
    }

    /// In one direction between two only.
    pub fn change_one(&self, from: usize, to: usize, change: impl Fn(&mut Way)) {
        change(&mut self.ways.lock()[from][to]);
    }

    /// Takes the cable out of a director, or puts it in again: it is told at once that nobody can be reached.
    pub fn link(&self, director: usize, up: bool) {
        let state = if up { "up" } else { "down" };
        let done = Command::new("nsenter")
            .arg(self.namespace(director))
            .args(["ip", "link", "set", "t0", state])
            .status();
        assert!(done.expect("nsenter of util-linux").success());
    }

    /// For nsenter.
    pub fn namespace(&self, director: usize) -> String {
        let fd = self.namespaces[director].as_raw_fd();
        format!("--net=/proc/{}/fd/{fd}", std::process::id())
    }
}

/// The address of a director.
pub fn address(director: usize) -> String {
    format!("10.77.0.{}", director + 1)
}

/// Makes a namespace with a device, which is ready to be used.
fn namespace(director: usize) -> (File, File) {
    let make = move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace: needs root");
        let device = tun();
        let address = format!("{}/24", address(director));
        for words in [
            vec!["link", "set", "lo", "up"],
            vec!["addr", "add", &address, "dev", "t0"],
            vec!["link", "set", "t0", "up"],
        ] {
            let done = Command::new("ip").args(&words).status();
            assert!(done.expect("ip of iproute2").success(), "ip {words:?}");
        }
        let own = File::open("/proc/thread-self/ns/net").expect("our namespace");
        (own, device)
    };
    // The thread ends, the namespace stays.
    thread::spawn(make).join().expect("a namespace")
}

fn tun() -> File {
    let device = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .expect("/dev/net/tun");
    // SAFETY: zeroes are a valid ifreq, which has numbers and arrays only.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"t0") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_TUN | libc::IFF_NO_PI).expect("flags");
    // SAFETY: the kernel reads and writes one ifreq, which lives on.
    let done = unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    device
}

/// Takes what a director sends, and puts it into the queue of its way.
fn carry(from: usize, mut device: File, ways: &Mutex<Ways>, doors: &[SyncSender<Packet>]) {
    let mut buffer = vec![0; 65536];
    let mut free = [now(); DIRECTORS];
    // Ends with this program.
    loop {
        let Ok(length) = device.read(&mut buffer) else {
            // Without a cable there is nothing to be read.
            thread::sleep(UNPLUGGED);
            continue;
        };
        let bytes = &buffer[..length];
        let Some(to) = destination(bytes).filter(|to| *to != from) else {
            continue;
        };
        let way = ways.lock()[from][to];
        let now = now();
        let taken = match way.rate {
            0 => Duration::ZERO,
            rate => Duration::from_secs_f64(length as f64 / f64::from(rate)),
        };
        let sent = free[to].max(now) + taken;
        if way.is_cut || sent > now + LATEST {
            continue;
        }
        free[to] = sent;
        let packet = Packet {
            due: sent + way.delay,
            bytes: bytes.to_vec(),
        };
        // A full queue loses it.
        let _ = doors[to].try_send(packet);
    }
}

/// Of an IPv4 packet between directors.
fn destination(packet: &[u8]) -> Option<usize> {
    match packet {
        [0x40..=0x4f, ..] => match packet.get(16..20)? {
            [10, 77, 0, last] => usize::from(*last)
                .checked_sub(1)
                .filter(|to| *to < DIRECTORS),
            _ => None,
        },
        _ => None,
    }
}

fn deliver(packets: &Receiver<Packet>, mut device: File) {
    for packet in packets {
        thread::sleep(packet.due.saturating_duration_since(now()));
        // The device may be full, or its director's namespace going down.
        let _ = device.write(&packet.bytes);
    }
}
