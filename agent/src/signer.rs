//! The node's key: a file's, or one that a signer behind a local socket holds and never shows (docs/signer.md). Here is the
//! asking end: each answer is checked under the certificate's key before anybody sees it. What the node does while nobody
//! signs is `unsigned.rs`; the reference signer is `cmd/signer.rs`.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hufu_gm::{
    Error, Sign,
    sm2::{PublicKey, SecretKey},
};
use rustix::{
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt::socket_peercred},
};
use serde::{Deserialize, Serialize};

use crate::clock;

/// Longest question, bytes.
pub(crate) const QUESTION_BYTES_MAX: usize = 1024;
/// Longest answer, bytes.
const ANSWER_BYTES_MAX: usize = 4096;
/// A signer that is started again is not there for a moment: so often, and with such a pause, it is looked for.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);
/// What is signed to see whether the signer signs. No evidence begins like this.
const PROBE: &[u8] = b"hufu-signer-probe-v1";

/// What a signer is asked: one line of JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Question {
    /// Which key it holds.
    PublicKey {},
    /// A signature.
    Sign {
        /// Under which key: the uncompressed point, hexadecimal.
        public_key: String,
        /// SM3(ZA || M), hexadecimal.
        digest: String,
    },
}

/// What it answers: one line of JSON with one of these.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// The uncompressed point, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) public_key: Option<String>,
    /// DER, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) signature: Option<String>,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

/// Why a signer's answer is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("{}: {why}; start the signer", socket.display())]
    Unreachable { socket: PathBuf, why: std::io::Error },
    #[error("{}: uid {uid} listens there; only root, this process's own user and node.signer_user may", socket.display())]
    Peer { socket: PathBuf, uid: u32 },
    #[error("the signer gave no answer in {0} ms")]
    Late(u128),
    #[error("the signer's answer is none of docs/signer.md")]
    Malformed,
    #[error("the signer refuses: {0}")]
    Refused(String),
    #[error("the signer holds another key than the node's certificate names")]
    OtherKey,
    #[error("the signer's signature does not verify")]
    WrongSignature,
}

/// Until when somebody may talk.
pub(crate) struct Deadline {
    until_ns: u64,
}

impl Deadline {
    pub(crate) fn after(limit: Duration) -> Self {
        let limit_ns = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        Self { until_ns: clock::now().mono_ns.saturating_add(limit_ns) }
    }

    /// One line without its end, of at most `bytes_max` and 511 octets more. The time is for all of it: one octet now and then
    /// does not lengthen it.
    ///
    /// # Errors
    /// Those of the socket; `TimedOut` behind the deadline.
    pub(crate) fn line(&self, stream: &mut UnixStream, bytes_max: usize) -> std::io::Result<Vec<u8>> {
        let (mut said, mut piece) = (Vec::new(), [0; 512]);
        loop {
            let left_ns = self.until_ns.saturating_sub(clock::now().mono_ns);
            if left_ns == 0 {
                return Err(std::io::ErrorKind::TimedOut.into());
            }
            stream.set_read_timeout(Some(Duration::from_nanos(left_ns)))?;
            let count = stream.read(&mut piece)?;
            said.extend_from_slice(piece.get(..count).unwrap_or_default());
            if let Some(end) = said.iter().position(|octet| *octet == b'\n') {
                said.truncate(end);
                return Ok(said);
            }
            if count == 0 || said.len() > bytes_max {
                return Ok(said);
            }
        }
    }
}

/// Where a signer is, and how long it may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) socket: PathBuf,
    /// Whose process may listen there, besides root's and our own user's.
    pub(crate) uid: Option<u32>,
    /// For one answer.
    pub(crate) limit: Duration,
}

