//! The local API: a unix socket beside the ledger, owner only; whoever connects says in one line of JSON what it asks and gets
//! one JSON object and the end.

use std::{os::unix::fs::PermissionsExt, path::Path, sync::mpsc::SyncSender, time::Duration};

use hufu_trade::{correction::Adjustment, money::Money};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::oneshot,
};

use crate::writer::Input;

/// Longest question, bytes.
const QUESTION_BYTES_MAX: u64 = 64 * 1024;
/// Longest wait for a question, and for the writer: it may be syncing a disk.
const WAIT: Duration = Duration::from_secs(10);

/// What may be asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Question {
    /// How things are.
    Status,
    /// Take something off a bill in dispute.
    Correct {
        /// The bill's number.
        bill_no: String,
        /// What is taken off.
        less: Vec<Less>,
        /// Why, for a person.
        why: String,
    },
}

/// What is taken off one line of a bill.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Less {
    /// Resource name; empty for the bill as a whole.
    pub(crate) resource: String,
    /// How much, above zero.
    pub(crate) amount: Money,
}

/// A correction as the site orders it.
#[derive(Debug)]
pub(crate) struct Correct {
    pub(crate) bill_no: String,
    pub(crate) adjustments: Vec<Adjustment>,
}

impl Question {
    fn input(self, answer: oneshot::Sender<String>) -> Input {
        match self {
            Question::Status => Input::Status(answer),
            Question::Correct { bill_no, less, why } => {
                let adjustment = |less: Less| Adjustment {
                    resource: less.resource,
                    why: why.clone(),
                    // No amount of an adjustment is i128::MIN: it is parsed from 18 digits.
                    amount: Money(less.amount.0.saturating_neg()),
                };
                let adjustments = less.into_iter().map(adjustment).collect();
                Input::Correct { order: Correct { bill_no, adjustments }, answer }
            }
        }
    }
}

/// Binds the socket; a stale one of a dead agent is replaced (the ledger's lock says that no other agent lives).
///
/// # Errors
/// Those of the operating system.
pub(crate) fn bind(path: &Path) -> std::io::Result<std::os::unix::net::UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Answers until the writer is gone; one caller at a time, each for a limited time.
pub(crate) async fn serve(listener: UnixListener, writer: SyncSender<Input>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::time::timeout(WAIT, answer(&mut stream, &writer)).await.ok();
    }
}

/// Answers one caller; who is gone or says nothing gets nothing.
async fn answer(stream: &mut UnixStream, writer: &SyncSender<Input>) {
    let mut line = Vec::new();
    if BufReader::new((&mut *stream).take(QUESTION_BYTES_MAX)).read_until(b'\n', &mut line).await.is_err() {
        return;
    }
    let said = match serde_json::from_slice::<Question>(&line) {
        Ok(question) => {
            let (sender, receiver) = oneshot::channel();
            if writer.try_send(question.input(sender)).is_err() {
                return;
            }
            let Ok(said) = receiver.await else { return };
            said
        }
        Err(error) => {
            let problem = crate::act::malformed(error);
            serde_json::json!({ "error": problem }).to_string()
        }
    };
    stream.write_all(said.as_bytes()).await.ok();
    stream.shutdown().await.ok();
}
