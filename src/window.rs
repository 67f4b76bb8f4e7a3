//! `READ_WINDOW`: how many bytes of entries may be on their way between the stream and the task files. The reader takes,
//! the applier gives back; everything between them is bounded by this.

use std::{
    sync::{Condvar, Mutex, PoisonError},
    time::Duration,
};

/// Bytes in flight and their limit.
#[derive(Debug)]
pub struct Window {
    limit: usize,
    flight: Mutex<Flight>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct Flight {
    used: usize,
    /// The part of it that plugins hold: it waits for later entries.
    held: usize,
}

impl Window {
    /// A window of `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, flight: Mutex::default(), freed: Condvar::new() }
    }

    /// Takes bytes. May overdraw: an entry is only known when it is read, and one larger than the window must pass too.
    pub fn take(&self, bytes: usize) {
        self.lock().used += bytes;
    }

    /// Gives bytes back.
    pub fn give(&self, bytes: usize) {
        let mut flight = self.lock();
        flight.used = flight.used.saturating_sub(bytes);
        self.freed.notify_all();
    }

    /// Counts bytes in flight as held.
    pub fn hold(&self, bytes: usize) {
        self.lock().held += bytes;
        self.freed.notify_all();
    }

    /// Counts held bytes as on their way again. To be called before they can be given back.
    pub fn release(&self, bytes: usize) {
        let mut flight = self.lock();
        flight.held = flight.held.saturating_sub(bytes);
    }

    /// Bytes that are free, after waiting at most `timeout` for some; 0 when there are still none.
    pub fn free(&self, timeout: Duration) -> usize {
        let waited = self.freed.wait_timeout_while(self.lock(), timeout, |flight| flight.used >= self.limit);
        let (flight, _) = waited.unwrap_or_else(PoisonError::into_inner);
        self.limit.saturating_sub(flight.used)
    }

    /// Waits at most `timeout` until nothing is in flight but what is held; whether that is so.
    pub fn wait_settled(&self, timeout: Duration) -> bool {
        let waited = self.freed.wait_timeout_while(self.lock(), timeout, |flight| flight.used > flight.held);
        let (flight, _) = waited.unwrap_or_else(PoisonError::into_inner);
        flight.used <= flight.held
    }

    /// Bytes in flight.
    pub fn used(&self) -> usize {
        self.lock().used
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Flight> {
        // Numbers cannot be left half changed.
        self.flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread};

    use super::*;

    #[test]
    fn bounded_everything_a_full_window_lets_nothing_more_in() {
        let window = Arc::new(Window::new(100));
        assert_eq!(window.free(Duration::ZERO), 100);
        window.take(60);
        assert_eq!(window.free(Duration::ZERO), 40);
        // One that is larger than what is free passes, and closes the window.
        window.take(1000);
        assert_eq!((window.free(Duration::from_millis(1)), window.used()), (0, 1060));
        let waiting = Arc::clone(&window);
        let reader = thread::spawn(move || waiting.free(Duration::from_secs(60)));
        window.give(1000);
        assert!(reader.join().unwrap() > 0);
        window.give(60);
        assert_eq!(window.free(Duration::ZERO), 100);
    }

    #[test]
    fn what_is_held_is_not_waited_for_and_still_counts() {
        let window = Window::new(100);
        window.take(30);
        assert!(!window.wait_settled(Duration::from_millis(1)));
        window.hold(30);
        assert_eq!((window.wait_settled(Duration::ZERO), window.free(Duration::ZERO)), (true, 70));
        window.take(10);
        assert!(!window.wait_settled(Duration::from_millis(1)));
        window.release(30);
        window.give(40);
        assert_eq!((window.wait_settled(Duration::ZERO), window.used()), (true, 0));
    }
}
