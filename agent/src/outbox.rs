//! The outbox: a cursor over each log that moves only on the platform's signed receipt. There is no second queue; what must
//! arrive is an entry. A few messages a log are in flight at a time, each answered by a receipt; where none comes all are taken for
//! lost and sent again from the last receipt on, with a growing pause.
//! Messages grow, and more of them fly, only while receipts come: over a line that breaks, or through a broker that keeps what such a
//! line cannot carry, a large one would never arrive and would hold up all that follow it. Where a receipt comes and nothing was taken,
//! the line is sound: then as much goes as a message holds, for what is lacking may stand in the blocks behind.

use std::ops::Range;

use hufu_ledger::{Error, Log};
use hufu_trade::if2::{Blocks, Interface, MESSAGE_BYTES_MAX, Topic};

use crate::{
    node::Effect,
    writer::{Writer, WriterError},
};

/// Pause before the first repetition, ns; doubles to [`PAUSE_MAX_NS`].
const PAUSE_NS: u64 = 2_000_000_000;
/// Longest pause, ns.
const PAUSE_MAX_NS: u64 = 60_000_000_000;
/// Questions that nothing hangs on wait so long on a new link, ns: what must arrive goes first over a line that soon breaks.
pub(crate) const LINK_NS: u64 = 3_000_000_000;
/// Octets of blocks in the first message on a link and in every repetition; a receipt quadruples them, up to what a message holds.
const ROOM_MIN: usize = 4096;

/// Most messages in flight, and most octets of blocks in them: while the far end judges some it has others to go on with, and 256 KiB a
/// log are all that a slow broker makes a node hold. Where bills rest on usage and usage on bills, messages are many and small.
const FLIGHT_MAX: usize = 16;
const FLIGHT_OCTETS_MAX: usize = 4 * MESSAGE_BYTES_MAX;

/// The cursor of one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// Blocks the platform holds, by its receipt; `None` until it was asked on this link.
    acked: Option<u64>,
    /// Blocks below this were sent and are not taken for lost; never below `acked`.
    sent: u64,
    /// Messages in flight.
    flying: Flying,
    /// How many may be.
    flight: usize,
    /// When what flies is taken for lost, CLOCK_MONOTONIC ns.
    again_ns: Option<u64>,
    pause_ns: u64,
    /// Octets of blocks that the next message may take.
    room: usize,
    /// A receipt came for what is in flight, and did not move.
    heard: bool,
}

impl Default for Cursor {
    fn default() -> Self {
        let (acked, sent, again_ns, pause_ns) = (None, 0, None, 0);
        Self { acked, sent, flying: Flying::default(), flight: 1, again_ns, pause_ns, room: ROOM_MIN, heard: false }
    }
}

/// Octets of blocks in each message that flies, the oldest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Flying {
    octets: [usize; FLIGHT_MAX],
    count: usize,
}

impl Flying {
    /// One more, of which no octets are known yet.
    fn begin(&mut self) {
        self.count = (self.count + 1).min(FLIGHT_MAX);
        self.load(0);
    }

    /// What the newest carries.
    fn load(&mut self, octets: usize) {
        if let Some(newest) = self.count.checked_sub(1).and_then(|at| self.octets.get_mut(at)) {
            *newest = octets;
        }
    }

    /// The oldest has its answer.
    fn end(&mut self) {
        self.octets.rotate_left(1);
        self.count = self.count.saturating_sub(1);
    }

