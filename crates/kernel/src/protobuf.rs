//! Protocol buffers as they come over the wire: the fields of a message, by number.
//!
//! The bytes are a stranger's. Nothing is copied or collected here, a length is held against what is left before it is believed, and no bytes
//! make it panic. How many fields and how deep is for the reader of the message to limit; what it does not know it passes over.

/// What is wrong with the bytes.
pub type Result<T> = std::result::Result<T, String>;

/// A value of a field, by its wire type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Field<'a> {
    /// Whole numbers, truth and enumerations.
    Varint(u64),
    /// Eight bytes.
    Fixed64(u64),
    /// Text, bytes, a message, or packed numbers.
    Bytes(&'a [u8]),
    /// Four bytes.
    Fixed32(u32),
}

/// The fields of a message, in the order in which they stand there.
#[derive(Debug, Clone)]
pub struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// Of the bytes of a message.
    pub fn of(message: &'a [u8]) -> Fields<'a> {
        Fields(message)
    }
    fn take(&mut self, count: u64) -> Result<&'a [u8]> {
        let count = usize::try_from(count).map_err(|_| "a field is too long".to_owned())?;
        let (taken, rest) = self.0.split_at_checked(count).ok_or("it ends within a field")?;
        self.0 = rest;
        Ok(taken)
    }
    fn field(&mut self) -> Result<(u64, Field<'a>)> {
        let tag = varint(&mut self.0)?;
        let field = match tag & 7 {
            0 => Field::Varint(varint(&mut self.0)?),
            1 => Field::Fixed64(u64::from_le_bytes(self.take(8)?.try_into().map_err(|_| "eight bytes")?)),
            2 => {
                let count = varint(&mut self.0)?;
                Field::Bytes(self.take(count)?)
            }
            5 => Field::Fixed32(u32::from_le_bytes(self.take(4)?.try_into().map_err(|_| "four bytes")?)),
            other => return Err(format!("a field has the wire type {other}")),
        };
        Ok((tag >> 3, field))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Field<'a>)>;
    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            // What is broken once has no next field.
            self.0 = &[];
        }
        Some(field)
    }
}

/// Takes a number from the front. Bits beyond 64 are dropped, as everywhere.
pub fn varint(bytes: &mut &[u8]) -> Result<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or("it ends within a number")?;
        *bytes = rest;
        value |= u64::from(byte & 127) << shift;
        if byte & 128 == 0 {
            return Ok(value);
        }
    }
    Err("a number has more than 64 bits".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_and_what_is_cut_off_is_refused() {
        let bytes = [8, 0xac, 2, 18, 2, b'h', b'i', 29, 1, 0, 0, 0, 33, 2, 0, 0, 0, 0, 0, 0, 0];
        let fields: Result<Vec<_>> = Fields::of(&bytes).collect();
        let wanted = [(1, Field::Varint(300)), (2, Field::Bytes(b"hi")), (3, Field::Fixed32(1)), (4, Field::Fixed64(2))];
        assert_eq!(fields.expect("fields"), wanted);
        let ends = [3, 7, 12, bytes.len()];
        for length in (1..bytes.len()).filter(|length| !ends.contains(length)) {
            assert!(Fields::of(&bytes[..length]).any(|field| field.is_err()), "{length} bytes");
        }
        for bad in [&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01][..], &[0x80; 11], &[7]] {
            assert_eq!(Fields::of(bad).filter(std::result::Result::is_err).count(), 1, "{bad:?}");
        }
    }
}
