//! The thread that hears when the last process of an order's cgroup has ended, and has the sampling thread read the order at once:
//! what an engine removes by itself is then read before. Listening is `metering/src/ends.rs`.

use std::sync::{Arc, mpsc::SyncSender};

use hufu_metering::ends::Ends;

use crate::sampler::Command;

/// Starts it. It ends with the process, which it keeps from nothing: it holds no state.
///
/// # Errors
/// What the system says where there is nothing to listen by, or no thread to give; then orders are read at each sample alone.
pub(crate) fn start(sampler: SyncSender<Command>) -> std::io::Result<Arc<Ends>> {
    let ends = Arc::new(Ends::new()?);
    let heard = Arc::clone(&ends);
    let listen = move || {
        let mut is_over = false;
        while !is_over {
            let waited = heard.wait(|number| is_over |= sampler.send(Command::Emptied { number }).is_err());
            if let Err(error) = waited {
                tracing::warn!(%error, "ends of cgroups are not heard any more; orders are read at each sample alone");
                return;
            }
        }
    };
    std::thread::Builder::new().name("ends".to_owned()).stack_size(256 * 1024).spawn(listen)?;
    Ok(ends)
}
