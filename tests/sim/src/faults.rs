//! What goes wrong, and how often: each seed has its own choice. At the end everything heals.

use crate::{
    clocks::{MINUTE, SECOND},
    dice::Dice,
    disk::Flavour,
    world::{Plant, What, World},
};
use hufu_ledger::Log;
use hufu_trade::{
    if2::{Interface, Topic},
    usage::TimeState,
};

/// What a seed has to bear.
#[derive(Clone, Debug, Default)]
pub(crate) struct Profile {
    /// How long buyers come, ns.
    pub(crate) market_ns: u64,
    /// Messages lost, and doubled, of a thousand.
    pub(crate) lost: u64,
    pub(crate) twice: u64,
    /// How long a message takes usually, ns.
    pub(crate) slow_ns: u64,
    /// Sessions that the broker forgets, of a thousand.
    pub(crate) forgets: u64,
    /// Provisioning commands that fail, of a thousand.
    pub(crate) provision_fails: u64,
    /// Messages after which the platform dies, of a thousand.
    pub(crate) platform_dies: u64,
    /// Whether the platform signs what is not so.
    pub(crate) platform_lies: bool,
    /// Whether the sites erase personal data.
    pub(crate) erases: bool,
    /// Time between two faults, ns.
    pause_ns: u64,
    /// The faults of this seed.
    faults: Vec<Fault>,
}

/// What can happen to a node or to the platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Kill,
    Stop,
    PowerCut,
    DiskFails,
    DiskFull,
    ClockStep,
    ClockUnset,
    Sleep,
    CounterReset,
    Backup,
    Unlink,
    Partition,
    PlatformEnds,
    PlatformBackup,
    Forged,
}

const ALL: [Fault; 15] = [
    Fault::Kill,
    Fault::Stop,
    Fault::PowerCut,
    Fault::DiskFails,
    Fault::DiskFull,
    Fault::ClockStep,
    Fault::ClockUnset,
    Fault::Sleep,
    Fault::CounterReset,
    Fault::Backup,
    Fault::Unlink,
    Fault::Partition,
    Fault::PlatformEnds,
    Fault::PlatformBackup,
    Fault::Forged,
];

impl Profile {
    /// A choice.
    pub(crate) fn new(dice: &mut Dice) -> Self {
        let mut some = |most: u64| if dice.below(3) == 0 { 0 } else { dice.below(most + 1) };
        let (lost, twice, forgets, provision_fails) = (some(150), some(200), some(700), some(250));
        let platform_dies = some(8);
        // Each fault is in half of the seeds, a platform set back in a quarter.
        let mut faults: Vec<Fault> = ALL.into_iter().filter(|_| dice.below(2) == 0).collect();
        if dice.below(2) > 0 {
            faults.retain(|fault| *fault != Fault::PlatformBackup);
        }
        Self {
            market_ns: dice.between(30, 100) * MINUTE,
            lost,
            twice,
            slow_ns: dice.between(1, 2000) * SECOND / 1000,
            forgets,
            provision_fails,
            platform_dies,
            platform_lies: dice.below(4) == 0,
            // Whoever lost what he acknowledged cannot get it back once it was erased.
            erases: !faults.contains(&Fault::PlatformBackup) && dice.below(2) == 0,
            pause_ns: dice.between(1, 10) * MINUTE,
            faults,
        }
    }
}

