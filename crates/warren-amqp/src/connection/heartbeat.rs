//! Heartbeats (0-9-1 §4.2.7), as RabbitMQ does them. Knows no clock: the shell ticks every half interval and says
//! whether bytes moved.

/// What a tick asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// Nothing.
    Nothing,
    /// A heartbeat is to be written.
    Send,
    /// Nothing was read for two whole intervals: drop the socket, tell the client nothing.
    Dead,
}

/// Both directions of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    interval_s: u16,
    started: bool,
    /// The next tick ends a whole interval.
    half: bool,
    read_in_interval: bool,
    silent_intervals: u8,
    paused: bool,
}

impl Heartbeat {
    /// With the negotiated interval in seconds; 0 turns heartbeats off.
    #[must_use]
    pub fn new(interval_s: u16) -> Self {
        Self {
            interval_s,
            started: false,
            half: false,
            read_in_interval: false,
            silent_intervals: 0,
            paused: false,
        }
    }

    /// Milliseconds between ticks: half the interval; `None` when there are no heartbeats.
    #[must_use]
    pub fn tick_ms(&self) -> Option<u64> {
        (self.interval_s != 0).then(|| u64::from(self.interval_s) * 500)
    }

    /// Stops or resumes watching what is read: a blocked connection is not read from, so its silence says nothing.
    pub fn pause_reading(&mut self, paused: bool) {
        self.paused = paused;
        self.silent_intervals = 0;
        self.read_in_interval = false;
    }

    /// Half an interval has passed. `read_any` and `wrote_any`: since the tick before.
    pub fn tick(&mut self, read_any: bool, wrote_any: bool) -> Beat {
        if self.interval_s == 0 {
            return Beat::Nothing;
        }
        self.read_in_interval |= read_any;
        self.half = !self.half;
        if !self.half && !self.paused {
            self.silent_intervals = if self.read_in_interval { 0 } else { self.silent_intervals + 1 };
            self.read_in_interval = false;
            if self.silent_intervals >= 2 {
                self.silent_intervals = 2;
                return Beat::Dead;
            }
        }
        // The first is sent whatever was written.
        if std::mem::replace(&mut self.started, true) && wrote_any { Beat::Nothing } else { Beat::Send }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_peer_is_dead_after_two_whole_intervals() {
        let mut heartbeat = Heartbeat::new(10);
        let beats: Vec<Beat> = (0..4).map(|_| heartbeat.tick(false, false)).collect();
        assert_eq!(beats, [Beat::Send, Beat::Send, Beat::Send, Beat::Dead]);
    }

    #[test]
    fn any_byte_in_an_interval_keeps_the_peer_alive() {
        let mut heartbeat = Heartbeat::new(10);
        for tick in 0..100 {
            assert_ne!(heartbeat.tick(tick % 4 == 0, true), Beat::Dead, "tick {tick}");
        }
        let rest: Vec<Beat> = (0..4).map(|_| heartbeat.tick(false, true)).collect();
        assert_eq!(rest.last(), Some(&Beat::Dead));
    }

    #[test]
    fn the_first_heartbeat_is_sent_even_though_something_was_written() {
        let mut heartbeat = Heartbeat::new(10);
        assert_eq!(heartbeat.tick(true, true), Beat::Send);
        assert_eq!(heartbeat.tick(true, true), Beat::Nothing);
        assert_eq!(heartbeat.tick(true, false), Beat::Send);
    }

    #[test]
    fn a_paused_connection_is_never_dead() {
        let mut heartbeat = Heartbeat::new(10);
        heartbeat.pause_reading(true);
        assert!((0..50).all(|_| heartbeat.tick(false, true) != Beat::Dead));
        heartbeat.pause_reading(false);
        assert!((0..4).any(|_| heartbeat.tick(false, true) == Beat::Dead));
    }

    #[test]
    fn an_interval_of_zero_turns_heartbeats_off() {
        let mut heartbeat = Heartbeat::new(0);
        assert_eq!(heartbeat.tick_ms(), None);
        assert!((0..10).all(|_| heartbeat.tick(false, false) == Beat::Nothing));
    }
}
