//! Writes one good document of each kind that is parsed into `DIR/KIND/seed`: where the fuzzers of `gm/fuzz` begin.

use std::{error::Error, path::Path};

use hufu_gm::{
    Csr, Mode,
    ca::{self, Revocation, Role, Terms},
    enveloped_key, keyfile,
    message::{self, Algorithm, Attributes, Signing},
    mode::{Feedback, Width},
    pbes2::{self, Password},
    seal::{self, Design, Picture},
    sm2::SecretKey,
    sm4,
    time_stamp::{self, Answer, Authority, Request},
};

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::args().nth(1).ok_or("a directory to write into")?;
    let put = |kind: &str, name: &str, bytes: &[u8]| {
        let dir = Path::new(&dir).join(kind);
        std::fs::create_dir_all(&dir)?;
        std::fs::write(dir.join(name), bytes)
    };
    let constant = |out: &mut [u8]| {
        out.fill(5);
        Ok(())
    };
    let key = SecretKey::from_scalar(&[3; 32])?;
    let terms =
        |serial| Terms { serial, not_before_s: 1_767_225_600, not_after_s: 1_798_761_600, dns_names: &["n.example"] };
    let root = ca::root(&key, "CN=root,O=site,C=CN", Some(1), &terms(&[1; 16]))?;
    let leaf = ca::issue(&root, &key, Role::Signer, "CN=n,O=site", &key.public_key(), &terms(&[2; 16]))?;
    let line = Revocation { certificate: &leaf, at_s: 1_767_225_600 };
    let list = ca::crl(&root, &key, 7, 1_767_225_600, 1_798_761_600, &[line])?;
    let request = Csr::make_challenged(&key, "CN=n,O=site", &["n.example"], Some("word"))?;
    put("signature", "seed", &key.sign(b"m")?)?;
    put("certificate", "root", root.der())?;
    put("certificate", "leaf", leaf.der())?;
    put("list", "seed", list.der())?;
    put("request", "seed", request.der())?;
    put("cipher", "seed", &key.public_key().encrypt(b"secret", constant)?)?;
    put("delivered", "seed", &enveloped_key::wrap(&key, &key.public_key(), constant)?)?;
    let text = leaf.to_pem() + &list.to_pem() + &request.to_pem();
    put("pem", "seed", text.as_bytes())?;
    let file = Path::new(&dir).join("pkcs8").join("plain");
    std::fs::create_dir_all(Path::new(&dir).join("pkcs8"))?;
    if !file.exists() {
        keyfile::write_new(&file, &key)?;
    }
    let under = pbes2::Terms { iterations: pbes2::ITERATIONS_WRITE_MIN, salt: [1; 16], iv: [2; 16] };
    put("pkcs8", "encrypted", &pbes2::encrypt(&key, &Password::new(b"p")?, &under)?)?;
    let iv = [9; 16];
    for (name, mode) in [
        ("cbc", Mode::Cbc { iv }),
        ("gcm", Mode::Gcm { nonce: [9; 12] }),
        ("cfb64", Mode::Cfb { iv, width: Width::from_bits(64)? }),
        ("ofb8", Mode::Ofb { iv, width: Width::from_bits(8)?, feedback: Feedback::Shifted }),
    ] {
        put("mode", name, &mode.to_der()?)?;
    }
    let holder = ca::issue(&root, &key, Role::Recipient, "CN=n,O=site", &key.public_key(), &terms(&[3; 16]))?;
    let signed = Attributes::Signed { signing_time_s: Some(1_770_000_000) };
    for (name, attributes, detached) in
        [("attached", Attributes::None, false), ("detached", Attributes::None, true), ("attributes", signed, false)]
    {
        let signing = Signing { key: &key, certificate: &leaf, along: &[], algorithm: Algorithm::Sm2, attributes };
        put("message", name, &message::sign(b"content", &signing, detached)?)?;
        if attributes == Attributes::None {
            let both = message::sign_and_envelop(b"content", &signing, std::slice::from_ref(&holder), constant)?;
            put("message", "both", &both)?;
        }
    }
    put("message", "enveloped", &message::envelop(b"content", &[holder], constant)?)?;
    put("message", "encrypted", &message::encrypt_with(b"content", &sm4::Key::from_bytes([5; 16]), constant)?)?;
    let picture = Picture { format: "PNG".into(), data: vec![1], width_mm: 40, height_mm: 40 };
    let users = [leaf.clone()];
    let (created_s, start_s, end_s) = (1_770_000_000, 1_770_000_000, 1_790_000_000);
    let (id, vendor, name, kind, picture) = ("seal", "hufu", "seal", 1, &picture);
    let design = Design { id, vendor, name, kind, users: &users, created_s, start_s, end_s, picture };
    let made = seal::make(&design, &key, &leaf)?;
    put("seal", "seal", &made)?;
    put("seal", "used", &seal::sign(&made, &[7; 32], "file", 1_780_000_000, &key, &leaf)?)?;
    let timer = ca::issue(&root, &key, Role::TimeStamper, "CN=t,O=site", &key.public_key(), &terms(&[4; 16]))?;
    let request =
        Request { imprint: [7; 32], nonce: Some(vec![5; 8]), policy: None, with_certificate: true }.to_der()?;
    let authority = Authority { key: &key, certificate: &timer, policy: "1.2.3" };
    let answer = time_stamp::respond(&request, &authority, 7, 1_780_000_000)?;
    if let Answer::Granted(token) = Answer::from_der(&answer)? {
        put("time_stamp", "token", &token)?;
    }
    put("time_stamp", "request", &request)?;
    put("time_stamp", "answer", &answer)?;
    // One entry with a certificate, and the end.
    let mut answer = vec![0x30, 0x82, 0, 0, 2, 1, 1, 0x64, 0x82, 0, 0, 4, 1, b'x', 0x30, 0x82, 0, 0, 0x30, 0x82, 0, 0];
    answer.extend([4, 15]);
    answer.extend(b"userCertificate");
    answer.extend([0x31, 0x82, 0, 0, 4, 0x82, 0, 0]);
    // Each length tells how much follows it.
    let total = answer.len() + leaf.der().len();
    for at in [2, 9, 16, 20, answer.len() - 6, answer.len() - 2] {
        let following = u16::try_from(total - at - 2)?.to_be_bytes();
        answer.splice(at..at + 2, following);
    }
    answer.extend(leaf.der());
    answer.extend([0x30, 12, 2, 1, 1, 0x65, 7, 0x0a, 1, 0, 4, 0, 4, 0]);
    hufu_gm::directory::read_answer(&answer, &["userCertificate"])?;
    put("directory", "answer", &answer)?;
    put("directory", "address", b"ldap://[::1]:389/dc=ca,dc=example")?;
    Ok(())
}
