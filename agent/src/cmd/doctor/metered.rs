//! What an order's usage can be metered by here, resource by resource, and what the kernel lacks for it. What has a price and
//! no meter is a warning; what has neither is well, with the reason and the remedy.

use std::path::Path;

use hufu_metering::{
    capacity::{TrustedSource, trusted_sources},
    hierarchy::{Hierarchies, Mode},
};
use hufu_trade::resource::{Kind, Resource};

use super::{Check, Patient, State};
use crate::{config::Config, provision::Means, text::Text};

/// What orders are metered and held by.
const CONTROLLERS: [&str; 4] = ["cpu", "memory", "io", "pids"];

pub(super) fn checks(patient: &Patient<'_>) -> Vec<Check> {
    let mut checks = vec![controllers(patient)];
    checks.extend(delegated(patient));
    checks.push(pressure(patient));
    let disk = [Kind::DiskRead, Kind::DiskWrite, Kind::DiskReadOps, Kind::DiskWriteOps];
    let sources = trusted_sources(&patient.config.root).unwrap_or_default();
    checks.push(meter(patient, "meter_cpu", (&[Kind::Cpu], &sources), &Text::DoctorMeterCpu {}));
    checks.push(meter(patient, "meter_memory", (&[Kind::Memory], &sources), &Text::DoctorMeterMemory {}));
    checks.push(meter(patient, "meter_disk", (&disk, &sources), &Text::DoctorMeterDisk {}));
    checks
}

/// Whether all of `kinds` have a trusted source, and which; one row for resources that have the same remedy.
pub(super) fn meter(
    patient: &Patient<'_>,
    id: &'static str,
    (kinds, sources): (&[Kind], &[TrustedSource]),
    text: &Text,
) -> Check {
    let of = |kind: &Kind| sources.iter().find(|(resource, _)| resource.kind == *kind).map(|(_, source)| source);
    let lacking = kinds.iter().find_map(|kind| match of(kind) {
        Some(Ok(_)) => None,
        Some(Err(why)) => Some(why.clone()),
        None => Some("this node has no meter for it".to_owned()),
    });
    let has_price = kinds.iter().any(|kind| is_priced(patient.config, *kind));
    match (lacking, has_price) {
        (None, _) => {
            let found = kinds.first().and_then(of).and_then(|source| source.as_ref().ok()).cloned();
            patient.check(id, (State::Ok, found.unwrap_or_default()), text)
        }
        (Some(why), true) => patient.check(id, (State::Warn, why), text),
        (Some(why), false) => {
            let actual = Text::DoctorNotPriced { why }.render(patient.lang);
            Check { advises: true, ..patient.check(id, (State::Ok, actual), text) }
        }
    }
}

/// Whether a product has a price for what is used of a resource.
fn is_priced(config: &Config, kind: Kind) -> bool {
    let prices = config.products.iter().flat_map(|product| &product.tariff.prices);
    let mut resources = prices.filter_map(|price| price.resource.parse::<Resource>().ok());
    resources.any(|resource| resource.kind == kind && !resource.reserved)
}

/// Controllers that the kernel has for orders, in whichever generation.
fn controllers(patient: &Patient<'_>) -> Check {
    let (id, text) = ("cgroup_controllers", Text::DoctorControllers { wanted: CONTROLLERS.join(" ") });
    let root = &patient.config.root;
    let judged = match Hierarchies::detect(root) {
        Err(error) => (State::Fail, error.to_string()),
        Ok(found) => {
            let has = available(root, found.mode());
            let lacks: Vec<&str> =
                CONTROLLERS.into_iter().filter(|name| !has.iter().any(|have| have == name)).collect();
            if lacks.is_empty() {
                (State::Ok, CONTROLLERS.join(" "))
            } else {
                (State::Warn, format!("{} (-{})", has.join(" "), lacks.join(" -")))
            }
        }
    };
    patient.check(id, judged, &text)
}

/// Names of version 2; those of version 1 under the name that version 2 gives them.
fn available(root: &Path, mode: Mode) -> Vec<String> {
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_default();
    let words = |text: String| text.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let two = words(read("sys/fs/cgroup/cgroup.controllers"));
    if mode == Mode::V2 {
        return two;
    }
    let one = read("proc/self/mountinfo");
    let mounted = one.lines().filter(|line| line.contains(" - cgroup ")).filter_map(|line| line.rsplit(' ').next());
    let names = mounted.flat_map(|options| options.split(',')).filter(|word| *word != "rw" && !word.contains('='));
    let mut all: Vec<String> = names.map(|name| if name == "blkio" { "io" } else { name }.to_owned()).collect();
    all.extend(words(read("sys/fs/cgroup/unified/cgroup.controllers")));
    all.retain(|name| CONTROLLERS.contains(&name.as_str()));
    all.sort();
    all.dedup();
    all
}

/// Whether the cgroups of orders get the controllers that the kernel has; who has them made by the helper leaves that to it.
fn delegated(patient: &Patient<'_>) -> Option<Check> {
    let config = patient.config;
    let is_own = matches!(&config.provision, Means::Command(_));
    let is_v2 = Hierarchies::detect(&config.root).is_ok_and(|found| found.mode() == Mode::V2);
    if !is_own || !is_v2 {
        return None;
    }
    let text = Text::DoctorDelegated { wanted: CONTROLLERS.join(" "), place: config.place.clone() };
    let mount = config.root.join("sys/fs/cgroup");
    let parent = mount.join(&config.place);
    // A parent that is not there is made with what is above it.
    let file = if parent.is_dir() { parent.join("cgroup.controllers") } else { mount.join("cgroup.controllers") };
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    let lacks: Vec<&str> =
        CONTROLLERS.into_iter().filter(|name| !found.split_ascii_whitespace().any(|has| has == *name)).collect();
    let judged = if lacks.is_empty() {
        (State::Ok, found.trim().to_owned())
    } else {
        (State::Warn, format!("{}: {} (-{})", file.display(), found.trim(), lacks.join(" -")))
    };
    Some(patient.check("cgroup_delegated", judged, &text))
}

/// Stall times, which a bill's quality lines are made of.
fn pressure(patient: &Patient<'_>) -> Check {
    let path = patient.config.root.join("proc/pressure/cpu");
    let judged = match std::fs::read(&path) {
        Ok(_) => (State::Ok, path.display().to_string()),
        Err(error) => (State::Warn, format!("{}: {error}", path.display())),
    };
    patient.check("pressure", judged, &Text::DoctorPressure {})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controllers_have_one_name_in_every_generation() {
        let root = |kind: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("../metering/testdata").join(kind);
        for kind in ["v1", "v2", "hybrid"] {
            let root = root(kind);
            let mode = Hierarchies::detect(&root).unwrap().mode();
            let found = available(&root, mode);
            assert!(found.iter().any(|name| name == "memory"), "{kind}: {found:?}");
            assert!(!found.iter().any(|name| name == "blkio" || name == "rw"), "{kind}: {found:?}");
        }
    }
}
