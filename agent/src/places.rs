//! Who makes, suspends and removes the orders' places: the site's command in threads of its own (`provision.rs`), or whoever
//! simulates a site and asks for what is to be done.

use hufu_trade::octets::ContractNo;

use crate::provision::{Job, Provisioner};

/// What is to be done about a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PlaceJob {
    /// Make it, start or resume its workload; the answer is awaited.
    Provide,
    /// Suspend its workload.
    Pause,
    /// Stop its workload and remove it.
    Withdraw,
}

/// The site's side of the orders.
#[derive(Debug)]
pub(crate) enum Places {
    /// The site's command and the machine's cgroups.
    Site(Provisioner),
    /// Jobs in their order, for a simulated site.
    Asked(Vec<(ContractNo, PlaceJob)>),
}

impl Places {
    /// Has the order's place made and its workload started.
    pub(crate) fn provide(&mut self, job: Job) {
        match self {
            Self::Site(provisioner) => provisioner.provide(job),
            Self::Asked(jobs) => jobs.push((job.contract(), PlaceJob::Provide)),
        }
    }

    /// Has the workload suspended; the place stays.
    pub(crate) fn pause(&mut self, contract: ContractNo) {
        match self {
            Self::Site(provisioner) => provisioner.pause(contract),
            Self::Asked(jobs) => jobs.push((contract, PlaceJob::Pause)),
        }
    }

    /// Has the workload stopped and the place removed.
    pub(crate) fn withdraw(&mut self, contract: ContractNo) {
        match self {
            Self::Site(provisioner) => provisioner.withdraw(contract),
            Self::Asked(jobs) => jobs.push((contract, PlaceJob::Withdraw)),
        }
    }
}
