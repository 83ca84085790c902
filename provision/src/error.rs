//! Why nobody made, suspended or removed a place.

use std::path::PathBuf;

/// What went wrong with a request.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request names something outside what may be asked for, or an answer something outside what is believed.
    #[error("{field}: {why}")]
    Request {
        /// Member of the request.
        field: &'static str,
        /// What is expected there.
        why: String,
    },
    /// The command cannot be started.
    #[error("cannot run {program}: {source}")]
    Spawn {
        /// The program.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// The command was killed after its time.
    #[error("{program} did not end within {limit_s} s")]
    Late {
        /// The program.
        program: String,
        /// Its time limit, seconds.
        limit_s: u64,
    },
    /// The command wrote more than an answer may be.
    #[error("{program} wrote more than {bytes_max} bytes; its messages belong on standard error")]
    Long {
        /// The program.
        program: String,
        /// Longest answer, bytes.
        bytes_max: u64,
    },
    /// The command ended with another status than 0.
    #[error("{program} ended with {status}")]
    Ended {
        /// The program.
        program: String,
        /// How it ended.
        status: std::process::ExitStatus,
    },
    /// A workload that the command started keeps the command's standard output open.
    #[error("{program} ended but something it started holds its stdout open")]
    HoldsStdout {
        /// The program.
        program: String,
    },
    /// The answer is not the JSON expected.
    #[error("the answer is not the JSON expected: {0}")]
    Answer(#[from] serde_json::Error),
    /// The helper behind the socket cannot be asked.
    #[error("{path}: {source}")]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The helper says no.
    #[error("refused: {0}")]
    Refused(String),
}
