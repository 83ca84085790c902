//! Stored modes of SM4: whatever is read is written as the same bytes, but for the one name that CFCA uses for CBC.
#![no_main]

use hufu_gm::{Mode, sm4::Key};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(mode) = Mode::from_der(data) else { return };
    let written = mode.to_der().expect("DER");
    assert!(written == data || matches!(mode, Mode::Cbc { .. }));
    assert_eq!(Mode::from_der(&written).expect("our own"), mode);
    let key = Key::from_bytes([7; 16]);
    let made = mode.encrypt(&key, data, &[]).expect("a cipher text");
    assert_eq!(mode.decrypt(&key, &made, &[]).expect("its plain text").as_slice(), data);
    let _ = mode.decrypt(&key, data, &[]);
});
