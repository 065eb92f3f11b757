//! Reads of a certificate (RFC 5280 §4.1) what says who it is for, and writes it as RabbitMQ does (RFC 4514). The
//! certificate has been verified before; still every length is checked. Knows no signature and no extension.

/// What a certificate says of its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Who it is for.
    pub subject: Subject,
    /// Who has made it.
    pub issuer: Subject,
    /// From when to when it counts, as `2026-01-31T00:00:00Z - 2027-01-31T00:00:00Z`.
    pub validity: String,
    /// The end of that.
    pub expires: String,
}

/// A distinguished name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// Its attributes in the certificate's order, those of one part together.
    parts: Vec<Vec<(String, String)>>,
}

/// Attributes that have a short name.
const NAMES: [(&[u8], &str); 17] = [
    (&[0x55, 0x04, 0x03], "CN"),
    (&[0x55, 0x04, 0x04], "SN"),
    (&[0x55, 0x04, 0x05], "SERIALNUMBER"),
    (&[0x55, 0x04, 0x06], "C"),
    (&[0x55, 0x04, 0x07], "L"),
    (&[0x55, 0x04, 0x08], "ST"),
    (&[0x55, 0x04, 0x09], "STREET"),
    (&[0x55, 0x04, 0x0a], "O"),
    (&[0x55, 0x04, 0x0b], "OU"),
    (&[0x55, 0x04, 0x0c], "TITLE"),
    (&[0x55, 0x04, 0x2a], "GIVENNAME"),
    (&[0x55, 0x04, 0x2b], "INITIALS"),
    (&[0x55, 0x04, 0x2c], "GENERATIONQUALIFIER"),
    (&[0x55, 0x04, 0x2e], "DNQUALIFIER"),
    (&[0x55, 0x04, 0x41], "PSEUDONYM"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x19], "DC"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x01], "EMAILADDRESS"),
];

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_IDENTIFIER: u8 = 0x06;
const INTEGER: u8 = 0x02;
/// The version's tag, which an old certificate leaves out.
const VERSION: u8 = 0xa0;

impl Certificate {
    /// Reads a certificate in DER; `None` when it is none.
    #[must_use]
    pub fn parse(der: &[u8]) -> Option<Self> {
        let mut signed = Der(Der(der).expect(SEQUENCE)?);
        let mut body = Der(signed.expect(SEQUENCE)?);
        if body.0.first() == Some(&VERSION) {
            body.next()?;
        }
        body.expect(INTEGER)?;
        body.expect(SEQUENCE)?;
        let issuer = Subject::parse(body.expect(SEQUENCE)?)?;
        let mut validity = Der(body.expect(SEQUENCE)?);
        let (from, to) = (time(validity.next()?)?, time(validity.next()?)?);
        let subject = Subject::parse(body.expect(SEQUENCE)?)?;
        Some(Self { subject, issuer, validity: format!("{from} - {to}"), expires: to })
    }
}

impl Subject {
    fn parse(der: &[u8]) -> Option<Self> {
        let mut parts = Vec::new();
        let mut sequence = Der(der);
        while !sequence.0.is_empty() {
            let mut set = Der(sequence.expect(SET)?);
            let mut part = Vec::new();
            while !set.0.is_empty() {
                let mut attribute = Der(set.expect(SEQUENCE)?);
                let kind = attribute.expect(OBJECT_IDENTIFIER)?;
                let (tag, value) = attribute.next()?;
                part.push((name(kind), text(tag, value)));
            }
            parts.push(part);
        }
        Some(Self { parts })
    }

    /// The whole name, the last part first: `CN=client,O=Example`.
    #[must_use]
    pub fn distinguished_name(&self) -> String {
        let part = |part: &Vec<(String, String)>| {
            let attributes: Vec<String> =
                part.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect();
            attributes.join("+")
        };
        self.parts.iter().rev().map(part).collect::<Vec<_>>().join(",")
    }

    /// Its common names, joined by commas if there are several; `None` without one.
    #[must_use]
    pub fn common_name(&self) -> Option<String> {
        let names: Vec<&str> = self
            .parts
            .iter()
            .flatten()
            .filter(|(name, _)| name == "CN")
            .map(|(_, value)| value.as_str())
            .collect();
        (!names.is_empty()).then(|| names.join(","))
    }
}

/// A row of values in DER (X.690).
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next value's tag and content.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x84 => {
                let (octets, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                let length = octets.iter().fold(0_usize, |length, octet| (length << 8) | usize::from(*octet));
                (length, rest)
            }
            // Longer than any certificate, or of a length that DER does not have.
            0x80 | 0x85..=0xff => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }
}

fn name(kind: &[u8]) -> String {
    match NAMES.iter().find(|(octets, _)| *octets == kind) {
        Some((_, name)) => (*name).to_owned(),
        None => dotted(kind),
    }
}

