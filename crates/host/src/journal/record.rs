//! The file format of the journal: encodes one record, reads a whole file.
//!
//! In:    operations; the bytes of a file in any condition
//! Out:   bytes; the map of the readable records, with a problem for each unreadable part
//! Calls: journal.rs
//! Holds: pure; no input makes it fail; every intact record of the input counts
//! Upstream: none

use std::collections::BTreeMap;

use super::JournalProblem;

const MAGIC: [u8; 4] = [0xff, 0x48, 0x4b, 0xfe];
const VERSION: u8 = 1;
const HEADER: usize = 12;
const FIXED_BODY: usize = 14;
const PUT: u8 = 1;
const REMOVE: u8 = 2;

/// One operation with its sequence number.
#[derive(Debug, Clone, Copy)]
pub struct Body<'a> {
    /// Incremented with each operation of a journal.
    pub sequence: u64,
    /// The operation.
    pub operation: Operation<'a>,
}

/// The change of the map.
#[derive(Debug, Clone, Copy)]
pub enum Operation<'a> {
    /// Sets a key.
    Put {
        /// The key.
        key: &'a str,
        /// Its value.
        value: &'a [u8],
    },
    /// Removes a key (a tombstone).
    Remove {
        /// The key.
        key: &'a str,
    },
}

/// The content of a file.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The map after all readable records.
    pub map: BTreeMap<String, Vec<u8>>,
    /// Complete records of other versions.
    pub foreign: Vec<Vec<u8>>,
    /// The unreadable parts, in the order of the file.
    pub problems: Vec<JournalProblem>,
    /// The end of the last intact record.
    pub end: u64,
    /// One more than the highest sequence number.
    pub next_sequence: u64,
}

/// The size of a put record with this key and value.
pub fn size(key: &str, value: &[u8]) -> u64 {
    (HEADER + FIXED_BODY + key.len() + value.len()) as u64
}

/// Appends the record to `out`. Keys and values are far smaller than 4 GiB (the journal's limits).
pub fn encode(body: &Body<'_>, out: &mut Vec<u8>) {
    let (kind, key, value): (u8, &str, &[u8]) = match body.operation {
        Operation::Put { key, value } => (PUT, key, value),
        Operation::Remove { key } => (REMOVE, key, &[]),
    };
    let length = u32::try_from(FIXED_BODY + key.len() + value.len()).unwrap_or(u32::MAX);
    let key_length = u32::try_from(key.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&MAGIC);
    let checked_from = out.len();
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&[VERSION, kind]);
    out.extend_from_slice(&body.sequence.to_le_bytes());
    out.extend_from_slice(&key_length.to_le_bytes());
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(value);
    let crc = crc32(&[
        &out[checked_from..checked_from + 4],
        &out[checked_from + 8..],
    ]);
    out[checked_from + 4..checked_from + 8].copy_from_slice(&crc.to_le_bytes());
}

/// Reads a file in any condition.
pub fn load(bytes: &[u8]) -> Loaded {
    let mut loaded = Loaded::default();
    let mut at = 0;
    let mut last_sequence = None;
    while at < bytes.len() {
        if let Some(record) = record_at(bytes, at) {
            last_sequence = record.sequence.or(last_sequence);
            loaded.next_sequence = loaded
                .next_sequence
                .max(record.sequence.map_or(0, |n| n.saturating_add(1)));
            record.apply(bytes, at, &mut loaded);
            at += record.length;
            loaded.end = at as u64;
            continue;
        }
        let next = (at + 1..bytes.len()).find(|&offset| record_at(bytes, offset).is_some());
        let offset = at as u64;
        match next {
            Some(next) => {
                let after = record_at(bytes, next).and_then(|record| record.sequence);
                let records_lost = last_sequence.zip(after).map(|(before, after): (u64, _)| {
                    after.saturating_sub(before.saturating_add(1))
                });
                loaded.problems.push(JournalProblem::Damaged {
                    offset,
                    length: (next - at) as u64,
                    records_lost,
                });
                at = next;
            }
            None => {
                loaded.problems.push(JournalProblem::TornTail {
                    offset,
                    length: (bytes.len() - at) as u64,
                });
                break;
            }
        }
    }
    loaded
}

/// A complete record with a matching checksum.
struct Found<'a> {
    length: usize,
    version: u8,
    sequence: Option<u64>,
    operation: Option<Operation<'a>>,
}

impl Found<'_> {
    fn apply(&self, bytes: &[u8], at: usize, loaded: &mut Loaded) {
        match self.operation {
            Some(Operation::Put { key, value }) => {
                loaded.map.insert(key.to_owned(), value.to_owned());
            }
            Some(Operation::Remove { key }) => {
                loaded.map.remove(key);
            }
            None => {
                loaded.foreign.push(bytes[at..at + self.length].to_vec());
                loaded.problems.push(JournalProblem::UnknownVersion {
                    offset: at as u64,
                    version: self.version,
                });
            }
        }
    }
}

fn record_at(bytes: &[u8], at: usize) -> Option<Found<'_>> {
    let header = bytes.get(at..at + HEADER)?;
    if header[..4] != MAGIC {
        return None;
    }
    let body_length = number(&header[4..8]);
    let body = bytes.get(at + HEADER..)?.get(..body_length)?;
    if crc32(&[&header[4..8], body]) as usize != number(&header[8..12]) {
        return None;
    }
    let length = HEADER + body_length;
    let version = *body.first()?;
    let operation = if version == VERSION {
        Some(operation_of(body)?)
    } else {
        None
    };
    let sequence = body
        .get(2..10)
        .filter(|_| version == VERSION)
        .map(|bytes| number(bytes) as u64);
    Some(Found {
        length,
        version,
        sequence,
        operation,
    })
}

fn operation_of(body: &[u8]) -> Option<Operation<'_>> {
    let key_length = number(body.get(10..FIXED_BODY)?);
    let (key, value) = body.get(FIXED_BODY..)?.split_at_checked(key_length)?;
    let key = std::str::from_utf8(key).ok()?;
    match *body.get(1)? {
        PUT => Some(Operation::Put { key, value }),
        REMOVE => Some(Operation::Remove { key }),
        _ => None,
    }
}

fn number(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .rev()
        .fold(0, |sum, &byte| (sum << 8) | usize::from(byte))
}

const fn crc_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = index as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ 0xedb8_8320
            } else {
                crc >> 1
            };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
}

static CRC_TABLE: [u32; 256] = crc_table();

/// CRC-32 (IEEE 802.3) of the concatenated parts.
pub fn crc32(parts: &[&[u8]]) -> u32 {
    let crc = parts.iter().copied().flatten().fold(!0_u32, |crc, &byte| {
        CRC_TABLE[((crc ^ u32::from(byte)) & 0xff) as usize] ^ (crc >> 8)
    });
    !crc
}
