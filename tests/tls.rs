//! Node and platform reach a real mosquitto under TLS, each with a certificate of its own and, besides, name and password; a
//! broker that another authority vouches for is not believed, a client without a certificate is turned away.
#![allow(clippy::expect_used, reason = "a panic is a failed test")]

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use hufu_tests::{
    broker::{Memory, Mosquitto},
    house::House,
    program::{self, hufu},
    trade::{bill, buy},
    wait,
};

/// Two authorities, and certificates for the broker, the node and the platform, made by openssl.
fn certify(folder: &Path) {
    let run = |arguments: &str| {
        let words = arguments.split(' ');
        program::run(program::command("openssl").current_dir(folder).args(words)).expect(0);
    };
    for name in ["ca", "other"] {
        run(&format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN={name} -keyout {name}.key -out {name}.pem"
        ));
    }
    fs::write(folder.join("broker.ext"), "subjectAltName=IP:127.0.0.1\n").expect("a file");
    fs::write(folder.join("client.ext"), "extendedKeyUsage=clientAuth\n").expect("a file");
    for (name, extensions) in [("broker", "broker.ext"), ("n1", "client.ext"), ("platform", "client.ext")] {
        run(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr"
        ));
        run(&format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile {extensions} -out {name}.pem"
        ));
    }
    for name in ["n1", "platform"] {
        let path = folder.join(format!("{name}.password"));
        fs::write(&path, format!("secret of {name}\n")).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
        let words = ["-b", "passwords", name, &format!("secret of {name}")];
        fs::OpenOptions::new().create(true).append(true).open(folder.join("passwords")).expect("a file");
        program::run(program::command("mosquitto_passwd").current_dir(folder).args(words)).expect(0);
    }
}

#[test]
fn a_trade_goes_through_a_broker_that_asks_for_certificates_and_passwords() {
    let certificates = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| certificates.path().join(name).display().to_string();
    certify(certificates.path());
    let lines = format!(
        "cafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\nallow_anonymous false\npassword_file {}\n",
        at("ca.pem"),
        at("broker.pem"),
        at("broker.key"),
        at("passwords")
    );
    let mut broker = Mosquitto::with(Memory::None, &lines);
    broker.start();
    let house = House::new(broker.port());
    let config = house.at("node/hufu.toml");
    let plain = fs::read_to_string(&config).expect("a configuration");
    let told = |ca: &str, more: &str| {
        let tls = format!("[mqtt]\nusername = \"n1\"\npassword = \"{}\"\ntls_ca = \"{ca}\"\n{more}", at("n1.password"));
        fs::write(&config, plain.replacen("[mqtt]\n", &tls, 1)).expect("a configuration");
    };
    let own = format!("tls_certificate = \"{}\"\ntls_key = \"{}\"\n", at("n1.pem"), at("n1.key"));
    let doctor = || {
        let found = hufu(&["doctor", "--config", &config.display().to_string(), "--json"]).json();
        let checks = found["checks"].as_array().expect("checks").clone();
        checks.into_iter().find(|check| check["id"] == "broker").expect("the broker's check")
    };
    told(&at("other.pem"), &own);
    assert_eq!(doctor()["state"], "fail", "another authority vouches for nobody here: {}", doctor());
    told(&at("ca.pem"), "");
    assert_eq!(doctor()["state"], "fail", "without a certificate of its own: {}", doctor());
    told(&at("ca.pem"), &own);
    assert_eq!(doctor()["state"], "ok", "{}", doctor());

    let (user, ca, chain, key) = (at("platform.password"), at("ca.pem"), at("platform.pem"), at("platform.key"));
    let named = ["--broker-user", "platform", "--broker-password", &user];
    let under = ["--broker-ca", &ca, "--broker-cert", &chain, "--broker-key", &key];
    let (_platform, url, _) = house.platform(&[&["--broker", &broker.address()][..], &named, &under].concat());
    let mut agent = house.agent();
    let contract = buy(&house, &url, "c1", "8s");
    wait::until_true("the bill is at the platform", 90, || bill(&house, &contract).is_some());
    assert_eq!(agent.signal("TERM"), 0, "{}", agent.said());
}
