//! The certificate authority: roots, certificates exactly as swarm issues them, join tokens.
//!
//! Sources: swarmkit `ca/certificates.go` and `ca/config.go`, cfssl's signing template
//! (behaviour.md §1 and §3.6). Pure but for random numbers. Every certificate, good or evil, is
//! one [`Template`]; an evil one differs in the fields that its name says.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::{
    digest::{self, SHA1_FOR_LEGACY_USE_ONLY, SHA256},
    rand::{SecureRandom as _, SystemRandom},
    signature::{
        self, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
    },
};
use serde::{Deserialize, Serialize};

use crate::{
    der::{self, Value},
    time,
};

/// A certificate is backdated by this much, in seconds, and lives this much longer.
const BACKDATE_S: i64 = 3600;
/// A root is backdated by this much, in seconds, and lives 20 years of 365 days from there.
const ROOT_BACKDATE_S: i64 = 300;
const ROOT_VALIDITY_S: i64 = 20 * 365 * 86_400;

/// 1.2.840.10045.4.3.2, ecdsa-with-SHA256
const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
/// 1.2.840.10045.4.3.3, ecdsa-with-SHA384
const ECDSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3];
/// 1.2.840.113549.1.1.11, sha256WithRSAEncryption
const RSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11];
/// 1.2.840.10045.2.1, and 1.2.840.10045.3.1.7
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
/// 2.5.4.3, 2.5.4.10, 2.5.4.11
const COMMON_NAME: &[u8] = &[0x55, 4, 3];
const ORGANIZATION: &[u8] = &[0x55, 4, 10];
const ORGANIZATIONAL_UNIT: &[u8] = &[0x55, 4, 11];

/// Random bytes failed: the kernel gives none.
#[derive(Debug)]
pub(crate) struct NoRandom;

/// `N` random bytes.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], NoRandom> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandom)?;
    Ok(bytes)
}

/// A swarm identifier, and likewise the secret of a join token: 128 random bits in 25 digits of
/// base 36 (swarmkit `identity/randomid.go`, `ca/config.go`).
pub(crate) fn random_id() -> Result<String, NoRandom> {
    Ok(base36(&random::<16>()?, 25))
}

/// A big-endian number in base 36, padded with zeros to `width` digits.
pub(crate) fn base36(number: &[u8], width: usize) -> String {
    let mut rest = number.to_vec();
    let mut digits = Vec::new();
    while rest.iter().any(|byte| *byte != 0) {
        let mut remainder = 0_u32;
        for byte in &mut rest {
            let value = (remainder << 8) | u32::from(*byte);
            *byte = u8::try_from(value / 36).unwrap_or_default();
            remainder = value % 36;
        }
        digits.push(char::from_digit(remainder, 36).unwrap_or('0'));
    }
    digits.resize(digits.len().max(width), '0');
    digits.iter().rev().collect()
}

/// The join token for workers: the digest of the root bundle, and a secret.
pub(crate) fn join_token(root_pem: &[u8], secret: &str) -> String {
    format!("SWMTKN-1-{}-{secret}", base36(digest::digest(&SHA256, root_pem).as_ref(), 50))
}

/// SHA-256 of a SubjectPublicKeyInfo, in hexadecimal: what the device shows, too.
pub(crate) fn fingerprint(spki: &[u8]) -> String {
    digest::digest(&SHA256, spki).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// PEM of one block.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// The DER of every PEM block in `text`, whatever its label.
pub(crate) fn unpem(text: &str) -> Vec<Vec<u8>> {
    let mut blocks = Vec::new();
    let mut current: Option<String> = None;
    for line in text.lines().map(str::trim) {
        if line.starts_with("-----BEGIN ") {
            current = Some(String::new());
        } else if line.starts_with("-----END ") {
            blocks.extend(current.take().and_then(|body| STANDARD.decode(body).ok()));
        } else if let Some(body) = &mut current {
            body.push_str(line);
        }
    }
    blocks
}

/// A new P-256 key, PKCS#8.
pub(crate) fn new_key() -> Result<Vec<u8>, NoRandom> {
    EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
        .map(|key| key.as_ref().to_vec())
        .map_err(|_| NoRandom)
}

fn open_key(pkcs8: &[u8]) -> Result<EcdsaKeyPair, NoRandom> {
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8, &SystemRandom::new())
        .map_err(|_| NoRandom)
}

