//! The tests of `trade`: golden files against the real `openssl`, strictness of every decoder, money, rating, the contract,
//! the rule table and IF2. What needs no more than one file lives beside the code.

#[cfg(test)]
mod commands;
#[cfg(test)]
mod contract;
#[cfg(test)]
mod correction;
#[cfg(test)]
mod dice;
#[cfg(test)]
mod dice_kinds;
#[cfg(test)]
mod envelope;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod golden_after;
#[cfg(test)]
mod golden_kinds;
#[cfg(test)]
mod golden_parts;
#[cfg(test)]
mod golden_peers;
#[cfg(test)]
mod golden_test;
#[cfg(test)]
mod kinds;
#[cfg(test)]
mod life;
#[cfg(test)]
mod notice;
#[cfg(test)]
mod openssl;
#[cfg(test)]
mod parties;
#[cfg(test)]
mod period;
#[cfg(test)]
mod prepaid;
#[cfg(test)]
mod rating;
#[cfg(test)]
mod reconciliation;
#[cfg(test)]
mod statement;
#[cfg(test)]
mod strict;
#[cfg(test)]
mod tables;
#[cfg(test)]
mod usage;
#[cfg(test)]
mod wire;