/// An object identifier in numbers.
fn dotted(octets: &[u8]) -> String {
    let mut numbers = Vec::new();
    let mut number = 0_u64;
    for octet in octets {
        number = (number << 7) | u64::from(octet & 0x7f);
        if octet & 0x80 == 0 {
            numbers.push(number);
            number = 0;
        }
    }
    let Some(first) = numbers.first_mut() else { return String::new() };
    let root = (*first / 40).min(2);
    *first -= root * 40;
    let rest: Vec<String> = numbers.iter().map(u64::to_string).collect();
    format!("{root}.{}", rest.join("."))
}

/// A string of any of the types that names have; anything else in hexadecimal, as RFC 4514 §2.4 says.
fn text(tag: u8, value: &[u8]) -> String {
    match tag {
        // UTF8String, NumericString, PrintableString, IA5String, VisibleString.
        0x0c | 0x12 | 0x13 | 0x16 | 0x1a => String::from_utf8_lossy(value).into_owned(),
        // TeletexString: in practice Latin-1.
        0x14 => value.iter().map(|octet| char::from(*octet)).collect(),
        // BMPString.
        0x1e => {
            let units = value
                .chunks_exact(2)
                .map(|pair| pair.iter().fold(0_u16, |unit, b| (unit << 8) | u16::from(*b)));
            char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
        }
        _ => value.iter().fold("#".to_owned(), |text, octet| format!("{text}{octet:02x}")),
    }
}

fn escape(value: &str) -> String {
    let last = value.chars().count().saturating_sub(1);
    let mut out = String::with_capacity(value.len());
    for (number, character) in value.chars().enumerate() {
        let special = matches!(character, ',' | '+' | '"' | '\\' | '<' | '>' | ';')
            || (number == 0 && matches!(character, '#' | ' '))
            || (number == last && character == ' ');
        if special {
            out.push('\\');
        }
        out.push(character);
    }
    out
}

/// UTCTime or GeneralizedTime as in RFC 5280 §4.1.2.5, in ISO 8601.
fn time((tag, value): (u8, &[u8])) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?.strip_suffix('Z')?;
    let full = match (tag, text.len()) {
        (0x17, 12) if text < "50" => format!("20{text}"),
        (0x17, 12) => format!("19{text}"),
        (0x18, 14) => text.to_owned(),
        (_, _) => return None,
    };
    if !full.bytes().all(|octet| octet.is_ascii_digit()) {
        return None;
    }
    let part = |range: std::ops::Range<usize>| full.get(range).unwrap_or_default();
    Some(format!(
        "{}-{}-{}T{}:{}:{}Z",
        part(0..4),
        part(4..6),
        part(6..8),
        part(8..10),
        part(10..12),
        part(12..14)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair};

    fn certificate(names: &[(DnType, &str)]) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in names {
            params.distinguished_name.push(kind.clone(), *value);
        }
        params.not_before = rcgen::date_time_ymd(2026, 1, 31);
        params.not_after = rcgen::date_time_ymd(2056, 12, 1);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn a_name_is_written_the_last_part_first_and_escaped() {
        let der = certificate(&[
            (DnType::CountryName, "DE"),
            (DnType::OrganizationName, "Rabbits, Hares + Sons"),
            (DnType::CustomDnType(vec![1, 2, 840, 99_999, 7]), "odd"),
            (DnType::CommonName, "#cliänt "),
        ]);
        let parsed = Certificate::parse(&der).unwrap();
        let name = "CN=\\#cliänt\\ ,1.2.840.99999.7=odd,O=Rabbits\\, Hares \\+ Sons,C=DE";
        assert_eq!(parsed.subject.distinguished_name(), name);
        assert_eq!(parsed.issuer, parsed.subject);
        assert_eq!(parsed.subject.common_name().unwrap(), "#cliänt ");
        assert_eq!(parsed.validity, "2026-01-31T00:00:00Z - 2056-12-01T00:00:00Z");
        assert_eq!(parsed.expires, "2056-12-01T00:00:00Z");
        let nameless = Certificate::parse(&certificate(&[(DnType::OrganizationName, "x")])).unwrap();
        assert_eq!(nameless.subject.common_name(), None);
    }

    #[test]
    fn what_is_cut_short_or_changed_is_no_certificate_or_another_but_never_a_panic() {
        let der = certificate(&[(DnType::CommonName, "client")]);
        for length in 0..der.len() {
            let _none_or_some = Certificate::parse(&der[..length]);
        }
        for position in 0..der.len() {
            for bit in 0..8 {
                let mut changed = der.clone();
                changed[position] ^= 1 << bit;
                if let Some(parsed) = Certificate::parse(&changed) {
                    let _shown = parsed.subject.distinguished_name();
                }
            }
        }
        assert_eq!(Certificate::parse(&[]), None);
        assert_eq!(Certificate::parse(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
    }
}
