//! Sparse files in tar archives: where their data lies.
//!
//! Four formats are in use: GNU's own type `S`, and PAX 0.0, 0.1 and 1.0 (GNU tar manual, "Storing
//! Sparse Files"). The map must be in order, without overlaps, within the file and of exactly the
//! bytes that follow: readers disagree about everything else.

use std::io::Read;

use super::tar::{TarError, decimal, field, fill, number};
use crate::limits::TAR_SPARSE_MAX_EXTENTS;

const BLOCK: usize = 512;

/// A run of data: its place in the file and its length, in bytes.
pub(super) type Extent = (u64, u64);

/// What PAX records say of a sparse file.
#[derive(Debug, Default)]
pub(super) struct Records {
    seen: bool,
    major: u64,
    size: Option<u64>,
    name: Option<Vec<u8>>,
    blocks: Option<u64>,
    offset: Option<u64>,
    map: Vec<Extent>,
}

/// A sparse file: its real size, where its data lies, and its name when that is not the header's.
#[derive(Debug)]
pub(super) struct Sparse {
    pub(super) size: u64,
    pub(super) map: Vec<Extent>,
    pub(super) name: Option<Vec<u8>>,
}

impl Records {
    /// Takes the record `GNU.sparse.<key>`.
    pub(super) fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), TarError> {
        self.seen = true;
        let bad = || TarError::Extension;
        let value_number = || decimal(value).ok_or_else(bad);
        match key {
            b"major" => self.major = value_number()?,
            // 0.0, 0.1 and 1.0 are all that there is, and the records tell the first two apart.
            b"minor" => drop(value_number()?),
            b"size" | b"realsize" => self.size = Some(value_number()?),
            b"name" => self.name = Some(value.to_vec()),
            b"numblocks" => self.blocks = Some(value_number()?),
            b"offset" => {
                if self.offset.replace(value_number()?).is_some() {
                    return Err(bad());
                }
            }
            b"numbytes" => {
                let offset = self.offset.take().ok_or_else(bad)?;
                push(&mut self.map, (offset, value_number()?))?;
            }
            b"map" => {
                let mut numbers = value.split(|b| *b == b',').map(decimal);
                while let Some(offset) = numbers.next() {
                    let length = numbers.next().flatten().ok_or_else(bad)?;
                    push(&mut self.map, (offset.ok_or_else(bad)?, length))?;
                }
            }
            _ => return Err(bad()),
        }
        Ok(())
    }

    /// The sparse file that the records describe, if they do; `stored` bytes of content follow.
    pub(super) fn finish(
        self,
        stored: u64,
        content: &mut impl Read,
    ) -> Result<Option<Sparse>, TarError> {
        if !self.seen {
            return Ok(None);
        }
        let bad = || TarError::Extension;
        let size = self.size.ok_or_else(bad)?;
        let (map, used) = match self.major {
            0 if self.offset.is_none() => (self.map, 0),
            1 if self.map.is_empty() => leading_map(stored, content)?,
            _ => return Err(bad()),
        };
        if self.blocks.is_some_and(|blocks| blocks != map.len() as u64) {
            return Err(bad());
        }
        check(&map, size, stored.checked_sub(used).ok_or_else(bad)?)?;
        Ok(Some(Sparse { size, map, name: self.name }))
    }
}

/// The map of GNU's type `S`: in the header, and in blocks after it when that says so.
pub(super) fn old_gnu(
    header: &[u8; BLOCK],
    stored: u64,
    stream: &mut impl Read,
) -> Result<Sparse, TarError> {
    let size = number(field(header, 483, 12), "size")?;
    let mut map = Vec::new();
    let mut more = block_extents(header, 386, 4, &mut map)?;
    let mut block = [0; BLOCK];
    while more {
        if fill(stream, &mut block)? < BLOCK {
            return Err(TarError::Truncated);
        }
        more = block_extents(&block, 0, 21, &mut map)?;
    }
    check(&map, size, stored)?;
    Ok(Sparse { size, map, name: None })
}

/// Reads `count` extents of a block; whether another block follows.
fn block_extents(
    block: &[u8; BLOCK],
    from: usize,
    count: usize,
    map: &mut Vec<Extent>,
) -> Result<bool, TarError> {
    for at in (0..count).map(|n| from + 24 * n) {
        if field(block, at, 1) == [0] {
            break;
        }
        let offset = number(field(block, at, 12), "sparse map")?;
        push(map, (offset, number(field(block, at + 12, 12), "sparse map")?))?;
    }
    Ok(field(block, from + 24 * count, 1) != [0])
}

