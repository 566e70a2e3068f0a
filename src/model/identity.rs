//! What makes this device a member of a swarm. Stored only sealed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::limits::CLOCK_SURELY_PAST_SECONDS;

use super::{Availability, NodeId, Peer, SecretBytes, UnixTime};

/// Everything that survives a reboot about membership; the content of the sealed file.
///
/// postcard stores it by position: a change of fields is a change of format, and
/// `tests/golden` notices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The join token as typed. Empty once it was burnt.
    pub token: SecretBytes,
    /// Addresses given to `join`: the fallback for ever.
    pub seeds: Vec<String>,
    /// Managers learned in a session.
    pub managers: Vec<Peer>,
    /// Root CA bundle, PEM, exactly as received.
    pub root_ca: Vec<u8>,
    /// How the node wished to join.
    pub availability: Availability,
    /// A certificate that was asked for and is not signed yet.
    pub pending: Option<PendingCertificate>,
    /// The certificate in use.
    pub certificate: Option<NodeCertificate>,
    /// A time that is surely past: a clock before it is wrong. Only certificates that managers
    /// signed raise it, never the local clock, for one that ran ahead once would be believed for
    /// ever.
    pub time_floor: UnixTime,
    /// Engine labels that came with the provisioning file; those of `agent.json` win.
    pub labels: BTreeMap<String, String>,
    /// SHA-256 of the provisioning file that made this identity: one that could not be removed is
    /// not used twice.
    pub provisioned: Option<[u8; 32]>,
    /// Burn the token as soon as there is a certificate.
    pub forget_token: bool,
    /// The node that this one took the place of after its certificate had expired.
    pub replaces: Option<NodeId>,
    /// When the node last joined anew on its own account, and [`Self::NEVER`] after an operator
    /// removed it; once a day is the limit.
    pub rejoined: Option<UnixTime>,
}

impl Identity {
    /// What a certificate that begins at `not_before` makes of the time floor `floor`.
    ///
    /// A manager whose clock runs years ahead signs certificates that begin there, and a floor in
    /// the future makes every right clock look wrong. So one certificate raises it by a little
    /// more than certificates live, from when this program was made on at the earliest: what is
    /// too much passes by itself, and a floor that lags behind is made up for by the next ones.
    #[must_use]
    pub fn raised_floor(floor: UnixTime, not_before: UnixTime) -> UnixTime {
        const STEP_SECONDS: i64 = 100 * 86_400;
        let from = floor.seconds().max(CLOCK_SURELY_PAST_SECONDS);
        let highest = UnixTime::from_seconds(from.saturating_add(STEP_SECONDS));
        floor.max(not_before.min(highest))
    }

    /// As [`Self::rejoined`]: an operator removed the node, so it never joins on its own account.
    pub const NEVER: UnixTime = UnixTime::from_nanos(i64::MAX);
}

/// A certificate that a manager was asked for.
///
/// Kept from the first answer on, for each new request makes another node record there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingCertificate {
    /// The node id that the manager chose.
    pub node_id: NodeId,
    /// Private key, PKCS#8 DER.
    pub key: SecretBytes,
    /// The request, PEM, byte for byte as sent.
    pub csr: Vec<u8>,
}

/// A certificate that a manager signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeCertificate {
    /// The node id: its common name.
    pub node_id: NodeId,
    /// Private key, PKCS#8 DER.
    pub key: SecretBytes,
    /// Leaf first, then intermediates, PEM.
    pub chain: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_certificate_raises_the_floor_by_a_bounded_step() {
        const DAY: i64 = 86_400;
        let at = |days: i64| UnixTime::from_seconds(CLOCK_SURELY_PAST_SECONDS + days * DAY);
        let raised = |floor, begin| Identity::raised_floor(floor, begin);
        assert_eq!(raised(at(10), at(30)), at(30), "a renewal");
        assert_eq!(raised(at(10), at(5)), at(10), "it never falls");
        assert_eq!(raised(UnixTime::default(), at(30)), at(30), "the first certificate");
        assert_eq!(raised(at(10), at(3650)), at(110), "a manager ten years ahead");
        assert_eq!(raised(UnixTime::default(), at(3650)), at(100));
        assert_eq!(raised(at(10), UnixTime::from_nanos(i64::MAX)), at(110));
        assert_eq!(raised(UnixTime::from_nanos(i64::MAX), at(1)), UnixTime::from_nanos(i64::MAX));
        // Renewals come at the latest at four fifths of 90 days: the floor follows them.
        let mut floor = at(0);
        for renewal in 1..20 {
            floor = raised(floor, at(renewal * 72));
            assert_eq!(floor, at(renewal * 72));
        }
    }
}
