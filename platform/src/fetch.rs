//! Giving a node back what it has lost: how far its log is held here, and blocks of it. The node judges them by its own signature,
//! its own chain and the root in the signed answer; nothing here changes what is held.

use hufu_trade::{
    encode,
    if2::{Answer, Blocks, Fetch, Held, Interface, MESSAGE_BYTES_MAX, Sealed},
    octets::Octets,
};
use sqlx::AnyConnection;

use crate::{
    envelope::seal,
    error::{Error, count, sql},
    identity::Identity,
    inbox::{Outgoing, answer_topic, trust},
    judge::{Code, Refusal},
    quick::introduced,
    store::{alarm, fork, lost, node, tree},
};

/// Most blocks of one answer; fewer where one message does not hold them.
const BLOCKS_MAX: usize = 512;
/// Blocks read from the database at once.
const ROWS: i64 = 32;

/// Takes a question and gives the answers to publish: the signed one, and behind it the blocks that it announces.
///
/// # Errors
/// [`Error`] from the database; inside, the [`Refusal`].
pub(crate) async fn take(
    db: &mut AnyConnection,
    identity: &Identity,
    now_ns: i64,
    pool: &str,
    received: &[u8],
) -> Result<Result<Vec<Outgoing>, Refusal>, Error> {
    let listed = |asked: &Fetch| asked.certificates.iter().map(|der| der.0.clone()).collect();
    let (opened, ders) = match introduced::<Fetch>((pool, Interface::Fetch), received, listed) {
        Ok(found) => found,
        Err(refusal) => return Ok(Err(refusal)),
    };
    if let Err(refusal) = trust(&mut *db, identity, now_ns, pool, &ders).await? {
        return Ok(Err(refusal));
    }
    let (log, from) = (opened.payload.body.log, opened.payload.body.from);
    if log > 1 {
        return Ok(Err(Refusal::new(Code::Malformed, format!("log {log}: 0 or 1 is expected"))));
    }
    let size = node::log(&mut *db, pool, log).await?.size;
    let receipt = lost::receipted(&mut *db, (pool, log)).await?;
    let receipted = receipt.map_or(0, |(size, _)| size);
    if receipted > size {
        let detail = format!("log {log}: receipts were given over {receipted} blocks, {size} are held");
        alarm::raise_once(&mut *db, pool, lost::LOST, &detail, now_ns).await?;
    }
    let blocks = consecutive(&mut *db, (pool, log), from).await?;
    if from < size && blocks.is_empty() {
        let why = format!("log {log} height {from} is missing here, and later ones are not");
        return Ok(Err(Refusal::new(Code::Unknown, why)));
    }
    let message = Blocks::pack(log, from, blocks)?;
    let taken = u64::try_from(message.blocks.len()).unwrap_or(u64::MAX);
    let next = (taken > 0).then(|| from.saturating_add(taken));
    let next_root = match next {
        Some(next) => Some(Octets(tree::root(&mut *db, pool, log, next).await?)),
        None => None,
    };
    let held = Held {
        log,
        from,
        size,
        root: Octets(tree::root(&mut *db, pool, log, size).await?),
        receipted,
        receipted_root: receipt.map(|(_, root)| Octets(root)),
        seen: fork::highest(&mut *db, (pool, log), size).await?.map(Sealed),
        next,
        next_root,
    };
    let topic = answer_topic(pool, Interface::Fetch);
    let id = Some(opened.payload.id.as_str());
    let payload = seal(identity, now_ns, (pool, Interface::Fetch), id, &Answer::Ok(held))?;
    let mut answers = vec![Outgoing { topic: topic.clone(), payload }];
    if next.is_some() {
        answers.push(Outgoing { topic, payload: encode(&message, "Blocks")? });
    }
    Ok(Ok(answers))
}

/// The blocks from a height on, up to the first that is not here; one message of them, and a little more.
async fn consecutive(db: &mut AnyConnection, (pool, log): (&str, u8), from: u64) -> Result<Vec<Vec<u8>>, Error> {
    let select = "SELECT height, bytes FROM blocks WHERE pool = $1 AND log = $2 AND height >= $3
        ORDER BY height LIMIT $4";
    let (mut blocks, mut room, mut wanted) = (Vec::new(), MESSAGE_BYTES_MAX, from);
    while blocks.len() < BLOCKS_MAX {
        let query = sqlx::query_as(select).bind(pool).bind(i64::from(log)).bind(sql(wanted)).bind(ROWS);
        let rows: Vec<(i64, Vec<u8>)> = query.fetch_all(&mut *db).await?;
        if rows.is_empty() {
            break;
        }
        for (height, bytes) in rows {
            if count(height)? != wanted || room == 0 {
                return Ok(blocks);
            }
            room = room.saturating_sub(bytes.len());
            wanted = wanted.saturating_add(1);
            blocks.push(bytes);
        }
    }
    Ok(blocks)
}
