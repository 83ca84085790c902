//! Prints the CPU time of one SM2 verification of 300 bytes, in ns: the median of rounds. Reads no clock of its own: the kernel's
//! book of this process.

use hufu_gm::sm2::SecretKey;

const ROUNDS: usize = 21;
const VERIFICATIONS: u64 = 100;

fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let key = SecretKey::from_scalar(&[7; 32])?;
    let message = [42; 300];
    let signature = key.sign(&message)?;
    let public = key.public_key();
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let before = cpu_ns();
        let valid = (0..VERIFICATIONS).filter(|_| public.verify(&message, &signature).is_valid()).count();
        assert_eq!(valid as u64, VERIFICATIONS);
        rounds.push((cpu_ns() - before) / VERIFICATIONS);
    }
    rounds.sort_unstable();
    println!("{}", rounds[ROUNDS / 2]);
    Ok(())
}
