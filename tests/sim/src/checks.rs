//! The whole look: a replay from bytes comes to the same, the ledger checks, the platform holds what the node has; and, when all
//! has healed, that everything has arrived.

use std::sync::Arc;

use hufu_agent::sim::Node;
use hufu_ledger::{CheckOptions, Log, check::check_on};

use crate::{parties::parties, site::Site, world::World};

const LOGS: [Log; 2] = [Log::Trade, Log::Finance];

impl World {
    /// What must hold at any time, and costs too much to be looked at after every event.
    ///
    /// # Errors
    /// What does not hold.
    pub(crate) fn whole_look(&mut self) -> Result<(), String> {
        for index in 0..self.sites.len() {
            let said = |why: String| format!("{}: {why}", self.sites[index].pool);
            let site = &self.sites[index];
            // Who still compares has not replayed what came back, and may have less than the platform.
            if site.node.as_ref().is_some_and(hufu_agent::sim::Node::is_comparing) {
                continue;
            }
            if site.node.is_some() && !site.is_starved {
                self.replayed(site).map_err(said)?;
            }
            self.held(index, site).map_err(said)?;
            if let Some((node, log)) = site.node.as_ref().and_then(|node| node.forks().into_iter().next()) {
                return Err(said(format!("a fork proof against the honest {node}, {log}")));
            }
        }
        Ok(())
    }

    /// A replay from bytes comes to the same.
    fn replayed(&self, site: &Site) -> Result<(), String> {
        let Some(node) = &site.node else { return Ok(()) };
        let (disk, keys) = (site.disk.copy(), site.keys.copy());
        let setup = hufu_agent::sim::Setup {
            storage: Arc::new(disk),
            keys: Arc::new(keys),
            meter_state: site.setup.root.join("unused.state"),
            core_state: site.setup.root.join("unused-core.state"),
            follow: Vec::new(),
            ..site.setup.clone()
        };
        site.clock.show(self.time);
        let again = setup.start().map_err(|halt| format!("a replay fails: {halt:?}"))?;
        let (live, again) = (node.digest(), again.digest());
        if live == again {
            return Ok(());
        }
        let differ = live.bytes().zip(again.bytes()).position(|(live, again)| live != again).unwrap_or(0);
        let part = |text: &str| text.chars().skip(differ.saturating_sub(150)).take(300).collect::<String>();
        Err(format!("a replay comes to another state:\n  live   {}\n  replay {}", part(&live), part(&again)))
    }

    /// What the platform holds is what the node has, and nothing of it was refused.
    fn held(&self, index: usize, site: &Site) -> Result<(), String> {
        for log in LOGS {
            let (size, root) = self.platform.held(&site.pool, log).map_err(|broken| broken.0)?;
            let known = self.receipted.get(&(index, log.number())).copied().unwrap_or(0);
            if size < known {
                return Err(format!("the platform gave a receipt for {known} blocks of {log} and holds {size}"));
            }
            let Some(node) = &site.node else { continue };
            site.disk.quiet(true);
            let own = node.ledger().root_at(log, size).map_err(|error| format!("the platform holds more: {error}"));
            site.disk.quiet(false);
            if own? != root {
                return Err(format!("the platform's root of {log} at {size} is not the node's"));
            }
        }
        let faults = self.platform.faults(&site.pool).map_err(|broken| broken.0)?;
        match faults.first() {
            Some(fault) => {
                let known =
                    site.node.as_ref().map(|node| LOGS.map(|log| (node.acknowledged(log), node.obligation(log))));
                let why = format!("the platform has something against an honest node: {fault}");
                Err(format!("{why} (acknowledged and to be, by log: {known:?})"))
            }
            None => Ok(()),
        }
    }

    /// Why not everything has arrived yet; `None` when it has.
    ///
    /// # Errors
    /// What does not hold.
    pub(crate) fn unfinished(&self) -> Result<Option<String>, String> {
        if self.platform_down {
            return Ok(Some("the platform is down".to_owned()));
        }
        for site in &self.sites {
            if let Some(why) = self.unfinished_site(site)? {
                return Ok(Some(format!("{}: {why}", site.pool)));
            }
        }
        Ok(None)
    }

