//! Messages by content id with the answer given, both directions: up (the node asked) and down (the platform asked).

use sqlx::AnyConnection;

use crate::error::Error;

/// A message as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredMessage {
    /// SM3 of the body.
    pub(crate) content: Vec<u8>,
    /// The answer, if there is one: an envelope for up, the JSON of an `Answer` for down.
    pub(crate) answer: Option<Vec<u8>>,
    /// The answer stands for good.
    pub(crate) is_final: bool,
}

/// Which message: node, interface, id.
pub(crate) type Key<'a> = (&'a str, &'a str, &'a str);

/// The message of an id.
pub(crate) async fn find(db: &mut AnyConnection, key: Key<'_>) -> Result<Option<StoredMessage>, Error> {
    let select = "SELECT content, answer, final FROM messages WHERE pool = $1 AND iface = $2 AND id = $3";
    let row: Option<(Vec<u8>, Option<Vec<u8>>, i64)> =
        sqlx::query_as(select).bind(key.0).bind(key.1).bind(key.2).fetch_optional(db).await?;
    Ok(row.map(|(content, answer, is_final)| StoredMessage { content, answer, is_final: is_final == 1 }))
}

/// Keeps a message with its answer so far; a later answer replaces one that was not final.
pub(crate) async fn put(
    db: &mut AnyConnection,
    key: Key<'_>,
    bytes: &[u8],
    message: &StoredMessage,
    now_ns: i64,
) -> Result<(), Error> {
    let upsert = "INSERT INTO messages (pool, iface, id, content, bytes, answer, final, at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        ON CONFLICT (pool, iface, id) DO UPDATE SET answer = excluded.answer, final = excluded.final, at = excluded.at
        WHERE messages.final = 0";
    sqlx::query(upsert)
        .bind(key.0)
        .bind(key.1)
        .bind(key.2)
        .bind(&message.content)
        .bind(bytes)
        .bind(message.answer.as_ref())
        .bind(i64::from(message.is_final))
        .bind(now_ns)
        .execute(db)
        .await?;
    Ok(())
}

/// Gives a message its answer; false when nobody asked this, or it has a final one.
pub(crate) async fn answer(db: &mut AnyConnection, key: Key<'_>, answer: &[u8], is_final: bool) -> Result<bool, Error> {
    let update = "UPDATE messages SET answer = $4, final = $5
        WHERE pool = $1 AND iface = $2 AND id = $3 AND final = 0";
    let done = sqlx::query(update)
        .bind(key.0)
        .bind(key.1)
        .bind(key.2)
        .bind(answer)
        .bind(i64::from(is_final))
        .execute(db)
        .await?;
    Ok(done.rows_affected() == 1)
}