impl Address {
    /// Asks one question on a connection of its own.
    fn ask(&self, question: &Question) -> Result<Answer, Fault> {
        let deadline = Deadline::after(self.limit);
        let mut stream = self.connect()?;
        let failed = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => Fault::Late(self.limit.as_millis()),
            _ => Fault::Unreachable { socket: self.socket.clone(), why: error },
        };
        let uid = socket_peercred(&stream).map_err(|e| failed(e.into()))?.uid.as_raw();
        let own = rustix::process::geteuid().as_raw();
        if uid != 0 && uid != own && Some(uid) != self.uid {
            return Err(Fault::Peer { socket: self.socket.clone(), uid });
        }
        let mut line = serde_json::to_vec(question).map_err(|_| Fault::Malformed)?;
        line.push(b'\n');
        stream.set_write_timeout(Some(self.limit)).map_err(failed)?;
        stream.write_all(&line).map_err(failed)?;
        let said = deadline.line(&mut stream, ANSWER_BYTES_MAX).map_err(failed)?;
        let answer: Answer = serde_json::from_slice(&said).map_err(|_| Fault::Malformed)?;
        match answer.error {
            // Somebody else's words: a person reads them, so they are short and of one line.
            Some(why) => Err(Fault::Refused(why.chars().filter(|c| !c.is_control()).take(200).collect())),
            None => Ok(answer),
        }
    }

    /// Connects without waiting: a signer that stands still lets connections pile up, and the kernel would wait for room.
    fn connect(&self) -> Result<UnixStream, Fault> {
        let failed = |errno: Errno| match errno {
            Errno::AGAIN => Fault::Late(0),
            other => Fault::Unreachable { socket: self.socket.clone(), why: other.into() },
        };
        let address = SocketAddrUnix::new(&self.socket).map_err(failed)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(failed)?;
        connect(&socket, &address).map_err(failed)?;
        let stream = UnixStream::from(socket);
        stream.set_nonblocking(false).map_err(|why| Fault::Unreachable { socket: self.socket.clone(), why })?;
        Ok(stream)
    }

    fn public_key(&self) -> Result<PublicKey, Fault> {
        let said = self.ask(&Question::PublicKey {})?.public_key.ok_or(Fault::Malformed)?;
        let point = hex::decode(said).map_err(|_| Fault::Malformed)?;
        PublicKey::from_sec1(&point).map_err(|_| Fault::Malformed)
    }
}

/// A key that somebody else holds. Copies share what is known of it.
#[derive(Clone, Debug)]
pub(crate) struct Far {
    address: Address,
    public: PublicKey,
    /// Why it signs nothing now. Until [`Self::probe`] it is not asked again: each question may cost the whole time limit.
    failed: Arc<Mutex<Option<String>>>,
}

impl Far {
    /// The signer at `address`, whose answers are good only under `public`.
    pub(crate) fn new(address: Address, public: PublicKey) -> Self {
        Self { address, public, failed: Arc::default() }
    }

    /// The signer at `address` with the key that it says it holds: for a request, before there is a certificate.
    ///
    /// # Errors
    /// [`Fault`].
    pub(crate) fn find(address: Address) -> Result<Self, Fault> {
        let public = address.public_key()?;
        Ok(Self::new(address, public))
    }

    fn set_failed(&self, why: Option<String>) {
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    /// Why it signs nothing now, if that is so.
    fn failed(&self) -> Option<String> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it signs; from then on it is asked again.
    ///
    /// # Errors
    /// [`Fault`].
    pub(crate) fn probe(&self) -> Result<(), Fault> {
        self.signature(PROBE)?;
        self.set_failed(None);
        Ok(())
    }

    /// A signature that verifies, or why there is none.
    fn signature(&self, message: &[u8]) -> Result<Vec<u8>, Fault> {
        let (public_key, digest) = (hex::encode(self.public.to_sec1()), hex::encode(self.public.digest(message)));
        let question = Question::Sign { public_key, digest };
        let mut tries = 1;
        let answer = loop {
            match self.address.ask(&question) {
                Err(Fault::Unreachable { .. }) if tries < TRIES => tries += 1,
                answer => break answer?,
            }
            std::thread::sleep(PAUSE);
        };
        let signature = answer.signature.and_then(|text| hex::decode(text).ok()).ok_or(Fault::Malformed)?;
        if self.public.verify(message, &signature).is_valid() {
            return Ok(signature);
        }
        // For the person who must find out what is wrong.
        match self.address.public_key() {
            Ok(held) if held != self.public => Err(Fault::OtherKey),
            _ => Err(Fault::WrongSignature),
        }
    }
}

/// Who signs for the node.
#[derive(Clone, Debug)]
pub(crate) enum NodeKey {
    /// This process.
    File(SecretKey),
    /// A signer.
    Far(Far),
}

impl NodeKey {
    /// The public half.
    pub(crate) fn public_key(&self) -> PublicKey {
        match self {
            Self::File(key) => key.public_key(),
            Self::Far(far) => far.public.clone(),
        }
    }

    /// Why nothing can be signed now, if that is so; a key file's key always signs.
    pub(crate) fn away(&self) -> Option<String> {
        match self {
            Self::File(_) => None,
            Self::Far(far) => far.failed(),
        }
    }
}

impl Sign for NodeKey {
    fn public_key(&self) -> PublicKey {
        NodeKey::public_key(self)
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let far = match self {
            Self::File(key) => return key.sign(message),
            Self::Far(far) => far,
        };
        if let Some(why) = far.failed() {
            return Err(Error::NoSignature(why));
        }
        match far.signature(message) {
            Ok(signature) => {
                // A slow signer is progress all the same: many signatures in a row must not look like none.
                sd_notify::notify(&[sd_notify::NotifyState::Watchdog]).ok();
                Ok(signature)
            }
            Err(fault) => {
                let why = fault.to_string();
                tracing::warn!(why, "no signature");
                far.set_failed(Some(why.clone()));
                Err(Error::NoSignature(why))
            }
        }
    }
}