    fn unfinished_site(&self, site: &Site) -> Result<Option<String>, String> {
        let Some(node) = &site.node else { return Ok(Some("does not run".to_owned())) };
        if node.is_comparing() {
            return Ok(Some("still compares itself with the platform".to_owned()));
        }
        for log in LOGS {
            let (has, wants) = (node.acknowledged(log), node.obligation(log));
            if !site.is_linked || has.is_none_or(|has| has < wants) {
                return Ok(Some(format!("{has:?} of {wants} blocks of {log} acknowledged")));
            }
        }
        let held = self.platform.bills(&site.pool).map_err(|broken| broken.0)?;
        let states = self.platform.states(&site.pool).map_err(|broken| broken.0)?;
        if let Some(why) = self.unfollowed(site, node)? {
            return Ok(Some(why));
        }
        for contract in node.contracts() {
            if !contract.is_over {
                return Ok(Some(format!("contract {} is {}", contract.no, contract.state)));
            }
            let state = states.iter().find(|(no, _)| *no == contract.no.0).map(|(_, state)| state.as_str());
            if state != Some(contract.state) {
                return Ok(Some(format!("contract {} is {}, for the platform {state:?}", contract.no, contract.state)));
            }
            if contract.deal.is_some() && contract.bills.is_empty() {
                return Ok(Some(format!("contract {} has no bill", contract.no)));
            }
            for bill in &contract.bills {
                let found = held.iter().filter(|held| held.number == bill.number).collect::<Vec<_>>();
                let [found] = found.as_slice() else {
                    return Ok(Some(format!("bill {} is held {} times", bill.number, found.len())));
                };
                let same = (&found.total, &found.due) == (&bill.total.to_string(), &bill.due.to_string());
                if found.hash != bill.name.hash.0 || !same || !bill.receipted {
                    return Ok(Some(format!("bill {} is not the node's, or has no receipt", bill.number)));
                }
                if bill.paid.is_none() && !contract.erased {
                    return Ok(Some(format!("bill {} of a contract {} is not paid", bill.number, contract.state)));
                }
            }
        }
        Ok(None)
    }

    /// Why not everybody has seen all of a node's logs yet, and cosigned it; `None` when they have, or nobody follows it.
    fn unfollowed(&self, site: &Site, node: &Node) -> Result<Option<String>, String> {
        let sizes = LOGS.map(|log| node.ledger().size(log));
        let mut count = 0;
        for other in self.sites.iter().filter(|other| other.setup.follow.contains(&site.pool)) {
            count += 1;
            let Some(peers) = other.node.as_ref().and_then(Node::peers) else {
                return Ok(Some(format!("{} does not take part", other.pool)));
            };
            let view = peers.into_iter().find(|view| view.node == site.pool).ok_or("a node that is not followed")?;
            let wanted = sizes.map(|size| size.to_string());
            if view.sizes != wanted || view.cosigned != wanted || view.has_forked {
                return Ok(Some(format!("{} sees {view:?}, there are {sizes:?}", other.pool)));
            }
        }
        let witnessed = node.witnessed();
        let wanted = sizes.map(|size| (size > 0).then_some((size, count)));
        Ok((count > 0 && witnessed != wanted).then(|| format!("witnessed {witnessed:?}, there are {wanted:?}")))
    }

    /// A full check of every ledger's bytes.
    ///
    /// # Errors
    /// The first problem.
    pub(crate) fn check_ledgers(&self) -> Result<(), String> {
        // Whoever stopped for good may have stopped in the middle of a frame.
        for (index, site) in self.sites.iter().enumerate().filter(|(_, site)| site.node.is_some()) {
            let party = &parties().nodes[index];
            let key_of = |id: &hufu_gm::Hash| (*id == party.id).then(|| party.key.public_key());
            // Half of what this costs is signatures; all of them were verified on their way.
            let verifies = self.next.is_multiple_of(4);
            let options = CheckOptions {
                key_of: if verifies { Some(&key_of) } else { None },
                salt_key: Some(&site.setup.salt_key),
                threads: 0,
                rereads: 0,
                ..CheckOptions::default()
            };
            let report = check_on(&site.disk.copy(), &options).map_err(|error| error.to_string())?;
            if let Some(problem) = report.problems.first() {
                return Err(format!("{}: the ledger does not check: {problem:?}", site.pool));
            }
        }
        Ok(())
    }
}
