//! From what the site's command or the helper answered to what an order is metered by. Asking is `provision.rs`; where the buyer
//! goes when nobody said so is `address.rs`.

use std::path::Path;

use hufu_metering::{Network, Plan, Target, hierarchy::Hierarchies, resolve, storage::held_by};
use hufu_provision::{Answer, Interface, Side};

/// The plan of an order: by the name that the answer gave, else the cgroup it names, else the place that was `offered`, else the
/// process it names.
///
/// # Errors
/// What a name leads to nothing by; `offered`'s own reason when nothing is named.
pub(crate) fn plan(answer: &Answer, offered: Result<Target, String>, root: &Path) -> Result<Plan, String> {
    let (target, resolved) = match (&answer.resolve, &answer.cgroup, offered, answer.pid) {
        (Some(named), ..) => {
            let hierarchies = Hierarchies::detect(root).map_err(|e| e.to_string())?;
            let found = resolve(&hierarchies, named).map_err(|e| format!("resolve: {e}"))?;
            (found.target, Some(found.text))
        }
        (None, Some(path), ..) => (Target::Cgroup { path: path.trim_matches('/').to_owned() }, None),
        (None, None, Ok(place), _) => (place, None),
        (None, None, Err(_), Some(pid)) => (Target::Process { pid }, None),
        (None, None, Err(why), None) => return Err(format!("{why}, and no process was named")),
    };
    let network = answer.network.as_ref().map(|network| match network {
        hufu_provision::Network::Cgroup | hufu_provision::Network::Nft => Network::Cgroup,
        hufu_provision::Network::Interface(Interface { interface, side, pid }) => {
            Network::Interface { name: interface.clone(), host_side: *side == Side::Host, netns_pid: *pid }
        }
    });
    let storage = answer.storage.as_deref().map(|path| held_by(root, path)).transpose().map_err(|e| e.to_string())?;
    // Which devices it holds is the ledger's word (`devices.rs`), whatever is answered.
    Ok(Plan { target, resolved, network, storage, gpus: Vec::new() })
}

#[cfg(test)]
mod tests {
    use hufu_metering::Storage;

    use super::*;

    fn host() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        std::fs::create_dir_all(at("proc/self")).unwrap();
        let mounts = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n31 23 8:1 / / rw - ext4 /dev/sda1 rw\n";
        std::fs::write(at("proc/self/mountinfo"), mounts).unwrap();
        std::fs::create_dir_all(at("sys/fs/cgroup/system.slice/web.service")).unwrap();
        root
    }

    #[test]
    fn what_was_named_comes_before_what_was_offered() {
        let root = host();
        let offered = || Ok(Target::Cgroup { path: "hufu-orders/a".to_owned() });
        let none = || Err("no cgroups".to_owned());
        let of = |json: &str, offered: Result<Target, String>| {
            plan(&Answer::from_json(json.as_bytes()).unwrap(), offered, root.path())
        };
        let cgroup = |path: &str| Target::Cgroup { path: path.to_owned() };
        for (json, offered, want) in [
            ("{}", offered(), Ok(cgroup("hufu-orders/a"))),
            ("{\"pid\":7}", offered(), Ok(cgroup("hufu-orders/a"))),
            ("{\"cgroup\":\"/x/y\",\"pid\":7}", offered(), Ok(cgroup("x/y"))),
            ("{\"resolve\":\"unit:web\",\"cgroup\":\"x\"}", offered(), Ok(cgroup("system.slice/web.service"))),
            ("{\"pid\":7}", none(), Ok(Target::Process { pid: 7 })),
            ("{}", none(), Err("no cgroups")),
            ("{\"resolve\":\"unit:gone\"}", offered(), Err("nothing of this name")),
            ("{\"resolve\":\"exec:sh\"}", offered(), Err("one of cgroup:PATH")),
        ] {
            match (of(json, offered), want) {
                (Ok(found), Ok(target)) => assert_eq!(found.target, target, "{json}"),
                (Err(why), Err(word)) => assert!(why.contains(word), "{json}: {why}"),
                (found, _) => panic!("{json}: {found:?}"),
            }
        }
    }

    #[test]
    fn every_source_that_was_named_is_in_the_plan() {
        let root = host();
        let json = r#"{"resolve":"unit:web","network":{"interface":"veth0","side":"host"},"storage":"/srv/a"}"#;
        let found = plan(&Answer::from_json(json.as_bytes()).unwrap(), Err(String::new()), root.path()).unwrap();
        assert_eq!(found.resolved.as_deref(), Some("unit:web.service -> system.slice/web.service"));
        assert_eq!(
            found.network,
            Some(Network::Interface { name: "veth0".to_owned(), host_side: true, netns_pid: None })
        );
        assert_eq!(found.storage, Some(Storage::Directory { path: "/srv/a".into() }));
        let json = r#"{"network":{"interface":"eth0","side":"order","pid":7}}"#;
        let found = plan(&Answer::from_json(json.as_bytes()).unwrap(), Ok(found.target), root.path()).unwrap();
        let inside = Network::Interface { name: "eth0".to_owned(), host_side: false, netns_pid: Some(7) };
        assert_eq!(found.network, Some(inside));
        let json = r#"{"network":"cgroup"}"#;
        let place = Ok(Target::Cgroup { path: "a".to_owned() });
        let found = plan(&Answer::from_json(json.as_bytes()).unwrap(), place, root.path()).unwrap();
        assert_eq!((found.network, found.resolved, found.storage), (Some(Network::Cgroup), None, None));
    }
}
