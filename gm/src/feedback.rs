//! SM4 with feedback widths that no library has (GB/T 17964, ISO/IEC 10116): cipher feedback of 1 bit and of whole bytes below
//! 128 bits, output feedback in both readings of the standards. The full widths and CFB8 are the libraries', see `mode.rs`.

use ctr::cipher::{BlockCipherEncrypt, KeyInit};

use crate::sm4::Key;

/// What is shifted into the register after each step.
#[derive(Clone, Copy)]
pub(crate) enum Fed {
    /// CFB while encrypting: what comes out is cipher text.
    Output,
    /// CFB while decrypting: what goes in is cipher text.
    Input,
    /// OFB of FIPS 81: only the key stream that was used.
    Stream,
    /// OFB of ISO/IEC 10116: the whole block, which replaces the register.
    Block,
}

struct Register {
    cipher: sm4::Sm4,
    value: u128,
    width_bits: u32,
    fed: Fed,
}

impl Register {
    /// Takes the next `width_bits` of input, right-aligned, and gives as many of output.
    fn step(&mut self, input: u128) -> u128 {
        let mut block = self.value.to_be_bytes().into();
        self.cipher.encrypt_block(&mut block);
        let whole = u128::from_be_bytes(block.into());
        let stream = whole >> (128 - self.width_bits);
        let output = input ^ stream;
        let fed = match self.fed {
            Fed::Output => output,
            Fed::Input => input,
            Fed::Stream => stream,
            Fed::Block => {
                self.value = whole;
                return output;
            }
        };
        // A shift by all 128 bits leaves nothing of the old register.
        self.value = self.value.checked_shl(self.width_bits).unwrap_or(0) | fed;
        output
    }
}

/// Encrypts or decrypts `bytes` in place; `fed` says which. `width_bits` is 1 or a multiple of 8 up to 128. A last piece that
/// is shorter than the width takes the leftmost bits of the key stream.
pub(crate) fn apply(key: &Key, iv: &[u8; 16], width_bits: u8, fed: Fed, bytes: &mut [u8]) {
    let cipher = sm4::Sm4::new(key.as_bytes().into());
    let mut register = Register { cipher, value: u128::from_be_bytes(*iv), width_bits: u32::from(width_bits), fed };
    if width_bits == 1 {
        for byte in bytes {
            *byte = (0..8).rev().fold(0, |done, bit| {
                let output = register.step(u128::from((*byte >> bit) & 1));
                (done << 1) | u8::from(output == 1)
            });
        }
        return;
    }
    let width_bytes = usize::from(width_bits / 8).clamp(1, 16);
    for piece in bytes.chunks_mut(width_bytes) {
        let mut block = [0; 16];
        // Right-aligned; a short last piece is padded behind, where its output is cut off again.
        let start = 16 - width_bytes;
        for (place, byte) in block.iter_mut().skip(start).zip(piece.iter()) {
            *place = *byte;
        }
        let output = register.step(u128::from_be_bytes(block)).to_be_bytes();
        for (byte, place) in piece.iter_mut().zip(output.iter().skip(start)) {
            *byte = *place;
        }
    }
}
