//! The few fields of an X.509 certificate (RFC 5280 section 4.1) that a node decides by.
//!
//! Signatures and paths are webpki's work; nothing here says that a certificate may be believed.

use core::fmt;

use super::{
    date::Civil,
    der::{self, Element, NotDer, Reader},
};
use crate::model::UnixTime;

/// The DER of a certificate is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CertificateError;

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the certificate is not valid X.509 DER")
    }
}

impl core::error::Error for CertificateError {}

impl From<NotDer> for CertificateError {
    fn from(_: NotDer) -> Self {
        Self
    }
}

/// What was read of a certificate; slices of its DER.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate<'a> {
    /// DER of the issuer's name.
    pub issuer: &'a [u8],
    /// DER of the subject's name.
    pub subject: &'a [u8],
    /// DER of the SubjectPublicKeyInfo.
    pub spki: &'a [u8],
    /// Start of validity.
    pub not_before: UnixTime,
    /// End of validity, inclusive.
    pub not_after: UnixTime,
    /// First common name of the subject.
    pub common_name: Option<&'a str>,
    /// First organization of the subject.
    pub organization: Option<&'a str>,
    /// First organizational unit of the subject.
    pub unit: Option<&'a str>,
    /// It may sign others: version 1, or basic constraints that say so.
    pub is_ca: bool,
    /// Content of the signature algorithm's object identifier.
    pub(super) signature_algorithm: &'a [u8],
}

impl<'a> Certificate<'a> {
    /// Reads one certificate that fills `der`.
    ///
    /// # Errors
    /// [`CertificateError`] when it is not X.509 in DER, or its dates do not exist.
    pub fn read(der: &'a [u8]) -> Result<Self, CertificateError> {
        let mut outer = Reader::new(der);
        let mut certificate = Reader::new(outer.expect(der::SEQUENCE)?.content);
        outer.end()?;
        let mut tbs = Reader::new(certificate.expect(der::SEQUENCE)?.content);
        let algorithm = certificate.expect(der::SEQUENCE)?;
        certificate.expect(der::BIT_STRING)?;
        certificate.end()?;

        let has_version = tbs.peek() == Some(der::CONTEXT_0);
        if has_version {
            tbs.element()?;
        }
        tbs.expect(der::INTEGER)?;
        if tbs.expect(der::SEQUENCE)?.raw != algorithm.raw {
            return Err(CertificateError);
        }
        let issuer = tbs.expect(der::SEQUENCE)?.raw;
        let mut validity = Reader::new(tbs.expect(der::SEQUENCE)?.content);
        let not_before = time(validity.element()?)?;
        let not_after = time(validity.element()?)?;
        validity.end()?;
        let subject = tbs.expect(der::SEQUENCE)?;
        let name = Name::read(subject.content)?;
        let spki = tbs.expect(der::SEQUENCE)?.raw;
        Ok(Self {
            issuer,
            subject: subject.raw,
            spki,
            not_before,
            not_after,
            common_name: name.common_name,
            organization: name.organization,
            unit: name.unit,
            is_ca: !has_version || basic_constraints(tbs)?,
            signature_algorithm: Reader::new(algorithm.content)
                .expect(der::OBJECT_IDENTIFIER)?
                .content,
        })
    }
}

#[derive(Default)]
struct Name<'a> {
    common_name: Option<&'a str>,
    organization: Option<&'a str>,
    unit: Option<&'a str>,
}

impl<'a> Name<'a> {
    fn read(content: &'a [u8]) -> Result<Self, NotDer> {
        let mut name = Self::default();
        let mut sets = Reader::new(content);
        while !sets.is_empty() {
            let mut set = Reader::new(sets.expect(der::SET)?.content);
            while !set.is_empty() {
                let mut attribute = Reader::new(set.expect(der::SEQUENCE)?.content);
                let kind = attribute.expect(der::OBJECT_IDENTIFIER)?.content;
                let value = attribute.element()?;
                attribute.end()?;
                // id-at (2.5.4) 3, 10 and 11.
                let place = match kind {
                    [0x55, 4, 3] => &mut name.common_name,
                    [0x55, 4, 10] => &mut name.organization,
                    [0x55, 4, 11] => &mut name.unit,
                    _ => continue,
                };
                if place.is_none() {
                    *place = Some(text(value)?);
                }
            }
        }
        Ok(name)
    }
}

