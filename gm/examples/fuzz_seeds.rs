//! Writes one good document of each kind that is parsed into `DIR/KIND/seed`: where the fuzzers of `gm/fuzz` begin.

use std::{error::Error, path::Path};

use hufu_gm::{
    Csr, Mode,
    ca::{self, Revocation, Role, Terms},
    enveloped_key, keyfile,
    mode::{Feedback, Width},
    pbes2::{self, Password},
    sm2::SecretKey,
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
    Ok(())
}
