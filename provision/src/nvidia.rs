//! Which device files a workload needs to reach the GPUs that its order was given, by what the driver says below `/proc`. Parts
//! of devices (MIG) have files of their own that the driver does not name there: those are the site's command's to set.

use std::{fs, path::Path};

/// Files that every user of a device needs beside the device's own.
const SHARED: [&str; 4] = ["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset"];
/// What a workload, a container's too, needs of other devices: terminals, tunnels and user filesystems.
const USUAL: [&str; 5] = ["char-pts", "/dev/ptmx", "/dev/tty", "/dev/fuse", "/dev/net/tun"];
/// Cards of one server at most.
const CARDS_MAX: usize = 256;

/// The devices that the workload of an order with these GPUs may open, each for reading and writing; `None` where no GPU is
/// given, or where one of them has no file that is known.
pub(crate) fn devices(root: &Path, gpus: &[String]) -> Option<Vec<(String, String)>> {
    if gpus.is_empty() {
        return None;
    }
    let cards: Vec<(String, u32)> = fs::read_dir(root.join("proc/driver/nvidia/gpus"))
        .ok()?
        .flatten()
        .take(CARDS_MAX)
        .filter_map(|card| card_of(&fs::read_to_string(card.path().join("information")).ok()?))
        .collect();
    let own = gpus.iter().map(|gpu| {
        let (_, minor) = cards.iter().find(|(uuid, _)| uuid == gpu)?;
        Some(format!("/dev/nvidia{minor}"))
    });
    let own = own.collect::<Option<Vec<_>>>()?;
    let all = own.into_iter().chain(SHARED.into_iter().chain(USUAL).map(str::to_owned));
    Some(all.map(|file| (file, "rw".to_owned())).collect())
}

/// UUID and minor number of a card.
fn card_of(text: &str) -> Option<(String, u32)> {
    let field = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'))?;
        Some(value.trim())
    };
    let minor = field("Device Minor")?.parse().ok()?;
    Some((field("GPU UUID")?.to_owned(), minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the driver writes it.
    const CARD: &str = "Model: \t\t NVIDIA H200\nIRQ:   \t\t 155\nGPU UUID: \t GPU-0000aaaa-1111-2222-3333-444455556666\n\
                        Video BIOS: \t 96.00.c3.00.01\nBus Type: \t PCIe\nDMA Size: \t 52 bits\nBus Location: \t 0000:0a:00.0\n\
                        Device Minor: \t 3\nGPU Excluded:\t No\n";

    #[test]
    fn an_order_may_open_its_own_cards_and_no_others() {
        let root = tempfile::tempdir().unwrap();
        let card = |bus: &str, text: &str| {
            let dir = root.path().join("proc/driver/nvidia/gpus").join(bus);
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("information"), text).unwrap();
        };
        let of = |gpus: &[&str]| devices(root.path(), &gpus.iter().map(|gpu| (*gpu).to_owned()).collect::<Vec<_>>());
        let own = "GPU-0000aaaa-1111-2222-3333-444455556666";
        assert_eq!(of(&[own]), None, "a machine without the driver");
        card("0000:0a:00.0", CARD);
        card("0000:0b:00.0", &CARD.replace("aaaa", "bbbb").replace("Minor: \t 3", "Minor: \t 0"));
        card("0000:0c:00.0", "nothing\n");
        let files = of(&[own]).unwrap();
        assert!(files.iter().all(|(_, may)| may == "rw"));
        let cards = |files: &[(String, String)]| {
            let is_card =
                |file: &str| file.strip_prefix("/dev/nvidia").is_some_and(|minor| minor.parse::<u32>().is_ok());
            files.iter().map(|(file, _)| file.clone()).filter(|file| is_card(file)).collect::<Vec<_>>()
        };
        assert_eq!(cards(&files), ["/dev/nvidia3"]);
        assert!(files.iter().any(|(file, _)| file == "/dev/nvidiactl"));
        let both = of(&[own, "GPU-0000bbbb-1111-2222-3333-444455556666"]).unwrap();
        assert_eq!(cards(&both), ["/dev/nvidia3", "/dev/nvidia0"]);
        // What has no file that is known is left to the site's command, whole.
        for unknown in [&["MIG-0"][..], &[own, "MIG-0"], &["GPU-ffff"]] {
            assert_eq!(of(unknown), None, "{unknown:?}");
        }
        assert_eq!(of(&[]), None);
    }
}