/// The SubjectPublicKeyInfo of a P-256 key in PKCS#8.
pub(crate) fn spki_of(pkcs8: &[u8]) -> Result<Vec<u8>, NoRandom> {
    let key = open_key(pkcs8)?;
    let algorithm = der::write(
        der::SEQUENCE,
        &[
            &der::write(der::OBJECT_IDENTIFIER, &[EC_PUBLIC_KEY]),
            &der::write(der::OBJECT_IDENTIFIER, &[P256]),
        ],
    );
    let bits = der::write(der::BIT_STRING, &[&[0], key.public_key().as_ref()]);
    Ok(der::write(der::SEQUENCE, &[&algorithm, &bits]))
}

/// O, OU and CN of a certificate; a part that is empty is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) organization: String,
    pub(crate) unit: String,
    pub(crate) name: String,
}

impl Subject {
    /// In Go's order, PrintableString for all of swarm's own text.
    fn der(&self) -> Vec<u8> {
        let parts = [
            (ORGANIZATION, &self.organization),
            (ORGANIZATIONAL_UNIT, &self.unit),
            (COMMON_NAME, &self.name),
        ];
        let printable = |c: char| c.is_ascii_alphanumeric() || " '()+,-./:=?".contains(c);
        let sets = parts.iter().filter(|(_, text)| !text.is_empty()).map(|(kind, text)| {
            let tag =
                if text.chars().all(printable) { der::PRINTABLE_STRING } else { der::UTF8_STRING };
            let pair =
                [der::write(der::OBJECT_IDENTIFIER, &[kind]), der::write(tag, &[text.as_bytes()])];
            let [kind, text] = &pair;
            der::write(der::SET, &[&der::write(der::SEQUENCE, &[kind, text])])
        });
        der::write(der::SEQUENCE, &[&sets.flatten().collect::<Vec<u8>>()])
    }
}

/// What a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// A root, or a new root signed by the old one.
    Authority,
    /// A node, with these DNS names.
    Node(Vec<String>),
}

/// A certificate before it is signed. Its public fields are the levers of the evil modes.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    pub(crate) subject: Subject,
    /// DER of the SubjectPublicKeyInfo.
    pub(crate) spki: Vec<u8>,
    /// Seconds since 1970.
    pub(crate) not_before: i64,
    pub(crate) not_after: i64,
    pub(crate) purpose: Use,
}

impl Template {
    /// A certificate for a worker or manager of this swarm, from `now` on.
    ///
    /// A validity of an hour or more is counted as swarm does: from the full minute an hour ago,
    /// and an hour longer. A shorter one, which swarm does not have, is exact.
    pub(crate) fn node(
        cluster: &str,
        id: &str,
        role: Role,
        spki: Vec<u8>,
        validity_s: i64,
        now: i64,
    ) -> Self {
        let not_before =
            if validity_s < BACKDATE_S { now - 1 } else { full_minute(now) - BACKDATE_S };
        let extra = if validity_s < BACKDATE_S { 1 } else { BACKDATE_S };
        let mut names = vec![role.unit().to_owned(), id.to_owned()];
        if role == Role::Manager {
            names.push(String::from("swarm-ca"));
        }
        Self {
            subject: Subject {
                organization: cluster.to_owned(),
                unit: role.unit().to_owned(),
                name: id.to_owned(),
            },
            spki,
            not_before,
            not_after: not_before + validity_s + extra,
            purpose: Use::Node(names),
        }
    }

