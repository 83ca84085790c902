//! The local API: a unix socket beside the ledger, owner only; whoever connects gets one JSON status and the end.

use std::{os::unix::fs::PermissionsExt, path::Path, sync::mpsc::SyncSender, time::Duration};

use tokio::{io::AsyncWriteExt, net::UnixListener};

use crate::writer::Input;

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

/// Answers until the writer is gone; one caller at a time, each at most a second.
pub(crate) async fn serve(listener: UnixListener, writer: SyncSender<Input>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        if writer.try_send(Input::Status(sender)).is_err() {
            continue;
        }
        let answer = async {
            if let Ok(text) = receiver.await {
                stream.write_all(text.as_bytes()).await.ok();
                stream.shutdown().await.ok();
            }
        };
        tokio::time::timeout(Duration::from_secs(1), answer).await.ok();
    }
}
