//! CRC32C over everything that is read back. The key is part of it, so that a value in a wrong place is found too.

/// Length of the checksum in front of a sealed value.
pub(crate) const SEAL_BYTES: usize = 4;

/// The checksum of `parts`, one after the other.
pub(crate) fn crc(parts: &[&[u8]]) -> u32 {
    parts.iter().fold(0, |crc, part| crc32c::crc32c_append(crc, part))
}

/// `value` with the checksum of `key` and `value` in front.
pub(crate) fn seal(key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(SEAL_BYTES + value.len());
    sealed.extend_from_slice(&crc(&[key, value]).to_le_bytes());
    sealed.extend_from_slice(value);
    sealed
}

/// What [`seal`] was given, or `None` if it is damaged.
pub(crate) fn unseal<'a>(key: &[u8], sealed: &'a [u8]) -> Option<&'a [u8]> {
    let (found, value) = sealed.split_first_chunk::<SEAL_BYTES>()?;
    (u32::from_le_bytes(*found) == crc(&[key, value])).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flipped_bit_or_another_key_is_found() {
        let sealed = seal(b"key", b"value");
        assert_eq!(unseal(b"key", &sealed), Some(&b"value"[..]));
        assert_eq!(unseal(b"kez", &sealed), None);
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 4;
            assert_eq!(unseal(b"key", &damaged), None, "byte {at}");
        }
        assert_eq!(unseal(b"key", &sealed[..3]), None);
    }
}
