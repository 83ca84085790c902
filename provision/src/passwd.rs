//! Users of this machine, from the text of `/etc/passwd` (passwd(5)).

/// Uid and gid of the user of this name.
pub fn ids_of(user: &str, passwd: &str) -> Option<(u32, u32)> {
    let mut fields = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let found = fields.find(|fields| fields.first() == Some(&user))?;
    Some((found.get(2)?.parse().ok()?, found.get(3)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_its_whole_name() {
        let passwd = "hufu-platform:x:991:992::/:/x\nbroken\nhufu:x:990:989:Hufu:/var/lib/hufu:/usr/sbin/nologin\n";
        assert_eq!(ids_of("hufu", passwd), Some((990, 989)));
        assert_eq!((ids_of("huf", passwd), ids_of("broken", passwd)), (None, None));
    }
}
