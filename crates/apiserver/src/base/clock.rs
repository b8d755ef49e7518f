//! Time and randomness, handed in so that a simulation controls both.
//!
//! In:    the caller's clock; a seed, or the system's randomness
//! Out:   timestamps, UIDs, suffixes of generated names
//! Calls: `registry`, and everything that makes names or timestamps
//! Holds: with a seed, the same calls give the same values
//! Upstream: k8s.io/utils/clock, k8s.io/apimachinery/pkg/util/{uuid,rand}; differences: none

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use kubelet_model::dice::Dice;
use ring::rand::SecureRandom as _;

/// Returns the wall-clock time.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The source of randomness.
#[derive(Debug)]
pub enum Chance {
    /// The system's random generator.
    System,
    /// A seed, for simulations.
    Seeded(Mutex<Dice>),
}

/// Upstream's alphabet for generated names: without vowels, so that no words appear.
const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

impl Chance {
    /// A source with this seed.
    pub fn seeded(seed: u64) -> Self {
        Self::Seeded(Mutex::new(Dice::new(seed)))
    }

    /// 64 random bits.
    pub(crate) fn bits(&self) -> u64 {
        match self {
            Self::System => {
                let mut bytes = [0; 8];
                // The system's random generator does not run out. If it fails, zeros still make a valid name, which is refused
                // if it is taken.
                let _filled = ring::rand::SystemRandom::new().fill(&mut bytes);
                u64::from_le_bytes(bytes)
            }
            Self::Seeded(dice) => {
                let mut dice = dice.lock().unwrap_or_else(PoisonError::into_inner);
                dice.bits()
            }
        }
    }

    /// A random UUID.
    pub(crate) fn uid(&self) -> String {
        let high = (self.bits() & 0xffff_ffff_ffff_0fff) | 0x4000;
        let low = (self.bits() & 0x3fff_ffff_ffff_ffff) | 0x8000_0000_0000_0000;
        format!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xffff,
            low >> 48,
            low & 0xffff_ffff_ffff
        )
    }

    /// Five letters of the alphabet.
    pub(crate) fn suffix(&self) -> String {
        let mut bits = self.bits();
        let letters = (0..5).map(|_| {
            let place = usize::try_from(bits % 27).unwrap_or(0);
            bits /= 27;
            char::from(LETTERS.get(place).copied().unwrap_or(b'b'))
        });
        letters.collect()
    }
}
