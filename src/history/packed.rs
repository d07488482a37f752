//! Numbers in two bytes. Up to 4,095 they are exact; beyond, they are off by at most a part in 4,096, up to 4.3 * 10^12,
//! the largest. Pure.

/// Bits of the part behind the leading one.
const BITS: u32 = 11;
/// Stands for no number.
const NONE: u16 = u16::MAX;

/// A number, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packed(u16);

impl Packed {
    /// No number.
    pub const GAP: Self = Self(NONE);

    /// The nearest number that there is.
    pub fn new(value: u64) -> Self {
        let length = u64::BITS - value.leading_zeros();
        let Some(shift) = length.checked_sub(BITS + 1) else {
            return Self(u16::try_from(value).unwrap_or(NONE - 1));
        };
        let rounded = if shift == 0 { value } else { value.saturating_add(1 << (shift - 1)) };
        // Rounding may have made it one bit longer.
        let shift = u64::BITS - rounded.leading_zeros() - (BITS + 1);
        let part = (rounded >> shift) & ((1 << BITS) - 1);
        let code = (u64::from(shift + 1) << BITS) | part;
        Self(u16::try_from(code).unwrap_or(NONE).min(NONE - 1))
    }

    /// The number; `None` for a gap.
    pub fn value(self) -> Option<u64> {
        if self.0 == NONE {
            return None;
        }
        let (part, scale) = (u64::from(self.0) & ((1 << BITS) - 1), self.0 >> BITS);
        Some(if scale == 0 { part } else { (part | (1 << BITS)) << (scale - 1) })
    }

    /// Its two bytes.
    pub fn to_bytes(self) -> [u8; 2] {
        self.0.to_le_bytes()
    }

    /// What [`to_bytes`](Self::to_bytes) returned.
    pub fn from_bytes(bytes: [u8; 2]) -> Self {
        Self(u16::from_le_bytes(bytes))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn small_numbers_are_exact_and_large_ones_nearly() {
        assert!((0..=4095).all(|value| Packed::new(value).value() == Some(value)));
        for value in (12..42).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + (1 << bit) / 3]) {
            let packed = Packed::new(value).value().unwrap();
            assert!(packed.abs_diff(value) <= value >> 12, "{value} became {packed}");
        }
    }

    #[test]
    fn the_largest_number_is_no_gap() {
        let largest = Packed::new(u64::MAX).value().unwrap();
        assert!(largest > 4_300_000_000_000 && largest == Packed::new(largest).value().unwrap());
        assert_eq!(Packed::GAP.value(), None);
    }

    #[test]
    fn every_code_survives_its_bytes() {
        for code in 0..=u16::MAX {
            let packed = Packed::from_bytes(code.to_le_bytes());
            assert_eq!(Packed::from_bytes(packed.to_bytes()), packed);
            assert_eq!(packed.value().map_or(Packed::GAP, Packed::new), packed);
        }
    }
}
