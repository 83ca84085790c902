//! Verification under keys that are seen again and again: tables of multiples of the generator and of one public key, so that a
//! check is 86 additions of points and no doubling. The platform and audits use it; who has few signatures of a key does not
//! need it.
//!
//! **Variable time.** Everything here branches and indexes by its numbers, which are public: signature, digest, public key. A
//! secret key, a nonce or a plain text must never come near this file; `sm2.rs` does what has secrets.

use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex, PoisonError},
};

use sm2::{
    AffinePoint, FieldBytes, Scalar, Sm2,
    elliptic_curve::{PrimeField, hazmat::FieldArithmetic, ops::Reduce, point::AffineCoordinates},
};

use crate::{
    cert::Certificate,
    sm2::{PublicKey, Verdict},
    sm3::Hash,
};

type Field = <Sm2 as FieldArithmetic>::FieldElement;

const WINDOW_BITS: usize = 6;
/// Windows of a number of 256 bits; the last one has 4 bits of it, which leaves room for the carry.
const WINDOWS: usize = 43;
/// Digits are -32..=32, so that 32 multiples serve both signs.
const MULTIPLES: usize = 1 << (WINDOW_BITS - 1);
/// What one table keeps in memory, bytes: 86 KiB.
pub const TABLE_BYTES: usize = WINDOWS * MULTIPLES * size_of::<Affine>();

#[derive(Clone, Copy)]
struct Affine {
    x: Field,
    y: Field,
}

impl Affine {
    fn of(point: &AffinePoint) -> Option<Self> {
        let field = |bytes: FieldBytes| Option::<Field>::from(Field::from_repr(bytes));
        Some(Self { x: field(point.x())?, y: field(point.y())? })
    }
}

/// A point (X / Z^2, Y / Z^3); Z = 0 is the point at infinity.
#[derive(Clone, Copy)]
struct Jacobian {
    x: Field,
    y: Field,
    z: Field,
}

impl Jacobian {
    const INFINITY: Self = Self { x: Field::ONE, y: Field::ONE, z: Field::ZERO };

    fn is_infinity(&self) -> bool {
        self.z == Field::ZERO
    }

    /// Twice the point (a = -3; 3 multiplications, 5 squarings).
    fn double(&self) -> Self {
        let delta = self.z.square();
        let gamma = self.y.square();
        let beta = self.x * gamma;
        let slope = (self.x - delta) * (self.x + delta);
        let slope = slope.double() + slope;
        let beta4 = beta.double().double();
        let x = slope.square() - beta4.double();
        let z = (self.y + self.z).square() - gamma - delta;
        let y = slope * (beta4 - x) - gamma.square().double().double().double();
        Self { x, y, z }
    }

    /// The point plus one of a table (8 multiplications, 3 squarings).
    fn add(&self, other: &Affine) -> Self {
        if self.is_infinity() {
            return Self { x: other.x, y: other.y, z: Field::ONE };
        }
        let zz = self.z.square();
        let h = other.x * zz - self.x;
        let r = other.y * self.z * zz - self.y;
        if h == Field::ZERO {
            // The same x: the same point, or its opposite.
            return if r == Field::ZERO { self.double() } else { Self::INFINITY };
        }
        let hh = h.square();
        let hhh = h * hh;
        let v = self.x * hh;
        let x = r.square() - hhh - v.double();
        let y = r * (v - x) - self.y * hhh;
        Self { x, y, z: self.z * h }
    }
}

/// Multiples of one point: for each window w, 1..=32 times 64^w times the point.
pub(crate) struct Table(Vec<Affine>);

impl Table {
    /// The table of `point`. `None` never in practice: the point is one of the curve other than infinity, whose order is prime, so
    /// no multiple in the table is infinity.
    pub(crate) fn of(point: &AffinePoint) -> Option<Self> {
        let mut base = Affine::of(point)?;
        let mut made = Vec::with_capacity(WINDOWS * MULTIPLES);
        for _ in 0..WINDOWS {
            let mut rows = Vec::with_capacity(MULTIPLES + 1);
            let mut multiple = Jacobian { x: base.x, y: base.y, z: Field::ONE };
            for _ in 0..MULTIPLES {
                rows.push(multiple);
                multiple = multiple.add(&base);
            }
            // 64 times the base is twice its 32-fold.
            rows.push(rows.last()?.double());
            let rows = normalise(&rows)?;
            let (next, kept) = rows.split_last()?;
            made.extend_from_slice(kept);
            base = *next;
        }
        Some(Self(made))
    }

    fn entry(&self, window: usize, multiple: usize) -> Option<&Affine> {
        self.0.get(window * MULTIPLES + multiple.checked_sub(1)?)
    }
}

/// Affine coordinates of points none of which is at infinity, with one inversion for all.
fn normalise(points: &[Jacobian]) -> Option<Vec<Affine>> {
    let mut products = Vec::with_capacity(points.len());
    let mut product = Field::ONE;
    for point in points {
        products.push(product);
        product *= point.z;
    }
    let mut inverse = Option::<Field>::from(product.invert())?;
    let mut out = Vec::with_capacity(points.len());
    for (point, before) in points.iter().zip(products).rev() {
        let own = inverse * before;
        inverse *= point.z;
        let square = own.square();
        out.push(Affine { x: point.x * square, y: point.y * square * own });
    }
    out.reverse();
    Some(out)
}

