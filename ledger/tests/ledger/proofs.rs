//! Merkle proofs: every tree to 256 leaves, every leaf, every pair of sizes, against a second implementation written from
//! the RFC's recursive definitions.

use hufu_gm::{Hash, sm3::sm3};
use hufu_ledger::merkle::{
    Frontier, PathStep, consistency, consistency_by, empty_root, leaf, node, path, path_by, path_from_text,
    path_to_text, root, root_by, stored_count, stored_place, verify_consistency, verify_path, walk,
};

const SIZE_MAX: usize = 256;

fn leaves() -> Vec<Hash> {
    (0..SIZE_MAX).map(|number| leaf(&number.to_be_bytes())).collect()
}

/// RFC 6962 section 2.1, word for word.
fn rfc_root(leaves: &[Hash]) -> Hash {
    match leaves.len() {
        0 => sm3(&[]),
        1 => leaves[0],
        n => {
            let k = (1..n).filter(|k| k.is_power_of_two()).max().unwrap();
            sm3(&[&[1], &rfc_root(&leaves[..k]), &rfc_root(&leaves[k..])])
        }
    }
}

/// RFC 6962 section 2.1.2, word for word.
fn rfc_subproof(m: usize, leaves: &[Hash], whole: bool) -> Vec<Hash> {
    let n = leaves.len();
    if m == n {
        return if whole { Vec::new() } else { vec![root(leaves)] };
    }
    let k = (1..n).filter(|k| k.is_power_of_two()).max().unwrap();
    if m <= k {
        let mut proof = rfc_subproof(m, &leaves[..k], whole);
        proof.push(root(&leaves[k..]));
        proof
    } else {
        let mut proof = rfc_subproof(m - k, &leaves[k..], false);
        proof.push(root(&leaves[..k]));
        proof
    }
}

struct Stored {
    nodes: Vec<Hash>,
}

impl Stored {
    fn read(&self, level: u32, place: u64) -> Result<Hash, u64> {
        let at = stored_place(level, place);
        self.nodes.get(usize::try_from(at).unwrap()).copied().ok_or(at)
    }
}

fn grown() -> (Stored, Vec<Frontier>) {
    let mut frontier = Frontier::default();
    let (mut nodes, mut frontiers) = (Vec::new(), vec![frontier.clone()]);
    for leaf in leaves() {
        nodes.extend(frontier.push(leaf));
        frontiers.push(frontier.clone());
    }
    (Stored { nodes }, frontiers)
}

#[test]
fn every_root_is_the_rfc_s_and_the_frontier_s_and_the_stored_nodes() {
    let (stored, frontiers) = grown();
    let leaves = leaves();
    for size in 0..=SIZE_MAX {
        let wanted = rfc_root(&leaves[..size]);
        let count = size as u64;
        assert_eq!(root(&leaves[..size]), wanted);
        assert_eq!(frontiers[size].root(), wanted);
        assert_eq!(root_by(count, &mut |level, place| stored.read(level, place)), Ok(wanted));
        assert_eq!(Frontier::read(count, &mut |level, place| stored.read(level, place)), Ok(frontiers[size].clone()));
    }
    assert_eq!(stored_count(SIZE_MAX as u64), stored.nodes.len() as u64);
    assert_eq!(empty_root(), root(&[]));
}

#[test]
fn every_path_of_every_tree_to_256_proves_its_leaf_and_no_other_place() {
    let (stored, frontiers) = grown();
    let leaves = leaves();
    for size in 1..=SIZE_MAX {
        let root = frontiers[size].root();
        let count = size as u64;
        for index in 0..size {
            let place = index as u64;
            let path = path_by(place, count, &mut |level, place| stored.read(level, place)).unwrap();
            assert!(verify_path(&leaves[index], place, count, &path, &root), "{index} of {size}");
            assert!(!verify_path(&leaves[index], place + 1, count, &path, &root) || size == 1, "{index} of {size}");
            assert!(!verify_path(&node(&root, &root), place, count, &path, &root));
            if size <= 40 {
                assert_eq!(hufu_ledger::merkle::path(&leaves[..size], index).unwrap(), path);
            }
        }
        assert_eq!(path(&leaves[..size], size), None);
    }
}

