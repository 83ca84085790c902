//! Merkle trees of RFC 6962 with SM3, as plain functions: roots, inclusion paths, consistency proofs, and the frontier that
//! lets a log of any size grow in flat memory. Nothing here knows blocks, entries or files.

use std::{convert::Infallible, fmt};

use hufu_gm::{Hash, sm3::sm3};

/// Leaf hash of `data`: `SM3(00 || data)`.
pub fn leaf(data: &[u8]) -> Hash {
    sm3(&[&[0], data])
}

/// Hash of an inner node: `SM3(01 || left || right)`.
pub fn node(left: &Hash, right: &Hash) -> Hash {
    sm3(&[&[1], left, right])
}

/// Root of a tree with no leaves: `SM3("")`.
pub fn empty_root() -> Hash {
    sm3(&[])
}

/// One step of an inclusion path: the sibling's hash and the side on which it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathStep {
    /// True when the sibling stands on the left (`L`), false on the right (`R`).
    pub left: bool,
    /// The sibling's hash.
    pub hash: Hash,
}

/// The text form: `L <hex>` or `R <hex>`.
impl fmt::Display for PathStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.left { "L " } else { "R " })?;
        self.hash.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A path as text, one step a line, each ended by a line feed.
pub fn path_to_text(path: &[PathStep]) -> String {
    path.iter().map(|step| format!("{step}\n")).collect()
}

/// Reads what [`path_to_text`] wrote; anything else, upper-case digits too, is `None`.
pub fn path_from_text(text: &str) -> Option<Vec<PathStep>> {
    if !text.is_empty() && !text.ends_with('\n') {
        return None;
    }
    text.lines().map(step_from_text).collect::<Option<Vec<_>>>().filter(|path| path_to_text(path) == text)
}

fn step_from_text(line: &str) -> Option<PathStep> {
    let (side, digits) = line.split_once(' ')?;
    let left = match side {
        "L" => true,
        "R" => false,
        _ => return None,
    };
    if digits.len() != 64 || !digits.is_ascii() {
        return None;
    }
    let mut hash = [0; 32];
    for (place, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * place..2 * place + 2)?, 16).ok()?;
    }
    Some(PathStep { left, hash })
}

/// Follows a path from a leaf hash to the root it leads to.
pub fn walk(leaf: &Hash, path: &[PathStep]) -> Hash {
    path.iter().fold(*leaf, |hash, step| if step.left { node(&step.hash, &hash) } else { node(&hash, &step.hash) })
}

/// Root over leaf hashes.
pub fn root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => empty_root(),
        [only] => *only,
        _ => {
            let (left, right) = leaves.split_at(split_len(leaves.len()));
            node(&root(left), &root(right))
        }
    }
}

fn split_len(count: usize) -> usize {
    1 << (usize::BITS - 1 - (count - 1).leading_zeros())
}

/// The largest power of two below `count`; `count` is at least 2.
fn split(count: u64) -> u64 {
    1 << (u64::BITS - 1 - (count - 1).leading_zeros())
}

/// Inclusion path of leaf `index`, from the leaf up; `None` when there is no such leaf.
pub fn path(leaves: &[Hash], index: usize) -> Option<Vec<PathStep>> {
    let (index, count) = (u64::try_from(index).ok()?, u64::try_from(leaves.len()).ok()?);
    if index >= count {
        return None;
    }
    let Ok(path) = path_by(index, count, &mut |level, place| read_slice(leaves, level, place));
    Some(path)
}

/// Consistency proof from the tree of the first `size` leaves to the tree of all; `None` when `size` is larger.
pub fn consistency(leaves: &[Hash], size: usize) -> Option<Vec<Hash>> {
    let (size, count) = (u64::try_from(size).ok()?, u64::try_from(leaves.len()).ok()?);
    if size > count {
        return None;
    }
    let Ok(proof) = consistency_by(size, count, &mut |level, place| read_slice(leaves, level, place));
    Some(proof)
}

fn read_slice(leaves: &[Hash], level: u32, place: u64) -> Result<Hash, Infallible> {
    let width = 1_usize << level;
    let from = usize::try_from(place).map_or(usize::MAX, |place| place.saturating_mul(width));
    Ok(root(leaves.get(from..from.saturating_add(width)).unwrap_or_default()))
}

/// Root of the first `count` leaves, read from stored nodes: `read(level, place)` gives the node that covers the leaves
/// `place * 2^level ..` of a complete subtree.
///
/// # Errors
/// Whatever `read` gives.
pub fn root_by<E>(count: u64, read: &mut impl FnMut(u32, u64) -> Result<Hash, E>) -> Result<Hash, E> {
    if count == 0 { Ok(empty_root()) } else { subtree_by(0, count, read) }
}

fn subtree_by<E>(from: u64, count: u64, read: &mut impl FnMut(u32, u64) -> Result<Hash, E>) -> Result<Hash, E> {
    if count.is_power_of_two() {
        let level = count.trailing_zeros();
        return read(level, from >> level);
    }
    let left = split(count);
    Ok(node(&subtree_by(from, left, read)?, &subtree_by(from + left, count - left, read)?))
}

/// Inclusion path of leaf `index < count`, read from stored nodes; see [`root_by`].
///
/// # Errors
/// Whatever `read` gives.
pub fn path_by<E>(
    mut index: u64,
    mut count: u64,
    read: &mut impl FnMut(u32, u64) -> Result<Hash, E>,
) -> Result<Vec<PathStep>, E> {
    let (mut from, mut path) = (0, Vec::new());
    while count > 1 {
        let half = split(count);
        if index < half {
            path.push(PathStep { left: false, hash: subtree_by(from + half, count - half, read)? });
            count = half;
        } else {
            path.push(PathStep { left: true, hash: subtree_by(from, half, read)? });
            (from, index, count) = (from + half, index - half, count - half);
        }
    }
    path.reverse();
    Ok(path)
}

