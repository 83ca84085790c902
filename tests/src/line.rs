//! A line between the programs and the real broker that can be made slow, made to break in the middle of messages, or made to
//! swallow what it is given. It forwards bytes and knows nothing of what they mean.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

/// Between two looks at what the line shall do.
const TICK: Duration = Duration::from_millis(20);

#[derive(Debug, Default)]
struct Faults {
    /// Bytes a second in each direction; 0: as fast as it goes.
    bytes_per_s: AtomicU64,
    /// Each connection breaks after up to so many bytes; 0: none does.
    breaks_within: AtomicU64,
    /// New connections carry nothing for so long, ms.
    waits_ms: AtomicU64,
    /// Nothing goes through, and nobody is told.
    swallows: AtomicBool,
    /// Connections that broke so far.
    broken: AtomicU64,
    ended: AtomicBool,
}

/// A listening end; what connects to it talks to the broker.
#[derive(Debug)]
pub struct Line {
    port: u16,
    faults: Arc<Faults>,
}

impl Line {
    /// A sound line to a port of this host.
    pub fn to(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let own = listener.local_addr().expect("a bound address").port();
        listener.set_nonblocking(true).expect("a listener that can be ended");
        let faults = Arc::new(Faults::default());
        let shared = Arc::clone(&faults);
        thread::spawn(move || accept(&listener, port, &shared));
        Self { port: own, faults }
    }

    /// `HOST:PORT` of this end.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The port of this end.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// So many bytes a second in each direction from now on; 0: no limit.
    pub fn slow(&self, bytes_per_s: u64) {
        self.faults.bytes_per_s.store(bytes_per_s, Relaxed);
    }

    /// New connections break after at most so many bytes in one direction, in the middle of whatever that is; 0: they hold.
    pub fn breaks_within(&self, bytes: u64) {
        self.faults.breaks_within.store(bytes, Relaxed);
    }

    /// New connections carry nothing for so long, as to a broker that takes its time.
    pub fn waits(&self, time: Duration) {
        self.faults.waits_ms.store(u64::try_from(time.as_millis()).expect("a short time"), Relaxed);
    }

    /// Takes bytes and delivers nothing while it is on. What it took meanwhile is delivered afterwards, as TCP would.
    pub fn swallow(&self, on: bool) {
        self.faults.swallows.store(on, Relaxed);
    }

    /// How many connections broke.
    pub fn broken(&self) -> u64 {
        self.faults.broken.load(Relaxed)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.faults.ended.store(true, Relaxed);
    }
}

fn accept(listener: &TcpListener, port: u16, faults: &Arc<Faults>) {
    // A fixed sequence: which byte a connection breaks at is the same in every run.
    let mut dice = 0x2545_f491_u64;
    while !faults.ended.load(Relaxed) {
        let Ok((near, _)) = listener.accept() else {
            thread::sleep(TICK);
            continue;
        };
        // A broker that is away: the caller sees its connection end.
        let Ok(far) = TcpStream::connect(("127.0.0.1", port)) else { continue };
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let budget = match faults.breaks_within.load(Relaxed) {
            0 => u64::MAX,
            within => (dice >> 33) % within + 1,
        };
        for (from, to) in [(&near, &far), (&far, &near)] {
            let (from, to) = (from.try_clone().expect("a handle"), to.try_clone().expect("a handle"));
            let faults = Arc::clone(faults);
            let wait = Duration::from_millis(faults.waits_ms.load(Relaxed));
            thread::spawn(move || {
                thread::sleep(wait);
                pump(from, to, budget, &faults);
            });
        }
    }
}

/// Carries bytes one way until an end closes, the budget is used up or the line is dropped; both ways end together.
fn pump(mut from: TcpStream, mut to: TcpStream, mut budget: u64, faults: &Faults) {
    from.set_nonblocking(false).expect("a blocking stream");
    from.set_read_timeout(Some(TICK)).expect("a time limit");
    let mut chunk = [0; 512];
    while !faults.ended.load(Relaxed) {
        if faults.swallows.load(Relaxed) {
            thread::sleep(TICK);
            continue;
        }
        let read = match from.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
            Err(_) => break,
        };
        let passes = usize::try_from(budget).map_or(read, |budget| budget.min(read));
        if to.write_all(chunk.get(..passes).unwrap_or_default()).is_err() {
            break;
        }
        budget -= passes as u64;
        if budget == 0 {
            faults.broken.fetch_add(1, Relaxed);
            break;
        }
        if let Some(pause_us) = (read as u64 * 1_000_000).checked_div(faults.bytes_per_s.load(Relaxed)) {
            thread::sleep(Duration::from_micros(pause_us));
        }
    }
    for stream in [&from, &to] {
        stream.shutdown(Shutdown::Both).ok();
    }
}
