//! Inputs: a saved one, changed a little or a lot.
//!
//! In:    seed, number, the corpus and the words of a target
//! Out:   bytes
//! Calls: `run`, `supervise`
//! Holds: equal in, equal out; no input is longer than [`LONGEST`]
//! Upstream: none

use std::path::Path;

use anyhow::Context as _;
use testkit::prng::Prng;

/// The longest input. What costs more than its length shows below that.
pub(crate) const LONGEST: usize = 256 << 10;
/// How often a part is repeated at the most: deeper than any recursion may go.
const REPEATS: usize = 40_000;

/// Pieces that mean something to some reader.
const WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "\"",
    ":",
    ",",
    "null",
    "true",
    "0",
    "-1",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551615",
    "1e999",
    "1e-999",
    "99999999999999999999999999999",
    "{\"a\":",
    "[[",
    "]]",
    "\\u0000",
    "\\ud800",
    "\u{feff}",
    "\u{0}",
    "\n",
    "\r\n",
    "\t",
    " ",
    "~1",
    "~0",
    "- ",
    "&a ",
    "*a",
    "<<: ",
    "!!binary ",
    "|\n",
    "? ",
    "---\n",
    "%",
    "(",
    ")",
    "=",
    "!=",
    " in (",
    " notin (",
    "2099-01-01T00:00:00Z",
    "-009999-01-01T00:00:00Z",
    "9999-12-31T23:59:60.999999999Z",
    "2562047h47m16.854775807s",
    "1n",
    "1Ei",
    "1e18",
    "0.000000000000000000001",
    "m",
    "../",
    "/",
    "\\",
    "$patch",
    "$setElementOrder/containers",
    "$deleteFromPrimitiveList/finalizers",
    "$retainKeys",
    "$serde_json::private::RawValue",
];

/// What saved inputs a target starts from.
pub(crate) struct Corpus {
    inputs: Vec<Vec<u8>>,
}

impl Corpus {
    /// Every file of the target's directory, in the order of their names.
    pub(crate) fn read(directory: &Path, target: &str) -> anyhow::Result<Self> {
        let directory = directory.join(target);
        let entries = std::fs::read_dir(&directory);
        let entries = entries.with_context(|| format!("the corpus {}", directory.display()))?;
        let mut paths = entries
            .map(|entry| Ok(entry?.path()))
            .collect::<std::io::Result<Vec<_>>>()?;
        paths.sort();
        let inputs = paths.iter().map(std::fs::read);
        let inputs = inputs.collect::<std::io::Result<Vec<_>>>()?;
        Ok(Self { inputs })
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.inputs.len()
    }

    /// The input of a number: first the saved ones as they are.
    pub(crate) fn input(&self, seed: u64, number: u64, words: &[&str]) -> Vec<u8> {
        let saved = usize::try_from(number)
            .ok()
            .and_then(|at| self.inputs.get(at));
        if let Some(saved) = saved {
            return saved.clone();
        }
        let mut prng = Prng::stream(seed, &format!("input {number}"));
        let mut input = self.pick(&mut prng).to_vec();
        let doublings = prng.below(6);
        let changes = 1 + prng.below(1 << doublings);
        for _ in 0..changes {
            self.change(&mut input, &mut prng, words);
            input.truncate(LONGEST);
        }
        input
    }

    fn pick(&self, prng: &mut Prng) -> &[u8] {
        let at = index(prng, self.inputs.len());
        self.inputs.get(at).map_or(&[], Vec::as_slice)
    }

    fn change(&self, input: &mut Vec<u8>, prng: &mut Prng, words: &[&str]) {
        let from = index(prng, input.len() + 1);
        let most = 1 << prng.below(10);
        let to = (from + index(prng, most + 1)).min(input.len());
        match prng.below(12) {
            0 => drop(input.drain(from..to)),
            1 => {
                let part = input.get(from..to).unwrap_or_default().to_vec();
                let times = 1 + prng.below(4);
                let many = part.repeat(usize::try_from(times).unwrap_or(1));
                insert(input, from, &many);
            }
            2 => {
                let other = self.pick(prng).to_vec();
                let begin = index(prng, other.len() + 1);
                let end = (begin + index(prng, 512)).min(other.len());
                insert(input, from, other.get(begin..end).unwrap_or_default());
            }
            3 => {
                if let Some(byte) = input.get_mut(from) {
                    *byte ^= 1 << prng.below(8);
                }
            }
            4 => {
                if let Some(byte) = input.get_mut(from) {
                    *byte = prng.next_u64().to_le_bytes()[0];
                }
            }
            5 => replace_number(input, from, prng),
            6 => {
                // Deep: a piece many times over, closed or not.
                let pairs = [
                    ("[", "]"),
                    ("{\"a\":", "}"),
                    ("(", ")"),
                    ("- ", ""),
                    ("/a", ""),
                    ("\x0a\x01", ""),
                ];
                let (open, close) = pairs[index(prng, pairs.len())];
                let halvings = prng.below(15);
                let times = index(prng, 1 + (REPEATS >> halvings));
                let mut deep = open.repeat(times);
                if prng.chance(7_000) {
                    deep.push('1');
                    deep.push_str(&close.repeat(times));
                }
                input.splice(from..to, deep.bytes());
            }
            7 => input
                .splice(from..to, word(prng, words).bytes())
                .for_each(drop),
            _ => insert(input, from, word(prng, words).as_bytes()),
        }
    }
}

fn word<'a>(prng: &mut Prng, words: &[&'a str]) -> &'a str {
    let at = index(prng, words.len() + WORDS.len());
    match words.get(at) {
        Some(word) => word,
        None => WORDS[at - words.len()],
    }
}

fn insert(input: &mut Vec<u8>, at: usize, part: &[u8]) {
    input.splice(at..at, part.iter().copied());
}

/// A run of digits becomes another number.
fn replace_number(input: &mut Vec<u8>, from: usize, prng: &mut Prng) {
    let digit = |byte: &u8| byte.is_ascii_digit();
    let Some(begin) = input.iter().skip(from).position(digit).map(|at| at + from) else {
        return;
    };
    let end = begin
        + input
            .iter()
            .skip(begin)
            .take_while(|byte| digit(byte))
            .count();
    let bits = prng.below(66);
    let number = match bits {
        64 => u64::MAX,
        65 => i64::MAX.unsigned_abs() + 1,
        bits => (1 << bits) - 1 + prng.below(3),
    };
    let sign = if prng.chance(2_000) { "-" } else { "" };
    input.splice(begin..end, format!("{sign}{number}").into_bytes());
}

fn index(prng: &mut Prng, limit: usize) -> usize {
    usize::try_from(prng.below(limit as u64)).unwrap_or(0)
}