    fn extensions(&self, issuer_key_id: &[u8]) -> Option<Vec<u8>> {
        let critical = der::write(der::BOOLEAN, &[&[0xff]]);
        let extension = |number: u8, is_critical: bool, value: &[u8]| {
            let kind = der::write(der::OBJECT_IDENTIFIER, &[&[0x55, 0x1d, number]]);
            let value = der::write(der::OCTET_STRING, &[value]);
            let critical: &[u8] = if is_critical { &critical } else { &[] };
            der::write(der::SEQUENCE, &[&kind, critical, &value])
        };
        let key_id = der::write(der::OCTET_STRING, &[&key_id(&self.spki)?]);
        let authority = der::write(der::SEQUENCE, &[&der::write(0x80, &[issuer_key_id])]);
        let mut all = Vec::new();
        match &self.purpose {
            Use::Authority => {
                // keyCertSign, cRLSign
                all.extend(extension(15, true, &der::write(der::BIT_STRING, &[&[1, 0x06]])));
                let is_authority = der::write(der::BOOLEAN, &[&[0xff]]);
                all.extend(extension(19, true, &der::write(der::SEQUENCE, &[&is_authority])));
                all.extend(extension(14, false, &key_id));
            }
            Use::Node(names) => {
                // digitalSignature, keyEncipherment
                all.extend(extension(15, true, &der::write(der::BIT_STRING, &[&[5, 0xa0]])));
                // serverAuth, clientAuth: 1.3.6.1.5.5.7.3.{1,2}
                let purpose = |number| {
                    let oid = [0x2b, 6, 1, 5, 5, 7, 3, number];
                    der::write(der::OBJECT_IDENTIFIER, &[&oid])
                };
                let purposes = der::write(der::SEQUENCE, &[&purpose(1), &purpose(2)]);
                all.extend(extension(37, false, &purposes));
                all.extend(extension(19, true, &der::write(der::SEQUENCE, &[])));
                all.extend(extension(14, false, &key_id));
                all.extend(extension(35, false, &authority));
                let names: Vec<u8> =
                    names.iter().flat_map(|name| der::write(0x82, &[name.as_bytes()])).collect();
                if !names.is_empty() {
                    all.extend(extension(17, false, &der::write(der::SEQUENCE, &[&names])));
                }
            }
        }
        Some(der::write(der::context(3), &[&der::write(der::SEQUENCE, &[&all])]))
    }
}

/// The nearest full minute, as cfssl rounds.
const fn full_minute(seconds: i64) -> i64 {
    (seconds + 30).div_euclid(60) * 60
}

/// SHA-1 over the public key's bits (RFC 5280 §4.2.1.2, method 1).
fn key_id(spki: &[u8]) -> Option<Vec<u8>> {
    let mut outer = der::expect(&mut &*spki, der::SEQUENCE)?.content;
    der::read(&mut outer)?;
    let bits = der::expect(&mut outer, der::BIT_STRING)?.content.get(1..)?;
    Some(digest::digest(&SHA1_FOR_LEGACY_USE_ONLY, bits).as_ref().to_vec())
}

/// What a node may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Worker,
    Manager,
}

impl Role {
    /// The organizational unit, which is also the DNS name.
    pub(crate) const fn unit(self) -> &'static str {
        match self {
            Self::Worker => "swarm-worker",
            Self::Manager => "swarm-manager",
        }
    }
}

/// A key that signs, and its certificate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Authority {
    /// PKCS#8, PEM. The lab's folder is 0700; nothing here is worth more than a test.
    key: String,
    /// PEM.
    pub(crate) certificate: String,
}

