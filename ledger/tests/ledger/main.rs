//! Tests of the ledger from outside, in one binary. What a node does with a ledger is tested with the agent.

#[cfg(test)]
mod archives;
#[cfg(test)]
mod blocks;
#[cfg(test)]
mod checks;
#[cfg(test)]
mod common;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod faulty;
#[cfg(test)]
mod full;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod inject;
#[cfg(test)]
mod journal;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod kill;
#[cfg(test)]
mod proofs;
#[cfg(test)]
mod sealing;
#[cfg(test)]
mod states;
