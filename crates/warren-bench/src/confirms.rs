//! What one publishing channel still waits for. Confirm numbers count from 1 without gaps, so a message is found by its
//! number alone.

/// The unconfirmed messages of one channel, at most a window of them.
#[derive(Debug)]
pub(crate) struct Confirms {
    /// When the message with number `n` was sent, at `n % len`; [`ANSWERED`] when its answer has come.
    sent_ns: Vec<u64>,
    /// The lowest number that may still wait.
    lowest: u64,
    /// The number of the next message.
    next: u64,
    waiting: u64,
    window: u64,
}

/// Marks a slot whose answer has come. No message is sent at nanosecond 0 of the machine.
const ANSWERED: u64 = 0;

/// Slots for each message of the window. Answers may come out of order: numbers in use can span more than a window.
const SPAN: u64 = 4;

/// An answer that the broker gave to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answered {
    /// The producer's sequence of the message, from 0.
    pub(crate) sequence: u64,
    /// When it was sent.
    pub(crate) sent_ns: u64,
}

impl Confirms {
    /// Nothing sent yet; at most `window` messages wait at once.
    pub(crate) fn new(window: u32) -> Self {
        let window = u64::from(window.max(1));
        let slots = usize::try_from(window * SPAN).unwrap_or(usize::MAX);
        Self { sent_ns: vec![ANSWERED; slots], lowest: 1, next: 1, waiting: 0, window }
    }

    /// Whether another message may be sent.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        self.waiting < self.window && self.next - self.lowest < self.sent_ns.len() as u64
    }

    /// How many messages wait for their answer.
    pub(crate) fn waiting(&self) -> u64 {
        self.waiting
    }

    /// A message goes out.
    #[inline]
    pub(crate) fn on_sent(&mut self, sent_ns: u64) {
        if let Some(slot) = slot(&mut self.sent_ns, self.next) {
            *slot = sent_ns.max(1);
        }
        self.next += 1;
        self.waiting += 1;
    }

    /// `number` was answered, with `multiple` also everything below it. Tells `each` what that answers for the first time.
    /// An answer to a number that was never sent, or was answered before, tells nothing.
    pub(crate) fn on_answer(&mut self, number: u64, multiple: bool, mut each: impl FnMut(Answered)) {
        // Number 0 with `multiple` means everything that waits (0-9-1, basic.ack).
        let highest = if number == 0 && multiple { self.next - 1 } else { number };
        if highest >= self.next || highest < self.lowest {
            return;
        }
        let first = if multiple { self.lowest } else { highest };
        for number in first..=highest {
            if let Some(slot) = slot(&mut self.sent_ns, number)
                && *slot != ANSWERED
            {
                each(Answered { sequence: number - 1, sent_ns: *slot });
                *slot = ANSWERED;
                self.waiting -= 1;
            }
        }
        while self.lowest < self.next
            && slot(&mut self.sent_ns, self.lowest).is_none_or(|slot| *slot == ANSWERED)
        {
            self.lowest += 1;
        }
    }
}

#[inline]
fn slot(slots: &mut [u64], number: u64) -> Option<&mut u64> {
    let length = slots.len() as u64;
    // The remainder is below a length that is a usize.
    slots.get_mut((number % length) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(window: u32, count: u64) -> Confirms {
        let mut confirms = Confirms::new(window);
        (0..count).for_each(|sequence| confirms.on_sent(100 + sequence));
        confirms
    }

    fn answered(confirms: &mut Confirms, number: u64, multiple: bool) -> Vec<u64> {
        let mut found = Vec::new();
        confirms.on_answer(number, multiple, |answer| {
            assert_eq!(answer.sent_ns, 100 + answer.sequence);
            found.push(answer.sequence);
        });
        found
    }

    #[test]
    fn each_message_is_answered_once_in_whatever_order() {
        let mut confirms = sent(10, 6);
        assert_eq!(answered(&mut confirms, 3, false), [2]);
        assert_eq!(answered(&mut confirms, 3, false), [0; 0]);
        assert_eq!(answered(&mut confirms, 4, true), [0, 1, 3]);
        assert_eq!(answered(&mut confirms, 2, true), [0; 0]);
        assert_eq!(answered(&mut confirms, 0, true), [4, 5]);
        assert_eq!(confirms.waiting(), 0);
    }

    #[test]
    fn an_answer_to_what_was_never_sent_is_ignored() {
        let mut confirms = sent(10, 2);
        assert_eq!(answered(&mut confirms, 3, true), [0; 0]);
        assert_eq!(answered(&mut confirms, 0, false), [0; 0]);
        assert_eq!(answered(&mut confirms, u64::MAX, false), [0; 0]);
        assert_eq!(confirms.waiting(), 2);
    }

    #[test]
    fn the_window_bounds_what_waits_and_the_span_what_one_late_answer_holds_up() {
        let mut confirms = sent(2, 2);
        assert!(!confirms.has_room());
        // Message 1 is never answered; everything after it is.
        for number in 2..=8 {
            assert_eq!(answered(&mut confirms, number, false), [number - 1]);
            assert_eq!(confirms.has_room(), number < 8, "after {number}");
            if confirms.has_room() {
                confirms.on_sent(100 + number);
            }
        }
        assert_eq!(answered(&mut confirms, 1, false), [0]);
        assert!(confirms.has_room());
    }
}
