//! Many signatures checked at once, on several processors: what an auditor of a whole ledger has to do. Each verdict is that of
//! [`PublicKey::verify`]; nothing here decides what a wrong one means.

use std::{
    num::NonZeroUsize,
    sync::atomic::{AtomicUsize, Ordering},
};

use crate::{
    known::KnownKeys,
    sm2::{PublicKey, Verdict},
};

/// That a key signed a message.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// Whose signature it is said to be.
    pub key: &'a PublicKey,
    /// What is said to be signed.
    pub message: &'a [u8],
    /// The DER `SM2Signature`.
    pub signature: &'a [u8],
}

/// Claims that a thread takes at a time: enough to make taking them cheap, few enough that no thread waits long for the last.
const TAKEN_AT_A_TIME: usize = 16;

/// Checks every claim, with at most `threads` threads, and gives the verdicts in the order of the claims. Keys that come often get
/// a table in `known`.
pub fn verify_many(claims: &[Claim<'_>], threads: NonZeroUsize, known: &KnownKeys) -> Vec<Verdict> {
    let pieces: Vec<&[Claim<'_>]> = claims.chunks(TAKEN_AT_A_TIME).collect();
    let judge = |piece: &[Claim<'_>]| -> Vec<Verdict> {
        piece.iter().map(|claim| known.verify(claim.key, claim.message, claim.signature)).collect()
    };
    let threads = threads.get().min(pieces.len());
    if threads <= 1 {
        return pieces.into_iter().flat_map(judge).collect();
    }
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(piece) = pieces.get(place) else { return done };
            done.push((place, judge(piece)));
        }
    };
    let mut found: Vec<_> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut found = work();
        for other in others {
            match other.join() {
                Ok(done) => found.extend(done),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        found
    });
    found.sort_by_key(|(place, _)| *place);
    found.into_iter().flat_map(|(_, verdicts)| verdicts).collect()
}