/// The map of PAX 1.0: decimal numbers on lines of their own before the data, in whole blocks.
fn leading_map(stored: u64, content: &mut impl Read) -> Result<(Vec<Extent>, u64), TarError> {
    let mut used = 0;
    let mut block = [0_u8; BLOCK];
    let mut at = BLOCK;
    let mut next = || -> Result<u64, TarError> {
        let mut digits = Vec::new();
        loop {
            if at == BLOCK {
                used += BLOCK as u64;
                if stored < used || fill(content, &mut block)? < BLOCK {
                    return Err(TarError::Extension);
                }
                at = 0;
            }
            let byte = block.get(at).copied().unwrap_or_default();
            at += 1;
            match byte {
                b'\n' => return decimal(&digits).ok_or(TarError::Extension),
                // No number of 64 bits has more digits.
                _ if 20 < digits.len() => return Err(TarError::Extension),
                _ => digits.push(byte),
            }
        }
    };
    let count = next()?;
    let mut map = Vec::new();
    for _ in 0..count {
        push(&mut map, (next()?, next()?))?;
    }
    Ok((map, used))
}

fn push(map: &mut Vec<Extent>, extent: Extent) -> Result<(), TarError> {
    if TAR_SPARSE_MAX_EXTENTS <= map.len() {
        return Err(TarError::ExtensionTooLarge);
    }
    map.push(extent);
    Ok(())
}

fn check(map: &[Extent], size: u64, stored: u64) -> Result<(), TarError> {
    let bad = TarError::Number { field: "sparse map" };
    let (mut end, mut data) = (0, 0_u64);
    for (offset, length) in map {
        let after = offset.checked_add(*length).filter(|after| end <= *offset && *after <= size);
        let Some(after) = after else { return Err(bad) };
        end = after;
        data = data.saturating_add(*length);
    }
    if data == stored { Ok(()) } else { Err(bad) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map_of(records: &[(&str, &str)], stored: u64, content: &[u8]) -> Option<Vec<Extent>> {
        let mut taken = Records::default();
        for (key, value) in records {
            taken.take(key.as_bytes(), value.as_bytes()).ok()?;
        }
        taken.finish(stored, &mut &content[..]).ok()?.map(|sparse| sparse.map)
    }

    #[test]
    fn maps_are_read_in_every_form() {
        let want = Some(vec![(0, 3), (10, 4)]);
        let old = [
            ("size", "20"),
            ("offset", "0"),
            ("numbytes", "3"),
            ("offset", "10"),
            ("numbytes", "4"),
        ];
        assert_eq!(map_of(&old, 7, b""), want);
        assert_eq!(
            map_of(&[("size", "20"), ("map", "0,3,10,4"), ("numblocks", "2")], 7, b""),
            want
        );
        let mut content = b"2\n0\n3\n10\n4\n".to_vec();
        content.resize(512, 0);
        let new = [("major", "1"), ("minor", "0"), ("realsize", "20"), ("name", "x")];
        assert_eq!(map_of(&new, 512 + 7, &content), want);
    }

    #[test]
    fn maps_that_readers_disagree_about_are_refused() {
        for (map, stored) in [
            ("0,3,2,4", 7),
            ("10,4,0,3", 7),
            ("0,3,18,4", 7),
            ("0,3,10,4", 8),
            ("0,3,10,4", 6),
            ("0,3,10", 3),
            ("0,3,-10,4", 7),
            ("18446744073709551615,2", 2),
            ("", 0),
        ] {
            assert_eq!(map_of(&[("size", "20"), ("map", map)], stored, b""), None, "{map}");
        }
        for records in [
            &[("map", "0,3")][..],
            &[("size", "20"), ("map", "0,3"), ("numblocks", "2")],
            &[("size", "20"), ("offset", "0"), ("offset", "1"), ("numbytes", "3")],
            &[("size", "20"), ("numbytes", "3")],
            &[("size", "20"), ("offset", "0")],
            &[("size", "20"), ("major", "2"), ("map", "0,3")],
            &[("size", "20"), ("unknown", "1")],
        ] {
            assert_eq!(map_of(records, 3, b""), None, "{records:?}");
        }
        let new = [("major", "1"), ("realsize", "20")];
        for text in ["1\n0\n3", "9999999999999999999999\n", "x\n", "70000\n0\n0\n"] {
            let mut content = text.as_bytes().to_vec();
            content.resize(512, b'0');
            assert_eq!(map_of(&new, 512 + 3, &content), None, "{text}");
        }
    }
}
