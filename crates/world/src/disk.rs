//! What goes wrong with the journal's disk: writes that fail while the kubelet runs, damage while it does not.
//!
//! In:    a seed, the journal's file
//! Out:   faults for the product's own writes; a damaged file, and whether records were lost with it
//! Calls: run
//! Holds: everything random comes from the seed; a torn last record is one whose write never returned, so nothing is lost by it
//! Upstream: none

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use kubelet_host::journal::disk_faults::{DiskCall, DiskFault, DiskFaults};
use kubelet_host::journal::record::{Body, Operation, encode};
use testkit::prng::Prng;

const ENOSPC: i32 = 28;
const EIO: i32 = 5;
/// Most bytes that the end of the machine takes from a journal that was never synced.
const LONGEST_LOSS: u64 = 4_000;

/// The disk of one world.
#[derive(Debug)]
pub struct Disk {
    random: Prng,
    /// Writes that fail, of 10,000.
    rate: u16,
    /// Ends of a kubelet with damage, of 10,000.
    damage: u16,
    is_full: bool,
    made: BTreeMap<&'static str, u64>,
}

/// Whether a damage may have taken whole records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Everything that was written is there.
    None,
    /// What was written may be gone, or an older version of it be back.
    Records,
}

impl Disk {
    /// A disk that is good in most worlds.
    pub fn new(seed: u64, is_bad: bool) -> Self {
        let mut random = Prng::stream(seed, "disk");
        let mut one_of = |rates: [u16; 4]| rates[crate::pods::at(&mut random, 4)];
        let (rate, damage) = if is_bad {
            (one_of([0, 100, 1_000, 4_000]), one_of([0, 0, 2_000, 6_000]))
        } else {
            (0, 0)
        };
        Self {
            random,
            rate,
            damage,
            is_full: false,
            made: BTreeMap::new(),
        }
    }

    /// Faults for the product's writes. The disk is asked at each.
    pub fn faults(disk: &Arc<Mutex<Self>>) -> DiskFaults {
        let disk = Arc::clone(disk);
        DiskFaults::new(move |call| {
            let mut disk = disk.lock().unwrap_or_else(PoisonError::into_inner);
            disk.decide(call)
        })
    }

    /// It fills up, or has room again.
    pub fn flip_full(&mut self) {
        self.is_full = !self.is_full;
        self.count("disk full");
    }

    /// Nothing goes wrong any more.
    pub fn make_good(&mut self) {
        (self.rate, self.damage, self.is_full) = (0, 0, false);
    }

    /// Faults made, by kind.
    pub fn made(&self) -> &BTreeMap<&'static str, u64> {
        &self.made
    }

    fn count(&mut self, kind: &'static str) {
        *self.made.entry(kind).or_default() += 1;
    }

    fn decide(&mut self, call: DiskCall) -> Option<DiskFault> {
        if !self.is_full && !self.random.chance(self.rate) {
            return None;
        }
        let errno = if self.is_full || self.random.chance(5_000) {
            ENOSPC
        } else {
            EIO
        };
        let written = match call {
            DiskCall::Append(bytes) => crate::pods::at(&mut self.random, bytes),
            // Room is not what a cut needs.
            DiskCall::Truncate if errno == ENOSPC => return None,
            DiskCall::Truncate | DiskCall::Compact => 0,
        };
        self.count(if errno == EIO {
            "journal EIO"
        } else {
            "journal ENOSPC"
        });
        Some(DiskFault { errno, written })
    }

    /// The kubelet has ended, or the whole machine with it: what is left of the journal.
    ///
    /// # Errors
    /// The simulated disk itself could not be written.
    pub fn damage(&mut self, journal: &Path, machine_ended: bool) -> std::io::Result<Loss> {
        if !journal.exists() || !self.random.chance(self.damage) {
            return Ok(Loss::None);
        }
        let length = std::fs::metadata(journal)?.len();
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(journal)?;
        match self.random.below(4) {
            // What was not synced is gone with the machine.
            0 | 1 if machine_ended => {
                self.count("journal tail lost");
                let lost = self.random.below(length.min(LONGEST_LOSS) + 1);
                file.set_len(length - lost)?;
                Ok(Loss::Records)
            }
            0 | 1 => {
                self.count("journal torn");
                self.tear(file)
            }
            2 => {
                self.count("journal damaged");
                let at = self.random.below(length.max(1));
                std::os::unix::fs::FileExt::write_all_at(&file, &[0x5a], at)?;
                Ok(Loss::Records)
            }
            _ => {
                self.count("journal removed");
                std::fs::remove_file(journal)?;
                Ok(Loss::Records)
            }
        }
    }

    /// Part of a record behind the last: the kubelet ended in the middle of a write.
    fn tear(&mut self, mut file: std::fs::File) -> std::io::Result<Loss> {
        let mut bytes = Vec::new();
        let operation = Operation::Put {
            key: "pod/torn",
            value: &[b'x'; 200],
        };
        let sequence = u64::MAX / 2;
        encode(
            &Body {
                sequence,
                operation,
            },
            &mut bytes,
        );
        bytes.truncate(crate::pods::at(&mut self.random, bytes.len()));
        std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0))?;
        file.write_all(&bytes)?;
        Ok(Loss::None)
    }
}