impl Authority {
    /// A new self-signed root, as `docker swarm init` makes one.
    pub(crate) fn new(now: i64) -> Result<Self, NoRandom> {
        let key = new_key()?;
        let template = Template {
            subject: Subject { name: String::from("swarm-ca"), ..Subject::default() },
            spki: spki_of(&key)?,
            not_before: full_minute(now) - ROOT_BACKDATE_S,
            not_after: full_minute(now) - ROOT_BACKDATE_S + ROOT_VALIDITY_S,
            purpose: Use::Authority,
        };
        let der = sign(
            &template,
            &template.subject.der(),
            &key_id(&template.spki).ok_or(NoRandom)?,
            &key,
        )?;
        Ok(Self { key: pem("PRIVATE KEY", &key), certificate: pem("CERTIFICATE", &der) })
    }

    /// Signs; gives PEM.
    pub(crate) fn sign(&self, template: &Template) -> Result<String, NoRandom> {
        let own = self.facts().ok_or(NoRandom)?;
        let key = unpem(&self.key).into_iter().next().ok_or(NoRandom)?;
        let id = key_id(&own.spki).ok_or(NoRandom)?;
        Ok(pem("CERTIFICATE", &sign(template, &own.subject, &id, &key)?))
    }

    /// The same key and subject as `other`, certified by this authority.
    pub(crate) fn cross_sign(&self, other: &Self, now: i64) -> Result<String, NoRandom> {
        let facts = other.facts().ok_or(NoRandom)?;
        self.sign(&Template {
            subject: Subject { name: String::from("swarm-ca"), ..Subject::default() },
            spki: facts.spki,
            not_before: now - BACKDATE_S,
            not_after: now + ROOT_VALIDITY_S,
            purpose: Use::Authority,
        })
    }

    /// Subject and key of this authority's certificate.
    pub(crate) fn facts(&self) -> Option<Facts> {
        Facts::of(unpem(&self.certificate).first()?)
    }
}

fn sign(
    template: &Template,
    issuer: &[u8],
    issuer_key_id: &[u8],
    key: &[u8],
) -> Result<Vec<u8>, NoRandom> {
    let mut serial = random::<20>()?;
    if let Some(first) = serial.first_mut() {
        *first = *first & 0x3f | 0x40;
    }
    let algorithm =
        der::write(der::SEQUENCE, &[&der::write(der::OBJECT_IDENTIFIER, &[ECDSA_SHA256])]);
    let validity = der::write(
        der::SEQUENCE,
        &[&time::x509(template.not_before), &time::x509(template.not_after)],
    );
    let body = der::write(
        der::SEQUENCE,
        &[
            &der::write(der::context(0), &[&der::write(der::INTEGER, &[&[2]])]),
            &der::write(der::INTEGER, &[&serial]),
            &algorithm,
            issuer,
            &validity,
            &template.subject.der(),
            &template.spki,
            &template.extensions(issuer_key_id).ok_or(NoRandom)?,
        ],
    );
    let signature = open_key(key)?.sign(&SystemRandom::new(), &body).map_err(|_| NoRandom)?;
    let signature = der::write(der::BIT_STRING, &[&[0], signature.as_ref()]);
    Ok(der::write(der::SEQUENCE, &[&body, &algorithm, &signature]))
}

/// What the lab reads in a certificate.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// DER of the subject.
    pub(crate) subject: Vec<u8>,
    /// DER of the SubjectPublicKeyInfo.
    pub(crate) spki: Vec<u8>,
    /// The parts of the subject that swarm uses.
    pub(crate) named: Subject,
}

impl Facts {
    /// Reads a certificate; its signature is somebody else's matter.
    pub(crate) fn of(certificate: &[u8]) -> Option<Self> {
        let mut outer = der::expect(&mut &*certificate, der::SEQUENCE)?.content;
        let mut body = der::expect(&mut outer, der::SEQUENCE)?.content;
        let mut next = der::read(&mut body)?;
        if next.tag == der::context(0) {
            next = der::read(&mut body)?;
        }
        debug_assert_eq!(next.tag, der::INTEGER);
        // signature algorithm, issuer, validity
        for _ in 0..3 {
            der::expect(&mut body, der::SEQUENCE)?;
        }
        let subject = der::expect(&mut body, der::SEQUENCE)?;
        let spki = der::expect(&mut body, der::SEQUENCE)?;
        Some(Self {
            subject: subject.whole.to_vec(),
            spki: spki.whole.to_vec(),
            named: named(subject)?,
        })
    }
}

