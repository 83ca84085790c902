//! The order of things: place and limits first, then the site's command; and the other way round at the end. Where places are
//! made is `systemd.rs` or, on a machine without it, `cgroupfs.rs`.

use std::{path::Path, time::Duration};

use hufu_provision::{Answer, Request, Verb, run};

use crate::{cgroupfs::Cgroupfs, nvidia, settings::Settings, systemd::Systemd};

/// What an order may use, from its reserves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Thousandths of a core.
    pub(crate) cpu_millicores: Option<u64>,
    /// Bytes.
    pub(crate) memory_bytes: Option<u64>,
    /// Processes and threads.
    pub(crate) tasks_max: u64,
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

/// Does what is asked, and answers.
///
/// # Errors
/// Why it was not done. What was made stays: the same request comes again and finds it.
pub(crate) fn fulfil(request: &Request, settings: &Settings) -> Result<Answer, String> {
    let maker = Maker::find(settings)?;
    let tell = |request: &Request| {
        run(&settings.command, request, Duration::from_secs(settings.timeout_s)).map_err(|e| e.to_string())
    };
    match request.verb {
        Verb::Start => {
            let limits = limits(request, settings.tasks_max)?;
            let (site, cgroup) = maker.start(request, &limits)?;
            let answer = tell(&site)?;
            Ok(Answer { cgroup: answer.cgroup.or(cgroup), pid: None, ..answer })
        }
        Verb::Suspend => {
            let answer = tell(request)?;
            maker.suspend(&request.contract_no)?;
            Ok(answer)
        }
        Verb::Stop => {
            // A command that fails must not keep the machine busy with what nobody pays for.
            let told = tell(request);
            maker.stop(&request.contract_no)?;
            told
        }
    }
}

fn limits(request: &Request, tasks_max: u64) -> Result<Limits, String> {
    let reserved = |resource| request.reserved(resource).map_err(|e| e.to_string());
    let above_zero = |found: Option<u64>| found.filter(|quantity| *quantity > 0);
    Ok(Limits {
        cpu_millicores: above_zero(reserved("cpu")?),
        memory_bytes: above_zero(reserved("memory")?),
        tasks_max,
        devices: nvidia::devices(Path::new("/"), &request.gpus),
    })
}
