//! The outbox: a cursor over each log that moves only on the platform's signed receipt. There is no second queue; what must
//! arrive is an entry. One message a log is in flight at a time, sent again with a growing pause until a receipt answers.
//! A message grows only while receipts come: over a line that breaks, or through a broker that keeps what such a line cannot
//! carry, a large one would never arrive and would hold up all that follow it. Where a receipt comes and nothing was taken, the line is
//! sound: then as much goes as a message holds, for what is lacking may stand in the blocks behind.

use hufu_trade::if2::MESSAGE_BYTES_MAX;

/// Pause before the first repetition, ns; doubles to [`PAUSE_MAX_NS`].
const PAUSE_NS: u64 = 2_000_000_000;
/// Longest pause, ns.
const PAUSE_MAX_NS: u64 = 60_000_000_000;
/// Questions that nothing hangs on wait so long on a new link, ns: what must arrive goes first over a line that soon breaks.
pub(crate) const LINK_NS: u64 = 3_000_000_000;
/// Octets of blocks in the first message on a link and in every repetition; a receipt doubles them, up to what a message holds.
const ROOM_MIN: usize = 4096;

/// The cursor of one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// Blocks the platform holds, by its receipt; `None` until it was asked on this link.
    acked: Option<u64>,
    /// When to send again, CLOCK_MONOTONIC ns, while a message is in flight.
    again_ns: Option<u64>,
    pause_ns: u64,
    /// Octets of blocks that the next message may take.
    room: usize,
    /// A receipt came for what is in flight, and did not move.
    heard: bool,
}

impl Default for Cursor {
    fn default() -> Self {
        Self { acked: None, again_ns: None, pause_ns: 0, room: ROOM_MIN, heard: false }
    }
}

/// What the cursor wants sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// Nothing.
    Nothing,
    /// An empty message: it asks for the receipt.
    Receipt,
    /// Blocks from this height, at least one and otherwise no more than so many octets.
    From(u64, usize),
}

impl Cursor {
    /// A new link: what was in flight may be lost, and the platform may hold less than it did.
    pub(crate) fn relinked(&mut self) {
        *self = Self::default();
    }

    /// The platform's receipt says it holds `size` blocks.
    pub(crate) fn receipt(&mut self, size: u64) {
        let moved = self.acked.is_none_or(|acked| size > acked);
        if moved {
            if self.acked.is_some() && self.pause_ns == PAUSE_NS {
                self.room = (self.room * 2).min(MESSAGE_BYTES_MAX);
            }
            (self.again_ns, self.pause_ns) = (None, 0);
        }
        self.heard = !moved;
        self.acked = Some(size);
    }

    /// What to send at `mono_ns`, given that blocks below `obligation` must arrive; the caller sends it at once.
    pub(crate) fn want(&mut self, mono_ns: u64, obligation: u64) -> Want {
        if self.acked.is_some_and(|acked| acked >= obligation) || self.again_ns.is_some_and(|again| mono_ns < again) {
            return Want::Nothing;
        }
        match self.again_ns {
            Some(_) => self.room = if self.heard { MESSAGE_BYTES_MAX } else { ROOM_MIN },
            // To whom this log is new the certificates that its first blocks need stand behind them.
            None if self.acked == Some(0) => self.room = MESSAGE_BYTES_MAX,
            None => {}
        }
        self.heard = false;
        self.pause_ns = (self.pause_ns * 2).clamp(PAUSE_NS, PAUSE_MAX_NS);
        self.again_ns = Some(mono_ns.saturating_add(self.pause_ns));
        self.acked.map_or(Want::Receipt, |acked| Want::From(acked, self.room))
    }

    /// When it wants to be asked again, if nothing arrives.
    pub(crate) fn due_ns(&self) -> Option<u64> {
        self.again_ns
    }

    /// Blocks the platform holds, if known.
    pub(crate) fn acked(&self) -> Option<u64> {
        self.acked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_repeated_until_its_receipt_moves_the_cursor() {
        let mut cursor = Cursor::default();
        assert_eq!(cursor.want(0, 3), Want::Receipt);
        assert_eq!(cursor.want(1, 3), Want::Nothing);
        cursor.receipt(1);
        assert_eq!(cursor.want(2, 3), Want::From(1, ROOM_MIN));
        cursor.receipt(1);
        assert_eq!(cursor.want(3, 3), Want::Nothing, "a receipt that does not move waits for the pause");
        assert_eq!(
            cursor.want(2 + PAUSE_NS, 3),
            Want::From(1, MESSAGE_BYTES_MAX),
            "all that fits, since the line is sound"
        );
        assert_eq!(cursor.want(2 + 3 * PAUSE_NS, 3), Want::From(1, ROOM_MIN), "little, since nothing was heard");
        cursor.receipt(3);
        assert_eq!(cursor.want(u64::MAX, 3), Want::Nothing);
        cursor.relinked();
        assert_eq!(cursor.want(0, 3), Want::Receipt);
    }
    #[test]
    fn messages_grow_with_receipts_up_to_what_one_holds() {
        let mut cursor = Cursor::default();
        let mut rooms = Vec::new();
        cursor.want(0, 100);
        for size in 1..9 {
            cursor.receipt(size);
            let Want::From(_, room) = cursor.want(1, 100) else { panic!("there is more to send") };
            rooms.push(room / 1024);
        }
        assert_eq!(rooms, [4, 8, 16, 32, 64, 64, 64, 64]);
        cursor.relinked();
        cursor.want(2, 100);
        cursor.receipt(9);
        assert_eq!(cursor.want(3, 100), Want::From(9, ROOM_MIN), "a new link begins small");
        let mut fresh = Cursor::default();
        fresh.want(0, 100);
        fresh.receipt(0);
        assert_eq!(
            fresh.want(1, 100),
            Want::From(0, MESSAGE_BYTES_MAX),
            "a log that is new there begins with all that fits"
        );
        assert_eq!(fresh.want(1 + PAUSE_NS, 100), Want::From(0, ROOM_MIN));
    }
}
