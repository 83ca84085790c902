//! Ledger blocks of a node: each is judged, stored, and acknowledged by the platform's receipt. What is wrong with entries
//! stands in the receipt; what is wrong with blocks is answered as a problem, before the receipt of what is held.

use hufu_gm::Hash;
use hufu_ledger::{Block, Log, merkle};
use hufu_trade::{
    entry::EntryKind,
    if2::{Answer, Blocks, Interface},
};
use sqlx::AnyConnection;

use crate::{
    desk::Desks,
    envelope::seal,
    error::Error,
    fork,
    identity::Identity,
    inbox::{Outgoing, answer_topic, trust},
    judge::{
        Code, Facts, Refusal,
        block::{self, NextBlock, Opened, Outcome},
        facts::node_certificates,
    },
    limit::Limit,
    receipt::receipt,
    store::{alarm, block as stored, contract, lost, node},
};

/// Largest message taken, bytes: a block that alone is larger than a message is still one block.
const BYTES_MAX: usize = 128 * 1024;
/// Most blocks in one message.
const COUNT_MAX: usize = 512;

/// What became of one block.
enum Step {
    /// It is there now.
    Stored,
    /// A gap, or it waits for the other log: the receipt says how far the log is.
    Stop,
    /// Not stored.
    Wrong(Refusal),
}

