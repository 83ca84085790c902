//! `hufu signer`: the reference signer. It holds a key file in a process, and best under a user, of its own, and signs digests
//! for whoever may ask; the daemon that talks to the network then never has the key. The protocol is docs/signer.md; the
//! asking end is `crate::signer`.

use std::{
    io::Write,
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use hufu_audit::{Exit, Failure};
use hufu_gm::sm2::SecretKey;
use rustix::net::sockopt::socket_peercred;
use serde_json::json;

use crate::{
    cmd::{Context, Outcome, bug, file, password::PasswordArgs},
    key_place,
    signer::{Answer, Deadline, QUESTION_BYTES_MAX, Question},
    text::Text,
};

/// How long a question may take to come, and an answer to be taken.
const WAIT: Duration = Duration::from_secs(2);
/// The same for somebody who may not ask at all: he holds nobody up.
const WAIT_STRANGER: Duration = Duration::from_millis(100);
/// After a failed accept: the process is out of files, or the machine of memory.
const PAUSE: Duration = Duration::from_millis(200);

#[derive(clap::Args)]
pub(super) struct Args {
    /// Secret key file
    #[arg(long, value_name = "F")]
    key: PathBuf,
    /// The socket to listen at
    #[arg(long, value_name = "S")]
    socket: PathBuf,
    /// Whose processes may ask besides root's and your own, by name or number; may be given several times
    #[arg(long, value_name = "USER")]
    uid: Vec<String>,
    #[command(flatten)]
    password: PasswordArgs,
}

/// Signs until it is killed: it has nothing to lose.
pub(super) fn run(args: &Args, context: &Context) -> Outcome {
    super::keep_memory_private();
    let mut askers = vec![0, rustix::process::geteuid().as_raw()];
    for user in &args.uid {
        askers.push(file::user(user, "--uid")?);
    }
    let password = args.password.read()?;
    let key = file::read_key_with(&key_place::secret(&args.key, Path::new("")), password.as_ref())?;
    let public_key = hex::encode(key.public_key().to_sec1());
    let listener = bind(&args.socket)?;
    let socket = args.socket.display().to_string();
    sd_notify::notify(&[sd_notify::NotifyState::Ready]).ok();
    context.show(&json!({ "socket": socket, "public_key": public_key }), || {
        Text::SignerReady { socket: socket.clone(), public_key: public_key.clone() }.render(context.lang)
    })?;
    loop {
        match listener.accept() {
            Ok((mut stream, _)) => serve(&mut stream, &key, &askers),
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

/// Listens at `path`; a socket of a signer that is gone is replaced, anything else is not.
fn bind(path: &Path) -> Result<UnixListener, Failure<Text>> {
    let failed = |error: std::io::Error| file::unwritable(path, &error);
    if let Ok(found) = std::fs::symlink_metadata(path) {
        let socket = path.display().to_string();
        if !found.file_type().is_socket() || UnixStream::connect(path).is_ok() {
            return Err(Failure::new(Exit::Io, Text::SocketInUse { socket }));
        }
        std::fs::remove_file(path).map_err(failed)?;
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    // Who may connect is the directory's and the group's matter; who may ask is checked for each connection.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(failed)?;
    Ok(listener)
}

/// One question, one answer. What goes wrong with one caller is no other's trouble.
fn serve(stream: &mut UnixStream, key: &SecretKey, askers: &[u32]) {
    let answer = match socket_peercred(&*stream) {
        Ok(peer) if askers.contains(&peer.uid.as_raw()) => {
            let Ok(line) = Deadline::after(WAIT).line(stream, QUESTION_BYTES_MAX) else { return };
            answer(&line, key)
        }
        Ok(peer) => {
            // A connection that is closed with something unread is reset, and the reason lost with it.
            Deadline::after(WAIT_STRANGER).line(stream, QUESTION_BYTES_MAX).ok();
            Err(format!("uid {} may not ask; name it with --uid", peer.uid.as_raw()))
        }
        Err(_) => return,
    };
    let answer = answer.unwrap_or_else(|why| Answer { error: Some(why), ..Answer::default() });
    let Ok(mut line) = serde_json::to_vec(&answer) else { return };
    line.push(b'\n');
    stream.set_write_timeout(Some(WAIT)).ok();
    stream.write_all(&line).ok();
}

fn answer(line: &[u8], key: &SecretKey) -> Result<Answer, String> {
    if line.len() > QUESTION_BYTES_MAX {
        return Err(format!("a question has at most {QUESTION_BYTES_MAX} octets"));
    }
    let own = hex::encode(key.public_key().to_sec1());
    // The reader's error would show what was sent; whoever sent it knows.
    match serde_json::from_slice::<Question>(line).map_err(|_| "no question of docs/signer.md".to_owned())? {
        Question::PublicKey {} => Ok(Answer { public_key: Some(own), ..Answer::default() }),
        Question::Sign { public_key, digest } => {
            if public_key != own {
                return Err("another key is held here".to_owned());
            }
            let digest = hex::decode(digest).ok().and_then(|octets| octets.try_into().ok());
            let digest = digest.ok_or("the digest is not 32 octets in hexadecimal")?;
            let signature = key.sign_digest(&digest).map_err(|e| bug(&e).text.render(hufu_audit::Lang::En))?;
            Ok(Answer { signature: Some(hex::encode(signature)), ..Answer::default() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_signs_digests_under_its_own_key_and_nothing_else() {
        let key = SecretKey::from_scalar(&[7; 32]).unwrap();
        let own = hex::encode(key.public_key().to_sec1());
        let other = hex::encode(SecretKey::from_scalar(&[8; 32]).unwrap().public_key().to_sec1());
        let digest = key.public_key().digest(b"m");
        let ask = |text: String| answer(text.as_bytes(), &key);
        let sign = |key: &str, digest: &str| {
            ask(format!("{{\"ask\":\"sign\",\"public_key\":\"{key}\",\"digest\":\"{digest}\"}}"))
        };
        assert_eq!(ask("{\"ask\":\"public_key\"}".to_owned()).unwrap().public_key, Some(own.clone()));
        let signature = hex::decode(sign(&own, &hex::encode(digest)).unwrap().signature.unwrap()).unwrap();
        assert!(key.public_key().verify(b"m", &signature).is_valid());
        for (name, said, part) in [
            ("another key", sign(&other, &hex::encode(digest)), "another key"),
            ("a short digest", sign(&own, "00"), "32 octets"),
            ("no hexadecimal", sign(&own, &"zz".repeat(32)), "32 octets"),
            ("nonsense", ask("nonsense".to_owned()), "signer.md"),
            ("another verb", ask("{\"ask\":\"decrypt\"}".to_owned()), "signer.md"),
            ("a member more", ask("{\"ask\":\"public_key\",\"key\":1}".to_owned()), "signer.md"),
            ("too long", ask(" ".repeat(QUESTION_BYTES_MAX + 1)), "at most"),
        ] {
            let why = said.unwrap_err();
            assert!(why.contains(part), "{name}: {why}");
        }
    }
}
