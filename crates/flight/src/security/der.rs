//! As much of DER as it takes to read whom a certificate is for and how long
//! it counts (RFC 5280, 4.1): TLS libraries judge certificates and do not tell.

use std::time::Duration;

use chrono::NaiveDate;
use sheaf_retry::Timestamp;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OCTETS: u8 = 0x04;
const OID: u8 = 0x06;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// The extensions of a certificate, and whether one of them is critical.
const EXTENSIONS: u8 = 0xa3;
const BOOLEAN: u8 = 0x01;
/// Among alternative names: one of DNS, a URI.
const NAMES: [u8; 2] = [0x82, 0x86];
/// 2.5.29.17: the alternative names of the subject.
const ALTERNATIVE_NAMES: [u8; 3] = [0x55, 0x1d, 0x11];
/// Kinds of text whose bytes are ASCII or UTF-8.
const TEXTS: [u8; 4] = [0x0c, 0x13, 0x14, 0x16];
/// 2.5.4.3: the common name.
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];

/// What is read of a certificate.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Read {
    /// `CN=name` of the subject; empty where it has no common name.
    pub(super) subject: String,
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
}

/// Reads a certificate; `None` for bytes that are none.
pub(super) fn read(certificate: &[u8]) -> Option<Read> {
    let mut outer = Reader(certificate).inside(SEQUENCE)?;
    let mut fields = outer.inside(SEQUENCE)?;
    if fields.peek() == Some(VERSION) {
        fields.next()?;
    }
    // Serial number, algorithm of the signature, issuer.
    for _ in 0..3 {
        fields.next()?;
    }
    let mut validity = fields.inside(SEQUENCE)?;
    let (not_before, not_after) = (time(validity.next()?)?, time(validity.next()?)?);
    let subject = common_name(fields.inside(SEQUENCE)?)?;
    Some(Read { subject, not_before, not_after })
}

/// The DNS names and URIs that a certificate is for, in its order (RFC 5280,
/// 4.2.1.6); `None` for bytes that are none.
pub(crate) fn alternative_names(certificate: &[u8]) -> Option<Vec<String>> {
    let mut fields = Reader(certificate).inside(SEQUENCE)?.inside(SEQUENCE)?;
    while fields.peek()? != EXTENSIONS {
        fields.next()?;
        if fields.peek().is_none() {
            return Some(Vec::new());
        }
    }
    let mut extensions = fields.inside(EXTENSIONS)?.inside(SEQUENCE)?;
    while extensions.peek().is_some() {
        let mut extension = extensions.inside(SEQUENCE)?;
        let kind = extension.next()?;
        if extension.peek() == Some(BOOLEAN) {
            extension.next()?;
        }
        if kind == (OID, &ALTERNATIVE_NAMES) {
            let mut names = extension.inside(OCTETS)?.inside(SEQUENCE)?;
            let mut found = Vec::new();
            while names.peek().is_some() {
                let (kind, name) = names.next()?;
                if NAMES.contains(&kind) {
                    found.push(std::str::from_utf8(name).ok()?.to_owned());
                }
            }
            return Some(found);
        }
    }
    Some(Vec::new())
}

fn common_name(mut names: Reader<'_>) -> Option<String> {
    while names.peek().is_some() {
        let mut attribute = names.inside(SET)?.inside(SEQUENCE)?;
        let (kind, value) = (attribute.next()?, attribute.next()?);
        if kind == (OID, &COMMON_NAME) && TEXTS.contains(&value.0) {
            return Some(format!("CN={}", String::from_utf8_lossy(value.1)));
        }
    }
    Some(String::new())
}

/// `YYMMDDHHMMSSZ` until 2049, `YYYYMMDDHHMMSSZ` from then on.
fn time((tag, value): (u8, &[u8])) -> Option<Timestamp> {
    let text = std::str::from_utf8(value).ok()?.strip_suffix('Z')?;
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = text.split_at_checked(2)?;
            let year: i32 = year.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    if rest.len() != 10 || !rest.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let part = |from: usize| rest[from..from + 2].parse::<u32>().ok();
    let day = NaiveDate::from_ymd_opt(year, part(0)?, part(2)?)?;
    let seconds = day.and_hms_opt(part(4)?, part(6)?, part(8)?)?.and_utc().timestamp();
    // What is before 1970 is as far gone as 1970 is.
    let seconds = u64::try_from(seconds).unwrap_or(0);
    Some(Timestamp::EPOCH.plus(Duration::from_secs(seconds)))
}

/// Values one after the other: tag, length, bytes.
#[derive(Clone, Copy)]
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, first], mut rest) = self.0.split_first_chunk::<2>()?;
        let length = match first {
            0..=0x7f => usize::from(first),
            // Up to four bytes of length: a file has at most a few megabytes.
            0x81..=0x84 => {
                let (bytes, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
                rest = after;
                bytes.iter().fold(0, |length, &byte| length << 8 | usize::from(byte))
            }
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, value))
    }

    fn inside(&mut self, wanted: u8) -> Option<Reader<'a>> {
        let (tag, value) = self.next()?;
        (tag == wanted).then_some(Reader(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};

    fn certificate(until: i32) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Sheaf");
        params.distinguished_name.push(DnType::CommonName, "a test");
        params.not_before = date_time_ymd(1999, 12, 31);
        params.not_after = date_time_ymd(until, 3, 1);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn both_forms_of_time_are_read() {
        // 1999-12-31, 2049-03-01 and 2060-03-01.
        for (until, days) in [(2049, 28_914), (2060, 32_932)] {
            let read = read(&certificate(until)).unwrap();
            let of = |time: Timestamp| time.as_millis() / 86_400_000;
            assert_eq!((of(read.not_before), of(read.not_after)), (10_956, days), "{until}");
            assert_eq!(read.subject, "CN=a test");
        }
    }

    #[test]
    fn alternative_names_are_read() {
        let uri = rcgen::SanType::URI("sheaf://c/node/3".try_into().unwrap());
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.subject_alt_names.push(rcgen::SanType::IpAddress([127, 0, 0, 1].into()));
        params.subject_alt_names.push(uri);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let named = params.self_signed(&key).unwrap();
        let names = alternative_names(named.der()).unwrap();
        assert_eq!(names, ["localhost", "sheaf://c/node/3"]);
        params.subject_alt_names.clear();
        let unnamed = params.self_signed(&key).unwrap();
        assert_eq!(alternative_names(unnamed.der()), Some(Vec::new()));
        let whole = named.der();
        assert!((0..whole.len()).all(|end| alternative_names(&whole[..end]).is_none()));
        for place in 0..whole.len() {
            let mut bent = whole.to_vec();
            bent[place] ^= 0xff;
            // Any answer will do but a panic.
            drop(alternative_names(&bent));
        }
    }

    #[test]
    fn no_bytes_are_too_short_or_too_odd() {
        let whole = certificate(2049);
        // A cut is seen at once, since the outermost length does not fit any more.
        assert!((0..whole.len()).all(|end| read(&whole[..end]).is_none()));
        let mut seen = 0;
        for place in 0..whole.len() {
            for byte in [0x00, 0x30, 0x7f, 0x84, 0xff] {
                let mut bent = whole.clone();
                bent[place] = byte;
                seen += usize::from(read(&bent).is_some());
            }
        }
        assert!(seen > 0, "most changes are in what is not read");
    }
}
