//! `hufu key rotate`: the operator's side of changing the node's key. One command, run again until it is done: it makes the next
//! key and a request, puts the certificate for it in, has the running agent change keys, and clears the old key away once the
//! platform's receipt covers the change. Every step is durable before the next one begins, and each file that it leaves is one
//! that a start of the agent understands (`next_key.rs`). What the entry says is `rotation.rs`.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::{MetadataExt, chown},
    path::{Path, PathBuf},
    time::Duration,
};

use hufu_audit::{Exit, Failure, Lang};
use hufu_gm::{SecretKey, cert::Certificate, csr::Csr, keyfile, pbes2::Password};
use hufu_trade::if2::Problem;
use serde_json::{Value, json};

use super::{Context, Outcome, bug, buyer, correct, file, key, node, password::PasswordArgs};
use crate::{
    clock,
    config::Config,
    local::Question,
    next_key::{Asked, KeyFiles, checked_chain},
    text::Text,
};

/// Pause between two questions whether the receipt has come.
const PAUSE: Duration = Duration::from_millis(500);

/// What to do about the key.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The configuration file
    #[arg(long, value_name = "F", default_value = "/etc/hufu/hufu.toml")]
    config: PathBuf,
    /// The certificate chain (PEM) that came for the next key, leaf first
    #[arg(long, value_name = "C")]
    cert: Option<PathBuf>,
    /// Why the key is changed, for whoever reads the ledger
    #[arg(long, value_name = "TEXT", requires = "cert", value_parser = correct::why)]
    why: Option<String>,
    /// Seconds to wait for the platform's receipt, after which the old key is destroyed
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u64).range(0..=3600))]
    wait: u64,
    #[command(flatten)]
    password: PasswordArgs,
}

/// How far a rotation is.
enum Step {
    /// A request waits for the CA.
    Requested,
    /// The certificate is in; the agent changes keys at its next start.
    Placed(Option<Problem>),
    /// The node signs with the next key; the old one is kept until the platform's receipt.
    Recorded(Value),
    /// All of it.
    Done(Value),
}

pub(super) fn run(args: &Args, context: &Context) -> Outcome {
    let config = Config::load(&args.config)?;
    let files = KeyFiles::of(&config).map_err(|address| {
        let socket = address.socket.display().to_string();
        Failure::new(Exit::Config, Text::RotateSigner { socket })
    })?;
    if let Some(cert) = &args.cert {
        place(&files, &config, cert, args.why.as_deref())?;
    } else if !exists(&files.next_certificates())? {
        request(&files, &config, &args.password)?;
        return show(&Step::Requested, &files, context);
    }
    let step = change(&files, &config, (args.wait, context.lang))?;
    show(&step, &files, context)
}

fn exists(path: &Path) -> Result<bool, Failure<Text>> {
    path.try_exists().map_err(|error| file::unreadable(path, &error))
}

/// Names that were made or changed in a file's directory are durable.
fn sync_names(path: &Path) -> Result<(), Failure<Text>> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| file::unwritable(dir, &error))
}

/// Gives a new file to whom the one in its place belongs: root may do this for the agent's user.
fn hand_over(path: &Path, like: &Path) -> Result<(), Failure<Text>> {
    let owner = fs::metadata(like).map_err(|error| file::unreadable(like, &error))?;
    let own = fs::metadata(path).map_err(|error| file::unreadable(path, &error))?;
    if (own.uid(), own.gid()) == (owner.uid(), owner.gid()) {
        return Ok(());
    }
    chown(path, Some(owner.uid()), Some(owner.gid())).map_err(|error| file::unwritable(path, &error))
}

fn write(path: &Path, bytes: &[u8], like: &Path) -> Result<(), Failure<Text>> {
    file::replace(path, bytes)?;
    hand_over(path, like)?;
    sync_names(path)
}

/// Makes the next key unless it is there, and a request for it.
fn request(files: &KeyFiles, config: &Config, given: &PasswordArgs) -> Result<(), Failure<Text>> {
    let given = given.read()?;
    let password = match (&files.password, given) {
        (Some(_), Some(password)) => Some(password),
        (Some(path), None) => Some(super::password::from_file(path)?),
        (None, None) => None,
        // A key that the agent could not open would stand in the way.
        (None, Some(_)) => return Err(Failure::new(Exit::Usage, Text::RotateClear {})),
    };
    let path = files.next_key();
    let key = if exists(&path)? {
        file::read_key_with(&path, password.as_ref())?
    } else {
        let key = SecretKey::generate(hufu_gm::random::fill).map_err(|e| bug(&e))?;
        write_key(&path, &key, password.as_ref())?;
        hand_over(&path, &files.key)?;
        key
    };
    let csr = Csr::make(&key, &format!("CN={}", config.pool()), &[]).map_err(|e| bug(&e))?;
    write(&files.request(), csr.to_pem().as_bytes(), &files.certificates)
}

/// Durable, or not there.
fn write_key(path: &Path, key: &SecretKey, password: Option<&Password>) -> Result<(), Failure<Text>> {
    match password {
        Some(password) => key::write_encrypted(path, key, password, key::ITERATIONS),
        None => keyfile::write_new(path, key).map_err(|e| key::write_failure(path, &e)),
    }
}