impl World {
    /// Something goes wrong.
    pub(crate) fn fault(&mut self) -> Result<(), String> {
        let pause = self.profile.pause_ns / 2 + self.dice.below(self.profile.pause_ns);
        self.after(pause, What::Fault);
        let faults = self.profile.faults.clone();
        let Some(fault) = self.dice.of(&faults).copied() else { return Ok(()) };
        let index = usize::try_from(self.dice.below(u64::try_from(self.sites.len()).unwrap())).unwrap();
        self.count(&format!("{fault:?}"));
        self.note(&format!("{fault:?} {index}"));
        let time = self.time;
        let site = &mut self.sites[index];
        match fault {
            Fault::Kill => {
                self.down(index);
                let pause = self.dice.pause(10 * SECOND);
                self.after(pause, What::Restart(index));
            }
            Fault::Stop => {
                if let Some(node) = site.node.as_mut().filter(|_| time >= site.asleep_until) {
                    site.clock.show(time);
                    if let Err(halt) = node.stop() {
                        return self.fell(index, &halt);
                    }
                    self.drive(index, None)?;
                }
                self.down(index);
                let pause = self.dice.pause(10 * SECOND);
                self.after(pause, What::Restart(index));
            }
            Fault::PowerCut => self.power_cut(index),
            Fault::DiskFails => {
                let at = self.dice.between(1, 60);
                let flavour = [Flavour::NotPersisted, Flavour::PersistedAnyway, Flavour::Torn];
                let flavour = flavour[usize::try_from(self.dice.below(3)).unwrap()];
                let site = &self.sites[index];
                let beside = site.beside.all();
                let disk = match self.dice.below(5) {
                    0 => &site.keys,
                    1 => self.dice.of(&beside).unwrap_or(&site.disk),
                    _ => &site.disk,
                };
                disk.fail(at, flavour);
            }
            Fault::DiskFull => {
                let room = self.dice.below(20_000);
                let site = &mut self.sites[index];
                site.disk.room(Some(usize::try_from(room).unwrap()));
                site.is_starved = true;
                let pause = self.dice.pause(2 * MINUTE);
                self.after(pause, What::RoomBack(index));
            }
            Fault::ClockStep => {
                let far = [SECOND, 30 * SECOND, 10 * MINUTE, 90 * MINUTE];
                let far = far[usize::try_from(self.dice.below(4)).unwrap()];
                let step = i64::try_from(self.dice.below(far)).unwrap();
                let is_back = self.dice.below(2) == 0;
                let clock = &mut self.sites[index].clock;
                // A clock that is off is set right one day.
                let off = if clock.offset_ns == 0 { step } else { 0 };
                clock.offset_ns = if is_back { -off } else { off };
                self.drive(index, None)?;
            }
            Fault::ClockUnset => {
                site.clock.state = match site.clock.state {
                    TimeState::Synchronised => TimeState::Unset,
                    _ => TimeState::Synchronised,
                };
                self.drive(index, None)?;
            }
            Fault::Sleep => {
                let length = self.dice.pause(3 * MINUTE);
                let site = &mut self.sites[index];
                if time >= site.asleep_until {
                    site.host.count(time);
                    site.asleep_until = time + length;
                    self.after(length, What::Wakes(index, length));
                }
            }
            Fault::CounterReset => {
                let choice = usize::try_from(self.dice.below(8)).unwrap();
                self.sites[index].host.count(time);
                self.sites[index].host.replace(choice);
            }
            Fault::Backup => self.backup(index)?,
            Fault::Unlink => self.unlink(index)?,
            Fault::Partition => {
                let length = self.dice.pause(MINUTE);
                self.sites[index].parted_until = time + length;
                // The client notices by its keep-alive.
                self.after(30 * SECOND, What::Unlink(index));
            }
            Fault::PlatformEnds => {
                if !self.platform_down {
                    self.platform_ends(None)?;
                }
            }
            Fault::PlatformBackup => self.platform_backup()?,
            Fault::Forged => self.forge(index)?,
        }
        Ok(())
    }

    /// The host loses power: what was not confirmed may be there or not, the counters begin anew.
    pub(crate) fn power_cut(&mut self, index: usize) {
        let time = self.time;
        self.down(index);
        let keep = [0, 300, 700, 1000][usize::try_from(self.dice.below(4)).unwrap()];
        let (site, dice) = (&mut self.sites[index], &mut self.dice);
        site.disk.cut(|| dice.permille(keep));
        site.keys.cut(|| dice.permille(keep));
        site.beside.all().iter().for_each(|disk| disk.cut(|| dice.permille(keep)));
        // The meters' state is not synced: it may be gone.
        if dice.below(2) == 0 {
            std::fs::remove_file(&site.setup.meter_state).ok();
        }
        site.host.reboot(time);
        (site.clock.booted, site.clock.slept_ns, site.asleep_until) = (time, 0, 0);
        let pause = self.dice.pause(30 * SECOND);
        self.after(pause, What::Restart(index));
    }

    /// First a copy is made; the next time, it is restored.
    fn backup(&mut self, index: usize) -> Result<(), String> {
        match self.sites[index].backup.take() {
            None => {
                let is_whole = self.dice.below(2) == 0;
                let site = &mut self.sites[index];
                let beside = is_whole.then(|| site.beside.copy());
                site.backup = Some((site.disk.copy(), site.keys.copy(), beside));
            }
            Some((disk, keys, beside)) => {
                self.down(index);
                let site = &mut self.sites[index];
                site.disk.restore(&disk);
                site.keys.restore(&keys);
                if let Some(beside) = beside {
                    site.beside.restore(&beside);
                }
                site.is_restored = true;
                // Who puts a backup back has it wait for the word of the platform and of those that it follows
                // (`platform.compare_s`, `peers.hear_s`).
                let wait_ns = if self.plant == Plant::SignsFirst { 0 } else { u64::MAX };
                (site.setup.compare_ns, site.setup.hear_ns) = (wait_ns, wait_ns);
                self.count("a backup of a node put back");
                self.forget_future(index)?;
                self.after(10 * SECOND, What::Restart(index));
            }
        }
        Ok(())
    }

