//! The entropy coding of zstd: bits, FSE tables and Huffman codes (RFC 8878 §4).
//!
//! Every table has a bound that the format sets, so nothing here grows with what is decoded.

/// What does not follow the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Longest Huffman code, in bits.
const CODE_MAX_BITS: u32 = 11;

/// Finest FSE table for the weights of Huffman codes, in bits of its size.
const WEIGHTS_MAX_LOG: u32 = 6;

/// Bits from the end of a slice to its start, as both coders write them.
pub(super) struct Backward<'a> {
    rest: &'a [u8],
    /// Its lowest `have` bits come next, the highest of them first.
    word: u64,
    have: u32,
    /// Zeros that were read beyond the start.
    made_up: u32,
}

impl<'a> Backward<'a> {
    /// The highest bit that is set marks where the stream begins.
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (last, rest) = bytes.split_last().ok_or(Malformed)?;
        let have = last.checked_ilog2().ok_or(Malformed)?;
        Ok(Self { rest, word: u64::from(*last), have, made_up: 0 })
    }

    /// The next `n` bits, at most 32, which stay.
    fn peek(&mut self, n: u32) -> usize {
        if self.have < n {
            self.refill(n);
        }
        low((self.word >> (self.have - n)) & ((1 << n) - 1))
    }

    /// Takes bits that were seen.
    const fn skip(&mut self, n: u32) {
        self.have -= n;
    }

    /// Takes the next `n` bits, at most 32.
    pub(super) fn take(&mut self, n: u32) -> usize {
        let value = self.peek(n);
        self.skip(n);
        value
    }

    fn refill(&mut self, wanted: u32) {
        if let Some((rest, four)) = self.rest.split_last_chunk::<4>() {
            self.word = (self.word << 32) | u64::from(u32::from_le_bytes(*four));
            self.have += 32;
            self.rest = rest;
        }
        while self.have < wanted {
            if let Some((byte, rest)) = self.rest.split_last() {
                self.word = (self.word << 8) | u64::from(*byte);
                self.have += 8;
                self.rest = rest;
            } else {
                let lack = wanted - self.have;
                self.word <<= lack;
                self.have += lack;
                self.made_up += lack;
            }
        }
    }

    /// Whether exactly all bits were taken.
    pub(super) const fn is_spent(&self) -> bool {
        self.rest.is_empty() && self.have == self.made_up
    }

    /// Whether more were taken than there are.
    const fn is_overdrawn(&self) -> bool {
        self.have < self.made_up
    }
}

#[expect(clippy::cast_possible_truncation, reason = "at most 32 bits are asked for")]
const fn low(bits: u64) -> usize {
    bits as usize
}

/// One state of an FSE table.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    symbol: u8,
    bits: u8,
    base: u16,
}

/// An FSE decoding table.
#[derive(Clone, Debug, Default)]
pub(super) struct Fse {
    cells: Vec<Cell>,
    log: u32,
}

impl Fse {
    /// A table that always says `symbol`.
    pub(super) fn of_one(symbol: u8) -> Self {
        Self { cells: vec![Cell { symbol, bits: 0, base: 0 }], log: 0 }
    }

    /// Reads a table's description from the start of `bytes`; gives what follows it.
    pub(super) fn read(
        bytes: &[u8],
        max_log: u32,
        max_symbol: usize,
    ) -> Result<(Self, &[u8]), Malformed> {
        let mut at = 0_usize;
        let mut peek = |count: u32, used: u32| {
            let word = bytes.get(at / 8..).unwrap_or_default();
            let word = (0..4).rev().fold(0_u64, |sum, n| {
                (sum << 8) | u64::from(word.get(n).copied().unwrap_or_default())
            });
            let value = low((word >> (at % 8)) & ((1 << count) - 1));
            at += used as usize;
            value
        };
        let log = u32::try_from(peek(4, 4)).map_err(|_| Malformed)? + 5;
        if max_log < log {
            return Err(Malformed);
        }
        let mut shares: Vec<i16> = Vec::new();
        let mut left = 1_usize << log;
        while 0 < left {
            if max_symbol < shares.len() {
                return Err(Malformed);
            }
            // Values up to `left` + 1; small ones take a bit less.
            let bits = (left + 1).ilog2() + 1;
            let value = peek(bits, 0);
            let half = (1_usize << (bits - 1)) - 1;
            let short = (1_usize << bits) - 2 - left;
            let value = if value & half < short {
                peek(bits - 1, bits - 1)
            } else {
                peek(bits, bits);
                if half < value { value - short } else { value }
            };
            // One less than what is written; -1 stands for less than one.
            left = left.checked_sub(value.abs_diff(1)).ok_or(Malformed)?;
            shares.push(i16::try_from(value).map_err(|_| Malformed)? - 1);
            // How many zeros follow, three at a time.
            let mut more = if value == 1 { 3 } else { 0 };
            while more == 3 && shares.len() <= max_symbol {
                more = peek(2, 2);
                shares.extend((0..more).map(|_| 0));
            }
        }
        if max_symbol + 1 < shares.len() {
            return Err(Malformed);
        }
        let rest = bytes.get(at.div_ceil(8)..).ok_or(Malformed)?;
        Ok((Self::of(&shares, log)?, rest))
    }