/// Consistency proof from `size` to `count >= size` leaves (RFC 6962 section 2.1.2), read from stored nodes; see
/// [`root_by`]. Empty when `size` is 0 or `count`.
///
/// # Errors
/// Whatever `read` gives.
pub fn consistency_by<E>(
    mut size: u64,
    mut count: u64,
    read: &mut impl FnMut(u32, u64) -> Result<Hash, E>,
) -> Result<Vec<Hash>, E> {
    let (mut from, mut whole, mut proof) = (0, true, Vec::new());
    if size == 0 {
        return Ok(proof);
    }
    while size != count {
        let half = split(count);
        if size <= half {
            proof.push(subtree_by(from + half, count - half, read)?);
            count = half;
        } else {
            proof.push(subtree_by(from, half, read)?);
            (from, size, count, whole) = (from + half, size - half, count - half, false);
        }
    }
    if !whole {
        proof.push(subtree_by(from, count, read)?);
    }
    proof.reverse();
    Ok(proof)
}

/// True when `path` leads from `leaf` at place `index` of a tree of `count` leaves to `root`. The sides must be the ones
/// that this place has, so a path proves the place too.
#[must_use]
pub fn verify_path(leaf: &Hash, mut index: u64, mut count: u64, path: &[PathStep], root: &Hash) -> bool {
    if index >= count {
        return false;
    }
    for step in path.iter().rev() {
        if count < 2 {
            return false;
        }
        let half = split(count);
        if step.left != (index >= half) {
            return false;
        }
        if step.left {
            (index, count) = (index - half, count - half);
        } else {
            count = half;
        }
    }
    count == 1 && walk(leaf, path) == *root
}

/// True when `proof` shows that the tree of `size` leaves with `root_then` is the beginning of the tree of `count` leaves
/// with `root_now` (RFC 9162 section 2.1.4.2). From size 0 everything follows, if `root_then` is the empty root.
#[must_use]
pub fn verify_consistency(size: u64, count: u64, proof: &[Hash], root_then: &Hash, root_now: &Hash) -> bool {
    if size == 0 || size >= count {
        let same = size == count && root_then == root_now;
        return proof.is_empty() && (same || (size == 0 && *root_then == empty_root()));
    }
    let (mut then_at, mut now_at) = (size - 1, count - 1);
    while then_at & 1 == 1 {
        (then_at, now_at) = (then_at >> 1, now_at >> 1);
    }
    let mut steps = proof.iter();
    // When the old tree is complete its root is the first node, and the proof leaves it out.
    let first = if size.is_power_of_two() { Some(root_then) } else { steps.next() };
    let Some(first) = first else { return false };
    let (mut then, mut now) = (*first, *first);
    for step in steps {
        if now_at == 0 {
            return false;
        }
        if then_at & 1 == 1 || then_at == now_at {
            then = node(step, &then);
            now = node(step, &now);
            while then_at & 1 == 0 && then_at != 0 {
                (then_at, now_at) = (then_at >> 1, now_at >> 1);
            }
        } else {
            now = node(&now, step);
        }
        (then_at, now_at) = (then_at >> 1, now_at >> 1);
    }
    now_at == 0 && then == *root_then && now == *root_now
}

/// The roots of the complete subtrees along the right edge: all that appending needs, at most 64 hashes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Hash>,
}

impl Frontier {
    /// The frontier of the first `size` leaves, read from stored nodes; see [`root_by`].
    ///
    /// # Errors
    /// Whatever `read` gives.
    pub fn read<E>(size: u64, read: &mut impl FnMut(u32, u64) -> Result<Hash, E>) -> Result<Self, E> {
        let mut peaks = Vec::new();
        let mut from = 0;
        for level in (0..u64::BITS).rev().filter(|level| size >> level & 1 == 1) {
            peaks.push(read(level, from >> level)?);
            from += 1 << level;
        }
        Ok(Self { size, peaks })
    }

    /// The frontier whose peaks are known, the largest subtree's first.
    pub(crate) fn from_peaks(size: u64, peaks: Vec<Hash>) -> Self {
        Self { size, peaks }
    }

    pub(crate) fn peaks(&self) -> &[Hash] {
        &self.peaks
    }

    /// Number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf hash and returns the nodes it completes, from the leaf up: the stored nodes, in their order.
    pub fn push(&mut self, leaf: Hash) -> Vec<Hash> {
        let mut completed = vec![leaf];
        let (mut top, mut rest) = (leaf, self.size);
        while rest & 1 == 1 {
            let Some(left) = self.peaks.pop() else { break };
            top = node(&left, &top);
            completed.push(top);
            rest >>= 1;
        }
        self.peaks.push(top);
        self.size = self.size.saturating_add(1);
        completed
    }

    /// The root.
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else { return empty_root() };
        peaks.fold(*last, |right, left| node(left, &right))
    }
}

/// How many nodes are stored for `size` leaves.
pub fn stored_count(size: u64) -> u64 {
    size.saturating_mul(2).saturating_sub(u64::from(size.count_ones()))
}

/// Where the node `(level, place)` stands among the stored nodes.
pub fn stored_place(level: u32, place: u64) -> u64 {
    // The node is completed by its last leaf; it stands `level` places behind that leaf.
    let width = 1_u64.checked_shl(level).unwrap_or(u64::MAX);
    let last_leaf = place.saturating_add(1).saturating_mul(width).saturating_sub(1);
    stored_count(last_leaf).saturating_add(u64::from(level))
}
