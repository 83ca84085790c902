//! The order of things: place and limits first, then the site's command; and the other way round at the end. Where places are
//! made is `systemd.rs` or, on a machine without it, `cgroupfs.rs`; directories of files are `directory.rs`.

use std::{os::fd::OwnedFd, path::Path, time::Duration};

use hufu_provision::{Answer, Network, Request, Verb, run};

use crate::{
    cgroupfs::Cgroupfs,
    counters, directory,
    io_limit::{self, IoLimits},
    nvidia,
    settings::Settings,
    systemd::Systemd,
};

/// What an order may use, from its reserves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Thousandths of a core.
    pub(crate) cpu_millicores: Option<u64>,
    /// Bytes.
    pub(crate) memory_bytes: Option<u64>,
    /// Processes and threads.
    pub(crate) tasks_max: u64,
    /// Rates of block IO, and the devices they apply to.
    pub(crate) io: IoLimits,
    /// Device files it may open and how, where that is limited.
    pub(crate) devices: Option<Vec<(String, String)>>,
}

/// Who makes places here.
enum Maker {
    Systemd(Systemd),
    Cgroupfs(Cgroupfs),
}

impl Maker {
    fn find(settings: &Settings) -> Result<Self, String> {
        // sd_booted(3): what systemd itself says to look at.
        if Path::new("/run/systemd/system").is_dir() {
            return Systemd::connect().map(Self::Systemd);
        }
        Cgroupfs::detect(Path::new("/"), &settings.parent).map(Self::Cgroupfs)
    }

    fn start(&self, request: &Request, limits: &Limits) -> Result<(Request, Option<String>), String> {
        let mut site = request.clone();
        let order = &request.contract_no;
        let cgroup = match self {
            Self::Systemd(systemd) => {
                let slice = Systemd::slice(order);
                let cgroup = systemd.start(&slice, limits)?;
                site.slice = Some(slice);
                cgroup
            }
            Self::Cgroupfs(cgroupfs) => {
                let (cgroup, procs_files) = cgroupfs.start(order, limits)?;
                site.procs_files = procs_files;
                cgroup
            }
        };
        Ok((site, Some(cgroup)))
    }

    fn suspend(&self, order: &str) -> Result<(), String> {
        match self {
            Self::Systemd(systemd) => systemd.freeze(&Systemd::slice(order)),
            Self::Cgroupfs(cgroupfs) => cgroupfs.freeze(order, true),
        }
    }

    fn stop(&self, order: &str) -> Result<(), String> {
        match self {
            Self::Systemd(systemd) => systemd.stop(&Systemd::slice(order)),
            Self::Cgroupfs(cgroupfs) => cgroupfs.stop(order),
        }
    }
}

/// Does what is asked, and answers; of a start also with the counters of the order's traffic, where they can be had.
///
/// # Errors
/// Why it was not done. What was made stays: the same request comes again and finds it.
pub(crate) fn fulfil(request: &Request, settings: &Settings) -> Result<(Answer, Option<OwnedFd>), String> {
    let maker = Maker::find(settings)?;
    let tell = |request: &Request| {
        run(&settings.command, request, Duration::from_secs(settings.timeout_s)).map_err(|e| e.to_string())
    };
    match request.verb {
        Verb::Start => {
            let limits = limits(request, settings)?;
            let files = request.reserved("storage").map_err(|e| e.to_string())?.filter(|bytes| *bytes > 0);
            let storage = files.map(|bytes| directory::make(settings, &request.contract_no, bytes)).transpose()?;
            let (site, cgroup) = maker.start(request, &limits)?;
            // Before the workload's first packet.
            let counters = cgroup.as_deref().and_then(|cgroup| count(cgroup, counters::count));
            let answer = tell(&Request { storage: storage.clone(), ..site })?;
            let counters = match (&answer.network, &answer.resolve, &answer.cgroup) {
                (Some(Network::Interface(_)), ..) => None,
                (_, Some(named), _) => count(named, counters::count_named),
                (_, _, Some(own)) if Some(own) != cgroup.as_ref() => count(own, counters::count),
                _ => counters,
            };
            // Also without counters: whoever looks for them says why there are none.
            let network = match &answer.network {
                Some(Network::Interface(own)) => Network::Interface(own.clone()),
                Some(Network::Cgroup | Network::Nft) | None => Network::Cgroup,
            };
            let (cgroup, storage) = (answer.cgroup.clone().or(cgroup), answer.storage.clone().or(storage));
            Ok((Answer { cgroup, storage, network: Some(network), ..answer }, counters))
        }
        Verb::Suspend => {
            let answer = tell(request)?;
            maker.suspend(&request.contract_no)?;
            Ok((answer, None))
        }
        Verb::Probe | Verb::Traffic => Err("this is asked of no order".to_owned()),
        Verb::Stop => {
            // A command that fails must not keep the machine busy with what nobody pays for.
            let told = tell(request);
            maker.stop(&request.contract_no)?;
            counters::sweep();
            let answer = told?;
            // Only now does nothing run any more that writes there; a command that failed is asked again first.
            directory::end(settings, &request.contract_no)?;
            Ok((answer, None))
        }
    }
}

/// An order without these is metered all the same: its traffic is missing, with the reason.
fn count(cgroup: &str, count: fn(&str) -> Result<Option<OwnedFd>, String>) -> Option<OwnedFd> {
    count(cgroup).inspect_err(|why| eprintln!("hufu-provision: {cgroup}: {why}")).ok().flatten()
}

fn limits(request: &Request, settings: &Settings) -> Result<Limits, String> {
    let reserved = |resource| request.reserved(resource).map_err(|e| e.to_string());
    let above_zero = |resource| reserved(resource).map(|found| found.filter(|quantity| *quantity > 0));
    Ok(Limits {
        cpu_millicores: above_zero("cpu")?,
        memory_bytes: above_zero("memory")?,
        tasks_max: settings.tasks_max,
        io: IoLimits {
            rates: io_limit::rates(above_zero)?,
            devices: match &settings.io_devices[..] {
                [] => vec![settings.storage.clone()],
                devices => devices.to_vec(),
            },
        },
        devices: nvidia::devices(Path::new("/"), &request.gpus),
    })
}
