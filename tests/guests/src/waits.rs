//! Ways to wait: the host must end each, whatever it waits for.

use std::{
    io::Read,
    time::{Duration, Instant, SystemTime},
};

/// Longer than anyone waits.
const HOUR: Duration = Duration::from_secs(3600);

/// Waits an hour, or for what does not come, or for a moment in Unix milliseconds.
pub(crate) fn wait(how: &str) {
    match how {
        "short-sleeps" => (0..u64::MAX).for_each(|_| std::thread::sleep(Duration::from_micros(1))),
        "monotonic-clock" => {
            let began = Instant::now();
            while began.elapsed() < HOUR {}
        }
        "wall-clock" => {
            let end = SystemTime::now() + HOUR;
            while SystemTime::now() < end {}
        }
        "random" => loop {
            // Every map asks for its own keys only once; the C library asks for each buffer.
            let mut buffer = [0; 256];
            entropy(&mut buffer);
            std::hint::black_box(buffer);
        },
        "stdin" => {
            let mut byte = [0];
            while std::io::stdin().read(&mut byte).is_ok() {}
        }
        "poll" => {
            let mut stdin = Poll { fd: 0, events: 1, revents: 0 };
            loop {
                poll_one(&mut stdin);
            }
        }
        "yield" => loop {
            std::thread::yield_now();
        },
        _ if let Ok(moment) = how.parse() => {
            let moment = SystemTime::UNIX_EPOCH + Duration::from_millis(moment);
            while SystemTime::now() < moment {}
        }
        _ => std::thread::sleep(HOUR),
    }
}

/// What `poll` of the C library asks about.
#[repr(C)]
struct Poll {
    fd: i32,
    events: i16,
    revents: i16,
}

#[allow(unsafe_code, reason = "the standard library has no way to wait for a descriptor")]
fn poll_one(what: &mut Poll) {
    unsafe extern "C" {
        fn poll(fds: *mut Poll, count: usize, timeout: i32) -> i32;
    }
    // SAFETY: one structure of the C library's shape, alive and ours.
    unsafe { poll(what, 1, 3_600_000) };
}

#[allow(unsafe_code, reason = "the standard library has no way to ask for random bytes")]
fn entropy(buffer: &mut [u8; 256]) {
    unsafe extern "C" {
        fn getentropy(buffer: *mut u8, length: usize) -> i32;
    }
    // SAFETY: 256 bytes of ours, the most that the function takes.
    unsafe { getentropy(buffer.as_mut_ptr(), buffer.len()) };
}
