//! Traffic by nftables, where no counters can be attached to cgroups: the same bytes, found again, told by somebody else, removed.

use std::{os::unix::fs::MetadataExt, path::Path, process::Command};

use hufu_metering::{
    Network, Sampler,
    counters::{self, Counters},
    hierarchy::Hierarchies,
    net,
    nft::{self, Counted},
};
use hufu_trade::resource::Kind;

use crate::{
    orders::{ORDER, metered, now, of, plan, sampler, start},
    setup::{Net, Own, PARENT, attach, own, transfer},
};

/// In the environment of a run of this test that may not use bpf(2).
const WITHOUT_BPF: &str = "HUFU_TEST_WITHOUT_BPF";

fn hierarchies() -> Hierarchies {
    Hierarchies::detect(Path::new("/")).unwrap()
}

fn nft_is_there() -> bool {
    nft::available(&hierarchies()).inspect_err(|why| println!("skipped: {why}")).is_ok()
}

fn path(own: &Own) -> String {
    hierarchies().relative(own.directory.to_str().unwrap())
}

fn known(cgroup: u64) -> Option<Counted> {
    nft::list().unwrap().into_iter().find(|known| known.cgroup == cgroup)
}

#[test]
fn nft_counts_what_attached_counters_count_and_is_removed_with_the_cgroup() {
    let (Some(own), Some(net)) = (own("fallback"), Net::make()) else { return };
    if !nft_is_there() {
        return;
    }
    let made = nft::attach(&hierarchies(), &path(&own)).unwrap();
    assert_eq!(nft::attach(&hierarchies(), &path(&own)).unwrap().made, made.made, "found again, not made twice");
    let attached = attach(&own);
    transfer(&own, &net);
    let (found, here) = (known(made.cgroup).unwrap(), attached.read());
    println!("nft {found:?}, attached {here:?}");
    assert_eq!((found.rx_bytes, found.tx_bytes), (here.rx_bytes, here.tx_bytes));
    nft::sweep(&hierarchies()).unwrap();
    assert_eq!(known(made.cgroup), Some(found), "of a cgroup that is there nothing is removed");
    drop(own);
    nft::sweep(&hierarchies()).unwrap();
    assert_eq!(known(made.cgroup), None);
    assert!(matches!(nft::attach(&hierarchies(), "hufu-none/x"), Err(hufu_metering::Error::UnknownCgroup { .. })));
}

/// A helper's request and an agent's end come at once: nobody fails because another was faster.
#[test]
fn many_sweep_at_once() {
    if !nft_is_there() {
        return;
    }
    for round in 0..3 {
        let orders: Vec<Own> = (0..4).filter_map(|index| own(&format!("swept-{round}-{index}"))).collect();
        let made: Vec<u64> = orders.iter().map(|own| nft::attach(&hierarchies(), &path(own)).unwrap().cgroup).collect();
        drop(orders);
        std::thread::scope(|scope| {
            let sweepers: Vec<_> = (0..6).map(|_| scope.spawn(|| nft::sweep(&hierarchies()))).collect();
            for sweeper in sweepers {
                sweeper.join().unwrap().unwrap();
            }
        });
        assert!(made.iter().all(|cgroup| known(*cgroup).is_none()), "{made:?}");
    }
}

/// Runs in a process of its own, which has all rights but those of bpf(2).
#[test]
fn an_order_is_counted_by_nft_where_no_counters_can_be_attached() {
    if std::env::var_os(WITHOUT_BPF).is_some() {
        return without_bpf();
    }
    if own("probe").is_none() || !nft_is_there() {
        return;
    }
    let again = Command::new("setpriv")
        .args(["--bounding-set", "-sys_admin,-bpf,-perfmon"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "nft::an_order_is_counted_by_nft_where_no_counters_can_be_attached"])
        .env(WITHOUT_BPF, "1")
        .output();
    let Ok(out) = again else { return println!("skipped: no setpriv") };
    let text = String::from_utf8_lossy(&out.stdout);
    println!("{text}{}", String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success());
}

