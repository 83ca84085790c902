//! `hufu capacity`: what this server has, and by which source an order's usage would be metered.

use std::path::Path;

use hufu_audit::{Exit, Failure};
use hufu_metering::{Error, capacity::Capacity};

use crate::{
    cmd::{Context, Outcome, file},
    text::Text,
};

/// Runs the command.
pub(super) fn run(context: &Context) -> Outcome {
    let found = hufu_metering::capacity::capacity(Path::new("/")).map_err(|error| match error {
        Error::Unreadable { path, source } => file::unreadable(&path, &source),
        other => Failure::new(Exit::Io, Text::NoMeter { why: other.to_string() }),
    })?;
    context.show(&found, || text(&found, context))?;
    Ok(Exit::Done)
}

fn text(found: &Capacity, context: &Context) -> String {
    let say = |text: Text| text.render(context.lang);
    let bytes = |bytes: Option<u64>| bytes.map_or_else(|| "?".to_owned(), gib);
    let mut lines = vec![
        say(Text::CapacityCpu { count: found.cpu.count.to_string(), model: found.cpu.model.clone() }),
        say(Text::CapacityMemory {
            total: bytes(found.memory.total_bytes),
            available: bytes(found.memory.available_bytes),
        }),
    ];
    for disk in &found.filesystems {
        let (total, available) = (gib(disk.total_bytes), gib(disk.available_bytes));
        lines.push(say(Text::CapacityDisk { mount: disk.mount.clone(), kind: disk.kind.clone(), total, available }));
    }
    for interface in &found.interfaces {
        let speed = interface.speed_mbit.map_or_else(|| "?".to_owned(), |speed| format!("{speed} Mbit/s"));
        lines.push(say(Text::CapacityInterface { name: interface.name.clone(), speed }));
    }
    lines.push(say(Text::CapacityCgroups { mode: found.cgroups.source().to_owned() }));
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(say(Text::CapacityColumns {}).split('|'));
    for row in &found.resources {
        let (source, reason) = (row.source.clone().unwrap_or_default(), row.reason.clone().unwrap_or_default());
        table.add_row([row.resource.to_string(), row.unit.to_owned(), source, reason]);
    }
    lines.push(table.trim_fmt());
    lines.join("\n")
}

fn gib(bytes: u64) -> String {
    const GIB: u128 = 1 << 30;
    let bytes = u128::from(bytes);
    format!("{}.{:01} GiB", bytes / GIB, bytes % GIB * 10 / GIB)
}