    /// What a node that was set back signed and nobody holds is gone from the wires too: in order, it came before the question
    /// what the platform holds. Where the platform was set back as well, the receipts that it gave before it are gone.
    pub(crate) fn forget_future(&mut self, index: usize) -> Result<(), String> {
        let pool = self.sites[index].pool.clone();
        let mut holds = [0; 2];
        for log in [Log::Trade, Log::Finance] {
            let (size, _) = self.platform.held(&pool, log).map_err(|broken| broken.0)?;
            holds[usize::from(log.number())] = size;
        }
        self.sites[index].audit.begin_anew(holds);
        let was_set_back = self.was_set_back;
        self.forget_letters(|topic| match topic {
            Topic::Call { pool: of, answer, interface } => {
                *of == pool && (!answer || (was_set_back && *interface == Interface::Blocks))
            }
            Topic::Ledger { pool: of, .. } | Topic::LedgerTo { pool: of, .. } => *of == pool,
            _ => false,
        });
        Ok(())
    }

    fn platform_backup(&mut self) -> Result<(), String> {
        let path = self.folder.path().join("backup.db");
        if self.platform_down {
            return Ok(());
        }
        if !self.has_backup {
            std::fs::remove_file(&path).ok();
            self.platform.back_up(&path).map_err(|broken| broken.0)?;
            self.has_backup = true;
            return Ok(());
        }
        self.has_backup = false;
        self.platform_ends(Some(&path))
    }

    /// Old messages again, and altered ones, to both ends.
    fn forge(&mut self, index: usize) -> Result<(), String> {
        for _ in 0..4 {
            let captured = self.captured.clone();
            let Some(mut letter) = self.dice.of(&captured).cloned() else { return Ok(()) };
            match self.dice.below(4) {
                0 => {}
                1 => {
                    let place = usize::try_from(self.dice.below(u64::try_from(letter.payload.len()).unwrap())).unwrap();
                    if let Some(byte) = letter.payload.get_mut(place) {
                        *byte ^= 1 << self.dice.below(8);
                    }
                }
                2 => letter.payload.truncate(letter.payload.len() / 2),
                _ => letter.payload = self.dice.number().to_be_bytes().to_vec(),
            }
            if self.dice.below(2) == 0 {
                self.after(SECOND, What::ToPlatform(letter));
            } else {
                self.after(SECOND, What::ToNode(index, letter));
            }
        }
        Ok(())
    }

    /// The host wakes up.
    pub(crate) fn wakes(&mut self, index: usize, length: u64) -> Result<(), String> {
        let time = self.time;
        let site = &mut self.sites[index];
        site.clock.slept_ns += length.min(time.saturating_sub(site.clock.booted));
        site.host.sleep(time);
        self.unlink(index)?;
        self.drive(index, None)
    }

    /// There is room on the disk again.
    pub(crate) fn room_back(&mut self, index: usize) {
        let site = &mut self.sites[index];
        site.disk.room(None);
        site.is_starved = false;
    }

    /// Nothing goes wrong any more.
    pub(crate) fn heal(&mut self) -> Result<(), String> {
        self.note("heal");
        let profile = Profile { market_ns: self.profile.market_ns, ..Profile::default() };
        let lies = self.profile.platform_lies;
        self.profile = Profile { slow_ns: SECOND / 100, platform_lies: lies, ..profile };
        let time = self.time;
        for index in 0..self.sites.len() {
            self.room_back(index);
            let site = &mut self.sites[index];
            site.disk.take_failed();
            site.keys.take_failed();
            for disk in site.beside.all() {
                disk.take_failed();
            }
            (site.clock.offset_ns, site.clock.state) = (0, TimeState::Synchronised);
            site.parted_until = site.parted_until.min(time);
            // A disk that failed has ended its part among its peers, with an alarm: somebody starts it anew.
            let has_left = site.node.as_ref().is_some_and(|node| node.peers().is_none());
            if has_left && !site.setup.follow.is_empty() {
                self.down(index);
                self.after(SECOND, What::Restart(index));
                continue;
            }
            if site.asleep_until > time {
                // Its event to wake is on its way: it comes when it comes.
                continue;
            }
            self.after(SECOND, What::Restart(index));
        }
        Ok(())
    }

    /// A halt that an operator of the site looks into.
    pub(crate) fn restart(&mut self, index: usize) -> Result<(), String> {
        if self.sites[index].asleep_until > self.time {
            let wait = self.sites[index].asleep_until - self.time;
            self.after(wait + SECOND, What::Restart(index));
            return Ok(());
        }
        self.start(index)
    }
}
