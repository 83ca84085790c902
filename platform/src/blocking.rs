//! What blocks, beside a runtime of one thread: the client of HTTP. It has a thread as long as it works, which nobody waits for when the
//! platform ends.

use tokio::sync::oneshot;

/// What `work` gives, done in a thread of this name.
///
/// # Errors
/// Those of `work`; that the thread could not be made, or ended without an answer.
pub(crate) async fn blocking<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let (answer, answered) = oneshot::channel();
    let begun = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        // Nobody hears it any more where the platform ends.
        answer.send(work()).ok();
    });
    match begun {
        Ok(_) => answered.await.unwrap_or_else(|error| Err(error.to_string())),
        Err(error) => Err(error.to_string()),
    }
}