fn named(subject: Value<'_>) -> Option<Subject> {
    let mut found = Subject::default();
    let mut sets = subject.content;
    while !sets.is_empty() {
        let mut set = der::expect(&mut sets, der::SET)?.content;
        while !set.is_empty() {
            let mut pair = der::expect(&mut set, der::SEQUENCE)?.content;
            let kind = der::expect(&mut pair, der::OBJECT_IDENTIFIER)?.content;
            let text = String::from_utf8(der::read(&mut pair)?.content.to_vec()).ok()?;
            if kind == ORGANIZATION {
                found.organization = text;
            } else if kind == ORGANIZATIONAL_UNIT {
                found.unit = text;
            } else if kind == COMMON_NAME {
                found.name = text;
            }
        }
    }
    Some(found)
}

/// The public key of a certificate request whose own signature is right; the rest of a request
/// is discarded (behaviour.md §3.1).
pub(crate) fn request_key(csr_pem: &[u8]) -> Option<Vec<u8>> {
    let blocks = unpem(std::str::from_utf8(csr_pem).ok()?);
    let mut outer = der::expect(&mut blocks.first()?.as_slice(), der::SEQUENCE)?.content;
    let info = der::expect(&mut outer, der::SEQUENCE)?;
    let mut algorithm = der::expect(&mut outer, der::SEQUENCE)?.content;
    let algorithm = der::expect(&mut algorithm, der::OBJECT_IDENTIFIER)?.content;
    let signature = der::expect(&mut outer, der::BIT_STRING)?.content.get(1..)?;

    let mut fields = info.content;
    der::expect(&mut fields, der::INTEGER)?;
    der::expect(&mut fields, der::SEQUENCE)?;
    let spki = der::expect(&mut fields, der::SEQUENCE)?;
    let mut parts = spki.content;
    der::expect(&mut parts, der::SEQUENCE)?;
    let key = der::expect(&mut parts, der::BIT_STRING)?.content.get(1..)?;
    let kind: &dyn signature::VerificationAlgorithm = match algorithm {
        ECDSA_SHA256 => &signature::ECDSA_P256_SHA256_ASN1,
        ECDSA_SHA384 => &signature::ECDSA_P384_SHA384_ASN1,
        RSA_SHA256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        _ => return None,
    };
    UnparsedPublicKey::new(kind, key).verify(info.whole, signature).ok()?;
    Some(spki.whole.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_36_agrees_with_the_vectors_of_swarm() {
        let empty = digest::digest(&SHA256, b"");
        assert_eq!(
            base36(empty.as_ref(), 50),
            "5oaq0bjhj6un82wg98mgigso5q7qlhc63je4gw7ivixqqhkd3p"
        );
        assert_eq!(base36(&[0xff; 16], 25), "f5lxx1zz5pnorynqglhzmsp33");
        assert_eq!(base36(&[1], 25), "0000000000000000000000001");
    }

    #[test]
    fn what_was_signed_can_be_read() {
        let root = Authority::new(1_700_000_000).unwrap();
        let key = new_key().unwrap();
        let spki = spki_of(&key).unwrap();
        let template =
            Template::node("cluster", "node", Role::Manager, spki.clone(), 7200, 1_700_000_000);
        let facts = Facts::of(&unpem(&root.sign(&template).unwrap())[0]).unwrap();
        assert_eq!(facts.spki, spki);
        assert_eq!(facts.named, template.subject);
        assert_eq!(template.not_after - template.not_before, 7200 + 3600);
    }
}
