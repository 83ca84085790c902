//! The scores that the quality delivered suggests, kind by kind. A suggestion and no more: the buyer signs what it likes. What
//! makes an overall score of them is `contract.rs`.

use crate::{
    Error,
    quality::{Quality, QualityLine},
    resource::Kind,
};

/// The qualities that speak of a kind of resource; of the others nothing that is measured does.
pub fn told_by(kind: Kind) -> &'static [Quality] {
    match kind {
        Kind::Cpu => &[Quality::CpuThrottled, Quality::CpuStolen, Quality::CpuStalled],
        Kind::Memory => &[Quality::MemoryStalled],
        Kind::DiskRead | Kind::DiskWrite | Kind::DiskReadOps | Kind::DiskWriteOps | Kind::Storage => {
            &[Quality::IoStalled]
        }
        Kind::Gpu => &[Quality::GpuThrottled],
        Kind::NetRx | Kind::NetTx | Kind::GpuMemory | Kind::GpuEnergy => &[],
    }
}

/// 100 less the whole percents of the time that the worst of the kind's qualities took, at least 0. The worst and not their sum:
/// throttled and stolen time is stalled time, too. `None` where no line speaks of the kind: what was not measured suggests nothing.
pub fn suggest(kind: Kind, lines: &[QualityLine]) -> Option<u8> {
    let told = told_by(kind);
    let speaks = |line: &&QualityLine| Quality::from_code(line.code).is_ok_and(|quality| told.contains(&quality));
    let worst = lines.iter().filter(speaks).filter_map(QualityLine::share).max()?;
    Some(u8::try_from(worst / 100).map_or(0, |percent| 100_u8.saturating_sub(percent)))
}

/// The quality lines of several bills as one list, in code order.
///
/// # Errors
/// [`Error::Overflow`].
pub fn together<'a>(lines: impl IntoIterator<Item = &'a QualityLine>) -> Result<Vec<QualityLine>, Error> {
    let mut sums: Vec<QualityLine> = Vec::new();
    for line in lines {
        let Some(sum) = sums.iter_mut().find(|sum| sum.code == line.code) else {
            sums.push(line.clone());
            continue;
        };
        let overflow = || Error::Overflow { what: "time of quality lines together" };
        sum.ns = sum.ns.checked_add(line.ns).ok_or_else(overflow)?;
        sum.elapsed_ns = sum.elapsed_ns.checked_add(line.elapsed_ns).ok_or_else(overflow)?;
    }
    sums.sort_by_key(|sum| sum.code);
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::KINDS;

    fn line(quality: Quality, ns: u64, elapsed_ns: u64) -> QualityLine {
        QualityLine { code: quality.code(), ns, elapsed_ns }
    }

    #[test]
    fn a_score_falls_by_the_whole_percents_of_the_worst() {
        let (throttled, stalled) = (Quality::CpuThrottled, Quality::CpuStalled);
        for (name, kind, lines, want) in [
            ("nothing measured", Kind::Cpu, vec![], None),
            ("measured and good", Kind::Cpu, vec![line(stalled, 0, 1_000)], Some(100)),
            ("less than a percent", Kind::Cpu, vec![line(stalled, 9, 1_000)], Some(100)),
            ("one percent", Kind::Cpu, vec![line(stalled, 10, 1_000)], Some(99)),
            ("the worst counts", Kind::Cpu, vec![line(throttled, 250, 1_000), line(stalled, 300, 1_000)], Some(70)),
            ("all of the time", Kind::Cpu, vec![line(stalled, 1_000, 1_000)], Some(0)),
            ("on several CPUs", Kind::Cpu, vec![line(throttled, 8_000, 1_000)], Some(0)),
            ("absurd", Kind::Cpu, vec![line(throttled, u64::MAX, 1)], Some(0)),
            ("in no time", Kind::Cpu, vec![line(throttled, 5, 0)], None),
            ("of another kind", Kind::Memory, vec![line(stalled, 500, 1_000)], None),
            ("memory", Kind::Memory, vec![line(Quality::MemoryStalled, 50, 1_000)], Some(95)),
            ("a disk", Kind::DiskWriteOps, vec![line(Quality::IoStalled, 500, 1_000)], Some(50)),
            ("a GPU", Kind::Gpu, vec![line(Quality::GpuThrottled, 30, 1_000)], Some(97)),
            ("the network", Kind::NetTx, vec![line(Quality::IoStalled, 500, 1_000)], None),
            ("unknown", Kind::Cpu, vec![QualityLine { code: 77, ns: 5, elapsed_ns: 5 }], None),
        ] {
            assert_eq!(suggest(kind, &lines), want, "{name}");
        }
        assert!(KINDS.into_iter().all(|kind| suggest(kind, &[]).is_none()));
    }

    #[test]
    fn lines_of_several_bills_add_up() {
        let (io, cpu) = (Quality::IoStalled, Quality::CpuStalled);
        let sums = together(&[line(io, 1, 10), line(cpu, 2, 10), line(io, 3, 30)]).unwrap();
        assert_eq!(sums, [line(cpu, 2, 10), line(io, 4, 40)]);
        assert!(together(&[line(io, u64::MAX, 1), line(io, 1, 1)]).is_err());
    }
}
