//! Debian's `slapd` in the foreground, with a database and a port of its own; it ends with the test.

use std::{fs, net::TcpStream, path::Path, process::Child, process::Stdio};

use crate::{
    program::{command, run},
    wait,
};

/// Where its entries begin.
pub const BASE: &str = "dc=ca,dc=example";

/// A running directory.
#[derive(Debug)]
pub struct Slapd(Child);

impl Drop for Slapd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The octets of a PEM file, in Base64.
pub fn body(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("PEM");
    text.lines().filter(|line| !line.starts_with('-')).collect()
}

impl Slapd {
    /// Starts one in a new folder, with these entries below [`BASE`] (LDIF).
    pub fn start(folder: &Path, port: u16, entries: &str) -> Self {
        fs::create_dir_all(folder.join("db")).expect("a folder");
        let config = format!(
            "include /etc/ldap/schema/core.schema\nmodulepath /usr/lib/ldap\nmoduleload back_mdb\ndatabase mdb\n\
             suffix \"{BASE}\"\ndirectory {}\nmaxsize 1048576\n",
            folder.join("db").display()
        );
        fs::write(folder.join("slapd.conf"), config).expect("a file");
        let top = format!("dn: {BASE}\nobjectClass: dcObject\nobjectClass: organization\ndc: ca\no: ca\n\n");
        fs::write(folder.join("entries.ldif"), top + entries).expect("a file");
        let (config, ldif) = (folder.join("slapd.conf"), folder.join("entries.ldif"));
        run(command("/usr/sbin/slapadd").arg("-f").arg(&config).arg("-l").arg(&ldif)).expect(0);
        let url = format!("ldap://127.0.0.1:{port}/");
        let mut slapd = command("/usr/sbin/slapd");
        slapd.args(["-d", "0", "-h", &url, "-f"]).arg(&config).stderr(Stdio::null());
        let server = Self(slapd.spawn().expect("slapd"));
        wait::until_true("slapd listens", 30, || TcpStream::connect(("127.0.0.1", port)).is_ok());
        server
    }
}

/// An authority with its certificate and its revocation list.
pub fn authority(name: &str, certificate: &Path, list: &Path) -> String {
    format!(
        "dn: cn={name},{BASE}\nobjectClass: device\nobjectClass: pkiCA\ncn: {name}\ncACertificate;binary:: {}\n\
         certificateRevocationList;binary:: {}\n\n",
        body(certificate),
        body(list)
    )
}
