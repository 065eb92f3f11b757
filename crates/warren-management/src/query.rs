//! Percent-encoding: path parts and query strings, from bytes that anybody may have sent.

use crate::error::ApiError;

/// A path part, decoded. `+` stays `+`.
///
/// # Errors
/// 400 for a `%` without two hex digits, or what is not UTF-8 after decoding.
pub(crate) fn decode_part(part: &str) -> Result<String, ApiError> {
    decode(part.as_bytes().iter().copied())
}

/// The pairs of a query string, in order. A key without `=` has an empty value.
///
/// # Errors
/// As [`decode_part`].
pub(crate) fn pairs(query: &str) -> Result<Vec<(String, String)>, ApiError> {
    let form = |text: &str| decode(text.bytes().map(|byte| if byte == b'+' { b' ' } else { byte }));
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((form(key)?, form(value)?))
        })
        .collect()
}

fn decode(mut bytes: impl Iterator<Item = u8>) -> Result<String, ApiError> {
    let bad = || ApiError::BadRequest("the path or query is not percent-encoded UTF-8".to_owned());
    let mut decoded = Vec::new();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit =
            || bytes.next().and_then(|byte| char::from(byte).to_digit(16)).and_then(|n| u8::try_from(n).ok());
        let (high, low) = (digit().ok_or_else(bad)?, digit().ok_or_else(bad)?);
        decoded.push(high * 16 + low);
    }
    String::from_utf8(decoded).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_parts_are_decoded_and_broken_ones_refused() {
        for (part, decoded) in [
            ("%2F", Some("/")),
            ("%2f", Some("/")),
            ("a+b", Some("a+b")),
            ("a%20b", Some("a b")),
            ("%C3%BC", Some("ü")),
            ("", Some("")),
            ("%", None),
            ("%2", None),
            ("%zz", None),
            ("%FF", None),
        ] {
            assert_eq!(decode_part(part).ok().as_deref(), decoded, "{part}");
        }
    }

    #[test]
    fn a_query_is_a_list_of_pairs() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(pairs("a=1&b&c=x+y%26&").unwrap(), [pair("a", "1"), pair("b", ""), pair("c", "x y&")]);
        assert!(pairs("a=%G0").is_err());
    }
}
