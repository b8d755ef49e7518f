//! FNV-1a in the two widths that names are made of.
//!
//! In: bytes, in any number of pieces. Out: the hash of all of them. Called by `identity.rs` only.
//! The constants are those of the published algorithm; there is no seed, so a hash is the same on every machine.
//!
//! Upstream: none (Go's standard library has both)

/// FNV-1a, 128 bits.
pub(super) struct Fnv128a(u128);

impl Default for Fnv128a {
    fn default() -> Self {
        Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }
}

impl Fnv128a {
    pub(super) fn write(&mut self, bytes: &[u8]) {
        const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
        for byte in bytes {
            self.0 = (self.0 ^ u128::from(*byte)).wrapping_mul(PRIME);
        }
    }

    pub(super) fn finish(&self) -> u128 {
        self.0
    }
}

/// FNV-1a, 32 bits.
pub(super) struct Fnv32a(u32);

impl Default for Fnv32a {
    fn default() -> Self {
        Self(0x811c_9dc5)
    }
}

impl Fnv32a {
    pub(super) fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    }

    pub(super) fn finish(&self) -> u32 {
        self.0
    }
}