fn without_bpf() {
    let hierarchies = hierarchies();
    if counters::available(&hierarchies).is_ok() {
        return println!("skipped: bpf(2) needs no right here");
    }
    assert_eq!(net::at_cgroups(&hierarchies).unwrap(), net::NFT_SOURCE);
    let name = format!("nft-{}", std::process::id());
    let place = hufu_metering::Place::make(&hierarchies, PARENT, &name).unwrap();
    let directory = hierarchies.unified(&format!("{}/{name}", PARENT)).unwrap();
    let own = Own { place, directory };
    // Namespaces cannot be made without CAP_SYS_ADMIN: it talks to itself, and each byte is sent and received.
    let mut sampler = sampler();
    start(&mut sampler, &own, Network::Cgroup, None);
    let talk = || {
        let script = "import socket,sys\n\
                      for name in sys.argv[1:]: open(name,'w').write('0')\n\
                      a=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); a.bind(('127.0.0.1',0))\n\
                      for _ in range(100): a.sendto(bytes(972), a.getsockname()); a.recv(2000)\n";
        assert!(Command::new("python3").args(["-c", script]).args(&own.place.procs_files).status().unwrap().success());
    };
    talk();
    sampler.tick(now());
    let state = sampler.state_of(ORDER).unwrap();
    let attached = state.identity.attached.clone().unwrap();
    assert_eq!((attached[0].source.as_str(), attached[0].path.as_str()), (net::NFT, path(&own).as_str()));
    // The agent is down and comes back; the order goes on.
    drop(sampler);
    talk();
    let mut sampler = self::sampler();
    start(&mut sampler, &own, Network::Cgroup, Some(state));
    talk();
    let pieces = sampler.stop(ORDER, now()).unwrap();
    let totals = &pieces.last().unwrap().totals;
    for kind in [Kind::NetRx, Kind::NetTx] {
        assert_eq!(of(totals, kind).total, Some(3 * 100 * 1000), "{kind:?}: {totals:?}");
    }
    drop(own);
    nft::sweep(&hierarchies).unwrap();
    println!("counted by nft over a restart: {:?}", of(totals, Kind::NetTx));
}

/// An agent that may not read the counters is told of them, and says what it was told.
#[test]
fn what_another_process_reads_is_an_orders_traffic_too() {
    let (Some(own), true) = (own("told"), nft_is_there()) else { return };
    let cgroup = nft::attach(&hierarchies(), &path(&own)).unwrap().cgroup;
    assert!(Counters::map(counters::attach(&own.directory).unwrap()).is_ok());
    let uid = "65534";
    let out = Command::new("setpriv")
        .args(["--reuid", uid, "--clear-groups", "--bounding-set", "-all", "--inh-caps", "-all"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "nft::without_any_right_the_kernel_tells_nothing"])
        .env(WITHOUT_BPF, cgroup.to_string())
        .output();
    let Ok(out) = out else { return println!("skipped: no setpriv") };
    println!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success());
    drop(own);
    nft::sweep(&hierarchies()).unwrap();
}

/// Does nothing unless the test above runs it without rights.
#[test]
fn without_any_right_the_kernel_tells_nothing() {
    let Some(cgroup) = std::env::var_os(WITHOUT_BPF).and_then(|text| text.to_str()?.parse::<u64>().ok()) else {
        return;
    };
    if rustix::process::geteuid().is_root() {
        return;
    }
    assert!(nft::list().unwrap_err().to_string().contains("cannot read network counters"));
    let hierarchies = hierarchies();
    let parent = hierarchies.unified(PARENT).unwrap();
    let children = std::fs::read_dir(parent).unwrap().flatten();
    let own =
        children.map(|entry| entry.path()).find(|path| std::fs::metadata(path).is_ok_and(|of| of.ino() == cgroup));
    let path = hierarchies.relative(own.unwrap().to_str().unwrap());
    let mut told = 0;
    let mut sampler = Sampler::new(Path::new("/"), 100_000_000, now()).unwrap();
    sampler.ask_nft_by(Box::new(move || {
        told += 1000;
        Ok(vec![Counted { cgroup, made: 5, rx_bytes: told, tx_bytes: 2 * told }])
    }));
    let target = hufu_metering::Target::Cgroup { path };
    sampler.start(ORDER, plan(&target, Network::Cgroup), &metered(), &[], None, now()).unwrap();
    for _ in 0..12 {
        sampler.tick(now());
    }
    let pieces = sampler.stop(ORDER, now()).unwrap();
    let totals = &pieces.last().unwrap().totals;
    // Asked when it began, with the tenth sample, and at the end.
    assert_eq!((of(totals, Kind::NetRx).total, of(totals, Kind::NetTx).total), (Some(2000), Some(4000)), "{totals:?}");
}
