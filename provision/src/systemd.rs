//! Places as transient slices of systemd, over D-Bus (org.freedesktop.systemd1.Manager). One slice for each order below
//! `hufu-orders.slice`; `-` in a slice's name means nesting, so the parent follows from the name.

use std::{path::Path, time::Duration};

use tokio::runtime::Runtime;
use zbus::{Connection, OwnedObjectPath, Variant};

use crate::{
    io_limit::{IoLimits, RATES},
    place::Limits,
};

const BUS_NAME: &str = "org.freedesktop.systemd1";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
/// How often, and how many times, systemd is asked whether it is done.
const PAUSE: Duration = Duration::from_millis(50);
const ASKS: usize = 400;
/// How many times the kernel's file is looked at.
const LOOKS: usize = 20;

type Property<'a> = (&'a str, Variant<'a>);

/// The manager of the machine.
pub(crate) struct Systemd {
    runtime: Runtime,
    bus: Connection,
}

impl Systemd {
    /// The slice of an order.
    pub(crate) fn slice(order: &str) -> String {
        format!("hufu-orders-{order}.slice")
    }

    /// Connects to the system bus.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn connect() -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
        let bus = runtime.block_on(Connection::system()).map_err(|e| format!("no system bus: {e}"))?;
        Ok(Self { runtime, bus })
    }

    /// Makes the slice with its limits, or sets them anew, lets it go on if it was frozen, and gives its cgroup.
    ///
    /// # Errors
    /// What systemd says.
    pub(crate) fn start(&self, slice: &str, limits: &Limits) -> Result<String, String> {
        self.runtime.block_on(async {
            let made = self.call("StartTransientUnit", &(slice, "fail", properties(limits, true), NO_AUX)).await;
            if let Err(error) = made {
                // The slice is there: the agent started anew, or the order goes on after a suspension.
                if !is(&error, "UnitExists") {
                    return Err(said(&error));
                }
                let body = (slice, true, properties(limits, false));
                self.call("SetUnitProperties", &body).await.map_err(|e| said(&e))?;
                self.thaw(slice).await?;
            }
            for _ in 0..ASKS {
                if let Some(cgroup) = self.cgroup(slice).await? {
                    holds(&cgroup, &limits.io).await?;
                    return Ok(cgroup);
                }
                tokio::time::sleep(PAUSE).await;
            }
            Err(format!("systemd did not start {slice} in time"))
        })
    }

    /// Freezes everything in the slice; a slice that is not there has nothing to freeze.
    ///
    /// # Errors
    /// What systemd says.
    pub(crate) fn freeze(&self, slice: &str) -> Result<(), String> {
        self.runtime.block_on(async {
            match self.call("FreezeUnit", &(slice,)).await {
                Ok(_) => Ok(()),
                Err(error) if is(&error, "NoSuchUnit") || is(&error, "UnitInactive") => Ok(()),
                Err(error) => Err(said(&error)),
            }
        })
    }

    async fn thaw(&self, slice: &str) -> Result<(), String> {
        match self.call("ThawUnit", &(slice,)).await {
            Ok(_) => Ok(()),
            // An empty slice, or one that was never frozen.
            Err(error) if is(&error, "UnitInactive") => Ok(()),
            Err(error) => Err(said(&error)),
        }
    }

    /// Stops the slice and every unit in it, and waits until it is gone.
    ///
    /// # Errors
    /// What systemd says.
    pub(crate) fn stop(&self, slice: &str) -> Result<(), String> {
        self.runtime.block_on(async {
            // What is frozen cannot end.
            if self.cgroup(slice).await?.is_some() {
                self.thaw(slice).await?;
            }
            match self.call("StopUnit", &(slice, "replace")).await {
                Err(error) if is(&error, "NoSuchUnit") => return Ok(()),
                Err(error) => return Err(said(&error)),
                Ok(_) => {}
            }
            for _ in 0..ASKS {
                if self.cgroup(slice).await?.is_none() {
                    return Ok(());
                }
                tokio::time::sleep(PAUSE).await;
            }
            Err(format!("{slice} still holds processes"))
        })
    }

    /// The cgroup of an active slice, a path below the hierarchy without its leading `/`.
    async fn cgroup(&self, slice: &str) -> Result<Option<String>, String> {
        let unit = match self.call("GetUnit", &(slice,)).await {
            Ok(reply) => reply.body().deserialize::<OwnedObjectPath>().map_err(|e| e.to_string())?,
            Err(error) if is(&error, "NoSuchUnit") => return Ok(None),
            Err(error) => return Err(said(&error)),
        };
        let state = self.text(&unit, "org.freedesktop.systemd1.Unit", "ActiveState").await?;
        if state != "active" {
            return Ok(None);
        }
        let path = self.text(&unit, "org.freedesktop.systemd1.Slice", "ControlGroup").await?;
        Ok(Some(path.trim_start_matches('/').to_owned()).filter(|path| !path.is_empty()))
    }

    async fn text(&self, unit: &OwnedObjectPath, interface: &str, name: &str) -> Result<String, String> {
        let reply = self.bus.call_method(Some(BUS_NAME), unit, Some(PROPERTIES), "Get", &(interface, name)).await;
        let reply = reply.map_err(|e| said(&e))?;
        let body = reply.body();
        let value: Variant<'_> = body.deserialize().map_err(|e| e.to_string())?;
        String::try_from(value).map_err(|e| format!("{name}: {e}"))
    }

    async fn call<B: serde::Serialize + zbus::Type>(&self, method: &str, body: &B) -> zbus::Result<zbus::Message> {
        self.bus.call_method(Some(BUS_NAME), MANAGER_PATH, Some(MANAGER), method, body).await
    }
}

