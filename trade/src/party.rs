//! How a certificate names the node or platform that signs with it, once for everybody: agent, platform, buyer and verifiers.
//! Whether the certificate may be trusted is the chain's question, in `gm`; a buyer is named by its certificate's hash alone.

use hufu_gm::Certificate;

use crate::if2::{PLATFORM, segment_ok};

/// Whether the certificate names the node or platform `party`, which is `{site}/{node}`: its only common name is exactly that,
/// or one of its DNS names is exactly `{node}.{site}`. A node's bare name is not enough: another site may have one like it.
///
/// ```
/// # use hufu_gm::{SecretKey, ca};
/// # let key = SecretKey::from_scalar(&[7; 32])?;
/// # let terms = ca::Terms { serial: &[1; 8], not_before_s: 0, not_after_s: 1, dns_names: &[] };
/// # let certificate = |subject| ca::root(&key, subject, None, &terms);
/// use hufu_trade::party::is_named;
/// assert!(is_named(&certificate("CN=s1/n1,O=site")?, "s1/n1"));
/// assert!(!is_named(&certificate("CN=n1")?, "s1/n1"));
/// # Ok::<(), hufu_gm::Error>(())
/// ```
pub fn is_named(certificate: &Certificate, party: &str) -> bool {
    let Some((site, name)) = party.split_once('/').filter(|(site, name)| segment_ok(site) && segment_ok(name)) else {
        return false;
    };
    let qualified = format!("{name}.{site}");
    certificate.common_name().as_deref() == Some(party) || certificate.dns_names().contains(&qualified)
}

/// The node that a certificate names, `{site}/{node}`: its common name, or its first DNS name of two labels. `None` for a certificate of anybody
/// else, a platform's among them.
pub fn node_of(certificate: &Certificate) -> Option<String> {
    let qualified = certificate.dns_names().into_iter().filter_map(|name| {
        let (node, site) = name.split_once('.')?;
        Some(format!("{site}/{node}"))
    });
    let named = |party: &String| is_named(certificate, party) && *party != platform_of(party);
    certificate.common_name().into_iter().chain(qualified).find(named)
}

/// The name of the platform of a node's site: `{site}/platform`, which no node bears.
pub fn platform_of(pool: &str) -> String {
    let site = pool.split_once('/').map_or(pool, |(site, _)| site);
    format!("{site}/{PLATFORM}")
}

#[cfg(test)]
mod tests {
    use hufu_gm::{SecretKey, ca};

    use super::*;

    fn certificate(subject: &str, dns_names: &[&str]) -> Certificate {
        let key = SecretKey::from_scalar(&[7; 32]).unwrap();
        ca::root(&key, subject, None, &ca::Terms { serial: &[1; 8], not_before_s: 0, not_after_s: 1, dns_names })
            .unwrap()
    }

    #[test]
    fn a_certificate_names_one_party_whole_or_not_at_all() {
        for (subject, dns_names, named) in [
            ("CN=s1/n1", &[][..], true),
            ("CN=s1/n1,OU=rack 4,O=site", &[], true),
            ("CN=any", &["other", "n1.s1"], true),
            ("O=site", &["n1.s1"], true),
            ("CN=n1", &[], false),
            ("CN=n1.s1", &[], false),
            ("CN=s2/n1", &[], false),
            ("CN=S1/N1", &[], false),
            ("CN=s1/n1 ", &[], false),
            ("CN=s1/n11", &[], false),
            ("CN=s1/n1,CN=s1/n2", &[], false),
            ("OU=s1/n1", &[], false),
            ("CN=any", &["n1"], false),
            ("CN=any", &["s1/n1"], false),
            ("CN=any", &["n1.s1.example"], false),
            ("CN=any", &["*.s1"], false),
        ] {
            let one = certificate(subject, dns_names);
            assert_eq!(is_named(&one, "s1/n1"), named, "{subject:?} {dns_names:?}");
        }
        for party in ["", "/", "n1", "s1/", "/n1", "s1/n1/x", "s1/N1", "s1/n1."] {
            let one = certificate(&format!("CN=x{party}"), &["n1.s1", "n1.", ".s1", "x.n1"]);
            assert!(!is_named(&one, party), "{party}");
        }
    }

    #[test]
    fn a_certificate_tells_which_node_it_is_of() {
        for (subject, dns_names, named) in [
            ("CN=s1/n1", &[][..], Some("s1/n1")),
            ("CN=any", &["other", "n1.s1"], Some("s1/n1")),
            ("CN=s1/platform", &[], None),
            ("CN=Operator", &["platform.s1"], None),
            ("CN=A Buyer", &["www.example.org"], None),
        ] {
            assert_eq!(node_of(&certificate(subject, dns_names)).as_deref(), named, "{subject:?} {dns_names:?}");
        }
    }

    #[test]
    fn the_platform_has_a_name_at_every_site() {
        assert_eq!(platform_of("s1/n1"), "s1/platform");
        assert!(is_named(&certificate("CN=Operator", &["platform.s1", "platform.s2"]), &platform_of("s2/n7")));
    }
}