/// Puts the certificate of the next key in: from here on the agent changes keys as soon as it can.
fn place(files: &KeyFiles, config: &Config, cert: &Path, why: Option<&str>) -> Result<(), Failure<Text>> {
    let anchors = file::read_anchors(&config.trust)?;
    let pool = config.pool();
    let asked = Asked { anchors: &anchors, pool: &pool, now_ns: clock::now().real_ns };
    let chain = checked_chain(cert, &asked)?;
    let leaf = chain.first().ok_or_else(|| file::malformed(cert, &"no certificate"))?;
    let wrong = |why: &str| {
        let (path, why) = (cert.display().to_string(), why.to_owned());
        Failure::new(Exit::Config, Text::ConfigWrong { path, why })
    };
    let present = file::read_certificates(&files.certificates)?;
    if present.first().is_some_and(|now| now.public_key() == leaf.public_key()) && !exists(&files.next_key())? {
        return Err(wrong("this is a certificate of the present key: no rotation, only another certificate"));
    }
    let next = files.next_key();
    if !exists(&next)? {
        return Err(Failure::new(Exit::Io, Text::RotateFirst { path: next.display().to_string() }));
    }
    // Only the public half is known of a key under a password that lies elsewhere: its request.
    let request = files.request();
    let asked_for = Csr::from_pem(&file::read_text(&request)?).map_err(|e| file::gm_failure(&request, &e))?;
    if asked_for.public_key() != leaf.public_key() {
        return Err(wrong("it is not of the next key; send node.pem.next.csr to the CA"));
    }
    let text = chain.iter().map(Certificate::to_pem).collect::<String>();
    if let Some(why) = why {
        write(&files.why(), format!("{why}\n").as_bytes(), &files.certificates)?;
    }
    write(&files.next_certificates(), text.as_bytes(), &files.certificates)
}

/// Has the agent change keys, waits for the receipt, and clears up.
fn change(files: &KeyFiles, config: &Config, (wait_s, lang): (u64, Lang)) -> Result<Step, Failure<Text>> {
    let ready = files.next_certificates();
    let leaf = file::read_certificates(&ready)?.first().map(Certificate::id).map(hex::encode).unwrap_or_default();
    let until_ns = clock::now().mono_ns.saturating_add(wait_s.saturating_mul(1_000_000_000));
    loop {
        let mut said = match node::ask(&config.socket, &Question::Rotate) {
            Ok(said) => said,
            Err(failure) if failure.exit == Exit::Unavailable => return Ok(Step::Placed(None)),
            Err(failure) => return Err(failure),
        };
        if let Ok(problem) = serde_json::from_value::<Problem>(said["error"].take()) {
            if problem.code == "restart" {
                return Ok(Step::Placed(Some(problem)));
            }
            return Err(buyer::refusal(&problem, lang));
        }
        let rotated = said["ok"].take();
        if rotated["certificate"] != leaf.as_str() {
            let certificate = rotated["certificate"].as_str().unwrap_or_default().to_owned();
            return Err(Failure::new(Exit::No, Text::RotateOther { certificate }));
        }
        if let Some(code) = rotated["refused"].as_str() {
            return Err(Failure::new(Exit::No, Text::RotateRefused { code: code.to_owned() }));
        }
        if rotated["receipted"] == true {
            retire(files)?;
            return Ok(Step::Done(rotated));
        }
        if clock::now().mono_ns >= until_ns {
            return Ok(Step::Recorded(rotated));
        }
        std::thread::sleep(PAUSE);
    }
}

/// Destroys the old key and gives its names to the new one. The old file is overwritten before its name goes, which a disk that
/// writes elsewhere each time does not promise to do in place. A cut between any two steps leaves files from which the agent
/// starts with the new key, and this goes on when it is run again.
fn retire(files: &KeyFiles) -> Result<(), Failure<Text>> {
    let next = files.next_key();
    if exists(&next)? {
        overwrite(&files.key).map_err(|error| file::unwritable(&files.key, &error))?;
        fs::rename(&next, &files.key).map_err(|error| file::unwritable(&files.key, &error))?;
        sync_names(&files.key)?;
    }
    for path in [files.request(), files.why()] {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(file::unwritable(&path, &error)),
            _ => {}
        }
    }
    // Last: while it is there this is not over.
    let ready = files.next_certificates();
    fs::rename(&ready, &files.certificates).map_err(|error| file::unwritable(&files.certificates, &error))?;
    sync_names(&files.certificates)
}

fn overwrite(path: &Path) -> std::io::Result<()> {
    let mut old = match OpenOptions::new().write(true).open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    let size = usize::try_from(old.metadata()?.len()).unwrap_or(usize::MAX).min(64 * 1024);
    old.write_all(&vec![0; size])?;
    old.sync_all()
}

fn show(step: &Step, files: &KeyFiles, context: &Context) -> Outcome {
    let request = files.request().display().to_string();
    let (name, rotated, text) = match step {
        Step::Requested => ("requested", &Value::Null, Text::RotateRequested { request: request.clone() }),
        Step::Placed(None) => ("placed", &Value::Null, Text::RotatePlaced {}),
        Step::Placed(Some(_)) => ("placed", &Value::Null, Text::RotateRestart {}),
        Step::Recorded(rotated) => ("recorded", rotated, Text::RotateRecorded {}),
        Step::Done(rotated) => ("done", rotated, Text::RotateDone {}),
    };
    let request = matches!(step, Step::Requested).then_some(request);
    let shown = json!({
        "step": name,
        "request": request,
        "certificate": rotated["certificate"],
        "height": rotated["height"],
    });
    context.show(&shown, || text.render(context.lang))?;
    Ok(Exit::Done)
}