/// systemd passes over a path that leads to no block device: then the kernel's file of the limits stays empty.
async fn holds(cgroup: &str, limits: &IoLimits) -> Result<(), String> {
    let file = Path::new("/sys/fs/cgroup").join(cgroup).join("io.max");
    if !limits.is_set() {
        return Ok(());
    }
    for _ in 0..LOOKS {
        match std::fs::read_to_string(&file) {
            Ok(text) if text.trim().is_empty() => tokio::time::sleep(PAUSE).await,
            Ok(_) => return Ok(()),
            // Cgroup version 1, or no io controller.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                eprintln!("hufu-provision: {}: rates of block IO are not limited here", file.display());
                return Ok(());
            }
            Err(error) => return Err(format!("{}: {error}", file.display())),
        }
    }
    let devices: Vec<_> = limits.devices.iter().map(|path| path.display().to_string()).collect();
    let devices = devices.join(", ");
    Err(format!("systemd limits no block IO: {devices} lead to no block device; name io_devices in provision.toml"))
}

/// No auxiliary units.
const NO_AUX: &[(&str, &[Property<'static>])] = &[];

fn properties(limits: &Limits, is_new: bool) -> Vec<Property<'static>> {
    let mut found: Vec<Property<'static>> = Vec::new();
    if is_new {
        found.push(("Description", Variant::from("Place of an order that this server sold")));
    }
    for accounting in ["CPUAccounting", "MemoryAccounting", "IOAccounting", "TasksAccounting"] {
        found.push((accounting, Variant::from(true)));
    }
    found.push(("TasksMax", Variant::from(limits.tasks_max)));
    if let Some(millicores) = limits.cpu_millicores {
        // A thousandth of a core is 1,000 us in each second.
        found.push(("CPUQuotaPerSecUSec", Variant::from(millicores.saturating_mul(1_000))));
    }
    if let Some(bytes) = limits.memory_bytes {
        found.push(("MemoryMax", Variant::from(bytes)));
    }
    for (rate, (_, property, _)) in limits.io.rates.iter().zip(RATES) {
        let Some(rate) = *rate else { continue };
        let devices: Vec<(String, u64)> =
            limits.io.devices.iter().map(|path| (path.display().to_string(), rate)).collect();
        found.push((property, Variant::from(devices)));
    }
    if let Some(devices) = &limits.devices {
        // What is listed adds to the list that there is; an empty one empties it first.
        found.push(("DevicePolicy", Variant::from("closed")));
        found.push(("DeviceAllow", Variant::from(Vec::<(String, String)>::new())));
        found.push(("DeviceAllow", Variant::from(devices.clone())));
    }
    found
}

fn is(error: &zbus::Error, name: &str) -> bool {
    let zbus::Error::MethodError(found, ..) = error else { return false };
    found.as_str().strip_prefix("org.freedesktop.systemd1.") == Some(name)
}

fn said(error: &zbus::Error) -> String {
    format!("systemd: {error}")
}