    /// The table of these shares, in parts of 2^`log`; -1 is less than one part.
    pub(super) fn of(shares: &[i16], log: u32) -> Result<Self, Malformed> {
        let size = 1_usize << log;
        let mut cells = vec![Cell::default(); size];
        let mut next: Vec<u16> = shares.iter().map(|share| share.unsigned_abs()).collect();
        let mut high = size;
        for (symbol, _) in (0_u8..).zip(shares).filter(|(_, share)| **share < 0) {
            high -= 1;
            cells.get_mut(high).ok_or(Malformed)?.symbol = symbol;
        }
        let step = (size >> 1) + (size >> 3) + 3;
        let mut at = 0;
        for (symbol, share) in (0_u8..).zip(shares) {
            for _ in 0..*share {
                cells.get_mut(at).ok_or(Malformed)?.symbol = symbol;
                loop {
                    at = (at + step) & (size - 1);
                    if at < high {
                        break;
                    }
                }
            }
        }
        for cell in &mut cells {
            let state = next.get_mut(usize::from(cell.symbol)).ok_or(Malformed)?;
            let bits = log.checked_sub(state.checked_ilog2().ok_or(Malformed)?).ok_or(Malformed)?;
            let base = (usize::from(*state) << bits).checked_sub(size).ok_or(Malformed)?;
            cell.base = u16::try_from(base).map_err(|_| Malformed)?;
            cell.bits = u8::try_from(bits).map_err(|_| Malformed)?;
            *state += 1;
        }
        if at == 0 { Ok(Self { cells, log }) } else { Err(Malformed) }
    }

    /// The first state.
    pub(super) fn begin(&self, bits: &mut Backward<'_>) -> State {
        State(bits.take(self.log))
    }

    fn cell(&self, state: &State) -> Cell {
        self.cells.get(state.0).copied().unwrap_or_default()
    }

    /// What a state says.
    pub(super) fn symbol(&self, state: &State) -> u8 {
        self.cell(state).symbol
    }

    /// Goes on to the next state.
    pub(super) fn advance(&self, state: &mut State, bits: &mut Backward<'_>) {
        let cell = self.cell(state);
        state.0 = usize::from(cell.base) + bits.take(cell.bits.into());
    }
}

/// A state of a decoder.
pub(super) struct State(usize);

/// A Huffman code.
#[derive(Clone, Debug)]
pub(super) struct Huffman {
    /// By the next bits: the symbol, and how many of them are its code.
    entries: Vec<(u8, u8)>,
    bits: u32,
}

impl Huffman {
    /// Reads a code's description from the start of `bytes`; gives what follows it.
    pub(super) fn read(bytes: &[u8]) -> Result<(Self, &[u8]), Malformed> {
        let (head, rest) = bytes.split_first().ok_or(Malformed)?;
        let head = usize::from(*head);
        let mut weights = Vec::with_capacity(256);
        let rest = if head < 128 {
            let (packed, rest) = rest.split_at_checked(head).ok_or(Malformed)?;
            unpack_weights(packed, &mut weights)?;
            rest
        } else {
            let count = head - 127;
            let (packed, rest) = rest.split_at_checked(count.div_ceil(2)).ok_or(Malformed)?;
            weights.extend(packed.iter().flat_map(|byte| [byte >> 4, byte & 15]).take(count));
            rest
        };
        Ok((Self::of(weights)?, rest))
    }

    fn of(mut weights: Vec<u8>) -> Result<Self, Malformed> {
        let part = |weight: u8| if weight == 0 { 0 } else { 1_usize << (weight - 1) };
        if weights.iter().any(|weight| CODE_MAX_BITS < u32::from(*weight)) {
            return Err(Malformed);
        }
        let sum: usize = weights.iter().copied().map(part).sum();
        let bits = sum.checked_ilog2().ok_or(Malformed)? + 1;
        // The last weight is what fills the table.
        let left = (1_usize << bits) - sum;
        if CODE_MAX_BITS < bits || !left.is_power_of_two() || 255 < weights.len() {
            return Err(Malformed);
        }
        weights.push(u8::try_from(left.ilog2() + 1).map_err(|_| Malformed)?);
        let most = u8::try_from(bits).map_err(|_| Malformed)?;
        let mut entries = Vec::with_capacity(1 << bits);
        for weight in 1..=most {
            for (symbol, _) in (0..=u8::MAX).zip(&weights).filter(|(_, own)| **own == weight) {
                let length = most + 1 - weight;
                entries.extend((0..part(weight)).map(|_| (symbol, length)));
            }
        }
        if entries.len() == 1 << bits { Ok(Self { entries, bits }) } else { Err(Malformed) }
    }

    /// Decodes one stream, which must give exactly `out`.
    pub(super) fn decode(&self, stream: &[u8], out: &mut [u8]) -> Result<(), Malformed> {
        let mut bits = Backward::new(stream)?;
        for byte in out {
            let entry = self.entries.get(bits.peek(self.bits));
            let (symbol, length) = entry.copied().unwrap_or_default();
            bits.skip(length.into());
            *byte = symbol;
        }
        if bits.is_spent() { Ok(()) } else { Err(Malformed) }
    }
}

/// Two states take turns until the bits are used up.
fn unpack_weights(packed: &[u8], weights: &mut Vec<u8>) -> Result<(), Malformed> {
    let (table, stream) = Fse::read(packed, WEIGHTS_MAX_LOG, 255)?;
    let mut bits = Backward::new(stream)?;
    let mut one = table.begin(&mut bits);
    let mut other = table.begin(&mut bits);
    while weights.len() < 255 {
        weights.push(table.symbol(&one));
        table.advance(&mut one, &mut bits);
        if bits.is_overdrawn() {
            weights.push(table.symbol(&other));
            return Ok(());
        }
        core::mem::swap(&mut one, &mut other);
    }
    Err(Malformed)
}