#[test]
fn every_consistency_proof_to_256_is_the_rfc_s_and_holds_and_no_other_does() {
    let (stored, frontiers) = grown();
    let leaves = leaves();
    let roots: Vec<Hash> = frontiers.iter().map(Frontier::root).collect();
    for count in 0..=SIZE_MAX {
        for size in 0..=count {
            let (m, n) = (size as u64, count as u64);
            let proof = consistency_by(m, n, &mut |level, place| stored.read(level, place)).unwrap();
            if size > 0 && count <= 40 {
                assert_eq!(proof, rfc_subproof(size, &leaves[..count], true), "{size} of {count}");
                assert_eq!(consistency(&leaves[..count], size).unwrap(), proof);
            }
            assert!(verify_consistency(m, n, &proof, &roots[size], &roots[count]), "{size} of {count}");
            if size != count {
                let other = leaf(b"other");
                assert!(!verify_consistency(m, n, &proof, &other, &roots[count]), "{size} of {count}: old root");
                assert!(size == 0 || !verify_consistency(m, n, &proof, &roots[size], &other), "{size} of {count}");
            }
            let mut longer = proof.clone();
            longer.push(leaf(b"more"));
            assert!(!verify_consistency(m, n, &longer, &roots[size], &roots[count]));
            if let Some((_, shorter)) = proof.split_last() {
                assert!(!verify_consistency(m, n, shorter, &roots[size], &roots[count]));
            }
        }
    }
    assert_eq!(consistency(&leaves[..3], 4), None);
}

#[test]
fn a_changed_path_proves_nothing() {
    let leaves = leaves();
    let (index, size) = (100, 201);
    let root = root(&leaves[..size]);
    let path = path(&leaves[..size], index).unwrap();
    for at in 0..path.len() {
        let mut turned = path.clone();
        turned[at].left = !turned[at].left;
        assert!(!verify_path(&leaves[index], 100, 201, &turned, &root));
        let mut changed = path.clone();
        changed[at].hash[31] ^= 1;
        assert!(!verify_path(&leaves[index], 100, 201, &changed, &root));
        let mut shorter = path.clone();
        shorter.remove(at);
        assert!(!verify_path(&leaves[index], 100, 201, &shorter, &root));
    }
    assert!(!verify_path(&leaves[index], u64::MAX - 1, u64::MAX, &path, &root));
}

#[test]
fn a_path_s_text_is_one_side_and_hash_a_line_and_has_one_form() {
    let steps = [PathStep { left: true, hash: [0xab; 32] }, PathStep { left: false, hash: [1; 32] }];
    let text = path_to_text(&steps);
    assert_eq!(text, format!("L {}\nR {}\n", "ab".repeat(32), "01".repeat(32)));
    assert_eq!(path_from_text(&text).unwrap(), steps);
    assert_eq!(path_from_text("").unwrap(), []);
    assert_eq!(walk(&[5; 32], &steps), node(&node(&[0xab; 32], &[5; 32]), &[1; 32]));
    for (name, bad) in [
        ("no line feed at the end", text.trim_end().to_owned()),
        ("upper case", text.to_uppercase()),
        ("a sign in the digits", text.replacen("L ab", "L +b", 1)),
        ("carriage returns", text.replace('\n', "\r\n")),
        ("another side", text.replacen('L', "M", 1)),
        ("an empty line", format!("\n{text}")),
        ("short", text.replacen("ab", "", 1)),
        ("a wide letter", text.replacen("ab", "é", 1)),
    ] {
        assert_eq!(path_from_text(&bad), None, "{name}");
    }
}
