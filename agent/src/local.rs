//! The local API: a unix socket beside the ledger, owner only, peers checked; whoever connects says in one line of JSON what it asks and gets
//! one JSON object and the end.

use std::{os::unix::fs::PermissionsExt, path::Path, sync::mpsc::SyncSender, time::Duration};

use hufu_trade::{correction::Adjustment, entry::ERASE, money::Money, octets::ContractNo};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::oneshot,
};

use crate::{personal::Operation, writer::Input};

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
    /// The accounts that the platform told.
    Accounts,
    /// Accept the hardware as it is.
    Accept,
    /// Sign with the next key from now on; what became of that, if it was done before.
    Rotate,
    /// Take something off a bill in dispute.
    Correct {
        /// The bill's number.
        bill_no: String,
        /// What is taken off.
        less: Vec<Less>,
        /// Why, for a person.
        why: String,
    },
    /// Write down that personal data is read or written out, before it is.
    Reading {
        /// `read` or `export`.
        act: String,
        /// Of which contracts.
        contracts: Vec<ContractNo>,
        /// Why, for a person.
        why: String,
    },
    /// Erase the personal data of a contract that is over.
    Erase {
        /// The contract.
        contract_no: ContractNo,
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
    fn input(self, operator: String, answer: oneshot::Sender<String>) -> Input {
        match self {
            Question::Status => Input::Status(answer),
            Question::Accounts => Input::Accounts(answer),
            Question::Accept => Input::Accept(answer),
            Question::Rotate => Input::Rotate(answer),
            Question::Reading { act, contracts, why } => {
                Input::Reading { operation: Operation { operator, act, why }, contracts, answer }
            }
            Question::Erase { contract_no, why } => {
                let operation = Operation { operator, act: ERASE.to_owned(), why };
                Input::Erase { operation, contract: contract_no, answer }
            }
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

/// Whether the peer, as the kernel names it, may ask this. The socket's mode lets in nobody but its owner; where a site has
/// opened it wider, others may see how things are and change nothing.
fn may_ask(stream: &UnixStream, question: &Question) -> bool {
    let own = rustix::process::geteuid().as_raw();
    let is_trusted = stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == own);
    is_trusted || matches!(question, Question::Status)
}

/// Who is at the other end of the socket, as the kernel says: a name where this machine has one.
fn operator_of(stream: &UnixStream) -> String {
    let Ok(peer) = stream.peer_cred() else { return "unknown".to_owned() };
    let names = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    name_in(&names, peer.uid()).unwrap_or_else(|| format!("uid {}", peer.uid()))
}

fn name_in(passwd: &str, uid: u32) -> Option<String> {
    let fields = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let named = fields.filter_map(|fields| Some((fields.first()?.to_owned(), fields.get(2)?.parse::<u32>().ok()?)));
    named.filter(|(name, _)| !name.is_empty()).find(|(_, found)| *found == uid).map(|(name, _)| name.to_owned())
}

/// Answers one caller; who is gone or says nothing gets nothing.
async fn answer(stream: &mut UnixStream, writer: &SyncSender<Input>) {
    let mut line = Vec::new();
    if BufReader::new((&mut *stream).take(QUESTION_BYTES_MAX)).read_until(b'\n', &mut line).await.is_err() {
        return;
    }
    let said = match serde_json::from_slice::<Question>(&line) {
        Ok(question) if !may_ask(stream, &question) => {
            let en = "only root and the agent's own user may ask for this; run it with sudo";
            let problem =
                crate::act::problem("permission", None, en, "只有 root 和代理自己的用户可以请求此操作；请用 sudo 执行");
            serde_json::json!({ "error": problem }).to_string()
        }
        Ok(question) => {
            let (sender, receiver) = oneshot::channel();
            if writer.try_send(question.input(operator_of(stream), sender)).is_err() {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_has_the_name_this_machine_gives_him() {
        let passwd = "root:x:0:0:root::/bin/sh\n:x:7:7::/:\nbroken\nzhang:x:1000:1000:::/bin/sh\n";
        assert_eq!(name_in(passwd, 1000).as_deref(), Some("zhang"));
        assert_eq!(name_in(passwd, 0).as_deref(), Some("root"));
        assert_eq!((name_in(passwd, 7), name_in(passwd, 1)), (None, None));
    }
}