/// The digits of a scalar to the base 64, each in -31..=32, lowest first.
fn digits(scalar: &Scalar) -> [i8; WINDOWS] {
    let bytes = scalar.to_repr();
    let bit = |index: usize| {
        let byte = bytes.iter().rev().nth(index / 8).copied().unwrap_or(0);
        (byte >> (index % 8)) & 1
    };
    let mut carry = 0_i8;
    let mut out = [0; WINDOWS];
    for (window, digit) in out.iter_mut().enumerate() {
        let raw =
            (0..WINDOW_BITS).rev().fold(0_i8, |sum, place| sum * 2 + bit(window * WINDOW_BITS + place).cast_signed());
        let value = raw + carry;
        (*digit, carry) = if value > 32 { (value - 64, 1) } else { (value, 0) };
    }
    out
}

/// Adds `scalar` times the table's point to `sum`.
fn add_multiple(sum: Jacobian, table: &Table, scalar: &Scalar) -> Option<Jacobian> {
    let mut sum = sum;
    for (window, digit) in digits(scalar).into_iter().enumerate() {
        if digit == 0 {
            continue;
        }
        let entry = table.entry(window, usize::from(digit.unsigned_abs()))?;
        sum = if digit > 0 { sum.add(entry) } else { sum.add(&Affine { x: entry.x, y: -entry.y }) };
    }
    Some(sum)
}

static GENERATOR: LazyLock<Option<Table>> = LazyLock::new(|| Table::of(&AffinePoint::GENERATOR));

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Table(..)")
    }
}

impl Table {
    /// GB/T 32918.2 7.1, steps B4 to B7; B1 and B2 were done by whoever parsed the signature.
    /// `None` never in practice.
    pub(crate) fn holds(&self, digest: &Hash, signature: &sm2::dsa::Signature) -> Option<bool> {
        let (r, s) = (*signature.r(), *signature.s());
        let t = r + s;
        if t == Scalar::ZERO {
            return Some(false);
        }
        let sum = add_multiple(Jacobian::INFINITY, GENERATOR.as_ref()?, &s)?;
        let sum = add_multiple(sum, self, &t)?;
        if sum.is_infinity() {
            return Some(false);
        }
        // x1 = r - e modulo n, and x1 < p: so x1 is that number or, where it fits below p, n more. Comparing X with x1 Z^2
        // saves the inversion.
        let wanted = r - Scalar::reduce(&FieldBytes::from(*digest));
        let zz = sum.z.square();
        let equals =
            |bytes: FieldBytes| Option::<Field>::from(Field::from_repr(bytes)).is_some_and(|x| x * zz == sum.x);
        let bytes = wanted.to_repr();
        Some(equals(bytes) || plus_n(&bytes.into()).is_some_and(|more| equals(more.into())))
    }
}

/// The order of the group.
const N: [u8; 32] = [
    0xff, 0xff, 0xff, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x72, 0x03, 0xdf,
    0x6b, 0x21, 0xc6, 0x05, 0x2b, 0x53, 0xbb, 0xf4, 0x09, 0x39, 0xd5, 0x41, 0x23,
];

/// The number plus n, if it has no more than 256 bits.
fn plus_n(number: &Hash) -> Option<Hash> {
    let mut out = [0; 32];
    let mut carry = 0_u16;
    for ((place, left), right) in out.iter_mut().zip(number).zip(N).rev() {
        let sum = u16::from(*left) + u16::from(right) + carry;
        *place = sum.to_be_bytes()[1];
        carry = sum >> 8;
    }
    if carry == 0 { Some(out) } else { None }
}

/// How often a key must be seen before a table is worth its making.
const SEEN_MIN: u32 = 8;

/// Tables of the keys that come again, never more than a limit of them: the one that was not used for longest gives way.
#[derive(Debug)]
pub struct KnownKeys {
    limit: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// Point -> how often it was seen, when last, and its table from [`SEEN_MIN`] on.
    keys: HashMap<Vec<u8>, Seen>,
    clock: u64,
}

#[derive(Debug)]
struct Seen {
    count: u32,
    last: u64,
    known: Option<PublicKey>,
}

impl KnownKeys {
    /// Keeps at most `limit` keys, of which each takes [`TABLE_BYTES`] once it has a table.
    pub fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), kept: Mutex::default() }
    }

    /// Checks a signature as [`PublicKey::verify`] does, by the key's table if it has one or has come often enough.
    pub fn verify(&self, key: &PublicKey, message: &[u8], signature: &[u8]) -> Verdict {
        self.with_table(key).as_ref().unwrap_or(key).verify(message, signature)
    }

    /// Counts the key of a certificate, and gives the certificate with a table for it if it has one or has come often enough.
    #[must_use]
    pub fn equip(&self, certificate: Certificate) -> Certificate {
        match self.with_table(certificate.public_key()) {
            Some(known) => certificate.with_key(known),
            None => certificate,
        }
    }

    /// Counts the key, and gives it with its table if it has one or has come often enough.
    pub fn with_table(&self, key: &PublicKey) -> Option<PublicKey> {
        let point = key.to_sec1();
        // A panic of another thread in here cannot leave the counts half-written.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clock += 1;
        let clock = kept.clock;
        if !kept.keys.contains_key(&point) && kept.keys.len() >= self.limit {
            let oldest = kept.keys.iter().min_by_key(|(_, seen)| seen.last).map(|(point, _)| point.clone());
            oldest.and_then(|point| kept.keys.remove(&point));
        }
        let seen = kept.keys.entry(point).or_insert(Seen { count: 0, last: clock, known: None });
        seen.count = seen.count.saturating_add(1);
        seen.last = clock;
        if seen.known.is_none() && seen.count >= SEEN_MIN {
            seen.known = Some(key.with_table());
        }
        seen.known.clone()
    }
}
