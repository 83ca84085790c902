//! Vectors made by Python and openssl (`testdata/make.py`): what they made, this code reads; and what this code makes from
//! the same entries is the same, byte for byte, but for the signature, which openssl draws by lot.

use std::path::PathBuf;

use hufu_gm::{Hash, Signed, sm2::PublicKey};
use hufu_ledger::{
    Block, Error, Expected, Ledger, Log, NO_KEY, NewBlock, NewEntry, block::NO_PARENT, block_hash, merkle,
    verify_block, verify_checkpoint,
};

use crate::common::{ID, QUALITY, options, signer};

fn file(name: &str) -> (String, String) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name);
    let text = std::fs::read_to_string(path).unwrap();
    let (head, body) = text.split_once("\n\n").unwrap();
    let expect = head.lines().next().unwrap().strip_prefix("expect: ").unwrap().to_owned();
    (expect, body.to_owned())
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|two| u8::from_str_radix(str::from_utf8(two).unwrap(), 16).unwrap()).collect()
}

fn vector(name: &str) -> (String, Vec<u8>) {
    let (expect, body) = file(name);
    (expect, from_hex(&body))
}

fn hash(name: &str) -> Hash {
    let (_, body) = file("hashes.txt");
    let line = body.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    from_hex(line).try_into().unwrap()
}

/// The last 65 bytes of a SubjectPublicKeyInfo for SM2 are the point.
fn openssl_key() -> PublicKey {
    let pem = std::fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/public.pem")).unwrap();
    let (_, der) = der::Document::from_pem(&pem).unwrap();
    PublicKey::from_sec1(&der.as_bytes()[der.as_bytes().len() - 65..]).unwrap()
}

fn verify(name: &str, height: u64, previous: Hash) -> (String, Result<Block, Error>) {
    let (expect, bytes) = vector(name);
    let expected = Expected { log: Log::Finance, node: "node-1", height, previous };
    (expect, verify_block(&bytes, &openssl_key(), &expected))
}

#[test]
fn blocks_made_by_openssl_are_good() {
    let first = verify("block-0.txt", 0, NO_PARENT).1.unwrap();
    let second = verify("block-1.txt", 1, first.hash()).1.unwrap();
    assert_eq!(first.hash(), hash("block-1-0"));
    assert_eq!(second.hash(), hash("block-1-1"));
    assert_eq!(first.entry_ref(2).unwrap().hash, hash("entry-1-0-2"));
    assert_eq!(first.entry_path(2).unwrap(), [merkle::PathStep { left: true, hash: hash("path-1-0-2") }]);
    for (name, block) in [("block-0.txt", &first), ("block-1.txt", &second)] {
        assert_eq!(block.to_bytes().unwrap(), vector(name).1, "{name}");
    }
    let leaves = [merkle::leaf(&first.hash()), merkle::leaf(&second.hash())];
    assert_eq!(merkle::root(&leaves), hash("root-1-2"));
}

#[test]
fn what_we_make_is_what_openssl_made() {
    let dir = tempfile::tempdir().unwrap();
    Ledger::create(dir.path(), &options(), ID).unwrap();
    let (mut ledger, _) = Ledger::open(dir.path(), &options()).unwrap();
    let blocks = [("first", 3, 7), ("second", 5, 65535)];
    for (number, (word, count, kind)) in (0..).zip(blocks) {
        let kind_of = |index| if number == 0 { kind + index } else { kind };
        let body = |index| format!("{word} {index}").into_bytes();
        let entries =
            (0..count).map(|index| NewEntry { kind: kind_of(index), body: body(index), key: NO_KEY, sealed: false });
        let block = NewBlock { log: Log::Finance, entries: entries.collect() };
        ledger.append(&[block], &signer(), 0, 1_700_000_000_000_000_000 + number, QUALITY).unwrap();
    }
    for (height, name) in [(0, "block-0.txt"), (1, "block-1.txt")] {
        let ours = Block::from_bytes(&ledger.block(Log::Finance, height).unwrap()).unwrap();
        let theirs = Block::from_bytes(&vector(name).1).unwrap();
        assert_eq!(ours.signed().tbs(), theirs.signed().tbs(), "{name}");
        assert_eq!(ours.entries(), theirs.entries(), "{name}");
        assert_eq!(ours.hash(), block_hash(theirs.signed().tbs()));
    }
    assert_eq!(ledger.root(Log::Finance), hash("root-1-2"));
}

#[test]
fn our_own_signature_is_the_one_that_openssl_verified() {
    let dir = tempfile::tempdir().unwrap();
    Ledger::create(dir.path(), &options(), ID).unwrap();
    let (mut ledger, _) = Ledger::open(dir.path(), &options()).unwrap();
    let body = |index| format!("first {index}").into_bytes();
    let entries =
        (0..3).map(|index| NewEntry { kind: 7 + index, body: body(index), key: NO_KEY, sealed: false }).collect();
    let block = NewBlock { log: Log::Finance, entries };
    let appended = ledger.append(&[block], &signer(), 0, 1_700_000_000_000_000_000, QUALITY).unwrap();
    assert_eq!(appended[0].bytes, vector("ours.txt").1);
}

#[test]
fn every_bad_block_is_refused_for_its_own_reason() {
    let parent = hash("block-1-0");
    for name in [
        "wrong-parent.txt",
        "wrong-root.txt",
        "wrong-count.txt",
        "no-entries.txt",
        "wrong-height.txt",
        "other-log.txt",
        "other-node.txt",
        "version.txt",
        "bad-signature.txt",
        "malformed-signature.txt",
        "too-many-entries.txt",
        "too-many-bytes.txt",
        "trailing-byte.txt",
        "long-length.txt",
        "entry-not-der.txt",
    ] {
        match verify(name, 1, parent) {
            (expect, Err(Error::Refused { fault, .. })) => assert_eq!(fault.to_string(), expect, "{name}"),
            (expect, other) => panic!("{name}: {expect} expected, found {other:?}"),
        }
    }
}

#[test]
fn a_checkpoint_signed_by_openssl_is_good() {
    let (_, bytes) = vector("checkpoint.txt");
    let signed = Signed::from_bytes(&bytes).unwrap();
    let checkpoint = verify_checkpoint(&signed, &openssl_key()).unwrap();
    assert_eq!((checkpoint.log, checkpoint.size, checkpoint.time), (Log::Finance, 2, 42));
    assert_eq!(checkpoint.root, hash("root-1-2"));
    assert_eq!(signed.tbs(), checkpoint.to_bytes().unwrap());
}