/// Takes blocks in and gives the answers to publish.
///
/// # Errors
/// [`Error`] from the database; inside, the [`Refusal`] of the message as a whole.
pub(crate) async fn take(
    db: &mut AnyConnection,
    identity: &Identity,
    (now_ns, alarms, desks): (i64, &mut Limit, &mut Desks),
    pool: &str,
    received: &[u8],
) -> Result<Result<Vec<Outgoing>, Refusal>, Error> {
    let (message, log) = match read(received) {
        Ok(read) => read,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let opened: Vec<Result<Opened, Refusal>> =
        message.blocks.iter().map(|block| Opened::from_bytes(block.as_bytes())).collect();
    introduce(&mut *db, identity, (now_ns, &mut *alarms, &mut *desks), pool, (log, &opened)).await?;
    if !desks.has(pool) && !node::certificates(&mut *db, pool).await?.iter().any(|(is_leaf, _)| *is_leaf) {
        return Ok(Err(Refusal::new(Code::Certificate, format!("no trusted certificate of {pool} is known"))));
    }
    let mut answers = Vec::new();
    let topic = answer_topic(pool, Interface::Blocks);
    if message.blocks.is_empty() {
        desks.put_away(&mut *db, pool).await?;
        // Every second message of a node asks for no more than the receipt: it has just linked, or is stuck. What waited for the
        // other log waits anew, for the node may have been away and will send it now.
        stored::wait_anew(&mut *db, (pool, message.log)).await?;
        let payload = receipt(&mut *db, identity, (pool, message.log), message.first, now_ns).await?;
        return Ok(Ok(vec![Outgoing { topic, payload }]));
    }
    // Loaded for what is not the ordinary course, and kept while that goes on.
    let mut facts = None;
    // The range has an end: whoever names the greatest height of all must not count beyond it.
    let blocks = message.blocks.iter().map(|block| block.as_bytes()).zip(&opened);
    for (height, (bytes, opened)) in (message.first..=u64::MAX).zip(blocks) {
        if facts.is_none()
            && let Ok(opened) = opened
            && desks.take(&mut *db, identity, now_ns, (pool, log, height), (bytes, opened)).await?
        {
            continue;
        }
        let known = match &mut facts {
            Some(known) => known,
            none => {
                desks.put_away(&mut *db, pool).await?;
                none.insert(node::facts(&mut *db, pool, identity, now_ns).await?)
            }
        };
        match store_one(&mut *db, known, (log, height), (bytes, opened.as_ref()), &mut *alarms).await? {
            Step::Stored => {}
            Step::Stop => break,
            Step::Wrong(refusal) => {
                let answer = Answer::<()>::Error(refusal.problem());
                let payload = seal(identity, now_ns, (pool, Interface::Blocks), None, &answer)?;
                answers.push(Outgoing { topic: topic.clone(), payload });
                break;
            }
        }
    }
    let payload = match desks.receipt(identity, (pool, message.log), message.first, now_ns)? {
        Some(payload) => payload,
        None => {
            desks.write(&mut *db, pool).await?;
            let payload = receipt(&mut *db, identity, (pool, message.log), message.first, now_ns).await?;
            desks.receipted(pool, log);
            payload
        }
    };
    answers.push(Outgoing { topic, payload });
    Ok(Ok(answers))
}

fn read(received: &[u8]) -> Result<(Blocks, Log), Refusal> {
    let wrong = |why: String| Err(Refusal::new(Code::Malformed, why));
    if received.len() > BYTES_MAX {
        return wrong(format!("{} bytes, at most {BYTES_MAX}", received.len()));
    }
    let message: Blocks =
        hufu_trade::decode(received, "Blocks").map_err(|error| Refusal::new(Code::Malformed, error))?;
    let Some(log) = Log::from_number(message.log).filter(|_| message.version == 1) else {
        return wrong("unknown version or log".to_owned());
    };
    if message.blocks.len() > COUNT_MAX {
        return wrong(format!("more than {COUNT_MAX} blocks"));
    }
    Ok((message, log))
}

async fn store_one(
    db: &mut AnyConnection,
    facts: &mut Facts,
    (log, height): (Log, u64),
    (bytes, opened): (&[u8], Result<&Opened, &Refusal>),
    alarms: &mut Limit,
) -> Result<Step, Error> {
    let (place, pool, now_ns) = ((log.number(), height), facts.pool.clone(), facts.now_ns);
    let (size, receipted) =
        facts.logs.get(usize::from(log.number())).map_or((0, 0), |held| (held.size, held.receipted));
    // A receipt was given over this height.
    let is_acknowledged = receipted > height;
    if height > size {
        return Ok(Step::Stop);
    }
    if height < size {
        let held = stored::bytes(&mut *db, &pool, place).await?;
        return match block::again(facts, log, height, &held, bytes) {
            None => Ok(Step::Stored),
            Some(outcome) => settle(db, facts, (log, height), (bytes, outcome), alarms).await,
        };
    }
    let opened = match opened {
        Ok(opened) => opened,
        Err(refusal) => {
            let outcome = Outcome::Refused(refusal.clone());
            return settle(db, facts, (log, height), (bytes, outcome), alarms).await;
        }
    };
    let leaf = if is_acknowledged { lost::leaf(&mut *db, (&pool, log.number()), height).await? } else { None };
    let opens = block::opens_epoch(facts, log, opened.block());
    match leaf.filter(|_| !opens) {
        // The block is lost here, what followed from it is not: it is only to be held again.
        Some(leaf) => {
            return held_again(&mut *db, facts, (log, height), (bytes, opened.block(), &leaf), alarms).await;
        }
        None if is_acknowledged || opens => {
            // What followed from blocks that are gone would stand in the way of those that come.
            let sizes = [0, 1].map(|log: usize| facts.logs.get(log).map_or(0, |held| held.size));
            lost::set_aside(&mut *db, &pool, sizes, now_ns).await?;
        }
        None => {}
    }
    load(&mut *db, facts, opened).await?;
    facts.waited = stored::waited(&mut *db, &pool, place, now_ns).await?;
    let outcome = match block::judge(facts, log, opened) {
        Outcome::Next(next)
            if next.opens.is_none()
                && is_acknowledged
                && lost::contradicts(&mut *db, (&pool, log.number()), height, &next.hash).await? =>
        {
            let why = format!("the receipt over {} blocks has another root", height.saturating_add(1));
            Outcome::Fork(Refusal::new(Code::Duplicate, why))
        }
        outcome => outcome,
    };
    settle(&mut *db, facts, (log, height), (bytes, outcome), alarms).await
}

/// A block that was acknowledged and whose bytes are lost: the same again is stored, and nothing else.
async fn held_again(
    db: &mut AnyConnection,
    facts: &mut Facts,
    (log, height): (Log, u64),
    (bytes, block, leaf): (&[u8], &Block, &Hash),
    alarms: &mut Limit,
) -> Result<Step, Error> {
    let refused = match block::verify(facts, log, block) {
        Ok(()) if merkle::leaf(&block.hash()) == *leaf => {
            stored::put(&mut *db, facts, (log.number(), height), bytes, block).await?;
            facts.go_on(block);
            return Ok(Step::Stored);
        }
        Ok(()) => {
            Outcome::Fork(Refusal::new(Code::Duplicate, format!("{log} height {height} was acknowledged otherwise")))
        }
        Err(outcome) => outcome,
    };
    settle(db, facts, (log, height), (bytes, refused), alarms).await
}

/// Stores what a judgement gave.
async fn settle(
    db: &mut AnyConnection,
    facts: &mut Facts,
    (log, height): (Log, u64),
    (bytes, outcome): (&[u8], Outcome),
    alarms: &mut Limit,
) -> Result<Step, Error> {
    let (place, pool, now_ns) = ((log.number(), height), facts.pool.clone(), facts.now_ns);
    match outcome {
        Outcome::Next(next) => {
            if let Some((epoch, receipted)) = &next.opens {
                lost::open_epoch(&mut *db, (&pool, log.number()), (height, *receipted), epoch, now_ns).await?;
                if let Some(held) = facts.logs.get_mut(usize::from(log.number())) {
                    held.receipted = held.receipted.min(height);
                }
            }
            stored::append(&mut *db, facts, place, bytes, &next).await?;
            alarm_of_refusals(&mut *db, facts, &next).await?;
            Ok(Step::Stored)
        }
        Outcome::Waits => {
            stored::wait(&mut *db, &pool, place, now_ns).await?;
            Ok(Step::Stop)
        }
        Outcome::Fork(refusal) => {
            // Sent again it is the same evidence, and no new alarm; where both headers hold the alarm is the proof's.
            let is_proven = match Block::from_bytes(bytes) {
                Ok(block) => fork::of_block(&mut *db, (&pool, log.number()), (height, block.signed()), now_ns).await?,
                Err(_) => false,
            };
            if stored::add_fork(&mut *db, &pool, place, bytes, now_ns).await? && !is_proven {
                tracing::warn!(pool, %log, height, why = %refusal.why, "fork");
                alarm::raise(&mut *db, &pool, "fork", &format!("{log} height {height}: {}", refusal.why), now_ns)
                    .await?;
            }
            Ok(Step::Wrong(refusal))
        }
        Outcome::Refused(refusal) => {
            // Anybody whom the broker lets publish can send such a block, as often as he likes.
            if alarms.allow(now_ns) {
                let (code, detail) = (refusal.code.name(), format!("{log} height {height}: {}", refusal.why));
                tracing::warn!(pool, %log, height, code, why = %refusal.why, "block refused");
                alarm::raise(&mut *db, &pool, code, &detail, now_ns).await?;
            }
            Ok(Step::Wrong(refusal))
        }
    }
}

/// Raises what was refused of a block.
pub(crate) async fn alarm_of_refusals(db: &mut AnyConnection, facts: &Facts, block: &NextBlock) -> Result<(), Error> {
    let pool = facts.pool.as_str();
    for entry in &block.entries {
        let Some(refusal) = &entry.refused else { continue };
        let (code, hash) = (refusal.code.name(), entry.name.hash);
        tracing::warn!(pool, entry = %hash, code, why = %refusal.why, "entry refused");
        alarm::raise(&mut *db, pool, code, &format!("entry {hash}: {}", refusal.why), facts.now_ns).await?;
    }
    Ok(())
}

/// Loads what judging the block asks for, fresh from the database.
async fn load(db: &mut AnyConnection, facts: &mut Facts, opened: &Opened) -> Result<(), Error> {
    facts.contracts.clear();
    facts.named.clear();
    let needs = block::needs(opened);
    for (no, with_records) in &needs.contracts {
        if let Some(contract) = contract::load(&mut *db, &facts.pool, *no, *with_records).await? {
            facts.contracts.insert(*no, contract);
        }
    }
    node::named(&mut *db, facts, &needs.named).await
}

/// A node may introduce itself, and a new certificate of its own, in its log: the entry is the certificate's first use.
async fn introduce(
    db: &mut AnyConnection,
    identity: &Identity,
    (now_ns, alarms, desks): (i64, &mut Limit, &mut Desks),
    pool: &str,
    (log, blocks): (Log, &[Result<Opened, Refusal>]),
) -> Result<(), Error> {
    for opened in blocks.iter().flatten().filter(|_| log == Log::Trade) {
        for body in opened.bodies(EntryKind::Certificates) {
            // What is known of the node changes.
            desks.put_away(&mut *db, pool).await?;
            if let Some(ders) = node_certificates(body)
                && let Err(refusal) = trust(&mut *db, identity, now_ns, pool, &ders).await?
                && alarms.allow(now_ns)
            {
                tracing::warn!(pool, why = %refusal.why, "certificates in the log not trusted");
            }
        }
    }
    Ok(())
}