    /// Whether one with `room` may join those that fly.
    fn takes(&self, room: usize) -> bool {
        let octets: usize = self.octets.iter().take(self.count).sum();
        self.count == 0 || octets + room <= FLIGHT_OCTETS_MAX
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

    /// The platform's receipt says at `mono_ns` that it holds `size` blocks. Whether the log is stuck: the line is sound, and what was sent
    /// again was not taken either. A receipt that does not move may as well answer a message that the broker kept twice.
    pub(crate) fn receipt(&mut self, mono_ns: u64, size: u64) -> bool {
        let moved = self.acked.is_none_or(|acked| size > acked);
        self.heard = !moved && self.flying.count > 0;
        if moved {
            if self.acked.is_some() && self.pause_ns == PAUSE_NS {
                self.room = (self.room * 4).min(MESSAGE_BYTES_MAX);
                self.flight = (self.flight + 1).min(FLIGHT_MAX);
            }
            if self.acked.is_none() || size >= self.sent {
                self.flying = Flying::default();
            } else {
                self.flying.end();
            }
            if self.flying.count == 0 {
                // Of the last message it may have taken the first blocks only.
                self.sent = size;
            }
            (self.again_ns, self.pause_ns) = (None, 0);
            if self.flying.count > 0 {
                self.arm(mono_ns);
            }
        }
        self.acked = Some(size);
        self.heard && self.pause_ns > PAUSE_NS
    }

    fn arm(&mut self, mono_ns: u64) {
        self.pause_ns = (self.pause_ns * 2).clamp(PAUSE_NS, PAUSE_MAX_NS);
        self.again_ns = Some(mono_ns.saturating_add(self.pause_ns));
    }

    /// What to send at `mono_ns`, given that blocks below `obligation` must arrive; the caller sends it at once, and says with
    /// [`Cursor::sent_below`] how far that went.
    pub(crate) fn want(&mut self, mono_ns: u64, obligation: u64) -> Want {
        let is_late = self.again_ns.is_some_and(|again| mono_ns >= again);
        let Some(acked) = self.acked else {
            if self.again_ns.is_some() && !is_late {
                return Want::Nothing;
            }
            self.arm(mono_ns);
            return Want::Receipt;
        };
        if acked >= obligation {
            return Want::Nothing;
        }
        if is_late {
            (self.sent, self.flying, self.flight) = (acked, Flying::default(), 1);
            self.room = if self.heard { MESSAGE_BYTES_MAX } else { ROOM_MIN };
        }
        if self.sent >= obligation || self.flying.count >= self.flight || !self.flying.takes(self.room) {
            return Want::Nothing;
        }
        if acked == 0 && self.again_ns.is_none() {
            // To whom this log is new the certificates that its first blocks need stand behind them.
            self.room = MESSAGE_BYTES_MAX;
        }
        if is_late || self.again_ns.is_none() {
            self.arm(mono_ns);
        }
        self.heard = false;
        self.flying.begin();
        Want::From(self.sent, self.room)
    }

    /// Blocks below `height` were sent, the last of them in a message of so many octets.
    pub(crate) fn sent_below(&mut self, height: u64, octets: usize) {
        self.sent = self.sent.max(height);
        self.flying.load(octets);
    }

    /// Blocks that the platform holds once what flies has arrived, if known: messages of a node arrive in their order.
    pub(crate) fn sent(&self) -> Option<u64> {
        self.acked.map(|_| self.sent)
    }

    /// The platform says that it is there: what it did not answer while it was away need not wait for the pause.
    pub(crate) fn platform_is_back(&mut self) {
        if self.pause_ns > PAUSE_NS {
            self.relinked();
        }
    }

    /// Whether all that was sent has its receipt.
    pub(crate) fn is_answered(&self) -> bool {
        self.acked.is_some() && self.flying.count == 0
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

impl Writer {
    /// Sends what [`Cursor::want`] asked for.
    ///
    /// # Errors
    /// [`WriterError`].
    pub(crate) fn send_blocks(&mut self, log: Log, heights: Range<u64>, room: usize) -> Result<(), WriterError> {
        let (mut blocks, mut bytes, from) = (Vec::new(), 0, heights.start);
        for height in heights {
            let block = match self.ledger.block(log, height) {
                // Only what the platform has acknowledged is erased: it has lost what it signed for.
                Err(error @ Error::Erased { .. }) => {
                    let detail = error.to_string();
                    self.execute(Effect::Alarm { what: "the platform asks for a block that was erased", detail })?;
                    if blocks.is_empty() {
                        return Ok(());
                    }
                    break;
                }
                read => read?,
            };
            bytes += block.len();
            if !blocks.is_empty() && bytes > room {
                break;
            }
            blocks.push(block);
        }
        let unsent = |error: hufu_trade::Error| WriterError::Entry(error.to_string());
        let message = Blocks::pack(log.number(), from, blocks).map_err(unsent)?;
        let payload = hufu_trade::encode(&message, "Blocks").map_err(unsent)?;
        // The message may hold fewer than fit into its room.
        self.core.sent_below(log, (from..).nth(message.blocks.len()).unwrap_or(from), payload.len());
        let topic = Topic::Call { pool: self.core.identity.pool.clone(), interface: Interface::Blocks, answer: false };
        self.publish(topic, payload, false);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cursor that was told that the platform holds `size` blocks.
    fn asked(size: u64) -> Cursor {
        let mut cursor = Cursor::default();
        assert_eq!(cursor.want(0, size + 1), Want::Receipt);
        cursor.receipt(0, size);
        cursor
    }

    #[test]
    fn a_message_is_repeated_until_its_receipt_moves_the_cursor() {
        let mut cursor = Cursor::default();
        assert_eq!(cursor.want(0, 3), Want::Receipt);
        assert_eq!(cursor.want(1, 3), Want::Nothing);
        cursor.receipt(1, 1);
        assert_eq!(cursor.want(2, 3), Want::From(1, ROOM_MIN));
        cursor.sent_below(3, 700);
        assert!(!cursor.receipt(3, 1), "it may be the receipt of a message that came twice");
        assert_eq!(cursor.want(3, 3), Want::Nothing, "a receipt that does not move waits for the pause");
        assert_eq!(
            cursor.want(2 + PAUSE_NS, 3),
            Want::From(1, MESSAGE_BYTES_MAX),
            "all that fits, since the line is sound"
        );
        cursor.sent_below(3, 700);
        assert!(cursor.receipt(3 + PAUSE_NS, 1), "again it was not taken");
        assert_eq!(
            cursor.want(2 + 3 * PAUSE_NS, 3),
            Want::From(1, MESSAGE_BYTES_MAX),
            "all that fits, since the line is sound"
        );
        assert_eq!(cursor.want(2 + 7 * PAUSE_NS, 3), Want::From(1, ROOM_MIN), "little, since nothing was heard");
        cursor.receipt(2 + 7 * PAUSE_NS, 3);
        assert_eq!(cursor.want(u64::MAX, 3), Want::Nothing);
        assert_eq!(cursor.due_ns(), None);
        cursor.relinked();
        assert_eq!(cursor.want(0, 3), Want::Receipt);
    }

    #[test]
    fn messages_grow_with_receipts_up_to_what_one_holds() {
        let mut cursor = asked(1);
        let mut rooms = Vec::new();
        for size in 2..10 {
            let Want::From(_, room) = cursor.want(1, 100) else { panic!("there is more to send") };
            rooms.push(room / 1024);
            cursor.sent_below(size, 700);
            cursor.receipt(1, size);
        }
        assert_eq!(rooms, [4, 16, 64, 64, 64, 64, 64, 64]);
        cursor.relinked();
        cursor.want(2, 100);
        cursor.receipt(2, 9);
        assert_eq!(cursor.want(3, 100), Want::From(9, ROOM_MIN), "a new link begins small");
        let mut fresh = asked(0);
        assert_eq!(
            fresh.want(1, 100),
            Want::From(0, MESSAGE_BYTES_MAX),
            "a log that is new there begins with all that fits"
        );
        assert_eq!(fresh.want(1 + PAUSE_NS, 100), Want::From(0, ROOM_MIN));
    }

    #[test]
    fn more_messages_fly_with_receipts_and_one_after_a_loss() {
        let mut cursor = asked(1);
        let mut flown = Vec::new();
        for round in 0..6_u64 {
            let mut heights = Vec::new();
            while let Want::From(from, _) = cursor.want(round, 1000) {
                heights.push(from);
                cursor.sent_below(from + 1, 700);
            }
            flown.push(heights.len());
            let acked = cursor.acked().unwrap();
            cursor.receipt(round, acked + 1);
        }
        assert_eq!(flown, [1, 2, 2, 2, 2, 2], "each receipt lets one go, and one more");
        assert_eq!((cursor.acked(), cursor.sent()), (Some(7), Some(12)));
        assert_eq!(cursor.due_ns(), Some(5 + PAUSE_NS), "counted from the last receipt");
        assert_eq!(cursor.want(5 + PAUSE_NS, 1000), Want::From(7, ROOM_MIN), "all that flew is taken for lost");
        assert_eq!(cursor.want(5 + PAUSE_NS, 1000), Want::Nothing);
        cursor.sent_below(8, 700);
        cursor.receipt(6 + PAUSE_NS, 12);
        assert_eq!(cursor.want(6 + PAUSE_NS, 1000), Want::From(12, ROOM_MIN), "it had arrived after all");
        assert_eq!(cursor.want(6 + PAUSE_NS, 1000), Want::Nothing);
    }

    #[test]
    fn what_flies_is_bounded_in_messages_and_in_octets() {
        let most = |octets: usize| {
            let (mut cursor, mut most) = (asked(1), 0);
            for size in 2..50 {
                while let Want::From(from, _) = cursor.want(1, 1000) {
                    cursor.sent_below(from + 1, octets);
                }
                most = most.max(cursor.flying.count);
                cursor.receipt(1, size);
            }
            most
        };
        assert_eq!([700, 60_000].map(most), [FLIGHT_MAX, 4]);
    }

    #[test]
    fn of_a_message_that_was_taken_in_part_the_rest_is_sent_again() {
        let mut cursor = asked(1);
        assert_eq!(cursor.want(1, 9), Want::From(1, ROOM_MIN));
        cursor.sent_below(9, 700);
        assert!(!cursor.receipt(2, 5));
        assert_eq!(cursor.want(2, 9), Want::From(5, 4 * ROOM_MIN));
        cursor.sent_below(7, 700);
        assert_eq!(cursor.want(2, 9), Want::From(7, 4 * ROOM_MIN));
        cursor.sent_below(9, 700);
        assert!(!cursor.receipt(3, 6), "and nothing of the one that follows it");
        assert!(!cursor.receipt(3, 6));
        assert_eq!(cursor.want(3, 9), Want::Nothing);
        assert_eq!(cursor.want(3 + PAUSE_NS, 9), Want::From(6, MESSAGE_BYTES_MAX));
    }

    #[test]
    fn a_platform_that_comes_back_is_asked_at_once() {
        let mut cursor = asked(1);
        assert_eq!(cursor.want(1, 9), Want::From(1, ROOM_MIN));
        cursor.platform_is_back();
        assert_eq!(cursor.want(2, 9), Want::Nothing, "it may not have been away");
        for seconds in [2, 6, 14, 30_u64] {
            assert_eq!(cursor.want(1 + seconds * 1_000_000_000, 9), Want::From(1, ROOM_MIN));
        }
        cursor.platform_is_back();
        assert_eq!(cursor.want(31_000_000_000, 9), Want::Receipt);
    }

    #[test]
    fn a_sender_that_cannot_send_is_not_asked_for_ever() {
        let mut cursor = asked(1);
        assert_eq!(cursor.want(1, 3), Want::From(1, ROOM_MIN));
        assert_eq!(cursor.want(1, 3), Want::Nothing, "it said of nothing that it was sent");
        assert_eq!(cursor.want(1 + PAUSE_NS, 3), Want::From(1, ROOM_MIN));
    }
}