fn text(value: Element<'_>) -> Result<&str, NotDer> {
    match value.tag {
        der::UTF8_STRING | der::PRINTABLE_STRING | der::IA5_STRING => {
            core::str::from_utf8(value.content).map_err(|_| NotDer)
        }
        _ => Err(NotDer),
    }
}

/// Looks for basic constraints (2.5.29.19) in what follows the public key.
fn basic_constraints(mut tbs: Reader<'_>) -> Result<bool, NotDer> {
    while !tbs.is_empty() {
        let field = tbs.element()?;
        if field.tag != der::CONTEXT_3 {
            continue;
        }
        let mut extensions = Reader::new(Reader::new(field.content).expect(der::SEQUENCE)?.content);
        while !extensions.is_empty() {
            let mut extension = Reader::new(extensions.expect(der::SEQUENCE)?.content);
            let kind = extension.expect(der::OBJECT_IDENTIFIER)?.content;
            if extension.peek() == Some(der::BOOLEAN) {
                extension.element()?;
            }
            let value = extension.expect(der::OCTET_STRING)?.content;
            if kind == [0x55, 0x1d, 0x13] {
                let mut constraints =
                    Reader::new(Reader::new(value).expect(der::SEQUENCE)?.content);
                return Ok(constraints.peek() == Some(der::BOOLEAN)
                    && constraints.element()?.content == [0xff]);
            }
        }
    }
    Ok(false)
}

fn time(value: Element<'_>) -> Result<UnixTime, NotDer> {
    let year_digits = match value.tag {
        der::UTC_TIME => 2,
        der::GENERALIZED_TIME => 4,
        _ => return Err(NotDer),
    };
    let digits = value.content.strip_suffix(b"Z").ok_or(NotDer)?;
    if digits.len() != year_digits + 10 {
        return Err(NotDer);
    }
    let (year, rest) = digits.split_at_checked(year_digits).ok_or(NotDer)?;
    let year = number(year)?;
    // RFC 5280 section 4.1.2.5.1: two digits mean 1950 to 2049.
    let year = match value.tag {
        der::UTC_TIME if year < 50 => year + 2000,
        der::UTC_TIME => year + 1900,
        _ => year,
    };
    let mut pairs = rest.chunks(2).map(number);
    let mut next = || pairs.next().unwrap_or(Err(NotDer));
    let civil = Civil {
        year,
        month: next()?,
        day: next()?,
        hour: next()?,
        minute: next()?,
        second: next()?,
    };
    civil.unix().ok_or(NotDer)
}

fn number(digits: &[u8]) -> Result<i64, NotDer> {
    digits.iter().try_fold(0, |number, digit| match digit {
        b'0'..=b'9' => Ok(number * 10 + i64::from(digit - b'0')),
        _ => Err(NotDer),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_time(tag: u8, text: &str) -> Option<i64> {
        let der = der::write(tag, &[text.as_bytes()]);
        time(Reader::new(&der).element().unwrap()).ok().map(UnixTime::seconds)
    }

    #[test]
    fn both_kinds_of_time_are_read() {
        assert_eq!(read_time(der::UTC_TIME, "700101000000Z"), Some(0));
        assert_eq!(read_time(der::UTC_TIME, "491231235959Z"), Some(2_524_607_999));
        assert_eq!(read_time(der::UTC_TIME, "500101000000Z"), Some(-631_152_000));
        assert_eq!(read_time(der::GENERALIZED_TIME, "20500101000000Z"), Some(2_524_608_000));
        for bad in ["7001010000Z", "700101000000", "70010100000aZ", "700230000000Z", "Z", ""] {
            assert_eq!(read_time(der::UTC_TIME, bad), None, "{bad}");
        }
        assert_eq!(read_time(der::UTF8_STRING, "700101000000Z"), None);
    }
}
