//! Whom a certificate is for, as those that it signs have to name it (RFC 5280, 4.1.2.4).

use rcgen::string::{PrintableString, TeletexString};
use rcgen::{DistinguishedName, DnType, DnValue};

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OID: u8 = 0x06;
const VERSION: u8 = 0xa0;
const UTF8: u8 = 0x0c;
const PRINTABLE: u8 = 0x13;
const TELETEX: u8 = 0x14;

/// The subject of a certificate in DER; `None` for bytes that are none, and for a name that
/// has texts of rare kinds.
pub(super) fn subject(certificate: &[u8]) -> Option<DistinguishedName> {
    let mut fields = inside(inside(certificate, SEQUENCE)?.0, SEQUENCE)?.0;
    if fields.first() == Some(&VERSION) {
        fields = next(fields)?.2;
    }
    // Serial number, algorithm of the signature, issuer, validity.
    for _ in 0..4 {
        fields = next(fields)?.2;
    }
    let (mut parts, _) = inside(fields, SEQUENCE)?;
    let (mut name, mut count) = (DistinguishedName::new(), 0);
    while !parts.is_empty() {
        let (part, rest) = inside(parts, SET)?;
        let (pair, more) = inside(part, SEQUENCE)?;
        let (kind, value) = inside(pair, OID)?;
        let (tag, text, _) = next(value)?;
        if !more.is_empty() {
            return None;
        }
        name.push(DnType::from_oid(&arcs(kind)?), value_of(tag, text)?);
        (parts, count) = (rest, count + 1);
    }
    // Of two parts of one kind only one is kept.
    (name.iter().count() == count).then_some(name)
}

fn value_of(tag: u8, text: &[u8]) -> Option<DnValue> {
    let text = std::str::from_utf8(text).ok()?;
    Some(match tag {
        UTF8 => DnValue::Utf8String(text.to_owned()),
        PRINTABLE => DnValue::PrintableString(PrintableString::try_from(text).ok()?),
        TELETEX => DnValue::TeletexString(TeletexString::try_from(text).ok()?),
        _ => return None,
    })
}

/// An object identifier as its numbers.
fn arcs(bytes: &[u8]) -> Option<Vec<u64>> {
    let (first, rest) = bytes.split_first()?;
    let mut arcs = vec![u64::from(first / 40), u64::from(first % 40)];
    let mut value: u64 = 0;
    for byte in rest {
        value = value.checked_mul(128)?.checked_add(u64::from(byte & 0x7f))?;
        if byte & 0x80 == 0 {
            arcs.push(value);
            value = 0;
        }
    }
    Some(arcs)
}

/// What is inside the first value, which is of this kind, and what follows it.
fn inside(bytes: &[u8], kind: u8) -> Option<(&[u8], &[u8])> {
    let (tag, value, rest) = next(bytes)?;
    (tag == kind).then_some((value, rest))
}

/// Kind and content of the first value, and what follows it.
fn next(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match usize::from(*first) {
        short @ 0..0x80 => (short, rest),
        long => {
            let count = long - 0x80;
            if !(1..=4).contains(&count) {
                return None;
            }
            let (length, rest) = rest.split_at_checked(count)?;
            (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
    };
    let (value, rest) = rest.split_at_checked(length)?;
    Some((*tag, value, rest))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    #[test]
    fn a_subject_is_read_as_it_was_written() {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in [
            (DnType::CountryName, DnValue::PrintableString("DE".try_into().unwrap())),
            (DnType::OrganizationName, DnValue::Utf8String("Käse und Söhne".repeat(12))),
            (DnType::from_oid(&[0, 9, 2342, 19_200_300, 100, 1, 25]), DnValue::from("x")),
            (DnType::CommonName, DnValue::from("an authority")),
        ] {
            params.distinguished_name.push(kind, value);
        }
        let expected = params.distinguished_name.clone();
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let found = subject(certificate.der()).unwrap();
        let all = |name: &DistinguishedName| {
            name.iter().map(|(kind, value)| format!("{kind:?} {value:?}")).collect::<Vec<_>>()
        };
        assert_eq!(all(&found).len(), 4);
        let texts = |name: &DistinguishedName| {
            name.iter().map(|(_, value)| format!("{value:?}")).collect::<Vec<_>>()
        };
        assert_eq!(texts(&found), texts(&expected));
        for end in 0..certificate.der().len() {
            // Nothing panics on what was cut off.
            drop(subject(&certificate.der()[..end]));
        }
    }
}
